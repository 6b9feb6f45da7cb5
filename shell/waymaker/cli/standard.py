"""Standard streams that may be closed: a program can be started without any of them.

Responsible for what a missing stream means. Its descriptor is occupied first, lest a socket take its number and be written
into. What is only told may go nowhere. Data that is acknowledged because it was written must not, and a message is never made
of an input that does not exist.
"""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

from waymaker.cli import exits
from waymaker.cli.failure import CommandError

_missing: set[str] = set()


def occupy() -> None:
    """Put a null device where a standard stream is missing."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            _missing.add(name)
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it lives as long as the program


def data_input() -> BinaryIO:
    """Return standard input, to be read for its data."""
    if "stdin" in _missing:
        raise CommandError("standard input is closed", exits.USAGE, "give the data in a file or through a pipe")
    return sys.stdin.buffer


def data_output() -> BinaryIO:
    """Return standard output for data that must arrive; BrokenPipeError where it was closed before the start."""
    if "stdout" in _missing:
        raise BrokenPipeError("standard output is closed")
    return sys.stdout.buffer

"""What a fuzz target is, and the bounds that every one is held to.

A target takes any bytes and gives them to real code. It returns where that code did as documented (which includes the
errors that its docstring names) and raises where it did not. The first byte of most inputs says whether checksums are
made right before reading (see `mending`): without that, no mutation would ever get past them.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

REGRESSIONS: Final = Path(__file__).with_name("regressions")
GOLDEN: Final = Path(__file__).resolve().parents[1] / "golden" / "v1"

CPU_S_MAX: Final = 2.0
"""CPU that one input may cost, of at most a few dozen KiB."""
GROWTH_BYTES_MAX: Final = 128 << 20
"""Resident memory that one input may add to the process."""
ADDRESS_SPACE_SLACK: Final = 2 << 30
"""Address space beyond the present one: what asks for more gets `MemoryError` instead of the machine's memory."""


class Target(NamedTuple):
    """A name, the inputs to start from, what to do with one, and tokens that mutations may put in."""

    name: str
    seeds: Callable[[], list[bytes]]
    run: Callable[[bytes], None]
    tokens: tuple[bytes, ...] = ()


class TooMuch(AssertionError):
    """An input cost more time or memory than any of its size may."""


def run_bounded(target: Target, data: bytes) -> None:
    """Run one input. Raises what the target raises, and `TooMuch`."""
    resident = _peak_bytes()
    started = time.process_time()
    target.run(data)
    took_s = time.process_time() - started
    grown = _peak_bytes() - resident
    if took_s > CPU_S_MAX:
        raise TooMuch(f"{target.name}: {len(data)} bytes took {took_s:.1f} s of CPU")
    if grown > GROWTH_BYTES_MAX:
        raise TooMuch(f"{target.name}: {len(data)} bytes added {grown >> 20} MiB")


def _peak_bytes() -> int:
    """The most this process has held. `getrusage` would do, if it did not count what held the process's place before it."""
    with open("/proc/self/status", "rb", buffering=4096) as status:
        text = status.read()
    at = text.index(b"VmHWM:") + 6
    return int(text[at : text.index(b"kB", at)]) * 1024


@contextmanager
def limited_address_space() -> Iterator[None]:
    """Let no input take the machine's memory while this lasts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE_SLACK, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

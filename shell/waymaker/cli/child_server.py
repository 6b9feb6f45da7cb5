"""A server as a child process that never outlives its parent.

It stops when its standard input ends, which the system closes when the parent ends, however that ends.
"""

from __future__ import annotations

import sys
from typing import Final

_CODE: Final = """
import os, signal, sys, threading
def watch():
    while os.read(0, 1024):  # not sys.stdin, whose lock the interpreter needs at its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from waymaker.cli import main
sys.exit(main())
"""


def command_of(*arguments: str) -> list[str]:
    """Return the command that runs this program with some arguments, and ends with its standard input."""
    return [sys.executable, "-c", _CODE, *arguments]

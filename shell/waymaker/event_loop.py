"""The event loop of a process or thread of ours: uvloop where it is installed, else asyncio's own.

Only loops that this package makes are chosen here: the server's, and that of the synchronous clients. A program's own loop is
the program's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def loop_factory(uvloop_wanted: bool = True) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a maker of loops, the quickest that is installed."""
    if uvloop_wanted:
        try:
            import uvloop
        except ImportError:
            pass
        else:
            quick: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
            return quick
    return asyncio.new_event_loop


def run(main: Coroutine[Any, Any, T], uvloop_wanted: bool = True) -> T:
    """Run a coroutine on a loop of its own, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=loop_factory(uvloop_wanted)) as runner:
        return runner.run(main)

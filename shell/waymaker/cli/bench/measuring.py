"""One measurement: tasks that make calls until the count is reached or the time is over, and what it made and removes again.

It knows no kind of work. Preparation is not measured; the clock starts with the first call of the work itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from waymaker.cli import output
from waymaker.cli.bench.figures import NS, Figures

if TYPE_CHECKING:
    from waymaker.client.client import Client

CLEAN_UP_S: Final = 30.0
Call = Callable[[int, int], Awaitable[tuple[int, int]]]
"""Makes one call for at most so many messages, as the task of this number; returns messages and bytes, 0 where all is done."""


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a measurement. `count` 0: as much as there is time for; `seconds` 0: as long as the count takes."""

    count: int
    seconds: float
    size: int
    batch: int
    tasks: int
    streams: int


class Measurement:
    """One kind of work against one server."""

    def __init__(self, client: Client, kind: str, load: Load) -> None:
        self.client = client
        self.load = load
        self.figures = Figures(kind)
        self.name = f"bench-{os.urandom(4).hex()}"
        """The name of what this measurement makes; no other has it."""
        self.payload = bytes(load.size)
        self._left = load.count
        self._began_ns = 0
        self._ends_ns = 0
        self._made: list[tuple[str, Callable[[], Awaitable[Any]]]] = []

    # ------------------------------------------------------------ what is made, and removed

    def made(self, what: str, remove: Callable[[], Awaitable[Any]]) -> None:
        """Note that something is being made, and how it is removed."""
        self._made.append((what, remove))

    async def clean_up(self) -> None:
        """Remove what was made, also while the program is being ended; name what is left behind."""
        from waymaker.client.errors import NotFoundError, WaymakerError

        while self._made:
            what, remove = self._made.pop()
            try:
                async with asyncio.timeout(CLEAN_UP_S):
                    await remove()
            except NotFoundError:
                continue  # it was not made any more
            except (WaymakerError, TimeoutError) as error:
                output.note(f"{what} is left behind: {error}")

    # ------------------------------------------------------------ the work

    def begin(self) -> None:
        """Start the clock: what was prepared is not measured."""
        self._began_ns = time.monotonic_ns()
        self._ends_ns = self._began_ns + round(self.load.seconds * NS)

    def end(self) -> None:
        """Stop the clock, if it runs."""
        if self._began_ns:
            self.figures.elapsed_ns = time.monotonic_ns() - self._began_ns

    def is_over(self) -> bool:
        """Return True once the time is over."""
        return bool(self.load.seconds) and time.monotonic_ns() >= self._ends_ns

    def state(self) -> tuple[float, str]:
        """Return which share of the measurement is done, and in words what it does now."""
        figures, load = self.figures, self.load
        if not self._began_ns:
            return 0.0, f"{figures.kind}: preparing"
        if figures.elapsed_ns:
            return 1.0, f"{figures.kind}: removing what was made"
        elapsed_s = (time.monotonic_ns() - self._began_ns) / NS
        shares = (
            figures.messages / load.count if load.count else 0.0,
            elapsed_s / load.seconds if load.seconds else 0.0,
        )
        rate = figures.messages / elapsed_s if elapsed_s else 0.0
        return min(max(shares), 1.0), f"{figures.kind}: {figures.messages:,}, {rate:,.0f}/s"

    def take(self, most: int) -> int:
        """Return for how many messages the next call may be, 0 for none: they count as asked for."""
        if self.is_over():
            return 0
        if not self.load.count:
            return most
        taken = min(most, self._left)
        self._left -= taken
        return taken

    def add(self, messages: int, byte_count: int) -> None:
        """Count messages that were stored or read."""
        self.figures.messages += messages
        self.figures.bytes += byte_count

    async def drive(self, call: Call, batch: int = 1) -> None:
        """Let each task make one call after the other until nothing is left, or the time is over."""
        self.begin()
        await together([self._task(call, batch, task) for task in range(self.load.tasks)])

    async def _task(self, call: Call, batch: int, task: int) -> None:
        durations, clock = self.figures.durations, time.monotonic_ns
        while most := self.take(batch):
            began_ns = clock()
            messages, byte_count = await call(most, task)
            self._left += most - messages  # a fetch may find fewer
            if not messages:
                return
            durations.add(clock() - began_ns)
            self.add(messages, byte_count)


async def together(works: list[Any]) -> None:
    """Run coroutines until all are done; the first error ends the others, and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_first(work: Any, beside: list[Any]) -> None:
    """Run a coroutine, and others beside it until it is done; an error of any ends all, and is raised."""
    main = asyncio.ensure_future(work)
    others = [asyncio.ensure_future(each) for each in beside]
    try:
        done, _ = await asyncio.wait([main, *others], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        await main
    finally:
        for task in (main, *others):
            task.cancel()
        await asyncio.gather(main, *others, return_exceptions=True)

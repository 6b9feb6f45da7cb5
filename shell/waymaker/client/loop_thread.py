"""The event loop that all synchronous clients of a process share, on one thread.

Responsible for that thread from the first client that opens to the last that closes, or to the end of the program; what runs
on the loop is the clients' own business. It is one because gRPC has one poller a process, which serves one loop well. A thread
that waits for the loop must not be the loop's own: such a call is refused, for it would wait for ever.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, ClassVar, Protocol, TypeVar
from weakref import WeakSet

from waymaker.client.connection.process import inherited, this_process
from waymaker.client.errors import ClosedError, UsageError
from waymaker.event_loop import loop_factory

T = TypeVar("T")
LOOK_S = 5.0
"""The interval at which a waiting caller looks whether the thread still lives."""
EXIT_S = 1.0
"""The time that each client left open may take to close at the end of the program."""


class Closable(Protocol):
    """A client that is closed at the end of the program."""

    def close(self, timeout: float | None = ...) -> None: ...


class LoopThread:
    """A running event loop and its thread. `acquire` gives the one of this process."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _present: ClassVar[LoopThread | None] = None

    def __init__(self) -> None:
        self.loop = loop_factory()()
        self._forks = this_process.forks
        self._users: WeakSet[Closable] = WeakSet()
        self._count = 0
        self._thread = threading.Thread(target=self._run, name="waymaker-sync", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, user: Closable) -> LoopThread:
        """Return the loop of this process for one more user, and start it for the first."""
        with cls._lock:
            present = cls._present
            if present is None or not present.runs:
                present = cls._present = cls()
            present._count += 1
            present._users.add(user)
            return present

    def release(self, user: Closable) -> None:
        """Take back one `acquire`; the last one ends the thread."""
        with self._lock:
            self._users.discard(user)
            self._count -= 1
            if self._count or not self.runs:
                return
            if LoopThread._present is self:
                LoopThread._present = None
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    @property
    def is_inherited(self) -> bool:
        """Return True in a process that was forked off since: the thread is the parent's."""
        return self._forks != this_process.forks

    @property
    def runs(self) -> bool:
        return not self.is_inherited and self._thread.is_alive()

    @property
    def is_current(self) -> bool:
        """Return True on the loop's own thread."""
        return threading.current_thread() is self._thread

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begin a coroutine on the loop."""
        try:
            self._check()
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except BaseException:
            coroutine.close()
            raise

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result."""
        if self.is_current:
            coroutine.close()
            raise UsageError("called on the synchronous clients' own thread, which cannot wait for itself")
        return self.result(self.submit(coroutine))

    def result(self, future: concurrent.futures.Future[T]) -> T:
        """Wait for what `submit` began; cancel it where the wait is interrupted."""
        try:
            while not future.done():
                concurrent.futures.wait([future], LOOK_S)
                self._check()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _check(self) -> None:
        if self.is_inherited:
            raise inherited()
        if not self._thread.is_alive() or self.loop.is_closed():
            raise ClosedError("the client is closed")

    def _run(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(_wind_up())
        finally:
            loop.close()

    @classmethod
    def forget(cls) -> None:
        """Make a forked child begin anew; the thread, and the lock's holder, stayed with the parent."""
        cls._lock = threading.Lock()
        cls._present = None

    @classmethod
    def close_all(cls) -> None:
        """Close every client that is still open, so that what it has acknowledged is confirmed."""
        present = cls._present
        if present is None or not present.runs:
            return
        for user in list(present._users):
            with contextlib.suppress(Exception):
                user.close(EXIT_S)


async def _wind_up() -> None:
    """Cancel what a client that was closed in haste left behind."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=EXIT_S)
    await asyncio.get_running_loop().shutdown_asyncgens()


this_process.on_fork_in_child(LoopThread.forget)
atexit.register(LoopThread.close_all)

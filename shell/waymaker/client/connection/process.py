"""The limits that gRPC sets to a process: one event loop, and no fork beside an open client; and the errors beyond them.

Responsible for knowing which connections of this process are open and whether the process was forked while gRPC was at work;
it opens and closes nothing. The reason: gRPC's poller is one thread for all event loops of a process. A forked child has the
poller's memory without its thread, so nothing would ever answer there, and it shares the parent's sockets and epoll set, so
using or destroying what it inherited would disturb the parent. A child therefore gets an error in place of a client, and keeps
what it inherited for ever. A process forked when no client was open is as good as any other.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakSet

from waymaker.client.errors import ForkedError

log = logging.getLogger("waymaker.client")

POLLER_THREAD = "_poll_wrapper"
"""The function of gRPC's poller thread, which stands in the thread's name."""


class OpenConnection(Protocol):
    """A connection as the process knows it: the gRPC objects that must outlive a fork."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...

    @property
    def transport(self) -> Sequence[Any]: ...


class _Process:
    """This process: how often it was forked off, and what is open in it."""

    def __init__(self) -> None:
        self.forks = 0
        self.open: WeakSet[OpenConnection] = WeakSet()
        self.grpc_lost = False
        """This process was forked while gRPC was at work: it cannot work here."""
        self._at_work = False
        self._warned = False
        self._forgetting: list[Callable[[], None]] = []

    def on_fork_in_child(self, forget: Callable[[], None]) -> None:
        """Call a function in every forked child."""
        self._forgetting.append(forget)

    def before_fork(self) -> None:
        """Note whether gRPC is at work. The remains of closed clients, which hold it up, are collected first."""
        if not self.open and _poller_runs():
            gc.collect()
        self._at_work = bool(self.open) or _poller_runs()

    def after_fork_in_child(self) -> None:
        self.forks += 1
        self.grpc_lost = self.grpc_lost or self._at_work
        for connection in self.open:
            for inherited in connection.transport:
                # Destroying it would shut down the socket that the parent goes on using.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
        self.open = WeakSet()
        self._warned = False
        for forget in self._forgetting:
            forget()

    def opened(self, connection: OpenConnection) -> None:
        """Note a connection that is about to be opened; ForkedError where none can be."""
        if self.grpc_lost:
            raise ForkedError(
                "this process was forked while its parent had a client open, and gRPC does not work in such a process; "
                "open the parent's client after forking (or close it before), or start processes with the method 'spawn' "
                "or 'forkserver'"
            )
        loop = asyncio.get_running_loop()
        others = {other.loop for other in self.open} - {loop, None}
        if not self._warned and any(other is not None and not other.is_closed() for other in others):
            self._warned = True
            log.warning(
                "clients are open on two event loops of one process: gRPC has one poller for both, and a call may now and then "
                "wait until the next one wakes it; use one loop, or synchronous clients, which share one"
            )
        self.open.add(connection)

    def closed(self, connection: OpenConnection) -> None:
        self.open.discard(connection)


def inherited() -> ForkedError:
    """Return the exception of a client that was opened before the process was forked off."""
    return ForkedError(
        "this client was opened by the process that this one was forked from, and works only there; "
        "open clients after forking, or start processes with the method 'spawn' or 'forkserver'"
    )


def _poller_runs() -> bool:
    return any(POLLER_THREAD in thread.name for thread in threading.enumerate())


this_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=this_process.before_fork, after_in_child=this_process.after_fork_in_child)

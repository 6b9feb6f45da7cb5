"""The parts that the node runner works with, as it needs them: a disk, other members, a measurer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from waymaker.storage.store import Bodies, JobResult
from waymaker_core.api.effects import Job
from waymaker_core.api.requests import Messages
from waymaker_core.cluster.effects import Lane
from waymaker_core.model.disk_ops import DiskFailure


class Disk(Protocol):
    """The part of a data directory that the runner needs; `waymaker.storage.store.FileStore` is the real one."""

    sync_s: float
    """About the median of the last syncs of the journal, in seconds."""

    def submit(self, job: Job, done: Callable[[Job, JobResult], None]) -> None: ...

    def run(self, job: Job) -> JobResult: ...

    def cached_bodies(self, messages: Messages) -> Bodies | None: ...

    def read_bodies(self, messages: Messages, done: Callable[[Bodies | DiskFailure], None]) -> None: ...

    def hold(self, messages: Messages) -> Callable[[], None]:
        """Keep the files of messages that are read later; the result lets go of them."""
        ...

    def problem(self) -> str:
        """Return why the end of a job may never be reported; empty while all is well."""
        ...


class PeerSender(Protocol):
    """The part of the other members that the runner needs; `waymaker.server.peers.peers.Peers` is the real one."""

    def send(self, to: int, lane: Lane, data: bytes) -> None: ...

    def flush(self) -> None:
        """Send what the effects of one step asked for."""
        ...


class Observer(Protocol):
    """The measurer of the runner. All times are seconds."""

    def step_took(self, seconds: float, inputs: int) -> None: ...

    def loop_lagged(self, seconds: float) -> None: ...

    def effect_failed(self) -> None: ...

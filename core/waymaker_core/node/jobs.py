"""Disk jobs in flight, and what follows the end of each."""

from __future__ import annotations

from collections.abc import Callable

from waymaker_core.api.effects import Effect, Job, Lane
from waymaker_core.model.disk_ops import DiskFailure, DiskOp, OpResult
from waymaker_core.model.types import JobId

Done = Callable[[list[OpResult]], None]
Failed = Callable[[DiskFailure], None]


class Jobs:
    """Jobs in flight by their id, with what follows each. Every job ends once; an unknown id is a bug."""

    def __init__(self) -> None:
        self._next = 1
        self._waiting: dict[JobId, tuple[Lane, Done, Failed]] = {}
        self._in_lane = {Lane.JOURNAL: 0, Lane.BACKGROUND: 0, Lane.READ: 0}

    def start(self, effects: list[Effect], lane: Lane, ops: list[DiskOp], done: Done, failed: Failed) -> JobId:
        """Emit one job; exactly one of the two callables is called at its end."""
        job_id = JobId(self._next)
        self._next += 1
        self._waiting[job_id] = (lane, done, failed)
        self._in_lane[lane] += 1
        effects.append(Job(job_id, lane, ops))
        return job_id

    def in_flight(self, lane: Lane) -> int:
        """Return how many jobs of a lane have not ended."""
        return self._in_lane[lane]

    def done(self, job_id: JobId, results: list[OpResult]) -> None:
        """Run what follows a job that was performed."""
        lane, done, _ = self._waiting.pop(job_id)
        self._in_lane[lane] -= 1
        done(results)

    def failed(self, job_id: JobId, failure: DiskFailure) -> None:
        """Run what follows a job that failed."""
        lane, _, failed = self._waiting.pop(job_id)
        self._in_lane[lane] -= 1
        failed(failure)


def ignore(_end: object) -> None:
    """Do nothing: the end of this job changes nothing, whatever it is."""

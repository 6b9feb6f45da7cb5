"""The record of a run: moments in order of virtual time, the calls and the disk jobs that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from waymaker_core.api.requests import Request
from waymaker_core.model.disk_ops import DiskOp


class Kind(Enum):
    """The kind of a moment; the value is its name in pages."""

    CALL = "call"
    ANSWER = "answer"
    DELIVERY = "delivery"
    NOTICE = "notice"
    END = "end"
    LOST = "lost call"
    CANCEL = "cancel"
    CREDIT = "credit"
    JOB = "disk job"
    CUT = "interrupted disk job"
    FAILURE = "disk error"
    LOSS = "lost bytes"
    FAULT = "fault"
    HALT = "halt"
    START = "start"
    UP = "up"
    REFUSED = "refused start"
    LOG = "log"
    ACT = "act"
    VERDICT = "verdict"


@dataclass(slots=True, eq=False)
class Exchange:
    """One call of one client and its answers."""

    lane: str
    node: str
    request: Request
    asked_ns: int
    process_run: int
    stream: str = ""
    consumer: str = ""
    received_ns: int = -1
    """Time when the node received it; -1: never."""
    settled_by: Work | None = None
    """The disk job whose end let the answer leave."""
    moments: list[Moment] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Part:
    """One operation of a disk job, or of recovery."""

    op: DiskOp
    begun_ns: int
    ended_ns: int = -1
    failure: str = ""


@dataclass(slots=True, eq=False)
class Work:
    """One disk job on its lane."""

    lane: str
    node: str
    submitted_ns: int
    ops: list[DiskOp]
    parts: list[Part] = field(default_factory=list)
    ended_ns: int = -1
    received_ns: int = -1
    """Time when the node received its end; -1: never."""

    @property
    def begun_ns(self) -> int:
        return self.parts[0].begun_ns if self.parts else self.submitted_ns


@dataclass(slots=True, eq=False)
class Moment:
    """One event on one lane."""

    index: int
    at_ns: int
    lane: str
    kind: Kind
    text: str
    exchange: Exchange | None = None
    work: Work | None = None
    seqs: frozenset[int] = frozenset()
    fault: str = ""
    """The name of the fault, where it is one."""

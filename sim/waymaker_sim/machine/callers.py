"""Callers and observers of a process: the notifications that each gets, and the values in them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from waymaker_core.api.effects import End, Event
from waymaker_core.api.requests import Request
from waymaker_core.model.disk_ops import DiskFailure, DiskOp
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import Token


class ReceivedMessage(NamedTuple):
    """One message as a client receives it; `delivery` is its deliver count, 0 outside deliveries.

    `incarnation` is the word of the consumer that delivered it.
    """

    seq: int
    time_ms: int
    delivery: int
    body: bytes
    incarnation: str = ""
    taken_ns: int = -1
    """Virtual time at which the node took it for this delivery; -1 outside deliveries."""


class StepId(NamedTuple):
    """The step in which the node decided something: process run, number of the step, and virtual time."""

    run: int
    step: int
    time_ns: int


class Caller(Protocol):
    """A client that waits for a call. Exactly one of `replied`, `ended`, `lost` is its last notification."""

    def replied(self, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        """Receive the answer; `got` is its messages if its value is messages."""

    def delivered(self, got: list[ReceivedMessage], step_id: StepId) -> None:
        """Receive messages of a subscription."""

    def notified(self, event: Event) -> None:
        """Receive an event of a watch."""

    def ended(self, end: End) -> None:
        """Receive the end of a subscription or watch."""

    def lost(self) -> None:
        """Receive the end of the process: the call may have had its effect or not."""


class Observer(Protocol):
    """An observer of a process, beside the hooks that the world itself uses.

    It may record what it receives and must change nothing: the run is the same with and without it.
    """

    def started(self) -> None:
        """Note that the process begins to recover."""

    def called(self, token: Token, request: Request, caller: Caller) -> Caller:
        """Note a request. The result replaces the caller and must forward every notification to it."""

    def op_begun(self, op: DiskOp) -> None:
        """Note that a disk operation begins that takes time."""

    def op_done(self, op: DiskOp, failure: DiskFailure | None) -> None:
        """Note that a disk operation of a job or of recovery ended."""

    def fault(self, kind: str, detail: str) -> None:
        """Note a fault from outside: a kill, a loss of power, a change of the clock."""

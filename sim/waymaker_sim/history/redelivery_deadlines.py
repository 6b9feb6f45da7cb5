"""Redelivery deadlines: the latest times at which pending deliveries are due again, as far as a client of one group can
know.

A wait begins at the latest when its delivery leaves the node, and a delay when the answer to the nak does. Deadlines
that an answer of unknown outcome may have changed are not known any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from waymaker_sim.machine.process import ReceivedMessage, StepId

UNKNOWN_NS = 1 << 62


@dataclass(slots=True)
class Out:
    """A pending delivery: its process run, its consumer, its time, and its deadline."""

    process_run: int
    consumer: str
    left_ns: int
    delivery: int
    due_ns: int


class RedeliveryDeadlines:
    """The last delivery of each message of a group."""

    __slots__ = ("_out",)

    def __init__(self) -> None:
        self._out: dict[int, Out] = {}

    def delivered(self, got: Iterable[ReceivedMessage], consumer: str, step_id: StepId, wait_ns: int) -> None:
        """Note messages that were sent to a consumer."""
        for message in got:
            due_ns = step_id.time_ns + wait_ns
            self._out[message.seq] = Out(step_id.run, consumer, step_id.time_ns, message.delivery, due_ns)

    def unknown(self, seqs: Iterable[int]) -> None:
        """Forget the deadlines of these messages: an answer is in flight."""
        for seq in seqs:
            if seq in self._out:
                self._out[seq].due_ns = UNKNOWN_NS

    def latest(self, seq: int) -> Out | None:
        """Return the last delivery of a message."""
        return self._out.get(seq)

    def answered(self, seq: int, out: Out | None, process_run: int) -> bool:
        """Return True if an answer that was sent to delivery `out` took effect on that one.

        It did where the message was not delivered again since, for the effect precedes the confirmation. An answer to
        a newer delivery, in flight as well, says nothing about this.
        """
        return out is not None and out.process_run == process_run and self._out.get(seq) is out

    def member_deleted(self, consumer: str, now_ns: int) -> None:
        """Note that a member of the group is deleted: its pending deliveries are due at once."""
        for out in self._out.values():
            if out.consumer == consumer and out.due_ns != UNKNOWN_NS:
                out.due_ns = min(out.due_ns, now_ns)

    def returned(self, seqs: Iterable[int], now_ns: int) -> None:
        """Note that messages never reached their program: they are due at once."""
        for seq in seqs:
            out = self._out.get(seq)
            if out is not None and out.due_ns != UNKNOWN_NS:
                out.due_ns = min(out.due_ns, now_ns)

    def at(self, seq: int, process_run: int) -> int | None:
        """Return the latest redelivery deadline of a message, if it was delivered in this process run."""
        out = self._out.get(seq)
        return out.due_ns if out is not None and out.process_run == process_run else None

    def by(self, process_run: int, moment_ns: int) -> Iterator[tuple[int, Out]]:
        """Yield the deliveries of this process run that are due by then."""
        for seq, out in self._out.items():
            if out.due_ns <= moment_ns and out.process_run == process_run:
                yield seq, out

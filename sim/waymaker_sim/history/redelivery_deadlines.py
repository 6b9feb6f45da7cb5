"""When deliveries that are out are due again at the latest, as far as a client of one group can know it.

A wait begins at the latest when its delivery leaves the node, and a delay when the answer to the nak does. What an answer
of unknown outcome may have changed is not known any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from waymaker_sim.machine.process import ReceivedMessage, StepId

UNKNOWN_NS = 1 << 62


@dataclass(slots=True)
class Out:
    """A delivery: in which life of the process, to which consumer and when it left, and when it is due again."""

    process_run: int
    holder: str
    left_ns: int
    delivery: int
    due_ns: int


class RedeliveryDeadlines:
    """The last delivery of each message of a group."""

    __slots__ = ("_out",)

    def __init__(self) -> None:
        self._out: dict[int, Out] = {}

    def delivered(self, got: Iterable[ReceivedMessage], holder: str, step_id: StepId, wait_ns: int) -> None:
        """Messages left for a consumer."""
        for message in got:
            due_ns = step_id.time_ns + wait_ns
            self._out[message.seq] = Out(step_id.run, holder, step_id.time_ns, message.delivery, due_ns)

    def unknown(self, seqs: Iterable[int]) -> None:
        """An answer is on its way."""
        for seq in seqs:
            if seq in self._out:
                self._out[seq].due_ns = UNKNOWN_NS

    def put_off(self, seq: int, step_id: StepId, delay_ns: int) -> None:
        """A nak or in-progress took effect while the message was out: it is due so long after.

        Unless it was delivered again since, for the effect comes before the answer.
        """
        out = self._out.get(seq)
        if out is not None and out.process_run == step_id.run and out.due_ns == UNKNOWN_NS:
            out.due_ns = step_id.time_ns + delay_ns

    def deliveries(self, seq: int, process_run: int) -> int:
        """How often a message had been delivered when the answer left that is under way; 0 where it was again since."""
        out = self._out.get(seq)
        if out is None or out.process_run != process_run or out.due_ns != UNKNOWN_NS:
            return 0
        return out.delivery

    def left(self, holder: str, now_ns: int) -> None:
        """A member of the group is gone: what it had is due at once."""
        for out in self._out.values():
            if out.holder == holder and out.due_ns != UNKNOWN_NS:
                out.due_ns = min(out.due_ns, now_ns)

    def returned(self, seqs: Iterable[int], now_ns: int) -> None:
        """Messages never reached their program: they are due at once."""
        for seq in seqs:
            out = self._out.get(seq)
            if out is not None and out.due_ns != UNKNOWN_NS:
                out.due_ns = min(out.due_ns, now_ns)

    def at(self, seq: int, process_run: int) -> int | None:
        """When a message is due again at the latest, if it was delivered in this life of the process."""
        out = self._out.get(seq)
        return out.due_ns if out is not None and out.process_run == process_run else None

    def by(self, process_run: int, moment_ns: int) -> Iterator[tuple[int, Out]]:
        """What is due by then, of this life of the process."""
        for seq, out in self._out.items():
            if out.due_ns <= moment_ns and out.process_run == process_run:
                yield seq, out

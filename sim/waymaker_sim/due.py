"""When deliveries that are out are due again at the latest, as far as a client of one group can know it.

A wait begins at the latest when its delivery leaves the node, and a delay when the answer to the nak does. What an answer
of unknown outcome may have changed is not known any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from waymaker_sim.process import Got, Stamp

UNKNOWN_NS = 1 << 62


@dataclass(slots=True)
class Out:
    """A delivery: in which life of the process, to which consumer and when it left, and when it is due again."""

    process_life: int
    holder: str
    left_ns: int
    delivery: int
    due_ns: int


class Due:
    """The last delivery of each message of a group."""

    __slots__ = ("_out",)

    def __init__(self) -> None:
        self._out: dict[int, Out] = {}

    def delivered(self, got: Iterable[Got], holder: str, stamp: Stamp, wait_ns: int) -> None:
        """Messages left for a consumer."""
        for message in got:
            due_ns = stamp.time_ns + wait_ns
            self._out[message.seq] = Out(stamp.life, holder, stamp.time_ns, message.delivery, due_ns)

    def unknown(self, seqs: Iterable[int]) -> None:
        """An answer is on its way."""
        for seq in seqs:
            if seq in self._out:
                self._out[seq].due_ns = UNKNOWN_NS

    def put_off(self, seq: int, stamp: Stamp, delay_ns: int) -> None:
        """A nak or in-progress took effect while the message was out: it is due so long after.

        Unless it was delivered again since, for the effect comes before the answer.
        """
        out = self._out.get(seq)
        if out is not None and out.process_life == stamp.life and out.due_ns == UNKNOWN_NS:
            out.due_ns = stamp.time_ns + delay_ns

    def deliveries(self, seq: int, process_life: int) -> int:
        """How often a message had been delivered when the answer left that is under way; 0 where it was again since."""
        out = self._out.get(seq)
        if out is None or out.process_life != process_life or out.due_ns != UNKNOWN_NS:
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

    def at(self, seq: int, process_life: int) -> int | None:
        """When a message is due again at the latest, if it was delivered in this life of the process."""
        out = self._out.get(seq)
        return out.due_ns if out is not None and out.process_life == process_life else None

    def by(self, process_life: int, moment_ns: int) -> Iterator[tuple[int, Out]]:
        """What is due by then, of this life of the process."""
        for seq, out in self._out.items():
            if out.due_ns <= moment_ns and out.process_life == process_life:
                yield seq, out

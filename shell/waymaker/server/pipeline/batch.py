"""A batch: calls of one frame that become one request to the node, and part again with its answer.

What many tasks of a client ask in one turn travels in one frame. A call costs the node the same whether it names one entry or a
thousand, so changes of one stream share a record, and reads a look. No call may suffer from the others: where the node refuses
a batch, each of its calls is asked for by itself.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Self

from waymaker.storage.store import Bodies
from waymaker_core.api.requests import Request
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status

BATCH_BYTES_MAX: Final = 1 << 20
BATCH_CALLS_MAX: Final = 1_000


class BatchedCall(NamedTuple):
    """A parsed call: its id, its RPC's name, its request (a message, or the core's), and the bytes that it came in."""

    id: int
    method: str
    request: Any
    size: int


class Batch:
    """Calls about one stream that become one request: all of them changes, or all reads."""

    __slots__ = ("calls", "reads", "_bytes")

    def __init__(self, reads: bool) -> None:
        self.calls: list[BatchedCall] = []
        self.reads = reads
        self._bytes = 0

    def has_room(self, size: int) -> bool:
        """Return True if a call of this size may join."""
        return not self.calls or (len(self.calls) < BATCH_CALLS_MAX and self._bytes + size <= BATCH_BYTES_MAX)

    def add_call(self, call: BatchedCall) -> None:
        """Add a call."""
        self.calls.append(call)
        self._bytes += call.size

    def request(self) -> Request:
        """Return the one request of all calls."""
        raise NotImplementedError

    def responses(self, answer: Answer, bodies: Bodies | None) -> list[bytes | Refusal]:
        """Return the response to each call that was answered, in order; those behind them are to be asked again."""
        raise NotImplementedError

    def empty(self) -> Self:
        """Return a batch of the same kind without calls."""
        raise NotImplementedError

    def rest(self, answered: int) -> Self:
        """Return a batch of the calls behind those that were answered."""
        batch = self.empty()
        for call in self.calls[answered:]:
            batch.add_call(call)
        return batch

    def apart(self, refusal: Refusal) -> list[Self]:
        """Return a batch for each call of a refused one, where some of them may fare better alone and nothing was done."""
        is_over = refusal.status is Status.UNAVAILABLE or not (self.reads or refusal.outcome is Outcome.NOT_APPLIED)
        if is_over or len(self.calls) == 1:
            return []
        alone = [self.empty() for _ in self.calls]
        for batch, call in zip(alone, self.calls, strict=True):
            batch.add_call(call)
        return alone

"""A batch: calls of one frame that become one request to the node, and part again with its answer.

What many tasks of a client ask in one turn travels in one frame. A call costs the node the same whether it names one entry or a
thousand, so changes of one stream share a record, and reads a look. No call may suffer from the others: where the node refuses
a batch, each of its calls is asked for by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Self

from waymaker.storage.store import Bodies
from waymaker.wire.frames import call_refused, call_result
from waymaker_core.api.requests import Request
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status

BATCH_BYTES_MAX: Final = 1 << 20
BATCH_CALLS_MAX: Final = 1_000
FRAGMENT_BYTES: Final = 64 << 10
"""Responses of a batch are joined up to here: what is sent is freed piece by piece."""


class BatchedCall(NamedTuple):
    """A parsed call: its id, its RPC's name, its request (a message, or the core's), and the bytes that it came in."""

    id: int
    method: str
    request: Any
    size: int


class Answered(NamedTuple):
    """The meaning of an answer of the node for a batch's first `calls` calls.

    `closed`: the ids that are answered with it. `fragments`: what is sent, each with the number of items that it answers.
    `outcomes`: calls by method and status.
    """

    calls: int
    closed: list[int]
    fragments: list[tuple[bytes, int]]
    outcomes: dict[tuple[str, str], int]


class Batch:
    """Calls about one stream that become one request: all of them changes, or all reads."""

    __slots__ = ("calls", "reads", "large_response", "_bytes")

    def __init__(self, reads: bool, large_response: bool) -> None:
        self.calls: list[BatchedCall] = []
        self.reads = reads
        self.large_response = large_response
        """True if the answer may carry megabytes."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.calls)

    @property
    def ids(self) -> list[int]:
        """Return the ids under which the client waits."""
        return [call.id for call in self.calls]

    @property
    def method(self) -> str:
        """Return the RPC's name of the first call."""
        return self.calls[0].method

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

    def answered(self, answer: Answer | Refusal, bodies: Bodies | None) -> Answered:
        """Return what the node's answer means for the calls; those behind them are to be asked again."""
        responses: list[bytes | Refusal]
        responses = [answer] * len(self.calls) if isinstance(answer, Refusal) else self.responses(answer, bodies)
        count = len(responses)
        return Answered(count, self.ids[:count], list(self.fragments(responses)), self.outcomes(responses))

    def fragments(self, responses: Sequence[bytes | Refusal]) -> Iterator[tuple[bytes, int]]:
        """Yield the responses encoded for a frame, many together, and how many calls each piece answers."""
        pieces: list[bytes] = []
        size = 0
        for call, response in zip(self.calls, responses, strict=False):
            if isinstance(response, Refusal):
                data = call_refused(call.id, response)
            else:
                data = call_result(call.id, response, "")
            if pieces and size + len(data) > FRAGMENT_BYTES:
                yield b"".join(pieces), len(pieces)
                pieces, size = [], 0
            pieces.append(data)
            size += len(data)
        if pieces:
            yield b"".join(pieces), len(pieces)

    def outcomes(self, responses: Sequence[bytes | Refusal]) -> dict[tuple[str, str], int]:
        """Return how many of the calls that were answered ended so, by method and status."""
        counts: dict[tuple[str, str], int] = {}
        for call, response in zip(self.calls, responses, strict=False):
            outcome = call.method, response.status.name if isinstance(response, Refusal) else "OK"
            counts[outcome] = counts.get(outcome, 0) + 1
        return counts

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
        return [] if is_over or len(self) == 1 else self.each()

    def each(self) -> list[Self]:
        """Return a batch for each call."""
        alone = [self.empty() for _ in self.calls]
        for batch, call in zip(alone, self.calls, strict=True):
            batch.add_call(call)
        return alone

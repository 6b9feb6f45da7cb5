"""Batches of calls about sketches: values added to one, or asked about in one question, by many calls of a frame.

A joined addition is one record, as any batch is: it is taken whole or refused whole, and where it is refused each call is asked
by itself. It never grows beyond what one addition may hold.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from waymaker.server.grpc.metadata import Metadata
from waymaker.server.grpc.rpcs import Serving
from waymaker.server.grpc.sketch_rpcs import SKETCH_RPCS
from waymaker.server.pipeline.batch import Batch, BatchedCall
from waymaker.storage.store import Bodies
from waymaker_core.api.sketch_requests import AddToSketch, QuerySketch, Question
from waymaker_core.layers.layer import FACT_BYTES_MAX
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import OK, Answer, CodeError, Refusal, RefusedError
from waymaker_core.sketches.answers import SketchAnswer
from waymaker_core.sketches.facts import FACT_HEAD_BYTES, values_fact_bytes

ADD: Final = "SketchAdd"
QUERY: Final = "SketchQuery"
_BY_VALUE: Final = (Question.CONTAINS, Question.COUNTS)
"""Questions that have one answer for each value, so that they join and part."""
_NO_METADATA: Final = Metadata()


class SketchBatch(Batch):
    """Additions to one sketch, all of values or all of numbers, or calls that ask it one question about values."""

    __slots__ = ("_serving", "_limits", "_entries", "_fact_bytes")

    def __init__(self, reads: bool, serving: Serving) -> None:
        super().__init__(reads, large_response=False)
        self._serving = serving
        self._limits: Limits = serving.limits
        self._entries = 0
        self._fact_bytes = FACT_HEAD_BYTES

    def empty(self) -> SketchBatch:
        """Return a batch of the same kind without calls."""
        return SketchBatch(self.reads, self._serving)

    def takes(self, call: BatchedCall) -> bool:
        """Return True if a call about this batch's sketch may join."""
        if not self.has_room(call.size):
            return False
        if self._entries + _entries(call.request) > self._limits.page_entries_max:
            return False
        return self.reads or self._fact_bytes + _fact_bytes(call.request) <= FACT_BYTES_MAX

    def add_call(self, call: BatchedCall) -> None:
        """Add a call."""
        super().add_call(call)
        self._entries += _entries(call.request)
        self._fact_bytes += _fact_bytes(call.request)

    def request(self) -> Any:
        """Return the one request of all calls."""
        requests = [call.request for call in self.calls]
        first = requests[0]
        if len(requests) == 1:
            return first
        values = list(chain.from_iterable(request.values for request in requests))
        if isinstance(first, QuerySketch):
            return QuerySketch(first.stream, first.question, values)
        return AddToSketch(first.stream, values, b"".join(request.numbers for request in requests))

    def responses(self, answer: Answer, bodies: Bodies | None) -> list[bytes | Refusal]:
        """Return the response to each call, in order."""
        encode = SKETCH_RPCS[self.calls[0].method].encode
        value = answer.value
        if answer.code != OK or not isinstance(value, SketchAnswer):
            return [encode(answer, bodies, self._serving)] * len(self.calls)
        found: list[bytes | Refusal] = []
        at = 0
        for call in self.calls:
            end = at + len(call.request.values)
            part = SketchAnswer(value.contained[at:end], value.counts[at:end], question=value.question)
            found.append(encode(Answer(OK, "", part), None, self._serving))
            at = end
        return found


def sketch_call(id_: int, method: str, data: bytes, serving: Serving) -> BatchedCall | None:
    """Parse an addition, or a question about values; return None for a call that goes by itself."""
    if method not in (ADD, QUERY):
        return None
    try:
        request: Any = SKETCH_RPCS[method].parse(data, _NO_METADATA, serving)
    except (RefusedError, CodeError):
        return None
    if isinstance(request, AddToSketch):
        joins = bool(request.values) != bool(request.numbers)
    else:
        joins = request.question in _BY_VALUE
    return BatchedCall(id_, method, request, len(data)) if joins else None


def batch_place(call: BatchedCall) -> tuple[str, object]:
    """Return what the calls of one batch have in common: the sketch, and the question or True for numbers."""
    request = call.request
    return request.stream, request.question if isinstance(request, QuerySketch) else bool(request.numbers)


def _entries(request: AddToSketch | QuerySketch) -> int:
    return len(request.values) or len(request.numbers) // 8


def _fact_bytes(request: AddToSketch | QuerySketch) -> int:
    return len(request.numbers) or values_fact_bytes(request.values) - FACT_HEAD_BYTES

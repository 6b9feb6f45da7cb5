"""Batches of calls about collections: those of one RPC about one store, each of which names one entry or value."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from waymaker.server.grpc.collection_rpcs import COLLECTION_RPCS, entry_got
from waymaker.server.grpc.metadata import Metadata
from waymaker.server.grpc.rpcs import Rpc, Serving
from waymaker.server.pipeline.batch import Batch, BatchedCall
from waymaker.storage.store import Bodies
from waymaker.wire.messages import payloads
from waymaker_core.api.collection_requests import GetEntries, HasEntries, PushValues, PutEntries
from waymaker_core.api.requests import EntryMessages
from waymaker_core.model.result_codes import OK, Answer, CodeError, Refusal, RefusedError

BATCHED: Final[dict[str, Rpc]] = {
    name: COLLECTION_RPCS[name]
    for name in ("HashSet", "HashGet", "HashExists", "HashDelete", "SetAdd", "SetRemove", "SetIsMember", "QueuePush")
}
_READS: Final = (GetEntries, HasEntries)
_NO_METADATA: Final = Metadata()


class EntryBatch(Batch):
    """Calls of one RPC about one store. A change names each entry once."""

    __slots__ = ("rpc", "subjects", "_serving")

    def __init__(self, rpc: Rpc, reads: bool, serving: Serving) -> None:
        super().__init__(reads, rpc.large_response)
        self.rpc = rpc
        self.subjects: set[str] = set()
        """The entries that a change names."""
        self._serving = serving

    def empty(self) -> EntryBatch:
        """Return a batch of the same RPC without calls."""
        return EntryBatch(self.rpc, self.reads, self._serving)

    def takes(self, call: BatchedCall) -> bool:
        """Return True if a call about this batch's store may join."""
        if call.method != self.rpc.name or not self.has_room(call.size):
            return False
        return self.reads or isinstance(call.request, PushValues) or call.request.subjects[0] not in self.subjects

    def add_call(self, call: BatchedCall) -> None:
        """Add a call."""
        super().add_call(call)
        if not self.reads and not isinstance(call.request, PushValues):
            self.subjects.add(call.request.subjects[0])

    def request(self) -> Any:
        """Return the one request of all calls."""
        requests = [call.request for call in self.calls]
        first = requests[0]
        if len(requests) == 1:
            return first
        if isinstance(first, PushValues):
            return PushValues(first.stream, _joined(requests, "sizes"), _joined(requests, "bodies"))
        subjects = _joined(requests, "subjects")
        if isinstance(first, PutEntries):
            sizes, bodies = _joined(requests, "sizes"), _joined(requests, "bodies")
            return PutEntries(first.stream, subjects, sizes, bodies, first.only_absent)
        return type(first)(first.stream, subjects)

    def responses(self, answer: Answer, bodies: Bodies | None) -> list[bytes | Refusal]:
        """Return the response to each call, in order."""
        encode, value, count = self.rpc.encode, answer.value, len(self.calls)
        first = self.calls[0].request
        if isinstance(value, EntryMessages):
            found = {seq: payload for seq, _, payload in payloads(value, bodies or [])}
            return [entry_got(seq, found.get(seq)) for seq in value.wanted]
        if answer.code == OK and isinstance(first, PushValues):
            assert isinstance(value, int)
            return [encode(Answer(OK, "", value + place), None, self._serving) for place in range(count)]
        if answer.code == OK and isinstance(first, PutEntries | HasEntries):
            assert isinstance(value, list)
            return [encode(Answer(OK, "", [each]), None, self._serving) for each in value]
        return [encode(answer, bodies, self._serving)] * count


def entry_call(id_: int, method: str, data: bytes, serving: Serving) -> BatchedCall | None:
    """Parse a call about one entry or value; return None for one that goes by itself."""
    rpc = BATCHED.get(method)
    if rpc is None:
        return None
    try:
        return BatchedCall(id_, method, rpc.parse(data, _NO_METADATA, serving), len(data))
    except (RefusedError, CodeError):
        return None


def is_read(call: BatchedCall) -> bool:
    """Return True for a call that changes nothing."""
    return isinstance(call.request, _READS)


def _joined(requests: list[Any], column: str) -> list[Any]:
    return list(chain.from_iterable(getattr(request, column) for request in requests))

"""Batches of calls about keys: those about one bucket, changes or reads."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from waymaker.server.grpc.kv_rpcs import KV_WRITES
from waymaker.server.grpc.rpcs import coded
from waymaker.server.pipeline.batch import Batch, BatchedCall
from waymaker.storage.store import Bodies
from waymaker.wire.kv import NOT_FOUND, found_values, got_pb, write_request, written_pb
from waymaker_core.api.kv_requests import KvFailure, KvGet, KvOp, KvWrite, KvWritten
from waymaker_core.api.requests import Messages
from waymaker_core.kv.keys import key_fault
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import Answer, Refusal, RefusedError
from waymaker_proto import waymaker_streams_pb2 as pb

GET: Final = "Get"


class KeyBatch(Batch):
    """Calls about keys of one bucket. The node judges each by itself."""

    __slots__ = ("bucket",)

    def __init__(self, bucket: str, reads: bool) -> None:
        super().__init__(reads, large_response=reads)
        self.bucket = bucket

    def empty(self) -> KeyBatch:
        """Return a batch of the same bucket without calls."""
        return KeyBatch(self.bucket, self.reads)

    def request(self) -> KvWrite | KvGet:
        """Return the one request of all calls."""
        if self.reads:
            return KvGet(self.bucket, [call.request.key for call in self.calls])
        return write_request(self.bucket, [(KV_WRITES[call.method][0], call.request) for call in self.calls])

    def responses(self, answer: Answer, bodies: Bodies | None) -> list[bytes | Refusal]:
        """Return the response to each call that was answered, in order; those behind them are to be asked again."""
        if isinstance(answer.value, KvWritten):
            written = answer.value
            return [
                _written(KV_WRITES[call.method][0], written.revisions[place], written.failures.get(place))
                for place, call in enumerate(self.calls)
            ]
        if isinstance(answer.value, Messages) and answer.value.of_keys is not None:
            by_seq = found_values(answer.value, bodies or [])
            return [got_pb(*by_seq.get(seq, NOT_FOUND)) for seq in answer.value.of_keys]
        return [coded(answer.code, answer.message)] * len(self.calls)


def key_call(id_: int, method: str, data: bytes, limits: Limits) -> BatchedCall | None:
    """Parse a call about one key; return None for one that goes by itself."""
    reads = method == GET
    kind = pb.KvGetRequest if reads else KV_WRITES[method][1] if method in KV_WRITES else None
    if kind is None:
        return None
    try:
        message = kind.FromString(data)
    except DecodeError:
        return None
    if reads and key_fault(message.bucket, message.key, limits):
        return None
    return BatchedCall(id_, method, message, len(data))


def _written(op: KvOp, revision: int, failure: KvFailure | None) -> bytes | Refusal:
    try:
        return written_pb(op, revision, failure)
    except RefusedError as error:
        return error.refusal

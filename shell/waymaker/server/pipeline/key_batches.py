"""Batches of the calls about keys in one frame: those about one bucket become one request to the node, and part again after it.

What many tasks of a client ask in one turn travels in one frame. A call costs the node the same whether it names one key or a
thousand, so changes of one bucket share a record, and reads a look. A call that cannot be parsed is not part of a batch.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from waymaker.server.grpc.kv_rpcs import KV_WRITES
from waymaker.server.grpc.rpcs import coded
from waymaker.storage.store import Bodies
from waymaker.wire.guard import WALKED_BYTES_MIN
from waymaker.wire.kv import got_pb, revisions, write_request, written_pb
from waymaker_core.api.kv_requests import KvFailure, KvGet, KvOp, KvWrite, KvWritten
from waymaker_core.api.requests import Messages
from waymaker_core.kv.keys import key_fault
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import Answer, Refusal, RefusedError
from waymaker_proto import waymaker_streams_pb2 as pb

BATCH_BYTES_MAX: Final = 1 << 20
BATCH_CALLS_MAX: Final = 1_000
GET: Final = "Get"


class Keyed(NamedTuple):
    """A parsed call about one key: its id, its RPC's name, and its request."""

    id: int
    method: str
    message: Any


class KeyBatch:
    """Calls about one bucket that become one request: all of them changes, or all reads."""

    __slots__ = ("bucket", "calls", "reads", "_bytes")

    def __init__(self, bucket: str, reads: bool) -> None:
        self.bucket = bucket
        self.reads = reads
        self.calls: list[Keyed] = []
        self._bytes = 0

    def fits(self, size: int) -> bool:
        """Return True if a call of this size may join."""
        return not self.calls or (len(self.calls) < BATCH_CALLS_MAX and self._bytes + size <= BATCH_BYTES_MAX)

    def add_call(self, call: Keyed, size: int) -> None:
        """Add a call."""
        self.calls.append(call)
        self._bytes += size

    def request(self) -> KvWrite | KvGet:
        """Return the one request of all calls."""
        if self.reads:
            return KvGet(self.bucket, [call.message.key for call in self.calls])
        return write_request(self.bucket, [(KV_WRITES[call.method][0], call.message) for call in self.calls])

    def responses(self, answer: Answer, bodies: Bodies | None) -> list[bytes | Refusal]:
        """Return the response to each call that was answered, in order; those behind them are to be asked again."""
        if isinstance(answer.value, KvWritten):
            written = answer.value
            return [
                _written(KV_WRITES[call.method][0], written.revisions[place], written.failures.get(place))
                for place, call in enumerate(self.calls)
            ]
        if isinstance(answer.value, Messages) and answer.value.of_keys is not None:
            by_seq = {revision.seq: revision for revision in revisions(answer.value, bodies or [])}
            return [got_pb(by_seq.get(seq)) for seq in answer.value.of_keys]
        return [coded(answer.code, answer.message)] * len(self.calls)

    def rest(self, answered: int) -> KeyBatch:
        """Return a batch of the calls behind those that were answered."""
        batch = KeyBatch(self.bucket, self.reads)
        batch.calls = self.calls[answered:]
        return batch


class KeyBatches:
    """The batches of one frame."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._growing: dict[tuple[str, bool], KeyBatch] = {}
        self.batches: list[KeyBatch] = []

    def take(self, id_: int, method: str, data: bytes) -> bool:
        """Take a call into a batch; return False for one that goes by itself."""
        reads = method == GET
        kind = pb.KvGetRequest if reads else KV_WRITES[method][1] if method in KV_WRITES else None
        if kind is None or len(data) > WALKED_BYTES_MIN:
            return False
        try:
            message = kind.FromString(data)
        except DecodeError:
            return False
        if reads and key_fault(message.bucket, message.key, self._limits):
            return False
        batch = self._growing.get((message.bucket, reads))
        if batch is None or not batch.fits(len(data)):
            batch = self._growing[message.bucket, reads] = KeyBatch(message.bucket, reads)
            self.batches.append(batch)
        batch.add_call(Keyed(id_, method, message), len(data))
        return True


def _written(op: KvOp, revision: int, failure: KvFailure | None) -> bytes | Refusal:
    try:
        return written_pb(op, revision, failure)
    except RefusedError as error:
        return error.refusal

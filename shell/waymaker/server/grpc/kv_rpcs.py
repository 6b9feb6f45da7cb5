"""Calls of the key-value service: one table row an RPC, from its message to the core's request and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from waymaker.server.grpc.metadata import Metadata
from waymaker.server.grpc.rpcs import Rpc, Serving, coded
from waymaker.storage.store import Bodies
from waymaker.wire.kv import NOT_FOUND, found_values, got_pb, revisions, write_request, written_pb
from waymaker_core.api import kv_requests as core
from waymaker_core.api.kv_requests import KvOp
from waymaker_core.api.requests import Messages, Page
from waymaker_core.model.result_codes import OK, Answer, invalid
from waymaker_proto import waymaker_streams_pb2 as pb

KV_WRITES: Final[dict[str, tuple[KvOp, Any]]] = {
    "Put": (KvOp.PUT, pb.KvPutRequest),
    "Create": (KvOp.CREATE, pb.KvCreateRequest),
    "Update": (KvOp.UPDATE, pb.KvUpdateRequest),
    "Delete": (KvOp.DELETE, pb.KvDeleteRequest),
    "Touch": (KvOp.TOUCH, pb.KvTouchRequest),
}
"""Changes of one key: what each does, and its request."""


def _create_bucket(r: pb.KvCreateBucketRequest, metadata: Metadata, serving: Serving) -> core.KvCreateBucket:
    return core.KvCreateBucket(
        r.bucket, r.max_bytes, metadata.max_messages, r.max_value_size, r.max_age_ms, r.ephemeral, metadata.history
    )  # fmt: skip


def _plain(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
    return coded(answer.code, answer.message)


def _write(op: KvOp) -> Callable[[Any, Metadata, Serving], core.KvWrite]:
    return lambda r, metadata, serving: write_request(r.bucket, [(op, r)])


def _written(op: KvOp) -> Callable[[Answer, Bodies | None, Serving], bytes]:
    def encode(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
        if not isinstance(answer.value, core.KvWritten):
            return coded(answer.code, answer.message)
        return written_pb(op, answer.value.revisions[0], answer.value.failures.get(0))

    return encode


def _got(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
    if not isinstance(answer.value, Messages):
        return coded(answer.code, answer.message)
    return got_pb(*next(iter(found_values(answer.value, bodies or []).values()), NOT_FOUND))


def _listed(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
    if not isinstance(answer.value, Page):
        return coded(answer.code, answer.message)
    entries = [
        pb.KvKeyEntry(key=each.key, revision=each.revision, deleted=each.deleted) for each in answer.value.entries
    ]
    return pb.KvKeysResponse(success=True, result_code=OK, entries=entries).SerializeToString()


def _history(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
    if not isinstance(answer.value, Messages):
        return coded(answer.code, answer.message)
    entries = [
        pb.KvHistoryEntry(value=each.value or b"", revision=each.seq, ts_ms=each.time_ms, deleted=each.value is None)
        for each in revisions(answer.value, bodies or [])
    ]
    return pb.KvHistoryResponse(success=True, result_code=OK, entries=entries).SerializeToString()


def _history_request(r: pb.KvHistoryRequest, metadata: Metadata, serving: Serving) -> core.KvHistory:
    """Return the request. Its cursor is a revision; where metadata gives one, or a limit, it stands for the field."""
    from_revision = sequence(metadata.after) if metadata.after else r.from_revision
    return core.KvHistory(r.bucket, r.key, from_revision, metadata.limit or r.limit)


def sequence(cursor: str) -> int:
    """Return the revision that a cursor names. Raises `RefusedError`."""
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 20):
        raise invalid("the cursor of a history or a watch is a revision")
    return int(cursor)


KV_RPCS: Final[dict[str, Rpc]] = {
    rpc.name: rpc
    for rpc in (
        Rpc("CreateBucket", pb.KvCreateBucketRequest, _create_bucket, _plain, asides=True),
        Rpc("DeleteBucket", pb.KvDeleteBucketRequest, lambda r, m, s: core.KvDeleteBucket(r.bucket), _plain),
        *(Rpc(name, request, _write(op), _written(op)) for name, (op, request) in KV_WRITES.items()),
        Rpc("Get", pb.KvGetRequest, lambda r, m, s: core.KvGet(r.bucket, [r.key]), _got, large_response=True),
        Rpc("Keys", pb.KvKeysRequest, lambda r, m, s: core.KvKeys(r.bucket, m.after, m.limit), _listed,
            large_response=True, paged=True),
        Rpc("History", pb.KvHistoryRequest, _history_request, _history, large_response=True, paged=True),
    )
}  # fmt: skip

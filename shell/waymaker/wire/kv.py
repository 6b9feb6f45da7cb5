"""Messages of a bucket between the contract's form and the core's: changes of keys in, values, histories and events out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from waymaker_core.api.kv_requests import KvFailure, KvOp, KvWrite
from waymaker_core.api.requests import Messages
from waymaker_core.kv.bodies import read_body, value_bodies, value_body
from waymaker_core.kv.keys import subject_head
from waymaker_core.model.message_codec import payload_of
from waymaker_core.model.result_codes import OK, Outcome, Refusal, RefusedError
from waymaker_proto import waymaker_streams_pb2 as pb

_WITHOUT_VALUE: Final = (KvOp.DELETE, KvOp.TOUCH)


class Revision(NamedTuple):
    """One message of a bucket; `value` is None for a tombstone."""

    key: str
    seq: int
    time_ms: int
    value: bytes | None


def write_request(bucket: str, changes: Sequence[tuple[KvOp, Any]]) -> KvWrite:
    """Return changes of one bucket, each a message of the contract, as one request."""
    return write_columns(
        bucket,
        [op for op, _ in changes],
        [message.key for _, message in changes],
        [b"" if op in _WITHOUT_VALUE else message.value for op, message in changes],
        [message.expected_revision if op is KvOp.UPDATE else 0 for op, message in changes],
        [0 if op is KvOp.DELETE else message.ttl_ms for op, message in changes],
    )


def write_columns(
    bucket: str, ops: list[KvOp], keys: list[str], values: list[bytes], expected: list[int], ttls_ms: list[int]
) -> KvWrite:
    """Return changes of one bucket as one request. The value of a deletion or a touch is left out, and what else it has not."""
    head = subject_head(bucket)
    if ops.count(KvOp.PUT) == len(ops):
        bodies = value_bodies([head + key for key in keys], values)
    else:
        bodies = [
            b"" if op in _WITHOUT_VALUE else value_body(head + key, value)
            for op, key, value in zip(ops, keys, values, strict=True)
        ]
        values = [b"" if op in _WITHOUT_VALUE else value for op, value in zip(ops, values, strict=True)]
        ttls_ms = [0 if op is KvOp.DELETE else ttl_ms for op, ttl_ms in zip(ops, ttls_ms, strict=True)]
    return KvWrite(
        bucket, ops, keys, expected, ttls_ms, list(map(len, values)), list(map(len, bodies)), b"".join(bodies)
    )  # fmt: skip


def written_pb(op: KvOp, revision: int, failure: KvFailure | None) -> bytes:
    """Return the response to a change of a key. Raises `RefusedError` where it was refused."""
    if failure is not None and failure.status is not None:
        raise RefusedError(Refusal(failure.status, failure.message, Outcome.NOT_APPLIED))
    code, text = (OK, "") if failure is None else (failure.code, failure.message)
    kind = pb.KvDeleteResponse if op is KvOp.DELETE else pb.KvPutResponse
    return kind(success=failure is None, result_code=code, message=text, revision=revision).SerializeToString()


def revisions(messages: Messages, bodies: Sequence[bytes]) -> Iterator[Revision]:
    """Yield the messages of a bucket. Its name is one token of their subjects; the key follows."""
    for run, data in zip(messages.runs, bodies, strict=True):
        at = 0
        for seq, length, time_ms in zip(run.sequences(), run.lengths, run.times_ms, strict=True):
            subject, value = read_body(data[at : at + length])
            at += length
            yield Revision(subject[subject.index(".") + 1 :], seq, time_ms, value)


def found_values(messages: Messages, bodies: Sequence[bytes]) -> dict[int, tuple[bytes, int, int]]:
    """Return value, sequence and time of messages that are live values, by sequence."""
    found: dict[int, tuple[bytes, int, int]] = {}
    for run, data in zip(messages.runs, bodies, strict=True):
        at = 0
        for seq, length, time_ms in zip(run.sequences(), run.lengths, run.times_ms, strict=True):
            found[seq] = payload_of(data[at : at + length]), seq, time_ms
            at += length
    return found


NOT_FOUND: Final = (b"", 0, 0)
"""The value, sequence and time of a key without a value."""


def got_pb(value: bytes, seq: int, time_ms: int) -> bytes:
    """Return the response to a read of a key; sequence 0 where it has no value."""
    if not seq:
        return pb.KvGetResponse(success=True, result_code=OK).SerializeToString()
    entry = pb.KvEntry(value=value, revision=seq, ts_ms=time_ms)
    return pb.KvGetResponse(success=True, result_code=OK, entry=entry).SerializeToString()


def event_pb(revision: Revision) -> bytes:
    """Return the event of a watch."""
    if revision.value is None:
        deleted = pb.KvDeleteEvent(key=revision.key, revision=revision.seq, ts_ms=revision.time_ms)
        return pb.KvWatchEvent(delete=deleted).SerializeToString()
    put = pb.KvPutEvent(key=revision.key, value=revision.value, revision=revision.seq, ts_ms=revision.time_ms)
    return pb.KvWatchEvent(put=put).SerializeToString()

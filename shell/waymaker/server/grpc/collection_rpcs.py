"""Calls of the collections' service: one table row an RPC, from its message to the core's request and back.

Keys, fields and members become subjects here, and values stored bodies. A store that does not exist is `no_such_bucket`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from google.protobuf.message import Message

from waymaker.server.grpc.metadata import Metadata
from waymaker.server.grpc.rpcs import Rpc, Serving, coded
from waymaker.storage.store import Bodies
from waymaker.wire.messages import payloads
from waymaker_core.api import collection_requests as core
from waymaker_core.api.requests import CreateStream, DeleteStream, EntryMessages, Messages, Page
from waymaker_core.collections.settings import StoreSettings
from waymaker_core.collections.subjects import (
    HASH,
    QUEUE,
    SET,
    VALUES,
    entry_of,
    field_subject,
    fields_head,
    member_subject,
    members_head,
)
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import plain_body
from waymaker_core.model.result_codes import NO_SUCH_BUCKET, NO_SUCH_STREAM, OK, Answer, invalid
from waymaker_proto import collections_pb2 as pc
from waymaker_proto import waymaker_streams_pb2 as pb

QUEUE_BLOCK_SIZE: Final = 10_000
"""Taken values are deleted block by block, so a queue has smaller ones than other streams."""
_KINDS: Final = {HASH: "hash store", SET: "set store", QUEUE: "queue"}

Decode = Callable[[Any, Metadata, Serving], Any]
Encode = Callable[[Answer, Bodies | None, Serving], bytes]

# ---------------------------------------------------------------- stores


def _create(prefix: str, block_size: int = 0) -> Decode:
    def decode(r: Any, metadata: Metadata, serving: Serving) -> CreateStream:
        max_values = r.max_messages if prefix == QUEUE else 0
        settings = StoreSettings(r.max_bytes, max_values).encode()
        return CreateStream(
            StreamConfig(prefix + r.name, block_size=block_size, ephemeral=r.ephemeral, service_settings=settings)
        )

    return decode


def _delete(prefix: str) -> Decode:
    return lambda r, m, s: DeleteStream(prefix + r.name)


def _filled(
    response: type[Message], kind: str, fill: Callable[[Any, Any, Bodies | None], None] | None = None
) -> Encode:
    """Encode a response; `fill` sets what it carries where the call was good."""

    def encode(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
        if answer.code == NO_SUCH_STREAM:
            name = answer.message.replace("no stream is called", f"no {_KINDS[kind]} is called").replace(kind, "")
            return coded(NO_SUCH_BUCKET, name)
        if answer.code != OK or fill is None:
            return coded(answer.code, answer.message)
        message: Any = response()
        message.success = True
        message.result_code = OK
        fill(answer.value, message, bodies)
        data: bytes = message.SerializeToString()
        return data

    return encode


# ---------------------------------------------------------------- entries


def _put(stream: str, values: dict[str, bytes], *, only_absent: bool = False) -> core.PutEntries:
    return core.PutEntries(
        stream,
        list(values),
        list(map(len, values.values())),
        [plain_body(subject, value) for subject, value in values.items()],
        only_absent,
    )


def _distinct(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _set_many(r: pc.HashSetManyRequest, metadata: Metadata, serving: Serving) -> core.PutEntries:
    if len(r.fields) != len(r.values):
        raise invalid(f"{len(r.fields)} fields and {len(r.values)} values were given: each field has one value")
    if len(set(r.fields)) != len(r.fields):
        raise invalid("a field is named twice in one batch")
    subjects = [field_subject(r.hash_key, field, serving.limits) for field in r.fields]
    return _put(HASH + r.bucket, dict(zip(subjects, r.values, strict=True)))


def _fields_of(r: Any, limits: Limits) -> list[str]:
    names = [r.field] if hasattr(r, "field") else r.fields
    return [field_subject(r.hash_key, field, limits) for field in names]


def _members_of(r: Any, limits: Limits) -> list[str]:
    names = [r.member] if hasattr(r, "member") else r.members
    return [member_subject(r.set_key, member, limits) for member in names]


def _list(request: Any, prefix: str, head: Callable[[Any, Limits], str]) -> Decode:
    def decode(r: Any, metadata: Metadata, serving: Serving) -> Any:
        begin = head(r, serving.limits)
        if metadata.after and not metadata.after.startswith(begin):
            raise invalid("the cursor of a list is what wmkr-next said in its last page")
        return request(prefix + r.bucket, begin, metadata.after, metadata.limit)

    return decode


def _hash_head(r: Any, limits: Limits) -> str:
    return fields_head(r.hash_key, limits)


def _set_head(r: Any, limits: Limits) -> str:
    return members_head(r.set_key, limits)


def _revision(value: list[int], response: pb.HashSetResponse, bodies: Bodies | None) -> None:
    response.revision = value[0]


def _revisions(value: list[int], response: pc.HashSetManyResponse, bodies: Bodies | None) -> None:
    response.revisions.extend(value)


def entry_got(revision: int, value: bytes | None) -> bytes:
    """Return the encoded response of `HashGet`; None: there is no such entry."""
    response = pb.HashGetResponse(success=True, result_code=OK)
    if value is not None:
        response.value, response.revision = value, revision
    return response.SerializeToString()


def _value(value: EntryMessages, response: pb.HashGetResponse, bodies: Bodies | None) -> None:
    for seq, _, payload in _read(value, bodies):
        response.value = payload
        response.revision = seq


def _entries(value: EntryMessages, response: pb.HashGetAllResponse, bodies: Bodies | None) -> None:
    """Fill in entries, in the order of the request or, in a list, of their subjects."""
    found = {seq: (subject, payload) for seq, subject, payload in _read(value, bodies)}
    for seq in value.wanted:
        if seq:
            subject, payload = found[seq]
            response.entries.add(field=entry_of(subject), value=payload, revision=seq)


def _read(messages: Messages, bodies: Bodies | None) -> Iterator[tuple[int, str, bytes]]:
    assert bodies is not None
    return payloads(messages, bodies)


def _exists(value: list[bool], response: pb.HashExistsResponse, bodies: Bodies | None) -> None:
    response.exists = value[0]


def _is_member(value: list[bool], response: pb.SetIsMemberResponse, bodies: Bodies | None) -> None:
    response.is_member = value[0]


def _names(field: str) -> Callable[[Page[str], Any, Bodies | None], None]:
    def fill(value: Page[str], response: Any, bodies: Bodies | None) -> None:
        getattr(response, field).extend(map(entry_of, value.entries))

    return fill


def _count(field: str) -> Callable[[int, Any, Bodies | None], None]:
    return lambda value, response, bodies: setattr(response, field, value)


def _added(value: list[int], response: pc.SetAddManyResponse, bodies: Bodies | None) -> None:
    response.added = sum(seq > 0 for seq in value)


# ---------------------------------------------------------------- queues


def _push(bucket: str, values: list[bytes]) -> core.PushValues:
    return core.PushValues(QUEUE + bucket, list(map(len, values)), [plain_body(VALUES, value) for value in values])


def _range(r: pb.QueueRangeRequest, metadata: Metadata, serving: Serving) -> core.PeekValues:
    """Decode a range. Its cursor is a sequence; where metadata gives one, or a limit, it stands for the field."""
    from_seq, after = r.from_sequence, metadata.after
    if after:
        if not (after.isascii() and after.isdigit() and len(after) <= 20):
            raise invalid("the cursor of a range is a sequence: what wmkr-next said, or field from_sequence")
        from_seq = int(after)
    return core.PeekValues(QUEUE + r.bucket, from_seq, metadata.limit or r.limit)


def _popped(value: Messages, response: pb.QueuePopResponse, bodies: Bodies | None) -> None:
    for _, _, payload in _read(value, bodies):
        response.value = payload


def _popped_many(value: Messages, response: pc.QueuePopManyResponse, bodies: Bodies | None) -> None:
    for seq, _, payload in _read(value, bodies):
        response.sequences.append(seq)
        response.values.append(payload)


def _peeked(value: Messages, response: pb.QueueRangeResponse, bodies: Bodies | None) -> None:
    response.values.extend(payload for _, _, payload in _read(value, bodies))


COLLECTION_RPCS: Final[dict[str, Rpc]] = {
    rpc.name: rpc
    for rpc in (
        Rpc("CreateHashStore", pb.CreateHashStoreRequest, _create(HASH), _filled(pb.CreateHashStoreResponse, HASH)),
        Rpc("DeleteHashStore", pb.DeleteHashStoreRequest, _delete(HASH), _filled(pb.DeleteHashStoreResponse, HASH)),
        Rpc("HashSet", pb.HashSetRequest,
            lambda r, m, s: _put(HASH + r.bucket, {field_subject(r.hash_key, r.field, s.limits): r.value}),
            _filled(pb.HashSetResponse, HASH, _revision)),
        Rpc("HashSetMany", pc.HashSetManyRequest, _set_many, _filled(pc.HashSetManyResponse, HASH, _revisions)),
        Rpc("HashGet", pb.HashGetRequest,
            lambda r, m, s: core.GetEntries(HASH + r.bucket, _fields_of(r, s.limits)),
            _filled(pb.HashGetResponse, HASH, _value), large_response=True),
        Rpc("HashGetMany", pc.HashGetManyRequest,
            lambda r, m, s: core.GetEntries(HASH + r.bucket, _fields_of(r, s.limits)),
            _filled(pc.HashGetManyResponse, HASH, _entries), large_response=True),
        Rpc("HashExists", pb.HashExistsRequest,
            lambda r, m, s: core.HasEntries(HASH + r.bucket, _fields_of(r, s.limits)),
            _filled(pb.HashExistsResponse, HASH, _exists)),
        Rpc("HashDelete", pb.HashDeleteRequest,
            lambda r, m, s: core.RemoveEntries(HASH + r.bucket, _fields_of(r, s.limits)),
            _filled(pb.HashDeleteResponse, HASH)),
        Rpc("HashDeleteMany", pc.HashDeleteManyRequest,
            lambda r, m, s: core.RemoveEntries(HASH + r.bucket, _distinct(_fields_of(r, s.limits))),
            _filled(pc.HashDeleteManyResponse, HASH, _count("deleted"))),
        Rpc("HashGetAll", pb.HashGetAllRequest, _list(core.ReadEntries, HASH, _hash_head),
            _filled(pb.HashGetAllResponse, HASH, _entries), large_response=True, paged=True),
        Rpc("HashFields", pb.HashFieldsRequest, _list(core.ListEntries, HASH, _hash_head),
            _filled(pb.HashFieldsResponse, HASH, _names("fields")), large_response=True, paged=True),
        Rpc("HashLen", pb.HashLenRequest,
            lambda r, m, s: core.CountEntries(HASH + r.bucket, _hash_head(r, s.limits)),
            _filled(pb.HashLenResponse, HASH, _count("count"))),

        Rpc("CreateSetStore", pb.CreateSetStoreRequest, _create(SET), _filled(pb.CreateSetStoreResponse, SET)),
        Rpc("DeleteSetStore", pb.DeleteSetStoreRequest, _delete(SET), _filled(pb.DeleteSetStoreResponse, SET)),
        Rpc("SetAdd", pb.SetAddRequest,
            lambda r, m, s: _put(SET + r.bucket, dict.fromkeys(_members_of(r, s.limits), b""), only_absent=True),
            _filled(pb.SetAddResponse, SET)),
        Rpc("SetAddMany", pc.SetAddManyRequest,
            lambda r, m, s: _put(SET + r.bucket, dict.fromkeys(_members_of(r, s.limits), b""), only_absent=True),
            _filled(pc.SetAddManyResponse, SET, _added)),
        Rpc("SetRemove", pb.SetRemoveRequest,
            lambda r, m, s: core.RemoveEntries(SET + r.bucket, _members_of(r, s.limits)),
            _filled(pb.SetRemoveResponse, SET)),
        Rpc("SetRemoveMany", pc.SetRemoveManyRequest,
            lambda r, m, s: core.RemoveEntries(SET + r.bucket, _distinct(_members_of(r, s.limits))),
            _filled(pc.SetRemoveManyResponse, SET, _count("removed"))),
        Rpc("SetIsMember", pb.SetIsMemberRequest,
            lambda r, m, s: core.HasEntries(SET + r.bucket, _members_of(r, s.limits)),
            _filled(pb.SetIsMemberResponse, SET, _is_member)),
        Rpc("SetMembers", pb.SetMembersRequest, _list(core.ListEntries, SET, _set_head),
            _filled(pb.SetMembersResponse, SET, _names("members")), large_response=True, paged=True),
        Rpc("SetLen", pb.SetLenRequest,
            lambda r, m, s: core.CountEntries(SET + r.bucket, _set_head(r, s.limits)),
            _filled(pb.SetLenResponse, SET, _count("count"))),

        Rpc("CreateQueue", pb.CreateQueueRequest, _create(QUEUE, QUEUE_BLOCK_SIZE),
            _filled(pb.CreateQueueResponse, QUEUE)),
        Rpc("DeleteQueue", pb.DeleteQueueRequest, _delete(QUEUE), _filled(pb.DeleteQueueResponse, QUEUE)),
        Rpc("QueuePush", pb.QueuePushRequest, lambda r, m, s: _push(r.bucket, [r.value]),
            _filled(pb.QueuePushResponse, QUEUE, _count("sequence"))),
        Rpc("QueuePushMany", pc.QueuePushManyRequest, lambda r, m, s: _push(r.bucket, list(r.values)),
            _filled(pc.QueuePushManyResponse, QUEUE, _count("first_sequence"))),
        Rpc("QueuePop", pb.QueuePopRequest, lambda r, m, s: core.PopValues(QUEUE + r.bucket, 1),
            _filled(pb.QueuePopResponse, QUEUE, _popped), large_response=True),
        Rpc("QueuePopMany", pc.QueuePopManyRequest, lambda r, m, s: core.PopValues(QUEUE + r.bucket, r.limit),
            _filled(pc.QueuePopManyResponse, QUEUE, _popped_many), large_response=True),
        Rpc("QueueRange", pb.QueueRangeRequest, _range,
            _filled(pb.QueueRangeResponse, QUEUE, _peeked), large_response=True, paged=True),
        Rpc("QueueLen", pb.QueueLenRequest, lambda r, m, s: core.CountValues(QUEUE + r.bucket),
            _filled(pb.QueueLenResponse, QUEUE, _count("count"))),
    )
}  # fmt: skip

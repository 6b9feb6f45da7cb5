"""The unary calls of the contract: one table row an RPC, from its request's bytes to its answer's.

A row says how the request message becomes the core's request, and how an answer becomes the response message. The same rows
serve single calls and the calls inside pipeline frames, so the two can never mean different things. Every response begins
with the same three fields (success, code, text), which is why most answers are bytes known in advance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError, Message

from waymaker.server.grpc import authority_rows, object_rows
from waymaker.server.grpc.metadata import Metadata
from waymaker.storage.store import Bodies
from waymaker.wire.configs import consumer_config, stream_config, stream_config_pb
from waymaker.wire.guard import FIELDS_MAX, WALKED_BYTES_MIN, within
from waymaker.wire.infos import consumer_state_pb, fill_stream_info, source_entry_pb
from waymaker.wire.messages import wire_messages
from waymaker_core.api import requests as core
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body, varint
from waymaker_core.model.result_codes import (
    INVALID_CONFIG,
    OK,
    Answer,
    CodeError,
    invalid,
)
from waymaker_proto import waymaker_streams_pb2 as pb

_OK: Final = b"\x08\x01\x12\x02ok"
"""success = true, result_code = "ok": how every good answer begins."""


class Serving(NamedTuple):
    """Facts of the server that a row may need."""

    limits: Limits
    node_id: int


class Rpc(NamedTuple):
    """One unary call. `large_response` marks answers that may carry megabytes, `asides` calls whose metadata is read."""

    name: str
    request: type[Message]
    decode: Callable[[Any, Metadata, Serving], core.Request]
    encode: Callable[[Answer, Bodies | None, Serving], bytes]
    large_response: bool = False
    paged: bool = False
    asides: bool = False

    def parse(self, data: bytes, metadata: Metadata, serving: Serving) -> core.Request:
        """Return the core's request. Raises `RefusedError`, or `CodeError` for what is answered by a code."""
        name = self.request.DESCRIPTOR.name
        if len(data) > WALKED_BYTES_MIN and not within(data, self.request.DESCRIPTOR):
            raise invalid(f"the request is not a valid {name}, or has more than {FIELDS_MAX} fields")
        try:
            message = self.request.FromString(data)
        except DecodeError:
            raise invalid(f"the request is not a valid {name}") from None
        return self.decode(message, metadata, serving)


def coded(code: str, text: str) -> bytes:
    """Return a response that carries a code and nothing else: the same bytes for every RPC."""
    if code == OK and not text:
        return _OK
    return pb.AckResponse(success=code == OK, result_code=code, message=text).SerializeToString()


def incarnation_of(answer: Answer) -> str:
    """Return the consumer's incarnation that a fetch's answer carries, or empty."""
    return answer.value.incarnation if isinstance(answer.value, core.Messages) else ""


def inactive_of(answer: Answer) -> list[int]:
    """Return the inactivity timeouts of the consumers in an answer, in its order."""
    value = answer.value
    found = value.entries if isinstance(value, core.Page) else [value]
    return [info.config.inactive_ms for info in found if isinstance(info, core.ConsumerInfo)]


def next_page(answer: Answer) -> str:
    """Return the cursor of the page that follows, or empty."""
    if isinstance(answer.value, core.Page):
        return answer.value.next_after
    if isinstance(answer.value, core.EntryMessages):
        return answer.value.next_after
    if isinstance(answer.value, core.Messages) and answer.value.next_seq:
        return str(answer.value.next_seq)
    return ""


# ---------------------------------------------------------------- answers


def _plain(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
    return coded(answer.code, answer.message)


def _filled(
    response: type[Message], fill: Callable[[Any, Any, Serving], None]
) -> Callable[[Answer, Bodies | None, Serving], bytes]:
    """Encode a response with fields of its own where the call was good."""

    def encode(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
        if answer.code != OK:
            return coded(answer.code, answer.message)
        message: Any = response()
        message.success = True
        message.result_code = OK
        message.message = answer.message
        fill(answer.value, message, serving)
        data: bytes = message.SerializeToString()
        return data

    return encode


def _with_messages(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
    """Join messages as field 4 of FetchResponse and its siblings, without parsing any."""
    if answer.code != OK or not isinstance(answer.value, core.Messages):
        return coded(answer.code, answer.message)
    assert bodies is not None
    parts = [coded(answer.code, answer.message)]
    for message in wire_messages(answer.value, bodies):
        parts += (b"\x22", varint(len(message)), message)
    return b"".join(parts)


def _published(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
    if answer.code != OK:
        return coded(answer.code, answer.message)
    published = answer.value
    assert isinstance(published, core.Published)
    if published.failures:
        code, text, seq = published.failures[0]
        return coded(code, text) + (b"\x20" + varint(seq) if seq else b"")
    return _OK + b"\x20" + varint(published.first_seq)


def _stream_info(value: core.StreamInfo, response: pb.GetStreamInfoResponse, serving: Serving) -> None:
    fill_stream_info(value, response)


def _updated(value: Any, response: pb.UpdateStreamResponse, serving: Serving) -> None:
    config, pruned = value
    response.config.CopyFrom(stream_config_pb(config))
    response.pruned = pruned


def _consumers(value: core.Page[core.ConsumerInfo], response: pb.ListConsumersResponse, serving: Serving) -> None:
    response.consumers.extend(map(consumer_state_pb, value.entries))


def _consumer(value: core.ConsumerInfo, response: pb.GetConsumerInfoResponse, serving: Serving) -> None:
    response.consumer.CopyFrom(consumer_state_pb(value))


def _subjects(value: core.Page[str], response: pb.ListSubjectsByPrefixResponse, serving: Serving) -> None:
    response.subjects.extend(value.entries)


def _sources(value: core.Page[core.SourceStatus], response: pb.GetStreamSourcesResponse, serving: Serving) -> None:
    response.entries.extend(map(source_entry_pb, value.entries))


def _streams(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
    """Encode the one response without a code."""
    assert isinstance(answer.value, core.Page)
    return pb.ListStreamsResponse(names=answer.value.entries).SerializeToString()


# ---------------------------------------------------------------- requests


def _publish(r: pb.PublishRequest, metadata: Metadata, serving: Serving) -> core.Publish:
    if r.ts_ms < 0:
        raise invalid("ts_ms is negative")
    body, size = encode_body(r.subject, ((h.key, h.value) for h in r.headers), r.payload, serving.limits)
    return core.Publish(
        r.stream,
        [r.subject],
        [size],
        [len(body)],
        body,
        [r.ts_ms] if r.ts_ms else None,
        [r.expected_last_seq] if r.HasField("expected_last_seq") else None,
    )


def _create_stream(r: pb.CreateStreamRequest, metadata: Metadata, serving: Serving) -> core.CreateStream:
    try:
        return core.CreateStream(stream_config(r.config))
    except ValueError as problem:
        raise CodeError(INVALID_CONFIG, f"on_drop of a source: {problem}") from None


def _create_consumer(r: pb.CreateConsumerRequest, metadata: Metadata, serving: Serving) -> core.CreateConsumer:
    try:
        config = consumer_config(r.config, metadata.inactive_ms)
    except ValueError:
        raise CodeError(INVALID_CONFIG, f"delivery policy {r.config.delivery_policy.type} does not exist") from None
    return core.CreateConsumer(r.stream, config)


def _update(dry_run: bool) -> Callable[[Any, Metadata, Serving], core.UpdateStream]:
    """Decode an update; settings that are absent stay None."""

    def decode(r: pb.UpdateStreamRequest, metadata: Metadata, serving: Serving) -> core.UpdateStream:
        def given(name: str) -> int | None:
            return int(getattr(r, name)) if r.HasField(name) else None  # type: ignore[arg-type]

        return core.UpdateStream(
            r.name,
            max_age_ms=given("max_age_ms"),
            max_msgs=given("max_msgs"),
            max_bytes=given("max_bytes"),
            max_msg_bytes=given("max_msg_bytes"),
            strict_limits=r.strict_limits if r.HasField("strict_limits") else None,
            dry_run=dry_run,
        )

    return decode


def _scan(r: pb.ScanExactAtSubjectRequest, metadata: Metadata, serving: Serving) -> core.ScanSubject:
    """Decode a scan. Its cursor is a sequence; where metadata gives one, or a limit, it stands for the field."""
    from_seq = r.from_seq
    if metadata.after:
        if not (metadata.after.isascii() and metadata.after.isdigit() and len(metadata.after) <= 20):
            raise invalid("the cursor of a scan is a sequence: what wmkr-next said, or field from_seq")
        from_seq = int(metadata.after)
    return core.ScanSubject(r.stream, r.subject, from_seq, metadata.limit or r.limit)


def _acked(kind: core.AckKind) -> Callable[[Any, Metadata, Serving], core.Ack]:
    def decode(r: Any, metadata: Metadata, serving: Serving) -> core.Ack:
        delay_ms = r.delay_ms if kind is core.AckKind.NAK else 0
        return core.Ack(r.stream, r.consumer, kind, [r.seq], delay_ms, metadata.incarnation)

    return decode


UNARY: Final[dict[str, Rpc]] = {
    rpc.name: rpc
    for rpc in (
        Rpc("CreateStream", pb.CreateStreamRequest, _create_stream, _plain),
        Rpc("DeleteStream", pb.DeleteStreamRequest,
            lambda r, p, s: core.DeleteStream(r.name), _plain),
        Rpc("GetStreamInfo", pb.GetStreamInfoRequest,
            lambda r, p, s: core.GetStreamInfo(r.name), _filled(pb.GetStreamInfoResponse, _stream_info)),
        Rpc("ListStreams", pb.ListStreamsRequest,
            lambda r, p, s: core.ListStreams(p.after, p.limit), _streams, large_response=True, paged=True),
        Rpc("GetStreamSources", pb.GetStreamSourcesRequest,
            lambda r, p, s: core.GetStreamSources(p.after, p.limit),
            _filled(pb.GetStreamSourcesResponse, _sources), large_response=True, paged=True),
        Rpc("UpdateStream", pb.UpdateStreamRequest,
            _update(dry_run=False), _filled(pb.UpdateStreamResponse, _updated)),
        Rpc("Publish", pb.PublishRequest, _publish, _published),
        Rpc("Fetch", pb.FetchRequest,
            lambda r, p, s: core.Fetch(r.stream, r.consumer, r.batch_size), _with_messages, large_response=True),
        Rpc("Ack", pb.AckRequest, _acked(core.AckKind.ACK), _plain, asides=True),
        Rpc("Nak", pb.NakRequest, _acked(core.AckKind.NAK), _plain, asides=True),
        Rpc("Term", pb.TermRequest, _acked(core.AckKind.TERM), _plain, asides=True),
        Rpc("InProgress", pb.InProgressRequest, _acked(core.AckKind.IN_PROGRESS), _plain, asides=True),
        Rpc("CreateConsumer", pb.CreateConsumerRequest, _create_consumer, _plain, asides=True),
        Rpc("DeleteConsumer", pb.DeleteConsumerRequest,
            lambda r, p, s: core.DeleteConsumer(r.stream, r.consumer), _plain),
        Rpc("ListConsumers", pb.ListConsumersRequest,
            lambda r, p, s: core.ListConsumers(r.stream, p.after, p.limit),
            _filled(pb.ListConsumersResponse, _consumers), large_response=True, paged=True),
        Rpc("GetConsumerInfo", pb.GetConsumerInfoRequest,
            lambda r, p, s: core.GetConsumerInfo(r.stream, r.consumer),
            _filled(pb.GetConsumerInfoResponse, _consumer)),
        Rpc("ReadLatestAtSubject", pb.ReadLatestAtSubjectRequest,
            lambda r, p, s: core.ReadLatest(r.stream, r.subject), _with_messages, large_response=True),
        Rpc("ListSubjectsByPrefix", pb.ListSubjectsByPrefixRequest,
            lambda r, p, s: core.ListSubjects(r.stream, r.prefix, p.after, p.limit),
            _filled(pb.ListSubjectsByPrefixResponse, _subjects), large_response=True, paged=True),
        Rpc("ScanExactAtSubject", pb.ScanExactAtSubjectRequest,
            _scan, _with_messages, large_response=True, paged=True),
        Rpc("SetStreamPinned", pb.SetStreamPinnedRequest, authority_rows.pin_request, _plain),
        Rpc("ClearStreamAuthority", pb.ClearStreamAuthorityRequest, authority_rows.clear_request, _plain),
        Rpc("ListStreamAuthorityOverrides", pb.ListStreamAuthorityOverridesRequest, authority_rows.overrides_request,
            _filled(pb.ListStreamAuthorityOverridesResponse, authority_rows.fill_overrides),
            large_response=True, paged=True),
        Rpc("GetClusterStreamStats", pb.GetClusterStreamStatsRequest, authority_rows.stats_request,
            _filled(pb.GetClusterStreamStatsResponse, authority_rows.fill_stats), large_response=True),
        Rpc("DeleteObject", pb.DeleteObjectRequest, object_rows.delete_request, object_rows.deleted),
        Rpc("GetObjectInfo", pb.GetObjectInfoRequest, object_rows.info_request, object_rows.info),
        Rpc("ListObjects", pb.ListObjectsRequest,
            object_rows.list_request, object_rows.listed, large_response=True, paged=True),
        Rpc("ListObjectRevisions", pb.ListObjectRevisionsRequest,
            object_rows.revisions_request, object_rows.revisions, large_response=True, paged=True),
    )
}  # fmt: skip

PREVIEW_UPDATE: Final = Rpc(
    "PreviewUpdate", pb.UpdateStreamRequest, _update(dry_run=True),
    _filled(pb.UpdateStreamResponse, _updated),
)  # fmt: skip

STREAMING: Final = ("Subscribe", "WatchStreams")

OBJECTS: Final = ("PutObject", "GetObject", "GetObjectRange", "PutObjectStream", "GetObjectStream")
"""Calls about whole payloads, or parts of them: more than one request to the node."""

LATER: Final[tuple[str, ...]] = tuple(
    method.name
    for method in pb.DESCRIPTOR.services_by_name["WaymakerStreamsService"].methods
    if method.name not in {*UNARY, *STREAMING, *OBJECTS}
)
"""Calls of the contract that this server does not offer."""


def judged(error: CodeError) -> bytes:
    """Return the response to a request that was judged before it reached the core."""
    return coded(error.code, error.message)

"""Calls of the sketches' service: one table row an RPC, from its message to the core's request and back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from google.protobuf.message import Message

from waymaker.server.grpc.metadata import Metadata
from waymaker.server.grpc.rpcs import Rpc, Serving, coded
from waymaker.storage.store import Bodies
from waymaker.wire.configs import sources
from waymaker.wire.infos import source_status_pb
from waymaker.wire.sketches import item_pb, parameters_pb, settings_text
from waymaker_core.api import sketch_requests as core
from waymaker_core.api.requests import CreateStream, DeleteStream
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.result_codes import (
    INVALID_CONFIG,
    NO_SUCH_BUCKET,
    NO_SUCH_STREAM,
    OK,
    Answer,
    CodeError,
    invalid,
)
from waymaker_core.sketches.answers import SketchAnswer
from waymaker_core.sketches.parameters import PREFIX
from waymaker_proto import sketches_pb2 as pk

_QUESTIONS: Final = {
    "contains": core.Question.CONTAINS,
    "distinct": core.Question.DISTINCT,
    "counts": core.Question.COUNTS,
    "top": core.Question.TOP,
    "quantiles": core.Question.QUANTILES,
    "ranks": core.Question.RANKS,
}


def _doubles(numbers: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


def _create(r: pk.CreateSketchRequest, metadata: Metadata, serving: Serving) -> CreateStream:
    try:
        text, copied = settings_text(r), sources(r.sources)
    except ValueError as problem:
        raise CodeError(INVALID_CONFIG, str(problem)) from problem
    config = StreamConfig(PREFIX + r.name, ephemeral=r.ephemeral, service_settings=text.encode(), sources=copied)
    return CreateStream(config)


def _query(r: pk.SketchQueryRequest, metadata: Metadata, serving: Serving) -> core.QuerySketch:
    name = r.WhichOneof("question")
    if name is None:
        raise invalid(f"the query has no question; it is one of {', '.join(_QUESTIONS)}")
    asked: Any = getattr(r, name)
    request = core.QuerySketch(PREFIX + r.name, _QUESTIONS[name])
    if name in {"contains", "counts"}:
        request.values = list(asked.values)
    elif name in {"quantiles", "ranks"}:
        request.numbers = _doubles(asked.numbers)
    elif name == "top":
        request.limit = asked.limit
    return request


def _filled(response: type[Message], fill: Callable[[Any, Any], None] | None = None) -> Callable[..., bytes]:
    def encode(answer: Answer, bodies: Bodies | None, serving: Serving) -> bytes:
        if answer.code == NO_SUCH_STREAM:
            text = answer.message.replace("no stream is called", "no sketch is called").replace(PREFIX, "")
            return coded(NO_SUCH_BUCKET, text)
        if answer.code != OK or fill is None:
            return coded(answer.code, answer.message)
        message: Any = response()
        message.success = True
        message.result_code = OK
        fill(answer.value, message)
        data: bytes = message.SerializeToString()
        return data

    return encode


def _answered(value: SketchAnswer, response: pk.SketchQueryResponse) -> None:
    numbers = struct.unpack(f"<{len(value.numbers) // 8}d", value.numbers)
    if value.question is core.Question.DISTINCT:
        response.distinct = numbers[0]
    else:
        response.numbers.extend(numbers)
    response.contained.extend(value.contained)
    response.counts.extend(value.counts)
    for each in value.top:
        response.top.add(value=each.value, count=each.times)


def _info(value: core.SketchInfo, response: pk.SketchInfoResponse) -> None:
    response.parameters.CopyFrom(parameters_pb(value.parameters))
    response.added = value.added
    response.memory_bytes = value.memory_bytes
    response.ephemeral = value.ephemeral
    response.item, response.token = item_pb(value.item)
    response.skipped = value.skipped
    response.sources_status.extend(map(source_status_pb, value.sources))


def _snapshot(value: bytes, response: pk.SketchSnapshotResponse) -> None:
    response.snapshot = value


SKETCH_RPCS: Final[dict[str, Rpc]] = {
    rpc.name: rpc
    for rpc in (
        Rpc("CreateSketch", pk.CreateSketchRequest, _create, _filled(pk.CreateSketchResponse)),
        Rpc("DeleteSketch", pk.DeleteSketchRequest,
            lambda r, m, s: DeleteStream(PREFIX + r.name), _filled(pk.DeleteSketchResponse)),
        Rpc("SketchAdd", pk.SketchAddRequest,
            lambda r, m, s: core.AddToSketch(PREFIX + r.name, list(r.values), _doubles(r.numbers)),
            _filled(pk.SketchAddResponse)),
        Rpc("SketchQuery", pk.SketchQueryRequest, _query,
            _filled(pk.SketchQueryResponse, _answered), large_response=True),
        Rpc("SketchMerge", pk.SketchMergeRequest,
            lambda r, m, s: core.MergeIntoSketch(PREFIX + r.name, r.snapshot), _filled(pk.SketchMergeResponse)),
        Rpc("SketchSnapshot", pk.SketchSnapshotRequest,
            lambda r, m, s: core.GetSketchSnapshot(PREFIX + r.name),
            _filled(pk.SketchSnapshotResponse, _snapshot), large_response=True),
        Rpc("SketchInfo", pk.SketchInfoRequest,
            lambda r, m, s: core.GetSketchInfo(PREFIX + r.name), _filled(pk.SketchInfoResponse, _info)),
    )
}  # fmt: skip

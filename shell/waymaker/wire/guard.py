"""A bound on what a parser builds: requests are counted before they are parsed.

A few bytes on the wire can become a hundred in memory: an empty nested message takes two bytes to send and an object to
hold, so that 16 MB of them cost a parser half a gigabyte. Two measures keep the factor small:

- `within` walks the fields of a message, and of the messages inside it, and gives up at a count that no honest request
  reaches; it allocates nothing. Small requests are not walked: whatever they become is small too.
- Frames of the pipeline honestly hold many things. Their items are counted, and in large ones the parts of their batches
  too; then they are parsed by `LazyFrame`: the same schema with deep messages left
  as bytes and the fields that only servers send left out. What is left as bytes is parsed one by one where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor

from waymaker_core.model.message_codec import read_varint
from waymaker_proto import pipeline_pb2, waymaker_streams_pb2

WALKED_BYTES_MIN: Final = 16 << 10
FIELDS_MAX: Final = 10_000
WALKED_FRAME_BYTES_MIN: Final = 2 << 20
FIELDS_A_MESSAGE_MAX: Final = 7
"""A message of a batch has a payload, and at most a subject, headers, and four entries in columns that need not be packed."""
PACKED_BYTES_A_MESSAGE_MAX: Final = 40
_DEPTH_MAX: Final = 16

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def within(data: bytes, descriptor: Any, fields_max: int = FIELDS_MAX) -> bool:
    """Return True if a message has at most this many fields, those of nested messages included.

    False also for what is no message at all and for groups, which the contract has none of.
    """
    return _walk(data, 0, len(data), descriptor.full_name, descriptor, fields_max, _DEPTH_MAX) >= 0


def _walk(data: bytes, at: int, end: int, name: str, descriptor: Any, left: int, depth: int) -> int:
    """Return the fields left after this message, or -1."""
    nested = _nested(name, descriptor)
    while at < end:
        left -= 1
        if left < 0 or not depth:
            return -1
        try:
            tag, at = read_varint(data, at)
            kind = tag & 7
            if kind == _LENGTH:
                length, at = read_varint(data, at)
                inner = nested.get(tag >> 3)
                if at + length > end:
                    return -1
                if inner is not None:
                    left = _walk(data, at, at + length, inner.full_name, inner, left, depth - 1)
                    if left < 0:
                        return -1
                at += length
            elif kind == _VARINT:
                _, at = read_varint(data, at)
            elif kind in {_FIXED64, _FIXED32}:
                at += 8 if kind == _FIXED64 else 4
            else:
                return -1
        except ValueError:
            return -1
    return left if at == end else -1


@cache
def _nested(name: str, descriptor: Any) -> dict[int, Any]:
    """Return the fields of a message that are messages."""
    return {
        field.number: field.message_type
        for field in descriptor.fields
        if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type is not None
    }


class _TooMuch(Exception):
    """More than a client may send at once."""


class _Budget:
    """The rest of a bound. `spend` raises `_TooMuch` once there is more."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise _TooMuch


def _count_parts(data: bytes, at: int, end: int, columns: frozenset[int], fields: _Budget, packed: _Budget) -> None:
    """Spend what stands at the top of a message. ValueError where it is none. Honest batches come by: no calls in the loop."""
    fields_left, packed_left = fields.left, packed.left
    size = len(data)
    while at < end and fields_left >= 0 and packed_left >= 0:
        fields_left -= 1
        tag = data[at]
        at += 1
        if tag > 127:
            tag, at = read_varint(data, at - 1)
        kind = tag & 7
        if kind == _LENGTH:
            length = data[at] if at < size else 128
            at += 1
            if length > 127:
                length, at = read_varint(data, at - 1)
            if tag >> 3 in columns:
                packed_left -= length
            at += length
        elif kind == _VARINT:
            _, at = read_varint(data, at)
        elif kind in {_FIXED64, _FIXED32}:
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("a group")
    fields.spend(fields.left - fields_left)
    packed.spend(packed.left - packed_left)
    if at > end:
        raise ValueError("a field runs past the end")


def _items(data: bytes, items: _Budget) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and length of the length-delimited fields of a frame. ValueError where it is none."""
    at, end = 0, len(data)
    while at < end:
        items.spend(1)
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == _LENGTH:
            length, at = read_varint(data, at)
            yield tag >> 3, at, length
            at += length
        elif kind == _VARINT:
            _, at = read_varint(data, at)
        elif kind in {_FIXED64, _FIXED32}:
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("a group")
    if at > end:
        raise ValueError("a field runs past the end")


def parse_frame(
    data: bytes, items_max: int, messages_max: int = 65_536, walked_bytes_min: int = WALKED_FRAME_BYTES_MIN
) -> Any:
    """Parse a client's frame as `LazyFrame`; None where it holds too much, ValueError where it is no frame.

    `messages_max`: messages, or sequences, in one frame. What is in the batches of a smaller frame is not counted here.
    """
    fields = _Budget(FIELDS_A_MESSAGE_MAX * messages_max)
    packed_bytes = _Budget(PACKED_BYTES_A_MESSAGE_MAX * messages_max)  # an entry takes at least one
    deep = len(data) > walked_bytes_min
    try:
        for number, at, length in _items(data, _Budget(items_max)):
            if number in _NUMBERS:
                packed_bytes.spend(length)
            elif deep and number in _COLUMNS and at + length <= len(data):
                _count_parts(data, at, at + length, _COLUMNS[number], fields, packed_bytes)
    except _TooMuch:
        return None
    return LazyFrame.FromString(data)


_NUMBERS: Final = frozenset(field.number for field in pipeline_pb2.Frame.DESCRIPTOR.fields if field.is_packed)
"""The columns of a frame itself."""
_COLUMNS: Final = {
    pipeline_pb2.Frame.DESCRIPTOR.fields_by_name[name].number: frozenset(
        column.number for column in batch.DESCRIPTOR.fields if column.is_packed
    )
    for name, batch in (
        ("publishes", pipeline_pb2.PublishBatch),
        ("acks", pipeline_pb2.AckBatch),
        ("credits", pipeline_pb2.Credit),
        ("key_batches", pipeline_pb2.KeyBatch),
    )
}
"""The packed columns of the batches, by the batch's field in a frame."""
_LEFT_AS_BYTES: Final = (("PublishBatch", "headers"), ("AckBatch", "ranges"), ("Credit", "handed_back"))
_FROM_CLIENTS: Final = (
    "hello", "calls", "publishes", "acks", "subscribes", "credits", "unsubscribes", "received", "cancels",
    "key_batches",
)  # fmt: skip


def _lazy_frame() -> Any:
    """Return the class of frames with the changes above, in a pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    for file in (waymaker_streams_pb2.DESCRIPTOR, pipeline_pb2.DESCRIPTOR):
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        messages = {message.name: message for message in proto.message_type}
        for name, field_name in _LEFT_AS_BYTES:
            for field in messages[name].field if name in messages else ():
                if field.name == field_name:
                    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
                    field.ClearField("type_name")
        if "Frame" in messages:
            frame = messages["Frame"]
            kept = [field for field in frame.field if field.name in _FROM_CLIENTS]
            for field in kept:
                field.ClearField("proto3_optional")
                field.ClearField("oneof_index")
            del frame.field[:]
            frame.field.extend(kept)
            del frame.oneof_decl[:]
        pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("waymaker.pipeline.Frame"))


LazyFrame: Final = _lazy_frame()

"""Requests made up from descriptors: mostly plausible, often odd, sometimes no messages at all.

They are written as bytes, field by field, so that everything a stranger can put on the wire occurs: wrong wire types, numbers
of enumerations that do not exist, several members of a oneof, unknown fields, text that is none. One `Random` decides
everything.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from waymaker_core.model.message_codec import varint

DEPTH_MAX: Final = 6
FIELDS_MAX: Final = 2_000
U64: Final = (1 << 64) - 1

STREAMS: Final = ("log", "jobs", "mem", "odd")
CONSUMERS: Final = ("c", "d")
BUCKETS: Final = ("o",)
NAMES: Final = (*STREAMS, *STREAMS, *CONSUMERS, *CONSUMERS, "new", "kv:k", "obj:o", "queue:q", "", ".", "..",
                "../x", "/etc/passwd", "a b", "a\0b", "a\nb", "é", "\u202e", "x" * 255, "x" * 256, "😀" * 64)  # fmt: skip
SUBJECTS: Final = ("a.b", "a.b", "a.c", "dead.letters", "a", ">", "*", "a.*", "a.>", "*.>", "", ".", "a.", ".a", "a..b", "a b",
                   "a\0b", "é.ß", "x" * 1024, "x" * 1025, ".".join("a" * 400), "*." * 300 + "*", ">.a", "a.b.>.c")  # fmt: skip
KEYS: Final = (
    "k",
    "k.l",
    "k/m.n=",
    "-_",
    "",
    "k..l",
    ".k",
    "k.",
    "k.*",
    ">",
    ".".join("k" * 600),
    "x-waymaker-dlq-stream",
    "waymaker-source-stream",
    "wmkv.ttl",
    "Waymaker-Source-x",
    "é",
    "\0",
    "k" * 5000,
)
NUMBERS: Final = (0, 0, 1, 1, 2, 3, 5, 10, 100, 1000, 65_536, 100_000, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 53,
                  (1 << 62) + 1, (1 << 63) - 1, 1 << 63, U64 - 1, U64)  # fmt: skip

_TEXTLIKE = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)
_FIXED64 = (FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64, FieldDescriptor.TYPE_DOUBLE)
_FIXED32 = (FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32, FieldDescriptor.TYPE_FLOAT)


class Values:
    """Draws requests. `wild` is the share of fields that are odd, drawn anew for each request."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._wild = 0.0
        self._left = 0
        """Fields that the request may still have; large ones count more."""

    def request(self, descriptor: Descriptor, only: frozenset[str] = frozenset()) -> bytes:
        """Draw the bytes of one request. `only`: the fields to choose from at its top, all of them if empty."""
        self._left = FIELDS_MAX
        draw = self._random.random()
        self._wild = 0.0 if draw < 0.4 else 0.05 if draw < 0.7 else 0.3
        if draw > 0.98:
            return self._random.randbytes(self._random.choice((1, 5, 40, 5_000)))
        data = self.message(descriptor, 0, only)
        if self._odd() and data:
            place = self._random.randrange(len(data))
            data = (
                data[:place] if self._random.random() < 0.5 else data[:place] + self._random.randbytes(2) + data[place:]
            )
        return data

    def message(self, descriptor: Descriptor, depth: int, only: frozenset[str] = frozenset()) -> bytes:
        """Draw a message's fields, each there or not."""
        parts: list[bytes] = []
        for field in descriptor.fields:
            if (only and field.name not in only) or self._random.random() < (0.15 if self._wild == 0 else 0.3):
                continue
            count = 1
            if field.is_repeated:
                count = self._random.choice((0, 1, 1, 2, 3, 5) if not self._odd() else (0, 80, FIELDS_MAX))
            elif self._odd():
                count = 2
            for _ in range(count):
                self._left -= 1
                if self._left < 0:
                    return b"".join(parts)
                parts.append(self.field(field, depth))
                self._left -= len(parts[-1]) >> 8
        if self._odd():
            self._random.shuffle(parts)
        if self._odd():
            parts.append(self._unknown())
        return b"".join(parts)

    def field(self, field: Any, depth: int) -> bytes:
        """Draw one field with its tag."""
        if self._odd():
            return varint(field.number << 3) + varint(self._number()) if self._odd() else self._unknown(field.number)
        tag = field.number << 3
        if field.type in _TEXTLIKE:
            raw = self._length_delimited(field, depth)
            return varint(tag | 2) + varint(len(raw)) + raw
        if field.type in _FIXED64:
            return varint(tag | 1) + (self._number() & U64).to_bytes(8, "little")
        if field.type in _FIXED32:
            return varint(tag | 5) + (self._number() & 0xFFFFFFFF).to_bytes(4, "little")
        return varint(tag) + varint(self._integer(field))

    def _length_delimited(self, field: Any, depth: int) -> bytes:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            return self.message(field.message_type, depth + 1) if depth < DEPTH_MAX else b""
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._random.randbytes(
                self._random.choice((0, 1, 5, 100, 3_000) if not self._odd() else (70_000, 1 << 20))
            )
        return self._text(field.name)

    def _text(self, name: str) -> bytes:
        if self._odd():
            return self._random.choice((b"\xff\xfe", b"\xed\xa0\x80", b"\x80", b"x" * 100_000, b"\0" * 50))
        if "subject" in name or "prefix" in name or "filter" in name:
            texts: tuple[str, ...] = SUBJECTS if self._wild else SUBJECTS[:4]
        elif name in {"key", "value"}:
            texts = KEYS if self._wild else KEYS[:3]
        elif name == "bucket":
            texts = (*BUCKETS, *NAMES) if self._wild else BUCKETS
        elif name == "consumer":
            texts = (*CONSUMERS, *NAMES) if self._wild else CONSUMERS
        else:
            texts = NAMES if self._wild else (*STREAMS, *CONSUMERS)
        return self._random.choice(texts).encode()

    def _integer(self, field: Any) -> int:
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self._random.choice((0, 1, 1, 2, U64)) if self._odd() else self._random.randrange(2)
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self._random.choice((99, U64, 1 << 31)) if self._odd() else self._random.randrange(5)
        if self._wild and self._random.random() < 0.5:
            return self._number() & U64
        if "seq" in field.name:
            return self._random.randrange(40)
        return self._random.choice((0, 1, 2, 5, 20, 1_000))

    def _number(self) -> int:
        return self._random.choice(NUMBERS)

    def _unknown(self, number: int = 0) -> bytes:
        number = number or self._random.choice((15, 99, 20_000, (1 << 29) - 1))
        match self._random.randrange(5):
            case 0:
                return varint(number << 3) + varint(self._number())
            case 1:
                return varint(number << 3 | 1) + bytes(8)
            case 2:
                return varint(number << 3 | 2) + b"\x03abc"
            case 3:
                return varint(number << 3 | 5) + bytes(4)
            case _:
                return varint(number << 3 | 3) + b"\x08\x01" + varint(number << 3 | 4)

    def _odd(self) -> bool:
        return self._wild > 0 and self._random.random() < self._wild

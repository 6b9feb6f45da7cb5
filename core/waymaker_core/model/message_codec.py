"""Stored bodies: a message as it lies on disk and leaves on the wire, without what only the log decides.

A stored body is the Protobuf encoding of the contract's message without sequence, time and delivery count: subject (field
2), headers (field 4) and payload (field 5), in this order. Delivery puts the sequence and the time before it and the count
behind it, and never looks inside. Everything a client sent is validated and encoded here, once.
"""

from __future__ import annotations

from collections.abc import Iterable

from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import invalid, resource_exhausted

SERVER_HEADER_PREFIXES = ("waymaker-source-", "wmkv.")
DEAD_LETTER_PREFIX = "x-waymaker-dlq-"

_SUBJECT_TAG = b"\x12"
_HEADER_TAG = b"\x22"
_PAYLOAD_TAG = b"\x2a"
_VARINT_1 = [bytes([n]) for n in range(128)]


def varint(value: int) -> bytes:
    """Encode a non-negative integer in Protobuf's base-128 encoding."""
    if value < 128:
        return _VARINT_1[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the integer at `at` and the offset behind it; ValueError where there is none."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("truncated or overlong varint")


def subject_field(subject: str) -> bytes:
    """Encode a subject as it begins every stored body."""
    raw = subject.encode()
    return _SUBJECT_TAG + varint(len(raw)) + raw


def header_field(key: str, value: str) -> bytes:
    """Encode one header as it stands in a stored body."""
    raw_key, raw_value = key.encode(), value.encode()
    entry = b"\x0a" + varint(len(raw_key)) + raw_key + b"\x12" + varint(len(raw_value)) + raw_value
    return _HEADER_TAG + varint(len(entry)) + entry


def payload_field(payload: bytes) -> bytes:
    """Encode a payload as it ends a stored body; nothing at all for an empty one."""
    return _PAYLOAD_TAG + varint(len(payload)) + payload if payload else b""


def plain_body(subject: str, payload: bytes) -> bytes:
    """Encode a stored body without headers. A large payload is copied once."""
    raw = subject.encode()
    if not payload:
        return b"".join((_SUBJECT_TAG, varint(len(raw)), raw))
    return b"".join((_SUBJECT_TAG, varint(len(raw)), raw, _PAYLOAD_TAG, varint(len(payload)), payload))


def plain_bodies(subjects: Iterable[str], payloads: Iterable[bytes]) -> list[bytes]:
    """Encode many stored bodies without headers, each as `plain_body` does."""
    heads: dict[int, bytes] = {}
    bodies: list[bytes] = []
    for subject, payload in zip(subjects, payloads, strict=True):
        if not payload:
            bodies.append(subject_field(subject))
            continue
        raw = subject.encode()
        size = len(payload)
        head = heads.get(size)
        if head is None:
            head = heads[size] = _PAYLOAD_TAG + varint(size)
        bodies.append(b"".join((_SUBJECT_TAG, varint(len(raw)), raw, head, payload)))
    return bodies


def encode_headers(headers: Iterable[tuple[str, str]], limits: Limits) -> tuple[bytes, int]:
    """Encode a client's headers: their fields and their size (keys and values).

    The server's own keys are refused, dead-letter keys are left out so that a dead letter can be published again as it is;
    both in any case of letters, because many readers of headers ignore case.
    """
    fields: list[bytes] = []
    size = 0
    for key, value in headers:
        name = key.lower()
        if name.startswith(SERVER_HEADER_PREFIXES):
            raise invalid(f"header {key[:80]!r} is set by the server only; remove it from the message")
        if name.startswith(DEAD_LETTER_PREFIX):
            continue
        if not key:
            raise invalid("a header needs a key")
        size += len(key.encode()) + len(value.encode())
        fields.append(header_field(key, value))
        if len(fields) > limits.headers_max:
            raise resource_exhausted(f"more than {limits.headers_max} headers")
    if size > limits.header_bytes_max:
        raise resource_exhausted(f"headers of {size} bytes; at most {limits.header_bytes_max} are allowed")
    return b"".join(fields), size


def encode_body(subject: str, headers: Iterable[tuple[str, str]], payload: bytes, limits: Limits) -> tuple[bytes, int]:
    """Encode a client's message: its stored body, and its size (payload, header keys and values)."""
    fields, size = encode_headers(headers, limits)
    return subject_field(subject) + fields + payload_field(payload), size + len(payload)


def readdress(body: bytes, subject: str, extra_headers: list[tuple[str, str]], drop_prefix: str = "") -> bytes:
    """Encode a stored body under another subject with headers added: what a dead letter or a sourced message is.

    The payload and the old headers are carried over byte for byte, headers whose keys begin with `drop_prefix` left out.
    """
    if body[:1] != _SUBJECT_TAG:
        raise ValueError("a stored body begins with its subject")
    length, at = read_varint(body, 1)
    rest = body[at + length :]
    if drop_prefix:
        rest = _without_headers(rest, drop_prefix)
    return b"".join([subject_field(subject), *(header_field(k, v) for k, v in extra_headers), rest])


def _without_headers(fields: bytes, prefix: str) -> bytes:
    """Return headers and payload without the headers whose keys begin so."""
    kept: list[bytes] = []
    at = 0
    while at < len(fields):
        length, start = read_varint(fields, at + 1)
        end = start + length
        if fields[at] != 0x22 or not _decode_header(fields[start:end])[0].startswith(prefix):
            kept.append(fields[at:end])
        at = end
    return b"".join(kept)


def decode_body(body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return subject, headers and payload of a stored body; ValueError where it is not one."""
    subject, headers, payload = "", [], b""
    at = 0
    while at < len(body):
        tag = body[at]
        length, start = read_varint(body, at + 1)
        at = start + length
        if at > len(body):
            raise ValueError("a field runs past the end")
        if tag == 0x12:
            subject = body[start:at].decode()
        elif tag == 0x22:
            headers.append(_decode_header(body[start:at]))
        elif tag == 0x2A:
            payload = body[start:at]
        else:
            raise ValueError(f"unknown field tag {tag:#x}")
    return subject, headers, payload


def payload_of(body: bytes) -> bytes:
    """Return the payload of a stored body that this node has encoded; nothing else of it is decoded."""
    at, end = 0, len(body)
    while at < end:
        length, start = read_varint(body, at + 1)
        if body[at] == 0x2A:
            return body[start : start + length]
        at = start + length
    return b""


def _decode_header(entry: bytes) -> tuple[str, str]:
    key = value = ""
    at = 0
    while at < len(entry):
        tag = entry[at]
        length, start = read_varint(entry, at + 1)
        at = start + length
        if at > len(entry):
            raise ValueError("a header runs past its end")
        if tag == 0x0A:
            key = entry[start:at].decode()
        elif tag == 0x12:
            value = entry[start:at].decode()
        else:
            raise ValueError(f"unknown header tag {tag:#x}")
    return key, value


def wire_message(seq: int, time_ms: int, body: bytes, deliver_count: int) -> bytes:
    """Encode a whole contract message from its stored body. `time_ms` is not negative."""
    parts = [b"\x08", varint(seq)]
    if time_ms:
        parts += [b"\x18", varint(time_ms)]
    parts.append(body)
    if deliver_count:
        parts += [b"\x30", varint(deliver_count)]
    return b"".join(parts)

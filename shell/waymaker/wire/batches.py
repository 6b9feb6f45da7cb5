"""Batches of the pipeline as the core's columns, from frames parsed by `guard`.

The hot path of publishing: one pass over a batch, no object a message. The bytes made here are those of
`message.encode_body`, message by message; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import add
from typing import Any

from google.protobuf.message import DecodeError

from waymaker_core.api.requests import Ack, AckKind, Producer, Publish
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_headers, payload_field, read_varint, subject_field, varint
from waymaker_core.model.result_codes import Refusal, RefusedError, invalid, resource_exhausted
from waymaker_proto import pipeline_pb2 as pipe

_HEADERS_SLACK_BYTES = 16 << 10
"""Bytes of the tags and lengths of headers, and of headers that are left out and do not count."""
_HEADERS_WALKED_MAX = 1 << 14
"""Fields looked at to find whose headers they are; no honest client has as many."""
_INDEX_TAG = pipe.HeadersAt.INDEX_FIELD_NUMBER << 3
_LENGTH = 2
_UINT32_MAX = (1 << 32) - 1
Malformed = dict[int, Refusal]
"""Messages that cannot be taken, by their index in the batch."""
_ACK_KINDS = {kind.value: kind for kind in AckKind}


class _Heads(dict[int, bytes]):
    """Everything that stands before a payload, by the payload's size."""

    def __init__(self, prefix: bytes) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, size: int) -> bytes:
        head = self[size] = self._prefix + b"\x2a" + varint(size) if size else self._prefix
        return head


def publish_request(
    batch: Any, limits: Limits, producer: tuple[int, int] | None = None
) -> tuple[Publish | None, Malformed]:
    """Return a batch of publishes without its malformed messages, and those by index. None: every message is malformed.

    `producer`: id and epoch of the session's producer.
    A message is malformed where its own call would be refused. Raises `RefusedError` where the columns do not fit together
    or the batch is over a limit.
    """
    count = len(batch.payloads)
    if not count:
        raise invalid("a publish batch without payloads")
    if count > limits.publish_batch_max:
        raise resource_exhausted(f"a publish batch of {count} messages; at most {limits.publish_batch_max} are allowed")
    payloads = list(batch.payloads)
    times_ms = _column(batch.ts_ms, count, "ts_ms")
    expected = _column(batch.expected_last_seq, count, "expected_last_seq")
    numbers = _numbers(batch.numbers, count, producer)
    table = list(batch.subjects)
    places = batch.subject_index
    if not table:
        raise invalid("a publish batch without subjects")
    if len(places) not in (0, count) or (places and max(places) >= len(table)):
        raise invalid("subject_index does not fit the batch")
    malformed: Malformed = {}
    _check_least(times_ms, 0, "ts_ms", malformed)
    _check_least(expected, -1, "expected_last_seq", malformed)
    sizes = list(map(len, payloads))
    # Only for subjects that occur: a table may name millions that do not.
    heads = {place: _Heads(subject_field(table[place])) for place in (set(places) or (0,))}
    if places:
        subjects = [table[place] for place in places]
        starts = [heads[place][size] for place, size in zip(places, sizes, strict=True)]
    else:
        subjects = table[:1] * count
        starts = list(map(heads[0].__getitem__, sizes))
    if batch.headers:
        _insert_headers(batch, limits, subjects, payloads, starts, sizes, malformed)
    if malformed:
        kept = [entry for entry in range(count) if entry not in malformed]
        if not kept:
            return None, malformed
        subjects, payloads, starts, sizes = (
            [subjects[entry] for entry in kept], [payloads[entry] for entry in kept], [starts[entry] for entry in kept],
            [sizes[entry] for entry in kept],
        )  # fmt: skip
        times_ms = times_ms and [times_ms[entry] for entry in kept]
        expected = expected and [expected[entry] for entry in kept]
        numbers = numbers and [numbers[entry] for entry in kept]
    lengths = list(map(add, map(len, starts), map(len, payloads)))
    body = b"".join(chain.from_iterable(zip(starts, payloads, strict=True)))
    request = Publish(batch.stream, subjects, sizes, lengths, body, times_ms, expected)
    if numbers is not None and producer is not None:
        request.producer = Producer(*producer, numbers, batch.resent)
    return request, malformed


def _numbers(values: Sequence[int], count: int, producer: tuple[int, int] | None) -> Sequence[int] | None:
    """Return a producer's number of each message; the core judges them. Raises `RefusedError`."""
    if not values:
        return None
    if producer is None:
        raise invalid("numbers in a session whose hello names no producer")
    return range(values[0], values[0] + count) if len(values) == 1 else _column(values, count, "numbers")


def _column(values: Sequence[int], count: int, name: str) -> list[int] | None:
    if not values:
        return None
    if len(values) != count:
        raise invalid(f"{name} has {len(values)} entries for {count} messages")
    return list(values)


def _check_least(values: list[int] | None, least: int, name: str, malformed: Malformed) -> None:
    """Note the messages whose entry in a column lies below the least that it may be."""
    if values is None or min(values) >= least:
        return
    for entry, value in enumerate(values):
        if value < least:
            malformed.setdefault(entry, invalid(f"{name} = {value}; the least is {least}").refusal)


def _insert_headers(
    batch: Any, limits: Limits, subjects: list[str], payloads: list[bytes], starts: list[bytes],
    sizes: list[int], malformed: Malformed,
) -> None:  # fmt: skip
    """Put headers between subjects and payloads, and note the messages whose headers cannot be taken."""
    seen: set[int] = set()
    for data in batch.headers:
        index = _index_of(data, limits)
        if index >= len(payloads) or index in seen:
            raise invalid(f"headers for message {index}, which is not in the batch or has some already")
        seen.add(index)
        try:
            entry = _headers_at(data, limits)
            fields, size = encode_headers(((h.key, h.value) for h in entry.headers), limits)
        except RefusedError as error:
            malformed.setdefault(index, error.refusal)
            continue
        payload = payloads[index]
        starts[index] = subject_field(subjects[index]) + fields + payload_field(payload)[: -len(payload) or None]
        sizes[index] += size


def _index_of(data: bytes, limits: Limits) -> int:
    """Return the index of the message that headers belong to, without parsing them. Raises `RefusedError`."""
    index = at = 0
    try:
        for _ in range(_HEADERS_WALKED_MAX):
            if at == len(data):
                return index
            tag, at = read_varint(data, at)
            value, at = read_varint(data, at)
            if tag == _INDEX_TAG:
                index = value & _UINT32_MAX
            elif tag & 7 == _LENGTH:
                at += value
            elif tag & 7 != 0 or at > len(data):
                raise ValueError("a field that headers do not have")
    except ValueError:
        raise invalid("headers that are not valid") from None
    raise resource_exhausted(f"more than {limits.headers_max} headers")


def _headers_at(data: bytes, limits: Limits) -> pipe.HeadersAt:
    """Parse one message's headers, and only if they can be within bounds."""
    if len(data) > limits.header_bytes_max + _HEADERS_SLACK_BYTES:
        raise resource_exhausted(f"headers of more than {limits.header_bytes_max} bytes")
    try:
        return pipe.HeadersAt.FromString(data)
    except DecodeError:
        raise invalid("headers that are not valid") from None


def spans(ranges: Iterable[bytes]) -> list[tuple[int, int]]:
    """Return ranges of sequences, first and last of each. Raises `RefusedError`."""
    found: list[tuple[int, int]] = []
    for data in ranges:
        try:
            span = pipe.SeqRange.FromString(data)
        except DecodeError:
            raise invalid("a range of sequences that is not valid") from None
        if span.last < span.first:
            raise invalid("a range of sequences that ends before it begins")
        found.append((span.first, span.last))
    return found


def ack_request(batch: Any, limits: Limits) -> Ack:
    """Return a batch of acknowledgements. Raises `RefusedError`."""
    kind = _ACK_KINDS.get(batch.kind)
    if kind is None:
        raise invalid(f"an acknowledgement of kind {int(batch.kind)}")
    count = len(batch.seqs) + len(batch.ranges)
    if count > limits.ack_batch_max:
        raise resource_exhausted(f"more than {limits.ack_batch_max} sequences in one acknowledgement")
    seqs = list(batch.seqs)
    count = len(seqs)
    for first, last in spans(batch.ranges):
        count += last - first + 1
        if count > limits.ack_batch_max:
            break
        seqs.extend(range(first, last + 1))
    if count > limits.ack_batch_max:
        raise resource_exhausted(f"more than {limits.ack_batch_max} sequences in one acknowledgement")
    if not seqs:
        raise invalid("an acknowledgement of nothing")
    return Ack(batch.stream, batch.consumer, kind, seqs, batch.delay_ms, batch.incarnation)

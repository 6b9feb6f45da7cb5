"""Frames of the pipeline towards the client, encoded by hand.

A frame is fragments, each a whole field of `Frame`, joined once. Bodies and columns go from where they lie to the frame
without becoming objects in between; fixed-width columns are memory as it is. A test parses all of it with the generated
code.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError

from waymaker.wire.guard import parse_frame
from waymaker.wire.protocol import FRAME_ITEMS_MAX
from waymaker.wire.statuses import refused
from waymaker_core.api.requests import Messages, Published
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import varint
from waymaker_core.model.result_codes import (
    OK,
    Answer,
    Refusal,
    invalid,
    resource_exhausted,
)
from waymaker_proto import pipeline_pb2 as pipe

assert sys.byteorder == "little", "columns are sent as they lie in memory"

_FIELDS: Final[Mapping[str, int]] = {f.name: f.number for f in pipe.Frame.DESCRIPTOR.fields}


def _tag(field: str) -> bytes:
    return varint(_FIELDS[field] << 3 | 2)


_RESULTS: Final = _tag("results")
_PUBLISHED: Final = _tag("published")
_ACKED: Final = _tag("acked")
_DELIVERIES: Final = _tag("deliveries")
_ENDED: Final = _tag("ended")
_KEYED: Final = _tag("keyed")
_OK_CODE: Final = b"\x2a\x02ok"
_ACKED_OK: Final = b"\x12\x02ok"


def _framed(tag: bytes, data: bytes) -> bytes:
    return b"".join((tag, varint(len(data)), data))


def welcome(message: pipe.Welcome) -> bytes:
    """Encode the first frame."""
    return pipe.Frame(welcome=message).SerializeToString()


def closing(reason: str) -> bytes:
    """Encode the announcement that the server stops."""
    return pipe.Frame(closing=pipe.Closing(reason=reason)).SerializeToString()


def call_result(
    call_id: int, response: bytes, next_after: str, incarnation: str = "", inactive_ms: Sequence[int] = ()
) -> bytes:
    """Encode the result of a call that ran."""
    data = [b"\x08", varint(call_id), b"\x12", varint(len(response)), response]
    for tag, text in ((b"\x22", next_after), (b"\x2a", incarnation)):
        if text:
            raw = text.encode()
            data += [tag, varint(len(raw)), raw]
    if any(inactive_ms):
        raw = b"".join(map(varint, inactive_ms))
        data += [b"\x32", varint(len(raw)), raw]
    return _framed(_RESULTS, b"".join(data))


def call_refused(call_id: int, refusal: Refusal) -> bytes:
    """Encode the refusal of a call."""
    return _framed(_RESULTS, pipe.CallResult(id=call_id, refused=refused(refusal)).SerializeToString())


def published(batch_id: int, answer: Answer | Refusal, malformed: Mapping[int, Refusal] | None = None) -> bytes:
    """Encode the outcome of a publish batch. `malformed`: its messages that never reached the core."""
    if isinstance(answer, Refusal):
        message = pipe.Published(id=batch_id, refused=refused(answer))
    elif answer.code != OK:
        message = pipe.Published(id=batch_id, result_code=answer.code, message=answer.message)
    else:
        value = answer.value
        assert isinstance(value, Published)
        if not value.failures and not malformed and value.seqs is None:
            head = b"\x08" + varint(batch_id) + b"\x10" + varint(value.first_seq)
            return _framed(_PUBLISHED, b"".join((head, b"\x18", varint(value.count), _OK_CODE)))
        message = pipe.Published(id=batch_id, first_seq=value.first_seq, count=value.count, result_code=OK)
        message.failures.extend(_failures(value, malformed or {}))
        message.stored.extend(pipe.SeqRange(first=first, last=last) for first, last in _ranges(value.seqs or ()))
    return _framed(_PUBLISHED, message.SerializeToString())


def _ranges(seqs: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last sequence of each stretch of consecutive ones."""
    begin = 0
    for place in range(1, len(seqs) + 1):
        if place == len(seqs) or seqs[place] != seqs[place - 1] + 1:
            yield seqs[begin], seqs[place - 1]
            begin = place


def _failures(value: Published, malformed: Mapping[int, Refusal]) -> list[pipe.PublishFailure]:
    """Return the messages that were not accepted, by their index in the client's batch."""
    failures = [
        pipe.PublishFailure(index=index, status=refusal.status.value, message=refusal.message)
        for index, refusal in malformed.items()
    ]
    before = sorted(malformed)
    passed = 0
    for index, (code, text, seq) in sorted((value.failures or {}).items()):
        # The core never saw the malformed ones: its indexes count without them.
        while passed < len(before) and before[passed] <= index + passed:
            passed += 1
        failures.append(pipe.PublishFailure(index=index + passed, result_code=code, message=text, seq=seq))
    return sorted(failures, key=lambda failure: failure.index)


def acked(batch_id: int, answer: Answer | Refusal) -> bytes:
    """Encode the outcome of a batch of acknowledgements."""
    if isinstance(answer, Refusal):
        message = pipe.Acked(id=batch_id, refused=refused(answer))
        return _framed(_ACKED, message.SerializeToString())
    if answer.code == OK:
        return _framed(_ACKED, b"\x08" + varint(batch_id) + _ACKED_OK)
    message = pipe.Acked(id=batch_id, result_code=answer.code, message=answer.message)
    return _framed(_ACKED, message.SerializeToString())


def keyed(result: pipe.KeyBatchResult) -> bytes:
    """Encode the answer to keys of a key batch."""
    return _framed(_KEYED, result.SerializeToString())


def keys_refused(batch_id: int, refusal: Refusal) -> bytes:
    """Encode the refusal of a key batch of which nothing was judged."""
    return keyed(pipe.KeyBatchResult(id=batch_id, refused=refused(refusal)))


def ended(subscription: int, reason: str, refusal: Refusal | None) -> bytes:
    """Encode the end of a subscription."""
    message = pipe.Ended(subscription=subscription, reason=reason)
    if refusal is not None:
        message.refused.CopyFrom(refused(refusal))
    return _framed(_ENDED, message.SerializeToString())


def delivery(subscription: int, messages: Messages, bodies: list[bytes]) -> bytes:
    """Encode messages for a subscription: columns and joined bodies."""
    parts: list[bytes] = [b"\x08", varint(subscription)]
    size = len(parts[1]) + 1
    for first_seq, deliver_count, times_ms, sizes, body in _consecutive(messages, bodies):
        head = b"\x08" + varint(first_seq)
        if deliver_count:
            head += b"\x10" + varint(deliver_count)
        times, lengths = _fixed(b"\x1a", times_ms, 8), _fixed(b"\x22", sizes, 4)
        body_head = b"\x2a" + varint(len(body))
        length = len(head) + len(times) + len(lengths) + len(body_head) + len(body)
        run_head = b"\x12" + varint(length)
        parts += (run_head, head, times, lengths, body_head, body)
        size += len(run_head) + length
    if messages.incarnation:
        word = messages.incarnation.encode()
        parts += (b"\x1a", varint(len(word)), word)
        size += 1 + len(parts[-2]) + len(word)
    if messages.ack_wait_ms:
        parts += (b"\x20", varint(messages.ack_wait_ms))
        size += 1 + len(parts[-1])
    return b"".join([_DELIVERIES, varint(size), *parts])


def _consecutive(messages: Messages, bodies: list[bytes]) -> Iterator[tuple[int, int, array[int], array[int], bytes]]:
    """Yield first sequence, count, times, lengths, and joined bodies of each stretch of consecutive sequences."""
    for run, body in zip(messages.runs, bodies, strict=True):
        if run.seqs is None:
            yield run.first_seq, run.deliver_count, run.times_ms, run.lengths, body
            continue
        at = 0
        for begin, end in run.stretches():
            lengths = run.lengths[begin:end]
            behind = at + sum(lengths)
            yield run.seqs[begin], run.deliver_count, run.times_ms[begin:end], lengths, body[at:behind]
            at = behind


def _fixed(tag: bytes, column: array[int], width: int) -> bytes:
    """Encode a packed fixed-width field: it is the array's own memory."""
    assert column.itemsize == width
    data = column.tobytes()
    return tag + varint(len(data)) + data


def parsed_frame(data: bytes, limits: Limits) -> Any:
    """Parse a client's frame. Raises `RefusedError`."""
    try:
        frame = parse_frame(data, FRAME_ITEMS_MAX, max(limits.publish_batch_max, limits.ack_batch_max))
    except (DecodeError, ValueError):
        raise invalid("a frame that is not valid") from None
    if frame is None:
        raise resource_exhausted(f"more than {FRAME_ITEMS_MAX} items in a frame, or batches of too many parts")
    return frame

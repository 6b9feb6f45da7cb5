"""Messages by reference plus their bodies, put into the shape in which they leave."""

from __future__ import annotations

from collections.abc import Iterator

from waymaker_core.api.requests import Messages
from waymaker_core.model.message_codec import decode_body, varint

_TIME_TAG = b"\x18"
_COUNT_TAG = b"\x30"


def wire_messages(messages: Messages, bodies: list[bytes]) -> list[bytes]:
    """Return each message as the contract's `MessagePb`, encoded, in order.

    The same encoding as `message.wire_message`, with what a run has in common computed once.
    """
    out: list[bytes] = []
    for run, data in zip(messages.runs, bodies, strict=True):
        count = _COUNT_TAG + varint(run.deliver_count) if run.deliver_count else b""
        at = 0
        last_time, time_field = 0, b""
        for seq, length, time_ms in zip(run.sequences(), run.lengths, run.times_ms, strict=True):
            if time_ms != last_time:
                last_time, time_field = time_ms, _TIME_TAG + varint(time_ms)
            end = at + length
            out.append(b"".join((b"\x08", varint(seq), time_field, data[at:end], count)))
            at = end
    return out


def payloads(messages: Messages, bodies: list[bytes]) -> Iterator[tuple[int, str, bytes]]:
    """Yield sequence, subject and payload of each message, in order."""
    for run, data in zip(messages.runs, bodies, strict=True):
        at = 0
        for seq, length in zip(run.sequences(), run.lengths, strict=True):
            subject, _, payload = decode_body(data[at : at + length])
            at += length
            yield seq, subject, payload

"""Records of messages that could not be copied, for the stream that a source names as its `dlq_stream`.

One JSON object a message: where it lies, why it was passed over, and its headers and payload where they are not too long.
Letters are numbered by the source's sequence, for a producer of their own, so that the stream stores each once however often
it is sent.
"""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import blake2b

from waymaker_core.api.requests import Producer, Publish
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import decode_body, encode_body
from waymaker_core.sources.copies import Failure, SourceMessages
from waymaker_core.sources.positions import Incarnation

PAYLOAD_MAX = 64 * 1024
"""Bytes of headers and payload that a letter carries; those of a longer message are left out."""


def letters(
    target: str, sourcing: tuple[str, int, int], source: tuple[str, Incarnation], messages: SourceMessages,
    failures: list[Failure], resent: bool, limits: Limits,
) -> Publish:  # fmt: skip
    """Return the publish of the letters of some messages. `sourcing`: the stream's name and id, and the source's place."""
    stream, stream_id, index = sourcing
    name, incarnation = source
    subject = f"dlq.{stream}.{name}"
    sizes: list[int] = []
    bodies: list[bytes] = []
    for failure in failures:
        text = json.dumps(_letter(stream, name, incarnation, messages, failure), ensure_ascii=False)
        body, size = encode_body(subject, (), text.encode(), limits)
        sizes.append(size)
        bodies.append(body)
    numbers = [messages.seqs[failure.place] for failure in failures]
    return Publish(
        target, [subject] * len(bodies), sizes, list(map(len, bodies)), b"".join(bodies),
        producer=Producer(_producer_id(stream_id, index, incarnation), 0, numbers, resent),
    )  # fmt: skip


def _letter(
    stream: str, source: str, incarnation: Incarnation, messages: SourceMessages, failure: Failure
) -> dict[str, object]:
    place = failure.place
    body = messages.bodies[place]
    letter: dict[str, object] = {
        "sourcing_stream": stream,
        "source_stream": source,
        "source_stream_id": incarnation.stream_id,
        "seq": messages.seqs[place],
        "subject": messages.subjects[place],
        "ts_ms": messages.times_ms[place],
        "error": failure.reason,
    }
    if len(body) <= PAYLOAD_MAX:
        _, headers, payload = decode_body(body)
        letter |= {"headers": headers, "payload_base64": b64encode(payload).decode()}
    else:
        letter["left_out"] = f"headers and payload, {len(body)} bytes"
    return letter


def _producer_id(stream_id: int, index: int, incarnation: Incarnation) -> int:
    """Return the producer of one source's letters: numbers of different incarnations must never mean each other."""
    text = f"{stream_id}/{index}/{incarnation.stream_id}/{incarnation.created_ms}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") | 1

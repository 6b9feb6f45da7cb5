"""Messages as JSON lines: what the standard library would write, to the byte, and what reads back."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from waymaker.cli import output
from waymaker.client.consumer.delivery import Message
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
PAYLOADS = st.one_of(st.binary(max_size=40), TEXT.map(str.encode))
KEYS = st.sampled_from(["a", "b", "Ünï", 'q"\\', "\x7f\u2028"])


@given(
    st.lists(st.tuples(TEXT, PAYLOADS, st.lists(st.tuples(KEYS, TEXT), max_size=4), st.integers(0, 3)), max_size=5),
    st.integers(0, (1 << 63) - 1),
)
def test_json_lines_are_the_standard_librarys(
    described: list[tuple[str, bytes, list[tuple[str, str]], int]], number: int
) -> None:
    messages = [
        Message(number, number, count, encode_body(subject, headers, payload, Limits())[0], None)
        for subject, payload, headers, count in described
    ]
    lines = output.message_lines(messages, "json")
    wanted = b"".join(output.to_json(output.message_object(message)).encode() + b"\n" for message in messages)
    assert lines == wanted
    for line, (subject, payload, headers, _) in zip(lines.splitlines(), described, strict=True):
        told = json.loads(line)
        assert told["subject"] == subject
        assert dict(told.get("headers", {})) == dict(headers)
        assert ("payload" in told and told["payload"].encode() == payload) or "payload_base64" in told

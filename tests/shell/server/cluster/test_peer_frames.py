"""Frames between members, and the hello: what is sent arrives, and what is none is refused before it takes memory."""

from __future__ import annotations

import itertools

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker.server.peers.frames import HEADER_BYTES, LARGEST, FrameError, FrameReader, Kind, frame, header
from waymaker.server.peers.hello import (
    PROTOCOL,
    VERSION,
    Hello,
    HelloError,
    cluster_identity,
    decode_hello,
    encode_hello,
    mismatch,
)
from waymaker_core.cluster.effects import Lane

CLUSTER = cluster_identity("a", [1, 2, 3])
HELLO = Hello(CLUSTER, 1, 2, Lane.LIVE, bytes(16), "127.0.0.1:7411", "127.0.0.1:7412")
BACK = HELLO._replace(node_id=2, to=1)

Frames = list[tuple[Kind, bytes]]


def read(pieces: list[bytes]) -> Frames:
    found: Frames = []
    reader = FrameReader(lambda kind: True)
    for piece in pieces:
        reader.feed(piece, lambda kind, data: found.append((kind, data)))
    return found


@given(st.lists(st.binary(max_size=300), max_size=6), st.data())
def test_frames_arrive_however_their_bytes_are_cut(messages: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(frame(Kind.MESSAGE, each) for each in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    ends = [0, *cuts, len(sent)]
    pieces = [sent[begin:end] for begin, end in itertools.pairwise(ends)]
    assert read(pieces) == [(Kind.MESSAGE, each) for each in messages]


@given(st.binary(min_size=1, max_size=100), st.data())
def test_a_frame_with_any_changed_bit_is_refused_or_waits(message: bytes, data: st.DataObject) -> None:
    sent = bytearray(frame(Kind.MESSAGE, message))
    at = data.draw(st.integers(0, 8 * len(sent) - 1))
    sent[at // 8] ^= 1 << at % 8
    try:
        found = read([bytes(sent)])
    except FrameError:
        return
    assert found == []  # a greater length: the rest is waited for


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waits_and_never_read(garbage: bytes) -> None:
    try:
        found = read([garbage])
    except FrameError:
        return
    assert found == []


@pytest.mark.parametrize("kind", Kind)
def test_a_frame_that_is_too_long_is_refused_by_its_header(kind: Kind) -> None:
    claimed = (LARGEST[kind] + 1).to_bytes(4, "little") + header(kind, b"")[4:]
    assert len(claimed) == HEADER_BYTES
    with pytest.raises(FrameError, match="at most"):
        read([claimed])


def test_half_a_header_is_no_frame_yet() -> None:
    assert read([frame(Kind.KEEPALIVE)[:-1]]) == []
    assert read([frame(Kind.KEEPALIVE)]) == [(Kind.KEEPALIVE, b"")]


def test_a_kind_that_may_not_come_now_is_refused() -> None:
    reader = FrameReader(lambda kind: kind is Kind.HELLO)
    with pytest.raises(FrameError, match="MESSAGE where none belongs"):
        reader.feed(frame(Kind.MESSAGE, b"x"), lambda kind, data: None)
    with pytest.raises(FrameError, match="kind 9"):
        FrameReader(lambda kind: True).feed(b"\0" * 8 + b"\x09", lambda kind, data: None)


def test_a_hello_arrives_as_it_was_said() -> None:
    assert decode_hello(encode_hello(HELLO)) == HELLO


@given(st.binary(max_size=60) | st.recursive(st.integers() | st.text(max_size=5), st.lists).map(cbor2.dumps))
def test_what_is_no_hello_is_refused(data: bytes) -> None:
    with pytest.raises(HelloError, match="another protocol"):
        decode_hello(data)


FIELDS = [CLUSTER, 1, 2, 1, bytes(16), "a:1", ""]


@pytest.mark.parametrize(
    "fields",
    [
        FIELDS[:-1], [*FIELDS, 1], [b"x", *FIELDS[1:]], [CLUSTER, 0, *FIELDS[2:]], [*FIELDS[:3], 3, *FIELDS[4:]],
        [*FIELDS[:4], b"", *FIELDS[5:]], [*FIELDS[:5], "a" * 301, ""], [*FIELDS[:6], 7],
    ],
)  # fmt: skip
def test_a_hello_with_a_wrong_field_is_refused(fields: list[object]) -> None:
    with pytest.raises(HelloError, match="cannot be read"):
        decode_hello(cbor2.dumps([PROTOCOL, VERSION, *fields]))


def test_another_version_is_refused_by_its_number_whatever_follows() -> None:
    with pytest.raises(HelloError, match="version 2"):
        decode_hello(cbor2.dumps([PROTOCOL, 2, "anything"]))


def test_two_hellos_match_only_where_cluster_and_members_do() -> None:
    own = BACK._replace(to=0)
    assert mismatch(own, HELLO) == mismatch(BACK, HELLO) == ""
    assert "another cluster" in mismatch(own, HELLO._replace(cluster=cluster_identity("b", [1, 2, 3])))
    assert "another cluster" in mismatch(own, HELLO._replace(cluster=cluster_identity("a", [1, 2])))
    assert "member 2, too" in mismatch(own, HELLO._replace(node_id=2))
    assert "looks for member 3" in mismatch(own, HELLO._replace(to=3))
    assert "member 3, and member 1 was" in mismatch(BACK, HELLO._replace(node_id=3))


def test_the_order_of_members_does_not_matter_to_the_identity_of_a_cluster() -> None:
    assert cluster_identity("a", [3, 1, 2]) == CLUSTER

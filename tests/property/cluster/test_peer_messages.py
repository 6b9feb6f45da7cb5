"""Messages between members as bytes: whole or not at all."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.api.inputs import SentRecord
from waymaker_core.cluster.peer_messages import (
    FRAME_BYTES_MAX,
    Announcement,
    Beat,
    ClaimWanted,
    EndAsked,
    EndKnown,
    MoveReady,
    MoveWanted,
    OfGroup,
    OfReplica,
    OpenWanted,
    PeerMessage,
    PlaceWanted,
    decode_frame,
    frames_of,
)
from waymaker_core.model.records import EpochRecord
from waymaker_core.raft.message_codec import CorruptMessage
from waymaker_core.raft.messages import AppendResponse, VoteRequest
from waymaker_core.replication.conf import Seat
from waymaker_core.replication.messages import (
    Acked,
    Append,
    Donation,
    Fence,
    Heard,
    Lacking,
    Mismatch,
    Promised,
    Refused,
    Want,
)
from waymaker_core.replication.messages import Message as ReplicaMessage

numbers = st.integers(0, 2**64 - 1)
seats = st.builds(Seat, numbers, numbers)
starts = st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple)
plain_kinds = numbers.filter(lambda kind: kind != EpochRecord.KIND)
records = st.lists(
    st.builds(SentRecord, plain_kinds, numbers, st.binary(max_size=9), st.binary(max_size=9)), max_size=3
).map(tuple)
of_replica = st.one_of(
    st.builds(Fence, numbers),
    st.builds(Promised, numbers, seats, numbers, numbers, numbers, starts),
    st.builds(Want, numbers, numbers),
    st.builds(Donation, numbers, seats, numbers, numbers, numbers, numbers, records),
    st.builds(Append, numbers, numbers, numbers, numbers, records, numbers, numbers),
    st.builds(Acked, numbers, seats, numbers, numbers, numbers),
    st.builds(Heard, numbers, seats, numbers, numbers, numbers),
    st.builds(Mismatch, numbers, seats, numbers, starts, numbers),
    st.builds(Refused, numbers),
    st.builds(Lacking, numbers),
)
messages = st.one_of(
    st.builds(Beat, numbers, numbers, numbers, numbers, numbers),
    st.builds(MoveWanted, numbers, numbers, numbers),
    st.builds(MoveReady, numbers, numbers, numbers),
    st.builds(ClaimWanted, numbers, numbers, numbers),
    st.builds(OpenWanted, numbers, numbers),
    st.builds(PlaceWanted, numbers, numbers, numbers),
    st.builds(OfReplica, numbers, of_replica),
    st.builds(EndAsked, numbers),
    st.builds(EndKnown, numbers, numbers),
    st.builds(Announcement, numbers, numbers, st.lists(numbers, max_size=3).map(tuple)),
    st.builds(OfGroup, numbers, st.booleans(), st.just(VoteRequest(1, 2, 3, 4, 2))),
    st.builds(OfGroup, numbers, st.booleans(), st.just(AppendResponse(1, 2, 3, 4, 2, 1))),
)


def in_order(sent: list[PeerMessage]) -> dict[type[object], list[PeerMessage]]:
    """Return messages by kind, in order within each. A heartbeat says as much as several, and so does the last announcement."""
    found: dict[type[object], list[PeerMessage]] = {}
    for each in sent:
        kind: type[object] = type(each.message) if isinstance(each, OfReplica) else type(each)
        if kind in (Beat, Announcement):
            found[kind] = [each]
        else:
            found.setdefault(kind, []).append(each)
    return found


def groups_of(frame: bytes) -> list[list[object]]:
    """Return the groups of a frame, as they are encoded."""
    found = cbor2.loads(frame[4 : 4 + int.from_bytes(frame[:4], "little")])
    assert isinstance(found, list) and found[0] == 1
    return found[1:]


def packed(value: object, bodies: bytes = b"") -> bytes:
    """Return a frame of any value."""
    head = cbor2.dumps(value)
    return len(head).to_bytes(4, "little") + head + bodies


def decoded(frames: list[bytes]) -> list[PeerMessage]:
    return [message for frame in frames for message in decode_frame(frame)]


@given(st.lists(messages, min_size=1, max_size=12))
def test_messages_come_back_in_one_frame_in_the_order_of_their_kind(sent: list[PeerMessage]) -> None:
    (frame,) = frames_of(sent)
    assert in_order(decode_frame(frame)) == in_order(sent)


@given(messages)
def test_a_single_message_has_the_bytes_that_it_has_among_others(message: PeerMessage) -> None:
    (alone,) = frames_of([message])
    assert decode_frame(alone) == [message]
    if isinstance(message, Beat):
        return
    other = OfReplica(1, Refused(7)) if not isinstance(message, OfReplica) else OpenWanted(1, 2)
    assert groups_of(alone)[0] in groups_of(next(frames_of([message, other])))


def test_many_records_leave_in_several_frames_none_of_which_is_lost() -> None:
    record = SentRecord(1, 1, b"m" * 10, b"b" * 300_000)
    sent: list[PeerMessage] = [OfReplica(each, Append(1, 2, 3, 1, (record,), 2, 0)) for each in range(20)]
    frames = list(frames_of(sent))
    assert decoded(frames) == sent
    assert len(frames) == 7 and max(map(len, frames)) < FRAME_BYTES_MAX + 10_000
    huge = SentRecord(1, 1, b"", bytes(FRAME_BYTES_MAX + 1))
    assert len(list(frames_of([OfReplica(1, Append(1, 2, 3, 1, (huge,), 2, 0))] * 3))) == 3


def test_a_frame_of_a_thousand_streams_is_small() -> None:
    sent: list[PeerMessage] = [OfReplica(each, Acked(9, Seat(2, 7), each % 7, 0, 0)) for each in range(1_000)]
    (frame,) = frames_of(sent)
    assert decode_frame(frame) == sent
    assert len(frame) < 5_000


@given(st.lists(messages, min_size=1, max_size=4), st.data())
def test_bytes_that_are_changed_or_cut_are_messages_or_refused(sent: list[PeerMessage], data: st.DataObject) -> None:
    raw = bytearray(next(frames_of(sent)))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    for changed in (bytes(raw), bytes(raw[:at])):
        try:
            found = decode_frame(changed)
        except CorruptMessage:
            continue
        assert in_order(decoded(list(frames_of(found)))) == in_order(found)


@given(st.binary(max_size=40))
def test_any_bytes_raise_one_kind_of_error(raw: bytes) -> None:
    try:
        decode_frame(raw)
    except CorruptMessage:
        pass


FENCE, PROMISED, WANT, LACKING, ACKED, APPEND = 5, 6, 7, 8, 10, 13


@pytest.mark.parametrize(
    "value",
    [
        [7, [1]], [1], [1, 1], [1, []], [1, [1, 7]], [1, [True]], [True, [1]], [1, [99, [1], 1]], [1, [WANT, [1]]],
        [1, [WANT, [1], 1]], [1, [WANT, [1], 1, 2, 3]], [1, [WANT, [], 1, 2]], [1, [WANT, 1, 1, 2]], {"a": 1}, 7,
        [1, [WANT, [1, 2], [1], 2]], [1, [WANT, [1, 2], [1, -1], 2]], [1, [WANT, [True], 1, 2]],
        [1, [LACKING, [1], 2**64]], [1, [LACKING, [2**64], 1]], [1, [3, [1], 1]], [1, [4, [1]]], [1, [2, [b"nothing"]]],
        [1, [2, [7], 0]], [1, [2, [], 0]], [1, [ACKED, [1], 1, [1], 1, 1, 1]], [1, [ACKED, [1], 1, 1, 1, 1]],
        [1, [PROMISED, [1], 1, 1, 1, 1, 1, 1, [[[1]]]]], [1, [PROMISED, [1], 1, 1, 1, 1, 1, 1, []]],
        [1, [PROMISED, [1], 1, 1, 1, 1, 1, 1, 0]],
        [1, [APPEND, [1], 5, 1, 0, 0, [[[EpochRecord.KIND, 1, b"", 0]]], 0, 0]], [1, [APPEND, [1], 5, 1, 0, 0, [[7]], 0, 0]],
        [1, [1], [LACKING, [1], "x"]],
    ],
)  # fmt: skip
def test_nonsense_is_refused(value: object) -> None:
    with pytest.raises(CorruptMessage):
        decode_frame(packed(value))


def test_what_is_refused_above_is_so_for_one_reason_each() -> None:
    kinds: dict[int, ReplicaMessage] = {
        FENCE: Fence(1),
        WANT: Want(1, 2),
        LACKING: Lacking(1),
        ACKED: Acked(1, Seat(1, 1), 1, 1, 1),
    }
    for code, message in kinds.items():
        assert groups_of(next(frames_of([OfReplica(1, message)])))[0][0] == code
    promised = [1, [PROMISED, [1], 1, 1, 1, 1, 1, 1, [[[1, 2]]]]]
    assert decode_frame(packed(promised)) == [OfReplica(1, Promised(1, Seat(1, 1), 1, 1, 1, ((1, 2),)))]
    append = [1, [APPEND, [1], 5, 1, 0, 0, [[[1, 1, b"ab", 3]]], 0, 0]]
    (found,) = decode_frame(packed(append, b"xyz"))
    assert found == OfReplica(1, Append(5, 1, 0, 0, (SentRecord(1, 1, b"ab", b"xyz"),), 0, 0))
    for bodies in (b"", b"xy", b"xyzz"):
        with pytest.raises(CorruptMessage):
            decode_frame(packed(append, bodies))

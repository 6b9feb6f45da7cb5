"""Messages between members as bytes: whole or not at all."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.api.inputs import SentRecord
from waymaker_core.cluster.peer_messages import (
    Beat,
    ClaimWanted,
    MoveReady,
    MoveWanted,
    OfReplica,
    OpenWanted,
    PeerMessage,
    decode,
    encode,
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
    st.builds(OfReplica, numbers, of_replica),
    st.just(VoteRequest(1, 2, 3, 4, 2)),
    st.just(AppendResponse(1, 2, 3, 4, 2, 1)),
)


@given(messages)
def test_a_message_comes_back_as_it_was(message: PeerMessage) -> None:
    assert decode(encode(message)) == message


@given(messages, st.data())
def test_bytes_that_are_changed_or_cut_are_a_message_or_refused(message: PeerMessage, data: st.DataObject) -> None:
    raw = bytearray(encode(message))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    for changed in (bytes(raw), bytes(raw[:at])):
        try:
            found = decode(changed)
        except CorruptMessage:
            continue
        assert decode(encode(found)) == found


@given(st.binary(max_size=40))
def test_any_bytes_raise_one_kind_of_error(raw: bytes) -> None:
    try:
        decode(raw)
    except CorruptMessage:
        pass


@pytest.mark.parametrize(
    "value",
    [
        [2, 1], [1], [1, 1, 7], [1, True], [1, 9, 1], [1, 5, 1, 1], [1, 5, 1, 99, 1], [1, 5, 1, 3, 1, 2, 3], {"a": 1},
        7, [1, 5, 1, 9, 2**64], [1, 2, 1, 1], [1, 4, b"nothing"], [1, 5, 1, 6, 1, [1], 1, 1, 1], [1, 5, 1, 6, 1, 1, 1, 1, 1],
        [1, 5, 1, 5, 1, 0, 0, 0, [[EpochRecord.KIND, 1, b"", b""]], 0, 0],
    ],
)  # fmt: skip
def test_nonsense_is_refused(value: object) -> None:
    with pytest.raises(CorruptMessage):
        decode(cbor2.dumps(value))

"""Messages of the consensus group: bytes and back, and nothing that arrives raises or leads a member astray."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.raft import message_codec
from waymaker_core.raft.effects import Apply
from waymaker_core.raft.entries import Durable, Entry, EntryKind, HardState, SnapshotMeta
from waymaker_core.raft.inputs import (
    Applied,
    DiskRecovered,
    DiskStalled,
    Input,
    Propose,
    ProposeChange,
    Read,
    Received,
    Saved,
    SnapshotLost,
    SnapshotTaken,
    Transfer,
)
from waymaker_core.raft.members import Change, ChangeKind, Members, encode_members
from waymaker_core.raft.message_codec import CorruptMessage
from waymaker_core.raft.messages import (
    AppendRefused,
    AppendRequest,
    AppendResponse,
    Message,
    SnapshotRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from waymaker_core.raft.raft import Raft
from waymaker_core.raft.settings import RaftSettings
from waymaker_core.raft.validity import NUMBER_MAX, CorruptState, is_plausible

GROUP = 3
nodes = st.integers(1, 4)
terms = st.integers(1, 4)
indexes = st.integers(0, 9)
sets = st.sampled_from([Members((1, 2, 3)), Members((1,), (2, 3)), Members((2, 3))])
entries = st.one_of(
    st.builds(Entry, terms, st.just(EntryKind.DATA), st.binary(max_size=4)),
    st.builds(Entry, terms, st.just(EntryKind.NOOP)),
    st.builds(Entry, terms, st.just(EntryKind.MEMBERS), sets.map(encode_members)),
)
logs = st.lists(entries, max_size=5).map(lambda found: tuple(sorted(found, key=lambda entry: entry.term)))
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(VoteRequest, nodes, nodes, terms, indexes, indexes, st.booleans(), st.booleans()),
    st.builds(VoteResponse, nodes, nodes, terms, st.booleans(), st.booleans()),
    st.builds(AppendRequest, nodes, nodes, terms, indexes, indexes, logs, indexes, indexes),
    st.builds(AppendResponse, nodes, nodes, terms, indexes, indexes, indexes),
    st.builds(AppendRefused, nodes, nodes, terms, indexes, indexes, indexes, indexes),
    st.builds(SnapshotRequest, nodes, nodes, terms, st.builds(SnapshotMeta, indexes, terms, sets), indexes),
    st.builds(TimeoutNow, nodes, nodes, terms),
)
inputs: st.SearchStrategy[Input] = st.one_of(
    messages.map(Received),
    messages.map(Received),
    st.builds(Saved, st.integers(0, 20)),
    st.builds(Propose, st.just(1), st.binary(max_size=3)),
    st.builds(ProposeChange, st.just(2), st.builds(Change, st.sampled_from(ChangeKind), nodes)),
    st.builds(Read, st.just(3)),
    st.builds(Transfer, st.just(4), st.integers(0, 4)),
    st.builds(Applied, indexes),
    st.builds(SnapshotTaken, indexes),
    st.builds(SnapshotLost, nodes),
    st.just(DiskStalled()),
    st.just(DiskRecovered()),
)


@given(messages.filter(is_plausible))
def test_a_message_survives_its_bytes(message: Message) -> None:
    assert message_codec.decode(GROUP, message_codec.encode(GROUP, message)) == message


@given(messages.filter(lambda message: not is_plausible(message)))
def test_what_no_member_sends_is_refused(message: Message) -> None:
    with pytest.raises(CorruptMessage):
        message_codec.decode(GROUP, message_codec.encode(GROUP, message))


@given(st.binary(max_size=40))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptMessage):
        message_codec.decode(GROUP, data)


@given(messages.filter(is_plausible), st.data())
def test_damaged_bytes_are_refused_or_mean_what_they_say(message: Message, data: st.DataObject) -> None:
    raw = bytearray(message_codec.encode(GROUP, message))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = message_codec.decode(GROUP, bytes(raw))
    except CorruptMessage:
        return
    assert is_plausible(decoded)
    assert message_codec.encode(GROUP, decoded) == bytes(raw)


def test_a_message_of_another_group_or_version_says_so() -> None:
    message = TimeoutNow(1, 2, 3)
    with pytest.raises(CorruptMessage, match="of group 4, not of 3"):
        message_codec.decode(GROUP, message_codec.encode(4, message))
    raw = bytearray(message_codec.encode(GROUP, message))
    raw[1] = 2
    with pytest.raises(CorruptMessage, match="version 2; this program knows version 1"):
        message_codec.decode(GROUP, bytes(raw))


def member() -> Raft:
    first = SnapshotMeta(1, 0, Members((1, 2, 3)))
    settings = RaftSettings(snapshot_after_entries=3, writes_max=8, reads_max=3, held_max=4)
    return Raft(1, settings, 7, 0, Durable(HardState(), first))


@given(st.lists(st.tuples(st.integers(0, 300), inputs), max_size=60))
def test_no_sequence_of_inputs_raises_or_takes_back_what_is_committed(found: list[tuple[int, Input]]) -> None:
    """Any messages at all, even such as a group never sends: what was handed out to apply is never handed out otherwise."""
    raft = member()
    now, commit, term, applied = 0, 1, 0, 1
    for ms, each in found:
        now += ms
        for effect in raft.step(now, [each]):
            if isinstance(effect, Apply):
                assert effect.first > applied
                applied = effect.first + len(effect.entries) - 1
        assert raft.commit >= commit and raft.term >= term
        commit, term = raft.commit, raft.term
        assert applied <= commit <= raft.last_index
        load = raft.load()
        assert load.held <= 4 and load.reads <= 3


def test_a_message_for_another_member_or_with_a_term_without_end_is_counted_and_dropped() -> None:
    raft = member()
    strange: list[Message] = [
        TimeoutNow(2, 3, 1),
        TimeoutNow(1, 1, 1),
        VoteRequest(2, 1, NUMBER_MAX, 0, 0),
        AppendRequest(2, 1, 1, 5, 3, (), 0, 0),
        AppendRequest(2, 1, 2, 1, 0, (Entry(2, 0), Entry(1, 0)), 0, 0),
        AppendRequest(2, 1, 2, 1, 0, (Entry(2, 9),), 0, 0),
        AppendRequest(2, 1, 2, 1, 0, (Entry(2, EntryKind.MEMBERS, b"x"),), 0, 0),
        SnapshotRequest(2, 1, 2, SnapshotMeta(5, 1, Members()), 0),
    ]
    assert raft.step(0, [Received(message) for message in strange]) == []
    assert raft.contradictions == len(strange)
    assert raft.term == 0


@pytest.mark.parametrize(
    "durable",
    [
        Durable(HardState(-1, 0)),
        Durable(HardState(1, 0), SnapshotMeta(0, 0, Members((1,)))),
        Durable(HardState(1, 0), SnapshotMeta(), (Entry(2, 0),)),
        Durable(HardState(1, 0), SnapshotMeta(1, 0, Members((1,))), (Entry(2, 0),)),
        Durable(HardState(2, 0), SnapshotMeta(1, 0, Members((1,))), (Entry(2, 0), Entry(1, 0))),
    ],
    ids=["term", "no index", "term without a snapshot", "term of an entry", "terms fall"],
)
def test_a_disk_that_no_member_has_written_is_refused(durable: Durable) -> None:
    with pytest.raises(CorruptState):
        Raft(1, RaftSettings(), 0, 0, durable)

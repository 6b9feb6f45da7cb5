"""The parts of the consensus group against small, obvious models: the log, the sets of members, windows, random numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.raft.effects import Role, Send
from waymaker_core.raft.entries import Durable, Entry, EntryKind, HardState, SnapshotMeta, size_of
from waymaker_core.raft.inputs import Propose, Received, Saved
from waymaker_core.raft.log import UNKNOWN, RaftLog
from waymaker_core.raft.members import (
    MEMBERS_MAX,
    VOTERS_MAX,
    Change,
    ChangeKind,
    Members,
    changed,
    decode_members,
    encode_members,
)
from waymaker_core.raft.messages import AppendRequest, AppendResponse, VoteResponse
from waymaker_core.raft.raft import Raft
from waymaker_core.raft.random_source import RandomSource
from waymaker_core.raft.settings import RaftSettings

FIRST = SnapshotMeta(1, 0, Members((1, 2, 3)))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2)),
        st.tuples(st.just("cut"), st.integers(0, 5)),
        st.tuples(st.just("write"), st.just(0)),
        st.tuples(st.just("saved"), st.integers(0, 2)),
        st.tuples(st.just("snapshot"), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(steps)
def test_a_log_is_a_list_and_durable_is_what_the_disk_has(found: list[tuple[str, int]]) -> None:
    log = RaftLog(Durable(HardState(), FIRST))
    entries: dict[int, Entry] = {}
    disk: dict[int, Entry] = {}
    pending: list[tuple[int, int, int, tuple[Entry, ...]]] = []
    term = number = 0
    for step, much in found:
        if step == "append":
            term += much
            kind = EntryKind.MEMBERS if much == 1 else EntryKind.DATA
            entry = Entry(
                term, kind, encode_members(Members((1, 2), (term + 3,))) if much == 1 else b"%d" % len(entries)
            )
            entries[log.last + 1] = entry
            log.append_entry(entry)
        elif step == "cut" and log.last - much > log.snapshot.index:
            term += 1
            log.cut_at(log.last - much)
            entries = {index: entry for index, entry in entries.items() if index <= log.last}
        elif step == "write" and (log.unwritten <= log.last or log.unwritten <= log.handed):
            number += 1
            pending.append((number, *log.hand_over(number)))
        elif step == "saved" and pending:
            for of, cut_from, first, written in pending[: much + 1]:
                if cut_from:
                    disk = {index: entry for index, entry in disk.items() if index < cut_from}
                disk |= dict(enumerate(written, first))
                log.saved(of)
            pending = pending[much + 1 :]
        elif step == "snapshot":
            index = log.durable - much
            if index > log.snapshot.index:
                meta = log.meta_at(index)
                assert meta.term == entries[index].term
                log.snapshot_taken(index, much, 1_000)
        assert log.last == max(entries, default=1)
        for index in range(log.base + 1, log.last + 1):
            assert log.term_at(index) == entries[index].term
        assert log.term_at(log.last + 1) == UNKNOWN
        assert log.size == sum(size_of(entries[index]) for index in range(log.base + 1, log.last + 1))
        assert all(disk.get(index) == entries[index] for index in range(2, log.durable + 1))
        members = [entry for entry in entries.values() if entry.kind == EntryKind.MEMBERS]
        assert log.members == (decode_members(members[-1].data) if members else FIRST.members)


@given(st.lists(st.integers(1, 4), max_size=12), st.integers(0, 14), st.integers(0, 5))
def test_the_hint_is_the_last_place_that_may_agree(terms: list[int], index: int, term: int) -> None:
    entries = tuple(Entry(each, EntryKind.DATA) for each in sorted(terms))
    log = RaftLog(Durable(HardState(9), FIRST, entries))
    found = log.last_not_newer(index, term)
    fitting = [at for at in range(2, log.last + 1) if at <= index and log.term_at(at) <= term]
    assert found == (max(fitting) if fitting else min(index, 1))


@given(st.integers(1, 8), st.integers(1, 300), st.lists(st.integers(0, 90), min_size=1, max_size=10))
def test_a_batch_keeps_its_bounds_or_is_one_entry(count: int, size: int, sizes: list[int]) -> None:
    log = RaftLog(Durable(HardState(9), FIRST, tuple(Entry(1, EntryKind.DATA, bytes(each)) for each in sizes)))
    for first in range(2, log.last + 1):
        batch = log.batch(first, count, size)
        assert 1 <= len(batch) <= count
        assert len(batch) == 1 or sum(map(size_of, batch)) <= size
        assert batch == log.slice(first, first + len(batch) - 1)


@given(st.lists(st.tuples(st.sampled_from(ChangeKind), st.integers(1, 9)), max_size=40))
def test_majorities_of_a_set_and_the_next_one_meet(found: list[tuple[ChangeKind, int]]) -> None:
    members = Members((1, 2, 3))
    for kind, node in found:
        after = changed(members, Change(kind, node))
        if after is None:
            continue
        together = len({*members.voters, *after.voters})
        assert members.majority + after.majority > together
        assert 1 <= len(after.voters) <= VOTERS_MAX
        assert not set(after.voters) & set(after.learners)
        assert decode_members(encode_members(after)) == after
        members = after


def test_a_group_has_a_bound() -> None:
    members = Members((1,), tuple(range(2, MEMBERS_MAX + 1)))
    assert changed(members, Change(ChangeKind.ADD_LEARNER, 999)) is None
    assert changed(members, Change(ChangeKind.ADD_LEARNER, 0)) is None


def test_what_is_on_its_way_to_a_follower_stays_within_its_window() -> None:
    """A follower that makes nothing durable is sent a window, and no more than heartbeats after it."""
    settings = RaftSettings(window_entries_max=5, window_bytes_max=10_000, append_entries_max=2)
    raft = Raft(1, settings, 1, 0, Durable(HardState(), FIRST))
    now = raft.next_deadline()
    raft.step(now, [])
    raft.step(now, [Received(VoteResponse(2, 1, 1, True, True))])
    raft.step(now, [Saved(1)])
    raft.step(now, [Received(VoteResponse(2, 1, 1, False, True))])
    assert raft.role == Role.LEADER
    raft.step(now, [Received(AppendResponse(2, 1, 1, 2, 2, 0))])
    sent = 2
    for token in range(40):
        for effect in raft.step(now, [Propose(token, b"x")]):
            if isinstance(effect, Send) and isinstance(effect.message, AppendRequest) and effect.message.to == 2:
                assert len(effect.message.entries) <= 2
                sent = max(sent, effect.message.prev_index + len(effect.message.entries))
    assert sent == 7
    answered = raft.step(now, [Received(AppendResponse(2, 1, 1, 7, 4, 0))])
    appends = [each.message for each in answered if isinstance(each, Send) and isinstance(each.message, AppendRequest)]
    assert next(append.prev_index for append in appends if append.to == 2) == 7


def test_random_numbers_depend_on_the_seed_alone() -> None:
    one, two, other = RandomSource(5), RandomSource(5), RandomSource(6)
    numbers = [one.below(500) for _ in range(2_000)]
    assert numbers == [two.below(500) for _ in range(2_000)]
    assert numbers != [other.below(500) for _ in range(2_000)]
    assert min(numbers) < 10 and max(numbers) >= 490
    assert 230 < sum(numbers) // len(numbers) < 270

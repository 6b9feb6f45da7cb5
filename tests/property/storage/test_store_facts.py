"""Facts of a replica as frames, and the table of epochs: what they hold comes back, and nonsense is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.storage.frame import COMMIT, CUT, PROMISE, RAFT_HARD, REPLICA
from waymaker_core.storage.journal.facts import (
    FACT_VERSION,
    STREAMS_A_FRAME,
    Membership,
    ReplicaFacts,
    batches,
    decode_fact,
    encode_fact,
)
from waymaker_core.stream.epochs import EPOCHS_KEPT, Epochs

U64 = st.integers(0, (1 << 64) - 1)


@given(st.lists(st.tuples(U64, U64), min_size=1, max_size=20), st.sampled_from((PROMISE, COMMIT)))
def test_rows_of_one_value_come_back_as_they_were(rows: list[tuple[int, ...]], kind: int) -> None:
    assert decode_fact(kind, FACT_VERSION, encode_fact(kind, rows)) == rows


@given(st.lists(st.tuples(U64, U64, U64), min_size=1, max_size=20), st.data())
def test_a_cut_or_lengthened_frame_is_corrupt(rows: list[tuple[int, ...]], data: st.DataObject) -> None:
    meta = encode_fact(REPLICA, rows)
    assert decode_fact(REPLICA, FACT_VERSION, meta) == rows
    for wrong in (meta[: data.draw(st.integers(0, len(meta) - 1))], meta + b"\0", b""):
        with pytest.raises(CorruptRecord):
            decode_fact(REPLICA, FACT_VERSION, wrong)
    with pytest.raises(CorruptRecord):
        decode_fact(PROMISE, FACT_VERSION, meta)


def test_a_cut_is_all_in_its_header() -> None:
    assert decode_fact(CUT, FACT_VERSION, b"") == []
    with pytest.raises(CorruptRecord):
        decode_fact(CUT, FACT_VERSION, b"\0")


def test_kinds_and_versions_to_come_are_refused_by_name() -> None:
    with pytest.raises(UnknownVersion, match="frame kind has version 99"):
        decode_fact(99, FACT_VERSION, b"")
    with pytest.raises(UnknownVersion, match="a frame of promises has version 2"):
        decode_fact(PROMISE, 2, b"")


def test_many_streams_take_several_frames() -> None:
    facts = ReplicaFacts({n: n for n in range(STREAMS_A_FRAME + 1)}, {7: Membership(3, 4)})
    again = ReplicaFacts()
    for kind, meta in facts.frames():
        again.learn(kind, decode_fact(kind, FACT_VERSION, meta))
    assert (again.promises, again.replicas) == (facts.promises, facts.replicas)
    assert [len(each) for each in batches([(n,) for n in range(STREAMS_A_FRAME + 1)])] == [STREAMS_A_FRAME, 1]


def test_an_older_promise_never_replaces_a_later_one() -> None:
    facts = ReplicaFacts()
    facts.learn(PROMISE, [(1, 9)])
    facts.learn(PROMISE, [(1, 4), (2, 1)])
    assert facts.promises == {1: 9, 2: 1}


def test_a_term_never_goes_back_and_keeps_its_one_vote() -> None:
    facts = ReplicaFacts()
    assert not list(facts.frames())
    for row, expected in [
        ((0, 3, 0), (3, 0)), ((0, 3, 2), (3, 2)), ((0, 3, 0), (3, 2)), ((0, 3, 1), (3, 2)), ((0, 2, 9), (3, 2)),
        ((0, 4, 0), (4, 0)),
    ]:  # fmt: skip
        facts.learn(RAFT_HARD, [row])
        assert facts.raft_hard == expected
    facts.drop_stream(0)
    ((kind, meta),) = facts.frames()
    assert (kind, decode_fact(kind, FACT_VERSION, meta)) == (RAFT_HARD, [(0, 4, 0)])


@given(U64, U64)
def test_a_term_and_vote_come_back_and_those_of_another_log_are_corrupt(term: int, vote: int) -> None:
    assert decode_fact(RAFT_HARD, FACT_VERSION, encode_fact(RAFT_HARD, [(0, term, vote)])) == [(0, term, vote)]
    for rows in ([(1, term, vote)], [(0, term, vote), (0, term, vote)]):
        with pytest.raises(CorruptRecord, match="another log"):
            decode_fact(RAFT_HARD, FACT_VERSION, encode_fact(RAFT_HARD, rows))


# ---------------------------------------------------------------- epochs


def test_the_table_says_of_each_record_in_which_epoch_it_was_written() -> None:
    table = Epochs()
    assert (table.last, table.of(1), table.end_of(3, 10)) == (0, None, None)
    table.begin(2, 5)
    table.begin(4, 9)
    assert [table.of(position) for position in (4, 5, 8, 9, 12)] == [None, 2, 2, 4, 4]
    assert table.last == 4
    assert [table.end_of(epoch, 12) for epoch in (1, 2, 3, 4, 5)] == [None, 8, 8, 12, 12]
    with pytest.raises(ValueError, match="epoch 4 follows epoch 4"):
        table.begin(4, 13)


def test_the_table_forgets_the_oldest_epochs() -> None:
    table = Epochs()
    for number in range(EPOCHS_KEPT + 5):
        table.begin(number + 1, 10 * number + 1)
    assert len(table.starts) == EPOCHS_KEPT
    assert table.of(1) is None
    again = Epochs()
    again.restore(table.encode())
    assert again.starts == table.starts


@pytest.mark.parametrize("value", [None, [[1]], [[2, 5], [1, 9]], [[1, 5], [2, 5]], [[1, 1]] * (EPOCHS_KEPT + 1)])
def test_what_is_no_table_of_epochs_is_corrupt(value: object) -> None:
    with pytest.raises(CorruptRecord):
        Epochs().restore(value)

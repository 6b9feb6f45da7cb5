"""The parts of a stream, each against something obvious: columns, block, subject table, tail, joined records."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st
from sortedcontainers import SortedDict

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.records import PublishRecord
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream import join_publishes
from waymaker_core.stream.blocks.block import Block
from waymaker_core.stream.blocks.columns import HOLE, Columns, entries_of, within_bytes
from waymaker_core.stream.blocks.subject_table import SubjectTable
from waymaker_core.stream.join import joinable
from waymaker_core.stream.overlay import Overlay
from waymaker_core.stream.snapshot import _pack, _unpack

SUBJECTS = ["a", "b", "c.x", "c.y"]
subject_lists = st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=5)
pieces = st.lists(st.tuples(st.integers(0, 2), subject_lists), min_size=1, max_size=8)


def grow(block: Block, gap: int, subjects: list[str], skip: int = 0) -> None:
    """Append messages as a stream does, `gap` sequences further on."""
    columns = block.resident()
    ids = [columns.table.setdefault(subject, len(columns.table)) for subject in subjects]
    columns.subjects = list(columns.table)
    count = len(subjects)
    sizes = array("I", range(1, count + 1))
    chunk = Chunk("f", 10 * len(columns), 100, 7)
    block.append(
        block.first + block.size + gap,
        ids,
        array("q", [5]) * count,
        sizes,
        array("I", [3]) * count,
        chunk,
        skip,
        sum(sizes),
    )


# ---------------------------------------------------------------- columns


@given(pieces)
def test_postings_and_hits_are_what_a_look_at_every_entry_finds_while_a_block_grows(
    grown: list[tuple[int, list[str]]],
) -> None:
    block = Block(0, 1, Columns())
    names: list[str | None] = []
    for place, (gap, subjects) in enumerate(grown):
        gap = gap if names else 0
        grow(block, gap, subjects)
        names += [*[None] * gap, *subjects]
        columns = block.resident()
        assert [None if ident == HOLE else columns.subjects[ident] for ident in columns.ids] == names
        for text in ("a", "c.x", "c.*", "*", ">", "none"):
            pattern = Pattern(text)
            found = columns.hits_of(pattern)
            assert list(found) == [e for e, name in enumerate(names) if name is not None and pattern.matches(name)]
        if place % 2:
            assert list(columns.postings_of("b")) == [e for e, name in enumerate(names) if name == "b"]


@given(pieces, st.integers(0, 40), st.integers(0, 9))
def test_a_body_lies_behind_those_before_it_in_its_chunk(
    grown: list[tuple[int, list[str]]], entry: int, skip: int
) -> None:
    block = Block(0, 1, Columns())
    for gap, subjects in grown:
        grow(block, gap if block.size else 0, subjects, skip)
    columns = block.resident()
    if entry >= len(columns) or columns.ids[entry] == HOLE:
        return
    index = columns.chunk_of(entry)
    first = columns.chunk_firsts[index]
    assert first <= entry < columns.chunk_end(index)
    assert columns.body_start(index, entry) == skip + 3 * (entry - first)


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 60), st.integers(0, 4))
def test_as_many_entries_fit_as_counting_them_one_by_one_says(lengths: list[int], room: int, overhead: int) -> None:
    fits = 0
    while fits < len(lengths) and sum(lengths[: fits + 1]) + overhead * (fits + 1) <= room:
        fits += 1
    assert within_bytes(array("I", lengths), room, overhead) == fits


# ---------------------------------------------------------------- block


@given(pieces, st.lists(st.lists(st.integers(1, 40), max_size=5), max_size=6))
def test_a_block_knows_who_lives_in_it(grown: list[tuple[int, list[str]]], drops: list[list[int]]) -> None:
    block = Block(0, 1, Columns())
    live: dict[int, int] = {}
    for turn, (gap, subjects) in enumerate(grown):
        grow(block, gap if block.size else 0, subjects)
        live.update({block.last - len(subjects) + 1 + place: place + 1 for place in range(len(subjects))})
        for seqs in drops[turn : turn + 1]:
            gone = block.drop(seqs, [live.get(seq, 99) for seq in seqs])
            assert gone == [live.pop(seq) for seq in dict.fromkeys(seqs) if seq in live]
        assert (block.alive, block.bytes) == (len(live), sum(live.values()))
        assert block.first + block.head == min(live, default=block.last + 1)
        for seq in range(block.last + 3):
            assert block.is_live(seq) == (seq in live)
            assert block.live_count_from(seq) == sum(1 for other in live if other >= seq)
        for entry in range(block.size):
            seq = block.first + entry
            assert block.first + block.next_live(entry) == min((s for s in live if s >= seq), default=block.last + 1)
            if seq in live:
                end = seq
                while end in live:
                    end += 1
                assert block.first + block.live_end(entry) == end


@given(st.lists(st.booleans(), max_size=40))
def test_deletions_survive_being_packed_into_bits(flags: list[bool]) -> None:
    dead = bytearray(flags)
    packed = _pack(dead)
    assert len(packed) == (len(dead) + 8) // 8
    assert _unpack(packed, len(dead)) == dead


# ---------------------------------------------------------------- subject table


@given(
    st.lists(st.tuples(st.sampled_from(["put", "put", "put", "remove", "list"]), st.sampled_from("abcde")), max_size=40)
)
def test_the_sorted_subjects_are_those_of_the_table_whatever_came_and_went(steps: list[tuple[str, str]]) -> None:
    table = SubjectTable(10)
    known: SortedDict[str, int] = SortedDict()
    seq = 0
    for step, subject in steps:
        seq += 7
        if step == "put":
            table.enter_block([subject], (seq - 1) // 10, 0)
            table.last[subject] = known[subject] = seq
        elif step == "remove" and subject in known:
            table.remove(subject)
            del known[subject]
        elif step == "list":
            assert table.sorted_subjects() == list(known)
            behind = [name for name in table.subjects_from("", subject) if name in table.last]
            assert behind == [name for name in known if name > subject]
            assert [name for name in table.subjects_from(subject) if name in table.last] == list(known.irange(subject))
    assert table.sorted_subjects() == list(known)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20, unique=True), st.integers(0, 6))
def test_the_blocks_of_a_subject_are_all_blocks_it_entered_that_may_be_there(seqs: list[int], first_block: int) -> None:
    table = SubjectTable(10)
    for seq in sorted(seqs):
        if "a" not in table.last or (table.last["a"] - 1) // 10 != (seq - 1) // 10:
            table.enter_block(["a"], (seq - 1) // 10, first_block)
        table.last["a"] = seq
    blocks = sorted({(seq - 1) // 10 for seq in seqs})
    found = table.blocks_of("a")
    assert found == sorted(set(found))
    assert [block for block in found if block >= first_block] == [block for block in blocks if block >= first_block]
    middle = seqs[0]
    table.set_last("a", middle)
    assert [block for block in table.blocks_of("a") if block >= first_block] == [
        block for block in blocks if first_block <= block <= (middle - 1) // 10
    ] or (middle - 1) // 10 < first_block


def test_a_sweep_comes_round_once_it_is_paid_for() -> None:
    table = SubjectTable(10)
    for number in range(100):
        table.last[f"s{number}"] = number + 1
    checked: list[str] = []
    dropped = 0
    while len(checked) < 100:
        checked += table.sweep_some(10)
        dropped += 10
        assert dropped < 1000
    assert sorted(checked) == sorted(table.last)
    assert 100 < dropped < 250


# ---------------------------------------------------------------- tail


class Mirror:
    """What a tail over an empty stream stands for."""

    def __init__(self) -> None:
        self.live: dict[int, int] = {}

    def check(self, overlay: Overlay) -> None:
        live = {seq: size for seq, size in self.live.items() if not overlay.is_dropped(seq)}
        assert (overlay.count, overlay.bytes) == (len(live), sum(live.values()))
        blocks: dict[int, list[int]] = {}
        for seq, size in live.items():
            figures = blocks.setdefault((seq - 1) // overlay.block_size, [0, 0])
            figures[0] += 1
            figures[1] += size
        for number, figures in blocks.items():
            assert overlay.blocks.get(number, [0, 0]) == figures


def figures(overlay: Overlay) -> list[object]:
    return [
        overlay.last_seq,
        overlay.count,
        overlay.bytes,
        overlay.clock_ms,
        overlay.truncate_to,
        overlay.front_seq,
        len(overlay.staged),
        dict(overlay.drops),
        {number: list(delta) for number, delta in overlay.blocks.items()},
        list(overlay.partial),
    ]


@given(
    block_size=st.integers(1, 5),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.integers(1, 7)),
            st.tuples(st.just("drop"), st.integers(1, 30)),
            st.tuples(st.just("drops"), st.integers(1, 30)),
            st.tuples(st.just("truncate"), st.integers(0, 6)),
            st.tuples(st.just("undo"), st.integers(1, 9)),
        ),
        max_size=25,
    ),
)
def test_a_tail_adds_up_and_a_decision_that_is_given_up_leaves_it_as_it_was(
    block_size: int, steps: list[tuple[str, int]]
) -> None:
    overlay, mirror = Overlay(block_size), Mirror()
    for step, number in steps:
        mark, before, live_before = overlay.savepoint(), figures(overlay), dict(mirror.live)
        if step in {"publish", "undo"}:
            sizes = array("I", range(1, number + 1))
            first = overlay.last_seq + 1
            overlay.stage_publish(
                None, first, ["a", "b"] * (number // 2) + ["a"] * (number % 2), sizes, array("q", [1]) * number
            )
            mirror.live.update(zip(range(first, first + number), sizes, strict=True))
            assert overlay.latest_at("a") == first + (number - 1 if number % 2 else number - 2)
        if step in {"drop", "undo"} and number in mirror.live and not overlay.is_dropped(number):
            overlay.stage_drop(number, mirror.live[number])
        if step in {"drops", "undo"}:
            block = (number - 1) // block_size
            seqs = [s for s in mirror.live if (s - 1) // block_size == block and not overlay.is_dropped(s)]
            overlay.stage_drops(block, seqs, [mirror.live[seq] for seq in seqs])
        if step == "truncate":
            upto = number * block_size + 1
            gone = [s for s in mirror.live if s < upto and not overlay.is_dropped(s)]
            if upto <= overlay.last_seq + 1 and upto > overlay.truncate_to:
                overlay.stage_truncate(upto, len(gone), sum(mirror.live[seq] for seq in gone))
        if step == "undo":
            overlay.rollback(mark)
            mirror.live = live_before
            assert figures(overlay) == before
        mirror.check(overlay)


# ---------------------------------------------------------------- joined records


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9), st.booleans()), min_size=1, max_size=6))
def test_a_joined_record_holds_what_its_parts_held(parts: list[tuple[int, int, bool]]) -> None:
    records: list[PublishRecord] = []
    seq = 5
    for count, number, drops in parts:
        record = PublishRecord(
            seq, array("q", [number]) * count, array("I", [number]) * count, array("I", [1]) * count, [f"s{number}"] * count,
            truncate_to=number, drop_seqs=array("Q", [seq] if drops else []), drop_sizes=array("Q", [1] if drops else []),
            reserved_to=number, clock_ms=number,
        )  # fmt: skip
        assert not records or joinable(records[-1], record)
        records.append(record)
        seq += count
    joined = join_publishes(records)
    assert joined.first_seq == 5
    assert joined.subjects == [subject for record in records for subject in record.subjects]
    for column in ("times_ms", "sizes", "lengths", "drop_seqs", "drop_sizes"):
        assert list(getattr(joined, column)) == [value for record in records for value in getattr(record, column)]
    for field in ("truncate_to", "reserved_to", "clock_ms"):
        assert getattr(joined, field) == max(getattr(record, field) for record in records)
    apart = PublishRecord(seq + 1, array("q"), array("I"), array("I"), [])
    assert not joinable(records[-1], apart)


@given(st.lists(st.sampled_from([0, 1, 256, 65_536, 1 << 24, 0x0101_0101, HOLE]), max_size=60), st.integers(1, 50))
def test_a_search_for_an_id_finds_each_place_whether_over_bytes_or_not(ids: list[int], spread: int) -> None:
    column = array("I", [other for ident in ids for other in (ident, *[7] * spread)])
    for ident in (0, 1, 256, 65_536, 1 << 24, 0x0101_0101, 7):
        places = [entry for entry, other in enumerate(column) if other == ident]
        for start in (0, 1, len(column) // 2, len(column)):
            assert entries_of(column, ident, start).tolist() == [place for place in places if place >= start]


def test_an_id_that_is_only_found_across_two_others_is_not_there() -> None:
    column = array("I", [0x0001_0000, 1] * 1_000)
    assert entries_of(column, 0x0000_0100).tolist() == []
    assert entries_of(array("I", [*column, 0x0000_0100]), 0x0000_0100, 5).tolist() == [2_000]

"""Rare corners of a stream and of the words around it: bounded caches, staged imports, dry runs, damaged bodies."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from tests.kit.stream_bench import LIMITS, Bench
from tests.kit.stream_model import resident
from waymaker_core.api.requests import ImportBatch
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.model.config import Retention, StreamConfig
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import decode_body, encode_body, encode_headers, readdress
from waymaker_core.model.records import StreamDeleted
from waymaker_core.model.result_codes import CodeError, RefusedError
from waymaker_core.model.subjects import Pattern
from waymaker_core.model.types import StreamId
from waymaker_core.stream import NeedBlocks, Stream, admission, reads, validate
from waymaker_core.stream.blocks import subject_caps
from waymaker_core.stream.blocks.block import SKIPS_MAX, Block
from waymaker_core.stream.blocks.columns import PATTERNS_MAX, Columns
from waymaker_core.stream.blocks.subject_caps import SubjectCaps
from waymaker_core.stream.blocks.subject_table import SubjectTable
from waymaker_core.stream.invariants import check_stream
from waymaker_core.stream.overlay import Overlay
from waymaker_core.stream.retention import decisions as retention

# ---------------------------------------------------------------- the tail


def staged_import() -> Overlay:
    """Messages at 3, 5 and 9 wait; blocks are of four."""
    overlay = Overlay(4)
    overlay.stage_publish(array("Q", [3, 5, 9]), 3, ["a", "b", "a"], array("I", [1, 2, 3]), array("q", [0] * 3))
    return overlay


def test_a_staged_import_is_found_at_its_sequences_and_not_between_them() -> None:
    overlay = staged_import()
    (staged,) = overlay.staged
    assert [overlay.find_staged(seq) for seq in (3, 5, 9)] == [(staged, 0), (staged, 1), (staged, 2)]
    assert [overlay.find_staged(seq) for seq in (2, 4, 8, 10)] == [None] * 4
    assert [staged.entry_from(seq) for seq in (1, 3, 4, 6, 9, 10)] == [0, 0, 1, 2, 2, 3]
    assert overlay.seqs_at("a") == [3, 9]
    assert overlay.blocks == {0: [1, 1], 1: [1, 2], 2: [1, 3]}


def test_deletions_that_were_never_staged_are_told_from_those_that_were() -> None:
    overlay = Overlay(4)
    overlay.discard(4, 4, 40, 0, 0)
    overlay.stage_drop(2, 10)
    assert overlay.commit_drops(0, [1, 2, 3]) == [1, 3]
    assert overlay.drops == {}
    assert overlay.blocks == {}


def test_what_is_remembered_of_staged_subjects_stays_bounded_and_right() -> None:
    """The tail never empties: one publish is committed when the next one is already staged."""
    overlay = Overlay(4)
    overlay.latest_max = 3
    forgotten = 0
    for seq in range(1, 40):
        overlay.stage_publish(None, seq, [f"s{seq}"], array("I", [1]), array("q", [0]))
        before = len(overlay.latest)
        assert overlay.latest_at(f"s{seq}") == seq
        forgotten += len(overlay.latest) < before
        assert overlay.latest_at(f"s{seq - 1}") == seq - 1
        overlay.commit_publishes(seq - 1)
    assert forgotten == 1, "and then it may grow to the ordinary bound"


def test_the_projection_s_newest_is_the_newest_staged_one_that_is_not_dropped() -> None:
    bench = Bench()
    bench.publish("a", "b")
    overlay = bench.stream.overlay
    overlay.stage_publish(None, 3, ["a", "a"], array("I", [1, 1]), array("q", [0, 0]))
    assert bench.stream.projected_latest("a") == 4
    overlay.stage_drop(4, 1)
    assert bench.stream.projected_latest("a") == 3
    overlay.stage_drop(3, 1)
    assert bench.stream.projected_latest("a") == 1


def test_a_dry_run_that_would_empty_the_open_block_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.publish(*"abcdef")
    stream = bench.stream
    config = replace(stream.config, max_age_ms=1)
    before = (stream.overlay.count, stream.overlay.bytes, dict(stream.overlay.blocks), stream.overlay.truncate_to)
    assert retention.decide_update(stream, config, 10**9, True).pruned == 6
    assert (
        stream.overlay.count,
        stream.overlay.bytes,
        dict(stream.overlay.blocks),
        stream.overlay.truncate_to,
    ) == before
    assert stream.is_settled()
    bench.publish("g")
    assert bench.live() == [1, 2, 3, 4, 5, 6, 7]


# ---------------------------------------------------------------- blocks and tables


def test_a_hole_behind_a_block_s_dead_is_never_its_first_message() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, block_size=100)
    bench.publish("a", "a")
    bench.drop(1, 2)
    bench.stream.reserved_to = 10
    bench.stream.skip_reserved()
    bench.publish("a")
    assert bench.live() == [11]
    assert bench.stream.first_seq == 11
    block = Block(0, 1, Columns())
    fill(block, 0, "a", "b")
    block.drop([1, 2], [1, 1])
    fill(block, 3, "c")
    assert (block.first_live, block.alive, block.last) == (6, 1, 6)
    assert [block.is_live(seq) for seq in range(1, 8)] == [False] * 5 + [True, False]


def fill(block: Block, gap: int, *subjects: str) -> None:
    """Messages of one byte, `gap` sequences further on."""
    columns = block.resident()
    ids = [columns.table.setdefault(subject, len(columns.table)) for subject in subjects]
    columns.subjects = list(columns.table)
    ones = array("I", [1] * len(ids))
    chunk = Chunk("f", 0, len(ids), 0)
    block.append(block.first + block.size + gap, ids, array("q", [5] * len(ids)), ones, ones, chunk, 0, len(ids))


def test_a_block_answers_more_patterns_than_it_remembers() -> None:
    block = Block(0, 1, Columns())
    count = PATTERNS_MAX + 5
    fill(block, 0, *[f"{number}.x" for number in range(count)])
    columns = block.resident()
    for _ in range(2):
        for number in range(count):
            assert list(columns.hits_of(Pattern(f"{number}.*"))) == [number]
            assert len(columns.hits) <= PATTERNS_MAX


def test_a_subject_enters_each_of_its_blocks_once() -> None:
    table = SubjectTable(4)
    for seq in (1, 5, 5, 9):
        table.enter_block(["a"], (seq - 1) // 4, 0)
        table.last["a"] = seq
    assert table.blocks_of("a") == [0, 1, 2]
    table.enter_block(["a"], 3, 0)
    table.enter_block(["a"], 3, 0)
    assert table.earlier["a"] == [0, 1, 2]


def test_what_a_cap_remembers_of_subjects_stays_bounded_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject_caps, "SUBJECTS_MAX", 2)
    caps = SubjectCaps()
    live: dict[str, list[int]] = {}
    for seq in range(1, 60):
        subject = "abcde"[seq % 5]
        known = list(live.setdefault(subject, []))
        out = caps.push(subject, seq, 2, lambda _, known=known: known, lambda _: True)  # type: ignore[misc]
        live[subject].append(seq)
        assert out == ([live[subject].pop(0)] if len(live[subject]) > 2 else None)
        caps.evict_oldest()
        assert len(caps.queues) <= 2


def test_more_subjects_than_are_remembered_as_accepted_are_still_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ACCEPTED_MAX", 3)
    bench = Bench(subjects_filter=("a.>",))
    for number in range(10):
        decision = bench.publish(f"a.{number}", "b", f"a.{number}.x")
        assert list(decision.published.failures or {}) == [1]
        assert len(bench.stream.accepted) <= 3
    assert len(bench.live()) == 20


def test_a_block_skips_more_patterns_than_it_remembers() -> None:
    bench = Bench()
    bench.publish(*"abcd", "a")
    for _ in range(2):
        for number in range(SKIPS_MAX + 5):
            assert reads.select(bench.stream, 1, Pattern(f"{number}.*"), 9, 1 << 20).ranges == []
            skips = bench.stream.blocks[0].skips
            assert skips is not None
            assert len(skips) <= SKIPS_MAX
    assert reads.select(bench.stream, 1, Pattern("*"), 9, 1 << 20).ranges == [(1, 5)]


def test_a_start_by_time_passes_over_a_block_whose_young_messages_are_gone() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE)
    bench.publish(*"abcde", times=[10, 50, 10, 10, 60])
    assert reads.first_seq_at_or_after_time(bench.stream, 40) == 2
    bench.drop(2)
    assert reads.first_seq_at_or_after_time(bench.stream, 40) == 5
    assert reads.first_seq_at_or_after_time(bench.stream, 61) == 6


def test_an_import_of_runs_and_gaps_lies_where_it_lay() -> None:
    stream = Stream(StreamId(1), validate(StreamConfig("s", block_size=4), LIMITS), 1, LIMITS)
    bench = Bench()
    bench.stream = stream
    seqs = [2, 3, 4, 5, 9, 11, 12]
    count = len(seqs)
    request = ImportBatch(1, seqs, [5] * count, ["a"] * count, [1] * count, [2] * count, b"xy" * count)
    bench.apply(admission.decide_import(stream, request, 100))
    assert bench.live() == seqs


def test_a_file_that_serves_two_blocks_is_released_with_the_second() -> None:
    stream = Bench().stream
    one, two = Block(0, 1, Columns()), Block(1, 5, Columns())
    for _ in range(2):
        stream.use_files(one, ["blocks/1-2.blk", "blocks/1-2.blk"])
    stream.use_files(two, ["blocks/1-2.blk"])
    assert one.files == two.files == ["blocks/1-2.blk"]
    stream.release_file("blocks/1-2.blk")
    assert stream.take_released() == []
    stream.release_file("blocks/1-2.blk")
    assert stream.take_released() == ["blocks/1-2.blk"]


# ---------------------------------------------------------------- deletions in pieces


def test_new_settings_that_prune_by_age_ask_for_the_indexes_they_need_and_leave_nothing_behind() -> None:
    bench = Bench()
    bench.publish(*"abcdefgh", "i", times=[900, 10, 900, 10, 900, 10, 900, 10, 900])
    bench.seal()
    config = replace(bench.stream.config, max_age_ms=100)
    with pytest.raises(NeedBlocks) as need:
        retention.decide_update(bench.stream, config, 500, False)
    assert need.value.blocks == [0, 1]
    assert bench.stream.is_settled()
    decision = resident(bench.stream, bench.disk, lambda: retention.decide_update(bench.stream, config, 500, False))
    assert decision.pruned == 4
    for record in decision.records:
        bench.stream.apply(bench.stream.position + 1, record, None)
    assert bench.live() == [1, 3, 5, 7, 9]


@pytest.mark.parametrize(("block_size", "count"), [(8, 40), (16, 32)])
def test_by_blocks_a_scan_spares_a_few_and_comes_back_when_more_are_old(block_size: int, count: int) -> None:
    bench = Bench(max_age_ms=100, block_size=block_size)
    times = [1000 - 10 * (number % 8) for number in range(count)]
    bench.publish(*[f"s{number}" for number in range(count)], times=times)
    for wall_ms in range(1_000, 1_200, 10):
        bench.prune(wall_ms)
        old = [seq for seq in bench.live() if times[seq - 1] <= wall_ms - 100]
        assert len(old) < block_size, "fewer than one block holds"
    assert bench.live() == []


def test_what_a_staged_publish_pushes_out_does_not_expire_as_well() -> None:
    bench = Bench(max_age_ms=100, strict_limits=True, block_size=20, max_msgs_per_subject=1)
    bench.publish(*"abcdef", times=[1, 2, 3, 4, 900, 901])
    decision = bench.decide("b", "c", times=[902, 903])
    record = retention.decide_retention(bench.stream, 500, None)
    assert record is not None
    assert list(record.drop_seqs) == [1, 4]
    bench.apply(decision)
    bench.stream.apply(bench.stream.position + 1, record, None)
    check_stream(bench.stream)
    assert bench.live() == [5, 6, 7, 8]


@pytest.mark.parametrize("ordered", [True, False], ids=["times rise", "any times"])
@pytest.mark.parametrize("strict", [True, False], ids=["exact", "by blocks"])
def test_what_expires_at_once_goes_in_records_of_bounded_size(
    ordered: bool, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DROPS_MAX", 3)
    bench = Bench(max_age_ms=100, strict_limits=strict, block_size=20)
    times = list(range(1000, 1011)) if ordered else [1010, *range(1000, 1010)]
    bench.publish(*"abcdefghijk", times=times)
    bench.publish("z", times=[5000])
    expired = [number + 1 for number, time_ms in enumerate(times) if time_ms <= 1010]
    largest = 0
    while (record := retention.decide_retention(bench.stream, 1110, None)) is not None:
        largest = max(largest, len(record.drop_seqs))
        bench.stream.apply(bench.stream.position + 1, record, None)
        check_stream(bench.stream)
    if strict:
        assert bench.live() == [seq for seq in range(1, 13) if seq not in expired]
        assert largest == 3
    else:
        assert bench.live()[-1] == 12


def test_a_shield_in_a_piece_keeps_what_it_keeps_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "DROPS_MAX", 2)
    bench = Bench(max_age_ms=100, strict_limits=True, block_size=20)
    bench.publish("a", *"bcdef", "a", times=[5000, *[1000] * 6])
    bench.prune(2000)
    assert bench.live() == [1, 7], "the newer one at its subject never goes first"


# ---------------------------------------------------------------- words


def test_an_import_whose_sizes_no_message_has_is_refused() -> None:
    stream = Stream(1, validate(StreamConfig("s"), LIMITS), 1, LIMITS)
    for size in (-1, LIMITS.message_bytes_max + 1):
        with pytest.raises(RefusedError, match="size"):
            admission.decide_import(stream, ImportBatch(1, [1], [5], ["a"], [size], [2], b"xy"), 100)
    assert stream.is_settled()


def test_a_stream_has_a_bounded_number_of_patterns() -> None:
    limits = Limits(subjects_filter_max=2)
    validate(StreamConfig("s", subjects_filter=("a", "b")), limits)
    with pytest.raises((RefusedError, CodeError), match="3 subject patterns"):
        validate(StreamConfig("s", subjects_filter=("a", "b", "c")), limits)


def test_a_header_needs_a_key() -> None:
    with pytest.raises(RefusedError, match="needs a key"):
        encode_headers([("", "value")], LIMITS)


def test_a_body_that_does_not_begin_with_its_subject_is_not_readdressed() -> None:
    body, _ = encode_body("a", (), b"x", LIMITS)
    assert decode_body(readdress(body, "b", [])) == ("b", [], b"x")
    with pytest.raises(ValueError, match="begins with its subject"):
        readdress(body[3:], "b", [])


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (b"\x0a\x05k", "a header runs past its end"),
        (b"\x1a\x01k", "unknown header tag 0x1a"),
    ],
)
def test_a_damaged_header_inside_a_body_is_no_message(entry: bytes, problem: str) -> None:
    body, _ = encode_body("a", (), b"x", LIMITS)
    with pytest.raises(ValueError, match=problem):
        decode_body(body + bytes([0x22, len(entry)]) + entry)


def test_the_end_of_a_life_that_nobody_knows_ends_nothing() -> None:
    catalog = Catalog(Limits())
    catalog.apply(catalog.decide_create("", StreamConfig("s"), 7))
    catalog.apply(StreamDeleted(StreamId(99)))
    catalog.check()
    assert catalog.page("", "", 10, 1_000).entries == ["s"]

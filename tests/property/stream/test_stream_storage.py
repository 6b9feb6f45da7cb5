"""What a stream promises about indexes, files, snapshots, replay and reservations, one sentence a test."""

from __future__ import annotations

from itertools import pairwise

import cbor2
import pytest

from tests.kit.stream_bench import LIMITS, Bench
from tests.kit.stream_model import ack_record, relocate_blocks, resident, view
from waymaker_core.api.requests import ImportBatch, Publish
from waymaker_core.model.config import Retention
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.result_codes import RefusedError
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream import NeedBlocks, admission, reads
from waymaker_core.stream.admission import RESERVE_MIN
from waymaker_core.stream.invariants import check_stream
from waymaker_core.stream.relocation import relocation as relocating
from waymaker_core.stream.retention import decisions as retention
from waymaker_core.stream.snapshot import decode_snapshot, encode_snapshot

# ---------------------------------------------------------------- indexes


def test_a_decision_that_misses_an_index_leaves_nothing_behind() -> None:
    bench = Bench(max_msgs_per_subject=1)
    bench.publish(*"abcdefgh")
    bench.seal()
    bench.stream = decode_snapshot(cbor2.loads(cbor2.dumps(encode_snapshot(bench.stream))), LIMITS)
    overlay = bench.stream.overlay
    before = (
        overlay.last_seq,
        overlay.count,
        overlay.bytes,
        overlay.clock_ms,
        len(overlay.staged),
        dict(overlay.drops),
        dict(overlay.blocks),
    )
    with pytest.raises(NeedBlocks) as need:
        admission.decide_publish(bench.stream, Publish("s", ["z", "a"], [1, 1], [1, 1], b"xy"), 10**9)
    assert need.value.blocks == [0, 1]
    assert before == (
        overlay.last_seq,
        overlay.count,
        overlay.bytes,
        overlay.clock_ms,
        len(overlay.staged),
        dict(overlay.drops),
        dict(overlay.blocks),
    )
    assert list(bench.publish("z", "a").record.drop_seqs) == [1]  # type: ignore[union-attr]


def test_a_publish_whose_limit_reaches_into_a_missing_index_is_decided_once() -> None:
    bench = Bench(max_msgs=8, strict_limits=True)
    bench.publish(*"abcdefgh")
    bench.seal()
    with pytest.raises(NeedBlocks) as need:
        admission.decide_publish(bench.stream, Publish("s", ["z"], [1], [1], b"x"), 10**9)
    assert need.value.blocks == [0]
    assert (bench.stream.overlay.last_seq, bench.stream.overlay.count, bench.stream.overlay.clock_ms) == (8, 8, 1000)
    assert bench.stream.is_settled()
    assert bench.publish("z").published.first_seq == 9
    assert bench.live() == [2, 3, 4, 5, 6, 7, 8, 9]


def test_an_index_stays_while_any_publish_may_need_it_and_goes_otherwise() -> None:
    capped, plain = Bench(max_msgs_per_subject=1), Bench()
    for bench in (capped, plain):
        bench.publish(*"abcdefgh")
        relocate_blocks(bench.stream, bench.disk, lambda path: False, 1)
    assert relocating.evict_index(capped.stream, 0) == 0
    assert relocating.evict_index(plain.stream, 0) > 0
    assert relocating.evict_index(plain.stream, 0) == 0
    assert relocating.index_location(plain.stream, 0) is not None
    assert relocating.index_location(plain.stream, 2) is None


def test_a_pattern_that_matches_nothing_in_a_sealed_block_asks_for_its_index_once() -> None:
    bench = Bench()
    bench.publish(*["a.x"] * 8, "b.x")
    bench.seal()
    found = resident(bench.stream, bench.disk, lambda: reads.select(bench.stream, 0, Pattern("b.*"), 5, 1 << 20))
    assert found.ranges == [(9, 9)]
    for number in list(bench.stream.blocks):
        relocating.evict_index(bench.stream, number)
    assert reads.select(bench.stream, 0, Pattern("b.*"), 5, 1 << 20).ranges == [(9, 9)], "without loading anything"


def test_a_literal_subject_is_scanned_at_the_cost_of_the_blocks_it_is_in() -> None:
    bench = Bench()
    bench.publish("a", *["b"] * 11, "a")
    bench.seal()
    with pytest.raises(NeedBlocks) as need:
        reads.scan_subject(bench.stream, "a", 0, 10, 1 << 20)
    assert need.value.blocks == [0, 3]


def test_a_search_asks_for_the_indexes_ahead_of_it_together() -> None:
    bench = Bench(block_size=1)
    bench.publish(*["a.x"] * 100)
    bench.seal()
    with pytest.raises(NeedBlocks) as need:
        reads.select(bench.stream, 11, None, 30, 1 << 20)
    assert need.value.blocks == list(range(10, 40))
    with pytest.raises(NeedBlocks) as need:
        reads.select(bench.stream, 11, Pattern("*.y"), 30, 1 << 20)
    assert need.value.blocks == list(range(10, 74))


def test_an_index_of_another_block_is_refused() -> None:
    bench = Bench()
    bench.publish(*"abcdefgh")
    bench.seal()
    place, other = relocating.index_location(bench.stream, 0), relocating.index_location(bench.stream, 1)
    assert place is not None
    assert other is not None
    with pytest.raises(ValueError, match="index"):
        relocating.load_index(bench.stream, 1, other, bench.disk.read(place))


def test_an_index_that_was_read_where_the_block_does_not_lie_any_more_is_not_taken() -> None:
    """It would lead to files that may be deleted, and the next copy would be made from there."""
    bench = Bench(retention=Retention.WORK_QUEUE)
    bench.publish(*"abcdefgh")
    bench.seal()
    bench.drop(1, 2, 3)
    relocating.evict_index(bench.stream, 0)
    before = relocating.index_location(bench.stream, 0)
    assert before is not None
    data = bench.disk.read(before)
    bench.seal_anew()
    after = relocating.index_location(bench.stream, 0)
    assert after is not None
    assert after.path != before.path
    assert relocating.load_index(bench.stream, 0, before, data) == 0
    assert relocating.index_location(bench.stream, 0) == after, "still to be loaded"
    assert bench.live() == [4, 5, 6, 7, 8]
    (run,) = reads.messages_in(bench.stream, [(4, 4)], 1).runs
    assert run.chunk.path == after.path


def test_a_block_may_lie_in_several_files_and_all_of_them_are_released_with_it() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE)
    for subject in "abcd":
        bench.publish(subject)
    (move,) = relocating.blocks_to_relocate(bench.stream, lambda path: False)
    copies = [
        bench.disk.append(f"blocks/1-{place // 2}.blk", bench.disk.read(source))
        for place, source in enumerate(move.sources)
    ]
    index = bench.disk.append("blocks/1-1.blk", relocating.encode_sealed(bench.stream, move, copies))
    assert relocating.apply_relocation(bench.stream, move, copies, index)
    assert not relocating.apply_relocation(bench.stream, move, copies, index), "a move is reported once"
    bench.seal()
    messages = resident(bench.stream, bench.disk, lambda: reads.read_range(bench.stream, 0, 9, 1 << 20))
    assert [seq for seq, _, _, _ in bench.disk.bodies(messages)] == [1, 2, 3, 4]
    assert relocating.files(bench.stream) == {"blocks/1-0.blk": 4, "blocks/1-1.blk": 4}
    bench.drop(1, 2, 3, 4)
    assert sorted(bench.stream.take_released()) == ["blocks/1-0.blk", "blocks/1-1.blk"]
    assert bench.stream.take_released() == []


def test_a_block_of_which_little_lives_is_written_anew_without_the_dead() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, block_size=6)
    for subjects in ("ab", "cd", "ef"):
        bench.publish(*subjects)
    bench.seal()
    (old,) = relocating.files(bench.stream)
    bench.drop(1, 3, 4)
    assert not relocating.blocks_to_relocate(bench.stream, lambda path: False), "half of it lives"
    bench.drop(6)
    (move,) = relocating.blocks_to_relocate(bench.stream, lambda path: False)
    assert (move.lengths, move.entries) == ([2, 2], [0, 2]), "one chunk lost all it held, the others half"
    assert relocate_blocks(bench.stream, bench.disk, lambda path: False, 77) == 1
    check_stream(bench.stream)
    assert bench.stream.take_released() == [old]
    del bench.disk.files[old]
    again = decode_snapshot(encode_snapshot(bench.stream), LIMITS)
    for stream in (bench.stream, again):
        messages = resident(stream, bench.disk, lambda stream=stream: reads.read_range(stream, 0, 9, 1 << 20))  # type: ignore[misc]
        assert [(seq, body) for seq, _, _, body in bench.disk.bodies(messages)] == [(2, b"xy"), (5, b"xy")]
        page = resident(stream, bench.disk, lambda stream=stream: reads.list_subjects(stream, "", "", 9))  # type: ignore[misc]
        assert page.entries == ["b", "e"]
        assert not relocating.blocks_to_relocate(stream, lambda path: False), "what lives is all that is left"
        check_stream(stream)
    bench.drop(2, 5)
    assert not relocating.files(bench.stream)


def test_a_block_that_was_mostly_deleted_before_it_was_sealed_takes_only_the_living_along() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, block_size=6)
    bench.publish(*"abcdef")
    bench.drop(1, 2, 3, 5)
    (move,) = relocating.blocks_to_relocate(bench.stream, lambda path: False)
    assert move.keep == [[(6, 8), (10, 12)]]
    bench.seal()
    assert bench.live() == [4, 6]
    assert sum(relocating.files(bench.stream).values()) == 4
    check_stream(bench.stream)


def test_a_block_is_written_anew_though_its_index_was_given_up_meanwhile() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, block_size=4)
    bench.publish(*"abcd")
    bench.seal()
    bench.drop(1, 2, 3)
    (move,) = relocating.blocks_to_relocate(bench.stream, lambda path: False)
    copies = [bench.disk.append("blocks/1-9.blk", b"xy")]
    assert relocating.evict_index(bench.stream, 0)
    index = bench.disk.append("blocks/1-9.blk", relocating.encode_sealed(bench.stream, move, copies))
    assert relocating.apply_relocation(bench.stream, move, copies, index)
    check_stream(bench.stream)
    assert bench.live() == [4]


def test_a_sparse_block_that_is_not_resident_asks_for_its_index_once() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, block_size=4)
    bench.publish(*"abcdefgh")
    bench.seal()
    bench.drop(1, 2, 3)
    for number, again in enumerate([bench.stream, decode_snapshot(encode_snapshot(bench.stream), LIMITS)], 50):
        relocating.evict_index(again, 0)
        with pytest.raises(NeedBlocks) as need:
            relocating.blocks_to_relocate(again, lambda path: False)
        assert need.value.blocks == [0]
        for block in need.value.blocks:
            place = relocating.index_location(again, block)
            assert place is not None
            relocating.load_index(again, block, place, bench.disk.read(place))
        assert relocate_blocks(again, bench.disk, lambda path: False, number) == 1
        assert not relocating.blocks_to_relocate(again, lambda path: False)
        check_stream(again)


def test_an_open_block_takes_only_the_living_along_and_forgets_chunks_without_any() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, block_size=100)
    for subjects in ("ab", "cd", "ef", "gh"):
        bench.publish(*subjects)
    bench.drop(1, 2, 5, 8)
    assert relocate_blocks(bench.stream, bench.disk, lambda path: path.startswith("journal/"), 1) == 1
    check_stream(bench.stream)
    assert relocating.files(bench.stream) == {"tails/1.tail": 8}
    assert [len(data) for path, data in bench.disk.files.items() if path.startswith("tails/")] == [8]
    bench.publish("i", "j")
    bench.drop(6, 7)
    assert relocating.files(bench.stream) == {"tails/1.tail": 4}, "what lives of it"
    again = decode_snapshot(cbor2.loads(cbor2.dumps(encode_snapshot(bench.stream))), LIMITS)
    for stream in (bench.stream, again):
        messages = resident(stream, bench.disk, lambda stream=stream: reads.read_range(stream, 0, 99, 1 << 20))  # type: ignore[misc]
        assert [(seq, body) for seq, _, _, body in bench.disk.bodies(messages)] == [
            (seq, b"xy") for seq in (3, 4, 9, 10)
        ]
        assert resident(stream, bench.disk, lambda stream=stream: stream.latest("f")) == 0  # type: ignore[misc]
    assert relocate_blocks(bench.stream, bench.disk, lambda path: path == "tails/1.tail", 2) == 1
    assert relocating.files(bench.stream) == {"tails/2.tail": 4}
    bench.drop(3, 4)
    assert relocate_blocks(bench.stream, bench.disk, lambda path: False, 3) == 1, (
        "chunks that hold nothing are forgotten"
    )
    assert not relocating.files(bench.stream)
    assert bench.live() == [9, 10]
    check_stream(bench.stream)


def test_blocks_that_share_a_file_leave_it_together() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, block_size=3)
    for subjects in ("abc", "def", "ghi", "jkl"):
        bench.publish(*subjects)
    for move in relocating.blocks_to_relocate(bench.stream, lambda path: False):
        copies = [bench.disk.append("blocks/1-1.blk", bench.disk.read(source)) for source in move.sources]
        index = bench.disk.append("blocks/1-1.blk", relocating.encode_sealed(bench.stream, move, copies))
        assert relocating.apply_relocation(bench.stream, move, copies, index)
    bench.drop(1, 2, 4, 5)
    assert not relocating.blocks_to_relocate(bench.stream, lambda path: False), "eight of twelve live"
    bench.drop(6, 7)
    assert not relocating.blocks_to_relocate(bench.stream, lambda path: False), (
        "six of twelve live, a block that is gone among them"
    )
    bench.drop(8, 10)
    moves = relocating.blocks_to_relocate(bench.stream, lambda path: False)
    assert [move.block for move in moves] == [0, 2, 3]
    assert relocate_blocks(bench.stream, bench.disk, lambda path: False, 7) == 3
    assert bench.live() == [3, 9, 11, 12]
    assert bench.stream.take_released() == ["blocks/1-1.blk"]


def test_a_block_without_any_dead_leaves_a_shared_file_as_it_is() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, block_size=4)
    for start in range(4):
        bench.publish(*[f"s{start}{entry}" for entry in range(4)])
    for move in relocating.blocks_to_relocate(bench.stream, lambda path: False):
        copies = [bench.disk.append("blocks/1-1.blk", bench.disk.read(source)) for source in move.sources]
        assert relocating.apply_relocation(
            bench.stream,
            move,
            copies,
            bench.disk.append("blocks/1-1.blk", relocating.encode_sealed(bench.stream, move, copies)),
        )
    bench.drop(1, 2, 3, 5, 6, 7, 9, 10, 11)
    assert relocate_blocks(bench.stream, bench.disk, lambda path: False, 7) == 4
    assert bench.live() == [4, 8, 12, 13, 14, 15, 16]
    check_stream(bench.stream)


def test_a_block_that_went_while_it_was_copied_ignores_the_copy() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE)
    bench.publish("a", "b")
    (move,) = relocating.blocks_to_relocate(bench.stream, lambda path: True)
    bench.drop(1, 2)
    bench.publish("c")
    assert not relocating.apply_relocation(bench.stream, move, [Chunk("tails/1.tail", 0, 4, 0)])
    check_stream(bench.stream)
    assert relocating.encode_sealed(bench.stream, move, []) == b""


def test_an_ephemeral_record_across_a_block_boundary_keeps_its_file_until_both_blocks_are_gone() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE, ephemeral=True)
    decision = bench.decide(*"abcdef")
    chunk = bench.disk.append("memory/1/0", b"".join(decision.parts))
    assert decision.record is not None
    bench.stream.apply(1, decision.record, chunk)
    bench.drop(1, 2, 3, 4)
    assert bench.stream.take_released() == []
    bench.drop(5, 6)
    assert bench.stream.take_released() == ["memory/1/0"]


# ---------------------------------------------------------------- replay and reservation


def test_a_drop_of_a_sealed_blocks_message_replays_without_its_index() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE)
    bench.publish(*"abcdefgh")
    bench.seal()
    snapshot = cbor2.loads(cbor2.dumps(encode_snapshot(bench.stream)))
    drops, sizes = resident(bench.stream, bench.disk, lambda: retention.decide_drops(bench.stream, [2, 3]))
    again = decode_snapshot(snapshot, LIMITS)
    for stream in (bench.stream, again):
        stream.apply(stream.position + 1, ack_record(drops, sizes), None)
    assert again.blocks[0].columns is None
    check_stream(again)
    assert view(again, bench.disk) == view(bench.stream, bench.disk)


def test_reserved_sequences_are_passed_over_after_a_stop() -> None:
    bench = Bench()
    bench.stream.reserve_interval_ms = 100
    bench.publish("a")
    assert bench.stream.reserved_to == 1 + RESERVE_MIN, "an idle stream reserves little"
    again = decode_snapshot(cbor2.loads(cbor2.dumps(encode_snapshot(bench.stream))), LIMITS)
    again.skip_reserved()
    bench.stream = again
    assert bench.publish("b").published.first_seq == 2 + RESERVE_MIN
    assert bench.live() == [1, 2 + RESERVE_MIN]
    assert bench.stream.stats().msg_count == 2


def test_a_reservation_is_renewed_before_it_is_used_up() -> None:
    bench = Bench()
    bench.stream.reserve_interval_ms = 100
    reserved = 0
    for number in range(200):
        record = bench.publish("a", "a", wall_ms=1_000 * number).record
        assert record is not None
        assert record.reserved_to in {0, record.first_seq + 1 + RESERVE_MIN}
        reserved = max(reserved, record.reserved_to)
        assert reserved >= record.first_seq + 1


def test_a_reservation_follows_what_is_published_between_syncs() -> None:
    bench = Bench(block_size=1_000)
    bench.stream.reserve_interval_ms = 100
    ahead = []
    for number in range(400):  # 64 messages each ten milliseconds: 640 an interval
        record = bench.decide(*["a"] * 64, wall_ms=10_000 + 10 * number).record
        assert record is not None
        if record.reserved_to:
            ahead.append(record.reserved_to - record.first_seq - 63)
    assert ahead[0] == RESERVE_MIN
    assert all(later <= 8 * before for before, later in pairwise(ahead)), "it grows step by step"
    assert 8 * 600 <= ahead[-1] <= 8 * 700, "and lasts for eight intervals"
    assert len(ahead) < 30, "so it is renewed seldom"
    for number in range(5_400):  # one message a second, until what was reserved is used up
        record = bench.decide("a", wall_ms=100_000 + 1_000 * number).record
        assert record is not None
        if record.reserved_to:
            ahead.append(record.reserved_to - record.first_seq)
    assert ahead[-1] == RESERVE_MIN, "a stream that became idle reserves little again"


def test_an_import_keeps_its_gaps_and_what_does_not_fit_is_refused() -> None:
    bench = Bench()
    good = ImportBatch(1, [3, 9], [5, 6], ["a", "b"], [1, 1], [1, 1], b"xy")
    for bad in [
        ImportBatch(1, [3, 3], [5, 6], ["a", "b"], [1, 1], [1, 1], b"xy"),
        ImportBatch(1, [3, 9], [5, -6], ["a", "b"], [1, 1], [1, 1], b"xy"),
        ImportBatch(1, [3, 9], [5, 6], ["a", "b c"], [1, 1], [1, 1], b"xy"),
        ImportBatch(1, [3, 9], [5, 6], ["a", "b"], [1, 1], [1, 1], b"xyz"),
        ImportBatch(1, [3], [5, 6], ["a", "b"], [1, 1], [1, 1], b"xy"),
        ImportBatch(1, [], [], [], [], [], b""),
        ImportBatch(1, [0, 1], [5, 6], ["a", "b"], [1, 1], [1, 1], b"xy"),
    ]:
        with pytest.raises(RefusedError):
            admission.decide_import(bench.stream, bad, 100)
    assert bench.stream.is_settled()
    bench.apply(admission.decide_import(bench.stream, good, 100))
    bench.stream.open_at(50)
    assert bench.live() == [3, 9]
    assert bench.publish("c").published.first_seq == 51


def test_a_damaged_snapshot_is_refused_and_never_half_believed() -> None:
    bench = Bench(retention=Retention.WORK_QUEUE)
    bench.publish(*"abcdef")
    bench.drop(2)
    bench.seal()
    good = encode_snapshot(bench.stream)
    assert isinstance(good, list)
    foreigners: list[object] = [None, "x", -1, [], [[]], b"zz", [1, 2, 3]]
    for place in range(len(good)):
        for foreign in foreigners:
            value: list[object] = list(good)
            value[place] = foreign
            if isinstance(good[place], str) and isinstance(foreign, str):
                continue
            if isinstance(good[place], int) and isinstance(foreign, int) and place:
                continue
            if foreign == good[place] or (foreign == [] and place == 9):
                continue
            with pytest.raises(ValueError, match=r"."):
                decode_snapshot(value, LIMITS)
    with pytest.raises(ValueError, match="version"):
        decode_snapshot([6, *good[1:]], LIMITS)


def test_a_stream_emptied_beyond_its_last_message_has_nothing_staged() -> None:
    bench = Bench(retention=Retention.INTEREST, block_size=10)
    bench.publish(*"abcdefgh")
    bench.stream.reserved_to = 15
    bench.stream.skip_reserved()
    record = retention.decide_retention(bench.stream, 1000, 8)
    assert record is not None
    assert record.truncate_to == 11, "the block is complete, for its last numbers will never be used"
    assert not bench.stream.is_settled()
    bench.stream.apply(bench.stream.position + 1, record, None)
    assert bench.stream.is_settled()
    check_stream(bench.stream)

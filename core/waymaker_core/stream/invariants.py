"""The invariants of a stream, checked from scratch: for tests and simulations, never on a path that serves.

Each relation is stated once, over the committed state, the overlay and the notes; those over columns hold where the
columns are resident.
"""

from __future__ import annotations

from waymaker_core.stream.blocks.block import Block
from waymaker_core.stream.blocks.columns import HOLE
from waymaker_core.stream.stream import SHARED_FILES, Stream


def check_stream(stream: Stream) -> None:
    """Assert every invariant of one stream."""
    _check_figures(stream)
    for number, block in stream.blocks.items():
        assert number == block.number == stream.block_of(block.first) == stream.block_of(block.last)
        _check_block(stream, block)
    _check_subjects(stream)
    _check_overlay(stream)
    _check_producers(stream)


def _check_figures(stream: Stream) -> None:
    blocks = list(stream.blocks.values())
    assert stream.count == sum(block.alive for block in blocks)
    assert stream.bytes == sum(block.bytes for block in blocks)
    assert 1 <= stream.first_seq <= stream.last_seq + 1
    assert all(block.last <= stream.last_seq for block in blocks)
    assert stream.absent == sum(block.columns is None for block in blocks)
    uses: dict[str, int] = {}
    for block in blocks:
        for path in block.files:
            uses[path] = uses.get(path, 0) + 1
    assert uses == stream.file_uses
    assert not set(uses) & set(stream.released), "a file in use is not released"
    if stream.in_order:
        latest = 0
        for block in blocks:
            assert block.ordered and block.time_min >= latest
            latest = max(latest, block.time_max)


def _check_block(stream: Stream, block: Block) -> None:
    assert block.alive > 0, "an empty block is released"
    assert block.alive == (block.size if block.dead is None else block.dead.count(0))
    assert block.dead is None or len(block.dead) == block.size
    assert block.head == (0 if block.dead is None else block.dead.find(0))
    assert block.is_live(block.first_live)
    columns = block.columns
    if columns is None:
        assert block.index is not None, "what is not resident can be loaded"
        return
    assert len(columns.lengths) == len(columns.sizes) == len(columns.times_ms) == len(columns.ids) == block.size
    live = [entry for entry in range(block.size) if block.dead is None or not block.dead[entry]]
    assert all(columns.ids[entry] != HOLE for entry in live)
    assert block.bytes == sum(columns.sizes[entry] for entry in live)
    assert block.last_size == columns.sizes[-1]
    own = {path for path in columns.paths if not path.startswith(SHARED_FILES)}
    assert own <= set(block.files), "a block reads from files that it holds"
    assert columns.chunk_firsts[0] == 0
    assert list(columns.chunk_firsts) == sorted(set(columns.chunk_firsts))
    dropped = {entry for entry in live if stream.overlay.is_dropped(block.first + entry)}
    assert all(block.time_min <= columns.times_ms[entry] <= block.time_max for entry in live)
    assert all(columns.times_ms[entry] <= block.newest_ms for entry in live if entry not in dropped)
    for subject, ident in columns.table.items():
        assert columns.subjects[ident] == subject
        entries = [entry for entry, other in enumerate(columns.ids) if other == ident]
        assert list(columns.postings_of(subject)) == entries


def _check_subjects(stream: Stream) -> None:
    newest: dict[str, int] = {}
    places: dict[str, set[int]] = {}
    for block in stream.blocks.values():
        columns = block.columns
        if columns is None:
            return
        for entry in range(block.size):
            if block.is_live(block.first + entry):
                newest[columns.subject_at(entry)] = block.first + entry
                places.setdefault(columns.subject_at(entry), set()).add(block.number)
    for subject, seq in newest.items():
        assert stream.subjects.last[subject] >= seq
        assert places[subject] <= set(stream.subjects.blocks_of(subject))
        blocks = stream.subjects.blocks_of(subject)
        assert blocks == sorted(set(blocks))
    order = stream.subjects.sorted_subjects()
    assert order == sorted(set(order))
    assert set(stream.subjects.last) <= set(order)


def _check_producers(stream: Stream) -> None:
    producers, limits = stream.producers, stream.limits
    assert len(producers.known) <= limits.producers_max
    for known in producers.known.values():
        assert known.is_sound(stream.last_seq) and len(known.numbers) <= limits.producer_spans_max
    before = stream.last_seq
    for span in producers.staged:
        assert before < span.first_seq <= span.first_seq + span.length - 1 <= stream.overlay.last_seq
        before = span.first_seq + span.length - 1
        assert producers.is_staged(span.producer_id)


def _check_overlay(stream: Stream) -> None:
    overlay = stream.overlay
    assert overlay.last_seq >= stream.last_seq
    assert overlay.clock_ms == stream.clock_ms or overlay.staged or overlay.corrections
    assert all(0 < each.at_ms < each.was_ms for each in stream.corrections)
    assert all(delta != [0, 0] for delta in overlay.blocks.values())
    if stream.is_settled():
        assert (overlay.count, overlay.bytes) == (stream.count, stream.bytes)
        assert not overlay.blocks
    for publish in overlay.staged:
        assert stream.last_seq < publish.first_seq <= publish.last_seq <= overlay.last_seq
    absent = any(block.columns is None for block in stream.blocks.values())
    if absent:
        return
    sizes = {
        block.first + entry: block.resident().sizes[entry]
        for block in stream.blocks.values()
        for entry in range(block.size)
        if block.is_live(block.first + entry)
    }
    for publish in overlay.staged:
        for entry, size in enumerate(publish.sizes):
            sizes[publish.seq_of(entry)] = size
    projected = {seq: size for seq, size in sizes.items() if not overlay.is_dropped(seq)}
    assert (overlay.count, overlay.bytes) == (len(projected), sum(projected.values()))
    assert all(seq >= overlay.front_seq for seq in projected), "nothing lives below the front"

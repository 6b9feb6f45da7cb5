"""Limits of count and bytes: what an append pushes out, and what exact pruning under new settings removes.

Block-aligned (the default): the first block is deleted as soon as exact pruning would have deleted all of it, which
needs its summary alone and leaves less than one block too much. Strict: messages are deleted one by one from the front
until the rest fits. Each deletion is staged at once; the record names it as a truncation for whole blocks, else message
by message.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.model.records import seq_array
from waymaker_core.stream import projection
from waymaker_core.stream.stream import Stream


@dataclass(slots=True, eq=False)
class Removal:
    """The deletions of a record, while it is being decided."""

    truncate_to: int = 0
    drop_seqs: array[int] = field(default_factory=seq_array)
    drop_sizes: array[int] = field(default_factory=seq_array)
    count: int = 0


def truncate_block(stream: Stream, number: int, removal: Removal) -> None:
    """Stage the end of everything up to the end of the first block, to which nothing will be added."""
    alive, byte_count = projection.block_figures(stream, number)
    removal.truncate_to = (number + 1) * stream.block_size + 1
    removal.count += alive
    stream.overlay.stage_truncate(removal.truncate_to, alive, byte_count)


def drop(stream: Stream, seq: int, size: int, removal: Removal) -> None:
    """Stage the end of one live message."""
    stream.overlay.stage_drop(seq, size)
    removal.drop_seqs.append(seq)
    removal.drop_sizes.append(size)
    removal.count += 1


def drop_all(stream: Stream, number: int, gone: list[tuple[int, int]], removal: Removal) -> None:
    """Stage the end of live messages of one block, given as (sequence, size)."""
    if gone:
        seqs, sizes = [seq for seq, _ in gone], [size for _, size in gone]
        stream.overlay.stage_drops(number, seqs, sizes)
        removal.drop_seqs.extend(seqs)
        removal.drop_sizes.extend(sizes)
        removal.count += len(gone)


def is_over(stream: Stream, settings: StreamConfig) -> bool:
    """Return True if the projection holds more messages or bytes than the limits allow."""
    overlay = stream.overlay
    return 0 < settings.max_msgs < overlay.count or 0 < settings.max_bytes < overlay.bytes


def enforce(stream: Stream, settings: StreamConfig, removal: Removal, strict: bool, count_max: int = SEQ_MAX) -> None:
    """Stage what the limits of count and bytes remove from the projection, about `count_max` at most. `NeedBlocks`."""
    if not is_over(stream, settings):
        return
    before = removal.count
    if strict:
        _enforce_exactly(stream, settings.max_msgs, settings.max_bytes, removal, before + count_max)
    else:
        _enforce_by_block(stream, settings.max_msgs, settings.max_bytes, removal)
    if removal.count > before:
        stream.judge_age_anew()


def _enforce_by_block(stream: Stream, max_msgs: int, max_bytes: int, removal: Removal) -> None:
    overlay = stream.overlay
    newest = stream.block_of(overlay.last_seq)
    while (max_msgs and overlay.count > max_msgs) or (max_bytes and overlay.bytes > max_bytes):
        number = projection.first_block(stream)
        if number == newest:
            return
        alive, byte_count = projection.block_figures(stream, number)
        # Exact pruning removes the block's last message only when it does not fit together with all behind the block.
        if not (max_msgs and overlay.count - alive >= max_msgs):
            rest = overlay.bytes - byte_count
            if not max_bytes or rest + byte_count <= max_bytes:
                return
            if rest < max_bytes and rest + projection.last_size(stream, number) <= max_bytes:
                return
        truncate_block(stream, number, removal)


def _enforce_exactly(stream: Stream, max_msgs: int, max_bytes: int, removal: Removal, count_max: int) -> None:
    overlay = stream.overlay
    newest = stream.block_of(overlay.last_seq)
    while removal.count < count_max and (
        (max_msgs and overlay.count > max_msgs) or (max_bytes and overlay.bytes > max_bytes)
    ):
        number = projection.first_block(stream)
        alive, byte_count = projection.block_figures(stream, number)
        if number < newest and (
            (max_msgs and overlay.count - alive >= max_msgs) or (max_bytes and overlay.bytes - byte_count >= max_bytes)
        ):
            truncate_block(stream, number, removal)
            continue
        # Few go at a time while a stream is full, many when it was filled by one batch.
        wanted = min(max(overlay.count - max_msgs, 1) if max_msgs else 64, count_max - removal.count)
        seqs, sizes = projection.live_run(stream, number, overlay.front_seq, wanted)
        count, octets = overlay.count, overlay.bytes
        going = 0
        for size in sizes:
            if not ((max_msgs and count > max_msgs) or (max_bytes and octets > max_bytes)):
                break
            going += 1
            count -= 1
            octets -= size
        overlay.stage_drops(number, seqs[:going], sizes[:going])
        removal.drop_seqs.extend(seqs[:going])
        removal.drop_sizes.extend(sizes[:going])
        removal.count += going
        overlay.front_seq = seqs[going - 1] + 1

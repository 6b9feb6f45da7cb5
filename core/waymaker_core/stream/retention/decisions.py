"""Retention: what age and interest delete, what new settings prune, and single deletions.

A message is expired once its age reaches `max_age_ms`. Exact pruning removes every expired message except those behind an
older message of their subject that stays: the newer one is never deleted first. Put as one number, a message's effective time
is the greatest time among the live messages at its subject up to itself, and exact pruning removes what has an expired
effective time. Times given by clients may come in any order, so a young message does not protect old ones behind it.

In order of time, as server times are, the expired ones are the front of the stream: summaries decide, no index is needed.
Out of order, blocks are scanned. What a scan found is noted in the block (`due_ms`: nothing more is due before that
effective time expires; `newest_ms`: no time is above it; `spared`: how many may have expired by then), so that each tick
looks only where something is due.
In block-aligned mode a block may keep some expired messages, as long as all together are fewer than one block holds. Where
a limit of count or bytes may keep nearly a block too much as well, and times come in any order, retention makes both exact.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from waymaker_core.model.config import StreamConfig
from waymaker_core.model.records import PruneRecord, SettingsRecord
from waymaker_core.stream import projection
from waymaker_core.stream.answers import UpdateDecision
from waymaker_core.stream.blocks.block import TIME_MAX_MS, Block
from waymaker_core.stream.blocks.columns import Columns
from waymaker_core.stream.blocks.need_blocks import NeedBlocks
from waymaker_core.stream.clock import expired_to, spares_all
from waymaker_core.stream.retention import limits as bounds
from waymaker_core.stream.stream import Stream

DROPS_MAX = 4096
"""Single messages that one record removes."""


def decide_retention(stream: Stream, wall_ms: int, interest_floor: int | None) -> PruneRecord | None:
    """Stage the next piece of what age and interest delete; None when nothing is due: call until then.

    `interest_floor` is the least ack floor of all consumers (`last_seq` when there are none), None on a stream whose
    retention is not interest. A message expires once `time + max_age_ms <= wall_ms`. Raises `NeedBlocks`.
    """
    removal = bounds.Removal()
    savepoint = stream.overlay.savepoint()
    settings = stream.settings
    if interest_floor is not None:
        _truncate_front(stream, removal, last_max=interest_floor)
    elif settings.max_age_ms and stream.is_ahead(wall_ms) and wall_ms > 0:
        # Noted even if nothing is published any more: what was stamped in the future expires `max_age` after this.
        stream.overlay.stage_correction(wall_ms)
        return PruneRecord(clock_ms=wall_ms)
    elif _ages(stream, settings, wall_ms):
        try:
            if not _remove_corrected(stream, wall_ms, settings, removal):
                _remove_aged(stream, wall_ms - settings.max_age_ms, settings, removal)
        except NeedBlocks:
            stream.overlay.rollback(savepoint)
            raise
    if not removal.count:
        return None
    return PruneRecord(removal.truncate_to, removal.drop_seqs, removal.drop_sizes)


def decide_update(stream: Stream, config: StreamConfig, wall_ms: int, dry_run: bool = False) -> UpdateDecision:
    """Stage what exact pruning under new settings deletes, in either mode, and the settings; with `dry_run` only count it.

    The records enter the stream's log in order, the settings last. Later decisions are taken under the new settings at
    once. Raises `NeedBlocks`.
    """
    removal = bounds.Removal()
    savepoint = stream.overlay.savepoint()
    try:
        if _ages(stream, config, wall_ms):
            while _remove_corrected(stream, wall_ms, config, removal):
                pass
            _remove_aged_exactly(stream, wall_ms - config.max_age_ms, removal)
        bounds.enforce(stream, config, removal, strict=True)
    except NeedBlocks:
        stream.overlay.rollback(savepoint)
        raise
    if dry_run:
        stream.overlay.rollback(savepoint)
    else:
        stream.overlay.stage_config(config)
        stream.caps.forget()
        for block in stream.blocks.values():
            block.forget_notes()
    records: list[PruneRecord | SettingsRecord] = []
    if removal.truncate_to:
        records.append(PruneRecord(removal.truncate_to))
    for start in range(0, len(removal.drop_seqs), DROPS_MAX):
        end = start + DROPS_MAX
        records.append(PruneRecord(0, removal.drop_seqs[start:end], removal.drop_sizes[start:end]))
    records.append(SettingsRecord(config))
    return UpdateDecision(records, removal.count)


def decide_drops(stream: Stream, seqs: Iterable[int]) -> tuple[array[int], array[int]]:
    """Stage the deletion of single messages: those among `seqs` that are live and whose deletion is not staged already.

    Returns `(drop_seqs, drop_sizes)` for the record that carries them. Raises `NeedBlocks`.
    """
    stream.overlay.savepoint()
    return stage_drops(stream, seqs)


def stage_drops(stream: Stream, seqs: Iterable[int]) -> tuple[array[int], array[int]]:
    """Stage the deletion of those that are live in the projection, as a part of a decision. `NeedBlocks` before any
    change.
    """
    overlay, blocks, block_size = stream.overlay, stream.blocks, stream.block_size
    wanted = [seq for seq in seqs if stream.is_live(seq) and not overlay.is_dropped(seq)]
    absent = {number for seq in wanted if blocks[number := (seq - 1) // block_size].columns is None}
    if absent:
        raise NeedBlocks(sorted(absent))
    removal = bounds.Removal()
    capped = bool(stream.caps.queues)
    for seq in wanted:
        if seq in overlay.drops:
            continue
        block = blocks[(seq - 1) // block_size]
        columns = block.resident()
        if capped:
            stream.caps.dropped(columns.subject_at(seq - block.first), seq)
        bounds.drop(stream, seq, columns.sizes[seq - block.first], removal)
    if removal.count:
        stream.judge_age_anew()
    return removal.drop_seqs, removal.drop_sizes


def next_expiry_ms(stream: Stream) -> int | None:
    """Return the wall time before which `decide_retention` finds nothing aged; None when nothing ever ages."""
    settings = stream.settings
    if not settings.max_age_ms or not stream.blocks:
        return None
    if _both_exact(stream, settings) and bounds.is_over(stream, settings):
        return 0
    if stream.in_order:
        front = stream.blocks.peekitem(0)[1]
        expiry_ms = settings.max_age_ms + (front.due_ms if settings.strict_limits else front.newest_ms)
    else:
        expiry_ms = settings.max_age_ms + min(block.due_ms for block in stream.blocks.values())
    for correction in stream.corrections:
        due_ms = correction.expires_ms(settings.max_age_ms)
        if due_ms is not None and stream.first_seq <= correction.last_seq:
            expiry_ms = min(expiry_ms, due_ms)
    return expiry_ms


# ---------------------------------------------------------------- whole blocks from the front


def _truncate_front(
    stream: Stream, removal: bounds.Removal, last_max: int = TIME_MAX_MS, time_max: int = TIME_MAX_MS
) -> None:
    """Stage the end of the first blocks as long as all their messages are within both bounds, the open block included."""
    overlay = stream.overlay
    while True:
        number = projection.first_block(stream)
        block = stream.blocks.get(number)
        if (
            block is None
            or block.last > last_max
            or block.newest_ms > time_max
            or projection.has_staged(stream, number)
        ):
            return
        if (number + 1) * stream.block_size <= overlay.last_seq:
            bounds.truncate_block(stream, number, removal)
        else:
            assert not overlay.staged, "what is staged would lie in this block, the last one"
            alive, byte_count = projection.block_figures(stream, number)
            overlay.stage_truncate_open(number, alive, byte_count)
            removal.truncate_to = overlay.truncate_to
            removal.count += alive


# ---------------------------------------------------------------- age


def _ages(stream: Stream, settings: StreamConfig, wall_ms: int) -> bool:
    """Return True if messages expire by age at this time."""
    age_ms = settings.max_age_ms
    return 0 < age_ms <= wall_ms and not spares_all(stream.corrections, wall_ms, age_ms)


def _remove_corrected(stream: Stream, wall_ms: int, settings: StreamConfig, removal: bounds.Removal) -> bool:
    """Stage a piece of what expired by a correction of server time; return True if there was any. `NeedBlocks`.

    All messages up to a sequence are deleted, the block that it lies in included: left there, they would look young for
    ever, and so keep later ones at their subjects.
    """
    last = expired_to(stream.corrections, wall_ms, settings.max_age_ms)
    before = removal.count
    if stream.first_seq <= last:
        # What is deleted may be what retention spared later messages for.
        stream.judge_age_anew()
        _truncate_front(stream, removal, last_max=last)
        block = stream.blocks.get(projection.first_block(stream))
        if removal.count == before and block is not None and block.first <= last:
            _drop_to(stream, block, last, removal)
    return removal.count > before


def _drop_to(stream: Stream, block: Block, last: int, removal: bounds.Removal) -> None:
    """Stage the end of a block's messages up to a sequence, as much as fits a record, and note the times of the others."""
    columns, overlay = block.resident(), stream.overlay
    gone: list[tuple[int, int]] = []
    kept: list[int] = []
    entry = block.next_live(0)
    while entry < block.size:
        seq = block.first + entry
        if not overlay.is_dropped(seq):
            if seq <= last and len(gone) < DROPS_MAX:
                gone.append((seq, columns.sizes[entry]))
            else:
                kept.append(columns.times_ms[entry])
        entry = block.next_live(entry + 1)
    if gone:
        bounds.drop_all(stream, block.number, gone, removal)
        block.due_ms, block.newest_ms, block.spared = min(kept, default=TIME_MAX_MS), max(kept, default=0), -1


def _remove_aged(stream: Stream, cutoff: int, settings: StreamConfig, removal: bounds.Removal) -> None:
    """Stage a piece of what is as old as `cutoff` or older: whole blocks at the front, or messages of one block."""
    _truncate_front(stream, removal, time_max=cutoff)
    if removal.count or not stream.blocks:
        return
    if stream.in_order:
        block = stream.blocks.get(projection.first_block(stream))
        if settings.strict_limits and block is not None and block.due_ms <= cutoff:
            _scan(stream, block, cutoff, removal, spare=1)
    elif _both_exact(stream, settings):
        bounds.enforce(stream, settings, removal, strict=True, count_max=DROPS_MAX)
        if not removal.count:
            _scan_due(stream, cutoff, removal, strict=True)
    else:
        _scan_due(stream, cutoff, removal, settings.strict_limits)


def _both_exact(stream: Stream, settings: StreamConfig) -> bool:
    """Return True where expired messages lie anywhere and another limit leaves no room for what is kept too long."""
    return not stream.in_order and (settings.max_msgs > 0 or settings.max_bytes > 0)


def _scan_due(stream: Stream, cutoff: int, removal: bounds.Removal, strict: bool) -> None:
    """Stage what the first block has to lose that has anything."""
    due = [block for block in stream.blocks.values() if block.due_ms <= cutoff]
    if not due or (not strict and _few_enough(stream, due, cutoff)):
        return
    spare = 1 if strict else max(1, stream.block_size // (2 * len(stream.blocks)))
    for block in due:
        if _scan(stream, block, cutoff, removal, spare):
            return


def _few_enough(stream: Stream, due: list[Block], cutoff: int) -> bool:
    """Return True if the expired messages are surely fewer than one block holds, and no block is wholly expired."""
    most = sum(max(block.spared, 0) for block in stream.blocks.values() if block.due_ms > cutoff)
    for block in due:
        # After a restart `newest_ms` may be of a message that a correction deleted, so a block with one is scanned.
        if block.newest_ms <= cutoff or any(block.first <= each.last_seq <= block.last for each in stream.corrections):
            return False
        most += min(block.alive, stream.block_size - 1)
    return most < stream.block_size


def _remove_aged_exactly(stream: Stream, cutoff: int, removal: bounds.Removal) -> None:
    """Stage everything that is as old as `cutoff` or older. `NeedBlocks`."""
    _truncate_front(stream, removal, time_max=cutoff)
    aged = [
        block
        for block in stream.blocks.values()
        if block.time_min <= cutoff and block.last >= stream.overlay.truncate_to
    ]
    absent = [block.number for block in aged if block.columns is None]
    if absent:
        raise NeedBlocks(absent)
    for block in aged:
        more = True
        while more:
            found = _expired(stream, block, cutoff)
            _drop(stream, block, found, removal)
            more = len(found.gone) > DROPS_MAX


def _drop(stream: Stream, block: Block, found: _Expired, removal: bounds.Removal) -> None:
    """Stage the end of what a scan found, as much as fits a record."""
    gone = found.gone[:DROPS_MAX]
    front = block.ordered and not found.shielded and block.number == projection.first_block(stream)
    bounds.drop_all(stream, block.number, gone, removal)
    if front and gone:
        # All before went with it: the next scan begins here.
        stream.overlay.front_seq = gone[-1][0] + 1


def _scan(stream: Stream, block: Block, cutoff: int, removal: bounds.Removal, spare: int) -> bool:
    """Stage what one block has to lose, as much as fits a record, and note when to look again. Return True if any is."""
    found = _expired(stream, block, cutoff)
    _drop(stream, block, found, removal)
    if len(found.gone) > DROPS_MAX:
        return True
    stream.shielded = stream.shielded or found.shielded
    kept = found.kept
    if len(kept) > spare > 1:
        kept.sort()
        block.due_ms = kept[spare - 1]
    else:
        block.due_ms = min(kept, default=TIME_MAX_MS)
    block.spared = min(spare - 1, len(kept)) if not found.cut_short else 0
    if not found.cut_short:
        block.newest_ms = found.newest_ms
    return bool(found.gone)


@dataclass(slots=True, eq=False)
class _Expired:
    """The result of a scan: `gone` (sequence, size); effective times of the `kept`; the greatest of their own times.

    `shielded`: some are kept only for an older one's sake. `cut_short`: times rise, so the scan ended at the first
    young message.
    """

    gone: list[tuple[int, int]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    newest_ms: int = 0
    shielded: bool = False
    cut_short: bool = False


def _expired(stream: Stream, block: Block, cutoff: int) -> _Expired:
    """Return which messages of a block exact pruning deletes, in the projection. `NeedBlocks` before anything is staged."""
    columns = block.resident()
    shields = _Shields(stream, block, columns, cutoff)
    overlay = stream.overlay
    start = block.next_live(max(0, max(overlay.truncate_to, overlay.front_seq) - block.first))
    if block.ordered:
        found = _expired_in_order(stream, block, columns, shields, start)
    else:
        found = _expired_anywhere(stream, block, columns, shields, start)
    if shields.absent:
        raise NeedBlocks(sorted(shields.absent))
    return found


def _expired_in_order(stream: Stream, block: Block, columns: Columns, shields: _Shields, start: int) -> _Expired:
    """Do the same where times rise: look only at the expired beginning of the block."""
    times_ms, sizes, drops, found = columns.times_ms, columns.sizes, stream.overlay.drops, _Expired()
    entry = start
    while entry < block.size:
        if block.first + entry not in drops:
            if times_ms[entry] > shields.cutoff:
                found.kept.append(times_ms[entry])
                found.cut_short = True
                break
            held = shields.of(columns.ids[entry])
            if held:
                found.kept.append(held)
                found.newest_ms = times_ms[entry]
                found.shielded = True
            else:
                found.gone.append((block.first + entry, sizes[entry]))
                if len(found.gone) > DROPS_MAX:
                    break
        entry = block.next_live(entry + 1)
    return found


def _expired_anywhere(stream: Stream, block: Block, columns: Columns, shields: _Shields, start: int) -> _Expired:
    """Do the same where times come in any order: pass over whole columns, and look closer at what is old enough."""
    times_ms, sizes, ids, cutoff, first = columns.times_ms, columns.sizes, columns.ids, shields.cutoff, block.first
    drops, dead, found = stream.overlay.drops, block.dead, _Expired()
    rest = times_ms[start:]
    if dead is None:
        found.kept = list(filter(cutoff.__lt__, rest))
        old = [entry for entry, time_ms in enumerate(rest, start) if time_ms <= cutoff]
    else:
        found.kept = [
            time_ms for time_ms, gone in zip(rest, dead[start:], strict=True) if time_ms > cutoff and not gone
        ]
        old = [entry for entry, time_ms in enumerate(rest, start) if time_ms <= cutoff and not dead[entry]]
    found.newest_ms = max(found.kept, default=0)
    young: dict[int, int] = {}
    for entry in old:
        if first + entry in drops:
            continue
        ident = ids[entry]
        shield = young.get(ident, -1)
        if shield < 0:
            shield = young[ident] = _first_young(stream, block, columns, ident, cutoff)
        held = times_ms[shield] if shield < entry else shields.of(ident)
        if held:
            # At least so long: the shield may have one itself.
            found.kept.append(held)
            found.newest_ms = max(found.newest_ms, times_ms[entry])
            found.shielded = True
        else:
            found.gone.append((first + entry, sizes[entry]))
    return found


def _first_young(stream: Stream, block: Block, columns: Columns, ident: int, cutoff: int) -> int:
    """Return the first live entry at a subject with a time above the cutoff; the block's size where there is none."""
    times_ms, overlay = columns.times_ms, stream.overlay
    for entry in columns.postings_of(columns.subjects[ident]):
        if (
            times_ms[entry] > cutoff
            and block.is_live(block.first + entry)
            and not overlay.is_dropped(block.first + entry)
        ):
            return entry
    return block.size


class _Shields:
    """The greatest time of live messages at a subject in the blocks before one, as far as it is above the cutoff."""

    __slots__ = ("stream", "block", "columns", "cutoff", "earlier", "absent", "known")

    def __init__(self, stream: Stream, block: Block, columns: Columns, cutoff: int) -> None:
        self.stream = stream
        self.block = block
        self.columns = columns
        self.cutoff = cutoff
        front = max(stream.overlay.truncate_to, 1)
        self.earlier = {
            number
            for number in stream.blocks.irange(stream.block_of(front), block.number - 1)
            if stream.blocks[number].newest_ms > cutoff
        }
        self.absent: set[int] = set()
        self.known: dict[int, int] = {}

    def of(self, ident: int) -> int:
        """Return that time, or 0. A block that is not resident is noted in `absent`."""
        if not self.earlier:
            return 0
        time_ms = self.known.get(ident)
        if time_ms is None:
            time_ms = self.known[ident] = self._find(self.columns.subjects[ident])
        return time_ms

    def _find(self, subject: str) -> int:
        stream, greatest = self.stream, 0
        for number in stream.subjects.blocks_of(subject):
            if number not in self.earlier:
                continue
            block = stream.blocks[number]
            if block.columns is None:
                self.absent.add(number)
                continue
            times_ms = block.columns.times_ms
            for entry in block.columns.postings_of(subject):
                seq = block.first + entry
                if times_ms[entry] > greatest and block.is_live(seq) and not stream.overlay.is_dropped(seq):
                    greatest = times_ms[entry]
        return greatest if greatest > self.cutoff else 0

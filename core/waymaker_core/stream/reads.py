"""Reads: committed, live messages by reference, found at the cost of what matches.

A literal subject goes through its postings in the blocks where it occurs; a pattern through the hits of each block; no
filter through ranges, which cost the same whatever their length. Nothing here changes state; the notes it leaves (postings,
hits, blocks known to match nothing) can be made again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import takewhile

from waymaker_core.outcomes import exhausted
from waymaker_core.requests import ENTRY_OVERHEAD_BYTES, Messages, Page, Run
from waymaker_core.stream.answers import MESSAGE_OVERHEAD_BYTES, NeedBlocks, Selection
from waymaker_core.stream.block import SKIPS_MAX, Block
from waymaker_core.stream.columns import first_at_or_after, within_bytes
from waymaker_core.stream.state import StreamState
from waymaker_core.subjects import Pattern

AHEAD_BLOCKS_MAX = 64
"""Missing indexes a search asks for at once."""
AHEAD_ENTRIES_MAX = 250_000
"""Entries of the blocks a search looks ahead for, about."""


class _Search:
    """A selection as it grows."""

    __slots__ = ("limit", "byte_max", "ranges", "count", "byte_count", "next_seq", "full")

    def __init__(self, limit: int, byte_max: int) -> None:
        self.limit = limit
        self.byte_max = byte_max
        self.ranges: list[tuple[int, int]] = []
        self.count = 0
        self.byte_count = 0
        self.next_seq = 0
        self.full = limit <= 0

    def take(self, first: int, count: int, byte_count: int) -> None:
        """Consecutive messages are selected."""
        ranges = self.ranges
        if ranges and ranges[-1][1] + 1 == first:
            ranges[-1] = (ranges[-1][0], first + count - 1)
        else:
            ranges.append((first, first + count - 1))
        self.count += count
        self.byte_count += byte_count
        self.next_seq = first + count
        if self.count >= self.limit:
            self.full = True


def select(state: StreamState, from_seq: int, pattern: Pattern | None, limit: int, byte_max: int) -> Selection:
    """See `Stream.select`."""
    search = _Search(limit, byte_max)
    start = max(from_seq, 1)
    if pattern is not None and pattern.everything:
        pattern = None
    for number in _candidates(state, pattern, state.block_of(start)):
        block = state.blocks[number]
        if pattern is not None and _skips(block, pattern):
            continue
        if block.columns is None and block.last >= start:
            raise NeedBlocks(_ahead(state, pattern, start, search))
        if pattern is not None:
            _look(state, block, start, pattern)
        if pattern is None:
            _take_ranges(search, block, start)
        else:
            _take_hits(search, state, block, start, pattern)
        if search.full:
            break
    next_seq = max(search.next_seq, start) if search.full else state.last_seq + 1
    return Selection(search.ranges, search.count, search.byte_count, next_seq)


def _candidates(state: StreamState, pattern: Pattern | None, from_block: int) -> Iterable[int]:
    if pattern is None or not pattern.literal:
        return state.blocks.irange(from_block)
    numbers = state.subjects.blocks_of(pattern.text)
    return [number for number in numbers[bisect_left(numbers, from_block) :] if number in state.blocks]


def _look(state: StreamState, block: Block, start: int, pattern: Pattern) -> None:
    """Account for what a look at a block costs; `NeedBlocks` where this step's share of searching is spent."""
    if block.columns is None:
        return
    work = state.work
    if block.columns.unjudged(pattern) and work.left > 0:
        work.spend(block.columns.judge(pattern, work.left))
        if pattern.literal:
            return
    if block.columns.unjudged(pattern) > 0:
        # All that was looked at stays resident with this one, or the search would begin again.
        visited = takewhile(lambda number: number <= block.number, _candidates(state, pattern, state.block_of(start)))
        raise NeedBlocks([number for number in visited if not _skips(state.blocks[number], pattern)])


def _ahead(state: StreamState, pattern: Pattern | None, start: int, search: _Search) -> list[int]:
    """The blocks this search visits from its beginning, as far as can be foreseen: they must be resident together."""
    numbers: list[int] = []
    messages = entries = missing = 0
    for number in _candidates(state, pattern, state.block_of(start)):
        block = state.blocks[number]
        if block.last < start or (pattern is not None and _skips(block, pattern)):
            continue
        numbers.append(number)
        # A block where a subject occurs has one message of it, most likely; of a pattern nothing is known before.
        messages += block.live_count_from(start) if pattern is None else 1
        if block.columns is None:
            missing += 1
            entries += block.size
        enough = messages >= search.limit and (pattern is None or pattern.literal)
        if missing and (enough or missing >= AHEAD_BLOCKS_MAX or entries >= AHEAD_ENTRIES_MAX):
            break
    return numbers


def _skips(block: Block, pattern: Pattern) -> bool:
    return block.skips is not None and pattern.text in block.skips


def _take_ranges(search: _Search, block: Block, start: int) -> None:
    entry = block.next_live(max(0, start - block.first))
    if entry >= block.size:
        return
    lengths = block.resident().lengths
    while entry < block.size and not search.full:
        end = block.live_end(entry)
        end = min(end, entry + search.limit - search.count)
        piece = lengths[entry:end]
        room = search.byte_max - search.byte_count
        fits = within_bytes(piece, room, MESSAGE_OVERHEAD_BYTES)
        if fits < len(piece):
            search.full = True
            piece = piece[: max(fits, 0 if search.count else 1)]
        if piece:
            search.take(block.first + entry, len(piece), sum(piece) + MESSAGE_OVERHEAD_BYTES * len(piece))
        entry = block.next_live(end)


def _take_hits(search: _Search, state: StreamState, block: Block, start: int, pattern: Pattern) -> None:
    columns = block.resident()
    hits = columns.hits_of(pattern)
    if not hits and state.is_complete(block):
        # Sealed, so it will never match: next time its index need not be resident.
        if block.skips is None:
            block.skips = set()
        if len(block.skips) < SKIPS_MAX:
            block.skips.add(pattern.text)
        return
    if len(hits) == block.size:
        # All of it matches: ranges cost the same whatever their length.
        _take_ranges(search, block, start)
        return
    lengths, first = columns.lengths, block.first
    for place in range(first_at_or_after(hits, max(block.head, start - first)), len(hits)):
        seq = first + hits[place]
        if not block.is_live(seq):
            continue
        size = lengths[hits[place]] + MESSAGE_OVERHEAD_BYTES
        if search.count and search.byte_count + size > search.byte_max:
            search.full = True
            return
        search.take(seq, 1, size)
        if search.full:
            return


# ---------------------------------------------------------------- messages


def messages_in(state: StreamState, ranges: Sequence[tuple[int, int]], deliver_count: int) -> Messages:
    """See `Stream.messages_in`."""
    _need(state, ranges)
    runs: list[Run] = []
    count = byte_count = 0
    for first, last in ranges:
        byte_count += _add_runs(state, first, last, deliver_count, runs)
        count += last - first + 1
    return Messages(runs, count, byte_count + MESSAGE_OVERHEAD_BYTES * count)


def messages_at(state: StreamState, seqs: Sequence[int], counts: Sequence[int]) -> Messages:
    """See `Stream.messages_at`."""
    pieces: list[tuple[int, int, int]] = []
    for seq, deliver_count in zip(seqs, counts, strict=True):
        if not state.is_live(seq):
            continue
        if pieces and pieces[-1][1] + 1 == seq and pieces[-1][2] == deliver_count:
            pieces[-1] = (pieces[-1][0], seq, deliver_count)
        else:
            pieces.append((seq, seq, deliver_count))
    _need(state, [(first, last) for first, last, _ in pieces])
    runs: list[Run] = []
    count = byte_count = 0
    for first, last, deliver_count in pieces:
        byte_count += _add_runs(state, first, last, deliver_count, runs)
        count += last - first + 1
    return Messages(runs, count, byte_count + MESSAGE_OVERHEAD_BYTES * count)


def _need(state: StreamState, ranges: Sequence[tuple[int, int]]) -> None:
    """`NeedBlocks`, naming all that is needed together, unless every block of the ranges is resident."""
    needed: list[int] = []
    resident = True
    for first, last in ranges:
        for number in range(state.block_of(first), state.block_of(last) + 1):
            if not needed or needed[-1] != number:
                needed.append(number)
                resident = resident and state.blocks[number].columns is not None
    if not resident:
        raise NeedBlocks(list(dict.fromkeys(needed)))


def _add_runs(state: StreamState, first: int, last: int, deliver_count: int, runs: list[Run]) -> int:
    """The live messages from `first` to `last` as runs; bytes of their bodies."""
    byte_count = 0
    seq = first
    while seq <= last:
        block = state.blocks[state.block_of(seq)]
        columns = block.resident()
        entry, end = seq - block.first, min(last - block.first + 1, block.size)
        while entry < end:
            index = columns.chunk_of(entry)
            stop = min(end, columns.chunk_end(index))
            lengths = columns.lengths[entry:stop]
            runs.append(
                Run(
                    columns.chunk(index), columns.body_start(index, entry), lengths, block.first + entry,
                    columns.times_ms[entry:stop], deliver_count,
                )
            )  # fmt: skip
            byte_count += sum(lengths)
            entry = stop
        seq = block.first + end
    return byte_count


def read_latest(state: StreamState, subject: str) -> Messages:
    """See `Stream.read_latest`."""
    seq = state.latest(subject)
    return messages_in(state, [(seq, seq)], 0) if seq else Messages([], 0, 0)


def scan_subject(state: StreamState, subject: str, from_seq: int, limit: int, byte_max: int) -> Messages:
    """See `Stream.scan_subject`."""
    if subject not in state.subjects.last:
        return Messages([], 0, 0)
    found = select(state, from_seq, Pattern(subject), limit or state.limits.scan_default, byte_max)
    return _page_of(state, found, state.latest(subject))


def read_range(state: StreamState, from_seq: int, limit: int, byte_max: int) -> Messages:
    """See `Stream.read_range`."""
    return _page_of(state, select(state, from_seq, None, limit, byte_max), last_matching(state, None))


def _page_of(state: StreamState, found: Selection, last: int) -> Messages:
    """A read's messages, and where it goes on if the last one that matches is not among them."""
    messages = messages_in(state, found.ranges, 0)
    if found.next_seq <= last:
        messages.next_seq = found.next_seq
    return messages


# ---------------------------------------------------------------- subjects, times


def list_subjects(state: StreamState, prefix: str, after: str, limit: int) -> Page:
    """See `Stream.list_subjects`."""
    most = min(limit, state.limits.page_entries_max) or state.limits.page_entries_max
    order = state.subjects.sorted_subjects()
    found: list[object] = []
    byte_count = 0
    for place in range(state.subjects.place_from(prefix, after), len(order)):
        subject = order[place]
        if not subject.startswith(prefix):
            break
        if subject not in state.subjects.last or not state.latest(subject):
            continue
        byte_count += len(subject.encode()) + ENTRY_OVERHEAD_BYTES
        if len(found) == most or byte_count > state.limits.page_bytes_max:
            if not limit:
                raise exhausted(
                    f"more than {len(found)} subjects; ask page by page (wmkr-after, wmkr-limit) or for a longer prefix"
                )
            return Page(found, str(found[-1]))
        found.append(subject)
    return Page(found, "")


def first_seq_at_or_after_time(state: StreamState, time_ms: int) -> int:
    """See `Stream.first_seq_at_or_after_time`."""
    for block in state.blocks.values():
        if block.time_max < time_ms:
            continue
        times_ms = block.resident().times_ms
        entry = block.next_live(block.head)
        while entry < block.size:
            if times_ms[entry] >= time_ms:
                return block.first + entry
            entry = block.next_live(entry + 1)
    return state.last_seq + 1


def last_matching(state: StreamState, pattern: Pattern | None) -> int:
    """See `Stream.last_matching`."""
    if pattern is None or pattern.everything:
        if not state.blocks:
            return 0
        block = state.blocks.peekitem(-1)[1]
        entry = block.size - 1 if block.dead is None else block.dead.rfind(0)
        return block.first + entry
    if pattern.literal:
        return state.latest(pattern.text)
    order = state.subjects.sorted_subjects()
    greatest = 0
    for place in range(state.subjects.place_from(pattern.prefix, ""), len(order)):
        subject = order[place]
        if not subject.startswith(pattern.prefix):
            break
        # Only what could win is looked at, for after deletions a look may need an index.
        if state.subjects.last.get(subject, 0) > greatest and pattern.matches(subject):
            greatest = max(greatest, state.latest(subject))
    return greatest

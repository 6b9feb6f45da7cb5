"""Reads: committed, live messages by reference, found at the cost of what matches.

A literal subject is found by its postings in the blocks where it occurs, a pattern by the hits of each block, no
filter by ranges, which cost the same whatever their length. Nothing here changes state; the notes it leaves (postings,
hits, blocks known to match nothing) can be made again.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile
from operator import itemgetter

from waymaker_core.api.requests import ENTRY_OVERHEAD_BYTES, Messages, Page, Run
from waymaker_core.model.result_codes import resource_exhausted
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream.answers import MESSAGE_OVERHEAD_BYTES, Selection
from waymaker_core.stream.blocks.block import SKIPS_MAX, Block
from waymaker_core.stream.blocks.columns import Columns, first_at_or_after, within_bytes
from waymaker_core.stream.blocks.need_blocks import NeedBlocks
from waymaker_core.stream.stream import Stream

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
        """Select consecutive messages."""
        ranges = self.ranges
        if ranges and ranges[-1][1] + 1 == first:
            ranges[-1] = (ranges[-1][0], first + count - 1)
        else:
            ranges.append((first, first + count - 1))
        self._count(first + count, count, byte_count)

    def take_each(self, seqs: list[int], byte_count: int) -> None:
        """Select ascending messages, most of them without neighbours."""
        ranges = self.ranges
        begin, end = seqs[0], seqs[0] - 1
        if ranges and ranges[-1][1] == end:
            begin = ranges.pop()[0]
        for seq in seqs:
            if seq != end + 1:
                ranges.append((begin, end))
                begin = seq
            end = seq
        ranges.append((begin, end))
        self._count(end + 1, len(seqs), byte_count)

    def _count(self, next_seq: int, count: int, byte_count: int) -> None:
        self.count += count
        self.byte_count += byte_count
        self.next_seq = next_seq
        if self.count >= self.limit:
            self.full = True


def select(stream: Stream, from_seq: int, pattern: Pattern | None, limit: int, byte_max: int) -> Selection:
    """Select live messages from a cursor on that match, up to `limit` messages and `byte_max` bytes.

    Bytes are stored bodies plus `MESSAGE_OVERHEAD_BYTES` each; the first message is taken whatever its size.
    Raises `NeedBlocks`.
    """
    search = _Search(limit, byte_max)
    start = max(from_seq, 1)
    if pattern is not None and pattern.everything:
        pattern = None
    for number in _candidates(stream, pattern, stream.block_of(start)):
        block = stream.blocks[number]
        if pattern is not None and _skips(block, pattern):
            continue
        if block.columns is None and block.last >= start:
            raise NeedBlocks(_ahead(stream, pattern, start, search))
        if pattern is not None:
            _look(stream, block, start, pattern)
        if pattern is None:
            _take_ranges(search, block, start)
        else:
            _take_hits(search, stream, block, start, pattern)
        if search.full:
            break
    next_seq = max(search.next_seq, start) if search.full else stream.last_seq + 1
    return Selection(search.ranges, search.count, search.byte_count, next_seq)


def _candidates(stream: Stream, pattern: Pattern | None, from_block: int) -> Iterable[int]:
    if pattern is None or not pattern.literal:
        return stream.blocks.irange(from_block)
    numbers = stream.subjects.blocks_of(pattern.text)
    return [number for number in numbers[bisect_left(numbers, from_block) :] if number in stream.blocks]


def _look(stream: Stream, block: Block, start: int, pattern: Pattern) -> None:
    """Account for what a look at a block costs. `NeedBlocks` where this step's share of searching is used up."""
    if block.columns is None:
        return
    work = stream.work
    if block.columns.unjudged(pattern) and work.left > 0:
        work.spend(block.columns.judge(pattern, work.left))
        if pattern.literal:
            return
    if block.columns.unjudged(pattern) > 0:
        # All that was looked at stays resident with this one, or the search would begin again.
        visited = takewhile(lambda number: number <= block.number, _candidates(stream, pattern, stream.block_of(start)))
        raise NeedBlocks([number for number in visited if not _skips(stream.blocks[number], pattern)])


def _ahead(stream: Stream, pattern: Pattern | None, start: int, search: _Search) -> list[int]:
    """Return the blocks that this search visits first, as far as can be foreseen: they must be resident together."""
    numbers: list[int] = []
    messages = entries = missing = 0
    for number in _candidates(stream, pattern, stream.block_of(start)):
        block = stream.blocks[number]
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


def _take_hits(search: _Search, stream: Stream, block: Block, start: int, pattern: Pattern) -> None:
    columns = block.resident()
    hits = columns.hits_of(pattern)
    if not hits and stream.is_complete(block):
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
    lengths, dead = columns.lengths, block.dead
    place = first_at_or_after(hits, max(block.head, start - block.first))
    while place < len(hits) and not search.full:
        entries = hits[place : place + search.limit - search.count]
        place += len(entries)
        if dead is not None:
            entries = array("I", [entry for entry in entries if not dead[entry]])
        sizes = array("I", [lengths[entry] for entry in entries])
        fits = within_bytes(sizes, search.byte_max - search.byte_count, MESSAGE_OVERHEAD_BYTES)
        if fits < len(sizes):
            search.full = True
            fits = max(fits, 0 if search.count else 1)
        if fits:
            first = block.first
            byte_count = sum(sizes[:fits]) + MESSAGE_OVERHEAD_BYTES * fits
            search.take_each([first + entry for entry in entries[:fits]], byte_count)


# ---------------------------------------------------------------- messages


SHORT = 8
"""Ranges of fewer messages than this share a run with their neighbours; longer ones have one of their own."""


def messages_in(stream: Stream, ranges: Sequence[tuple[int, int]], deliver_count: int) -> Messages:
    """Return the ranges of a `Selection` as messages, one delivery count for all. Raises `NeedBlocks`."""
    _need(stream, ranges)
    return _messages(_runs(stream, ranges, deliver_count))


def messages_at(stream: Stream, seqs: Sequence[int], counts: Sequence[int]) -> Messages:
    """Return ascending sequences with their delivery counts as messages; what is not live is left out. Raises
    `NeedBlocks`.
    """
    groups: list[tuple[int, list[tuple[int, int]]]] = []
    needed: list[tuple[int, int]] = []
    for seq, deliver_count in zip(seqs, counts, strict=True):
        if not stream.is_live(seq):
            continue
        if not groups or groups[-1][0] != deliver_count:
            groups.append((deliver_count, []))
        ranges = groups[-1][1]
        if ranges and ranges[-1][1] + 1 == seq:
            ranges[-1] = (ranges[-1][0], seq)
        else:
            ranges.append((seq, seq))
    for _, ranges in groups:
        needed += ranges
    _need(stream, needed)
    return _messages([run for deliver_count, ranges in groups for run in _runs(stream, ranges, deliver_count)])


def _messages(runs: list[Run]) -> Messages:
    count = sum([len(run.lengths) for run in runs])
    return Messages(runs, count, sum([sum(run.lengths) for run in runs]) + MESSAGE_OVERHEAD_BYTES * count)


def _need(stream: Stream, ranges: Sequence[tuple[int, int]]) -> None:
    """Raise `NeedBlocks`, naming all that is needed together, unless every block of the ranges is resident."""
    needed: list[int] = []
    resident = True
    low = high = 0
    for first, last in ranges:
        if low <= first and last <= high:
            continue  # in the same block as the range before
        for number in range(stream.block_of(first), stream.block_of(last) + 1):
            needed.append(number)
            resident = resident and stream.blocks[number].columns is not None
            low, high = number * stream.block_size + 1, (number + 1) * stream.block_size
    if not resident:
        raise NeedBlocks(list(dict.fromkeys(needed)))


def _runs(stream: Stream, ranges: Sequence[tuple[int, int]], deliver_count: int) -> list[Run]:
    """Return the messages of ranges, all of them live, as few runs."""
    runs: list[Run] = []
    place, end = 0, len(ranges)
    seq = 0  # of a range that was begun in the chunk before
    while place < end:
        first, last = ranges[place]
        seq = seq or first
        block = stream.blocks[stream.block_of(seq)]
        columns = block.resident()
        index = columns.chunk_of(seq - block.first)
        behind = block.first + min(columns.chunk_end(index), block.size)
        if last >= behind:
            runs.append(_run(block, columns, index, seq, behind - 1, deliver_count))
            seq = behind
            continue
        begin, place = place, place + 1
        if last - first < SHORT:
            while place < end and last < ranges[place][0] and ranges[place][1] < behind:
                if ranges[place][1] - ranges[place][0] >= SHORT:
                    break
                last = ranges[place][1]
                place += 1
        if place - begin == 1:
            runs.append(_run(block, columns, index, seq, last, deliver_count))
        else:
            near = [(seq, ranges[begin][1]), *ranges[begin + 1 : place]]
            runs.append(_scattered_run(block, columns, index, near, deliver_count))
        seq = 0
    return runs


def _run(block: Block, columns: Columns, index: int, first: int, last: int, deliver_count: int) -> Run:
    """Return a range within one chunk as a run."""
    entry, stop = first - block.first, last - block.first + 1
    return Run(
        columns.chunk(index), columns.body_start(index, entry), columns.lengths[entry:stop], first,
        columns.times_ms[entry:stop], deliver_count,
    )  # fmt: skip


def _scattered_run(
    block: Block, columns: Columns, index: int, ranges: list[tuple[int, int]], deliver_count: int
) -> Run:
    """Return several ranges within one chunk, ascending, as a run."""
    base = block.first
    entries: list[int] = []
    for first, last in ranges:
        if first == last:
            entries.append(first - base)
        else:
            entries.extend(range(first - base, last - base + 1))
    head = entries[0]
    start = columns.body_start(index, head)
    ends = list(accumulate(columns.lengths[head : entries[-1]], initial=start))
    pick = itemgetter(*entries)
    return Run(
        columns.chunk(index), start, array("I", pick(columns.lengths)), base + head, array("q", pick(columns.times_ms)),
        deliver_count, array("Q", [base + entry for entry in entries]), array("Q", [ends[entry - head] for entry in entries]),
    )  # fmt: skip


def read_latest(stream: Stream, subject: str) -> Messages:
    """Return the newest live message at a literal subject, or none. Raises `NeedBlocks`."""
    seq = stream.latest(subject)
    return messages_in(stream, [(seq, seq)], 0) if seq else Messages([], 0, 0)


def scan_subject(stream: Stream, subject: str, from_seq: int, limit: int, byte_max: int) -> Messages:
    """Return live messages at a literal subject in order; at least one if there is any, whatever its size."""
    if subject not in stream.subjects.last:
        return Messages([], 0, 0)
    found = select(stream, from_seq, Pattern(subject), limit or stream.limits.scan_default, byte_max)
    return _page_of(stream, found, stream.latest(subject))


def read_range(stream: Stream, from_seq: int, limit: int, byte_max: int) -> Messages:
    """Return live messages in order; at least one if there is any, whatever its size. Raises `NeedBlocks`."""
    return _page_of(stream, select(stream, from_seq, None, limit, byte_max), last_matching(stream, None))


def _page_of(stream: Stream, found: Selection, last: int) -> Messages:
    """Return a read's messages, and where it continues if the last one that matches is not among them."""
    messages = messages_in(stream, found.ranges, 0)
    if found.next_seq <= last:
        messages.next_seq = found.next_seq
    return messages


# ---------------------------------------------------------------- subjects, times


def list_subjects(stream: Stream, prefix: str, after: str, limit: int) -> Page[str]:
    """Return the subjects with live messages that begin with `prefix` and sort behind `after`. Raises `NeedBlocks`."""
    most = min(limit, stream.limits.page_entries_max) or stream.limits.page_entries_max
    found: list[str] = []
    byte_count = 0
    for subject in stream.subjects.subjects_from(prefix, after):
        if not subject.startswith(prefix):
            break
        if subject not in stream.subjects.last or not stream.latest(subject):
            continue
        byte_count += len(subject.encode()) + ENTRY_OVERHEAD_BYTES
        if len(found) == most or byte_count > stream.limits.page_bytes_max:
            if not limit:
                raise resource_exhausted(
                    f"more than {len(found)} subjects; ask page by page (wmkr-after, wmkr-limit) or for a longer prefix"
                )
            return Page(found, found[-1])
        found.append(subject)
    return Page(found, "")


def first_seq_at_or_after_time(stream: Stream, time_ms: int) -> int:
    """Return the first live message in sequence order with that time or a later one; else `last_seq + 1`."""
    for block in stream.blocks.values():
        if block.time_max < time_ms:
            continue
        times_ms = block.resident().times_ms
        entry = block.next_live(block.head)
        while entry < block.size:
            if times_ms[entry] >= time_ms:
                return block.first + entry
            entry = block.next_live(entry + 1)
    return stream.last_seq + 1


def last_matching(stream: Stream, pattern: Pattern | None) -> int:
    """Return the sequence of the last live message that matches, or 0. Raises `NeedBlocks`."""
    if pattern is None or pattern.everything:
        if not stream.blocks:
            return 0
        block = stream.blocks.peekitem(-1)[1]
        entry = block.size - 1 if block.dead is None else block.dead.rfind(0)
        return block.first + entry
    if pattern.literal:
        return stream.latest(pattern.text)
    greatest = 0
    for subject in stream.subjects.subjects_from(pattern.prefix):
        if not subject.startswith(pattern.prefix):
            break
        # Only what could win is looked at, for after deletions a look may need an index.
        if stream.subjects.last.get(subject, 0) > greatest and pattern.matches(subject):
            greatest = max(greatest, stream.latest(subject))
    return greatest

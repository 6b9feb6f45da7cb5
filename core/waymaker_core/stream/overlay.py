"""The uncommitted overlay: what is decided and not yet committed, laid over the committed state.

Decisions must see the decisions before them (two compare-and-sets at one subject, a limit that an uncommitted batch has
used up, a deletion asked for twice), yet nothing may change before its record is committed. So the overlay keeps the
stream's figures as they will be when everything staged is applied ("projected"). It also keeps the messages and deletions
that lie between, and for each block how far the projection differs from what is committed.

Decisions `stage_*`, applied records `commit_*`, and `discard` drops the rest (docs/architecture.md, "Overlays"). A commit
finds what was staged by its content, not by counting records: a replayed or replicated record, which was never staged
here, changes committed and projected figures alike.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from waymaker_core.model.config import StreamConfig

LATEST_MAX = 1 << 16
"""Subjects of staged messages remembered before those committed meanwhile are forgotten."""


@dataclass(slots=True, eq=False)
class Staged:
    """One publish that waits: columns as in its record; `parts` says how many messages and bytes fall into which block."""

    first_seq: int
    last_seq: int
    seqs: array[int] | None
    subjects: list[str]
    sizes: array[int]
    times_ms: array[int]
    parts: list[tuple[int, int, int]]

    def entry_of(self, seq: int) -> int:
        """Return the column entry of a sequence, or -1."""
        if self.seqs is None:
            return seq - self.first_seq if self.first_seq <= seq <= self.last_seq else -1
        for entry, value in enumerate(self.seqs):
            if value == seq:
                return entry
        return -1

    def entry_from(self, seq: int) -> int:
        """Return the first column entry at or behind a sequence."""
        if self.seqs is None:
            return max(0, seq - self.first_seq)
        return sum(1 for value in self.seqs if value < seq)

    def seq_of(self, entry: int) -> int:
        """Return the sequence of a column entry."""
        return self.first_seq + entry if self.seqs is None else self.seqs[entry]


class Savepoint:
    """The place in the overlay where a decision began, so that one that cannot be finished leaves nothing behind."""

    __slots__ = ("last_seq", "count", "bytes", "clock_ms", "reserved_to", "truncate_to", "front_seq", "staged", "undo")

    def __init__(self, overlay: Overlay) -> None:
        self.last_seq = overlay.last_seq
        self.count = overlay.count
        self.bytes = overlay.bytes
        self.clock_ms = overlay.clock_ms
        self.reserved_to = overlay.reserved_to
        self.truncate_to = overlay.truncate_to
        self.front_seq = overlay.front_seq
        self.staged = len(overlay.staged)
        self.undo = len(overlay.undo)


class Overlay:
    """Projected figures: `last_seq`, `count`, `bytes`, `clock_ms`, `reserved_to`; `truncate_to` (all below is deleted);
    `front_seq`: nothing below it is live in the projection.

    `staged`: publishes that wait, in order. `drops`: sizes of single messages whose end waits. `blocks`: for each block,
    messages and bytes to add to what is committed (negative: staged deletions). `partial`: staged truncations of the open
    block, as (truncate_to, block, count, bytes). `configs`: settings that wait. `corrections`: server times that wait, to which
    retention takes the stream back. `import_ended`: the end of its restore waits.
    """

    __slots__ = (
        "block_size", "last_seq", "count", "bytes", "clock_ms", "reserved_to", "truncate_to", "front_seq", "staged", "drops",
        "blocks", "partial", "configs", "corrections", "import_ended", "undo", "latest", "latest_upto",
        "latest_max",
    )  # fmt: skip

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.last_seq = 0
        self.count = 0
        self.bytes = 0
        self.clock_ms = 0
        self.reserved_to = 0
        self.truncate_to = 0
        self.front_seq = 0
        self.staged: list[Staged] = []
        self.drops: dict[int, int] = {}
        self.blocks: dict[int, list[int]] = {}
        self.partial: list[tuple[int, int, int, int]] = []
        self.configs: list[StreamConfig] = []
        self.corrections: list[int] = []
        self.import_ended = False
        self.undo: list[int] = []
        self.latest: dict[str, int] = {}
        self.latest_upto = 0
        self.latest_max = LATEST_MAX

    def discard(self, last_seq: int, count: int, byte_count: int, clock_ms: int, reserved_to: int) -> None:
        """Drop all that is staged: the projection is what is committed, the figures given."""
        self.last_seq = last_seq
        self.count = count
        self.bytes = byte_count
        self.clock_ms = clock_ms
        self.reserved_to = reserved_to
        self.truncate_to = 0
        self.front_seq = 0
        self.staged.clear()
        self.drops.clear()
        self.blocks.clear()
        self.partial.clear()
        self.configs.clear()
        self.corrections.clear()
        self.import_ended = False
        self.undo.clear()
        self._forget_latest()

    def is_empty(self) -> bool:
        """Return True if no message or deletion is staged (a truncation of whole blocks may be)."""
        return not self.staged and not self.drops and not self.partial

    def is_dropped(self, seq: int) -> bool:
        """Return True if the deletion of a message is staged."""
        return seq < self.truncate_to or seq in self.drops

    def add_message(self, block: int, count: int, byte_count: int) -> None:
        """Change how far the projection of a block differs from what is committed."""
        delta = self.blocks.get(block)
        if delta is None:
            if count or byte_count:
                self.blocks[block] = [count, byte_count]
            return
        delta[0] += count
        delta[1] += byte_count
        if not delta[0] and not delta[1]:
            del self.blocks[block]

    # ------------------------------------------------------------ staging

    def stage_publish(
        self, seqs: array[int] | None, first_seq: int, subjects: list[str], sizes: array[int], times_ms: array[int]
    ) -> None:
        """Stage messages to append."""
        last_seq = first_seq + len(subjects) - 1 if seqs is None else seqs[-1]
        parts = self._parts(seqs, first_seq, last_seq, sizes)
        for block, count, byte_count in parts:
            self.add_message(block, count, byte_count)
            self.count += count
            self.bytes += byte_count
        self.staged.append(Staged(first_seq, last_seq, seqs, subjects, sizes, times_ms, parts))
        self.last_seq = last_seq

    def _parts(
        self, seqs: array[int] | None, first_seq: int, last_seq: int, sizes: array[int]
    ) -> list[tuple[int, int, int]]:
        block_size = self.block_size
        block = (first_seq - 1) // block_size
        if (last_seq - 1) // block_size == block:
            return [(block, len(sizes), sum(sizes))]
        parts: list[tuple[int, int, int]] = []
        if seqs is None:
            start = 0
            while start < len(sizes):
                end = min(len(sizes), (block + 1) * block_size - first_seq + 1)
                parts.append((block, end - start, sum(sizes[start:end])))
                start = end
                block += 1
            return parts
        sums: dict[int, list[int]] = {}
        for seq, size in zip(seqs, sizes, strict=True):
            entry = sums.setdefault((seq - 1) // block_size, [0, 0])
            entry[0] += 1
            entry[1] += size
        return [(number, count, byte_count) for number, (count, byte_count) in sums.items()]

    def stage_drop(self, seq: int, size: int) -> None:
        """Stage the deletion of one message that is live in the projection."""
        self.drops[seq] = size
        self.undo.append(seq)
        self.count -= 1
        self.bytes -= size
        self.add_message((seq - 1) // self.block_size, -1, -size)

    def stage_drops(self, block: int, seqs: list[int], sizes: list[int]) -> None:
        """Stage the deletion of messages of one block that are live in the projection."""
        self.drops.update(zip(seqs, sizes, strict=True))
        self.undo += seqs
        byte_count = sum(sizes)
        self.count -= len(seqs)
        self.bytes -= byte_count
        self.add_message(block, -len(seqs), -byte_count)

    def stage_truncate(self, truncate_to: int, count: int, byte_count: int) -> None:
        """Stage the deletion of all below: so much of the projection, up to the end of a block or the last message."""
        self.truncate_to = truncate_to
        self.count -= count
        self.bytes -= byte_count

    def stage_truncate_open(self, block: int, count: int, byte_count: int) -> None:
        """Stage the deletion of all messages of the open block; more may follow in it."""
        self.stage_truncate(self.last_seq + 1, count, byte_count)
        self.partial.append((self.truncate_to, block, count, byte_count))
        self.add_message(block, -count, -byte_count)

    def stage_config(self, config: StreamConfig) -> None:
        """Stage new settings."""
        self.configs.append(config)

    def stage_correction(self, clock_ms: int) -> None:
        """Stage a server time to which retention takes the stream back."""
        self.clock_ms = clock_ms
        self.corrections.append(clock_ms)

    # ------------------------------------------------------------ undoing an unfinished decision

    def savepoint(self) -> Savepoint:
        """Begin a decision; at most one is being taken."""
        self.undo.clear()
        return Savepoint(self)

    def rollback(self, savepoint: Savepoint) -> None:
        """Drop what was staged since a savepoint."""
        for seq in reversed(self.undo):
            self.add_message((seq - 1) // self.block_size, 1, self.drops.pop(seq))
        self.undo.clear()
        while len(self.staged) > savepoint.staged:
            for block, count, byte_count in self.staged.pop().parts:
                self.add_message(block, -count, -byte_count)
        while self.partial and self.partial[-1][0] > savepoint.truncate_to:
            _, block, count, byte_count = self.partial.pop()
            self.add_message(block, count, byte_count)
        self.last_seq = savepoint.last_seq
        self.count = savepoint.count
        self.bytes = savepoint.bytes
        self.clock_ms = savepoint.clock_ms
        self.reserved_to = savepoint.reserved_to
        self.truncate_to = savepoint.truncate_to
        self.front_seq = savepoint.front_seq
        self._forget_latest()

    # ------------------------------------------------------------ committing

    def commit_publishes(self, last_seq: int) -> None:
        """Let go of the staged publishes up to a sequence."""
        done = 0
        for publish in self.staged:
            if publish.last_seq > last_seq:
                break
            done += 1
            for block, count, byte_count in publish.parts:
                self.add_message(block, -count, -byte_count)
        del self.staged[:done]
        if not self.staged:
            self._forget_latest()

    def commit_drops(self, block: int, seqs: Sequence[int]) -> list[int]:
        """Let go of the staged deletions of these messages of one block; return those that were not staged."""
        drops = self.drops
        if not drops:
            return list(seqs)
        count = byte_count = 0
        foreign: list[int] = []
        for seq in seqs:
            size = drops.pop(seq, -1)
            if size < 0:
                foreign.append(seq)
            else:
                count += 1
                byte_count += size
        self.add_message(block, count, byte_count)
        return foreign

    def commit_truncate(self, truncate_to: int) -> None:
        """Let go of the staged truncations up to this one."""
        partial = self.partial
        while partial and partial[0][0] <= truncate_to:
            _, block, count, byte_count = partial.pop(0)
            self.add_message(block, count, byte_count)

    def commit_config(self, config: StreamConfig) -> None:
        """Let go of the oldest staged settings, if they are these."""
        if self.configs and self.configs[0] == config:
            del self.configs[0]

    def commit_correction(self, clock_ms: int) -> None:
        """Let go of the oldest staged correction; one that was not staged here changes the projection, too."""
        if self.corrections:
            del self.corrections[0]
        else:
            self.clock_ms = clock_ms

    # ------------------------------------------------------------ look-ups

    def latest_at(self, subject: str) -> int:
        """Return the newest staged sequence at a subject, or 0 (its deletion may be staged, or it committed meanwhile)."""
        staged = self.staged
        if not staged:
            return 0
        if self.latest_upto < staged[-1].last_seq:
            if len(self.latest) > self.latest_max:
                # Entries of what is committed meanwhile pile up while the overlay never empties.
                self._forget_latest()
                self.latest_max = max(LATEST_MAX, 2 * sum(len(publish.subjects) for publish in staged))
            for publish in self._not_indexed():
                self.latest.update(zip(publish.subjects, publish.seqs or _run(publish), strict=True))
            self.latest_upto = staged[-1].last_seq
        return self.latest.get(subject, 0)

    def _forget_latest(self) -> None:
        self.latest.clear()
        self.latest_upto = 0
        self.latest_max = LATEST_MAX

    def _not_indexed(self) -> list[Staged]:
        found: list[Staged] = []
        for publish in reversed(self.staged):
            if publish.last_seq <= self.latest_upto:
                break
            found.append(publish)
        found.reverse()
        return found

    def find_staged(self, seq: int) -> tuple[Staged, int] | None:
        """Return the staged publish that holds a sequence, and its entry there; or None."""
        place = self.place_from(seq)
        if place == len(self.staged):
            return None
        publish = self.staged[place]
        entry = publish.entry_of(seq)
        return (publish, entry) if entry >= 0 else None

    def place_from(self, seq: int) -> int:
        """Return the place, among `staged`, of the first publish that holds this sequence or a later one."""
        staged = self.staged
        low, high = 0, len(staged)
        while low < high:
            middle = (low + high) // 2
            if staged[middle].last_seq < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def seqs_at(self, subject: str) -> list[int]:
        """Return the staged sequences at a subject whose deletion is not staged, ascending."""
        if not self.latest_at(subject):
            return []
        return [
            seq
            for publish in self.staged
            for entry, name in enumerate(publish.subjects)
            if name == subject and not self.is_dropped(seq := publish.seq_of(entry))
        ]


def _run(publish: Staged) -> Sequence[int]:
    return range(publish.first_seq, publish.last_seq + 1)

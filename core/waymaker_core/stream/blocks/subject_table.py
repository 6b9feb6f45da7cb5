"""The subject table of a stream: every subject that may have live messages, its newest sequence and its blocks.

Publishing updates it in bulk, deleting not at all: a deletion only makes an entry stale. A look-up checks
whether the newest sequence is live and repairs the entry where it is not. A sweep, paid for by deletions, removes the
subjects that are not looked up. So replay needs no index, and the table stays about as large as what is live.

The order for listings is made when it is asked for, as far as it is (`subject_order`); appending to a dictionary costs a
twentieth of keeping a sorted one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from waymaker_core.stream.blocks.subject_order import SubjectOrder

SWEEP_SLACK = 16
"""Deletions, beyond one for each subject, that begin a round of the sweep."""
REMOVED_SLACK = 64
"""Removed subjects, beyond as many as there are others, at which the order forgets them."""


class SubjectTable:
    """`last`: newest stored sequence at each subject, perhaps deleted. `earlier`: the blocks before that one's where the
    subject may occur too, ascending; most subjects have none. `repaired`: subjects of the block that grows whose entry was
    repaired since they entered it.
    """

    __slots__ = ("block_size", "last", "earlier", "order", "removed", "repaired", "owed", "sweeping")

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.last: dict[str, int] = {}
        self.earlier: dict[str, list[int]] = {}
        self.order = SubjectOrder()
        self.removed = 0
        """Subjects of the order that were removed from the table, about."""
        self.repaired: dict[str, None] = {}
        self.owed = 0
        self.sweeping: list[str] = []

    def enter_block(self, subjects: Sequence[str], block: int, first_block: int) -> None:
        """Note different subjects that are about to be stored in a block for the first time; `first_block` is the stream's."""
        lasts = list(map(self.last.get, subjects))
        if lasts.count(None) == len(lasts):
            self.order.fresh += subjects
            return
        for subject, last in zip(subjects, lasts, strict=True):
            if last is None:
                self.order.fresh.append(subject)
            elif first_block <= (previous := (last - 1) // self.block_size) != block:
                self._leave(subject, previous, first_block)

    def _leave(self, subject: str, previous: int, first_block: int) -> None:
        """Note a block in which a subject occurs, and which is no longer its newest one's."""
        blocks = self.earlier.get(subject)
        if blocks is None:
            self.earlier[subject] = [previous]
            return
        if blocks[0] < first_block:
            del blocks[: bisect_left(blocks, first_block)]
        if not blocks or blocks[-1] != previous:
            blocks.append(previous)

    def enter_again(self, subjects: list[str], block: int, first_block: int) -> None:
        """Note messages of a block that knows their subjects; the table may not any more."""
        for subject in subjects:
            if subject in self.repaired:
                del self.repaired[subject]
                self.enter_block((subject,), block, first_block)

    def blocks_of(self, subject: str) -> list[int]:
        """Return the blocks in which a subject may occur, ascending; some of them may be deleted."""
        last = self.last.get(subject)
        if last is None:
            return []
        return [*self.earlier.get(subject, ()), (last - 1) // self.block_size]

    def set_last(self, subject: str, seq: int) -> None:
        """Repair an entry: the newest live message is this older one."""
        self.last[subject] = seq
        blocks = self.earlier.get(subject)
        if blocks is not None:
            del blocks[bisect_left(blocks, (seq - 1) // self.block_size) :]
            if not blocks:
                del self.earlier[subject]

    def remove(self, subject: str) -> None:
        """Repair an entry: nothing is live at this subject."""
        del self.last[subject]
        self.earlier.pop(subject, None)
        self.removed += 1
        if self.removed > len(self.last) + REMOVED_SLACK:
            self.order.keep_only(self.last)
            self.removed = 0

    def subjects_from(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield, sorted by code point, the subjects that could start with `prefix` and sort behind `after`, and those behind
        them. Some may be removed; none may be entered meanwhile.
        """
        # No subject holds a zero byte: the least text behind `after` is below every other subject behind it.
        return self.order.subjects_from(after + "\0" if after and after >= prefix else prefix)

    def sorted_subjects(self) -> list[str]:
        """Return every subject of the table, sorted by code point."""
        return [subject for subject in self.subjects_from("") if subject in self.last]

    def sweep_some(self, dropped: int) -> list[str]:
        """Return subjects to check because this many messages were deleted: two for each, once a whole round is paid for."""
        self.owed += dropped
        if not self.sweeping:
            if self.owed < len(self.last) + SWEEP_SLACK:
                return []
            self.owed = 0
            self.sweeping = list(self.last)
        some = self.sweeping[-2 * dropped :]
        del self.sweeping[-2 * dropped :]
        return some

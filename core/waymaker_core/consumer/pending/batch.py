"""A batch of deliveries that are alike so far: one member, one delivery count, one deadline, one state.

What is pending of it is a bitmap over its sequences: over the stretch that begins at `first`, or, where the sequences
are far apart, over the columns of an array. Settling a whole batch is one comparison, settling a part of it two integer
operations.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TypeAlias

from waymaker_core.consumer.pending.states import State
from waymaker_core.consumer.sequences import SeqSet, is_run, mask_at, ones, positions

BATCH_MESSAGES_MAX = 1024
"""A greater delivery becomes several batches, so that settling one message never copies a long bitmap."""
SPAN_PER_MESSAGE_MAX = 8
"""Sequences farther apart than this on average are kept as an array instead of a stretch with gaps."""


class Batch:
    """One batch. `bits` are the messages still pending; a batch without any is dead. `scattered`: see `pending`.

    `dispatch_id` is the number of the delivery. `unreported`: the part of it that no reader has reported;
    `deliver_count` counts that delivery already, and one less is true if no report comes. `returned`: it was returned
    so. `claiming`: on a work queue, the group has the claim to its messages. `logged`: a record (or snapshot) lists all
    its messages with this count and deadline. `deadline_ms` and `rest_ms` are what that record said of the deadline
    (see `records.Listed`); they count until `Pending.restart` only, as the other clock does afterwards.
    """

    __slots__ = (
        "serial", "first", "last", "seqs", "bits", "member", "deliver_count", "deadline_ns", "state", "claiming",
        "scattered", "logged", "deadline_ms", "rest_ms", "dispatch_id", "unreported", "returned",
    )  # fmt: skip

    def __init__(
        self, serial: int, first: int, last: int, seqs: array[int] | None, bits: int, member: int, deliver_count: int
    ) -> None:
        self.serial = serial
        self.first = first
        self.last = last
        self.seqs = seqs
        self.bits = bits
        self.member = member
        self.deliver_count = deliver_count
        self.deadline_ns = 0
        self.state = State.WAITING
        self.claiming = True
        self.scattered = False
        self.logged = False
        self.deadline_ms = 0
        self.rest_ms = 0
        self.dispatch_id = 0
        self.unreported = 0
        self.returned = False

    def __repr__(self) -> str:
        return (
            f"Batch({self.first}..{self.last}, {self.bits.bit_count()} out, x{self.deliver_count}, {self.state.name}, "
            f"until {self.deadline_ns})"
        )

    def seqs_of(self, mask: int) -> list[int]:
        """Return the sequences of a mask over this batch, ascending."""
        if self.seqs is None:
            first = self.first
            return [first + index for index in positions(mask)]
        seqs = self.seqs
        if mask == ones(len(seqs)):
            return seqs.tolist()
        return [seqs[index] for index in positions(mask)]

    def mask_of(self, wanted: list[int]) -> int:
        """Return the mask of ascending sequences between `first` and `last`; those without a bit are left out."""
        seqs = self.seqs
        if seqs is None:
            first = self.first
            if is_run(wanted):
                return ones(len(wanted)) << (wanted[0] - first)
            return mask_at([seq - first for seq in wanted])
        if len(wanted) == len(seqs) and wanted == seqs.tolist():
            return ones(len(wanted))
        mask = 0
        end = len(seqs)
        at = 0
        for seq in wanted:
            at = bisect_left(seqs, seq, at)
            if at == end:
                break
            if seqs[at] == seq:
                mask |= 1 << at
        return mask

    def mask_between(self, low: int, high: int) -> int:
        """Return the mask of every sequence of this batch from `low` to `high`, both included."""
        if self.seqs is None:
            start = max(low, self.first) - self.first
            end = min(high, self.last) - self.first + 1
        else:
            start = bisect_left(self.seqs, low)
            end = bisect_left(self.seqs, high + 1)
        return ones(end - start) << start if end > start else 0

    def least_seq(self) -> int:
        """Return the least sequence still pending; the batch must not be dead."""
        index = (self.bits & -self.bits).bit_length() - 1
        return self.first + index if self.seqs is None else self.seqs[index]

    def add_to(self, target: SeqSet, mask: int) -> None:
        """Put the sequences of a mask into a set."""
        if self.seqs is None:
            target.add_mask(self.first, mask)
        else:
            for seq in self.seqs_of(mask):
                target.add(seq)

    def discard_from(self, target: SeqSet, mask: int) -> None:
        """Take the sequences of a mask out of a set."""
        if self.seqs is None:
            target.discard_mask(self.first, mask)
        else:
            for seq in self.seqs_of(mask):
                target.discard(seq)

    def mask_in(self, members: SeqSet, mask: int) -> int:
        """Return the part of a mask whose sequences are members of a set."""
        if self.seqs is None:
            return mask & members.mask_of(self.first, self.last - self.first + 1)
        found = 0
        for index in positions(mask):
            if self.seqs[index] in members:
                found |= 1 << index
        return found


Part = tuple[Batch, int]
"""Some messages of one batch: the mask is not empty and within the batch's `bits`."""

Shape: TypeAlias = "tuple[int, int, array[int] | None, int]"
"""First and last sequence, their array if they are far apart, and the bitmap."""


def shapes_of_range(first: int, last: int) -> list[Shape]:
    """Return how a stretch without gaps is divided into batches."""
    return [
        (start, min(last, start + BATCH_MESSAGES_MAX - 1), None, ones(min(last - start + 1, BATCH_MESSAGES_MAX)))
        for start in range(first, last + 1, BATCH_MESSAGES_MAX)
    ]


def shapes_of(seqs: list[int]) -> list[Shape]:
    """Return how ascending, distinct sequences are divided into batches."""
    if not seqs:
        return []
    if is_run(seqs):
        return shapes_of_range(seqs[0], seqs[-1])
    shapes: list[Shape] = []
    for start in range(0, len(seqs), BATCH_MESSAGES_MAX):
        piece = seqs[start : start + BATCH_MESSAGES_MAX]
        first, last = piece[0], piece[-1]
        if last - first < SPAN_PER_MESSAGE_MAX * len(piece):
            shapes.append((first, last, None, mask_at([seq - first for seq in piece])))
        else:
            shapes.append((first, last, array("Q", piece), ones(len(piece))))
    return shapes

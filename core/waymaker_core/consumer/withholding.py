"""Who holds what on a work queue that several groups read: the one place that keeps them apart.

A delivery *holds* its message from the moment it goes out until it is handed back, expires or is terminated; a group that
meets a held message passes it over and comes back for it. Two sets of sequences say all there is to know: what is held (by
whom does not matter: a group never meets its own deliveries as new), and what some group other than a holder has an
eye on. The second only saves work: the end of a message it does not name needs no look at the other groups.

It exists only while a work queue has at least two groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from waymaker_core.consumer.batch import Part
from waymaker_core.consumer.delivery import Event
from waymaker_core.consumer.sequences import SeqSet

if TYPE_CHECKING:
    from waymaker_core.consumer.group import Group


class Withholding:
    """What is held on one stream. `serial` grows whenever something was let go: time to look again."""

    __slots__ = ("held", "shared", "serial")

    def __init__(self) -> None:
        self.held = SeqSet()
        self.shared = SeqSet()
        self.serial = 1

    @classmethod
    def over(cls, groups: list[Group]) -> Withholding:
        """Of groups that were not kept apart so far.

        After a restart two groups may have the same message out, since what a record tells of may have been over when
        the server stopped. One of them keeps it, the one on its last attempt before others; at the other it is due.
        """
        self = cls()
        for group in groups:
            for entry in group.staged.entries():
                self.hold(entry.held)
            for seq in group.passed.to_list():
                self.shared.add(seq)
        for last_attempt in (True, False):
            for group in groups:
                for batch in group.pending.batches():
                    if not batch.holding:
                        batch.add_to(self.shared, batch.bits)
                    elif (batch.deliver_count >= group.config.max_deliver) == last_attempt:
                        taken = batch.mask_in(self.held, batch.bits)
                        mine = batch.bits ^ taken
                        if taken:
                            batch.add_to(self.shared, taken)
                            group.pending.happen([(batch, taken)], Event.EXPIRED, holding=False)
                        if mine:
                            batch.add_to(self.held, mine)
        return self

    def hold(self, parts: list[Part]) -> None:
        """Deliveries hold their messages."""
        for batch, mask in parts:
            batch.add_to(self.held, mask)

    def release(self, parts: list[Part]) -> None:
        """Holders let go of messages they still have an eye on."""
        for batch, mask in parts:
            batch.discard_from(self.held, mask)
            batch.add_to(self.shared, mask)
        self.serial += 1

    def free(self, seqs: Iterable[int]) -> None:
        """A holder is done with messages that stay in the stream."""
        for seq in seqs:
            self.held.discard(seq)
        self.serial += 1

    def gone(self, seqs: Iterable[int]) -> list[int]:
        """Messages left the stream; those that another group may have an eye on."""
        watched: list[int] = []
        for seq in seqs:
            self.held.discard(seq)
            if seq in self.shared:
                self.shared.discard(seq)
                watched.append(seq)
        return watched

    def gone_below(self, seq: int) -> None:
        """Everything below a sequence left the stream."""
        self.held.drop_below(seq)
        self.shared.drop_below(seq)

    def check(self, groups: list[Group]) -> None:
        """Assert that each message is held by one group at most, and that every eye on a message is known."""
        holders: dict[int, int] = {}
        for group in groups:
            held = [(batch, batch.bits) for batch in group.pending.batches() if batch.holding]
            for entry in group.staged.entries():
                held.extend(entry.held)
            for batch, mask in held:
                for seq in batch.seqs_of(mask):
                    assert seq not in holders, "a message is held by two groups"
                    holders[seq] = group.id
            for batch in group.pending.batches():
                if not batch.holding:
                    assert all(seq in self.shared for seq in batch.seqs_of(batch.bits))
            assert all(seq in self.shared for seq in group.passed.to_list())
        assert self.held.to_list() == sorted(holders)
        self.held.check()
        self.shared.check()

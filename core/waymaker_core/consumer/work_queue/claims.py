"""Who holds what on a work queue that several groups read: the one place that keeps them apart.

A delivery *holds* its message from the moment it goes out until it is handed back, expires or is terminated; a group that
meets a held message passes it over and comes back for it. Two sets of sequences say all there is to know: what is held (by
whom does not matter: a group never meets its own deliveries as new), and what some group other than a holder has an
eye on. The second only saves work: the end of a message it does not name needs no look at the other groups.

It exists only while a work queue has at least two groups.
"""

from __future__ import annotations

from waymaker_core.consumer.pending.batch import Part
from waymaker_core.consumer.sequences import SeqSet


class Claims:
    """What is held on one stream. `serial` grows whenever something was let go: time to look again."""

    __slots__ = ("claimed", "contended", "serial")

    def __init__(self) -> None:
        self.claimed = SeqSet()
        self.contended = SeqSet()
        self.serial = 1

    def claim(self, parts: list[Part]) -> None:
        """Deliveries hold their messages."""
        for batch, mask in parts:
            batch.add_to(self.claimed, mask)

    def release(self, parts: list[Part]) -> None:
        """Holders let go of messages they still have an eye on."""
        for batch, mask in parts:
            batch.discard_from(self.claimed, mask)
            batch.add_to(self.contended, mask)
        self.serial += 1

    def free(self, seqs: list[int]) -> None:
        """A holder is done with messages (ascending) that stay in the stream."""
        self.claimed.discard_all(seqs)
        self.serial += 1

    def gone(self, seqs: list[int]) -> list[int]:
        """Messages (ascending) left the stream; those that another group may have an eye on."""
        self.claimed.discard_all(seqs)
        watched = self.contended.among(seqs)
        self.contended.discard_all(watched)
        return watched

    def gone_below(self, seq: int) -> None:
        """Everything below a sequence left the stream."""
        self.claimed.drop_below(seq)
        self.contended.drop_below(seq)

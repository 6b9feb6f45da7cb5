"""Claims: which messages of a work queue a group has the sole right to, where several groups read the queue.

A delivery *claims* its message from its dispatch until a nak, its expiry or a term. A group that meets a claimed message
skips it and comes back for it. Two sets of sequences are enough. `claimed` does not say by which group, because a group never
meets its own deliveries as new. `contended` has the messages that other groups have skipped. It only saves work: the end of
a message that is not contended needs no look at the other groups.

Claims exist only while a work queue has at least two groups. `delivery/dispatch` skips what is claimed, and claims what it
dispatches. See docs/decisions/0012-work-queue-claims.md.
"""

from __future__ import annotations

from waymaker_core.consumer.pending.batch import Part
from waymaker_core.consumer.sequences import SeqSet


class Claims:
    """The claims of one stream. `serial` grows whenever a claim ends, so that groups look again."""

    __slots__ = ("claimed", "contended", "serial")

    def __init__(self) -> None:
        self.claimed = SeqSet()
        self.contended = SeqSet()
        self.serial = 1

    def claim(self, parts: list[Part]) -> None:
        """Claim the messages of deliveries."""
        for batch, mask in parts:
            batch.add_to(self.claimed, mask)

    def release(self, parts: list[Part]) -> None:
        """End the claims of deliveries whose groups still have the messages to deal with."""
        for batch, mask in parts:
            batch.discard_from(self.claimed, mask)
            batch.add_to(self.contended, mask)
        self.serial += 1

    def free(self, seqs: list[int]) -> None:
        """End the claims to messages (ascending) that are done with and stay in the stream."""
        self.claimed.discard_all(seqs)
        self.serial += 1

    def gone(self, seqs: list[int]) -> list[int]:
        """Forget deleted messages (ascending); return those that were contended."""
        self.claimed.discard_all(seqs)
        watched = self.contended.among(seqs)
        self.contended.discard_all(watched)
        return watched

    def gone_below(self, seq: int) -> None:
        """Forget every message below a sequence."""
        self.claimed.drop_below(seq)
        self.contended.drop_below(seq)

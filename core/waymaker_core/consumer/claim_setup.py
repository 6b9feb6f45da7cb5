"""Building claims: which group has which claim among groups that had none so far.

Claims are built when a second group joins a work queue, when decisions were discarded, and after a restart. Only then can
two groups have the same message pending: a delivery that the log lists may have been over when the server stopped.
"""

from __future__ import annotations

from collections.abc import Callable

from waymaker_core.consumer.group import Group
from waymaker_core.consumer.work_queue.claims import Claims


def claims_over(groups: list[Group], is_live: Callable[[int], bool]) -> Claims:
    """Return the claims of these groups.

    Of two groups with the same message pending one keeps it, the one on its last attempt before others; at the other it is due.
    A message that a staged record settles may have been deleted for another reason meanwhile; then no group has a claim to it.
    """
    claims = Claims()
    held, shared = claims.claimed, claims.contended
    for group in groups:
        for entry in group.staged.entries():
            for batch, mask in entry.claimed:
                held.add_all([seq for seq in batch.seqs_of(mask) if is_live(seq)])
        for seq in group.skipped.to_list():
            shared.add(seq)
    for last_attempt in (True, False):
        for group in groups:
            for batch in group.pending.batches():
                if not batch.claiming:
                    batch.add_to(shared, batch.bits)
                elif (batch.deliver_count >= group.config.max_deliver) == last_attempt:
                    taken = batch.mask_in(held, batch.bits)
                    mine = batch.bits ^ taken
                    if taken:
                        batch.add_to(shared, taken)
                        group.pending.lose_claim(batch, taken)
                    if mine:
                        batch.add_to(held, mine)
    return claims


def check_claims(claims: Claims, groups: list[Group], is_live: Callable[[int], bool]) -> None:
    """Assert that one group at most has the claim to each message, and that each contended message is known."""
    claimants: dict[int, int] = {}
    for group in groups:
        parts = [(batch, batch.bits) for batch in group.pending.batches() if batch.claiming]
        for entry in group.staged.entries():
            parts.extend(entry.claimed)
        for batch, mask in parts:
            for seq in filter(is_live, batch.seqs_of(mask)):
                assert seq not in claimants, "a message is held by two groups"
                claimants[seq] = group.id
        for batch in group.pending.batches():
            if not batch.claiming:
                assert all(seq in claims.contended for seq in batch.seqs_of(batch.bits))
        assert all(seq in claims.contended for seq in group.skipped.to_list())
    assert claims.claimed.to_list() == sorted(claimants)
    claims.claimed.check()
    claims.contended.check()

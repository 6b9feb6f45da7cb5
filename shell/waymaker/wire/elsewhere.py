"""The refusal of a call that another member of the cluster serves: nothing was done here, and there it may be.

For a caller that does not follow it, it is any server that cannot serve for the moment, and says where to ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from waymaker_core.model.result_codes import Outcome, Refusal, Status

FORWARDED_METADATA: Final = "wmkr-forwarded"
"""Set on a call that a member sends on for its caller: a member that receives it sends it nowhere else."""


@dataclass(slots=True, eq=False)
class ServedElsewhere(Refusal):
    """A refusal that names the member which serves the call, in an epoch as far as known; no address: it is not known."""

    node_id: int = 0
    address: str = ""
    epoch: int = 0


def in_words(refusal: Refusal) -> Refusal:
    """Return a refusal for a client that goes nowhere else by itself: the text alone says where."""
    if not isinstance(refusal, ServedElsewhere):
        return refusal
    return Refusal(refusal.status, refusal.message, refusal.outcome, refusal.code)


def served_elsewhere(node_id: int, address: str | None, epoch: int) -> ServedElsewhere:
    """Return the refusal that names a member."""
    place = f"at {address}" if address else "whose address is not known here yet"
    text = f"node {node_id}, {place}, serves this; nothing was done here"
    return ServedElsewhere(Status.UNAVAILABLE, text, Outcome.NOT_APPLIED, "", node_id, address or "", epoch)

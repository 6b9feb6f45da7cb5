"""Bugs that the core once had, each made anew for as long as a run lasts: so that the cases kept for them are seen to fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from waymaker_core.consumer import consumers
from waymaker_core.node.checkpoint import relocations as moving
from waymaker_core.stream import admission
from waymaker_core.stream.answers import CopyDecision
from waymaker_core.stream.retention import decisions as retention
from waymaker_core.stream.stream import Stream
from waymaker_sim.mutants.archives import ARCHIVES
from waymaker_sim.mutants.planting import Mutant


def _in_two_decisions(original: Any) -> Any:
    """The originals' end is staged before their letters ask for an index, and stays staged when they do."""

    def decide_copies(
        state: Stream, subject: str, seqs: Sequence[int], bodies: Sequence[bytes], wall_ms: int, replace: bool
    ) -> CopyDecision:
        drops = retention.decide_drops(state, seqs) if replace else None
        decided: CopyDecision = original(state, subject, seqs, bodies, wall_ms, False)
        return decided if drops is None else CopyDecision(decided.copies, *drops)

    return decide_copies


PAST_BUGS: dict[str, Mutant] = {
    "letter-without-original": Mutant(
        "a dead letter and its original's end are one decision", ("invariant",),
        admission, "decide_copies", _in_two_decisions,
    ),
    "held-for-ever": Mutant(
        "nobody holds what left the stream while its ack was on its way", ("invariant",),
        consumers, "claims_over", lambda original: lambda groups, is_live: original(groups, lambda seq: True),
    ),
    "file-a-block": Mutant(
        "small sealed blocks share a file", ("answered", "progress"), moving, "RELOCATION_FILE_BLOCKS_MAX", lambda _: 1
    ),
    "opened-in-a-checkpoint": ARCHIVES["import-end-forgotten"],
}  # fmt: skip
"""By the name of the case in `cases/`."""

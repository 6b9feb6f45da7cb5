"""Decisions of services: messages, deletions and facts that enter a stream's log as one record.

A service drafts, this stages it in the stream. The service then stages the same record in its layer, so that its next decision
sees it. Nothing is staged where `NeedBlocks` is raised.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from waymaker_core.model.records import LayerRecord
from waymaker_core.stream import admission
from waymaker_core.stream.stream import Stream


@dataclass(slots=True, eq=False)
class Draft:
    """Messages, deletions and facts that a service wants to be committed as one.

    Messages as columns, with server time: `subjects`, `sizes` (payload, and headers that a client sent), `bodies` (as made by
    `model.message_codec`). Neither the stream's filter nor its bound of sizes is asked: the service answers for them.
    `drops`: sequences of committed messages to delete; those that are deleted already are left out. `facts`: kind and bytes.
    `lengths`: of each body, where `bodies` has them joined.
    """

    subjects: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    drops: Sequence[int] = ()
    facts: list[tuple[int, bytes]] = field(default_factory=list)
    lengths: array[int] | None = None


def decide_draft(stream: Stream, draft: Draft, wall_ms: int) -> LayerRecord:
    """Stage a draft in the stream; its messages have consecutive sequences from `stream.overlay.last_seq + 1` on.

    Deletions are staged first: a cap a subject does not count what goes with the record. Raises `NeedBlocks`.
    """
    lengths = array("I", map(len, draft.bodies)) if draft.lengths is None else draft.lengths
    decision = admission.decide_for_service(stream, draft.subjects, draft.sizes, lengths, draft.drops, wall_ms)
    return LayerRecord(decision.messages, decision.drop_seqs, decision.drop_sizes, draft.facts)

"""Rules of producers: what is stored is found again, in the table, in the overlay and after a restart, and epochs end."""

from __future__ import annotations

from typing import Any

import waymaker_core.stream.deduplication as deduplication
import waymaker_core.stream.snapshot as snapshot
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.stream.producers import FORGOTTEN, FRESH, KnownProducer, Producers
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving, nothing


def _remembered(plan: Plan) -> bool:
    """Return True for worlds in which nothing is forgotten."""
    limits, usual = plan.limits, Limits()
    return plan.producers and (limits.producers_max, limits.producer_spans_max) == (
        usual.producers_max,
        usual.producer_spans_max,
    )


def _stopped(plan: Plan) -> bool:
    """Return True for worlds with crashes."""
    return _remembered(plan) and plan.kill + plan.power + plan.kill_at_effect > 5_000


def _stopped_and_checkpointed(plan: Plan) -> bool:
    return _stopped(plan) and plan.limits.segment_bytes <= 32 * KIB


def _forgetful(plan: Plan) -> bool:
    return plan.producers and plan.limits.producers_max < plan.publishers


def _of_few_spans(plan: Plan) -> bool:
    return plan.producers and plan.limits.producer_spans_max < Limits().producer_spans_max


def _only_staged(original: Any) -> Any:
    def apply(self: Producers, spans: Any, first_seq: int, last_seq: int) -> None:
        decided_here = bool(self.staged) and self.staged[0].first_seq <= last_seq
        original(self, spans if decided_here else (), first_seq, last_seq)

    return apply


def _trusting(original: Any) -> Any:
    def find_number(self: Any, *arguments: Any) -> int:
        found: int = original(self, *arguments)
        return FRESH if found == FORGOTTEN else found

    return find_number


PRODUCERS = {
    "ignore-numbers": Mutant(
        "a number that is stored is not stored again", ("stored once", "producer fenced", "no confirmed failure"),
        deduplication, "look_up", giving(None), _remembered,
    ),
    "forget-numbers-at-start": Mutant(
        "a snapshot holds the numbers that are stored", ("stored once", "no confirmed failure"),
        snapshot, "_decode_producers", nothing, _stopped_and_checkpointed,
    ),
    "forget-numbers-in-replay": Mutant(
        "records bring the numbers that are stored", ("stored once", "no confirmed failure"),
        Producers, "apply", _only_staged, _stopped,
    ),
    "ignore-staged-numbers": Mutant(
        "a number that is decided and not committed is not stored again", ("stored once", "answer allowed"),
        Producers, "stage", nothing, _remembered,
    ),
    "fence-no-epoch": Mutant(
        "once a newer epoch of a producer is stored, an older one stores nothing", ("producer fenced",),
        Producers, "epoch_of", giving(0), _remembered,
    ),
    "take-forgotten-producers": Mutant(
        "what a forgotten producer sends again is not taken for new", ("stored once",),
        Producers, "find_number", _trusting, _forgetful,
    ),
    "take-forgotten-numbers": Mutant(
        "a number below those remembered is not taken for new", ("stored once",),
        KnownProducer, "find_number", _trusting, _of_few_spans,
    ),
}  # fmt: skip

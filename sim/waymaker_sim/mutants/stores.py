"""Rules of stores: a take is committed before its answer and never forgotten, entries replace each other, sketches add."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from waymaker_core.collections import decisions
from waymaker_core.collections.entries import Entries
from waymaker_core.collections.queue import Queue
from waymaker_core.layers.layer import COLLECTIONS, SKETCHES
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.node.gate import Gate
from waymaker_core.node.handlers.collections import Collections
from waymaker_core.node.handlers.committing import Committing
from waymaker_core.sketches import layer as sketching
from waymaker_core.sketches.layer import SketchLayer
from waymaker_core.stream.retention import limits as bounds
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Make, Mutant, nothing


def _stores(plan: Plan) -> bool:
    return plan.stores


def _stopping(plan: Plan) -> bool:
    """Return True for worlds with stores where processes stop often."""
    return plan.stores and plan.kill + plan.power + plan.kill_at_effect > 500


def _sets(plan: Plan) -> bool:
    return plan.sets


def _whether_absent_or_not(original: Any) -> Any:
    def decide(stream: Any, entries: Any, request: Any, wall_ms: int) -> Any:
        return original(stream, entries, replace(request, only_absent=False), wall_ms)

    return decide


def _all_asked(original: Any) -> Any:
    def decide(stream: Any, entries: Any, request: Any) -> Any:
        decision = original(stream, entries, request)
        decision.value = len(request.subjects)
        return decision

    return decide


def _own_takes_only(original: Any) -> Any:
    def apply(self: Queue, record: Any) -> None:
        staged, taken_to = bool(self.staged_takes), self.taken_to
        original(self, record)
        if not staged:
            self.taken_to = taken_to

    return apply


def _committed_only(original: Any) -> Any:
    return property(lambda self: self.taken_to)


def _kept_in_part(original: Any) -> Any:
    def apply(self: Entries, record: Any) -> None:
        before = dict(self.places)
        original(self, record)
        for subject, found in before.items():
            if subject not in self.places:
                self._put(subject, found)

    return apply


def _given_at_once(original: Any) -> Any:
    """Give values before their take is committed, where nothing else is in its way."""

    def pop(self: Collections, call: Any, found: Any) -> None:
        gate: Any = self._gate

        def at_once(token: Any, action: Any, rest: Any) -> None:
            log, position = rest
            if position == log.applied + 1:
                action()
            else:
                Gate.when_applied(gate, token, action, rest)

        gate.when_applied = at_once
        try:
            original(self, call, found)
        finally:
            del gate.when_applied

    return pop


def answered_at_once(kind: int) -> Make:
    """Make a commit that answers changes of services of this kind without waiting for their records."""

    def make(original: Any) -> Any:
        def commit_layer(self: Committing, token: Any, replica: Any, decision: Any, bound: int) -> None:
            if decision.record is None or kind not in replica.layers.by_kind:
                original(self, token, replica, decision, bound)
            else:
                self.add_decided(replica, decision.record, decision.parts, bound)
                self._gate.reply(token, Answer(OK, "", decision.value))

        return commit_layer

    return make


def _one_less(original: Any) -> Any:
    return lambda fact: original(fact)[:-1]


STORES = {
    "forget-what-was-taken": Mutant(
        "a restart knows how far a queue was taken", ("taken once",), Queue, "apply", _own_takes_only, _stopping,
    ),
    "take-what-is-being-taken": Mutant(
        "a take looks at the takes that are not committed yet", ("taken once",), Queue, "cursor", _committed_only, _stores,
    ),
    "give-before-the-commit": Mutant(
        "a value is handed out after its take is committed", ("taken once",), Collections, "pop", _given_at_once,
        _stopping,
    ),
    "answer-stores-early": Mutant(
        "a change of a hash or a queue is answered after it is committed", ("store entries", "taken once"),
        Committing, "commit_layer", answered_at_once(COLLECTIONS), _stopping,
    ),
    "keep-what-is-replaced": Mutant(
        "an entry's message is deleted with the one that replaces it", ("store entries",), bounds, "drop", nothing,
        _stores,
    ),
    "put-over-committed-entries": Mutant(
        "a put replaces what is put and not committed yet", ("store entries",),
        Entries, "projected", lambda _: lambda self, subject: self.places.get(subject, 0), _stores,
    ),
    "keep-what-is-removed": Mutant(
        "a removed entry is not there", ("store entries",), Entries, "apply", _kept_in_part, _stores,
    ),
    "answer-sketches-early": Mutant(
        "an add to a sketch is answered after it is committed", ("sketch equal",),
        Committing, "commit_layer", answered_at_once(SKETCHES), _stopping,
    ),
    "store-members-again": Mutant(
        "a member that is in its set is not stored again", ("store entries",), decisions, "decide_put",
        _whether_absent_or_not, _sets,
    ),
    "count-what-was-not-there": Mutant(
        "a removal counts the members that were there", ("store entries",), decisions, "decide_remove", _all_asked, _sets,
    ),
    "forget-a-sketch": Mutant(
        "a checkpoint holds what was added to a sketch", ("sketch equal",), SketchLayer, "restore", nothing, _stopping,
    ),
    "add-one-less": Mutant(
        "a sketch takes in all values of a batch", ("sketch equal",), sketching, "decode_values", _one_less, _stores,
    ),
}  # fmt: skip

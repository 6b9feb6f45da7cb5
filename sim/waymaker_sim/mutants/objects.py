"""Rules of objects: what is in use is never collected, what is not is, and an object is whole through any crash."""

from __future__ import annotations

from typing import Any

from waymaker_core.layers.layer import OBJECTS as LAYER
from waymaker_core.layers.waits import Waits
from waymaker_core.node.handlers.committing import Committing
from waymaker_core.objects.layer import ObjectLayer
from waymaker_core.objects.pins import Pins
from waymaker_core.objects.state import ObjectEntry, ObjectState
from waymaker_sim.kernel.events import MS
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving, nothing
from waymaker_sim.mutants.stores import answered_at_once


def _objects(plan: Plan) -> bool:
    """Return True for worlds in which a client stores objects."""
    return plan.objects


def _soon(plan: Plan) -> bool:
    """Return True for such worlds in which chunks are collected as soon as they are loose."""
    return plan.objects and plan.limits.object_grace_ms <= 500


def _restarting(plan: Plan) -> bool:
    """Return True for such worlds with restarts behind checkpoints."""
    return plan.objects and plan.kill + plan.power + plan.drain > 0 and plan.limits.segment_bytes <= 64 * 1024


def _stopping(plan: Plan) -> bool:
    """Return True for such worlds where processes stop often."""
    return plan.objects and plan.kill + plan.power + plan.kill_at_effect > 500


def _releasing_what_others_have(_: Any) -> Any:
    def release(self: ObjectState, entry: ObjectEntry, time_ms: int) -> list[int]:
        freed = list(dict.fromkeys(entry.sequences()))
        for seq in freed:
            self.uses.pop(seq, None)
            self.loose[seq] = time_ms
        self.chunk_count -= len(freed)
        return freed

    return release


def _forgetting_older(original: Any) -> Any:
    def put(self: ObjectState, name: str, entry: ObjectEntry) -> Any:
        before, freed = original(self, name, entry)
        for seq in freed:
            del self.loose[seq]
        return before, []

    return put


def _by_the_wall(_: Any) -> Any:
    return lambda self, since_ms, wait_ms, now: now.mono_ns + max(since_ms + wait_ms - now.wall_ms, 0) * MS


def _wrong(plan: Plan) -> bool:
    """Return True for worlds with objects whose wall clock is wrong now and then."""
    return plan.objects and plan.clock_wrong > 0


OBJECTS = {
    "pin-nothing": Mutant(
        "the sweep leaves chunks that a running upload or a reading pins", ("object whole",), Pins, "is_pinned",
        giving(False), _soon,
    ),
    "read-without-pin": Mutant(
        "a version that is replaced while it is read keeps its chunks until the reader is done", ("object whole",),
        Pins, "replaced", nothing, _soon,
    ),
    "collect-what-others-share": Mutant(
        "a shared chunk is loose only when no object has it", ("object whole", "chunks collected"), ObjectState, "_release",
        _releasing_what_others_have, _soon,
    ),
    "collect-nothing": Mutant(
        "loose chunks and deleted names are collected", ("chunks collected",), ObjectLayer, "next_due", giving(None), _objects,
    ),
    "forget-what-was-replaced": Mutant(
        "the chunks of a replaced version become loose", ("chunks collected",), ObjectState, "put", _forgetting_older, _objects,
    ),
    "pin-for-ever": Mutant(
        "pins end with the upload or the reading", ("chunks collected",), ObjectLayer, "close", nothing, _objects,
    ),
    "trust-future-times": Mutant(
        "a wait that seems to begin in the future counts from when it is noticed", ("chunks collected",),
        Waits, "end_of", _by_the_wall, _wrong,
    ),
    "answer-objects-early": Mutant(
        "the end of an upload is answered after it is committed", ("object kept",),
        Committing, "commit_layer", answered_at_once(LAYER), _stopping,
    ),
    "forget-objects": Mutant(
        "objects are in the checkpoints of their stream", ("object kept", "recovery twice"), ObjectLayer, "restore", nothing,
        _restarting,
    ),
}  # fmt: skip

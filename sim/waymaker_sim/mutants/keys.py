"""Rules of buckets: conditions see what is staged, values end in time and for good, watches miss and repeat nothing."""

from __future__ import annotations

from typing import Any

import waymaker_core.kv.decisions as decisions
from waymaker_core.api.requests import Messages
from waymaker_core.kv.layer import KeyState, KvLayer
from waymaker_core.kv.reads import Watch
from waymaker_core.layers.layer import KV
from waymaker_core.model.limits import KIB
from waymaker_core.node.handlers.committing import Committing
from waymaker_sim.kernel.events import MS
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving, nothing
from waymaker_sim.mutants.stores import answered_at_once


def _buckets(plan: Plan) -> bool:
    return plan.buckets


def _stopped(plan: Plan) -> bool:
    """Return True for worlds with crashes."""
    return plan.buckets and plan.kill + plan.power + plan.kill_at_effect > 5_000


def _stopped_and_checkpointed(plan: Plan) -> bool:
    return _stopped(plan) and plan.limits.segment_bytes <= 32 * KIB


def _slow(plan: Plan) -> bool:
    """Return True for worlds in which decisions wait for their sync, so that others meet them."""
    return plan.buckets and plan.pace.sync_ns >= 3 * MS and plan.think_ns <= 20 * MS


def _stopped_with_sane_clocks(plan: Plan) -> bool:
    return _stopped(plan) and not plan.wall_jump and not plan.clock_wrong


def _as_committed(_: Any) -> Any:
    return lambda self, subject: self.committed(subject)


def _tombstones_as_values(original: Any) -> Any:
    def committed(self: KvLayer, subject: str) -> KeyState:
        state: KeyState = original(self, subject)
        return state._replace(tombstone=False)

    return committed


def _older_values(original: Any) -> Any:
    def committed(self: KvLayer, subject: str) -> KeyState:
        state: KeyState = original(self, subject)
        if state.tombstone:
            older = self.stream._previous(subject, state.seq, None)
            return KeyState(older, False, None) if older else state
        return state

    return committed


def _seam_twice(original: Any) -> Any:
    def read(self: Watch, limit: int, byte_max: int) -> Messages:
        live = self.cursor <= self.live_to
        messages: Messages = original(self, limit, byte_max)
        if live and self.cursor > self.live_to:
            self.cursor = self.live_to
            self.live_to -= 1
        return messages

    return read


def _anew(_: Any) -> Any:
    def due(self: KvLayer, ttl: Any, now: Any) -> int:
        if not ttl.due_ns:
            ttl.due_ns = now.mono_ns + ttl.ttl_ms * 1_000_000
        return int(ttl.due_ns)

    return due


KEYS = {
    "judge-committed-keys": Mutant(
        "a change of a key is judged on what is decided before it", ("linearizable", "keys", "invariant"),
        KvLayer, "projected", _as_committed, _slow,
    ),
    "take-any-revision": Mutant(
        "an update needs the revision that it asks for, and a create a key without a value", ("linearizable", "keys"),
        decisions._Write, "_judge", giving(None), _buckets,
    ),
    "answer-keys-early": Mutant(
        "a change of a key is answered after it is committed", ("linearizable", "keys"),
        Committing, "commit_layer", answered_at_once(KV), _stopped,
    ),
    "read-tombstones": Mutant(
        "a tombstone is no value", ("keys", "linearizable"),
        KvLayer, "committed", _tombstones_as_values, _buckets,
    ),
    "revive-older-values": Mutant(
        "a tombstone hides all older values", ("keys", "linearizable"),
        KvLayer, "committed", _older_values, _buckets,
    ),
    "end-values-when-read": Mutant(
        "a value ends by itself once its time to live is over", ("ends in time", "progress", "watch whole"),
        KvLayer, "next_due", giving(None), _buckets,
    ),
    "forget-ends-at-start": Mutant(
        "a snapshot holds tombstones and times to live", ("ends in time", "keys", "linearizable"),
        KvLayer, "restore", nothing, _stopped_and_checkpointed,
    ),
    "live-anew-at-start": Mutant(
        "a restart makes no value live longer than its time to live", ("ends in time",),
        KvLayer, "_due_of", _anew, _stopped_with_sane_clocks,
    ),
    "watch-the-seam-twice": Mutant(
        "a watch sends each revision once", ("watch whole",),
        Watch, "read", _seam_twice, _buckets,
    ),
    "fill-buckets": Mutant(
        "a full bucket refuses", ("limits hold",),
        decisions._Write, "_full", giving(None), _buckets,
    ),
}  # fmt: skip

"""Rules of buckets: conditions see what is staged, values end in time and for good, watches miss and repeat nothing."""

from __future__ import annotations

from typing import Any

import waymaker_core.kv.decisions as decisions
from waymaker_core.api.requests import Messages
from waymaker_core.kv import reads
from waymaker_core.kv.layer import KeyState, KvLayer
from waymaker_core.kv.reads import Watch
from waymaker_core.layers.layer import KV
from waymaker_core.layers.waits import Waits
from waymaker_core.model.limits import KIB
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.model.types import Now
from waymaker_core.node.handlers.buckets import Buckets
from waymaker_core.node.handlers.committing import Committing
from waymaker_sim.kernel.events import MS
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Make, Mutant, giving, nothing
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


def _closely(plan: Plan) -> bool:
    """Return True for worlds in which more of a bucket is judged: ends in pauses, late watches, lists, a second bucket."""
    return plan.keys_closely


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


def _over_the_seam(original: Any) -> Any:
    def read(self: Watch, limit: int, byte_max: int) -> Messages:
        live = self.cursor <= self.live_to
        messages: Messages = original(self, limit, byte_max)
        if live and self.cursor > self.live_to:
            self.cursor = self.layer.stream.last_seq + 1
        return messages

    return read


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


def _without_touches(original: Any) -> Any:
    def fact(self: Any) -> Any:
        found = original(self)
        found.touched.clear()
        return found

    return fact


class _OverAtOnce(Waits[tuple[str, int]]):
    """Waits that are over when they are first looked at."""

    def end_of(self, since_ms: int, wait_ms: int, now: Now) -> int:
        return now.mono_ns


class _NeverOver(Waits[tuple[str, int]]):
    """Waits that do not end."""

    def end_of(self, since_ms: int, wait_ms: int, now: Now) -> int:
        return 1 << 62


def _with_purges(waits: type[Waits[tuple[str, int]]]) -> Make:
    def planting(original: Any) -> Any:
        def init(self: KvLayer, stream: Any) -> None:
            original(self, stream)
            self._purges = waits(self._tombstone_since)

        return init

    return planting


def _as_values(original: Any) -> Any:
    def keys(*arguments: Any) -> Any:
        page = original(*arguments)
        for entry in page.entries:
            entry.deleted = False
        return page

    return keys


def _kept(_: Any) -> Any:
    def delete(self: Buckets, call: Any, found: Any) -> None:
        self._found(call, found, self._registry.require_deletable)
        self._gate.reply(call.token, Answer(OK))

    return delete


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
    "read-overdue-values": Mutant(
        "a value that is overdue is ended before it is read or compared with", ("ends in time", "keys"),
        KvLayer, "is_overdue", giving(False), _closely,
    ),
    "forget-touches": Mutant(
        "a touch changes the time to live", ("keys", "ends in time"),
        decisions._Write, "_fact", _without_touches, _closely,
    ),
    "purge-nothing": Mutant(
        "a tombstone goes once its time is over", ("ends in time",),
        KvLayer, "__init__", _with_purges(_NeverOver), _closely,
    ),
    "purge-at-once": Mutant(
        "a tombstone stays for its time, so that watchers hear of it", ("keys", "watch whole"),
        KvLayer, "__init__", _with_purges(_OverAtOnce), _closely,
    ),
    "list-tombstones-as-values": Mutant(
        "a list of keys tells which of them have ended", ("keys",),
        reads, "list_keys", _as_values, _closely,
    ),
    "keep-deleted-buckets": Mutant(
        "a deleted bucket is gone, and one made again is empty", ("keys",),
        Buckets, "delete_bucket", _kept, _closely,
    ),
    "forget-ends-at-start": Mutant(
        "a snapshot holds tombstones and times to live", ("ends in time", "keys", "linearizable"),
        KvLayer, "restore", nothing, _stopped_and_checkpointed,
    ),
    "live-anew-at-start": Mutant(
        "a restart makes no value live longer than its time to live", ("ends in time",),
        KvLayer, "_due_of", _anew, _stopped_with_sane_clocks,
    ),
    "watch-over-the-seam": Mutant(
        "a watch goes on where its live values ended", ("watch whole",),
        Watch, "read", _over_the_seam, _closely,
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

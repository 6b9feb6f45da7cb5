"""Rules of retention: messages removed by age, by count and bytes, by interest, and messages that stay."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import Any

import waymaker_core.stream.admission as admission
import waymaker_core.stream.projection as projection
import waymaker_core.stream.retention.decisions as retention
import waymaker_core.stream.retention.limits as bounds
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.consumer.group import Group
from waymaker_core.consumer.pending.pending import Pending
from waymaker_core.consumer.registry import ConsumerOverlay
from waymaker_core.model.records import SettingsRecord
from waymaker_core.node.handlers.streams import Streams
from waymaker_core.node.maintenance.retention import Retention
from waymaker_core.node.timers import Timer
from waymaker_core.stream.answers import UpdateDecision
from waymaker_core.stream.blocks.subject_caps import SubjectCaps
from waymaker_core.stream.stream import Stream
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving, nothing


def _blind_to_what_is_ahead(original: Any) -> Any:
    def interest_floor(self: Group, stream: Stream) -> int:
        if self.outstanding() < self.cursor:
            return int(original(self, stream))
        pending, self.pending = self.pending, Pending(1)
        try:
            return int(original(self, stream))
        finally:
            self.pending = pending

    return interest_floor


def _killed(plan: Plan) -> bool:
    """Return True for worlds with kills and naks, and enough clients to keep consumers busy."""
    return plan.power + plan.kill > 0 and plan.workers >= 2


def _acked_out_of_order(plan: Plan) -> None:
    """Let many workers take from many streams, whose caches of subjects no start makes anew."""
    plan.streams, plan.publishers, plan.workers, plan.think_ns = 4, 3, 2, 20 * MS
    plan.faults_ns = 8 * SECOND
    plan.kill = plan.kill_at_effect = plan.power = plan.drain = plan.full = plan.targeted_disk_full = plan.rot = 0
    plan.churn = 0


def _dropping_what_is_staged(original: Any) -> Any:
    def apply_drops(self: Stream, seqs: Any, sizes: Any) -> None:
        if self.overlay.drops:
            original(self, seqs, sizes)

    return apply_drops


def _by_count_only(_: Any) -> Any:
    return lambda state, settings: 0 < settings.max_msgs < state.overlay.count


def _by_block_only(original: Any) -> Any:
    def enforce(state: Stream, settings: Any, removal: Any, strict: bool, *rest: Any, **named: Any) -> None:
        original(state, settings, removal, False, *rest, **named)

    return enforce


def _too_much(original: Any) -> Any:
    def by_block(state: Stream, max_msgs: int, max_bytes: int, removal: Any) -> None:
        original(state, max_msgs // 2 + 1 if max_msgs else 0, max_bytes, removal)

    return by_block


def _one_byte_larger(original: Any) -> Any:
    return lambda state, number: original(state, number) + 1


def _too_soon(original: Any) -> Any:
    def remove(state: Stream, cutoff: int, strict: bool, removal: Any) -> None:
        original(state, cutoff + state.settings.max_age_ms // 2, strict, removal)

    return remove


LATER = 20
"""Intervals of retention: longer than what is too old may stay."""


def _later(original: Any) -> Any:
    def arm(self: Retention, replica: Any) -> None:
        original(self, replica)
        timers = self._state.timers
        due_ns = timers.deadline(Timer.AGE, replica.id)
        if due_ns is not None:
            timers.arm(Timer.AGE, replica.id, due_ns + LATER * self._interval_ns)

    return arm


def _looks_at_ages(plan: Plan) -> bool:
    return plan.looks_at_ages and not (plan.disk.read_error or plan.pace.slow_per_million or plan.pace.read_ns > MS)


def _wrong_clocks(plan: Plan) -> bool:
    return plan.clock_wrong > 0


def _slow_syncs(plan: Plan) -> bool:
    return plan.pace.sync_ns >= 20 * MS


def _nobody_cares(_: Any) -> Any:
    return lambda self: self._stream.last_seq


def _pruning_nothing(original: Any) -> Any:
    def decide(self: Stream, config: Any, wall_ms: int, dry_run: bool = False) -> Any:
        if dry_run:
            return original(self, config, wall_ms, dry_run)
        self.overlay.configs.append(config)
        self.caps.forget()
        return UpdateDecision([SettingsRecord(config)], 0)

    return decide


def _counting_age_only(original: Any) -> Any:
    def decide(self: Stream, config: Any, wall_ms: int, dry_run: bool = False) -> Any:
        return original(self, replace(config, max_msgs=0, max_bytes=0) if dry_run else config, wall_ms, dry_run)

    return decide


def _counting_no_age(original: Any) -> Any:
    def decide(self: Stream, config: Any, wall_ms: int, dry_run: bool = False) -> Any:
        return original(self, replace(config, max_age_ms=0) if dry_run else config, wall_ms, dry_run)

    return decide


def _in_earnest(original: Any) -> Any:
    def update(self: Streams, call: Any, found: Any) -> None:
        call.request.dry_run = False
        original(self, call, found)

    return update


def _dry_runs(plan: Plan) -> bool:
    return plan.dry_runs


def _dropping_nothing(_: Any) -> Any:
    return lambda self, seqs: (array("Q"), array("Q"))


RETENTION = {
    "caps-untold": Mutant(
        "what left a subject takes no room there any more", ("acked survives",), SubjectCaps, "dropped", nothing,
        adapt=_acked_out_of_order,
    ),
    "keep-dropped": Mutant(
        "messages that a record drops stay dropped after a restart", ("nothing returns", "limits hold", "recovery twice"),
        Stream, "apply_drops", _dropping_what_is_staged,
    ),
    "keep-aged": Mutant(
        "messages as old as `max_age` expire", ("limits hold",), retention, "_remove_aged", nothing,
    ),
    "age-late": Mutant(
        "expired messages are removed within an interval of retention", ("aged in time",),
        Retention, "_arm_for_age", _later, _looks_at_ages,
    ),
    "pass-what-is-pending": Mutant(
        "interest keeps what is pending beyond the logged scan of a group", ("acked survives", "progress", "floor honest"),
        Group, "interest_floor", _blind_to_what_is_ahead, _killed,
    ),
    "keep-corrected": Mutant(
        "what a wrong clock stamped expires `max_age` after its correction", ("limits hold",),
        retention, "_remove_corrected", giving(False), _wrong_clocks,
    ),
    "age-too-soon": Mutant(
        "what is younger than `max_age` stays", ("acked survives",), retention, "_remove_aged", _too_soon,
    ),
    "ignore-limits": Mutant(
        "a publish pushes out what is over `max_msgs` or `max_bytes`", ("limits hold",), bounds, "enforce", nothing,
    ),
    "ignore-bytes": Mutant(
        "a publish pushes out what is over `max_bytes`", ("limits hold",), bounds, "is_over", _by_count_only,
    ),
    "never-strict": Mutant(
        "strict limits go message by message", ("limits hold",), bounds, "enforce", _by_block_only,
    ),
    "prune-too-much": Mutant(
        "a block is removed only when exact pruning would remove all of it", ("acked survives",),
        bounds, "_enforce_by_block", _too_much,
    ),
    "full-to-the-byte": Mutant(
        "a message stays that fills `max_bytes` to the byte", ("acked survives",),
        projection, "last_size", _one_byte_larger,
    ),
    "ignore-caps": Mutant(
        "a subject keeps no more than `max_msgs_per_subject`", ("limits hold",), admission, "_cap", nothing,
    ),
    "interest-too-high": Mutant(
        "with interest retention a message stays until every consumer is done with it", ("acked survives",),
        Consumers, "interest_floor", _nobody_cares,
    ),
    "interest-of-the-committed": Mutant(
        "with interest retention a message stays for a consumer that is being created", ("acked survives",),
        ConsumerOverlay, "surviving_creations", giving([]), _slow_syncs,
    ),
    "interest-never": Mutant(
        "with interest retention a message is removed once every consumer is done with it", ("limits hold",),
        Consumers, "interest_floor", giving(0),
    ),
    "keep-acked": Mutant(
        "in a work queue an acknowledgement drops the message", ("limits hold",), retention, "decide_drops", _dropping_nothing,
    ),
    "dry-run-by-age": Mutant(
        "a dry run counts what is over all bounds", ("dry run",), retention, "decide_update", _counting_age_only, _dry_runs,
    ),
    "dry-run-without-age": Mutant(
        "a dry run counts what is too old", ("dry run",), retention, "decide_update", _counting_no_age, _dry_runs,
    ),
    "dry-run-in-earnest": Mutant(
        "a dry run changes nothing", ("acked survives", "answer allowed"),
        Streams, "update", _in_earnest, _dry_runs,
    ),
    "update-prunes-nothing": Mutant(
        "new settings remove at once what is over them", ("limits hold",), retention, "decide_update", _pruning_nothing,
    ),
}  # fmt: skip

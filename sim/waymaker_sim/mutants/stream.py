"""Rules of a stream: the sequence and time of a message, the check of a condition, the place of the newest message."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import waymaker_core.node.checkpoint.snapshots as snapshots
import waymaker_core.stream.admission as admission
import waymaker_core.stream.reads as reads
import waymaker_core.stream.relocation.relocation as moves
import waymaker_core.stream.snapshot as snapshot
from waymaker_core.api.requests import Messages
from waymaker_core.model.limits import KIB
from waymaker_core.model.result_codes import RefusedError
from waymaker_core.model.subjects import Pattern, SubjectFilter
from waymaker_core.node.handlers.publish import Publishing
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.parking import Parking
from waymaker_core.stream.blocks.need_blocks import NeedBlocks
from waymaker_core.stream.blocks.subject_table import SubjectTable
from waymaker_core.stream.stream import Stream
from waymaker_sim.kernel.events import MS
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving, nothing


def _restarted_in_blocks(plan: Plan) -> bool:
    """Return True for worlds with restarts from checkpoints, in the middle of blocks."""
    limits = plan.limits
    return limits.block_size_default >= 7 and plan.kill + plan.power > 5_000 and limits.segment_bytes <= 16 * KIB


def _as_committed(_: Any) -> Any:
    return lambda self, subject: self.latest(subject)


def _back_to_the_living(original: Any) -> Any:
    def decode(value: object, limits: Any) -> Stream:
        stream: Stream = original(value, limits)
        last = max((block.last for block in stream.blocks.values()), default=0)
        stream.last_seq = stream.overlay.last_seq = last
        return stream

    return decode


def _answering_ahead(original: Any) -> Any:
    def commit(self: Publishing, call: Any, replica: Any, decision: Any, *rest: Any) -> None:
        decision.depends_on_uncommitted = False
        original(self, call, replica, decision, *rest)

    return commit


def _refusing_late(original: Any) -> Any:
    def publish(self: Publishing, call: Any, found: Any) -> None:
        try:
            original(self, call, found)
        except RefusedError:
            with suppress(NeedBlocks, RefusedError):
                decision = admission.decide_publish(found.stream, call.request, self._state.now.wall_ms)
                if decision.record is not None:
                    size = len(call.request.body)
                    self._committing.add_decided(found, decision.record, decision.parts, 2 * size + 4_096)
            raise

    return publish


def _at_any_hour(original: Any) -> Any:
    def decide(state: Stream, request: Any, wall_ms: int) -> Any:
        state.overlay.clock_ms = min(state.overlay.clock_ms, wall_ms)
        return original(state, request, wall_ms)

    return decide


def _never_back(_: Any) -> Any:
    return lambda self, wall_ms: max(wall_ms, self.overlay.clock_ms)


def _wrong_clocks(plan: Plan) -> bool:
    return plan.clock_wrong > 0


def _one_behind(_: Any) -> Any:
    def read_latest(state: Stream, subject: str) -> Any:
        seq = state.latest(subject)
        if seq and seq == state.last_seq:
            seq = state._previous(subject, seq, None) or seq
        return reads.messages_in(state, [(seq, seq)], 0) if seq else Messages([], 0, 0)

    return read_latest


def _cut_in_silence(original: Any) -> Any:
    def page_of(state: Stream, found: Any, last: int) -> Messages:
        messages: Messages = original(state, found, last)
        messages.next_seq = 0
        return messages

    return page_of


def _refusing_none(_: Any) -> Any:
    return lambda *arguments: set()


def _beginning_so(original: Any) -> Any:
    def matches(self: Pattern, subject: str) -> bool:
        return bool(original(self, subject)) or (not self.literal and subject.startswith(self.prefix))

    return matches


def _reserving_ahead(original: Any) -> Any:
    def reserve(state: Stream, now_ms: int) -> Any:
        state.reserve_interval_ms = state.reserve_interval_ms or 500
        return original(state, now_ms)

    return reserve


def _restarted(plan: Plan) -> bool:
    """Return True for worlds with crashes of a machine that awaits every sync."""
    return not plan.sync_interval_ms and plan.kill + plan.power > 5_000


def _counting_again(original: Any) -> Any:
    def park(self: Parking, call: Any, **named: Any) -> bool:
        self._state.stats.calls += 1
        return bool(original(self, call, **named))

    return park


def _wherever_it_lay(original: Any) -> Any:
    def load_index(state: Stream, number: int, place: Any, data: bytes) -> int:
        now = moves.index_location(state, number)
        return int(original(state, number, now, data)) if now is not None else 0

    return load_index


def _moved_under_searches(plan: Plan) -> bool:
    """Return True for worlds with reads so slow that checkpoints write blocks anew meanwhile."""
    limits = plan.limits
    return plan.pace.read_ns >= 50 * MS and limits.index_cache_bytes <= 16 * KIB and limits.segment_bytes <= 16 * KIB


STREAM = {
    "reuse-sequences": Mutant(
        "the sequence of a removed message is not given again after a restart",
        ("one history", "ledger grows", "recovery twice"), snapshots, "decode_snapshot", _back_to_the_living,
    ),
    "reserve-always": Mutant(
        "sequences are reserved ahead only where answers do not wait for their sync", ("no gaps",),
        admission, "_reserve", _reserving_ahead, _restarted,
    ),
    "count-again": Mutant(
        "a call that has to wait is counted once", ("limits hold",), Parking, "park", _counting_again,
    ),
    "ignore-conditions": Mutant(
        "a conditional publish is compared with what is there", ("compare and set", "linearizable"),
        admission, "_compare", nothing,
    ),
    "ignore-staged": Mutant(
        "an expectation is judged with what is staged", ("compare and set", "linearizable"),
        Stream, "projected_latest", _as_committed,
    ),
    "answer-ahead": Mutant(
        "a refusal that rests on a record leaves with that record", ("linearizable", "compare and set"),
        Publishing, "_commit", _answering_ahead,
    ),
    "refuse-late": Mutant(
        "a publish that is refused for want of space stores nothing", ("no confirmed failure",),
        Publishing, "publish", _refusing_late, lambda plan: plan.full > 5_000,
    ),
    "take-all-subjects": Mutant(
        "a publish outside of the stream's filter is refused", ("subjects",), SubjectFilter, "accepts", giving(True),
    ),
    "patterns-as-prefixes": Mutant(
        "a wildcard stands for one token, and nothing follows the last one", ("subjects", "filter"),
        Pattern, "matches", _beginning_so,
    ),
    "read-behind": Mutant(
        "who reads the latest message finds what was confirmed last", ("acked survives", "nothing returns"),
        reads, "read_latest", _one_behind,
    ),
    "lose-latest": Mutant(
        "once the newest message at a subject is removed, the one before is found",
        ("acked survives", "compare and set", "linearizable"), Stream, "_previous", giving(0),
    ),
    "forget-repairs": Mutant(
        "a subject whose entry was repaired is entered again with its next message",
        ("acked survives", "nothing returns", "limits hold"), SubjectTable, "enter_again", nothing,
    ),
    "forget-repairs-at-start": Mutant(
        "which entries were repaired is found again after a restart",
        ("acked survives", "nothing returns", "recovery twice", "limits hold"), snapshot, "_find_repaired", nothing,
        _restarted_in_blocks,
    ),
    "cut-in-silence": Mutant(
        "a read that was cut names the next sequence", ("acked survives",), reads, "_page_of", _cut_in_silence,
    ),
    "forget-searches": Mutant(
        "a search that used its share of a step continues in the next one",
        ("answered", "given when due", "progress"), Indexes, "resume", nothing,
        lambda plan: plan.limits.search_entries_max <= 20,
    ),
    "take-old-indexes": Mutant(
        "an index that was read where its block does not lie any more is read again", ("answer allowed", "invariant"),
        moves, "load_index", _wherever_it_lay, _moved_under_searches,
    ),
    "time-goes-back": Mutant(
        "the server's time never decreases within a stream", ("monotone",),
        admission, "decide_publish", _at_any_hour, lambda plan: plan.wall_jump > 5_000,
    ),
    "time-stays-ahead": Mutant(
        "server time too far ahead of the wall clock is corrected", ("server time",),
        Stream, "server_time", _never_back, _wrong_clocks,
    ),
    "take-oversize": Mutant(
        "a message over `max_msg_bytes` is refused", ("limits hold",),
        admission, "_refused", _refusing_none,
    ),
}  # fmt: skip

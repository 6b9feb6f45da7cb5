"""The rules of replication by name. Each can be left out for a while, and a promise must then break.

A rule is one function of the core, or of the node around it; without it, the function does what a program would do that knows
no such rule. Their meaning is told in `replication_model/rules`, under the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from waymaker_core.replication import claiming, following, leading, replica, state
from waymaker_core.replication.conf import Claim, Seat
from waymaker_core.replication.effects import NoteDoubt
from waymaker_core.replication.messages import Acked, Append, Message, Promised
from waymaker_core.replication.state import Leading, Phase, ReplicaState
from waymaker_sim.mutants.planting import Make, Mutant, giving
from waymaker_sim.replication import machine, schedule

NOTICED_BY: Final = ()
"""No check of a world: a schedule raises `Lost`."""


def _at_once(kind: type) -> Make:
    """Make a sender that lets messages of a kind leave before the sync."""

    def make(original: Callable[..., None]) -> Any:
        def send(of: ReplicaState, to: int, message: Message) -> None:
            if isinstance(message, kind):
                of.send_now(to, message)
            else:
                original(of, to, message)

        return send

    return make


def _resuming(original: Callable[[ReplicaState], None]) -> Any:
    def claim_if_due(state: ReplicaState) -> None:
        conf = state.conf
        if (
            conf is not None
            and conf.newest.primary == state.seat.node
            and conf.newest.epoch == conf.opened.epoch == state.promised == state.log_epoch
        ):
            own = state.leading = Leading(conf.newest, conf.opened)
            own.phase, own.start, own.durable = Phase.VERIFYING, state.log.end, state.log.end
            leading.begin(state, own)
            leading.open_epoch(state, own)
        else:
            original(state)

    return claim_if_due


def _cutting(original: Callable[..., int]) -> Any:
    def take(state: ReplicaState, message: Append) -> int:
        end = original(state, message)
        if end < state.log.end:
            state.keep_cut(end)
        return end

    return take


def _by_node(_: Any) -> Any:
    return lambda given, wanted: given.node == wanted.node


def _of_any_directory(_: Any) -> Any:
    def is_member(claim: Claim, seat: Seat) -> bool:
        return any(each.node == seat.node for each in claim.replicas)

    return is_member


def _one_less(_: Any) -> Any:
    def reached(state: ReplicaState, own: Leading) -> int:
        ends = sorted([own.durable, *(each.match for each in own.followers.values())], reverse=True)
        return ends[max(own.claim.majority - 2, 0)]

    return reached


def _by_last_record(_: Any) -> Any:
    def rank(promise: Promised) -> tuple[int, int]:
        return (promise.starts[-1][0] if promise.starts else 0), promise.end

    return rank


def _doubting_alone(_: Any) -> Any:
    def start_in_doubt(state: ReplicaState, epoch: int) -> None:
        state.torn, state.doubt = False, epoch
        state.effects.append(NoteDoubt(epoch))

    return start_in_doubt


def _rule(owner: object, name: str, make: Make) -> Mutant:
    return Mutant(name, NOTICED_BY, owner, name, make)


RULES: Final[dict[str, Mutant]] = {
    "fence_last_opened": _rule(claiming, "set_to_fence", lambda _: lambda conf: conf.newest),
    "promise_durable": _rule(ReplicaState, "send_when_durable", _at_once(Promised)),
    "obey_promise": _rule(following, "obeys", giving(True)),
    "never_resume": _rule(replica, "_claim_if_due", _resuming),
    "choose_newest": _rule(claiming, "rank", lambda _: lambda promise: (-promise.log_epoch, -promise.end)),
    "not_longest": _rule(claiming, "rank", lambda _: lambda promise: (promise.end, promise.log_epoch)),
    "log_epoch_not_record_epoch": _rule(claiming, "rank", _by_last_record),
    "donor_as_promised": _rule(claiming, "is_as_promised", giving(True)),
    "commit_after_opened": _rule(leading, "may_commit", giving(True)),
    "opened_newest_claim": _rule(schedule, "opens", giving(True)),
    "step_down_for_newer": _rule(replica, "is_superseded", giving(False)),
    "opened_verified": _rule(leading, "may_propose", giving(True)),
    "check_previous": _rule(following, "agrees", lambda _: lambda state, prev, epoch: prev <= state.log.end),
    "cut_on_conflict": _rule(following, "take", _cutting),
    "cut_durable": _rule(machine, "replays_cuts", giving(False)),
    "rise_at_start": _rule(following, "reaches_start", giving(True)),
    "rise_when_durable": _rule(state, "may_rise", giving(True)),
    "ack_durable": _rule(ReplicaState, "send_when_durable", _at_once(Acked)),
    "ack_own_epoch": _rule(leading, "is_of_epoch", giving(True)),
    "majority_of_set": _rule(leading, "reached_by_majority", _one_less),
    "own_disk": _rule(leading, "kept_here", lambda _: lambda own, position: position),
    "apply_verified": _rule(following, "verified_end", lambda _: lambda state, epoch, end: state.log.end),
    "count_identity": _rule(claiming, "counts", _by_node),
    "acknowledge_identity": _rule(leading, "is_member", _of_any_directory),
    "doubt_torn": _rule(claiming, "is_certain", giving(True)),
    "doubt_confirmed": _rule(replica, "knows_newest", giving(True)),
    "silent_when_torn": _rule(ReplicaState, "is_silent", lambda _: property(lambda self: self.stale)),
    "silent_after_decline": _rule(ReplicaState, "is_silent", lambda _: property(lambda self: self.torn)),
    "apply_when_durable": _rule(following, "apply_when_durable", lambda _: following.apply),
    "torn_obeys_newest": _rule(replica, "start_in_doubt", _doubting_alone),
    "apply_known_commit": _rule(machine, "known_commit", lambda _: lambda known, end: end),
    "carry_suffix": _rule(machine, "carries_suffix", giving(False)),
    "carry_promise": _rule(machine, "carries_promise", giving(False)),
    "answer_confirmed": _rule(leading, "is_confirmed", giving(True)),
    "confirm_after_question": _rule(leading, "round_for_question", lambda _: lambda own: own.round),
}

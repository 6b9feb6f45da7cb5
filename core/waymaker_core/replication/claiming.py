"""Claiming: a primary fences the replicas, chooses a log, adopts it, and has its epoch recorded as opened."""

from __future__ import annotations

from waymaker_core.replication import leading as primary
from waymaker_core.replication.conf import Claim, Conf, Seat
from waymaker_core.replication.effects import GiveUp, ProposeOpened
from waymaker_core.replication.following import promise_of
from waymaker_core.replication.messages import Donation, Fence, Lacking, Promised, Want
from waymaker_core.replication.state import NEVER, Leading, Phase, ReplicaState


def begin(state: ReplicaState) -> None:
    """Begin to fence, as the primary of the newest claim."""
    conf = state.conf
    assert conf is not None
    state.obey(conf.newest.epoch)
    state.leading = Leading(conf.newest, set_to_fence(conf))
    fence(state, state.leading)


def set_to_fence(conf: Conf) -> Claim:
    """Return the claim whose set must promise: the one that was opened last, for no other can have committed."""
    return conf.opened


def fence(state: ReplicaState, leading: Leading) -> None:
    """Ask every replica for its promise, this one's own included."""
    leading.phase = Phase.FENCING
    leading.deadline = state.now + state.settings.retry_ms
    epoch = leading.claim.epoch
    for node in sorted({seat.node for seat in (*leading.claim.replicas, *leading.fenced.replicas)}):
        if node == state.seat.node:
            state.send_when_durable(node, promise_of(state))
        elif node not in leading.promises:
            state.send_now(node, Fence(epoch))


def on_promised(state: ReplicaState, leading: Leading, sender: int, message: Promised) -> None:
    """Count a promise; with enough of them, choose a log."""
    if leading.phase is not Phase.FENCING or message.epoch != leading.claim.epoch:
        return
    leading.promises[sender] = message
    if is_fenced(leading):
        _choose(state, leading)


def is_fenced(leading: Leading) -> bool:
    """Return True if no older epoch can commit any more: a majority of the set that was opened last has promised.

    A replica in doubt may have forgotten what it acknowledged. It counts only where all of the set have answered.
    """
    answered = certain = 0
    for seat in leading.fenced.replicas:
        promise = leading.promises.get(seat.node)
        if promise is not None and counts(promise.seat, seat):
            answered += 1
            certain += is_certain(promise)
    return certain >= leading.fenced.majority or answered == len(leading.fenced.replicas)


def counts(given: Seat, wanted: Seat) -> bool:
    """Return True if an answer comes from the directory that counts."""
    return wanted.admits(given)


def is_certain(promise: Promised) -> bool:
    """Return True unless the replica may have forgotten something."""
    return not promise.doubt


def rank(promise: Promised) -> tuple[int, int]:
    """Return the rank of a log: the epoch in which it was verified says more than its length (rule `choose_newest`)."""
    return promise.log_epoch, promise.end


def _choose(state: ReplicaState, leading: Leading) -> None:
    own = state.seat.node
    donor = max(sorted(leading.promises), key=lambda node: (rank(leading.promises[node]), node == own))
    leading.donor = donor
    if donor == own:
        _adopt(state, leading)
        return
    chosen = leading.promises[donor]
    common = state.log.common_end(chosen.end, chosen.starts)
    if common is None:
        give_up(state, leading)
        return
    if common < state.commit:
        state.contradictions += 1
        _abandon_donor(state, leading)
        return
    if common < state.log.end:
        state.keep_cut(common)
    leading.phase = Phase.FETCHING
    want(state, leading)


def want(state: ReplicaState, leading: Leading) -> None:
    """Ask the donor for the next piece, or adopt where there is none."""
    if state.log.end >= leading.promises[leading.donor].end:
        _adopt(state, leading)
        return
    leading.deadline = state.now + state.settings.retry_ms
    state.send_now(leading.donor, Want(leading.claim.epoch, state.log.end + 1))


def on_donation(state: ReplicaState, leading: Leading, sender: int, message: Donation) -> None:
    """Take a piece of the chosen log, as long as its donor has what it promised (rule `donor_as_promised`)."""
    if leading.phase is not Phase.FETCHING or message.epoch != leading.claim.epoch or sender != leading.donor:
        return
    if not is_as_promised(leading.promises[sender], message):
        _abandon_donor(state, leading)
    elif message.first == state.log.end + 1 and state.log.epoch_at(state.log.end) == message.prev_epoch:
        if message.records:
            state.keep_records(message.records)
        want(state, leading)


def on_lacking(state: ReplicaState, leading: Leading, sender: int, message: Lacking) -> None:
    """Give the claim up where the donor cannot give its log away."""
    if leading.phase is Phase.FETCHING and message.epoch == leading.claim.epoch and sender == leading.donor:
        give_up(state, leading)


def give_up(state: ReplicaState, leading: Leading) -> None:
    """Give the claim up in favour of the donor: it has the log, and needs nothing to lead."""
    state.effects.append(GiveUp(leading.donor))
    state.step_down()


def is_as_promised(promise: Promised, message: Donation) -> bool:
    """Return True if a donor is the directory that promised, with the log that it promised."""
    return (promise.seat, promise.log_epoch, promise.end) == (message.seat, message.log_epoch, message.end)


def _abandon_donor(state: ReplicaState, leading: Leading) -> None:
    """Fence anew after a while, and choose again: at once, the same choice could come back without end."""
    del leading.promises[leading.donor]
    # This log has changed meanwhile: what it promised itself holds no longer.
    leading.promises.pop(state.seat.node, None)
    leading.phase = Phase.FENCING
    leading.deadline = state.now + state.settings.retry_ms


def _adopt(state: ReplicaState, leading: Leading) -> None:
    """Make the log the one of this epoch; it counts when it is durable."""
    leading.start = state.log.end
    leading.phase = Phase.ADOPTING
    leading.deadline = NEVER
    state.rise(leading.claim.epoch)


def adopted(state: ReplicaState, leading: Leading) -> None:
    """Send the adopted log, which is durable here now."""
    leading.phase = Phase.VERIFYING
    leading.durable = leading.start
    leading.deadline = NEVER
    primary.begin(state, leading)


def propose(state: ReplicaState, leading: Leading) -> None:
    """Ask the catalog to record the epoch as opened, again after a while."""
    leading.proposed = True
    leading.deadline = state.now + state.settings.retry_ms
    state.effects.append(ProposeOpened(leading.claim.epoch))

"""Leading: a primary sends its log, counts acknowledgments, commits, and has its epoch confirmed for questions."""

from __future__ import annotations

from typing import Final

from waymaker_core.api.inputs import Confirmed, EndReading, Lead, ReadRecords, Replicated, SentRecord
from waymaker_core.replication.conf import Claim, Seat
from waymaker_core.replication.effects import SnapshotNeeded
from waymaker_core.replication.messages import Acked, Append, Heard, Mismatch
from waymaker_core.replication.state import NEVER, Follower, Leading, Phase, ReplicaState

LEADS: Final = (Phase.VERIFYING, Phase.OPEN)
MESSAGE_BYTES: Final = 64
"""The bytes that an append without records counts, so that a window bounds their number too."""


def begin(state: ReplicaState, leading: Leading) -> None:
    """Begin to send the log to the other replicas of the set."""
    for seat in leading.claim.replicas:
        if seat.node != state.seat.node:
            leading.followers[seat.node] = Follower(state.log.end)
    advance(state, leading)
    send_all(state, leading)


def open_epoch(state: ReplicaState, leading: Leading) -> None:
    """Commit and serve in the epoch, which the catalog has recorded as opened."""
    leading.phase = Phase.OPEN
    leading.deadline = NEVER
    advance(state, leading)
    state.leads = True
    state.effects.append(Lead(state.stream_id, leading.claim.epoch))


def on_placed(state: ReplicaState, leading: Leading, position: int) -> None:
    """Note that records which the node decided may be sent, durable here or not; the first of them begins the epoch.

    Others may have them before this node does (Raft dissertation, 10.2.1); they are committed when it has them, too.
    """
    if position > state.log.end:
        if state.log.epoch_at(state.log.end) != leading.claim.epoch:
            state.log.begin_epoch(leading.claim.epoch, state.log.end + 1)
        state.log.end = position


def on_written(state: ReplicaState, leading: Leading, position: int) -> None:
    """Note that records which the node decided are durable here."""
    on_placed(state, leading, position)
    leading.durable = max(leading.durable, position)
    advance(state, leading)


# ---------------------------------------------------------------- answers


def on_acked(state: ReplicaState, leading: Leading, sender: int, message: Acked) -> None:
    """Count an acknowledgment, of this epoch and of the directory that counts (rules `ack_own_epoch`, `count_identity`)."""
    follower = _answered(state, leading, sender, message)
    if follower is None:
        return
    position = min(message.position, state.log.end)
    if position > follower.match:
        follower.match = position
        advance(state, leading)
    _agree(state, follower, position)


def on_heard(state: ReplicaState, leading: Leading, sender: int, message: Heard) -> None:
    """Note that a follower obeys this epoch and has the log up to a position."""
    follower = _answered(state, leading, sender, message)
    if follower is not None:
        _agree(state, follower, min(message.position, state.log.end))


def on_mismatch(state: ReplicaState, leading: Leading, sender: int, message: Mismatch) -> None:
    """Go back to the last position up to which a follower's log can agree."""
    follower = _answered(state, leading, sender, message)
    if follower is None or not (follower.probing or message.end < follower.next - 1):
        return
    common = state.log.common_end(message.end, message.starts)
    if common is None:
        _lacks(state, follower, sender)
        return
    follower.probing = True
    follower.next = max(common, follower.match) + 1
    follower.forget_flights()


def _answered(state: ReplicaState, leading: Leading, sender: int, message: Acked | Heard | Mismatch) -> Follower | None:
    """Return the follower that answered in this epoch; its answer confirms the epoch."""
    if leading.phase not in LEADS or not is_of_epoch(leading, message.epoch):
        return None
    follower = leading.followers.get(sender)
    if follower is None or not is_member(leading.claim, message.seat):
        return None
    follower.retry_ms = 0
    if not isinstance(message, Mismatch):
        follower.commit = max(follower.commit, message.commit)
        if follower.commit >= leading.commit:
            follower.note_at = NEVER
    if message.round > follower.round:
        follower.round = message.round
        confirm(state, leading)
    return follower


def is_of_epoch(leading: Leading, epoch: int) -> bool:
    """Return True if an answer is one to this epoch."""
    return epoch == leading.claim.epoch


def is_member(claim: Claim, seat: Seat) -> bool:
    """Return True if a replica counts in an epoch."""
    return claim.has_seat(seat)


def _agree(state: ReplicaState, follower: Follower, position: int) -> None:
    """Stream behind a position up to which the follower's log agrees."""
    if follower.end_flight(position):
        follower.deadline = state.now + state.settings.retry_ms
    if follower.probing:
        follower.probing = False
        follower.next = position + 1
    follower.next = max(follower.next, position + 1)


# ---------------------------------------------------------------- commits and confirmations


def advance(state: ReplicaState, leading: Leading) -> None:
    """Commit what a majority has verified and synced; before the epoch is opened, ask for that."""
    reached = reached_by_majority(state, leading)
    if leading.phase is not Phase.OPEN:
        if may_propose(leading, reached) and not leading.proposed:
            leading.deadline = state.now
        if not may_commit(leading):
            return
    if reached > leading.commit:
        leading.commit = reached
        state.commit = max(state.commit, reached)
        state.effects.append(Replicated(state.stream_id, reached))
        for follower in leading.followers.values():
            follower.note_at = min(follower.note_at, state.now + state.settings.commit_note_ms)


def reached_by_majority(state: ReplicaState, leading: Leading) -> int:
    """Return the position up to which a majority of the epoch's set has the log, this node's disk among them."""
    ends = [follower.match for follower in leading.followers.values()]
    if leading.claim.has_node(state.seat.node):
        ends.append(leading.durable)
    ends.sort(reverse=True)
    return kept_here(leading, ends[leading.claim.majority - 1]) if len(ends) >= leading.claim.majority else -1


def kept_here(leading: Leading, position: int) -> int:
    """Return how far this node's own disk has what the others have (rule `own_disk`).

    Others may have a record first. It is committed when it can be applied here, so that an answer lacks nothing committed.
    """
    return min(position, leading.durable)


def may_propose(leading: Leading, reached: int) -> bool:
    """Return True if a majority has verified the log up to the start of the epoch (rule `opened_verified`)."""
    return reached >= leading.start


def may_commit(leading: Leading) -> bool:
    """Return True once the epoch is recorded as opened (rule `commit_after_opened`)."""
    return leading.phase is Phase.OPEN


def ask(state: ReplicaState, leading: Leading, number: int) -> None:
    """Begin a round of confirmations for a question, or let it join the one that has not left yet."""
    leading.round = round_for_question(leading)
    leading.questions.append((number, leading.round))
    confirm(state, leading)


def round_for_question(leading: Leading) -> int:
    """Return a round that no message has named yet, so that its answers were given after the question."""
    newest = max((follower.asked for follower in leading.followers.values()), default=-1)
    return max(leading.round, newest + 1)


def confirm(state: ReplicaState, leading: Leading) -> None:
    """Answer the questions whose round a majority has answered."""
    while leading.questions and is_confirmed(state, leading, leading.questions[0][1]):
        state.effects.append(Confirmed(state.stream_id, leading.questions.popleft()[0]))


def is_confirmed(state: ReplicaState, leading: Leading, round_: int) -> bool:
    """Return True if a majority of the set, this node among them, obeyed this epoch after a round began."""
    own = leading.claim.has_node(state.seat.node)
    count = own + sum(follower.round >= round_ for follower in leading.followers.values())
    return count >= leading.claim.majority


# ---------------------------------------------------------------- sending


def send_all(state: ReplicaState, leading: Leading) -> None:
    """Send to each follower what it needs now."""
    for node, follower in leading.followers.items():
        _send_to(state, leading, node, follower)


def _send_to(state: ReplicaState, leading: Leading, node: int, follower: Follower) -> None:
    window = state.settings.window_bytes_max
    due = state.now >= follower.deadline
    if follower.reading:
        if not follower.probing:
            _note(state, leading, node, follower, due=due)
        return
    if due and (follower.in_flight or follower.probing):
        # Nothing came back: ask where its log ends, without records, for it may be gone for long.
        follower.probing = True
        wait = 2 * follower.retry_ms or state.settings.retry_ms
        follower.retry_ms = min(wait, max(state.settings.retry_ms, state.settings.retry_max_ms))
        follower.forget_flights()
        follower.next = min(follower.next, state.log.end + 1)
        if follower.match >= 0:
            follower.next = follower.match + 1
        _send(state, leading, node, follower, ())
        return
    if follower.probing:
        if not follower.in_flight and not follower.lacks:
            _append(state, leading, node, follower)
        return
    while follower.next <= state.log.end and follower.flight_bytes < window:
        if not _append(state, leading, node, follower):
            break
    if not follower.probing:
        _note(state, leading, node, follower, due=due)


def _note(state: ReplicaState, leading: Leading, node: int, follower: Follower, *, due: bool) -> None:
    """Send an append without records, where a question or a commit is news for a follower that nothing else is sent to."""
    asked = bool(leading.questions) and (due or follower.asked < leading.round)
    if asked or state.now >= follower.note_at:
        _send(state, leading, node, follower, ())


def _append(state: ReplicaState, leading: Leading, node: int, follower: Follower) -> bool:
    """Send the next records, if there are any, with the commit and the round. Return False where they are read first."""
    settings, log = state.settings, state.log
    records = state.source.records(follower.next, settings.append_bytes_max) if follower.next <= log.end else ()
    if records is None:
        if follower.flight_bytes < settings.catch_up_bytes_max:
            follower.reading, follower.reads = follower.next, True
            state.effects.append(ReadRecords(state.stream_id, node, follower.next, settings.append_bytes_max))
        return False
    if follower.reads:
        follower.reads = False
        state.effects.append(EndReading(state.stream_id, node))
    _send(state, leading, node, follower, records)
    return True


def returned(state: ReplicaState, leading: Leading, node: int) -> None:
    """Ask a follower at once that was silent for a while: its node was heard again."""
    follower = leading.followers.get(node)
    if follower is not None and follower.retry_ms:
        follower.retry_ms, follower.deadline = 0, state.now


def on_read(
    state: ReplicaState, leading: Leading, node: int, first: int, records: tuple[SentRecord, ...] | None
) -> None:
    """Send a follower what was read for it; where the journal has it no more, it needs a snapshot."""
    follower = leading.followers.get(node)
    if follower is None or follower.reading != first:
        return
    follower.reading = 0
    if follower.next != first:
        return
    if records is None:
        _lacks(state, follower, node)
    else:
        _send(state, leading, node, follower, records)


def _send(
    state: ReplicaState, leading: Leading, node: int, follower: Follower, records: tuple[SentRecord, ...]
) -> None:
    """Send an append with these records, which are the next ones."""
    settings, prev = state.settings, follower.next - 1
    prev_epoch = state.log.epoch_at(prev)
    message = Append(leading.claim.epoch, leading.start, prev, prev_epoch, records, leading.commit, leading.round)
    state.send_now(node, message)
    size = MESSAGE_BYTES + sum(len(each.meta) + len(each.body) for each in records)
    if records or follower.probing:
        follower.add_flight(prev + len(records), size)
    follower.next += len(records)
    follower.asked, follower.lacks = leading.round, False
    follower.deadline = state.now + (follower.retry_ms or settings.retry_ms)
    if follower.note_at < NEVER:
        follower.note_at = follower.deadline


def _lacks(state: ReplicaState, follower: Follower, node: int) -> None:
    """Ask for a snapshot for a follower, now and with each retry."""
    follower.lacks = follower.probing = True
    follower.deadline = state.now + state.settings.retry_ms
    state.effects.append(SnapshotNeeded(node))


def on_snapshot_sent(state: ReplicaState, leading: Leading, node: int, position: int) -> None:
    """Compare the log behind a snapshot that a follower has adopted."""
    follower = leading.followers.get(node)
    if leading.phase in LEADS and follower is not None and follower.match < position <= state.log.end:
        follower.forget_flights()
        follower.reading = 0
        follower.probing, follower.lacks = True, False
        follower.next = position + 1


def next_deadline(leading: Leading) -> int:
    """Return the moment at which something is to be sent again."""
    deadline = leading.deadline
    for follower in leading.followers.values():
        if follower.reading and follower.probing:
            continue  # what is read for it comes first
        if leading.questions or (not follower.reading and (follower.in_flight or follower.probing)):
            deadline = min(deadline, follower.deadline)
        if not follower.probing:
            deadline = min(deadline, follower.note_at)
    return deadline

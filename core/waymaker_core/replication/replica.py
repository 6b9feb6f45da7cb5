"""One replica of one stream: inputs in, effects out. No I/O, no clock, no randomness.

The door of this room. It orders the parts: what happened first, then what is due, then what is to be sent. A message that makes
no sense is dropped. docs/replication-model.md has the protocol, and why each rule is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from waymaker_core.replication import claiming, following, leading
from waymaker_core.replication.conf import Claim, Conf, Seat
from waymaker_core.replication.effects import Effect, NoteDoubt, Send
from waymaker_core.replication.inputs import (
    Adopted,
    ConfChanged,
    Declined,
    Input,
    Kept,
    Placed,
    Question,
    Received,
    RecordsRead,
    Returned,
    SnapshotSent,
    Superseded,
    Written,
)
from waymaker_core.replication.log_view import LogSource, LogView
from waymaker_core.replication.messages import (
    Acked,
    Append,
    Donation,
    Fence,
    Heard,
    Lacking,
    Message,
    Mismatch,
    Promised,
    Refused,
    Want,
)
from waymaker_core.replication.settings import ReplicationSettings
from waymaker_core.replication.state import NEVER, Known, Phase, ReplicaState


class Replica:
    """One replica. `take_ask` gives numbers, in ascending order, for what the node is asked to keep."""

    def __init__(
        self, stream_id: int, seat: Seat, settings: ReplicationSettings, source: LogSource, take_ask: Callable[[], int],
        known: Known,
    ) -> None:  # fmt: skip
        self._state = ReplicaState(stream_id, seat, settings, source, take_ask, known)

    def step(self, now: int, inputs: Iterable[Input]) -> list[Effect]:
        """Take inputs in order, and do what is due by `now`, in milliseconds of a clock that never goes back."""
        state = self._state
        state.now = max(now, state.now)
        for each in inputs:
            _take(state, each)
        _do_what_is_due(state)
        _take_own(state)
        if state.leading is not None and state.leading.phase in leading.LEADS:
            leading.send_all(state, state.leading)
        effects, state.effects = state.effects, []
        return effects

    def next_deadline(self) -> int:
        """Return the moment at which to step if nothing happens before; far in the future if there is none."""
        state = self._state
        read_at = state.read_at if state.is_durable() else NEVER
        return read_at if state.leading is None else min(read_at, leading.next_deadline(state.leading))

    @property
    def conf(self) -> Conf | None:
        """Return the newest claim and the opened one, as far as this node knows."""
        return self._state.conf

    @property
    def leads(self) -> bool:
        """Return True while the node was told to lead the stream."""
        return self._state.leads

    @property
    def epoch_led(self) -> int:
        """Return the epoch in which the node was told to lead; 0 while it leads none."""
        own = self._state.leading
        return own.claim.epoch if own is not None and self._state.leads else 0

    @property
    def phase(self) -> Phase | None:
        """Return how far this node is with the epoch that it claims or leads; None where it does neither."""
        own = self._state.leading
        return None if own is None else own.phase

    def is_open_at(self, position: int) -> bool:
        """Return True if this node leads an open epoch that begins at a position, or before."""
        own = self._state.leading
        return own is not None and own.phase is Phase.OPEN and own.start <= position

    @property
    def promised(self) -> int:
        """Return the newest epoch that this replica obeys."""
        return self._state.promised

    @property
    def log_epoch(self) -> int:
        """Return the epoch in which the whole log was verified."""
        return self._state.log_epoch

    def lags(self) -> Iterator[tuple[int, int | None]]:
        """Yield each follower with the records that it lacks, None where that is not known. Only a primary has followers."""
        own = self._state.leading
        for node, follower in () if own is None else own.followers.items():
            yield node, None if follower.match < 0 else self._state.log.end - follower.match

    def readers(self) -> list[int]:
        """Return the followers for which the node keeps what they need of the journal."""
        own = self._state.leading
        return [] if own is None else own.readers()

    @property
    def doubt(self) -> int:
        """Return the claim up to which this replica may have forgotten something; 0 where it has forgotten nothing."""
        return self._state.doubt

    @property
    def is_torn(self) -> bool:
        """Return True while it is unknown which claims this replica may have forgotten."""
        return self._state.torn

    @property
    def is_settled(self) -> bool:
        """Return True if all that it asked to keep is durable, and it has forgotten nothing: what it says of its log counts."""
        return self._state.is_durable() and not self._state.is_silent and not self._state.doubt

    @property
    def is_damaged(self) -> bool:
        """Return True if this node lost the log, and others may have it."""
        return self._state.is_damaged

    def has_seat(self, claim: Claim) -> bool:
        """Return True if this replica counts in a claim."""
        return claim.has_seat(self._state.seat)

    @property
    def is_silent(self) -> bool:
        """Return True while it cannot say what it promised, or what its log is."""
        return self._state.is_silent

    @property
    def log(self) -> LogView:
        """Return the log as this replica sees it, to be read between steps."""
        return self._state.log

    @property
    def committed(self) -> int:
        """Return the position up to which this replica knows its log to be committed."""
        return self._state.commit

    def matched_by(self, node: int) -> int:
        """Return how far another replica has acknowledged the log in the epoch that is led here; -1 where that is unknown."""
        own = self._state.leading
        follower = None if own is None else own.followers.get(node)
        return -1 if follower is None else follower.match

    def outstanding(self, end: int) -> tuple[int, int] | None:
        """Return how far it came with what waits for a majority, of a log that ends at `end`; None where nothing waits."""
        own = self._state.leading
        if own is None or not (own.questions or own.commit < end):
            return None
        return own.commit, own.questions[0][1] if own.questions else 0

    @property
    def contradictions(self) -> int:
        """Return how often something happened that no correct replica can cause."""
        return self._state.contradictions


def _take(state: ReplicaState, each: Input) -> None:
    if isinstance(each, Received):
        _on_message(state, each.sender, each.message)
    elif isinstance(each, Kept):
        _on_kept(state, each.ask)
    elif isinstance(each, Declined):
        _on_declined(state, each.ask)
    elif isinstance(each, ConfChanged):
        _on_conf(state, each)
    elif isinstance(each, Placed):
        if state.leading is not None and state.leads:
            leading.on_placed(state, state.leading, each.position)
    elif isinstance(each, Written):
        if state.leading is not None and state.leads:
            leading.on_written(state, state.leading, each.position)
    elif isinstance(each, RecordsRead):
        if each.reader == following.CLAIMANT:
            following.on_read(state, each.first, each.records)
        elif state.leading is not None:
            leading.on_read(state, state.leading, each.reader, each.first, each.records)
    elif isinstance(each, Returned):
        if state.leading is not None:
            leading.returned(state, state.leading, each.node)
    elif isinstance(each, SnapshotSent):
        if state.leading is not None:
            leading.on_snapshot_sent(state, state.leading, each.node, each.position)
    elif isinstance(each, Superseded):
        following.on_superseded(state, each.epoch, each.position)
    elif isinstance(each, Adopted):
        following.on_adopted(state, each.position)
    elif isinstance(each, Question):
        if state.leading is not None and state.leads:
            leading.ask(state, state.leading, each.number)


def _on_message(state: ReplicaState, sender: int, message: Message) -> None:
    if isinstance(message, Append):
        following.on_append(state, sender, message)
    elif isinstance(message, Fence):
        following.on_fence(state, sender, message)
    elif isinstance(message, Want):
        following.on_want(state, sender, message)
    elif isinstance(message, Refused):
        if state.leading is not None and message.epoch > state.leading.claim.epoch:
            state.obey(message.epoch)
    elif state.leading is None:
        pass
    elif isinstance(message, Promised):
        claiming.on_promised(state, state.leading, sender, message)
    elif isinstance(message, Donation):
        claiming.on_donation(state, state.leading, sender, message)
    elif isinstance(message, Lacking):
        claiming.on_lacking(state, state.leading, sender, message)
    elif isinstance(message, Acked):
        leading.on_acked(state, state.leading, sender, message)
    elif isinstance(message, Heard):
        leading.on_heard(state, state.leading, sender, message)
    elif isinstance(message, Mismatch):
        leading.on_mismatch(state, state.leading, sender, message)


def _on_conf(state: ReplicaState, each: ConfChanged) -> None:
    """Take a newer claim, or learn that the newest is opened."""
    known, conf = state.conf, each.conf
    if known is not None and (conf.newest.epoch, conf.opened.epoch) < (known.newest.epoch, known.opened.epoch):
        return
    state.conf = conf
    if state.torn and knows_newest(each):
        start_in_doubt(state, conf.newest.epoch)
    newest, own = conf.newest, state.leading
    if newest.has_seat(state.seat) and not state.since:
        state.since = newest.epoch
    if own is not None and is_superseded(own.claim, newest):
        state.step_down()
        own = None
    if own is None:
        _claim_if_due(state)
    elif own.phase is Phase.VERIFYING and conf.opened.epoch == own.claim.epoch:
        leading.open_epoch(state, own)


def _claim_if_due(state: ReplicaState) -> None:
    """Begin to fence where the newest claim makes this node the primary."""
    conf = state.conf
    if conf is None or state.is_silent or conf.newest.primary != state.seat.node:
        return
    if conf.newest.epoch > state.promised and may_claim(conf) and conf.newest.has_seat(state.seat):
        claiming.begin(state)


def is_superseded(own: Claim, newest: Claim) -> bool:
    """Return True if there is a newer claim than the one that is led here (rule `step_down_for_newer`)."""
    return newest.epoch > own.epoch


def knows_newest(each: ConfChanged) -> bool:
    """Return True if no replica can have promised a newer claim before this one started (rule `doubt_confirmed`)."""
    return each.confirmed


def start_in_doubt(state: ReplicaState, epoch: int) -> None:
    """Obey the newest claim first, for this replica may have promised it (rule `torn_obeys_newest`)."""
    state.torn = False
    state.doubt = epoch
    state.effects.append(NoteDoubt(epoch))
    state.obey(epoch)


def may_claim(conf: Conf) -> bool:
    """Return True if a claim is still to be opened. A primary that stopped never goes on in its epoch (rule `never_resume`)."""
    return conf.opened.epoch < conf.newest.epoch


def _on_kept(state: ReplicaState, ask: int) -> None:
    state.kept = max(state.kept, ask)
    while state.waiting and state.waiting[0][0] <= state.kept:
        _, to, message = state.waiting.popleft()
        state.send_now(to, message)
    following.apply_durable(state)
    state.rise_if_durable()
    own = state.leading
    adopting = own is not None and own.phase is Phase.ADOPTING and state.log_epoch == own.claim.epoch
    if own is not None and adopting and state.is_durable() and not state.stale:
        claiming.adopted(state, own)


def _on_declined(state: ReplicaState, ask: int) -> None:
    """Say nothing of what was asked for and is not kept; look at the log anew when all is answered."""
    state.stale, state.rising = True, None
    state.read_at = state.now + state.settings.retry_ms
    state.waiting.clear()
    state.unapplied.clear()
    state.kept = max(state.kept, ask)


def _read_anew(state: ReplicaState) -> None:
    """Begin again with what the node has kept."""
    if state.is_durable():
        state.stale, state.read_at = False, NEVER
        state.log = LogView(*state.source.bounds())
        promised, state.log_epoch = state.source.facts()
        if promised < state.promised:
            state.promise()
        own = state.leading
        if own is not None and own.phase not in leading.LEADS:
            own.promises.pop(state.seat.node, None)
            claiming.fence(state, own)
        elif own is None:
            _claim_if_due(state)


def _do_what_is_due(state: ReplicaState) -> None:
    if state.now >= state.read_at:
        _read_anew(state)
    own = state.leading
    if own is None or state.now < own.deadline:
        return
    if own.phase is Phase.FENCING:
        claiming.fence(state, own)
    elif own.phase is Phase.FETCHING:
        claiming.want(state, own)
    elif own.phase is Phase.VERIFYING:
        claiming.propose(state, own)


def _take_own(state: ReplicaState) -> None:
    """Take the messages that this replica sends to itself."""
    own = state.seat.node
    while _sends_to(state, own):
        effects, state.effects = state.effects, []
        for each in effects:
            if isinstance(each, Send) and each.to == own:
                _on_message(state, own, each.message)
            else:
                state.effects.append(each)


def _sends_to(state: ReplicaState, node: int) -> bool:
    """Return True if a message to a node is among the effects."""
    return bool([each for each in state.effects if type(each) is Send and each.to == node])

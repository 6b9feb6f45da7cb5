"""The state of one replica: what it promised, its log, what waits for the disk, and what exists only while it leads.

It holds the few transitions that every part needs: a newer epoch, something to keep, a message. It decides nothing; following,
claiming and leading each have a module. Time is `now`, in milliseconds, set before every input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple

from waymaker_core.api.inputs import Append, Cut, EndReading, Enrol, Promise, SentRecord, StepDown
from waymaker_core.replication.conf import Claim, Conf, Seat
from waymaker_core.replication.effects import Effect, NoteDoubt, Send
from waymaker_core.replication.log_view import LogSource, LogView
from waymaker_core.replication.messages import Acked, Message, Promised
from waymaker_core.replication.settings import ReplicationSettings

NEVER: Final = 1 << 62
"""A deadline that does not come."""


WAITING_MAX: Final = 256
"""Messages that wait for the disk at most, and commits: further ones take the place of the oldest, as if those were lost."""


class Phase(IntEnum):
    """The progress of a primary with its epoch."""

    FENCING = 1
    """It collects promises."""
    FETCHING = 2
    """It takes the chosen log from its donor."""
    ADOPTING = 3
    """The chosen log waits for the sync."""
    VERIFYING = 4
    """It sends its log; the epoch is not opened."""
    OPEN = 5
    """It commits, confirms, and takes new records."""


class Follower:
    """The knowledge of a primary about one other replica. `match`: its log is verified and durable up to here; -1: unknown."""

    __slots__ = (
        "match", "next", "probing", "in_flight", "flight_bytes", "round", "asked", "commit", "deadline", "note_at", "lacks",
        "reading", "reads", "retry_ms",
    )  # fmt: skip

    def __init__(self, end: int) -> None:
        self.match = -1
        self.next = end + 1
        """The next record to send."""
        self.probing = True
        """True until it is known where the logs part: one message at a time."""
        self.in_flight: deque[tuple[int, int]] = deque()
        """Appends on their way: their last position, and bytes."""
        self.flight_bytes = 0
        """The sum of those bytes."""
        self.round = -1
        """The newest round of confirmations that it answered."""
        self.asked = -1
        """The newest round that was sent to it."""
        self.commit = 0
        """The position up to which it knows the log to be committed."""
        self.deadline = 0
        """The moment at which something is sent again, or at all."""
        self.lacks = False
        """True while it needs records that the journal has no more."""
        self.reading = 0
        """The position from which on records are being read for it; 0 where none are."""
        self.retry_ms = 0
        """The time after which an unanswered message was sent again last; 0 once it has answered."""
        self.reads = False
        """True while the node keeps what it needs of the journal."""
        self.note_at = NEVER
        """The moment at which it is told of a commit, if nothing else is sent before."""

    def add_flight(self, last: int, size: int) -> None:
        """Note an append on its way."""
        self.in_flight.append((last, size))
        self.flight_bytes += size

    def end_flight(self, position: int) -> bool:
        """Note that all appends up to a position have arrived; return True if one was on its way."""
        before = len(self.in_flight)
        while self.in_flight and self.in_flight[0][0] <= position:
            self.flight_bytes -= self.in_flight.popleft()[1]
        return len(self.in_flight) < before

    def forget_flights(self) -> None:
        """Note that nothing on its way is counted on any more."""
        self.in_flight.clear()
        self.flight_bytes = 0


class Leading:
    """All that exists only while a replica claims an epoch or leads in it; thrown away when it steps down."""

    __slots__ = (
        "claim", "fenced", "phase", "start", "promises", "donor", "followers", "durable", "commit",
        "round", "questions", "deadline", "proposed",
    )  # fmt: skip

    def __init__(self, claim: Claim, fenced: Claim) -> None:
        self.claim = claim
        self.fenced = fenced
        """The claim whose set has to give a majority of promises."""
        self.phase = Phase.FENCING
        self.start = 0
        """The end of the log with which the epoch begins."""
        self.promises: dict[int, Promised] = {}
        self.donor = 0
        """The node whose log was chosen."""
        self.followers: dict[int, Follower] = {}
        self.durable = 0
        """The position up to which this node's own log is durable."""
        self.commit = 0
        self.round = 0
        """The number of the last round of confirmations that began."""
        self.questions: deque[tuple[int, int]] = deque()
        """Questions, each with the round that has to be answered."""
        self.deadline = 0
        """The moment at which a fence, a wish for a log or a proposal is repeated."""
        self.proposed = False

    def readers(self) -> list[int]:
        """Return the followers for which the node keeps what they need of the journal."""
        return [node for node, follower in self.followers.items() if follower.reads]


class Known(NamedTuple):
    """The facts that a replica begins with, from its journal."""

    promised: int = 0
    since: int = 0
    log_epoch: int = 0
    doubt: int = 0
    commit: int = 0
    torn: bool = False
    """True if the journal ended with a tear: what was promised or acknowledged last may be missing."""
    damaged: bool = False
    """True if a start found the stream damaged: this node does not have the log that it acknowledged."""


class Rising(NamedTuple):
    """A log that was verified in an epoch, and waits to be durable. `to`: the primary that is told then, or 0."""

    epoch: int
    to: int
    round: int


class ReplicaState:
    """One replica of one stream."""

    __slots__ = (
        "stream_id", "seat", "settings", "source", "take_ask", "now", "conf", "promised", "since", "log_epoch", "doubt", "log",
        "commit", "leading", "leads", "effects", "waiting", "last_ask", "kept", "stale", "read_at", "torn", "damaged", "rising",
        "unapplied", "contradictions", "donating",
    )  # fmt: skip

    def __init__(
        self, stream_id: int, seat: Seat, settings: ReplicationSettings, source: LogSource, take_ask: Callable[[], int],
        known: Known,
    ) -> None:  # fmt: skip
        self.stream_id = stream_id
        self.seat = seat
        self.settings = settings
        self.source = source
        self.take_ask = take_ask
        self.now = 0
        self.conf: Conf | None = None
        self.promised, self.since, self.log_epoch, self.doubt, self.commit, self.torn, self.damaged = known
        self.log = LogView(*source.bounds())
        self.leading: Leading | None = None
        self.leads = False
        """True while the node was told to lead."""
        self.effects: list[Effect] = []
        self.waiting: deque[tuple[int, int, Message]] = deque()
        """(number that has to be kept first, receiver, message)."""
        self.last_ask = 0
        self.kept = 0
        """Everything up to this number is durable."""
        self.stale = False
        """True after something was declined, until all that was asked is answered and the log was read anew."""
        self.read_at = NEVER
        self.rising: Rising | None = None
        self.unapplied: deque[tuple[int, int]] = deque()
        """(number that has to be kept first, position up to which the log is committed)."""
        self.donating: tuple[int, int, int] | None = None
        """The epoch, the claimant and the position of the records that are being read for it."""
        self.contradictions = 0

    # ------------------------------------------------------------ messages

    def send_now(self, to: int, message: Message) -> None:
        """Send a message now."""
        self.effects.append(Send(to, message))

    def send_when_durable(self, to: int, message: Message) -> None:
        """Send a message as soon as all that was asked to be kept is durable."""
        if self.is_durable():
            self.send_now(to, message)
            return
        if len(self.waiting) >= WAITING_MAX:
            # The disk stalls, and others ask again and again: what they asked first is the oldest news.
            self.waiting.popleft()
        self.waiting.append((self.last_ask, to, message))

    @property
    def is_silent(self) -> bool:
        """Return True while it cannot say what it promised, or what its log is."""
        return self.stale or self.torn or self.is_damaged

    @property
    def is_damaged(self) -> bool:
        """Return True if this node lost a log that others may have: what it acknowledged would count, and is not there.

        The only replica leads on, for its node must refuse calls with the reason.
        """
        conf = self.conf
        alone = conf is not None and len(conf.newest.replicas) == 1 and conf.opened.replicas == conf.newest.replicas
        return self.damaged and not alone

    def is_durable(self) -> bool:
        """Return True if all that was asked to be kept is durable."""
        return self.kept >= self.last_ask

    # ------------------------------------------------------------ the disk

    def _ask(self) -> int:
        self.last_ask = self.take_ask()
        return self.last_ask

    def obey(self, epoch: int) -> None:
        """Promise to obey no older epoch, and stop leading in one."""
        if epoch > self.promised:
            self.promised = epoch
            self.promise()
        if self.leading is not None and epoch > self.leading.claim.epoch:
            self.step_down()

    def promise(self) -> None:
        """Make the promise durable."""
        self.effects.append(Promise(self._ask(), [self.stream_id], self.promised))

    def keep_cut(self, position: int) -> None:
        """Let the log end at a position."""
        self.log.cut_to(position)
        self.effects.append(Cut(self._ask(), self.stream_id, position))

    def keep_records(self, records: tuple[SentRecord, ...]) -> None:
        """Keep records behind the last one."""
        self.effects.append(Append(self._ask(), self.stream_id, self.log.end + 1, records))
        self.log.add_records(records)

    def rise(self, epoch: int, to: int = 0, round_: int = 0) -> None:
        """Raise the log's epoch, for the whole log is verified in it: as soon as the log is durable.

        The node may decline records and keep what was asked for after them. So nothing says that a log is verified before all
        of it is known to be kept.
        """
        self.rising = Rising(epoch, to, round_)
        self.rise_if_durable()

    def rise_if_durable(self) -> None:
        """Raise the log's epoch where all of the log is durable, and acknowledge it to the primary when that is durable too."""
        rising = self.rising
        if rising is None or not may_rise(self):
            return
        self.rising = None
        if rising.epoch != self.promised:
            return
        self._rise(rising.epoch)
        if rising.to:
            ack = Acked(rising.epoch, self.seat, self.log.end, self.commit, rising.round)
            self.send_when_durable(rising.to, ack)

    def _rise(self, epoch: int) -> None:
        self.log_epoch = epoch
        self.effects.append(Enrol(self._ask(), self.stream_id, self.since, epoch))
        if 0 < self.doubt < epoch:
            self.doubt = 0
            self.effects.append(NoteDoubt(0))

    def step_down(self) -> None:
        """Throw away all that exists only while this replica leads."""
        if self.leading is not None:
            for node in self.leading.readers():
                self.effects.append(EndReading(self.stream_id, node))
        self.leading = None
        if self.leads:
            self.leads = False
            self.effects.append(StepDown(self.stream_id))
            self.log = LogView(*self.source.bounds())  # the node had decided more than it told


def may_rise(state: ReplicaState) -> bool:
    """Return True if all of the log is durable (rule `rise_when_durable`)."""
    return state.is_durable() and not state.stale

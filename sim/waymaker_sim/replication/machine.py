"""One machine of a schedule: a replica of the core, the node around it, and a journal that can lose its end.

The node is a few rules. Records get positions at once and become durable with a sync; what is committed is applied in order; a
leader decides records when its whole log is applied.
"""

from __future__ import annotations

from enum import IntEnum

from waymaker_core.api.inputs import Append, Confirmed, Cut, Enrol, Lead, Promise, Replicated, SentRecord, StepDown
from waymaker_core.model.records import EpochRecord
from waymaker_core.replication.conf import Seat
from waymaker_core.replication.effects import Effect, GiveUp, NoteDoubt, ProposeOpened, Send
from waymaker_core.replication.inputs import Declined, Input, Kept, Placed, Written
from waymaker_core.replication.log_view import begun_epoch
from waymaker_core.replication.messages import EpochStart, Message
from waymaker_core.replication.replica import Replica
from waymaker_core.replication.settings import ReplicationSettings
from waymaker_core.replication.state import Known, Phase
from waymaker_core.storage import record_codec
from waymaker_sim.replication_model.committed_log import CommittedLog, Lost

STREAM = 7
DATA = 2
"""The kind of a record that is no beginning of an epoch; nothing here reads what is in it."""


class Frame(IntEnum):
    """The kind of a frame of the journal."""

    RECORD = 1
    CUT = 2
    PROMISE = 3
    REPLICA = 4
    COMMIT = 5
    DOUBT = 6


Value = SentRecord | int | tuple[int, int]


def record_of(epoch: int, number: int) -> SentRecord:
    """Return a record; number 0 is the one that begins an epoch."""
    if number == 0:
        record = EpochRecord(epoch)
        return SentRecord(EpochRecord.KIND, record_codec.version_of(record), record_codec.encode(record), b"")
    return SentRecord(DATA, 1, epoch.to_bytes(8, "big") + number.to_bytes(8, "big"), b"")


def name_of(record: SentRecord) -> int:
    """Return a number that no other record has."""
    begun = begun_epoch(record)
    return (begun << 64) if begun is not None else int.from_bytes(record.meta, "big")


class Machine:
    """A replica with its node and disk, over many starts."""

    def __init__(self, node: int, settings: ReplicationSettings, committed: CommittedLog) -> None:
        self.node = node
        self.settings = settings
        self.committed_log = committed
        self.directory = 1
        self.journal: list[tuple[Frame, Value]] = []
        self.synced = 0
        """Frames that survive every stop."""
        self.batch = 0
        """Frames before the last sync; a tear can remove later ones."""
        self.up = False
        self.torn = False
        """True from a tear at the journal's end until the replica's doubt is durable."""
        self.outbox: list[tuple[int, Message]] = []
        self.proposals: list[int] = []
        self.confirmed: list[int] = []
        self.conf_seen = -1
        self.asks = 0
        self.full = False
        """True while the disk has no room."""
        self.crowded = False
        """True while the log has room for facts alone, and for no records."""
        self._forget()

    # ------------------------------------------------------------ the log, as a replica reads it

    def bounds(self) -> tuple[int, tuple[EpochStart, ...]]:
        """Return the end of the log and its epochs."""
        begun = [(begun_epoch(record), at) for at, record in enumerate(self.log, 1)]
        return len(self.log), tuple((epoch, at) for epoch, at in begun if epoch is not None)

    def facts(self) -> tuple[int, int]:
        """Return the promise and the log's epoch that the journal names."""
        return self.promised, self.member[1]

    def records(self, first: int, bytes_max: int) -> tuple[SentRecord, ...] | None:
        """Return a few records, as many as their bytes allow."""
        return tuple(self.log[first - 1 : first - 1 + max(1, bytes_max // 16)])

    # ------------------------------------------------------------ life

    def _forget(self) -> None:
        self.log: list[SentRecord] = []
        self.member = (0, 0)
        self.promised = self.doubt = 0
        self.durable = self.majority = self.applied = 0
        self.leads = self.will_lead = 0
        self._doubt_noted = False
        self._due: list[tuple[int, int]] = []
        """(frames that have to be durable, number of what asked for it)."""
        self._placed = 0
        """The position up to which the replica may send its own records."""
        self._written = 0
        """The position up to which the replica knows its own records to be durable."""

    def start(self) -> None:
        """Start from what the journal still holds."""
        self._forget()
        for kind, value in self.journal:
            self._replay(kind, value)
        self.durable = len(self.log)
        known = self.majority
        self.majority = 0
        self._commit(known_commit(known, len(self.log)))
        self.up, self.conf_seen = True, -1
        facts = Known(self.promised, self.member[0], self.member[1], self.doubt, self.applied, self.torn)
        self.replica = Replica(STREAM, Seat(self.node, self.directory), self.settings, self, self._take_ask, facts)

    def _replay(self, kind: Frame, value: Value) -> None:
        if isinstance(value, SentRecord):
            self.log.append(value)
        elif isinstance(value, tuple):
            self.member = value
        elif kind == Frame.CUT:
            if replays_cuts():
                del self.log[value:]
        elif kind == Frame.PROMISE:
            self.promised = max(self.promised, value)
        elif kind == Frame.COMMIT:
            self.majority = max(self.majority, value)
        else:
            self.doubt = value

    def _take_ask(self) -> int:
        self.asks += 1
        return self.asks

    def stop(self, kept: int, torn: bool) -> None:
        """Stop, with so many frames of the journal left."""
        del self.journal[kept:]
        self.synced = min(self.synced, kept)
        self.batch = min(self.batch, self.synced)
        self.up, self.torn = False, self.torn or torn
        self.outbox, self.proposals, self.confirmed = [], [], []

    def lose_directory(self) -> None:
        """Stop, and come back with nothing, as another identity."""
        self.stop(0, torn=False)
        self.torn = False
        self.directory += 1

    def checkpoint(self) -> None:
        """Write the journal anew with what is known: what is applied, the suffix behind it, and the facts in force."""
        if self.synced < len(self.journal):
            return
        length = len(self.log) if carries_suffix() else self.applied
        frames: list[tuple[Frame, Value]] = [(Frame.RECORD, record) for record in self.log[:length]]
        frames += [(Frame.COMMIT, self.applied), (Frame.REPLICA, self.member), (Frame.DOUBT, self.doubt)]
        if carries_promise():
            frames.append((Frame.PROMISE, self.promised))
        self.journal = frames
        self.batch = self.synced = len(frames)

    # ------------------------------------------------------------ steps

    def step(self, now: int, inputs: list[Input]) -> None:
        """Let the replica take inputs, and do what it wants done."""
        for effect in self.replica.step(now, inputs):
            self._perform(effect)
        if self.will_lead and self.applied == len(self.log):
            self.leads, self.will_lead = self.will_lead, 0
            self._append([record_of(self.leads, 0)])
        if self.leads and len(self.log) > self._placed:
            self._placed = len(self.log)
            self.step(now, [Placed(self._placed)])
        if self.leads and self.durable > self._written:
            self._written = self.durable
            self.step(now, [Written(self.durable)])

    def decide(self, number: int) -> None:
        """Decide a record, as the leader."""
        self._append([record_of(self.leads, number)])

    def _append(self, records: list[SentRecord]) -> None:
        self.log += records
        self.journal += [(Frame.RECORD, record) for record in records]

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            self.outbox.append((effect.to, effect.message))
        elif isinstance(effect, Promise | Enrol | Cut | Append):
            self._keep(effect)
        elif isinstance(effect, Replicated):
            self._commit(effect.position)
        elif isinstance(effect, Lead):
            self.will_lead, self._placed, self._written = effect.epoch, len(self.log), self.durable
            names = [name_of(record) for record in self.log]
            self.committed_log.opened(names, f"node {self.node} in epoch {effect.epoch}")
        elif isinstance(effect, StepDown):
            self.leads = self.will_lead = 0
        elif isinstance(effect, Confirmed):
            self.confirmed.append(effect.question)
        elif isinstance(effect, ProposeOpened):
            self.proposals.append(effect.epoch)
        elif isinstance(effect, GiveUp):
            raise AssertionError("every machine has all of its records at hand")
        elif isinstance(effect, NoteDoubt):
            self.doubt = effect.epoch
            self._doubt_noted = True
            self.journal.append((Frame.DOUBT, effect.epoch))

    def _keep(self, effect: Promise | Enrol | Cut | Append) -> None:
        problem = self.full or (isinstance(effect, Append) and (self.crowded or effect.first != len(self.log) + 1))
        if isinstance(effect, Cut) and effect.position < self.applied:
            problem = True
        if problem:
            self._due.append((-1, effect.ask))
            return
        if isinstance(effect, Promise):
            self.promised = effect.epoch
            self.journal.append((Frame.PROMISE, effect.epoch))
        elif isinstance(effect, Enrol):
            self.member = (effect.since, effect.log_epoch)
            self.journal.append((Frame.REPLICA, self.member))
        elif isinstance(effect, Cut):
            del self.log[effect.position :]
            self.durable = min(self.durable, effect.position)
            self.journal.append((Frame.CUT, effect.position))
        else:
            self._append(list(effect.records))
        self._due.append((len(self.journal), effect.ask))

    def _commit(self, position: int) -> None:
        self.majority = max(self.majority, position)
        end = min(self.majority, self.durable)
        names = [name_of(record) for record in self.log]
        if self.up and self.replica.phase in (Phase.VERIFYING, Phase.OPEN):
            if position > len(names):
                raise Lost(f"node {self.node} committed {position} of {len(names)} records")
            self.committed_log.commit(names, self.applied, position, f"node {self.node}")
        self.committed_log.apply(names, 0, min(end, len(names)), f"node {self.node}")
        if end > self.applied:
            self.applied = end
            self.journal.append((Frame.COMMIT, end))

    def is_busy(self) -> bool:
        """Return True if a sync would make something durable, or answer what waits for one."""
        return self.up and (self.synced < len(self.journal) or bool(self._due))

    def sync(self, now: int) -> None:
        """Make the journal durable; answer what waited for it."""
        self.batch, self.synced = self.synced, len(self.journal)
        self.durable = len(self.log)
        self.torn = self.torn and not self._doubt_noted
        due, self._due = self._due, []
        self._commit(self.majority)
        self.step(now, [Kept(ask) if frames >= 0 else Declined(ask) for frames, ask in due])


def known_commit(known: int, end: int) -> int:
    """Return how far a start applies a log: what a durable note says is committed (rule `apply_known_commit`)."""
    return min(known, end)


def replays_cuts() -> bool:
    """Return True: a cut is a fact of the journal, made again when the journal is read (rule `cut_durable`)."""
    return True


def carries_suffix() -> bool:
    """Return True: a checkpoint carries what is not committed (rule `carry_suffix`)."""
    return True


def carries_promise() -> bool:
    """Return True: a checkpoint carries the promise (rule `carry_promise`)."""
    return True

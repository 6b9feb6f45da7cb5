"""One replica of the model: what it remembers, the journal that brings it back, and the messages that wait for a sync.

The journal is a list of facts. What is synced survives every stop; of the rest a prefix may. A torn tail takes facts of the
last sync with it, as a flipped bit would, and the replica knows only that its journal ends with a tear.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

EPOCH_UNIT: Final = 1 << 32
"""A record is epoch * EPOCH_UNIT + a number that no other record has."""

Message = tuple[int, ...] | tuple[object, ...]


class Fact:
    """The content of a frame of the journal: plain numbers, since a model compares them a billion times."""

    RECORD: Final = 1
    CUT: Final = 2
    PROMISE: Final = 3
    LOG_EPOCH: Final = 4
    COMMIT: Final = 5
    DOUBT: Final = 6
    """The tail was torn; the value is the newest claim when that was found, 0 when the doubt is over."""


class Phase(IntEnum):
    """The progress of a primary with its epoch."""

    NONE = 0
    FENCING = 1
    """It collects promises."""
    FETCHING = 2
    """It takes the chosen log from its donor."""
    ADOPTING = 3
    """Its log waits for the sync."""
    VERIFYING = 4
    """It sends its log; the epoch is not recorded as opened."""
    OPEN = 5
    """It may commit, answer and take new records."""


class Replica:
    """State of one replica. `directory` is its identity: another number after its disk was lost."""

    __slots__ = (
        "id", "directory", "up", "promised", "log_epoch", "log", "applied", "doubt", "journal", "synced", "batch", "waiting",
        "phase", "epoch", "start", "commit", "promises", "donor", "acked", "confirmed", "questions",
    )  # fmt: skip

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.directory = 0
        self.up = True
        self.journal: list[tuple[int, int]] = []
        self.synced = 0
        """Facts that survive every stop."""
        self.batch = 0
        """Number of facts before the last sync; a tear can remove the later ones."""
        self.waiting: list[tuple[int, Message]] = []
        """(receiver, message) that leave with the next sync."""
        self.doubt = 0
        self._forget()
        self.step_down()

    def _forget(self) -> None:
        self.promised = 0
        self.log_epoch = 0
        self.log: list[int] = []
        self.applied = 0
        self.doubt = 0

    def step_down(self) -> None:
        """Throw away all that exists only while a replica leads."""
        self.phase = Phase.NONE
        self.epoch = 0
        self.start = 0
        self.commit = 0
        self.promises: dict[int, tuple[int, int, int, int, int]] = {}
        """By replica: (directory, log epoch, epoch of the last record, length, doubt)."""
        self.donor = -1
        self.acked: dict[int, int] = {}
        """By replica: the position up to which its log is verified and durable."""
        self.confirmed: dict[int, int] = {}
        """By replica: the newest moment whose message it has answered in this epoch."""
        self.questions: list[tuple[int, int, int]] = []
        """(moment of the question, records that it depends on, records committed by any replica at that moment)."""

    def note(self, fact: int, value: int) -> None:
        """Append a fact to the journal; it is durable after the next sync."""
        self.journal.append((fact, value))

    def cut(self, length: int) -> None:
        """Drop records from a position on."""
        del self.log[length:]
        self.note(Fact.CUT, length)

    def sync(self) -> list[tuple[int, Message]]:
        """Make the journal durable, and return the messages that waited for it."""
        self.batch, self.synced = self.synced, len(self.journal)
        waiting, self.waiting = self.waiting, []
        return waiting

    def stop(self, kept: int) -> None:
        """Stop, with so many facts of the journal left."""
        del self.journal[kept:]
        self.synced = min(self.synced, kept)
        self.up = False
        self.waiting = []
        self.step_down()

    def lose_directory(self) -> None:
        """Stop and come back with nothing, as another identity."""
        self.stop(0)
        self.batch = 0
        self.directory += 1
        self._forget()

    def checkpoint(self, drop_suffix: bool, drop_promise: bool) -> None:
        """Write the journal anew with what the replica knows: applied records, the suffix behind them, and the facts."""
        facts: list[tuple[int, int]] = []
        length = self.applied if drop_suffix else len(self.log)
        facts += [(Fact.RECORD, record) for record in self.log[:length]]
        facts.append((Fact.COMMIT, self.applied))
        facts.append((Fact.LOG_EPOCH, self.log_epoch))
        facts.append((Fact.DOUBT, self.doubt))
        if not drop_promise:
            facts.append((Fact.PROMISE, self.promised))
        self.journal = facts
        self.batch = self.synced = len(facts)

    def restart(self, replay_cuts: bool) -> None:
        """Read the journal: log and facts first, then what is known to be committed."""
        self._forget()
        log = self.log
        for fact, value in self.journal:
            if fact == Fact.RECORD:
                log.append(value)
            elif fact == Fact.CUT:
                if replay_cuts:
                    del log[value:]
            elif fact == Fact.PROMISE:
                self.promised = max(self.promised, value)
            elif fact == Fact.LOG_EPOCH:
                self.log_epoch = value
            elif fact == Fact.COMMIT:
                self.applied = max(self.applied, value)
            else:
                self.doubt = value
        self.applied = min(self.applied, len(log))
        self.up = True

    def copy(self) -> Replica:
        """Return the same state."""
        other = Replica.__new__(Replica)
        for name in Replica.__slots__:
            value = getattr(self, name)
            setattr(other, name, value.copy() if isinstance(value, list | dict) else value)
        return other

    def state(self) -> tuple[object, ...]:
        """Return all that matters for what can happen next."""
        return (
            self.directory, self.up, self.promised, self.log_epoch, self.log, self.applied, self.doubt, self.journal,
            self.synced, self.batch, self.waiting, int(self.phase), self.epoch, self.start, self.commit,
            sorted(self.promises.items()), self.donor, sorted(self.acked.items()), sorted(self.confirmed.items()),
            self.questions,
        )  # fmt: skip

"""The protocol of the model: claims, fences, the choice of a log, opening, appends, acknowledgements, commits and the gate.

The consensus group is abstract: it issues claims in order, records which epoch was opened last, and loses nothing. Replicas
exchange messages through `send`, which a schedule may lose, repeat or delay. A moment is the number of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from waymaker_sim.replication_model.committed_log import CommittedLog
from waymaker_sim.replication_model.replica import EPOCH_UNIT, Fact, Message, Phase, Replica

Send = Callable[[int, Message], None]
Members = dict[int, int]
"""A replica set: the directory of each member by its id."""

LEADS: Final = (Phase.VERIFYING, Phase.OPEN)


def majority(members: Collection[Any]) -> int:
    """Return how many of a set are a majority."""
    return len(members) // 2 + 1


class Protocol:
    """The replicas of one stream, and what the consensus group knows of it. `missing` names rules that are left out."""

    def __init__(self, replicas: int, members: Collection[int], missing: Collection[str], send: Send) -> None:
        self.replicas = [Replica(id_) for id_ in range(replicas)]
        self.committed_log = CommittedLog()
        self.missing = frozenset(missing)
        self.send = send
        self.now = 0
        self.newest = 0
        """The newest claim."""
        self.opened = 0
        """The epoch that was recorded as opened last."""
        self.sets: dict[int, Members] = {0: dict.fromkeys(members, 0)}
        self.fenced_by: dict[int, Members] = {}
        """By claim: the set of which it needs a majority."""
        self.proposals: list[int] = []
        """Epochs whose primaries ask the group to record them as opened."""
        self._proposed: set[int] = set()
        self._number = 0

    # ------------------------------------------------------------ for searches

    def copy(self, changes: Collection[object]) -> Protocol:
        """Return the same state, in which these replicas may change."""
        other = Protocol.__new__(Protocol)
        other.replicas = [replica.copy() if replica.id in changes else replica for replica in self.replicas]
        other.committed_log = CommittedLog()
        other.committed_log.committed = list(self.committed_log.committed)
        other.missing, other.send, other.now = self.missing, self.send, self.now
        other.newest, other.opened = self.newest, self.opened
        other.sets, other.fenced_by = dict(self.sets), dict(self.fenced_by)
        other.proposals, other._proposed = list(self.proposals), set(self._proposed)
        other._number = self._number
        return other

    def state(self) -> tuple[object, ...]:
        """Return all that matters for what can happen next, but for the replicas."""
        return (
            self.committed_log.committed,
            self.now,
            self.newest,
            self.opened,
            [list(members.items()) for members in self.sets.values()],
            sorted(self.proposals),
            sorted(self._proposed),
        )

    # ------------------------------------------------------------ the consensus group

    def claim(self, replica: Replica, members: Members) -> None:
        """Make a replica the claimant of a new epoch with this set."""
        previous, self.newest = self.newest, self.newest + 1
        epoch = self.newest
        self.sets[epoch] = members
        self.fenced_by[epoch] = self.sets[self.opened if "fence_last_opened" not in self.missing else previous]
        self._obey(replica, epoch)
        replica.step_down()
        replica.phase, replica.epoch = Phase.FENCING, epoch
        self.fence(replica)
        replica.waiting.append((replica.id, self._promise(replica, epoch)))

    def decide_proposal(self, epoch: int) -> None:
        """Record an epoch as opened, unless a newer claim exists."""
        current = epoch == self.newest or "opened_newest_claim" in self.missing
        if current and epoch > self.opened:
            self.opened = epoch

    # ------------------------------------------------------------ what a primary does by itself

    def fence(self, replica: Replica) -> None:
        """Ask every replica for its promise."""
        for other in self.replicas:
            if other is not replica:
                self.send(other.id, ("fence", replica.epoch, replica.id))

    def go_on(self, replica: Replica) -> None:
        """Repeat what may have been lost, and learn what the group recorded."""
        if replica.phase is Phase.FENCING:
            self.fence(replica)
        elif replica.phase is Phase.FETCHING:
            self.send(replica.donor, ("want", replica.epoch, replica.id))
        elif replica.phase is Phase.VERIFYING and self.opened == replica.epoch:
            replica.phase = Phase.OPEN
            self.committed_log.opened(replica.log, f"epoch {replica.epoch}")
            self._advance(replica)

    def append_to(self, replica: Replica, other: int, begin: int, end: int) -> None:
        """Send a piece of the log to another replica."""
        log = replica.log
        previous = log[begin - 1] // EPOCH_UNIT if begin else 0
        piece = tuple(log[begin:end])
        self.send(
            other,
            ("append", replica.epoch, replica.id, replica.start, begin, previous, piece, replica.commit, self.now),
        )

    def serves(self, replica: Replica) -> bool:
        """Return True if a primary takes records and questions: it is open, and its start is committed."""
        return replica.phase is Phase.OPEN and replica.commit >= replica.start

    def take(self, replica: Replica) -> None:
        """Decide a new record."""
        self._number += 1
        record = replica.epoch * EPOCH_UNIT + self._number
        replica.log.append(record)
        replica.note(Fact.RECORD, record)
        own = ("ack", replica.epoch, replica.id, replica.directory, len(replica.log), self.now)
        replica.waiting.append((replica.id, own))

    def ask(self, replica: Replica, on_uncommitted: bool) -> None:
        """Put a question to a primary: a read of what is committed, or one whose answer rests on what is not yet."""
        rests_on = len(replica.log) if on_uncommitted else replica.commit
        replica.questions.append((self.now, rests_on, len(self.committed_log.committed)))
        self._answer(replica)

    # ------------------------------------------------------------ messages

    def deliver(self, replica: Replica, message: Message) -> None:
        """Hand a message to a replica."""
        if replica.up:
            getattr(self, f"_on_{message[0]}")(replica, *message[1:])

    def sync(self, replica: Replica) -> None:
        """Make a replica's journal durable; what waited for it leaves."""
        for to, message in replica.sync():
            if to == replica.id:
                self.deliver(replica, message)
            else:
                self.send(to, message)

    def _obey(self, replica: Replica, epoch: int) -> None:
        if epoch > replica.promised:
            replica.promised = epoch
            replica.note(Fact.PROMISE, epoch)
        if replica.phase and epoch > replica.epoch:
            replica.step_down()

    def _later(self, replica: Replica, to: int, message: Message, rule: str) -> None:
        """Send with the next sync; at once where that rule is missing."""
        if rule in self.missing:
            self.send(to, message)
        else:
            replica.waiting.append((to, message))

    def _promise(self, replica: Replica, epoch: int) -> Message:
        log = replica.log
        last = log[-1] // EPOCH_UNIT if log else 0
        return ("promise", epoch, replica.id, replica.directory, replica.log_epoch, last, len(log), replica.doubt)

    def _on_fence(self, replica: Replica, epoch: int, claimant: int) -> None:
        if epoch >= replica.promised:
            self._obey(replica, epoch)
            self._later(replica, claimant, self._promise(replica, epoch), "promise_durable")

    def _on_promise(
        self,
        replica: Replica,
        epoch: int,
        sender: int,
        directory: int,
        log_epoch: int,
        last: int,
        length: int,
        doubt: int,
    ) -> None:
        if replica.phase is not Phase.FENCING or replica.epoch != epoch:
            return
        replica.promises[sender] = (directory, log_epoch, last, length, doubt)
        if self._is_fenced(replica):
            self._choose(replica)

    def _is_fenced(self, replica: Replica) -> bool:
        members = self.fenced_by[replica.epoch]
        answered = certain = 0
        for id_, directory in members.items():
            promise = replica.promises.get(id_)
            if promise is None or (promise[0] != directory and "count_identity" not in self.missing):
                continue
            answered += 1
            certain += not promise[4] or "doubt_torn" in self.missing
        return certain >= majority(members) or answered == len(members)

    def _choose(self, replica: Replica) -> None:
        """Take the log of the newest promise; the replica's own where it is as new."""
        missing = self.missing

        def rank(id_: int) -> tuple[int, int, bool]:
            _, log_epoch, last, length, _ = replica.promises[id_]
            own = id_ == replica.id
            if "choose_newest" in missing:
                return (int(own), 0, own)
            if "not_longest" in missing:
                return (length, 0, own)
            if "log_epoch_not_record_epoch" in missing:
                return (last, length, own)
            return (log_epoch, length, own)

        donor = max(sorted(replica.promises), key=rank)
        if donor == replica.id:
            self._adopt(replica, tuple(replica.log))
        else:
            replica.phase, replica.donor = Phase.FETCHING, donor
            self.send(donor, ("want", replica.epoch, replica.id))

    def _on_want(self, replica: Replica, epoch: int, claimant: int) -> None:
        if replica.promised == epoch:
            self.send(claimant, ("donate", epoch, replica.id, replica.directory, replica.log_epoch, tuple(replica.log)))

    def _on_donate(
        self, replica: Replica, epoch: int, donor: int, directory: int, log_epoch: int, log: tuple[int, ...]
    ) -> None:
        if replica.phase is not Phase.FETCHING or replica.epoch != epoch or donor != replica.donor:
            return  # also what an abandoned donor sent: it has not promised what it gives
        promised = replica.promises[donor]
        if (directory, log_epoch, len(log)) == (
            promised[0],
            promised[1],
            promised[3],
        ) or "donor_as_promised" in self.missing:
            self._adopt(replica, log)
        else:
            del replica.promises[donor]
            replica.phase = Phase.FENCING
            self.fence(replica)

    def _adopt(self, replica: Replica, log: tuple[int, ...]) -> None:
        own, same = replica.log, 0
        while same < len(own) and same < len(log) and own[same] == log[same]:
            same += 1
        if same < len(own):
            replica.cut(same)
        for record in log[same:]:
            own.append(record)
            replica.note(Fact.RECORD, record)
        self._rise(replica, replica.epoch)
        replica.start = len(own)
        replica.commit = replica.applied
        replica.phase = Phase.ADOPTING
        replica.waiting.append((replica.id, ("adopted", replica.epoch)))

    def _rise(self, replica: Replica, epoch: int) -> None:
        """Raise the log's epoch: it is verified in it as far as the epoch's start."""
        replica.log_epoch = epoch
        replica.note(Fact.LOG_EPOCH, epoch)
        if 0 < replica.doubt < epoch:
            replica.doubt = 0
            replica.note(Fact.DOUBT, 0)

    def _on_adopted(self, replica: Replica, epoch: int) -> None:
        if replica.phase is Phase.ADOPTING and replica.epoch == epoch:
            replica.phase = Phase.VERIFYING
            replica.acked = {replica.id: len(replica.log)}
            self._advance(replica)

    def _on_append(
        self, replica: Replica, epoch: int, primary: int, start: int, begin: int, previous: int,
        piece: tuple[int, ...], commit: int, moment: int,
    ) -> None:  # fmt: skip
        missing = self.missing
        if epoch < replica.promised and "obey_promise" not in missing:
            self.send(primary, ("nack", replica.promised))
            return
        self._obey(replica, epoch)
        if replica.phase and replica.epoch == epoch:
            return
        log = replica.log
        if begin > len(log) or (begin and log[begin - 1] // EPOCH_UNIT != previous and "check_previous" not in missing):
            return
        position = begin
        for record in piece:
            if position < len(log):
                if log[position] // EPOCH_UNIT == record // EPOCH_UNIT:
                    position += 1
                    continue
                replica.cut(position)
            log.append(record)
            replica.note(Fact.RECORD, record)
            position += 1
        if "cut_on_conflict" in missing and position < len(log):
            replica.cut(position)
        if replica.log_epoch < epoch and (position >= start or "rise_at_start" in missing):
            if position < len(log):
                replica.cut(position)
            self._rise(replica, epoch)
        verified = replica.log_epoch == epoch
        kind = "ack" if verified else "confirm"
        self._later(replica, primary, (kind, epoch, replica.id, replica.directory, position, moment), "ack_durable")
        if verified:
            self._apply(replica, min(commit, position))
        elif "apply_verified" in missing:
            self._apply(replica, min(commit, len(log)))

    def _apply(self, replica: Replica, end: int) -> None:
        if end > replica.applied:
            self.committed_log.apply(replica.log, replica.applied, end, f"replica {replica.id}")
            replica.applied = end
            replica.note(Fact.COMMIT, end)

    def _on_ack(self, replica: Replica, epoch: int, sender: int, directory: int, position: int, moment: int) -> None:
        if replica.phase not in LEADS or (replica.epoch != epoch and "ack_own_epoch" not in self.missing):
            return
        if self._is_member(replica, sender, directory):
            position = min(position, len(replica.log))
            replica.acked[sender] = max(replica.acked.get(sender, 0), position)
            replica.confirmed[sender] = max(replica.confirmed.get(sender, -1), moment)
            self._advance(replica)

    def _on_confirm(
        self, replica: Replica, epoch: int, sender: int, directory: int, _position: int, moment: int
    ) -> None:
        if replica.phase in LEADS and replica.epoch == epoch and self._is_member(replica, sender, directory):
            replica.confirmed[sender] = max(replica.confirmed.get(sender, -1), moment)
            self._answer(replica)

    def _is_member(self, replica: Replica, sender: int, directory: int) -> bool:
        members = self.sets[replica.epoch]
        if "count_identity" in self.missing:
            return sender in members
        return members.get(sender) == directory or "majority_of_set" in self.missing

    def _on_nack(self, replica: Replica, promised: int) -> None:
        if replica.phase and promised > replica.epoch:
            self._obey(replica, promised)

    # ------------------------------------------------------------ commit and answers

    def _advance(self, replica: Replica) -> None:
        members = self.sets[replica.epoch]
        positions = sorted(replica.acked.values(), reverse=True)
        enough = majority(members)
        reached = positions[enough - 1] if len(positions) >= enough else -1
        verified = reached >= replica.start or "opened_verified" in self.missing
        if verified and replica.epoch not in self._proposed:
            self._proposed.add(replica.epoch)
            self.proposals.append(replica.epoch)
        if replica.phase is not Phase.OPEN and "commit_after_opened" not in self.missing:
            return
        if reached > replica.commit:
            self.committed_log.commit(replica.log, replica.commit, reached, f"epoch {replica.epoch}")
            replica.commit = replica.applied = reached
            replica.note(Fact.COMMIT, reached)
        if replica.questions:
            self._answer(replica)

    def _answer(self, replica: Replica) -> None:
        left = []
        for question in replica.questions:
            moment, rests_on, committed = question
            if (replica.commit >= rests_on or "answer_committed" in self.missing) and self._is_confirmed(
                replica, moment
            ):
                self.committed_log.answer(replica.log, rests_on, committed, f"epoch {replica.epoch}")
            else:
                left.append(question)
        replica.questions = left

    def _is_confirmed(self, replica: Replica, moment: int) -> bool:
        if "answer_confirmed" in self.missing:
            return True
        since = moment if "confirm_after_question" not in self.missing else 0
        members = self.sets[replica.epoch]
        count = sum(replica.confirmed.get(id_, -1) >= since for id_ in members if id_ != replica.id)
        return count + (replica.id in members) >= majority(members)

    # ------------------------------------------------------------ stops

    def restart(self, replica: Replica, torn: bool) -> None:
        """Bring a stopped replica back from its journal; `torn`: the journal ends with a tear."""
        replica.restart("cut_durable" not in self.missing)
        if "apply_known_commit" in self.missing:
            replica.applied = len(replica.log)
        if torn:
            replica.doubt = self.newest
            replica.note(Fact.DOUBT, self.newest)
            if "torn_obeys_newest" not in self.missing:
                self._obey(replica, self.newest)
        self.committed_log.apply(replica.log, 0, replica.applied, f"replica {replica.id} after a restart")

    def resume(self, replica: Replica, epoch: int, start: int) -> None:
        """Go on as the primary of an epoch after a stop, which no replica may."""
        if replica.promised == epoch == replica.log_epoch and start <= len(replica.log):
            replica.phase, replica.epoch, replica.start = Phase.OPEN, epoch, start
            replica.commit = replica.applied
            replica.acked = {replica.id: len(replica.log)}

"""The promises of a group, and the watch that holds every step of every machine against them.

The first five are those of the Raft paper, figure 3. An entry counts as committed here from the moment that a leader counts it
as committed, which is the earliest at which a client may know of it.
"""

from __future__ import annotations

from typing import Final, NoReturn

from waymaker_core.raft.effects import Apply, Install, Readable, Role, Write
from waymaker_core.raft.entries import Entry, EntryKind, SnapshotMeta
from waymaker_core.raft.members import VOTERS_MAX, Members, decode_members
from waymaker_core.raft.raft import Raft
from waymaker_sim.raft.machine import Machine

PROMISES: Final[dict[str, str]] = {
    "election safety": "at most one leader in a term",
    "leader append-only": "a leader never cuts its log",
    "log matching": "entries of one index and term are the same, and follow on the same",
    "leader completeness": "a leader's log holds all that was committed in earlier terms",
    "state machine safety": "no two members commit or apply different entries at one index",
    "committed is durable": "what a leader commits is durable on a majority of its voters",
    "applied is durable": "what a member applies is durable there, and comes once, in order",
    "snapshot is committed": "a snapshot ends with a committed entry, has its term, and the members in force there",
    "linearizable reads": "a read sees all that was committed when it was asked",
    "one change at a time": "a set differs by one voter from the one before, and follows on its commit, and on one in the"
    " leader's term; a learner has caught up before it votes; what is cut is not in force",
    "nothing is taken back": "term and commit of a member never go back, and a vote is one for its term, through restarts",
    "no contradiction": "no member is sent what no correct member can send, and none raises",
    "bounded": "what waits in a member stays within its bounds",
    "a leader comes": "a healed group has one leader, which votes, and all members have its log, committed",
    "a leader stays": "a node that is cut off, or hears nothing, deposes no leader when it comes back",
    "a leader goes": "a leader without a majority, or whose disk stalls, leads no more, and another one does",
}


OWN_WRITES: Final = 4
"""Writes that a member makes without a message: of its own vote, first entry, proposals of one moment."""
OWN_BYTES: Final = 2_000
"""Bytes of first entries and sets of members, which no bound refuses."""


class Broken(Exception):
    """An error: a promise was broken. `promise` names it."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


def broken(promise: str, what: str) -> NoReturn:
    """Raise `Broken` for a promise that exists."""
    assert promise in PROMISES
    raise Broken(promise, what)


class Watch:
    """All that was ever committed in a group, its leaders and entries, and the reads that wait."""

    def __init__(self, first: SnapshotMeta) -> None:
        self.start = first.index
        self.committed: list[Entry] = []
        """Entries from `start + 1` on."""
        self.commit_terms: list[int] = []
        """By entry: the term of the leader that counted it as committed first."""
        self.leaders: dict[int, tuple[int, int]] = {}
        """By term: machine and run."""
        self.entries: dict[tuple[int, int], tuple[int, Entry]] = {}
        """By index and term: the term of the entry before, and the entry."""
        self.asked: dict[int, int] = {}
        """By token of a read: how much was committed when it was asked."""
        self.sets: list[tuple[int, Members]] = [(first.index, first.members)]
        """Committed sets of members."""
        self.votes: dict[tuple[int, int], int] = {}
        """By machine and term: the vote that left it."""
        self.reads = 0

    @property
    def end(self) -> int:
        """Return the last committed index."""
        return self.start + len(self.committed)

    def _committed_at(self, index: int) -> Entry:
        return self.committed[index - self.start - 1]

    def ask(self, token: int) -> None:
        """Note a read."""
        self.asked[token] = self.end

    # ------------------------------------------------------------ effects

    def wrote(self, machine: Machine, raft: Raft, write: Write) -> None:
        """Compare the entries of a write with all others of their index and term."""
        if write.cut_from and raft.role == Role.LEADER:
            broken("leader append-only", f"machine {machine.id} leads term {raft.term} and cuts at {write.cut_from}")
        if write.hard is not None:
            if write.hard.term < machine.term:
                broken("nothing is taken back", f"machine {machine.id} goes back to term {write.hard.term}")
        if write.cut_from and raft.members_index > machine.commit and not self._is_set(raft):
            broken("one change at a time", f"machine {machine.id} cuts at {write.cut_from} and keeps a set that it cut")
        index = write.first
        if write.entries:
            previous = raft.term_at(index - 1)
            for entry in write.entries:
                known_entry = self.entries.setdefault((index, entry.term), (previous, entry))
                if known_entry[1] != entry or (known_entry[0] != previous and previous >= 0):
                    broken("log matching", f"machine {machine.id} has another entry at {index} of term {entry.term}")
                previous = entry.term
                index += 1

    def _is_set(self, raft: Raft) -> bool:
        """Return True if the set in force is an entry of the log."""
        index = raft.members_index
        if index > raft.last_index:
            return False
        known = self.entries.get((index, raft.term_at(index)))
        return known is None or known[1].kind == EntryKind.MEMBERS

    def voted(self, machine: Machine, term: int, vote: int) -> None:
        """Note a vote that leaves a machine: for another one, or, with a question for votes, for itself."""
        known = self.votes.setdefault((machine.id, term), vote)
        if vote != known:
            broken("nothing is taken back", f"machine {machine.id} votes for {vote} in term {term} after {known}")

    def applied(self, machine: Machine, apply: Apply) -> None:
        """Compare what a machine applies with what is committed."""
        if apply.first != machine.applied + 1:
            broken("applied is durable", f"machine {machine.id} applies {apply.first} after {machine.applied}")
        index = machine.applied
        for entry in apply.entries:
            index += 1
            if index > self.end or self._committed_at(index) != entry:
                broken("state machine safety", f"machine {machine.id} applies what is not committed at {index}")
        if not machine.disk.holds(index, apply.entries[-1].term):
            broken("applied is durable", f"machine {machine.id} applies {index}, which is not on its disk")
        machine.applied = index

    def installed(self, machine: Machine, install: Install) -> None:
        """Compare a snapshot that a machine installs with what is committed, and with what the machine has."""
        if install.snapshot.index <= machine.applied:
            broken("applied is durable", f"machine {machine.id} goes back to {install.snapshot.index}")
        self.snapshot(install.snapshot)
        machine.applied = machine.commit = install.snapshot.index

    def snapshot(self, snapshot: SnapshotMeta) -> None:
        """Compare a snapshot's meta with what is committed."""
        index = snapshot.index
        if index > self.end:
            broken("snapshot is committed", f"a snapshot at {index}, where {self.end} is committed")
        if index > self.start and snapshot.term != self._committed_at(index).term:
            broken("snapshot is committed", f"a snapshot at {index} has term {snapshot.term}")
        members = next(members for at, members in reversed(self.sets) if at <= index)
        if snapshot.members != members:
            broken("snapshot is committed", f"a snapshot at {index} names {snapshot.members}, not {members}")

    def readable(self, readable: Readable) -> None:
        """Compare the index of a read with what was committed when it was asked."""
        for token in readable.tokens:
            self.reads += 1
            if readable.index < self.asked.pop(token):
                broken("linearizable reads", f"read {token} at {readable.index}, and more was committed before")

    def bounds(self, machine: Machine, raft: Raft) -> None:
        """Compare what waits in a member with its settings."""
        settings, load = machine.settings, raft.load()
        within = (
            load.held <= settings.held_max
            and load.writes <= settings.writes_max + OWN_WRITES
            and load.reads <= settings.reads_max
            and load.log_bytes <= 2 * settings.log_bytes_max + OWN_BYTES
        )
        if not within:
            broken("bounded", f"machine {machine.id} has {load}")

    # ------------------------------------------------------------ after a step

    def leads(self, machine: Machine, raft: Raft) -> None:
        """Note a new leader."""
        leader = self.leaders.setdefault(raft.term, (machine.id, machine.runs))
        if leader != (machine.id, machine.runs):
            broken("election safety", f"machine {machine.id} leads term {raft.term}, as did {leader[0]}")
        end = self.end
        # Votes may arrive late: what a leader of a newer term has committed meanwhile is not promised to this one.
        while end > self.start and self.commit_terms[end - self.start - 1] >= raft.term:
            end -= 1
        if end > self.start:
            term = raft.term_at(end)
            if raft.last_index < end or term not in (-1, self._committed_at(end).term):
                broken("leader completeness", f"machine {machine.id} leads term {raft.term} and lacks {end}")

    def commits(self, machine: Machine, raft: Raft, led: bool, machines: list[Machine]) -> None:
        """Compare what a machine newly counts as committed with what others did; note what is new. `led`: it did before."""
        commit = raft.commit
        if commit < machine.commit:
            broken("nothing is taken back", f"machine {machine.id} had {machine.commit} committed, now {commit}")
        if raft.last_index < commit:
            broken(
                "state machine safety", f"machine {machine.id} has {commit} committed and a log to {raft.last_index}"
            )
        for index in range(max(machine.commit, self.start) + 1, commit + 1):
            term = raft.term_at(index)
            if index <= self.end:
                if term >= 0 and term != self._committed_at(index).term:
                    broken("state machine safety", f"machine {machine.id} commits another entry at {index}")
                continue
            if not (led or raft.role == Role.LEADER):
                broken("state machine safety", f"machine {machine.id} commits {index}, which no leader has")
            entry = self.entries.get((index, term), (0, Entry(-1, 0)))[1]
            self.committed.append(entry)
            self.commit_terms.append(raft.term)
            if entry.kind == EntryKind.MEMBERS:
                self.sets.append((index, decode_members(entry.data)))
        if led or raft.role == Role.LEADER:
            members, term = raft.members, raft.term_at(commit)
            durable = sum(machines[node - 1].disk.holds(commit, term) for node in members.voters)
            if durable < members.majority:
                broken("committed is durable", f"machine {machine.id} commits {commit}, durable on {durable}")
        machine.commit = commit

    def changes(self, machine: Machine, raft: Raft, before: Members, former: int, machines: list[Machine]) -> None:
        """Compare the set that a leader appends with the one before it."""
        members = raft.members
        if former > machine.commit:
            broken("one change at a time", f"machine {machine.id} appends a set over {former}, which is not committed")
        if raft.term_at(machine.commit) != raft.term:
            broken(
                "one change at a time", f"machine {machine.id} appends a set before it committed in term {raft.term}"
            )
        came = [node for node in members.voters if node not in before.voters]
        gone = [node for node in before.voters if node not in members.voters]
        if len(came) + len(gone) > 1 or not 1 <= len(members.voters) <= VOTERS_MAX:
            broken("one change at a time", f"from {before} to {members}")
        for node in came:
            if machines[node - 1].disk.last + machine.settings.promote_lag_max < raft.last_index - 1:
                broken("one change at a time", f"machine {node} votes and lacks most of the log")

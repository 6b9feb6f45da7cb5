"""Members of the catalog's group, moved by hand: a case says which message arrives, what is lost, and who campaigns.

Disks are done at once. Each member has a clock of its own, which moves only where a case lets it. Messages wait until they are
delivered. Node 1 begins with the record that names the members and their directories, and the others with nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import UnionType

from waymaker_core.cluster import catalog_group
from waymaker_core.cluster.peer_messages import OfGroup
from waymaker_core.node import opening
from waymaker_core.raft.effects import Apply, Role, Send, Write
from waymaker_core.raft.entries import Durable, Entry, EntryKind, HardState, SnapshotMeta
from waymaker_core.raft.inputs import Applied, Input, Propose, Received, Saved
from waymaker_core.raft.members import Members, encode_members
from waymaker_core.raft.messages import VoteRequest, VoteResponse
from waymaker_core.raft.raft import Raft
from waymaker_core.raft.settings import RaftSettings
from waymaker_sim.raft.machine import RaftDisk
from waymaker_sim.raft.promises import broken

SETTINGS = RaftSettings(append_entries_max=1)
CAMPAIGNS_MAX = 5
ROUNDS_MAX = 100


class Voter:
    """One member: its disk, its directory, and, while it runs, the core."""

    def __init__(self, node: int, directory: int) -> None:
        self.node = node
        self.directory = directory
        self.disk = RaftDisk(SnapshotMeta())
        self.doubt = 0
        self.now = 0
        self.history: list[tuple[HardState, list[Entry]]] = []
        """The facts on disk before each write, the newest last."""
        self.raft: Raft | None = None
        self.led = 0
        """The last term in which it was seen to lead."""

    def start(self) -> None:
        """Start from what the disk holds."""
        durable = self.disk.read()
        durable = Durable(durable.hard, durable.snapshot, durable.entries, self.doubt)
        self.raft = Raft(self.node, SETTINGS, self.node, self.now, durable, self.directory)

    def save(self, write: Write) -> None:
        """Make a write durable."""
        self.history.append((self.disk.hard, list(self.disk.entries)))
        self.disk.pending.append(write)
        self.disk.sync(1)


class VoterGroup:
    """Three members, the messages between them, and what may never happen."""

    def __init__(self) -> None:
        directories = tuple((node, 10 + node) for node in (1, 2, 3))
        self.voters = {node: Voter(node, directory) for node, directory in directories}
        founding = Entry(0, EntryKind.MEMBERS, encode_members(Members((1, 2, 3), (), directories)))
        self.voters[1].disk.entries.append(founding)
        self.network: list[OfGroup] = []
        self.delivered: list[OfGroup] = []
        self.leaders: dict[int, int] = {}
        self.committed: list[int] = [0]
        """By index: the term of the entry that a leader has committed there."""
        for voter in self.voters.values():
            voter.start()

    # ------------------------------------------------------------ what a case does

    def begin(self) -> VoterGroup:
        """Let node 1 lead term 1, with its first entry committed, and known as such, everywhere."""
        self.elect(1, 2, 3)
        self.beat(1)
        self.settle(1, 2, 3)
        assert all(voter.raft is not None and voter.raft.commit == 2 for voter in self.voters.values())
        assert self.leaders == {1: 1} and not self.network
        return self

    def elect(self, node: int, *others: int) -> bool:
        """Let a node campaign a few times, heard by these others alone; return True if it leads."""
        for _ in range(CAMPAIGNS_MAX):
            self.campaign(node)
            self.settle(node, *others)
            if self._raft(node).role == Role.LEADER:
                return True
        return False

    def elect_by(self, node: int, voter: int) -> None:
        """Let a node campaign once, and deliver nothing but the votes of one other: in advance, and in earnest."""
        self.campaign(node)
        for _ in ("in advance", "in earnest"):
            self.hear(voter, VoteRequest, node)
            self.hear(node, VoteResponse, voter)

    def campaign(self, node: int) -> None:
        """Let time pass for a node until it campaigns."""
        voter = self.voters[node]
        if self._raft(node).role != Role.LEADER:
            voter.now = min(self._raft(node).next_deadline(), voter.now + 10 * SETTINGS.election_ms)
            self.step(node)

    def beat(self, node: int) -> None:
        """Let time pass for a leader until its next heartbeat."""
        self.voters[node].now += SETTINGS.heartbeat_ms
        self.step(node)

    def propose(self, node: int) -> None:
        """Let a leader append an entry."""
        self.step(node, [Propose(1, b"entry")])

    def hear(self, to: int, kind: type | UnionType, sender: int) -> bool:
        """Deliver the oldest message of a kind, if there is one."""
        for at, each in enumerate(self.network):
            if (each.message.sender, each.message.to) == (sender, to) and isinstance(each.message, kind):
                del self.network[at]
                self._deliver(each)
                return True
        return False

    def send_again(self, messages: Iterable[OfGroup]) -> None:
        """Deliver messages that were delivered before once more."""
        for each in messages:
            self._deliver(each)

    def settle(self, *nodes: int) -> None:
        """Deliver all messages among these nodes until there is none; what goes to others waits."""
        for _ in range(ROUNDS_MAX):
            heard = [each for each in self.network if {each.message.sender, each.message.to} <= set(nodes)]
            if not heard:
                return
            self.network = [each for each in self.network if each not in heard]
            for each in heard:
                self._deliver(each)
        raise AssertionError("the members talk without end")

    def heal(self) -> None:
        """Start all, and let one node lead that commits another entry."""
        self.restart(*self.voters)
        self.network.clear()
        assert any(self.elect(node, *self.voters) for node in self.voters)
        (leader,) = [node for node in self.voters if self._raft(node).role == Role.LEADER]
        before = len(self.committed)
        self.propose(leader)
        self.settle(*self.voters)
        assert len(self.committed) > before

    # ------------------------------------------------------------ faults

    def stop(self, node: int) -> None:
        """Stop a member."""
        self.voters[node].raft = None

    def restart(self, *nodes: int) -> None:
        """Stop members, and start them with all that they wrote. They know of no leader then."""
        for node in nodes:
            self.voters[node].start()

    def tear(self, node: int, writes: int = 1) -> None:
        """Stop a member, which loses its last writes, and start it with the tear: in doubt, and in a term without votes."""
        voter = self.voters[node]
        hard, entries = voter.history[-writes]
        term = opening.term_without_votes(hard.term)
        voter.disk.hard, voter.disk.entries, voter.doubt = HardState(term), list(entries), term
        voter.start()

    def lose_directory(self, node: int) -> None:
        """Stop a member, and start it with an empty directory."""
        voter = self.voters[node]
        voter.disk, voter.directory, voter.doubt = RaftDisk(SnapshotMeta()), voter.directory + 10, 0
        voter.start()

    # ------------------------------------------------------------ steps

    def step(self, node: int, inputs: Iterable[Input] = ()) -> None:
        """Let a member take inputs, with a disk that is done at once."""
        voter, waiting = self.voters[node], list(inputs)
        while True:
            raft = self._raft(node)
            effects, waiting = raft.step(voter.now, waiting), []
            for effect in effects:
                if isinstance(effect, Write):
                    voter.save(effect)
                    waiting.append(Saved(effect.number))
                elif isinstance(effect, Apply):
                    waiting.append(Applied(effect.first + len(effect.entries) - 1))
                elif isinstance(effect, Send):
                    self.network.append(OfGroup(voter.directory, raft.is_doubtful, effect.message))
            if not raft.is_doubtful:
                voter.doubt = 0
            if not waiting:
                break
        self._watch(voter, raft)

    def _deliver(self, each: OfGroup) -> None:
        self.delivered.append(each)
        raft = self.voters[each.message.to].raft
        if raft is not None and catalog_group.counts(raft.members, each):
            self.step(each.message.to, [Received(each.message, each.doubtful)])

    def _watch(self, voter: Voter, raft: Raft) -> None:
        if raft.role != Role.LEADER:
            return
        if self.leaders.setdefault(raft.term, voter.node) != voter.node:
            broken("election safety", f"nodes {self.leaders[raft.term]} and {voter.node} lead term {raft.term}")
        for index, term in enumerate(self.committed[1:], 1):
            if raft.term_at(index) != term:
                broken("leader completeness", f"node {voter.node} leads term {raft.term} without entry {index}")
        self.committed += [raft.term_at(index) for index in range(len(self.committed), raft.commit + 1)]

    def _raft(self, node: int) -> Raft:
        raft = self.voters[node].raft
        assert raft is not None, f"node {node} is down"
        return raft

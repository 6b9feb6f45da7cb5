"""The replicas of one stream, moved by hand: a case says which message arrives, what is synced, and what stops.

Time stands still unless a case lets it pass, so that nothing is sent again by itself. Messages wait until they are delivered or
dropped. Each case begins with epoch 1 open at node 1, and the record that begins the epoch committed and applied everywhere.
"""

from __future__ import annotations

from collections.abc import Collection

from waymaker_core.replication.conf import Claim, Conf, Seat
from waymaker_core.replication.inputs import ConfChanged, Question, Received
from waymaker_core.replication.messages import Message
from waymaker_core.replication.settings import ReplicationSettings
from waymaker_sim.replication import schedule
from waymaker_sim.replication.machine import Machine, name_of
from waymaker_sim.replication_model.committed_log import CommittedLog, Lost

RETRY_MS = 1_000
NOTE_MS = 100
ONE_RECORD = 16
"""Bytes of an append, so that each carries one record."""
ROUNDS_MAX = 100


class ReplicaGroup:
    """Machines of the simulator with real replicas, the messages between them, and an abstract catalog."""

    def __init__(self, count: int = 3, one_record: Collection[int] = ()) -> None:
        """Start machines; `one_record`: those whose appends carry one record each."""
        self.log = CommittedLog()
        self.machines: dict[int, Machine] = {}
        for node in range(1, count + 1):
            most = ONE_RECORD if node in one_record else 1_000
            settings = ReplicationSettings(RETRY_MS, RETRY_MS, NOTE_MS, append_bytes_max=most)
            self.machines[node] = Machine(node, settings, self.log)
        self.network: list[tuple[int, int, Message]] = []
        self.proposals: list[int] = []
        self.now = self.newest = self.opened = self.questions = 0
        self.answered: list[int] = []
        """The questions that were answered."""
        self._asked: dict[int, int] = {}
        """By question: how much was committed when it was put."""
        self.claims = {0: Claim(0, 0, self._seats(self.machines))}
        for machine in self.machines.values():
            machine.start()

    # ------------------------------------------------------------ what a case does

    def begin(self) -> ReplicaGroup:
        """Open epoch 1 at node 1, and let all replicas apply the record that begins it."""
        self.claim(1)
        self.settle(*self.machines)
        self.open_at(1)
        self.settle(*self.machines)
        self.wait(NOTE_MS)
        self.settle(*self.machines)
        assert self.machines[1].leads == 1
        assert all(machine.applied == 1 for machine in self.machines.values())
        assert not self.network
        return self

    def claim(self, node: int, *nodes: int) -> None:
        """Claim the stream for a node, on these nodes or on all."""
        self.newest += 1
        self.claims[self.newest] = Claim(self.newest, node, self._seats(nodes or self.machines))
        self.learn(node)

    def learn(self, *nodes: int) -> None:
        """Let nodes learn the catalog as it is now."""
        conf = Conf(self.claims[self.newest], self.claims[self.opened])
        for node in nodes:
            self._learn(node, ConfChanged(conf, confirmed=True))

    def learn_old(self, node: int, epoch: int) -> None:
        """Let a node read an older claim, opened, from its own journal."""
        self._learn(node, ConfChanged(Conf(self.claims[epoch], self.claims[epoch])))

    def _learn(self, node: int, what: ConfChanged) -> None:
        if self.machines[node].up:
            self.machines[node].step(self.now, [what])
            self._collect(node)

    def decide_proposals(self) -> None:
        """Let the catalog decide which proposed epochs are opened."""
        for epoch in self.proposals:
            if schedule.opens(epoch, self.newest) and epoch > self.opened:
                self.opened = epoch
        self.proposals.clear()

    def open_at(self, node: int) -> None:
        """Let the catalog decide, and a node learn of it; nothing of what it sends then is delivered."""
        self.decide_proposals()
        self.learn(node)
        self.sync(node)

    def take_over(self, node: int, *others: int, on: Collection[int] = ()) -> None:
        """Claim for a node, and let it fence, adopt, verify and open with these others alone."""
        self.claim(node, *on)
        self.settle(node, *others)
        self.open_at(node)

    def decide(self, node: int, count: int = 1) -> None:
        """Let a primary decide records, and make them durable at its own disk."""
        for _ in range(count):
            self.questions += 1
            self.machines[node].decide(self.questions)
        self.sync(node)

    def decide_unsynced(self, node: int) -> None:
        """Let a primary decide a record and send it, while its own disk is busy."""
        self.questions += 1
        self.machines[node].decide(self.questions)
        self.machines[node].step(self.now, [])
        self._collect(node)

    def ask(self, node: int) -> None:
        """Put a question to a primary."""
        self.questions += 1
        self._asked[self.questions] = len(self.log.committed)
        self.machines[node].step(self.now, [Question(self.questions)])
        self._collect(node)

    def sync(self, *nodes: int) -> None:
        """Sync journals, and let what waited for that leave."""
        for node in nodes:
            if self.machines[node].up:
                self.machines[node].sync(self.now)
                self._collect(node)

    def hear(self, to: int, kind: type, sender: int, *, again: bool = False) -> bool:
        """Deliver the oldest message of a kind, if there is one; `again`: another copy of it comes last."""
        for at, (source, target, message) in enumerate(self.network):
            if (source, target) == (sender, to) and isinstance(message, kind):
                del self.network[at]
                if again:
                    self.network.append((source, target, message))
                if self.machines[to].up:
                    self.machines[to].step(self.now, [Received(source, message)])
                    self._collect(to)
                return True
        return False

    def drop(self, to: int, kind: type, sender: int) -> None:
        """Lose all messages of a kind between two nodes."""
        self.network = [
            each for each in self.network if each[:2] != (sender, to) or not isinstance(each[2], kind)
        ]  # fmt: skip

    def settle(self, *nodes: int) -> None:
        """Deliver all messages among these nodes and sync their journals until nothing is left to do; others hear nothing."""
        for _ in range(ROUNDS_MAX):
            heard = [each for each in self.network if each[0] in nodes and each[1] in nodes]
            self.network = [each for each in self.network if each[0] not in nodes or each[1] not in nodes]
            for sender, to, message in heard:
                if self.machines[to].up:
                    self.machines[to].step(self.now, [Received(sender, message)])
                    self._collect(to)
            busy = [node for node in nodes if self.machines[node].is_busy()]
            self.sync(*busy)
            if not heard and not busy:
                return
        raise AssertionError("the replicas talk without end")

    def wait(self, ms: int) -> None:
        """Let time pass."""
        self.now += ms
        for node, machine in self.machines.items():
            if machine.up:
                machine.step(self.now, [])
                self._collect(node)

    # ------------------------------------------------------------ faults

    def crash(self, node: int) -> None:
        """Stop a machine, which loses all that was not synced, and start it."""
        self.machines[node].stop(self.machines[node].synced, torn=False)
        self._start(node)

    def tear(self, node: int) -> None:
        """Stop a machine, which loses what it synced last, and start it with the tear."""
        self.machines[node].stop(self.machines[node].batch, torn=True)
        self._start(node)

    def lose_directory(self, node: int) -> None:
        """Stop a machine, and start it with an empty directory."""
        self.machines[node].lose_directory()
        self._start(node)

    def _start(self, node: int) -> None:
        self.machines[node].start()
        self._collect(node)

    # ------------------------------------------------------------ at the end

    def heal(self, node: int) -> None:
        """Let a node claim the stream on all nodes without faults: it opens, commits, and all agree."""
        self.network.clear()
        self.proposals.clear()
        for machine in self.machines.values():
            machine.full = machine.crowded = False
        self.learn(*self.machines)
        self.settle(*self.machines)
        self.claim(node)
        for _ in range(10):
            self.settle(*self.machines)
            self.decide_proposals()
            self.learn(*self.machines)
            self.wait(RETRY_MS)
        primary = self.machines[node]
        names = [name_of(record) for record in primary.log]
        if primary.leads != self.newest or primary.applied != len(names):
            raise Lost(f"the healed group is {primary.replica.phase} with {primary.applied} of {len(names)} committed")
        self.log.opened(names, "the healed group")
        self.ask(node)
        self.settle(*self.machines)
        assert self.questions in self.answered
        for machine in self.machines.values():
            if [name_of(record) for record in machine.log] != names or machine.applied != len(names):
                raise Lost(f"node {machine.node} does not agree with the healed group")
            assert not machine.replica.contradictions, f"node {machine.node}"

    def _seats(self, nodes: Collection[int]) -> tuple[Seat, ...]:
        return tuple(Seat(node, self.machines[node].directory) for node in sorted(nodes))

    def _collect(self, node: int) -> None:
        machine = self.machines[node]
        self.network += [(node, to, message) for to, message in machine.outbox]
        self.proposals += machine.proposals
        for question in machine.confirmed:
            names = [name_of(record) for record in machine.log]
            self.log.answer(names, machine.applied, self._asked[question], f"node {node}")
            self.answered.append(question)
        machine.outbox, machine.proposals, machine.confirmed = [], [], []

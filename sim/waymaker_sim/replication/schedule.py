"""Schedules of one stream's replicas: what happens next, and which message is lost, repeated or late, drawn from a seed.

A run draws its own odds first, so that runs differ in kind: many rivals or few, quick disks or slow ones, stale messages that
arrive epochs later. The catalog is abstract: it issues claims in order, records which epoch was opened last, and loses nothing.
At the end faults stop, and what is alive must open, commit and agree.
"""

from __future__ import annotations

from random import Random

from waymaker_core.replication.conf import Claim, Conf, Seat
from waymaker_core.replication.inputs import ConfChanged, Input, Question, Received
from waymaker_core.replication.messages import Message
from waymaker_core.replication.settings import ReplicationSettings
from waymaker_sim.replication.machine import Machine, name_of
from waymaker_sim.replication_model.committed_log import CommittedLog, Lost

NETWORK_MAX = 60
LATE_MAX = 40
SUFFIX_MAX = 8
HEAL_ROUNDS = 200
ROUNDS_A_RECORD = 4
"""Rounds that a record may take in a healed group: an append may hold one alone, first to the primary and then to others."""
STEPS_A_MS = 4
DELIVERIES = 3
"""Messages that arrive in one step of a schedule."""

Packet = tuple[int, int, Message]
"""Sender, receiver, message."""


class Schedule:
    """One run: a seed's draws, the machines, the network between them, and the catalog."""

    def __init__(self, seed: int) -> None:
        random = self._random = Random(seed)
        pick, self._draw = random.choice, random.random
        self.now = self.steps = 0
        self._network: list[Packet] = []
        self._late: list[Packet] = []
        self._loss = pick((0.0, 0.1, 0.3))
        self._repeat = pick((0.0, 0.2))
        self._delay = pick((0.0, 0.0, 0.1, 0.4))
        self._arrive_late = pick((0.01, 0.002))
        self._stop = pick((0.0, 0.001, 0.004, 0.02))
        self._lose = pick((0.0, 0.0, 0.3, 0.8))
        self._episode = pick((0, 0, 150, 300, 600))
        self._claim = pick((0.0005, 0.002, 0.008)) if not self._episode else 0.0
        self._change = pick((0.0, 0.2, 0.6))
        self._sync = pick((0.1, 0.3, 0.5))
        self._take = pick((0.05, 0.15))
        self._ask = pick((0.0, 0.05))
        self._checkpoint = pick((0.0, 0.03))
        self._decide = pick((0.3, 0.05, 0.01))
        self._full = pick((0.0, 0.0, 0.01))
        self._deaf: set[int] = set()
        settings = ReplicationSettings(
            retry_ms=pick((5, 20, 60)), commit_note_ms=pick((3, 30)), append_bytes_max=pick((16, 32, 1000)),
            window_bytes_max=pick((50, 200, 2000)), retry_max_ms=160,
        )  # fmt: skip
        count = pick((3, 4, 5))
        self.committed_log = CommittedLog()
        self.machines = [Machine(node, settings, self.committed_log) for node in range(1, count + 1)]
        first = Claim(0, 0, self._seats(range(1, min(3, count) + 1)))
        self.claims = {0: first}
        self.newest = self.opened = 0
        self.version = 0
        """Number of changes of the catalog; machines learn it later."""
        self._proposals: list[int] = []
        self._number = 0
        self.asked: dict[tuple[int, int], int] = {}
        """By machine and question: how much was committed when it was put."""
        self.answers = 0
        self._cut_short: dict[int, bool] = {}
        self._lost_durable: set[int] = set()
        for machine in self.machines:
            machine.start()

    def run(self, steps: int) -> int:
        """Take steps with faults, then without; return how many records were committed. `Lost` where a promise is broken."""
        for self.steps in range(1, steps + 1):
            self.now = self.steps // STEPS_A_MS
            if self._episode and self.steps % self._episode == 1:
                self._begin_episode()
            self._one_step()
        self._heal()
        return len(self.committed_log.committed)

    # ------------------------------------------------------------ the network

    def _collect(self, machine: Machine) -> None:
        """Take what a machine wants sent, proposed and answered."""
        for to, message in machine.outbox:
            self._post((machine.node, to, message))
        self._proposals += machine.proposals
        for question in machine.confirmed:
            if (committed := self.asked.pop((machine.node, question), None)) is not None:
                self.answers += 1
                names = [name_of(record) for record in machine.log]
                self.committed_log.answer(names, machine.applied, committed, f"node {machine.node}")
        machine.outbox, machine.proposals, machine.confirmed = [], [], []

    def _post(self, packet: Packet) -> None:
        draw = self._draw
        if self._deaf & {packet[0], packet[1]}:
            if draw() < 0.1:
                self._late.append(packet)
            return
        if draw() < self._loss:
            return
        (self._late if draw() < self._delay else self._network).append(packet)
        if draw() < self._repeat:
            (self._late if draw() < self._delay else self._network).append(packet)

    def _deliver_one(self) -> None:
        network = self._network
        index = int(self._draw() * len(network))
        sender, to, message = network[index]
        network[index] = network[-1]
        network.pop()
        self._give(self.machines[to - 1], [Received(sender, message)])

    def _bound(self, packets: list[Packet], most: int) -> None:
        while len(packets) > most:
            packets.pop(int(self._draw() * len(packets)))

    def _give(self, machine: Machine, inputs: list[Input]) -> None:
        if machine.up:
            machine.step(self.now, inputs)
            self._collect(machine)

    # ------------------------------------------------------------ steps

    def _one_step(self) -> None:
        draw, machines = self._draw, self.machines
        machine = machines[int(draw() * len(machines))]
        chance = draw()
        if chance < self._stop:
            self._stop_or_start(machine)
            return
        chance -= self._stop
        if chance < self._claim:
            self._claim_one(machine)
            return
        chance -= self._claim
        if self._proposals and draw() < self._decide:
            self._decide_proposal(self._proposals.pop(int(draw() * len(self._proposals))))
        if self._late and draw() < self._arrive_late:
            self._network.append(self._late.pop(int(draw() * len(self._late))))
        if not machine.up:
            return
        if machine.conf_seen < self.version and draw() < 0.3:
            self._inform(machine)
        machine.full = draw() < self._full
        if chance < self._sync:
            machine.sync(self.now)
            self._collect(machine)
        elif chance - self._sync < self._take:
            if machine.leads and len(machine.log) < machine.applied + SUFFIX_MAX:
                self._number += 1
                machine.decide(self._number)
        elif chance - self._sync - self._take < self._ask:
            if machine.leads:
                self._number += 1
                self.asked[machine.node, self._number] = len(self.committed_log.committed)
                self._give(machine, [Question(self._number)])
        elif self._network and draw() < 0.8:
            for _ in range(min(DELIVERIES, len(self._network))):
                self._deliver_one()
            self._bound(self._network, NETWORK_MAX)
            self._bound(self._late, LATE_MAX)
        elif draw() < self._checkpoint:
            machine.checkpoint()
        else:
            self._give(machine, [])

    def _inform(self, machine: Machine) -> None:
        """Let a machine learn the catalog as it is now."""
        machine.conf_seen = self.version
        self._give(machine, [ConfChanged(Conf(self.claims[self.newest], self.claims[self.opened]), confirmed=True)])

    def _begin_episode(self) -> None:
        """Begin an episode: only a random group of machines hear each other, and one of them claims."""
        random, machines = self._random, self.machines
        group = random.sample(machines, random.choice((2, 2, 3, len(machines))))
        self._deaf = {each.node for each in machines} - {each.node for each in group}
        for machine in group:
            if not machine.up and self._draw() < 0.7:
                self._stop_or_start(machine)
        if self._draw() < 0.7:
            self._claim_one(group[0])

    # ------------------------------------------------------------ the catalog

    def _seats(self, nodes: object) -> tuple[Seat, ...]:
        assert isinstance(nodes, range | list | set)
        return tuple(Seat(node, self.machines[node - 1].directory) for node in sorted(nodes))

    def _claim_one(self, machine: Machine) -> None:
        if not machine.up:
            return
        random = self._random
        nodes = {seat.node for seat in self.claims[self.newest].replicas}
        if self._draw() < self._change:
            others = [each.node for each in self.machines if each.node not in nodes]
            kind = self._draw()
            if kind < 0.4 and others:
                nodes.add(random.choice(others))
            elif kind < 0.7 and len(nodes) > 1:
                nodes.discard(random.choice(sorted(nodes)))
            else:
                nodes = set(random.sample(range(1, len(self.machines) + 1), random.choice((1, 2, 3))))
        if machine.node not in nodes:
            if self._draw() < 0.5:
                return
            nodes.add(machine.node)
        self._claim_for(machine, nodes)

    def _claim_for(self, machine: Machine, nodes: set[int]) -> None:
        self.version += 1
        self.newest += 1
        self.claims[self.newest] = Claim(self.newest, machine.node, self._seats(nodes))
        self._inform(machine)

    def _decide_proposal(self, epoch: int) -> None:
        if opens(epoch, self.newest) and epoch > self.opened:
            self.version += 1
            self.opened = epoch

    # ------------------------------------------------------------ faults

    def _stop_or_start(self, machine: Machine) -> None:
        draw = self._draw
        if not machine.up:
            short = self._cut_short.pop(machine.node, False)
            machine.torn = machine.torn or (short and draw() < 0.5)
            machine.start()
            return
        if draw() < self._lose:
            self._damage(machine)
            return
        kept = machine.synced + int(draw() * (len(machine.journal) - machine.synced + 1))
        if kept < len(machine.journal) and not self._can_do_without(machine, whole=False):
            kept = len(machine.journal)
        self._cut_short[machine.node] = kept < len(machine.journal)
        machine.stop(kept, torn=False)

    def _damage(self, machine: Machine) -> None:
        """Remove durable data, the directory or the last sync, where good copies are left."""
        if self._draw() < 0.3 and self._can_do_without(machine, whole=True):
            machine.lose_directory()
            self._lost_durable.discard(machine.node)
            self._cut_short.pop(machine.node, None)
        elif self._can_do_without(machine, whole=False) and self._most_is_good(machine, certain=False):
            machine.stop(machine.batch + int(self._draw() * (machine.synced - machine.batch + 1)), torn=True)
            self._lost_durable.add(machine.node)
        else:
            machine.stop(len(machine.journal), torn=False)

    def _can_do_without(self, machine: Machine, whole: bool) -> bool:
        """Return True if the group can still fence when a machine is in doubt, or, with `whole`, when it is lost."""
        if self._most_is_good(machine, certain=True):
            return True
        seats = [seat for claim in self._sets() for seat in claim.replicas]
        return not whole and all(self.machines[seat.node - 1].directory == seat.directory for seat in seats)

    def _most_is_good(self, without: Machine, certain: bool) -> bool:
        """Return True if every set that is open, or may be soon, has a majority of good copies without one machine."""
        machines, lost = self.machines, self._lost_durable
        for node in sorted(lost):
            machine = machines[node - 1]
            if machine.up and not machine.doubt and not machine.torn:
                lost.discard(node)

        def is_good(seat: Seat) -> bool:
            machine = machines[seat.node - 1]
            if machine is without or seat.node in lost or machine.directory != seat.directory:
                return False
            return not certain or not (machine.doubt or machine.torn or self._cut_short.get(seat.node, False))

        return all(sum(map(is_good, claim.replicas)) >= claim.majority for claim in self._sets())

    def _sets(self) -> list[Claim]:
        return [self.claims[epoch] for epoch in (self.opened, *self._proposals, self.newest)]

    # ------------------------------------------------------------ at the end

    def _heal(self) -> None:
        """Start everything, let one machine claim, and demand that it opens, commits and that all agree."""
        self._deaf.clear()
        self._loss = self._repeat = self._delay = self._full = 0.0
        for machine in self.machines:
            machine.full = False
            if not machine.up:
                machine.torn = machine.torn or self._cut_short.get(machine.node, False)
                machine.start()
        self._network.clear()
        self._late.clear()
        self._proposals.clear()
        for machine in self.machines:
            self._inform(machine)
            machine.sync(self.now)
            self._collect(machine)
        primary = self.machines[int(self._draw() * len(self.machines))]
        self._claim_for(primary, {machine.node for machine in self.machines})
        for _ in range(HEAL_ROUNDS + ROUNDS_A_RECORD * max(len(machine.log) for machine in self.machines)):
            self.now += 10
            while self._proposals:
                self._decide_proposal(self._proposals.pop())
            for machine in self.machines:
                self._inform(machine)
                machine.sync(self.now)
                self._collect(machine)
            for _ in range(len(self._network)):
                self._deliver_one()
            for machine in self.machines:
                self._give(machine, [])
        self._compare(primary)

    def _compare(self, primary: Machine) -> None:
        names = [name_of(record) for record in primary.log]
        if not primary.leads or primary.applied != len(names):
            leading = primary.replica.phase
            raise Lost(f"the healed group is {leading} with {primary.applied} of {len(names)} committed")
        self.committed_log.opened(names, "the healed group")
        for machine in self.machines:
            if [name_of(record) for record in machine.log] != names or machine.applied != len(names):
                raise Lost(f"node {machine.node} does not agree with the healed group")
            if machine.replica.contradictions:
                raise Lost(f"node {machine.node} met what no correct replica does")


def opens(epoch: int, newest: int) -> bool:
    """Return True while an epoch is the newest claim (rule `opened_newest_claim`): only then it can be opened."""
    return epoch == newest

"""Schedules of the model: which step comes next, and which message is lost, repeated or late, drawn from a seed.

A run draws its own odds first, so that runs differ in kind: many rivals or few, quick syncs or slow ones, stale messages that
arrive epochs later. At the end faults stop, and what is alive must open, commit and agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from random import Random

from waymaker_sim.replication_model.committed_log import Lost
from waymaker_sim.replication_model.protocol import Members, Protocol, majority
from waymaker_sim.replication_model.replica import Message, Phase, Replica

NETWORK_MAX = 60
LATE_MAX = 40
"""Messages on their way, and held back for long; beyond that some are lost."""
SUFFIX_MAX = 8
"""Uncommitted records of a primary."""
HEAL_ROUNDS = 60


class Schedule:
    """One run of the model: a seed's draws, and the network between the replicas."""

    def __init__(self, seed: int, missing: Collection[str] = ()) -> None:
        random = self._random = Random(seed)
        pick, self._draw = random.choice, random.random
        count = pick((3, 4, 5))
        self._network: list[tuple[int, Message]] = []
        self._late: list[tuple[int, Message]] = []
        self._loss = pick((0.0, 0.1, 0.3))
        self._repeat = pick((0.0, 0.2))
        self._delay = pick((0.0, 0.0, 0.1, 0.4))
        self._arrive_late = pick((0.01, 0.002))
        self._stop = pick((0.0, 0.001, 0.004, 0.02))
        self._lose = pick((0.0, 0.0, 0.3, 0.8))
        """The odds that a stop takes a part of what was durable, where a majority of good copies is left."""
        self._episode = pick((0, 0, 30, 60, 120))
        """Steps of an episode, in which some replicas hear nothing and one of the others claims; 0: no episodes."""
        self._deaf: set[int] = set()
        """Replicas that no message reaches: a primary among them goes on in its epoch."""
        self._claim = pick((0.001, 0.004, 0.015)) if not self._episode else 0.0
        self._change = pick((0.0, 0.2, 0.6))
        self._rivals = pick((1, 2, count))
        self._sync = pick((0.02, 0.1, 0.3))
        self._take = pick((0.05, 0.15))
        self._ask = pick((0.0, 0.05))
        self._checkpoint = pick((0.0, 0.05))
        self._decide = pick((0.3, 0.05, 0.01))
        self._piece = pick((1, 2, 99))
        self._led: dict[int, tuple[int, int]] = {}
        """By stopped replica: (epoch, start) in which it was an open primary."""
        self._cut_short: dict[int, bool] = {}
        """By stopped replica: whether facts that were not durable are gone from its journal."""
        self.protocol = Protocol(count, range(min(3, count)), missing, self._send)
        self._missing = self.protocol.missing
        self._torn: set[int] = set()
        """Replicas whose journals lost what had been durable, until an epoch opens with them."""

    def run(self, steps: int) -> int:
        """Take steps with faults, then without; return how many records were committed. `Lost` where a rule is broken."""
        protocol = self.protocol
        for protocol.now in range(1, steps + 1):
            if self._episode and protocol.now % self._episode == 1:
                self._begin_episode()
            self._one_step()
        self._heal()
        return len(protocol.committed_log.committed)

    # ------------------------------------------------------------ the network

    def _send(self, to: int, message: Message) -> None:
        draw = self._draw
        if to in self._deaf:
            if draw() < 0.1:
                self._late.append((to, message))
            return
        if draw() < self._loss:
            return
        (self._late if draw() < self._delay else self._network).append((to, message))
        if draw() < self._repeat:
            (self._late if draw() < self._delay else self._network).append((to, message))

    def _deliver_one(self) -> None:
        network, draw = self._network, self._draw
        index = int(draw() * len(network))
        to, message = network[index]
        network[index] = network[-1]
        network.pop()
        self.protocol.deliver(self.protocol.replicas[to], message)

    def _bound(self, messages: list[tuple[int, Message]], most: int) -> None:
        while len(messages) > most:
            messages.pop(int(self._draw() * len(messages)))

    # ------------------------------------------------------------ steps

    def _one_step(self) -> None:
        protocol, draw = self.protocol, self._draw
        replicas = protocol.replicas
        replica = replicas[int(draw() * len(replicas))]
        chance = draw()
        if chance < self._stop:
            self._stop_or_start(replica)
            return
        chance -= self._stop
        if chance < self._claim:
            self._claim_one(replicas[int(draw() * self._rivals)] if draw() < 0.6 else replica)
            return
        chance -= self._claim
        if protocol.proposals and draw() < self._decide:
            protocol.decide_proposal(protocol.proposals.pop(int(draw() * len(protocol.proposals))))
        if self._late and draw() < self._arrive_late:
            self._network.append(self._late.pop(int(draw() * len(self._late))))
        if chance < self._sync:
            if replica.up and (replica.waiting or replica.synced < len(replica.journal)):
                protocol.sync(replica)
            return
        chance -= self._sync
        if not self._network or chance < self._take + self._ask + 0.2:
            if replica.up and replica.phase:
                self._lead(replica, chance)
            elif self._checkpoint and draw() < self._checkpoint:
                self._write_checkpoint(replica)
            return
        self._deliver_one()
        self._bound(self._network, NETWORK_MAX)
        self._bound(self._late, LATE_MAX)

    def _begin_episode(self) -> None:
        """Begin an episode: only a random group of replicas hear each other, and one of them claims."""
        random, replicas = self._random, self.protocol.replicas
        group = random.sample(range(len(replicas)), random.choice((2, 2, 3, len(replicas))))
        self._deaf = {each.id for each in replicas} - set(group)
        for id_ in group:
            if not replicas[id_].up and self._draw() < 0.7:
                self._stop_or_start(replicas[id_])
        if self._draw() < 0.7:
            self._claim_one(replicas[group[0]])

    def _lead(self, replica: Replica, chance: float) -> None:
        """Let a primary take a record, answer a question, send a piece of its log, or repeat itself."""
        protocol, draw = self.protocol, self._draw
        if replica.phase < Phase.VERIFYING:
            protocol.go_on(replica)
            return
        if chance < self._take:
            if protocol.serves(replica) and len(replica.log) < replica.commit + SUFFIX_MAX:
                protocol.take(replica)
        elif chance < self._take + self._ask:
            if protocol.serves(replica):
                protocol.ask(replica, draw() < 0.3)
        else:
            protocol.go_on(replica)
            other = int(draw() * len(protocol.replicas))
            if other != replica.id and replica.phase >= Phase.VERIFYING:
                length = len(replica.log)
                begin = replica.acked.get(other, 0) if draw() < 0.7 else int(draw() * (length + 1))
                protocol.append_to(replica, other, begin, min(length, begin + self._piece))

    def _claim_one(self, replica: Replica) -> None:
        if not replica.up:
            return
        protocol, random = self.protocol, self._random
        members = set(protocol.sets[protocol.newest])
        if self._draw() < self._change:
            others = [each.id for each in protocol.replicas if each.id not in members]
            kind = self._draw()
            if kind < 0.4 and others:
                members.add(random.choice(others))
            elif kind < 0.7 and len(members) > 1:
                members.discard(random.choice(sorted(members)))
            else:
                members = set(random.sample(range(len(protocol.replicas)), random.choice((1, 2, 3))))
        if replica.id not in members:
            if self._draw() < 0.5:
                return
            members.add(replica.id)
        protocol.claim(replica, self._identities(members))

    def _identities(self, ids: Iterable[int]) -> Members:
        return {id_: self.protocol.replicas[id_].directory for id_ in sorted(ids)}

    def _write_checkpoint(self, replica: Replica) -> None:
        if replica.up and replica.synced == len(replica.journal) and not replica.waiting:
            replica.checkpoint("carry_suffix" in self._missing, "carry_promise" in self._missing)

    # ------------------------------------------------------------ faults

    def _stop_or_start(self, replica: Replica) -> None:
        draw = self._draw
        if not replica.up:
            torn = replica.id in self._torn
            self.protocol.restart(replica, draw() < 0.5 or torn if self._cut_short.pop(replica.id, False) else torn)
            if "never_resume" in self._missing and replica.id in self._led:
                self.protocol.resume(replica, *self._led[replica.id])
            return
        self._led.pop(replica.id, None)
        if replica.phase is Phase.OPEN:
            self._led[replica.id] = (replica.epoch, replica.start)
        if draw() < self._lose:
            self._damage(replica)
            return
        unsynced = len(replica.journal) - replica.synced
        kept = replica.synced + int(draw() * (unsynced + 1))
        if kept < len(replica.journal) and not self._can_do_without(replica, whole=False):
            kept = len(replica.journal)
        self._cut_short[replica.id] = kept < len(replica.journal)
        replica.stop(kept)

    def _damage(self, replica: Replica) -> None:
        """Remove durable data, the directory or the last sync, where good copies are left."""
        if self._draw() < 0.3 and self._can_do_without(replica, whole=True):
            replica.lose_directory()
            self._led.pop(replica.id, None)
            self._torn.discard(replica.id)
        elif self._can_do_without(replica, whole=False) and self._most_is_good(replica, certain=False):
            replica.stop(replica.batch + int(self._draw() * (replica.synced - replica.batch + 1)))
            self._torn.add(replica.id)
        else:
            replica.stop(len(replica.journal))

    def _can_do_without(self, replica: Replica, whole: bool) -> bool:
        """Return True if the group can still fence when a replica is in doubt, or, with `whole`, when it is lost.

        A majority without doubt is enough; otherwise every member must answer, and a lost directory never will be.
        """
        if self._most_is_good(replica, certain=True):
            return True
        return not whole and all(
            self.protocol.replicas[id_].directory == directory
            for members in self._sets()
            for id_, directory in members.items()
        )

    def _most_is_good(self, without: Replica, certain: bool) -> bool:
        """Return True if every set that is open, or may be soon, has a majority of good copies without one replica."""
        replicas, torn = self.protocol.replicas, self._torn
        for id_ in sorted(torn):
            if replicas[id_].up and not replicas[id_].doubt:
                torn.discard(id_)

        def is_good(id_: int, directory: int) -> bool:
            replica = replicas[id_]
            if replica is without or id_ in torn or replica.directory != directory:
                return False
            return not certain or not (replica.doubt or self._cut_short.get(id_, False))

        return all(sum(is_good(*each) for each in members.items()) >= majority(members) for members in self._sets())

    def _sets(self) -> list[Members]:
        protocol = self.protocol
        return [protocol.sets[epoch] for epoch in (protocol.opened, *protocol.proposals, protocol.newest)]

    # ------------------------------------------------------------ at the end

    def _heal(self) -> None:
        """Start everything, let one replica claim, and demand that it opens, commits and that all agree."""
        protocol = self.protocol
        self._deaf.clear()
        self._loss = self._repeat = self._delay = 0.0
        for replica in protocol.replicas:
            if not replica.up:
                protocol.restart(replica, self._cut_short.get(replica.id, False) or replica.id in self._torn)
        self._network.clear()
        self._late.clear()
        protocol.proposals.clear()
        primary = protocol.replicas[int(self._draw() * len(protocol.replicas))]
        protocol.claim(primary, self._identities(range(len(protocol.replicas))))
        for _ in range(HEAL_ROUNDS):
            protocol.now += 1
            while protocol.proposals:
                protocol.decide_proposal(protocol.proposals.pop())
            for replica in protocol.replicas:
                protocol.sync(replica)
            while self._network:
                self._deliver_one()
            protocol.go_on(primary)
            if primary.phase >= Phase.VERIFYING:
                for other in protocol.replicas:
                    if other is not primary:
                        protocol.append_to(primary, other.id, 0, len(primary.log))
        if primary.phase is not Phase.OPEN or primary.commit != len(primary.log):
            raise Lost(
                f"the healed group is {primary.phase.name} with {primary.commit} of {len(primary.log)} committed"
            )
        protocol.committed_log.opened(primary.log, "the healed group")
        for replica in protocol.replicas:
            if replica.log != primary.log:
                raise Lost(f"replica {replica.id} does not agree with the healed group")

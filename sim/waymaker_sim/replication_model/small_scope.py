"""Search of small scopes: every schedule of a few claims, records, stops and appends, one after the other.

A random schedule meets a rare order of steps rarely. In a small scope all orders can be tried: a message may arrive at any time
or never, a journal is synced at any time, a replica stops between any two steps. States that were met before are not entered
again. A scope starts with an epoch that is open and all replicas that agree.

A search ends where nothing is left to try, or with the steps to the first broken promise, made as short as leaving steps out
can make them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from marshal import dumps
from random import Random
from typing import Any, NamedTuple

from waymaker_sim.replication_model.committed_log import Lost
from waymaker_sim.replication_model.protocol import Protocol, majority
from waymaker_sim.replication_model.replica import EPOCH_UNIT, Message, Phase, Replica

Step = tuple[object, ...]

UNSHARED = 2
"""The version of marshal whose bytes depend on values alone, not on which objects are the same."""


@dataclass(slots=True, frozen=True)
class Scope:
    """The bounds of a search, each as a number of steps of that kind. `sets`: the replica sets that a claim may name."""

    replicas: int = 3
    claims: int = 1
    records: int = 1
    stops: int = 0
    tears: int = 0
    losses: int = 0
    checkpoints: int = 0
    questions: int = 0
    appends: int = 4
    claimants: tuple[int, ...] = (1,)
    sets: tuple[tuple[int, ...], ...] = ((0, 1, 2),)


class Found(NamedTuple):
    """The end of a search: how many states it met, and the shortest steps to a broken promise, if there are any."""

    states: int
    steps: list[Step]
    broken: str
    complete: bool


class Position:
    """A state of a search: the protocol, the messages on their way, and what is left of the bounds."""

    __slots__ = ("protocol", "network", "left", "cut_short", "torn", "_states")

    def __init__(self, protocol: Protocol, network: list[tuple[int, Message]], left: Scope) -> None:
        self.protocol = protocol
        self.network = network
        self.left = left
        self.cut_short: frozenset[int] = frozenset()
        """Stopped replicas whose journals lost facts that were not durable."""
        self.torn: frozenset[int] = frozenset()
        """Replicas whose journals lost durable facts."""
        self._states: list[bytes | None] = [None] * len(protocol.replicas)
        """The encoded state of each replica that is not about to change."""
        protocol.send = self._send

    def _send(self, to: int, message: Message) -> None:
        if (to, message) not in self.network:
            self.network.append((to, message))

    def after(self, step: Step) -> Position:
        """Return the state behind a step. A step changes one replica; the others are shared. `Lost`, as `take` raises it."""
        changes = [] if step[0] == "decide" else [step[1]]
        assert all(isinstance(id_, int) for id_ in changes)
        other = Position(self.protocol.copy(changes), list(self.network), self.left)
        other.cut_short, other.torn = self.cut_short, self.torn
        other._states = [None if id_ in changes else state for id_, state in enumerate(self._states)]
        other.take(step)
        return other

    def key(self) -> bytes:
        """Return a digest of all that matters for what can happen next."""
        left = self.left
        bounds = (left.claims, left.records, left.stops, left.tears, left.losses, left.checkpoints, left.questions)
        state = (
            self.protocol.state(), sorted(self.network), bounds, left.appends, sorted(self.cut_short), sorted(self.torn),
        )  # fmt: skip
        digest = blake2b(_encode(state), digest_size=12)
        for id_, encoded in enumerate(self._states):
            if encoded is None:
                encoded = self._states[id_] = _encode(self.protocol.replicas[id_].state())
            digest.update(encoded)
        return digest.digest()

    # ------------------------------------------------------------ steps

    def steps(self) -> Iterator[Step]:
        """Yield every step that can be taken."""
        protocol, left = self.protocol, self.left
        for replica in protocol.replicas:
            yield from self._steps_of(replica)
        for to, message in self.network:
            if protocol.replicas[to].up:
                yield ("deliver", to, message)
        for epoch in protocol.proposals:
            yield ("decide", epoch)
        if left.claims:
            for claimant in left.claimants:
                if protocol.replicas[claimant].up:
                    for members in left.sets:
                        if claimant in members:
                            yield ("claim", claimant, members)

    def _steps_of(self, replica: Replica) -> Iterator[Step]:
        left, id_ = self.left, replica.id
        if not replica.up:
            if id_ not in self.torn:
                yield ("start", id_)
            if id_ in self.torn or id_ in self.cut_short:
                yield ("start in doubt", id_)
            return
        unsynced = replica.synced < len(replica.journal)
        if unsynced or replica.waiting:
            yield ("sync", id_)
        if left.stops:
            yield ("stop", id_)
            if unsynced and self._may_doubt(replica):
                yield ("crash", id_)
        if left.tears and replica.batch < replica.synced and self._may_doubt(replica):
            yield ("tear", id_)
        if left.losses and self._may_doubt(replica):
            yield ("lose", id_)
        if left.checkpoints and not unsynced and not replica.waiting:
            yield ("checkpoint", id_)
        if replica.phase in (Phase.VERIFYING, Phase.OPEN):
            yield from self._steps_of_primary(replica)

    def _steps_of_primary(self, replica: Replica) -> Iterator[Step]:
        protocol, left, id_ = self.protocol, self.left, replica.id
        if replica.phase is Phase.VERIFYING and protocol.opened == replica.epoch:
            yield ("open", id_)
        if left.appends:
            for other in protocol.replicas:
                if other is not replica:
                    yield ("append", id_, other.id)
        if protocol.serves(replica):
            if left.records:
                yield ("take", id_)
            if left.questions:
                yield ("ask", id_)
                if len(replica.log) > replica.commit:
                    yield ("ask about the uncommitted", id_)

    def take(self, step: Step) -> bool:
        """Take a step; return False if it cannot be taken here. `Lost` where it breaks a promise."""
        match step:
            case ("deliver", int(to), tuple(message)):
                return self._deliver(to, message)
            case ("decide", int(epoch)):
                if epoch not in self.protocol.proposals:
                    return False
                self.protocol.proposals.remove(epoch)
                self.protocol.decide_proposal(epoch)
                return True
            case ("claim", int(id_), tuple(members)):
                return self._claim(self.protocol.replicas[id_], members)
            case (str(), int(id_), *_):
                return self._take_of(self.protocol.replicas[id_], step)
        raise AssertionError(f"not a step: {step}")

    def _deliver(self, to: int, message: Message) -> bool:
        if (to, message) not in self.network or not self.protocol.replicas[to].up:
            return False
        self.network.remove((to, message))
        self.protocol.deliver(self.protocol.replicas[to], message)
        return True

    def _claim(self, replica: Replica, members: tuple[int, ...]) -> bool:
        if not self.left.claims or not replica.up:
            return False
        self.left = replace(self.left, claims=self.left.claims - 1)
        self.protocol.claim(replica, {id_: self.protocol.replicas[id_].directory for id_ in members})
        return True

    def _take_of(self, replica: Replica, step: Step) -> bool:
        if step not in list(self._steps_of(replica)):
            return False
        protocol, left, kind, id_ = self.protocol, self.left, step[0], replica.id
        if kind == "sync":
            protocol.sync(replica)
        elif kind in ("start", "start in doubt"):
            self.cut_short -= {id_}
            self.torn -= {id_}
            protocol.restart(replica, kind == "start in doubt")
        elif kind == "open":
            protocol.go_on(replica)
        elif kind == "take":
            self.left = replace(left, records=left.records - 1)
            protocol.take(replica)
        elif kind in ("ask", "ask about the uncommitted"):
            self.left = replace(left, questions=left.questions - 1)
            protocol.now += 1
            protocol.ask(replica, kind != "ask")
        elif kind == "append":
            self.left = replace(left, appends=left.appends - 1)
            assert isinstance(step[2], int)
            begin = min(replica.acked.get(step[2], 0), replica.commit)
            protocol.append_to(replica, step[2], begin, len(replica.log))
        elif kind == "checkpoint":
            self.left = replace(left, checkpoints=left.checkpoints - 1)
            replica.checkpoint("carry_suffix" in protocol.missing, "carry_promise" in protocol.missing)
        else:
            self._stop(replica, kind)
        return True

    # ------------------------------------------------------------ faults

    def _stop(self, replica: Replica, kind: object) -> None:
        left, id_ = self.left, replica.id
        if kind == "tear":
            self.left = replace(left, tears=left.tears - 1)
            replica.stop(replica.batch)
            self.torn |= {id_}
        elif kind == "lose":
            self.left = replace(left, losses=left.losses - 1)
            replica.lose_directory()
            self.cut_short -= {id_}
            self.torn -= {id_}
        else:
            self.left = replace(left, stops=left.stops - 1)
            if kind == "crash":
                self.cut_short |= {id_}
            replica.stop(replica.synced if kind == "crash" else len(replica.journal))

    def _may_doubt(self, replica: Replica) -> bool:
        """Return True if every set that is open, or may be soon, has a majority of good copies without one replica."""
        protocol = self.protocol

        def is_good(id_: int, directory: int) -> bool:
            other = protocol.replicas[id_]
            in_doubt = other.doubt or id_ in self.cut_short or id_ in self.torn
            return other is not replica and other.directory == directory and not in_doubt

        for epoch in (protocol.opened, *protocol.proposals, protocol.newest):
            members = protocol.sets[epoch]
            if sum(is_good(*each) for each in members.items()) < majority(members):
                return False
        return True


def begin(scope: Scope, missing: Collection[str]) -> Position:
    """Return a position in which epoch 1 is open at replica 0, and all agree."""
    position = Position(Protocol(scope.replicas, scope.sets[0], (), lambda _to, _message: None), [], scope)
    protocol = position.protocol
    primary = protocol.replicas[0]
    protocol.claim(primary, dict.fromkeys(scope.sets[0], 0))
    while primary.phase is not Phase.OPEN or position.network:
        for replica in protocol.replicas:
            protocol.sync(replica)
        while position.network:
            position._deliver(*position.network[0])
        if primary.phase is Phase.VERIFYING:
            for other in protocol.replicas[1:]:
                protocol.append_to(primary, other.id, 0, 0)
        while protocol.proposals:
            protocol.decide_proposal(protocol.proposals.pop())
        protocol.go_on(primary)
    for replica in protocol.replicas:
        protocol.sync(replica)
    position.network.clear()
    protocol.now = 1
    protocol.missing = frozenset(missing)
    return position


def search(scope: Scope, missing: Collection[str] = (), states_max: int = 1_000_000) -> Found:
    """Try every schedule of a scope, depth first; stop at the first broken promise, or behind so many states."""
    root = begin(scope, missing)
    seen = {root.key()}
    path: list[tuple[Position, Iterator[Step], Step]] = [(root, root.steps(), ())]
    while path:
        position, steps, _ = path[-1]
        step = next(steps, None)
        if step is None:
            path.pop()
            continue
        try:
            following = position.after(step)
        except Lost as lost:
            tried = [each[2] for each in path[1:]] + [step]
            return Found(len(seen), shorten(scope, missing, tried), str(lost), complete=False)
        key = following.key()
        if key in seen:
            continue
        seen.add(key)
        if len(seen) >= states_max:
            return Found(len(seen), [], "", complete=False)
        path.append((following, following.steps(), step))
    return Found(len(seen), [], "", complete=True)


class Walk:
    """A random schedule of a small scope. A seed draws the scope, and how likely each step of each replica is."""

    def __init__(self, seed: int, missing: Collection[str] = (), scope: Scope | None = None) -> None:
        self._random = Random(seed)
        self.scope = self._draw_scope() if scope is None else scope
        self.missing = missing
        self.steps: list[Step] = []
        self._weights: dict[Step, float] = {}

    def _draw_scope(self) -> Scope:
        pick = self._random.choice
        replicas = pick((3, 3, 3, 4, 5))
        first = tuple(range(min(3, replicas)))
        others = [
            tuple(sorted(self._random.sample(range(replicas), pick((1, 2, 3))))) for _ in range(pick((0, 0, 1, 2)))
        ]
        return Scope(
            replicas, pick((1, 1, 2, 3)), pick((1, 1, 2, 3)), pick((0, 1, 1, 2)), pick((0, 0, 1)), pick((0, 0, 0, 1)),
            pick((0, 0, 1)), pick((0, 0, 1, 2)), pick((3, 4, 6, 9)), pick(((1,), (0, 1), (1, 2), (2,))), (first, *others),
        )  # fmt: skip

    def run(self, steps_max: int = 60) -> int:
        """Take steps until none is left; return how many records were committed. `Lost` where a promise is broken."""
        position = begin(self.scope, self.missing)
        for _ in range(steps_max):
            steps = list(position.steps())
            if not steps:
                break
            step = self._random.choices(steps, [self._weight(step) for step in steps])[0]
            self.steps.append(step)
            position.take(step)
        return len(position.protocol.committed_log.committed)

    def _weight(self, step: Step) -> float:
        """Return how likely a step is: drawn for each kind and replica, so that links and replicas differ in speed."""
        kind = (*step[:2], step[2][0]) if step[0] == "deliver" and isinstance(step[2], tuple) else step[:3]
        weight = self._weights.get(kind)
        if weight is None:
            weight = self._weights[kind] = self._random.choice((0.02, 0.3, 1, 5))
        return weight


def breaks(scope: Scope, missing: Collection[str], steps: list[Step]) -> bool:
    """Return True if these steps break a promise; those that cannot be taken are left out."""
    position = begin(scope, missing)
    try:
        for step in steps:
            position.take(step)
    except Lost:
        return True
    return False


def shorten(scope: Scope, missing: Collection[str], steps: list[Step]) -> list[Step]:
    """Leave out every step without which the promise is still broken."""
    kept = list(steps)
    shorter = True
    while shorter:
        shorter = False
        for at in range(len(kept) - 1, -1, -1):
            fewer = kept[:at] + kept[at + 1 :]
            if breaks(scope, missing, fewer):
                kept, shorter = fewer, True
    return kept


def describe(step: Step) -> str:
    """Return a step in words: the kind, the replica, and the message that arrives."""
    if step[0] != "deliver":
        return " ".join(map(str, step))
    assert isinstance(step[2], tuple)
    return f"deliver to {step[1]}: {' '.join(map(_in_words, step[2]))}"


def _encode(state: Any) -> bytes:
    return dumps(state, UNSHARED)


def _in_words(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{' '.join(f'{record // EPOCH_UNIT}:{record % EPOCH_UNIT}' for record in value)}]"
    return str(value)

"""Schedules of the consensus group: what happens next, and when, drawn from a seed.

A run draws its own odds first, so that runs differ in kind: quick disks or slow ones, lossy networks, skewed clocks, many
changes of the members or none. Events lie in one heap by true time; a machine sees its own clock. After the faults the group
heals (`healing`).
"""

from __future__ import annotations

from enum import IntEnum
from heapq import heapify, heappop, heappush
from random import Random
from typing import NamedTuple, cast

from waymaker_core.raft.effects import (
    Apply,
    Effect,
    Install,
    Readable,
    Refused,
    Role,
    Send,
    SnapshotWanted,
    Write,
)
from waymaker_core.raft.entries import SnapshotMeta
from waymaker_core.raft.inputs import (
    Applied,
    DiskRecovered,
    DiskStalled,
    Input,
    Propose,
    ProposeChange,
    Read,
    Received,
    Saved,
    SnapshotLost,
    SnapshotTaken,
    Transfer,
)
from waymaker_core.raft.members import Change, ChangeKind, Members
from waymaker_core.raft.messages import Message, SnapshotRequest, VoteRequest, VoteResponse
from waymaker_core.raft.raft import Raft
from waymaker_core.raft.settings import RaftSettings
from waymaker_core.raft.validity import CorruptState
from waymaker_sim.raft.machine import Machine
from waymaker_sim.raft.network import Network
from waymaker_sim.raft.promises import Broken, Watch, broken

START = 1
"""The index at which a group begins."""


class Happening(IntEnum):
    """The kind of an event."""

    MESSAGE = 0
    WAKE = 1
    LATER = 2
    CLIENT = 3
    NEMESIS = 4
    START = 5
    """A machine starts again."""
    CRASH = 6


class Later(NamedTuple):
    """The end of what a run of a machine began: an input, a snapshot that is durable, or, without either, a sync."""

    run: int
    what: SnapshotMeta | Input | None


def draw_settings(random: Random) -> RaftSettings:
    """Draw small bounds, so that short runs reach them."""
    pick = random.choice
    return RaftSettings(
        election_ms=100,
        heartbeat_ms=pick((20, 35, 45)),
        append_entries_max=pick((1, 1, 2, 8, 64)),
        append_bytes_max=pick((40, 200, 10_000)),
        window_entries_max=pick((1, 3, 16, 100)),
        window_bytes_max=pick((100, 1_000, 100_000)),
        uncommitted_bytes_max=pick((200, 2_000, 100_000)),
        log_bytes_max=pick((3_000, 100_000)),
        snapshot_after_entries=pick((4, 12, 40, 1_000)),
        keep_entries=pick((0, 0, 3, 20)),
        snapshot_ms=pick((60, 300)),
        promote_lag_max=pick((0, 3, 10)),
        reads_max=8,
        writes_max=pick((4, 32)),
        held_max=pick((4, 32)),
    )


class Schedule:
    """One run: a seed's draws, the machines, and the events to come."""

    def __init__(self, seed: int) -> None:
        random = self.random = Random(seed)
        pick, self._draw = random.choice, random.random
        self.now = 0
        self.steps = 0
        self._events: list[tuple[int, int, int, int, object]] = []
        self._order = 0
        self.network = Network(random, self._post)
        self.settings = draw_settings(random)
        count = pick((1, 2, 3, 3, 3, 3, 4, 5, 5, 6, 7))
        voters = pick((1, count, count)) if count <= 5 else pick((1, 3, 5))
        first = SnapshotMeta(START, 0, Members(tuple(range(1, voters + 1))))
        skew = pick((0, 0, 50, 200))
        self.machines = [
            Machine(
                id_, self.settings, first if id_ <= voters else SnapshotMeta(),
                1000 + int((self._draw() - 0.5) * skew), random.getrandbits(32),
            )
            for id_ in range(1, count + 1)
        ]  # fmt: skip
        self.watch = Watch(first)
        self._sync_ms = pick((0, 2, 8, 40))
        self._apply_ms = pick((0, 0, 5, 60))
        self._snapshot_lost = pick((0.0, 0.3))
        self._client_ms = pick((3, 8, 25, 80))
        self._reads = pick((0.1, 0.5))
        self._changes = pick((0.0, 0.0, 0.1, 0.3)) if count > 1 else 0.0
        self._nemesis_ms = pick((30, 80, 200, 600))
        self._crash = pick((0.0, 0.2, 0.5))
        self._pause = pick((0.0, 0.1))
        self._stall = pick((0.0, 0.1))
        self._transfer = pick((0.0, 0.1))
        self._besiege = pick((0.0, 0.0, 0.3, 0.8))
        """The odds that a new leader reaches only some of the others, and crashes soon: then logs part."""
        self._crash_voting = pick((0.0, 0.0, 0.1, 0.3))
        """The odds that a machine crashes soon after it wrote a term or vote."""
        self._restart_ms = pick((10, 60, 500))
        self._pause_reading = pick((0.0, 0.0, 0.1))
        """The odds that a leader pauses while it asks who leads: then reads come when another one leads."""
        self._snapshot_ms = pick((0, 30, 200))
        """Time that a snapshot takes longer than another message."""
        if self._draw() < 0.3:
            self._make_stormy()
        self._token = 0
        self.faults = True

    def _make_stormy(self) -> None:
        """Let leaders follow each other quickly, so that logs part often and answers come terms later."""
        odds, draw = self.network.odds, self._draw
        self._besiege = 0.8
        self._nemesis_ms = 60
        self._client_ms = 8
        self._crash = 0.3
        self._restart_ms = 30
        odds.late, odds.late_ms = 0.05 + 0.2 * draw(), 500
        odds.latency_ms = 5

    # ------------------------------------------------------------ running

    def run(self, steps: int) -> int:
        """Take steps with faults, then heal; return how many entries were committed. `Broken` where a promise is."""
        from waymaker_sim.raft.healing import heal

        for machine in self.machines:
            self.start(machine)
        self._later(self._client_ms, Happening.CLIENT)
        self._later(self._nemesis_ms, Happening.NEMESIS)
        while self.steps < steps:
            self.happen()
        self.faults = False
        heal(self)
        return len(self.watch.committed)

    def run_for(self, ms: int) -> None:
        """Let all happen that is due within so many milliseconds."""
        end = self.now + ms
        while self._events and self._events[0][0] <= end:
            self.happen()
        self.now = end

    def happen(self) -> None:
        """Let the next event happen."""
        at, _, kind, id_, what = heappop(self._events)
        self.now = at
        if id_:
            machine = self.machines[id_ - 1]
            if at < machine.paused_until:
                # What waited for it comes in any order; its own deadline is not forgotten.
                resumed = machine.paused_until + int(self._draw() * 3)
                if kind == Happening.WAKE and machine.wake_at == at:
                    machine.wake_at = resumed
                self._push(resumed, kind, id_, what)
            else:
                self._happen_to(machine, kind, what)
        elif kind == Happening.CLIENT:
            if self.faults:
                self._later(1 + int(self._draw() * 2 * self._client_ms), Happening.CLIENT)
                self._ask()
        elif self.faults:
            self._later(1 + int(self._draw() * 2 * self._nemesis_ms), Happening.NEMESIS)
            self._do_harm()

    def _happen_to(self, machine: Machine, kind: int, what: object) -> None:
        if kind == Happening.START:
            if machine.raft is None:
                self.start(machine)
            return
        raft = machine.raft
        if raft is None:
            return
        if kind == Happening.CRASH:
            if self.faults:
                self._crash_or_start(machine)
        elif isinstance(what, Later):
            self._happen_later(machine, raft, what)
        elif kind == Happening.MESSAGE:
            self.step(machine, raft, Received(cast(Message, what)))
        elif machine.wake_at == self.now:
            machine.wake_at = -1
            self.step(machine, raft, None)

    def _happen_later(self, machine: Machine, raft: Raft, later: Later) -> None:
        """Let happen what a run of a machine has begun; nothing if it has crashed since."""
        run, what = later
        if run != machine.runs:
            return
        if what is None:
            self._synced(machine, raft)
        elif isinstance(what, SnapshotMeta):
            if machine.disk.keep_snapshot(what):
                self.step(machine, raft, SnapshotTaken(what.index))
        else:
            self.step(machine, raft, what)

    def forget_late(self) -> None:
        """Lose all messages that are on their way."""
        self._events = [each for each in self._events if each[2] != Happening.MESSAGE]
        heapify(self._events)

    def _push(self, at: int, kind: int, id_: int, what: object) -> None:
        self._order += 1
        heappush(self._events, (at, self._order, kind, id_, what))

    def _later(self, ms: int, kind: int, id_: int = 0, what: object = None) -> None:
        self._push(self.now + ms, kind, id_, what)

    def _post(self, ms: int, message: Message) -> None:
        self._push(self.now + ms, Happening.MESSAGE, message.to, message)

    def _of_run(self, machine: Machine, ms: int, what: SnapshotMeta | Input | None) -> None:
        self._later(ms, Happening.LATER, machine.id, Later(machine.runs, what))

    # ------------------------------------------------------------ a machine

    def start(self, machine: Machine) -> None:
        """Start a machine."""
        try:
            machine.start(self.now)
        except CorruptState as problem:
            broken("nothing is taken back", f"machine {machine.id} cannot restart: {problem}")
        assert machine.raft is not None
        self.step(machine, machine.raft, None)

    def step(self, machine: Machine, raft: Raft, each: Input | None) -> None:
        """Give a member one input, or only the time, and perform its effects."""
        self.steps += 1
        members = raft.members
        try:
            effects = raft.step(machine.local(self.now), () if each is None else (each,))
        except Exception as problem:
            broken("no contradiction", f"machine {machine.id} at {each}: {problem!r}")
        for effect in effects:
            if type(effect) is Write:
                self.watch.wrote(machine, raft, effect)
        former, machine.members_index = machine.members_index, raft.members_index
        led = machine.role == Role.LEADER
        if machine.members_index != former and led and raft.role == Role.LEADER:
            self.watch.changes(machine, raft, members, former, self.machines)
        if raft.role != machine.role or raft.term != machine.term:
            machine.role, machine.term = raft.role, raft.term
            if raft.role == Role.LEADER:
                self.watch.leads(machine, raft)
                if self._besiege and self.faults and self._draw() < self._besiege:
                    self._besiege_leader(machine)
        if raft.commit != machine.commit:
            self.watch.commits(machine, raft, led, self.machines)
        for effect in effects:
            self._perform(machine, raft, effect)
        if raft.contradictions:
            broken("no contradiction", f"machine {machine.id} at {each}")
        deadline = machine.true(raft.next_deadline())
        wake_at = deadline if deadline > self.now else self.now + 1
        if machine.wake_at < 0 or wake_at < machine.wake_at or machine.wake_at <= self.now:
            if deadline < 1 << 60:
                machine.wake_at = wake_at
                self._push(wake_at, Happening.WAKE, machine.id, None)

    def _perform(self, machine: Machine, raft: Raft, effect: Effect) -> None:
        if isinstance(effect, Send):
            message = effect.message
            if isinstance(message, VoteRequest | VoteResponse):
                self._send_vote(machine, message)
            elif isinstance(message, SnapshotRequest):
                self._send_snapshot(machine, message)
            else:
                self.network.send(message)
        elif isinstance(effect, Write | Install):
            if isinstance(effect, Install):
                self.watch.installed(machine, effect)
            elif effect.hard is not None and self._crash_voting and self.faults and self._draw() < self._crash_voting:
                self._later(1 + int(self._draw() * 10), Happening.CRASH, machine.id)
            machine.disk.pending.append(effect)
            self._sync(machine)
        elif isinstance(effect, Apply):
            self.watch.applied(machine, effect)
            self._of_run(machine, int(self._draw() * self._apply_ms), Applied(machine.applied))
        elif isinstance(effect, Readable):
            self.watch.readable(effect)
        elif isinstance(effect, SnapshotWanted):
            self.watch.snapshot(effect.snapshot)
            self._of_run(machine, int(self._draw() * 30), effect.snapshot)
        elif isinstance(effect, Refused):
            self.watch.asked.pop(effect.token, None)

    def _send_vote(self, machine: Machine, message: VoteRequest | VoteResponse) -> None:
        if not message.pre:
            if isinstance(message, VoteRequest):
                self.watch.voted(machine, message.term, machine.id)
            elif message.granted:
                self.watch.voted(machine, message.term, message.to)
        self.network.send(message)

    def _send_snapshot(self, machine: Machine, message: SnapshotRequest) -> None:
        """Send a snapshot with its payload, which is the applied index here, or lose it and say so."""
        if machine.disk.snapshot != message.snapshot:
            broken("snapshot is committed", f"machine {machine.id} sends a snapshot that it does not have")
        if not self.faults:
            self.network.send(message)
        elif self._draw() < self._snapshot_lost:
            self._of_run(machine, 5, SnapshotLost(message.to))
        elif (machine.id, message.to) not in self.network.cut:
            self._post(1 + int(self._draw() * self._snapshot_ms), message)

    def _sync(self, machine: Machine) -> None:
        disk = machine.disk
        if disk.pending and not machine.syncing and not machine.stalled:
            machine.syncing = len(disk.pending)
            delay = int(self._draw() * self._sync_ms)
            self._of_run(machine, delay, None)

    def _synced(self, machine: Machine, raft: Raft) -> None:
        if machine.stalled or not machine.syncing:
            return
        number = machine.disk.sync(machine.syncing)
        machine.syncing = 0
        self._sync(machine)
        self.step(machine, raft, Saved(number))

    # ------------------------------------------------------------ clients

    def _ask(self) -> None:
        """Let a client ask: mostly the machines that lead, or think so."""
        up = [each for each in self.machines if each.raft is not None]
        leaders = [each for each in up if each.role == Role.LEADER]
        some = leaders if leaders and self._draw() < 0.9 else up
        if not some:
            return
        machine = some[int(self._draw() * len(some))]
        raft = machine.raft
        assert raft is not None
        self._token += 1
        chance = self._draw()
        each: Input
        if chance < self._changes:
            each = ProposeChange(self._token, self._draw_change(raft))
        elif chance < self._changes + self._transfer * 0.3:
            each = Transfer(self._token, int(self._draw() * (len(self.machines) + 1)))
        elif self._draw() < self._reads:
            self.watch.ask(self._token)
            each = Read(self._token)
        else:
            each = Propose(self._token, b"%d" % self._token)
        if machine.paused_until > self.now:
            self._of_run(machine, 0, each)
        else:
            self.step(machine, raft, each)
            if self._pause_reading and isinstance(each, Read) and self._draw() < self._pause_reading:
                machine.paused_until = self.now + 120 + int(self._draw() * 200)

    def _draw_change(self, raft: Raft) -> Change:
        """Draw a change that is likely to fit: learners are mostly promoted, others mostly added."""
        node = 1 + int(self._draw() * len(self.machines))
        members = raft.members
        if node in members.learners:
            kind = ChangeKind.PROMOTE if self._draw() < 0.8 else ChangeKind.REMOVE
        elif node in members.voters:
            kind = ChangeKind.REMOVE if self._draw() < 0.7 else ChangeKind.DEMOTE
        else:
            kind = ChangeKind.ADD_LEARNER
        return Change(kind, node)

    # ------------------------------------------------------------ faults

    def _do_harm(self) -> None:
        draw = self._draw
        for machine in self.machines:
            if machine.raft is not None:
                self.watch.bounds(machine, machine.raft)
        machine = self.machines[int(draw() * len(self.machines))]
        chance = draw()
        if chance < self._crash:
            self._crash_or_start(machine)
        elif chance < self._crash + self._pause:
            machine.paused_until = self.now + int(draw() * 400)
        elif chance < self._crash + self._pause + self._stall:
            self._stall_or_recover(machine)
        elif draw() < 0.4:
            self.network.mend()
        else:
            self._part()

    def _part(self) -> None:
        """Part the machines in two, or cut one off, perhaps in one direction only."""
        ids = [each.id for each in self.machines]
        size = 1 if self._draw() < 0.6 else 1 + int(self._draw() * len(ids))
        inside = self.random.sample(ids, min(size, len(ids)))
        way = self._draw()
        if self._draw() < 0.7:
            self.network.mend()
        self.network.cut_off(inside, ids, inward=way < 0.75, outward=way < 0.5 or way >= 0.75)

    def _besiege_leader(self, machine: Machine) -> None:
        """Let a new leader reach only some of the others, its first entry included, ask it for more, and perhaps crash it."""
        ids = [each.id for each in self.machines if self._draw() < 0.6]
        self.network.mend()
        self.network.cut_off([machine.id], ids, inward=self._draw() < 0.5, outward=self._draw() < 0.8)
        for _ in range(int(self._draw() * 4)):
            self._token += 1
            self._of_run(machine, int(self._draw() * 30), Propose(self._token, b"%d" % self._token))
        if self._draw() < 0.5:
            self._later(int(self._draw() * 80), Happening.CRASH, machine.id)

    def _crash_or_start(self, machine: Machine) -> None:
        if machine.raft is None:
            self.start(machine)
            return
        pending = len(machine.disk.pending)
        machine.stop(int(self._draw() * (pending + 1)), int(self._draw() * 4))
        self._later(1 + int(self._draw() * self._restart_ms), Happening.START, machine.id)

    def _stall_or_recover(self, machine: Machine) -> None:
        raft = machine.raft
        if raft is None:
            return
        if machine.stalled:
            self.recover(machine, raft)
        else:
            self.stall(machine, raft)

    def stall(self, machine: Machine, raft: Raft) -> None:
        """Let a disk make nothing durable any more, and its member know."""
        machine.stalled = True
        self.step(machine, raft, DiskStalled())

    def recover(self, machine: Machine, raft: Raft) -> None:
        """Let a disk go on."""
        machine.stalled = False
        machine.syncing = 0
        self._sync(machine)
        self.step(machine, raft, DiskRecovered())


__all__ = ["START", "Broken", "Happening", "Schedule"]

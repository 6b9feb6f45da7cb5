"""The machines of a simulated cluster: each a process with a disk, clocks and faults of its own, on one network.

A machine's clocks are skewed: the monotonic one runs at a rate of its own, the wall clock is off by some time. Ten times a
virtual second each may be killed, lose power, pause, or see its clock jump or its disk fill; now and then a disk loses what it
said it had, as far as the atlas permits. Where the plan says so, a minority at most is in trouble at the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from waymaker_core.api.effects import Effect, Log
from waymaker_core.api.inputs import Input
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.limits import Limits
from waymaker_core.model.types import Now
from waymaker_core.node import NodeConfig, open_node
from waymaker_core.storage.errors import StoreRefused
from waymaker_sim.cluster.atlas import Atlas, Copy
from waymaker_sim.cluster.network import Network, NetworkPlan, Port, draw_network_plan
from waymaker_sim.cluster.peers import ALONE, PeerKinds, Redirectable, lane_of
from waymaker_sim.kernel.checks import violated
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import MS, SECOND, Events
from waymaker_sim.kernel.tape import Tape, Track
from waymaker_sim.machine.callers import StepId
from waymaker_sim.machine.disk import PLENTY, DiskFaults, SimDisk
from waymaker_sim.machine.pace import Pace
from waymaker_sim.machine.process import NodeRaised, Opener, Process
from waymaker_sim.machine.process_state import State
from waymaker_sim.machine.swarm import ORDINARY, tiny_limits
from waymaker_sim.world.world import INVARIANT_STEPS, check_node

TICK_NS = 100 * MS


@dataclass(slots=True)
class MachinesPlan:
    """The kind of a run's machines. Odds are per million, machine and tick of the nemesis."""

    count: int = 3
    limits: Limits = field(default_factory=lambda: ORDINARY)
    network: NetworkPlan = field(default_factory=NetworkPlan)
    disk: DiskFaults = field(default_factory=DiskFaults)
    pace: Pace = field(default_factory=Pace)
    minority: bool = False
    """True if most machines are well at any time."""
    rate_ppm: int = 0
    """Bound of the rates of the monotonic clocks."""
    skew_ms: int = 0
    """Bound of the errors of the wall clocks."""
    kill: int = 0
    kill_at_effect: int = 0
    power: int = 0
    pause: int = 0
    full: int = 0
    wall_jump: int = 0
    lose_directory: int = 0
    damage: int = 0
    tear_synced: int = 0
    """Losses of power at which the disk has not what it said was synced."""
    tears_show: bool = False
    """True if a reader can see that the end of the journal is torn (`SimDisk.tear_synced`)."""
    down_ns: int = 3 * SECOND


def draw_machines_plan(track: Track, count: int) -> MachinesPlan:
    """Draw the machines of a run: each kind of fault is present in some runs only."""
    limits = tiny_limits(track) if track.draw("tiny", 2) else ORDINARY
    plan = MachinesPlan(count=count, limits=limits, network=draw_network_plan(track))
    plan.minority = track.draw("minority", 2) == 1
    plan.rate_ppm = track.pick("rates", [0, 50, 1_000, 20_000])
    plan.skew_ms = track.pick("skew", [0, 5, 400, 60_000])
    plan.kill = track.pick("kill", [0, 5_000, 30_000])
    plan.kill_at_effect = track.pick("kill at effect", [0, 5_000, 30_000])
    plan.power = track.pick("power", [0, 5_000, 30_000])
    plan.pause = track.pick("pause", [0, 5_000, 30_000])
    plan.full = track.pick("full", [0, 0, 10_000])
    plan.wall_jump = track.pick("wall jump", [0, 0, 20_000])
    plan.lose_directory = track.pick("lost directories", [0, 0, 10_000])
    plan.damage = track.pick("damage", [0, 0, 10_000])
    plan.tear_synced = track.pick("lying disks", [0, 0, 10_000])
    plan.down_ns = track.pick("down for", [3 * SECOND, 200 * MS])
    plan.pace = Pace(
        sync_ns=track.pick("sync", [300_000, 100_000, 3 * MS, 20 * MS]),
        slow_per_million=track.pick("slow", [0, 0, 1_000]),
    )
    if not plan.minority:  # a node halts on these, whenever they come
        plan.disk.sync_error = track.pick("sync error", [0, 0, 1_000])
        plan.disk.write_error = track.pick("write error", [0, 0, 1_000])
    return plan


ConfigOf = Callable[[int, int], NodeConfig]
"""Returns the settings of a machine's node, by the machine's number and that of its directory, which begins with 1."""
Feed = Callable[[Atlas, Process], None]
"""Reports the copies of a process that has stepped."""


def config_with(limits: Limits) -> ConfigOf:
    """Return settings that name each directory, and nothing else."""

    def config_of(number: int, directory: int) -> NodeConfig:
        return NodeConfig(number, number.to_bytes(8, "big") + directory.to_bytes(8, "big"), limits)

    return config_of


class Machines:
    """All machines of one world, by number from 1 on, and the network between them."""

    def __init__(
        self,
        tape: Tape,
        plan: MachinesPlan,
        *,
        opener: Opener = open_node,
        config_of: ConfigOf | None = None,
        kinds: PeerKinds = ALONE,
        digest: Digest | None = None,
        feed: Feed = lambda atlas, process: None,
    ) -> None:
        self.tape = tape
        self.plan = plan
        self.kinds = kinds
        self.digest = digest
        self.events = Events()
        self.marks: Counter[str] = Counter()
        self.atlas = Atlas()
        self.network = Network(self.events, tape, plan.network, self.mark)
        self.network.may_trouble = self.may_trouble
        self.crashes = 0
        self.faulty = True
        self.on_step: Callable[[Process, Now, list[Input], list[Effect]], None] = lambda *step: None
        self.on_start: Callable[[Process], None] = lambda process: None
        self._feed = feed
        self._config_of = config_of or config_with(plan.limits)
        self._directories: Counter[int] = Counter()
        self._tracks = {number: tape.track(f"nemesis {number}") for number in range(1, plan.count + 1)}
        self._full_until_ns: dict[int, int] = {}
        self._skews_ms: dict[int, int] = {}
        self._torn: dict[int, str] = {}
        """By machine: the path of the last synced end that its disk lost."""
        self.machines = {number: self._machine(number, opener) for number in range(1, plan.count + 1)}

    def _machine(self, number: int, opener: Opener) -> Process:
        plan, tape = self.plan, self.tape
        disk = SimDisk(replace(plan.disk), tape.track(f"disk {number}"))
        machine, reads = tape.track(f"machine {number}"), tape.track(f"late reads {number}")
        config = self._config_of(number, self._directories[number] + 1)
        process = Process(number, self.events, disk, config, machine, reads, plan.pace, opener)
        clocks = tape.track(f"clocks {number}")
        process.rate_ppm = self._off("rate", clocks, plan.rate_ppm)
        self._skews_ms[number] = self._off("skew", clocks, plan.skew_ms)
        process.jump_wall(self._skews_ms[number])
        process.on_stop = partial(self._stop, process)
        process.on_down = partial(self._down, process)
        process.on_up = partial(self._up, process)
        process.on_step = self._stepped
        process.on_log = partial(self._logged, process)
        process.on_other = partial(self._perform, process)
        receive = partial(self._receive, process)
        self.network.attach(number, Port(receive, process.reads_from_ns))
        return process

    def _off(self, what: str, track: Track, bound: int) -> int:
        """Draw by how much a clock is off."""
        by = track.magnitude(what, bound) if bound else 0
        if by:
            self.mark(f"clock {what}")
        return -by if by and track.draw(f"{what} is negative", 2) else by

    def mark(self, name: str) -> None:
        """Count a situation."""
        self.marks[name] += 1

    # ------------------------------------------------------------ running

    def start(self) -> None:
        """Start all machines, and the nemesis."""
        for process in self.machines.values():
            process.start()
        self._tick()

    def _tick(self) -> None:
        if self.faulty:
            self.act()
            self.events.after(TICK_NS, self._tick)

    def run_for(self, ns: int, stop: Callable[[], bool] | None = None) -> None:
        """Let time pass, or let the world go on until `stop` returns True after an event."""
        if stop is None or not stop():
            self.events.run_until(self.events.now_ns + ns, stop)

    def _receive(self, process: Process, sender: int, data: bytes) -> bool:
        return process.receive(self.kinds.from_peer(sender, data))

    def _perform(self, process: Process, effect: Any, step_id: StepId) -> None:
        if isinstance(effect, self.kinds.to_peer):
            self.network.send(process.number, effect.to, lane_of(effect), effect.data)
        elif isinstance(effect, self.kinds.elsewhere):
            caller = process.take_caller(effect.token)
            if caller is not None:
                cast(Redirectable, caller).redirected(effect.node_id, effect.epoch)
        else:
            raise NodeRaised(f"step {step_id.step}: no machine takes {type(effect).__name__}")

    def _stepped(self, process: Process, now: Now, inputs: list[Input], effects: list[Effect]) -> None:
        if self.digest is not None:
            self.kinds.add_step(self.digest, process.number, now, inputs, effects)
        self._feed(self.atlas, process)
        self.on_step(process, now, inputs, effects)
        if process.steps % INVARIANT_STEPS == 1:
            check_node(process)

    def up(self) -> list[int]:
        """Return the machines that serve."""
        return [number for number, process in self.machines.items() if process.state is State.UP]

    # ------------------------------------------------------------ stops and starts

    def _stop(self, process: Process) -> None:
        """Let a stop tear the journal only if the atlas permits that the machine doubts its copies from then on."""
        process.disk.faults.whole = not self.atlas.permits_tear(process.number)
        if process.disk.faults.whole:
            self.mark("tear forbidden by the atlas")

    def _up(self, process: Process) -> None:
        process.disk.torn = False
        self.atlas.started(process.number)
        self.on_start(process)

    def _down(self, process: Process) -> None:
        """Note that a process stopped or did not start, and schedule its next start."""
        refusal, number = process.refusal, process.number
        self.crashes += 1
        if process.disk.torn:
            self.atlas.lost(number)
        self.network.stopped(number)
        if self.digest is not None:
            self.digest.add(f"{self.events.now_ns} machine {number} down: {refusal}")
        if isinstance(refusal, StoreRefused):
            if refusal.path not in (*process.disk.rotten_paths(), self._torn.get(number)):
                violated("recovery honest", f"machine {number} refused to start: {refusal}")
            self.mark("damaged directory replaced")
            self._replace_directory(process)
        elif refusal is not None and not isinstance(refusal, DiskFailure):
            violated("node raised", f"machine {number}, recovery: {type(refusal).__name__}: {refusal}")
        if process.halted is not None:
            self.mark("halted: " + ("clean" if process.halted.clean else "unclean"))
        delay_ns = MS + (self._tracks[number].magnitude("down for", self.plan.down_ns) if self.faulty else 0)
        self.events.after(delay_ns, partial(self._restart, process, process.run))

    def _logged(self, process: Process, log: Log) -> None:
        self.mark(f"log {log.event}")
        if log.event == "quarantined" and process.number in self._torn:
            self.events.after(MS, partial(self._replace_damaged, process, process.run))

    def _replace_damaged(self, process: Process, run: int) -> None:
        """Replace the directory in which a stream is damaged, as an operator does: once the atlas permits it.

        A frame behind a synced end that the disk has lost may prove what is missing. No member gets another copy of a damaged
        stream by itself.
        """
        if process.run != run or process.state is not State.UP:
            return
        if self.atlas.permits(process.number):
            self.mark("directory of a damaged stream replaced")
            process.lose_power()
            self._replace_directory(process)
        else:
            self.events.after(TICK_NS, partial(self._replace_damaged, process, run))

    def _restart(self, process: Process, run: int) -> None:
        if process.run == run and process.state in (State.DOWN, State.REFUSED):
            self.mark("restart")
            process.start()

    def _replace_directory(self, process: Process) -> None:
        """Give a machine that is down an empty disk, and its node the identity of a new directory."""
        process.disk.wipe()
        self._torn.pop(process.number, None)
        self.atlas.replaced(process.number)
        self._directories[process.number] += 1
        process.config = self._config_of(process.number, self._directories[process.number] + 1)

    # ------------------------------------------------------------ faults

    def troubled(self) -> list[int]:
        """Return the machines that cannot work now as they should, or will not soon."""
        now_ns, parted = self.events.now_ns, self.network.troubled()
        return [
            number
            for number, process in self.machines.items()
            if process.state is not State.UP
            or process.effects_left is not None
            or process.reads_from_ns() > now_ns
            or self._full_until_ns.get(number, 0) > now_ns
            or number in parted
        ]

    def may_trouble(self, machines: Sequence[int]) -> bool:
        """Return True if the plan lets these machines be in trouble, beside those that are."""
        return not self.plan.minority or len({*self.troubled(), *machines}) <= (self.plan.count - 1) // 2

    def act(self) -> None:
        """Draw faults of the network and of each machine, and perform them."""
        self.network.act()
        for number, process in self.machines.items():
            self._tracks[number].begin()
            process.begin_span()
            self._harm(process, self._tracks[number])

    def _harm(self, process: Process, track: Track) -> None:
        plan, number = self.plan, process.number
        if track.chance("clock jump", plan.wall_jump):
            sign = -1 if track.draw("direction", 2) else 1
            process.jump_wall(sign * track.magnitude("clock jump by", 100_000))
            self.mark("clock jumped back" if sign < 0 else "clock jumped ahead")
        if process.state is State.BOOTING and track.chance("power", plan.power):
            self.mark("crash while recovering")
            process.lose_power()
        if process.state is not State.UP:
            return
        kinds = (
            ("kill", plan.kill, process.kill),
            ("power loss", plan.power, process.lose_power),
            ("kill at effect", plan.kill_at_effect, partial(self._plan_kill, process, track)),
            ("pause", plan.pause, partial(self._pause, process, track)),
            ("disk full", plan.full, partial(self._fill, process, track)),
            ("directory lost", plan.lose_directory, partial(self._lose_directory, process)),
            ("damage", plan.damage, partial(self._damage, process, track)),
            ("synced end torn", plan.tear_synced, partial(self._tear_synced, process, track)),
        )
        for kind, odds, harm in kinds:
            if track.chance(kind, odds):
                if not self.may_trouble([number]):
                    self.mark("fault withheld: a majority stays well")
                else:
                    self.mark(kind) if harm() is not False else None
                return

    def _plan_kill(self, process: Process, track: Track) -> None:
        process.effects_left = track.draw("effects left", 50)

    def _pause(self, process: Process, track: Track) -> None:
        process.pause(MS + track.draw("pause for", 3 * SECOND))

    def _fill(self, process: Process, track: Track) -> None:
        disk, number = process.disk, process.number
        disk.faults.capacity = disk.used_bytes() + track.magnitude("room left", 100_000)
        until_ns = self.events.now_ns + 100 * MS + track.magnitude("full for", 5 * SECOND)
        self._full_until_ns[number] = until_ns
        self.events.at(until_ns, partial(self._free, process, until_ns))

    def _free(self, process: Process, until_ns: int) -> None:
        if self._full_until_ns.get(process.number) == until_ns:
            process.disk.faults.capacity = PLENTY

    def _permitted(self, machine: int) -> bool:
        """Return True if the atlas permits that a machine loses its copies."""
        permitted = self.atlas.permits(machine)
        if not permitted:
            self.mark("fault forbidden by the atlas")
        return permitted

    def _lose_directory(self, process: Process) -> bool:
        if not self._permitted(process.number):
            return False
        process.lose_power()
        self._replace_directory(process)
        return True

    def _damage(self, process: Process, track: Track) -> bool:
        if not self._permitted(process.number):
            return False
        rotten = process.disk.rot(track)
        if rotten is not None:
            self.atlas.damage(process.number)
            process.fault("bit rot", f"{rotten[0]}: a bit of byte {rotten[1]:,} flips")
        return rotten is not None

    def _tear_synced(self, process: Process, track: Track) -> bool:
        if not self._permitted(process.number):
            return False
        process.lose_power()
        torn = process.disk.tear_synced(track, self.plan.tears_show)
        if torn is not None:
            self.atlas.lost(process.number)
            # A frame behind it may prove that it was synced: then the node refuses to start, as with any damage.
            self._torn[process.number] = torn[0]
            process.fault("lost", f"{torn[0]}: zeros from byte {torn[1]:,} on, which was synced")
        return torn is not None

    def heal(self) -> None:
        """End all faults: the network is whole, disks have room and work, clocks are right, and what is down starts."""
        self.faulty = False
        self.network.heal()
        for number, process in self.machines.items():
            process.disk.faults = DiskFaults()
            process.effects_left = None
            self._full_until_ns.pop(number, None)
            process.wall_base_ms = Process.FIRST_WALL_MS

    def await_up(self, ns: int = 30 * SECOND) -> None:
        """Let the world go on until every machine serves."""
        self.run_for(ns, lambda: len(self.up()) == self.plan.count)
        for number, process in self.machines.items():
            if process.state is not State.UP:
                violated("comes up", f"machine {number} is {process.state.value}: {process.refusal!r}")


def report_alone(atlas: Atlas, process: Process) -> None:
    """Report the logs of a node without replicas: it has the only copies of its streams."""
    if process.node is not None:
        for log in process.node.log_figures():
            if not log.memory:
                stream = process.number, log.stream_id
                atlas.place(stream, (process.number,))
                atlas.report(process.number, stream, Copy(1, log.durable))

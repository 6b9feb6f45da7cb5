"""A world whose server is a cluster: the clients and checks of a world with one process, on members that agree and replicate.

The clients make their calls over routes. All that several members can do wrong is looked for at every step (`primaries`), and
once faults have stopped all replicas must come to the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial

from waymaker_core.api.effects import Effect, End
from waymaker_core.api.inputs import Input, Report
from waymaker_core.cluster.effects import Elsewhere, FromPeer, ToPeer
from waymaker_core.cluster.member import Member, open_member
from waymaker_core.model.disk_ops import DiskOp, OpResult
from waymaker_core.model.types import Now
from waymaker_core.node import NodeConfig
from waymaker_sim.checkers.copies_audit import CopiesAudit, lagging_sources
from waymaker_sim.cluster.machines import Machines, MachinesPlan, config_with
from waymaker_sim.cluster.peers import PeerKinds
from waymaker_sim.history.groups import FOREVER_NS
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import MS, SECOND, Events
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.access import Access
from waymaker_sim.machine.observations import Seen, losses, observe
from waymaker_sim.machine.process import Process
from waymaker_sim.machine.swarm import Plan, plan_of
from waymaker_sim.members.access import ClusterAccess
from waymaker_sim.members.convergence import lagging, unlike
from waymaker_sim.members.copies import Copies
from waymaker_sim.members.expiries import wait_ms
from waymaker_sim.members.log_views import LogViews
from waymaker_sim.members.primaries import Primaries
from waymaker_sim.members.world import draw_members_plan
from waymaker_sim.world.world import HEAL_NS, PatientAsker, World

KINDS = PeerKinds(ToPeer, FromPeer, Elsewhere)
CLUSTER_IDLE_NS = 4 * SECOND
"""Still longer than any wait for an ack, any nak delay, and any work of a client. Each second has hundreds of steps."""
LOOK_NS = 5 * MS
"""Time between two looks at all logs of all members."""
SERVICES = ["", "", "", "keys", "keys closely", "stores", "guests", "sources", "sketches"]
"""Clients beside those of streams; a world has one of them, or none."""


class ClusterWorld(World):
    """One run of a cluster. `counts`: the numbers of members to draw from."""

    idle_ns = CLUSTER_IDLE_NS

    def __init__(
        self,
        tape: Tape,
        digest: Digest | None = None,
        adapt: Callable[[Plan], None] | None = None,
        *,
        counts: range = range(3, 4),
        adapt_machines: Callable[[MachinesPlan], None] = lambda plan: None,
    ) -> None:
        self._counts = counts
        self._adapt_machines = adapt_machines
        super().__init__(tape, digest, adapt)

    # ------------------------------------------------------------ the machines

    def draw_plan(self) -> Plan:
        """Draw the kind of this world: clients as in a world with one process, but for those that have no place here yet."""
        swarm = self.tape.track("swarm of members")
        count = self._counts[swarm.draw("members", len(self._counts))]
        machines = self.machines_plan = draw_members_plan(swarm, count)
        self._adapt_machines(machines)
        plan = plan_of(self.tape)
        plan.limits, plan.pace, plan.disk = machines.limits, machines.pace, machines.disk
        plan.full, plan.wall_jump = machines.full, machines.wall_jump or int(machines.skew_ms > 0)
        plan.rot = plan.clock_wrong = plan.sync_interval_ms = plan.kill = plan.power = 0
        plan.quorum, plan.old_format = None, False
        plan.think_ns, plan.faults_ns = max(plan.think_ns, 20 * MS), min(plan.faults_ns, 12 * SECOND)
        plan.dry_runs = plan.archives = plan.objects = False
        service = self.tape.track("services of members").pick("service", SERVICES)
        plan.keys_closely = service == "keys closely"
        plan.buckets = plan.keys_closely or service == "keys"
        plan.stores = plan.sets = service == "stores"
        plan.guests = service == "guests"
        plan.sources, plan.sketches = service == "sources", service == "sketches"
        if not service:
            self.quiet_ns = 0  # what slow clients do still falls into the time without deliveries
        return plan

    def make_machines(self) -> tuple[list[Process], Events, Access]:
        """Return the members, their queue of events, and the clients' access to them."""
        plan = self.machines_plan
        self._seeds = self.tape.track("seeds of members")
        settings = config_with(plan.limits)
        members = tuple(range(1, plan.count + 1))

        def config_of(number: int, directory: int) -> NodeConfig:
            return replace(settings(number, directory), member=True, members=members)

        cluster = self.cluster = Machines(
            self.tape,
            plan,
            opener=self._open,
            config_of=config_of,
            kinds=KINDS,
            digest=self.digest,
            feed=Copies().feed,
        )
        self.primaries, self.log_views = Primaries(), LogViews()
        self.access = ClusterAccess(cluster, self.primaries)
        return list(cluster.machines.values()), cluster.events, self.access

    def _open(self, config: NodeConfig, now: Now) -> Generator[DiskOp, OpResult, Member]:
        return open_member(config, now, self._seeds.draw("seed", 1 << 32))

    def watch_machines(self) -> None:
        """Look at every step of the members."""
        self.cluster.on_step = self._member_stepped
        self.view.rate_ppm = self.machines_plan.rate_ppm
        if self.machines_plan.skew_ms or self.machines_plan.wall_jump:
            self.history.clock_set_ns = FOREVER_NS

    def start_machines(self) -> None:
        """Start all members, and their faults."""
        self.cluster.start()

    def repeat_faults(self) -> None:
        """Do nothing: the machines harm themselves."""

    def _member_stepped(self, process: Process, now: Now, inputs: Sequence[Input], effects: Sequence[Effect]) -> None:
        changes = self.primaries.changes
        self.primaries.stepped(process, inputs, effects)
        self.log_views.stepped(process)
        if changes != self.primaries.changes:
            # What only a primary knew is lost, as at an abrupt stop of the only process.
            self.history.abrupt_stops += 1
            self.history.abrupt_ns = self.events.now_ns
        if self.access.settled_ns >= 0 and isinstance(process.server, Member):
            self.view.held.stepped(process, process.server.node)
        over = [effect.token for effect in effects if isinstance(effect, End)]
        for item in inputs:
            if isinstance(item, Report) and item.token not in over:
                token = self.access.client_token(process.number, item.token)
                if token is not None:
                    self.view.reported(token, item.count)

    def repeat(self, act: Callable[[], None], who: str, wanted: Callable[[], bool]) -> None:
        """Act once in each turn, over the client's own route."""
        number = sum(who.encode())

        def routed() -> None:
            self.access.act_as(number)
            act()

        super().repeat(routed, who, wanted)

    # ------------------------------------------------------------ healing and rest

    def end_faults(self) -> None:
        """End all faults, and set all clocks right."""
        self.cluster.heal()
        self.machines_plan.pace.slow_per_million = 0
        now_ns = self.events.now_ns
        history = self.history
        if history.clock_set_ns == FOREVER_NS:
            history.clock_set_ns = history.clock_right_ns = now_ns
            for incarnation in history.incarnations:
                incarnation.corrected_ms = Process.FIRST_WALL_MS + now_ns // MS

    def run(self) -> None:
        """Run all three phases."""
        try:
            super().run()
        finally:
            self.crashes = self.cluster.crashes
            for name, count in self.cluster.marks.items():
                self.view.marks[name] = self.view.marks.get(name, 0) + count

    def _rest(self) -> None:
        self.access.settled_ns = self.events.now_ns
        self.view.held.forget()  # what a machine held that has stopped
        super()._rest()

    def _drain(self) -> bool:
        drained = super()._drain()
        # What expires goes before it is looked at: a restart removes nothing then.
        while self._ages() and (rest_ms := wait_ms(observe(PatientAsker(self.view)), self._wall_ms())):
            self.events.run_until(self.events.now_ns + rest_ms * MS)
        return drained

    def _ages(self) -> bool:
        """Return True if messages of some stream may expire."""
        known = [each for each in self.history.incarnations if not each.ended]
        return any(config.max_age_ms for incarnation in known for config in incarnation.configs)

    def _wall_ms(self) -> int:
        return Process.FIRST_WALL_MS + self.events.now_ns // MS

    def _await_leaders(self) -> None:
        """Let the world go on until each log is led, and applied to its end everywhere."""
        deadline_ns = self.events.now_ns + HEAL_NS
        while self.events.now_ns < deadline_ns and not (self.serves_all() and not lagging(self.machines)):
            self.events.run_until(self.events.now_ns + LOOK_NS)

    def check_restarts(self, seen: Seen) -> None:
        """Require that all replicas come to the same state, and that restarts of all members change nothing."""
        self._converge()
        self._check_sketches(seen)
        for crash in (Process.kill, Process.lose_power):
            for machine in self.machines:
                crash(machine)
            self._await_leaders()
            require(self.serves_all(), "comes up", "after the audit, some member does not start")
            if self.copyist is not None:
                # Another member may lead what copies now, and have the source that the former one had not.
                self._catch_up(self.copyist, partial(lagging_sources, view=self.view))
            self._converge()
            before, seen = seen, observe(PatientAsker(self.view))
            found = losses(before, seen)
            require(not found, "recovery twice", f"after {crash.__name__} of all members: {found}")
            if self.copyist is not None:
                CopiesAudit(self.view, self.history).check(seen)
            self._check_sketches(seen)

    def _converge(self) -> None:
        deadline_ns = self.events.now_ns + HEAL_NS
        while found := lagging(self.machines) or unlike(self.machines, self.tape.track("copies of disks")):
            if self.cluster.marks["log snapshot_needed"]:
                found += " (some member lacks records that its primary has no more)"
            require(self.events.now_ns < deadline_ns, "replicas converge", found)
            self.events.run_until(self.events.now_ns + SECOND // 4)
        self.view.mark("replicas compared")


def world_of(counts: range) -> Callable[..., ClusterWorld]:
    """Return a maker of worlds with so many members."""
    return partial(ClusterWorld, counts=counts)

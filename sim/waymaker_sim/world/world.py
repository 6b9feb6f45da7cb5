"""A world: machines, clients and faults, in one queue of events, in three phases.

First faults: clients work while machines crash, disks fail and clocks jump. Then a healthy world: faults end, the node
must start and make progress. Then rest: nothing new is published, consumers drain, every caller has been answered, the
audit reads everything, and two more restarts must change nothing.

There is a list of machines and one queue of events; a network between machines is one more actor.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import partial

from waymaker_core.api.effects import Effect, End, Log
from waymaker_core.api.inputs import Input, Report
from waymaker_core.api.requests import Request
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import Now
from waymaker_core.node import NodeConfig
from waymaker_core.storage.errors import StoreRefused
from waymaker_sim.checkers.adoptions import Adoptions
from waymaker_sim.checkers.audit import Audit
from waymaker_sim.checkers.copies_audit import CopiesAudit, lagging_sources
from waymaker_sim.checkers.interval_sync import IntervalSync
from waymaker_sim.checkers.majorities import Majorities
from waymaker_sim.checkers.space_reclaimed import empty_the_disk
from waymaker_sim.clients.administrator import Administrator
from waymaker_sim.clients.backup_client import BackupClient
from waymaker_sim.clients.client_view import Ask, ClientView
from waymaker_sim.clients.copyist import Copyist
from waymaker_sim.clients.guests import Guest
from waymaker_sim.clients.object_client import BUCKET, ObjectClient
from waymaker_sim.clients.producer import Producer
from waymaker_sim.clients.publisher import Publisher, Reader, Refused
from waymaker_sim.clients.set_client import SetClient
from waymaker_sim.clients.sketch_feeder import SketchFeeder
from waymaker_sim.clients.store_client import StoreClient
from waymaker_sim.clients.strays import Strays
from waymaker_sim.clients.watcher import Watcher
from waymaker_sim.clients.worker import Worker
from waymaker_sim.history.history import History
from waymaker_sim.kernel.checks import Violation, listed, require, violated
from waymaker_sim.kernel.coverage_marks import MarkRecorder
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import MS, SECOND, Events
from waymaker_sim.kernel.tape import Tape, Track
from waymaker_sim.machine.access import Access
from waymaker_sim.machine.disk import DiskFaults, SimDisk
from waymaker_sim.machine.format_check import make_format_1, require_named
from waymaker_sim.machine.instant import InstantNode
from waymaker_sim.machine.observations import Asker, Seen, differences, observe
from waymaker_sim.machine.pace import Pace
from waymaker_sim.machine.phantom_quorum import PhantomQuorum
from waymaker_sim.machine.process import Process, ReceivedMessage, StepId
from waymaker_sim.machine.process_state import State
from waymaker_sim.machine.swarm import ORDINARY, Plan, plan_of
from waymaker_sim.world.keys import Keys
from waymaker_sim.world.nemesis import Nemesis

FAULT_TICK_NS = 100 * MS
TURNS = {
    "administrator": 4,
    "publisher": 1,
    "worker": 1,
    "reader": 2,
    "watcher": 4,
    "archivist": 4,
    "guest": 2,
    "objects": 1,
    "stores": 1,
    "sets": 1,
    "copyist": 2,
    "sketches": 2,
    "keys": 1,
    "keywatcher": 2,
    "latewatcher": 2,
    "keyends": 1,
    "keylister": 3,
    "churn": 2,
}
"""Number of the plan's pauses between two turns of an actor, by role."""
HEAL_NS = 30 * SECOND
"""Time that recovery and progress may take once faults have stopped."""
DRAIN_NS = 300 * SECOND
INVARIANT_STEPS = 250
"""The node's invariants are checked in the first step of a process run, and again after so many steps."""
QUIET_NS = 4 * SECOND
"""Longer than any work of a client, and any timeout of a consumer without use."""
IDLE_NS = 8 * SECOND
"""Longer than any wait for an ack and any nak delay in these worlds: a consumer that gets nothing for so long is at
its end."""


class World:
    """One run. `run` returns at the end or raises `Violation`."""

    quiet_ns = QUIET_NS
    """Time between the last operation of most clients and the first look at what is left."""
    idle_ns = IDLE_NS
    """Time without a delivery after which all consumers are at their ends."""

    def __init__(self, tape: Tape, digest: Digest | None = None, adapt: Callable[[Plan], None] | None = None) -> None:
        self.tape = tape
        self.plan = self.draw_plan()
        if adapt is not None:
            adapt(self.plan)
        self.history = History()
        self.digest = digest
        self._migrates = False
        """True once a stop has left a directory of format 1."""
        self.crashes = 0
        self._lost = False
        self._publishing = self._working = self._faulty = True
        self.machines, self.events, access = self.make_machines()
        self.view = ClientView(self.events, access, self.history, [f"s{n}" for n in range(self.plan.streams)])
        self.history.mark = self.view.mark
        self.majorities: Majorities | None = None
        self.interval_sync: IntervalSync | None = None
        self.lookout = MarkRecorder(self.view.mark)
        self.view.looks_at_ages = self.plan.looks_at_ages
        self.view.read_errors = self.plan.disk.read_error > 0
        self.view.drops_at_once = _drops_at_once(self.plan) and not access.moves
        self.view.slow_reads = self.plan.pace.read_ns > MS or self.plan.pace.slow_per_million > 0
        self.watch_machines()
        self.refusals: list[Refused] = []
        self._make_clients()

    # ------------------------------------------------------------ the machines of a world, which a cluster has otherwise

    def draw_plan(self) -> Plan:
        """Draw the kind of this world."""
        return plan_of(self.tape)

    def make_machines(self) -> tuple[list[Process], Events, Access]:
        """Return the machines, their queue of events, and the clients' access to them."""
        self.events = Events()
        machine = self._machine(1)
        return [machine], self.events, machine

    def watch_machines(self) -> None:
        """Set what harms the machine, and what watches it beside the clients."""
        tape, machine = self.tape, self.machines[0]
        self.adoptions = Adoptions(machine.config, tape.track("adoptions"))
        if self.plan.quorum is not None:
            quorum = PhantomQuorum(
                self.plan.quorum,
                self.events,
                tape.track("quorum"),
                tape.track("other leaders"),
                self.view.mark,
                self._without_majority,
            )
            machine.quorum, self.majorities = quorum, Majorities(quorum)
        self.nemesis = Nemesis(tape.track("nemesis"), self.plan, machine, self.view)
        if self.plan.may_lose_unsynced():
            self.interval_sync = IntervalSync(self.plan, self.view, machine, tape.track("twin"))
        self.strays = Strays(self.view, tape.track("strays"), self.plan)
        if self.interval_sync is None:
            machine.on_up = self.strays.started

    def start_machines(self) -> None:
        """Start all machines, and their faults."""
        for machine in self.machines:
            machine.start()

    def repeat_faults(self) -> None:
        """Begin to harm the machines, again and again."""
        self.repeat(self.nemesis.act, "nemesis", lambda: self._faulty)

    def end_faults(self) -> None:
        """End all faults."""
        self.nemesis.rest()
        for machine in self.machines:
            machine.disk.faults = DiskFaults()
            machine.pace.slow_per_million = 0
            machine.pace.read_ns = Pace().read_ns
            machine.effects_left = machine.target_disk_full = None
            if machine.quorum is not None:
                machine.quorum.heal()
                self.view.disturbed_ns = min(self.view.disturbed_ns, self.events.now_ns)
                machine.paused_until_ns = min(machine.paused_until_ns, self.events.now_ns)

    def serves_all(self) -> bool:
        """Return True if all machines serve."""
        return all(machine.state is State.UP for machine in self.machines)

    def check_restarts(self, seen: Seen) -> None:
        """Require that restarts change nothing of what was seen at rest."""
        process = self.machines[0]
        for crash in (process.kill, process.lose_power):
            self._check_sketches(seen)
            if not self.lost():
                self._again(process, crash, seen)
        self._check_sketches(seen)
        if not self.lost() and not self._rotten():
            empty_the_disk(process, PatientAsker(self.view), seen)
            self._again(process, process.kill, observe(PatientAsker(self.view)))

    def _make_clients(self) -> None:
        tape, plan, view = self.tape, self.plan, self.view
        self.administrator = Administrator(view, tape.track("administrator"), plan)
        tracks = [tape.track(f"publisher {n}") for n in range(plan.publishers)]
        self.publishers = [Publisher(view, track, plan, self.refusals) for track in tracks]
        if plan.producers:
            for number, publisher in enumerate(self.publishers):
                producer_track = tape.track(f"producer {number}")
                publisher.producer = Producer(view, producer_track, number, plan.publishers, publisher.failed_again)
        self.workers = [
            Worker(view, tape.track(f"worker {n}"), tape.track(f"tags of worker {n}"), plan.limits)
            for n in range(plan.workers)
        ]
        self.readers = [
            Reader(view, tape.track(f"reader {n}"), plan.limits.page_entries_max) for n in range(plan.readers + 1)
        ]
        self.backup_client = BackupClient(view, tape.track("archivist")) if plan.archives else None
        self.guest = Guest(view, tape.track("guest")) if plan.guests else None
        self.object_client = ObjectClient(view, tape.track("objects"), plan) if plan.objects else None
        self.stores = StoreClient(view, tape.track("stores"), plan) if plan.stores else None
        self.sets = SetClient(view, tape.track("sets")) if plan.sets else None
        self.copyist = Copyist(view, tape.track("copyist")) if plan.sources else None
        self.sketches = SketchFeeder(view, tape.track("sketches")) if plan.sketches else None
        self.keys = Keys(view, tape, plan) if plan.buckets else None
        self.watchers = [Watcher(view, tape.track(f"watcher {n}")) for n in range(plan.watchers)]

    def lost(self) -> bool:
        """Return True if rot has hit what no start can do without: the run is over, and that is no violation."""
        return self._lost

    def _machine(self, number: int) -> Process:
        plan = self.plan
        disk = SimDisk(plan.disk, self.tape.track(f"disk {number}"))
        replicated = plan.quorum is not None
        config = NodeConfig(number, number.to_bytes(16, "big"), plan.limits, plan.sync_interval_ms, replicated)
        machine, reads = self.tape.track(f"machine {number}"), self.tape.track(f"late reads {number}")
        process = Process(number, self.events, disk, config, machine, reads, plan.pace)
        process.late_reads.on_missing = lambda failure: violated(
            "files held", f"{failure.path} went before it was read"
        )
        process.on_down = partial(self._down, process)
        process.on_log = self._logged
        process.on_deposed = partial(self._deposed, process)
        process.on_step = self._stepped
        return process

    def _without_majority(self, until_ns: int) -> None:
        """Note that some stream commits nothing until then: as far as its clients see, the process is paused."""
        self.view.disturbed_ns = max(self.view.disturbed_ns, until_ns)
        self.machines[0].paused_until_ns = max(self.machines[0].paused_until_ns, until_ns)

    def _stepped(self, process: Process, now: Now, inputs: Sequence[Input], effects: Sequence[Effect]) -> None:
        if self.digest is not None:
            self.digest.step(process.number, now, inputs, effects)
        if self.majorities is not None:
            self.majorities.stepped(process, inputs, effects)
            self.view.held.stepped(process, process.node)
        if process.steps == 1:
            self.view.quarantines.started(effects)
        over = [effect.token for effect in effects if isinstance(effect, End)]
        for item in inputs:
            # A report sent just before the reader's end may have arrived after it.
            if isinstance(item, Report) and item.token not in over:
                self.view.reported(item.token)
        self.lookout.stepped(process.node.stats if process.node is not None else None, effects)
        if process.steps % INVARIANT_STEPS == 1:
            check_node(process)
            check_counts(process)

    def _logged(self, log: Log) -> None:
        self.view.mark(f"log {log.event}")

    # ------------------------------------------------------------ machines that stop

    def _down(self, process: Process) -> None:
        """Note that a process crashed or did not start, and schedule its next start."""
        refusal = process.refusal
        self.crashes += 1
        self.view.process_stopped()
        if self.interval_sync is not None:
            self.interval_sync.down()
        self.lookout.stopped()
        clean = process.halted is not None and process.halted.clean
        self.history.orderly = clean and (self.majorities is None or self.majorities.logs_all)
        if not clean:
            self.history.abrupt_stops += 1
            self.history.abrupt_ns = self.events.now_ns
        if self.digest is not None:
            self.digest.add(f"{self.events.now_ns} node {process.number} down: {refusal}")
        if isinstance(refusal, StoreRefused):
            self._refused(process, refusal)
            return
        if refusal is not None and not isinstance(refusal, DiskFailure):
            violated("node raised", f"recovery: {type(refusal).__name__}: {refusal}")
        if process.halted is not None:
            self.view.mark("halted: " + ("clean" if process.halted.clean else "unclean"))
        delay_ns = 1 * MS + (self.nemesis.track.magnitude("down for", 3 * SECOND) if self._faulty else 0)
        self.events.after(delay_ns, partial(self._restart, process, process.run))

    def _deposed(self, process: Process) -> None:
        """Note that the node lost what only a leader knows, as at an abrupt stop; it goes on running."""
        self.history.abrupt_stops += 1
        self.history.abrupt_ns = process.up_ns = self.events.now_ns
        self.history.orderly = False

    def _refused(self, process: Process, refusal: StoreRefused) -> None:
        rotten = process.disk.rotten_paths()
        if refusal.path not in rotten:
            violated("recovery honest", f"refused to start: {refusal}; rotten: {listed(rotten)}")
        self.view.mark("refused a rotten disk")
        self._lost = True

    def _restart(self, process: Process, incarnation: int) -> None:
        if process.run == incarnation and not self.lost():
            require_named(process.disk)
            if self.plan.old_format and not self._migrates:
                self._migrates = make_format_1(process.disk)
            if self.nemesis.recovers_twice():
                self._recover_twice(process)
            process.start()

    def _recover_twice(self, process: Process) -> None:
        """Require that two recoveries of one image, one after the other, find the same state."""
        twin = process.disk.copy(self.tape.track("twin"))
        now = Now(1, process.now().wall_ms)
        try:
            first = self._beside_sources(observe(InstantNode(process.config, twin, now)))
            second = self._beside_sources(observe(InstantNode(process.config, twin, now)))
        except StoreRefused as refusal:
            self._refused(process, refusal)
            return
        except Violation:
            raise
        except Exception as error:
            violated("node raised", f"recovery of the same image: {type(error).__name__}: {error}")
        found = differences(first, second)
        require(not found, "recovery twice", f"{found}")
        self.view.mark("recovered twice")
        if not self._rotten() and not process.config.replicated:
            before = self.adoptions.adopted
            self.adoptions.look(process.disk.copy(self.tape.track("twin")), now)
            if self.adoptions.adopted > before:
                self.view.mark("adopted")

    def _beside_sources(self, seen: Seen) -> Seen:
        """Leave out the streams that copy: a node that is looked at goes on copying."""
        return {name: stream for name, stream in seen.items() if name not in self.view.copying}

    # ------------------------------------------------------------ the three acts

    def run(self) -> None:
        """Run all three phases."""
        self.start_machines()
        self._begin()
        self.events.run_until(self.plan.faults_ns, self.lost)
        if not self.lost():
            self._heal()
        if not self.lost():
            self._rest()

    def _begin(self) -> None:
        self.repeat(self.administrator.act, "administrator", lambda: True)
        for index, publisher in enumerate(self.publishers):
            self.repeat(publisher.act, f"publisher {index}", lambda: self._publishing)
        for index, worker in enumerate(self.workers):
            self.repeat(worker.act, f"worker {index}", lambda: self._working)
        for index, reader in enumerate(self.readers):
            self.repeat(reader.act, f"reader {index}", lambda: self._working)
        for index, watcher in enumerate(self.watchers):
            self.repeat(watcher.act, f"watcher {index}", lambda: self._working)
        if self.backup_client is not None:
            self.repeat(self.backup_client.act, "archivist", lambda: self._working)
        if self.keys is not None:
            for name, actor in self.keys.actors:
                self.repeat(actor.act, name, lambda: self._working)
        if self.guest is not None:
            self.repeat(self.guest.act, "guest", lambda: self._working)
        if self.object_client is not None:
            self.repeat(self.object_client.act, "objects", lambda: self._working)
        if self.stores is not None:
            self.repeat(self.stores.act, "stores", lambda: self._working)
        if self.sets is not None:
            self.repeat(self.sets.act, "sets", lambda: self._working)
        if self.copyist is not None:
            self.repeat(self.copyist.act, "copyist", lambda: self._working)
        if self.sketches is not None:
            self.repeat(self.sketches.act, "sketches", lambda: self._working)
        self.repeat_faults()

    def repeat(self, act: Callable[[], None], who: str, wanted: Callable[[], bool]) -> None:
        """Act once in each turn, at a drawn moment: the number of an operation determines its time."""
        pause_ns = turn_ns(who, self.plan)
        track: Track = self.tape.track(f"moments of {who}")

        def again() -> None:
            if wanted():
                track.begin()
                self.events.after(track.draw("moment", pause_ns), meanwhile)
                self.events.after(pause_ns, again)

        def meanwhile() -> None:
            if wanted():
                act()

        again()

    def _heal(self) -> None:
        """End the faults: the machines must start, and publishes must be confirmed."""
        self._faulty = False
        self.view.faulty = False
        self.end_faults()
        for publisher in self.publishers:
            publisher.diligent = True
        self._until(lambda: self.lost() or self.serves_all())
        if self.lost():
            return
        for machine in self.machines:
            require(machine.state is State.UP, "comes up", f"{machine.state.value}: {machine.refusal!r}")
        self.history.healed_ns = self.events.now_ns
        enough = self.view.confirmed + 5
        self._until(lambda: self.lost() or (self.view.confirmed >= enough and self.administrator.settled()))
        if not self.lost() and not self._rotten():
            require(self.administrator.settled(), "progress", "the administrator still waits for an outcome")
            require(self.view.confirmed >= enough, "progress", "publishes are not confirmed any more")

    def _until(self, reached: Callable[[], bool]) -> None:
        if not reached():
            self.events.run_until(self.events.now_ns + HEAL_NS, reached)

    def _rotten(self) -> bool:
        return any(machine.disk.rotten for machine in self.machines)

    def _rest(self) -> None:
        """Drain the consumers, run the audit, and require that restarts change nothing."""
        access = self.view.access
        self._publishing = self._working = False
        self.administrator.quiet = True
        for worker in self.workers:
            worker.diligent = True
            if worker.subscription is not None:
                worker.subscription.cancel()
        for watcher in self.watchers:
            watcher.hang_up()
        if self.keys is not None:
            self.keys.hang_up()
        self.events.run_until(self.events.now_ns + self.quiet_ns)
        drained = self._drain()
        if self.lost():
            return
        self._until(lambda: self.lost() or access.waiting() == 0)
        if self.object_client is not None:
            self.object_client.settle()
        require(self.lost() or access.waiting() == 0, "answered", f"{access.waiting()} calls were never answered")
        for machine in self.machines:
            check_node(machine)
        self.check_restarts(self._audit(drained))

    def _audit(self, drained: bool) -> Seen:
        """Read everything and compare it with the history. `drained`: consumers had time to reach the end."""
        if self.keys is not None and not self._rotten():
            self.keys.audit(PatientAsker(self.view))
        if self.interval_sync is not None:
            self.events.run_until(self.events.now_ns + 2 * self.plan.sync_interval_ms * MS + SECOND)
        if self.copyist is not None:
            self.copyist.quiet = True
            self._catch_up(self.copyist, partial(lagging_sources, view=self.view))
        if self.sketches is not None:
            self._catch_up(self.sketches, self.sketches.lagging)
        seen = observe(PatientAsker(self.view))
        if self.copyist is not None:
            CopiesAudit(self.view, self.history).check(seen)
        Audit(self.view, self.history, self.refusals).check(seen, drained)
        if self.object_client is not None:
            self.object_client.audit(PatientAsker(self.view), seen.get(BUCKET))
        if self.sets is not None:
            self.sets.check(seen, PatientAsker(self.view))
        if self.stores is not None:
            self.stores.check(seen, PatientAsker(self.view))
            self.events.run_until(self.events.now_ns + 2 * SECOND)  # until taken values are deleted
            seen = observe(PatientAsker(self.view))
        return seen

    def _check_sketches(self, seen: Seen) -> None:
        if self.sketches is not None and not self.lost() and not self._rotten():
            self.sketches.check(seen, PatientAsker(self.view))

    def _catch_up(self, client: Copyist | SketchFeeder, lagging_of: Callable[[Asker], str]) -> None:
        """Let what has sources reach their ends, as far as a client of it can tell."""
        asker = PatientAsker(self.view)
        self._until(lambda: self.lost() or not client.busy)
        deadline_ns = self.events.now_ns + HEAL_NS
        while not self.lost():
            lagging = lagging_of(asker)
            if not lagging or self._rotten():
                return
            require(self.events.now_ns < deadline_ns, "sources catch up", lagging)
            self.events.run_until(self.events.now_ns + 200 * MS)

    def _again(self, process: Process, crash: Callable[[], None], before: Seen) -> None:
        crash()
        self._until(lambda: self.lost() or leads_all(process))
        if self.lost():
            return
        require(leads_all(process), "comes up", f"after the audit: {process.refusal!r}")
        found = differences(before, observe(PatientAsker(self.view)))
        require(not found or self._rotten(), "recovery twice", f"after {crash.__name__}: {found}")

    def _drain(self) -> bool:
        """Fetch and ack until every consumer is at its end; pending deliveries become due again."""
        access = self.view.access
        begun = self.events.now_ns
        busy_ns = begun
        worker = self.workers[0]
        while self.events.now_ns < begun + DRAIN_NS and not self.lost():
            for stream in self.view.streams.values():
                for consumer in list(stream.consumers.values()):
                    worker.fetch(stream, consumer, 20)
            fetched = worker.fetched
            self.events.run_until(self.events.now_ns + 200 * MS, lambda: access.waiting() == 0)
            if worker.fetched > fetched:
                busy_ns = self.events.now_ns
                continue
            self.events.run_until(self.events.now_ns + 200 * MS)
            if self.events.now_ns > busy_ns + self.idle_ns:
                return not self._rotten()
        require(self.lost() or self._rotten(), "progress", "consumers never come to the end of their streams")
        return False


def _drops_at_once(plan: Plan) -> bool:
    """Return True if nothing delays a drop: neither journal space, nor a dead letter's original that cannot be read."""
    return not (plan.disk.read_error or plan.rot or plan.full) and plan.limits.segment_bytes >= ORDINARY.segment_bytes


def leads_all(process: Process) -> bool:
    """Return True if a process serves, and its node leads all logs."""
    node = process.node
    return node is not None and process.steps > 0 and all(each.leads for each in node.log_figures())


def turn_ns(who: str, plan: Plan) -> int:
    """Return the length of an actor's turn."""
    return FAULT_TICK_NS if who == "nemesis" else TURNS[who.partition(" ")[0]] * plan.think_ns


def check_counts(process: Process) -> None:
    """Require that the node counts every call once, however often it had to wait."""
    if process.node is not None:
        counted = process.node.stats.calls
        require(counted == process.calls, "limits hold", f"{counted} calls are counted, {process.calls} were made")


def check_node(process: Process) -> None:
    """Check the node's own invariants, if there is a node."""
    try:
        if process.node is not None:
            process.node.check()
    except Exception as error:
        *_, where = traceback.extract_tb(error.__traceback__)
        violated(
            "invariant",
            f"step {process.steps}: {where.name} ({where.filename.rpartition('/')[2]}): {where.line} {error}",
        )


class PatientAsker(Asker):
    """Makes calls to the running process and lets the world continue until the answer is there."""

    def __init__(self, view: ClientView) -> None:
        self.view = view

    def ask(self, request: Request) -> tuple[Answer | Refusal, list[ReceivedMessage] | None]:
        found: list[tuple[Answer | Refusal, list[ReceivedMessage] | None]] = []

        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            found.append((answer, got))

        events = self.view.events
        if self.view.ask(request, replied, lambda: None) is not None:
            events.run_until(events.now_ns + HEAL_NS, lambda: bool(found))
        if not found:
            violated("answered", f"at rest nobody answers {type(request).__name__}")
        return found[0]

"""The node: one object, two clocks, inputs in, effects out. This file is the table of contents of a node.

It must never do anything itself: no file, no socket, no clock. What it decides leaves as effects, what happened comes back
as inputs, and the same inputs in the same order always give the same effects. See docs/decisions/0001-deterministic-core.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from waymaker_core.api import authority_requests as authority
from waymaker_core.api import cluster_requests as cluster
from waymaker_core.api import collection_requests as cq
from waymaker_core.api import inputs as events
from waymaker_core.api import kv_requests as kv
from waymaker_core.api import object_requests as objects
from waymaker_core.api import requests as rq
from waymaker_core.api import sketch_requests as sq
from waymaker_core.api.authority_requests import NodeSums
from waymaker_core.api.effects import ConfChanged, Effect, Halt
from waymaker_core.api.inputs import Call, Input
from waymaker_core.api.requests import ConsumerInfo, Messages, SourceStatus, StreamStats
from waymaker_core.model.disk_ops import Delete
from waymaker_core.model.limits import U64_MAX
from waymaker_core.model.types import CATALOG, Now, StreamId
from waymaker_core.node.apply import Applier
from waymaker_core.node.calls import Calls, Handler
from waymaker_core.node.checkpoint.checkpoints import Checkpoints
from waymaker_core.node.checkpoint.reserve import Reserve
from waymaker_core.node.checkpoint.shared_block_files import SharedBlockFiles
from waymaker_core.node.claims import Claims
from waymaker_core.node.delivery.expiry import Deliveries
from waymaker_core.node.delivery.live_turns import LiveTurns
from waymaker_core.node.delivery.scheduler import DeliveryScheduler
from waymaker_core.node.facts import Facts
from waymaker_core.node.feed import Feed
from waymaker_core.node.file_gc import Garbage
from waymaker_core.node.following import Following
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.handlers.authority import AuthorityCalls, sums_by_primary
from waymaker_core.node.handlers.buckets import Buckets
from waymaker_core.node.handlers.claiming import Claiming
from waymaker_core.node.handlers.collections import Collections
from waymaker_core.node.handlers.committing import Committing
from waymaker_core.node.handlers.consumers import Consuming
from waymaker_core.node.handlers.objects import Objects
from waymaker_core.node.handlers.publish import Publishing
from waymaker_core.node.handlers.reads import Reading
from waymaker_core.node.handlers.sketches import Sketches
from waymaker_core.node.handlers.sources import SourceLists, statuses
from waymaker_core.node.handlers.streams import Streams
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.leadership import Leadership
from waymaker_core.node.maintenance import invariants
from waymaker_core.node.maintenance.disk_space import DiskSpace
from waymaker_core.node.maintenance.drain import Drain, Stage
from waymaker_core.node.maintenance.inactive import Inactive
from waymaker_core.node.maintenance.incarnations import Incarnations
from waymaker_core.node.maintenance.layers import DueLayers
from waymaker_core.node.maintenance.retention import Retention
from waymaker_core.node.member_view import MemberView
from waymaker_core.node.parking import Parking
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.readers.fetches import Fetches
from waymaker_core.node.readers.live_readers import LiveReaders
from waymaker_core.node.readers.subscriptions import Subscriptions
from waymaker_core.node.readers.watchers import Watchers
from waymaker_core.node.service_figures import ServiceFigures, sum_services
from waymaker_core.node.sourcing.letter_box import LetterBox
from waymaker_core.node.sourcing.sourcing import Sourcing
from waymaker_core.node.startup.restored import Restored
from waymaker_core.node.stats import NodeStats
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.node.timers import Timer
from waymaker_core.node.transfer.adoption import Adoption
from waymaker_core.node.transfer.catalog_adoption import CatalogAdoption
from waymaker_core.node.transfer.record_reads import RecordReads
from waymaker_core.node.transfer.segment_pins import SegmentPins
from waymaker_core.node.transfer.transfers import TransferInput, Transfers
from waymaker_core.storage.frame import directory_key
from waymaker_core.storage.journal.facts import ReplicaFacts

ORPHANS_A_JOB = 64


class Node(MemberView):
    """One node in service. Made by `open_node`; `step` until it emits `Halt`, then drop it."""

    def __init__(self, restored: Restored) -> None:
        state = self._state = restored.state
        self.config = state.config
        journal, recovered = restored.journal, restored.recovered
        facts = self._facts = Facts(state, journal, recovered.facts)
        garbage = self._garbage = Garbage(state, journal, facts)
        group_commit = self._group_commit = GroupCommit(state, journal, facts)
        gate = self._gate = Gate(state)
        self._committing = Committing(state, group_commit, gate)
        indexes = self._indexes = Indexes(state)
        registry = self._registry = StreamRegistry(state)
        claims = self._claims = Claims(state, group_commit)
        watchers = self._watchers = Watchers(state.limits.watch_events_max, gate)
        live_readers = self._live_readers = LiveReaders(gate)
        subscriptions = self._subscriptions = Subscriptions(state, gate, live_readers)
        fetches = self._fetches = Fetches(state, gate, self._attempt_again)
        parking = Parking(state, gate)
        quarantine = self._quarantine = Quarantine(state, gate, parking, subscriptions, fetches, live_readers)
        self._scheduler = DeliveryScheduler(state, gate, indexes, subscriptions, quarantine)
        self._live_turns = LiveTurns(state, gate, indexes, live_readers, quarantine)
        self._deliveries = Deliveries(state, group_commit, indexes, parking, quarantine)
        self._objects = Objects(state, gate, self._committing, registry)
        feed = self._feed = Feed(state, gate, indexes, quarantine)
        calls = self._calls = Calls(state, gate, indexes, parking, quarantine, registry, self._handlers())
        self._applier = Applier(
            state,
            group_commit,
            gate,
            garbage,
            indexes,
            registry,
            watchers,
            subscriptions,
            parking,
            calls,
            feed,
            facts,
        )
        self._sourcing = Sourcing(state, self._committing, indexes, quarantine, feed, LetterBox(state, gate, calls))
        self._following = Following(state, group_commit, facts)
        self._incarnations = Incarnations(state, group_commit, claims)
        self._leadership = Leadership(state, group_commit, gate, parking, subscriptions, fetches, registry, claims)
        shared_files, reserve = SharedBlockFiles(), Reserve(state)
        checkpoints = self._checkpoints = Checkpoints(
            state,
            group_commit,
            garbage,
            indexes,
            quarantine,
            shared_files,
            reserve,
            recovered.manifest,
            recovered.chain,
        )
        self._pins = SegmentPins(state, journal, garbage)
        adoption = Adoption(state, group_commit, self._applier, shared_files)
        key = directory_key(recovered.manifest.directory_id)
        self._transfers = Transfers(state, garbage, self._pins, checkpoints, adoption, key)
        self._record_reads = RecordReads(state, journal, self._pins, key)
        self._catalog_adoption = CatalogAdoption(state, group_commit, self._applier, checkpoints, garbage, key)
        self._inactive = Inactive(state, group_commit)
        self._retention = Retention(state, group_commit, indexes, quarantine)
        self._space = DiskSpace(state, group_commit, calls, checkpoints, reserve)
        self._due_layers = DueLayers(state, group_commit, self._committing, indexes, quarantine)
        self._drain = Drain(state, group_commit, gate, parking, subscriptions, watchers)
        self._on_timer: dict[Timer, Callable[[int], None]] = {
            Timer.DELIVERIES: self._deliveries.expire_due,
            Timer.AGE: self._retention.judge,
            Timer.DISK_RETRY: lambda _: self._space.retry_spare(),
            Timer.SYNC: lambda _: group_commit.sync_due(),
            Timer.WATERMARK: lambda _: group_commit.watermark_due(),
            Timer.COMMIT_RETRY: lambda _: group_commit.retry_write(),
            Timer.DEAD_LETTERS: self._deliveries.retry_dead_letters,
            Timer.KEPT_LETTERS: self._deliveries.retry_kept,
            Timer.INACTIVE: self._inactive.delete_inactive,
            Timer.PINS: lambda _: self._pins.lose_stuck(),
            Timer.LAYERS: self._due_layers.decide_due,
            Timer.SOURCES: self._sourcing.retry,
            Timer.COMMITS: lambda _: group_commit.write_commits(),
            Timer.DRAIN: lambda _: None,  # `Drain.advance` looks at it in each step
        }
        self._halted = self._begun = False
        self._capacity_changes, self._orphans = 0, restored.orphans
        self.directory_id = recovered.manifest.directory_id.hex()
        """The identity that the data directory was given when it was made."""
        for replica in state.replicas.values():
            if replica.damage is None:
                shared_files.note(replica)
                state.mark_dirty(replica)

    def _attempt_again(self, call: Call) -> None:
        self._calls.attempt_again(call)

    def _handlers(self) -> dict[type, Handler]:
        """Return the handler of every kind of call."""
        state, group_commit, gate, registry = self._state, self._group_commit, self._gate, self._registry
        publishing = Publishing(state, self._committing, registry)
        streams = Streams(state, group_commit, gate, registry, self._claims)
        claiming = Claiming(state, group_commit, gate, self._claims)
        buckets = Buckets(
            state,
            self._committing,
            gate,
            registry,
            streams,
            self._live_readers,
            self._attempt_again,
        )
        consuming = Consuming(state, group_commit, gate, registry, self._subscriptions, self._fetches, self._scheduler)
        reading = Reading(state, gate, registry)
        collections = Collections(state, self._committing, gate, self._indexes, self._quarantine, registry)
        sketches = Sketches(state, self._committing, gate, registry)
        placing = AuthorityCalls(state, group_commit, gate, registry)
        return {
            cq.PutEntries: collections.put_entries,
            cq.RemoveEntries: collections.remove_entries,
            cq.GetEntries: collections.get_entries,
            cq.HasEntries: collections.has_entries,
            cq.ListEntries: collections.list_entries,
            cq.ReadEntries: collections.read_entries,
            cq.CountEntries: collections.count_entries,
            cq.PushValues: collections.push,
            cq.PopValues: collections.pop,
            cq.PeekValues: collections.peek,
            cq.CountValues: collections.length,
            sq.AddToSketch: sketches.add_values,
            sq.MergeIntoSketch: sketches.merge_snapshot,
            sq.QuerySketch: sketches.query,
            sq.GetSketchSnapshot: sketches.read_snapshot,
            sq.GetSketchInfo: sketches.describe,
            cluster.ClaimStream: claiming.claim_stream,
            cluster.OpenAuthority: claiming.open_authority,
            cluster.ClaimStreams: claiming.claim_streams,
            cluster.OpenAuthorities: claiming.open_authorities,
            authority.SetStreamPinned: placing.set_pinned,
            authority.ClearStreamAuthority: placing.clear,
            authority.ListOverrides: placing.list_overrides,
            authority.GetClusterStats: placing.cluster_stats,
            rq.Publish: publishing.publish,
            rq.Fetch: consuming.fetch,
            rq.Ack: consuming.ack,
            rq.Subscribe: consuming.subscribe,
            rq.WatchStreams: self._watch,
            rq.ReadLatest: reading.latest,
            rq.ListSubjects: reading.subjects,
            rq.ScanSubject: reading.scan,
            rq.ReadRange: reading.range,
            rq.CreateStream: streams.create,
            rq.DeleteStream: streams.delete,
            rq.GetStreamInfo: streams.info,
            rq.ListStreams: streams.list_names,
            rq.GetStreamSources: SourceLists(state, gate).list_statuses,
            rq.UpdateStream: streams.update,
            rq.CreateConsumer: consuming.create,
            rq.DeleteConsumer: consuming.delete,
            rq.ListConsumers: consuming.list_infos,
            rq.GetConsumerInfo: consuming.info,
            rq.ExportStream: streams.export,
            rq.ImportBegin: streams.import_begin,
            rq.ImportBatch: publishing.import_batch,
            rq.ImportEnd: streams.import_end,
            objects.BeginUpload: self._objects.begin_upload,
            objects.UploadChunks: self._objects.chunks,
            objects.FinishUpload: self._objects.finish,
            objects.DeleteObject: self._objects.delete_object,
            objects.OpenObject: self._objects.open,
            objects.ReadChunks: self._objects.read,
            objects.FindObject: self._objects.find_object,
            objects.ListObjects: self._objects.list_objects,
            objects.ListObjectRevisions: self._objects.revisions,
            objects.HoldBucket: self._objects.hold,
            kv.KvCreateBucket: buckets.create_bucket,
            kv.KvDeleteBucket: buckets.delete_bucket,
            kv.KvWrite: buckets.write,
            kv.KvGet: buckets.get,
            kv.KvKeys: buckets.keys,
            kv.KvHistory: buckets.history,
            kv.KvWatch: buckets.watch,
        }

    # ------------------------------------------------------------------ the door

    def step(self, now: Now, inputs: Sequence[Input]) -> list[Effect]:
        """Process inputs in order, run the timers that are due, and return the effects in order.

        `now.mono_ns` never goes back. A step without inputs is a tick. After `Halt` the node answers nothing more.
        """
        if self._halted:
            return []
        state = self._state
        assert now.mono_ns >= state.now.mono_ns, "the monotonic clock went back"
        state.now = now
        state.work.renew(state.limits.search_entries_max)
        self._retention.look_at_clock(now)
        for event in inputs:
            self._process_input(event)
        # After the inputs: an answer that came in this step counts before a timer expires its delivery.
        for timer, key in state.timers.take_due(now.mono_ns):
            self._on_timer[timer](key)
        self._indexes.resume()
        self._leadership.lead_applied()
        if state.passing:
            self._incarnations.end_passing()
        if state.dirty:
            self._process_dirty()
        self._scheduler.serve()
        self._live_turns.serve()
        if state.dirty:
            self._process_dirty()
        self._sourcing.pull_ready()
        # After all decisions of the step, so that they share one write.
        self._group_commit.flush()
        # A flush without a disk operation has committed already: its answers leave in this step.
        self._applier.advance()
        if not self._begun:
            self._begun = True
            self._applier.replicate_suffixes()
        self._retry_on_capacity()
        if state.dirty:
            self._process_dirty()
        self._checkpoints.advance()
        self._space.make_spares()
        self._pins.settle()
        self._garbage.collect()
        if self._orphans:
            self._delete_orphans()
        self._indexes.trim()
        self._drain.advance()
        if state.conf_changes:
            state.effects += map(ConfChanged, state.conf_changes)
            state.conf_changes = {}
        effects = self._halt_if_lost(state.effects)
        state.effects = []
        return effects

    def next_deadline(self) -> int | None:
        """Return the monotonic nanosecond at which `step` must be called at the latest, even without inputs; None: never.

        It may lie in the past: then the node has work left over and must be called again at once.
        """
        if self._halted:
            return None
        if (
            self._scheduler.has_ready()
            or self._sourcing.has_ready()
            or self._live_turns.has_turns()
            or self._group_commit.wants_flush
            or self._indexes.has_ready()
        ):
            return self._state.now.mono_ns
        return self._state.timers.next_deadline()

    # ------------------------------------------------------------------ what happened

    def _process_input(self, event: Input) -> None:
        """Pass one input to its part."""
        kind = type(event)
        if kind is Call:
            assert isinstance(event, Call)
            self._calls.admit(event)
        elif isinstance(event, events.JobDone):
            self._state.jobs.done(event.id, event.results)
            self._applier.advance()
        elif isinstance(event, events.JobFailed):
            self._state.jobs.failed(event.id, event.failure)
        elif isinstance(event, events.Credit):
            self._credit(event)
        elif isinstance(event, events.Cancel):
            self._subscriptions.remove_subscription(event.token)
            self._live_readers.remove_reader(event.token)
            self._watchers.remove_watcher(event.token)
            self._fetches.cancel(event.token)
            self._objects.close(event.token)
            self._gate.withdraw(event.token)
        elif isinstance(event, events.Report):
            self._report(event)
        elif isinstance(event, events.Unreadable):
            self._quarantine.unreadable(event)
        elif isinstance(event, events.Replicated):
            self._applier.replicated(event.stream_id, event.position)
        elif isinstance(event, events.StepDown | events.Lead):
            self._change_leader(event)
        elif isinstance(event, events.PrepareMove):
            self._leadership.prepare_move(StreamId(event.stream_id))
        elif isinstance(event, TransferInput):
            self._transfers.process(event)
        elif isinstance(event, events.ReadRecords):
            self._record_reads.read_records(event)
        elif isinstance(event, events.EndReading):
            self._record_reads.end_reading(event)
        elif isinstance(event, events.Confirmed):
            self._gate.confirmed(event.stream_id, event.question)
        elif isinstance(event, events.Append):
            self._following.append_sent(event)
        elif isinstance(event, events.Cut):
            self._following.cut(event)
        elif isinstance(event, events.Promise):
            self._following.promise(event)
        elif isinstance(event, events.KeepVote):
            self._following.keep_vote(event)
        elif isinstance(event, events.KeepDoubts):
            self._following.keep_doubts(event)
        elif isinstance(event, events.Enrol):
            self._following.enrol(event)
        elif isinstance(event, events.InstallCatalog):
            self._catalog_adoption.install_catalog(event)
        else:
            self._drain.begin()

    def _change_leader(self, event: events.StepDown | events.Lead) -> None:
        """End or begin to lead a stream, unless it was deleted meanwhile; in a cluster, or the catalog."""
        if event.stream_id == CATALOG:
            if self.config.member:
                self._change_leader_of_catalog(event)
            return
        replica = self._state.replicas.get(StreamId(event.stream_id))
        if replica is not None and isinstance(event, events.StepDown):
            self._leadership.step_down(replica)
        elif replica is not None and isinstance(event, events.Lead):
            self._leadership.lead(replica, event.epoch)

    def _change_leader_of_catalog(self, event: events.StepDown | events.Lead) -> None:
        if isinstance(event, events.StepDown):
            self._leadership.step_down_from_catalog()
            self._incarnations.forget_decisions()
        else:
            self._leadership.lead_catalog(event.epoch)

    def _credit(self, event: events.Credit) -> None:
        """Pass credit to its reader; that of a reader that has ended is late, and ignored."""
        if event.token in self._subscriptions:
            self._scheduler.credit(event.token, event.messages, event.bytes)
        elif event.token in self._live_readers:
            self._live_turns.credit(event.token, event.messages, event.bytes)
        elif event.token in self._watchers:
            self._watchers.credit(event.token, event.messages, self._state.effects)

    def _report(self, event: events.Report) -> None:
        """Pass a report to its reader; that of a reader that has ended is late: its messages were returned."""
        if event.token in self._subscriptions:
            self._scheduler.report(event.token, event.count, event.back)
        else:
            self._fetches.report(event.token)

    def _watch(self, call: Call, _found: StreamReplica | None) -> None:
        """Begin a `WatchStreams`."""
        self._watchers.add_watcher(call.token)

    # ------------------------------------------------------------------ what follows

    def _process_dirty(self) -> None:
        """Process each changed stream once: drops, wake-ups of readers, and its timers."""
        state = self._state
        while state.dirty:
            touched, state.dirty = state.dirty, {}
            for stream_id, replica in touched.items():
                if state.replicas.get(stream_id) is not replica or replica.importing:
                    continue
                self._feed.wake(replica)
                if replica.leading.serves:
                    self._deliveries.process_dirty(replica)
                    self._inactive.settle(replica)
                    self._retention.process_dirty(replica)
                    self._sourcing.continue_sources(replica)
                    self._due_layers.process_dirty(replica)
                    self._scheduler.wake_subscribers(replica)
                    self._live_turns.wake_readers(replica)

    def _retry_on_capacity(self) -> None:
        """Try again what waits for free space in the journal, where there may be some."""
        changes = self._group_commit.capacity_changes
        if changes != self._capacity_changes:
            self._capacity_changes = changes
            self._calls.retry_parked()
            for timer, key in self._state.timers.take_no_space():
                self._on_timer[timer](key)

    def _delete_orphans(self) -> None:
        """Delete files that recovery found and nothing names."""
        while self._orphans:
            some, self._orphans = self._orphans[:ORPHANS_A_JOB], self._orphans[ORPHANS_A_JOB:]
            self._garbage.delete([Delete(path) for path in some])

    def _halt_if_lost(self, effects: list[Effect]) -> list[Effect]:
        """Halt the node if it is unknown what is durable, or if it is drained."""
        failure = self._group_commit.failed or self._checkpoints.failed or self._space.failed
        if failure is not None:
            self._halted = True
            effects.append(
                Halt(f"{failure.path} could not be made durable: {failure.detail or failure.kind.value}", False)
            )
        elif self._drain.stage is Stage.DRAINED:
            self._halted = True
            effects.append(Halt("drained", True))
        return effects

    def check(self) -> None:
        """Assert every invariant between steps, at the cost of looking at everything; for tests and simulations."""
        if not self._halted:
            invariants.check(self._state)
            assert self._gate.count == self._gate.recount(), "answers that wait are counted wrong"

    # ------------------------------------------------------------------ figures

    @property
    def stats(self) -> NodeStats:
        """Return the counters and gauges of this node. Gauges that others keep are read now, so no step pays for them."""
        stats, journal = self._state.stats, self._group_commit.journal
        stats.streams = len(self._state.replicas)
        stats.open_objects = len(self._objects)
        stats.kv_watches = len(self._live_readers)
        stats.subscriptions = len(self._subscriptions)
        stats.watchers = len(self._watchers)
        stats.journal_bytes = journal.journal_bytes()
        stats.journal_segments = journal.segment_count
        return stats

    def stream_figures(self) -> Iterator[tuple[str, StreamStats]]:
        """Yield name and figures of every stream served, sorted by name: for metrics, on demand."""
        for replica in self._served():
            yield replica.name, replica.stream.stats()

    def consumer_figures(self) -> Iterator[tuple[str, ConsumerInfo]]:
        """Yield stream name and figures of every consumer, sorted: for metrics, on demand."""
        for replica in self._served():
            for info in replica.consumers.page("", self.config.limits.consumers_max, U64_MAX).entries:
                yield replica.name, info

    def source_figures(self) -> Iterator[SourceStatus]:
        """Yield the status of every source, sorted by the stream that copies: for metrics, on demand."""
        for replica in self._served():
            yield from statuses(replica)

    def service_figures(self) -> ServiceFigures:
        """Return what the streams of all services hold together: for metrics, on demand."""
        return sum_services(self._served())

    def log_figures(self) -> Iterator[LogFigures]:
        """Yield the ends of every log, the catalog's first."""
        yield _figures("", self._state.catalog_log, self._state.catalog_leads)
        for replica in self._state.replicas.values():
            yield _figures(replica.name, replica.log, replica.leads)

    def sums_led(self) -> NodeSums:
        """Return the streams added up whose newest claim names this node. Costs a look at every stream."""
        own = self.config.node_id
        return sums_by_primary(self._state).get(own, NodeSums(own))

    def log_of(self, call: Call) -> int:
        """Return the id of the log whose leader answers a call, in a cluster; the catalog's is 0."""
        return self._calls.log_of(call)

    def held_deliveries(self) -> Iterator[HeldDelivery]:
        """Yield every delivery that waits for a confirmation: for simulations."""
        for replica in self._state.replicas.values():
            for group, messages in replica.consumers.held.all_held():
                yield HeldDelivery(replica.name, [member.config.name for member in group.members.values()], messages)

    def replica_facts(self) -> ReplicaFacts:
        """Return the promises and memberships in force."""
        return self._facts.found

    def quarantined(self) -> list[str]:
        """Return the names of the streams in quarantine, sorted."""
        return sorted(replica.name for replica in self._state.replicas.values() if replica.damage is not None)

    def _served(self) -> list[StreamReplica]:
        sound = [
            replica for replica in self._state.replicas.values() if replica.damage is None and not replica.importing
        ]
        return sorted(sound, key=lambda replica: replica.name)


class LogFigures(NamedTuple):
    """The ends of one log, whether this node leads it, and whether it is in memory; the catalog's has id 0 and no name.

    `uncommitted_bytes`: stored bodies of what is durable and not applied.
    """

    stream_id: int
    name: str
    applied: int
    durable: int
    end: int
    leads: bool
    memory: bool
    uncommitted_bytes: int


class HeldDelivery(NamedTuple):
    """A delivery that waits for a confirmation: its stream, the consumers of its group, and its messages."""

    stream: str
    consumers: list[str]
    messages: Messages


def _figures(name: str, log: StreamLog, leads: bool) -> LogFigures:
    in_memory = log.memory is not None
    return LogFigures(log.stream_id, name, log.applied, log.durable, log.end, leads, in_memory, log.uncommitted_bytes)

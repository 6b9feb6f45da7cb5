"""Swarm: the kind of world of a run, drawn before it begins (Groce et al., "Swarm Testing", 2012).

Every kind of fault is present in some runs only, and as often as this run's own probability says; limits are tiny in
some runs so that every boundary is crossed in seconds, and large in others. A run in which everything fails explores
less than many runs in which something does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from waymaker_core.model.limits import KIB, Limits
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Tape, Track
from waymaker_sim.machine.disk import DiskFaults
from waymaker_sim.machine.pace import Pace
from waymaker_sim.machine.phantom_quorum import QuorumPlan


@dataclass(slots=True)
class Plan:
    """One run's world. Probabilities of faults are per million and a hundred milliseconds of virtual time."""

    limits: Limits
    streams: int
    publishers: int
    workers: int
    readers: int
    watchers: int
    faults_ns: int
    """Duration of the faults; then everything must recover."""
    pace: Pace = field(default_factory=Pace)
    disk: DiskFaults = field(default_factory=DiskFaults)
    think_ns: int = 20 * MS
    kill: int = 0
    kill_at_effect: int = 0
    power: int = 0
    drain: int = 0
    rot: int = 0
    full: int = 0
    targeted_disk_full: int = 0
    wall_jump: int = 0
    clock_wrong: int = 0
    """Jumps of the wall clock by more than a year, each corrected within seconds."""
    pause: int = 0
    cancel: int = 0
    """Per million calls."""
    sync_interval_ms: int = 0
    churn: int = 50_000
    """Deletions of streams (per million actions of the administrator)."""
    selective: bool = False
    """True if streams accept only some subjects, and clients publish to others, too."""
    other_starts: bool = False
    """True if consumers start by time, too, and at sequences around the last one."""
    dry_runs: bool = False
    """True if changes of settings are tried as a dry run before, or instead."""
    looks_at_ages: bool = False
    """True if readers prefer to read where the oldest message of a stream with an age is."""
    archives: bool = False
    """True if streams are exported as archives, and restored under other names."""
    producers: bool = False
    """True if publishers number their messages, and send those again whose answer got lost."""
    quorum: QuorumPlan | None = None
    """The majorities of its logs, where the node believes that they are replicated."""
    old_format: bool = False
    """True if what the first stop leaves becomes a directory of format 1, which the next start migrates."""
    stores: bool = False
    """True if a client keeps a hash, a queue and a sketch."""
    sets: bool = False
    """True if another one keeps sets beside it."""
    sources: bool = False
    """True if some streams copy from others."""
    guests: bool = False
    """True if consumers with an inactivity timeout are created and abandoned."""

    objects: bool = False
    """True if a client stores, replaces and reads objects."""
    buckets: bool = False
    """True if clients change, read and watch the keys of a bucket."""
    keys_closely: bool = False
    """True if values of that bucket end while the process is paused, too, watches begin anew, keys are listed, tombstones
    go, and a second bucket is deleted and made again."""
    sketches: bool = False
    """True if sketches count the messages of a stream."""

    def may_lose_unsynced(self) -> bool:
        """Return True if answers leave before their sync, on a machine that may lose power before it."""
        return self.sync_interval_ms > 0 and (self.power > 0 or self.disk.sync_error > 0)


STORES_ONE_IN = 8
"""Among so many worlds, one has a client that keeps stores."""
SOURCES_ONE_IN = 8
"""Among so many worlds, one has streams that copy from others."""
BUCKETS_ONE_IN = 8
"""And one has clients of a bucket of keys."""
SKETCHES_ONE_IN = 12
"""And one has sketches of a stream, where it has no other service."""

ORDINARY = Limits(
    block_size_default=1_000,
    ack_wait_default_ms=2_000,
    segment_bytes=1024 * KIB,
    checkpoint_journal_bytes=2048 * KIB,
    retention_interval_ms=200,
    disk_retry_ms=200,
)


def tiny_limits(track: Track) -> Limits:
    """Draw limits so small that blocks seal, segments turn and checkpoints run all the time."""
    segment_bytes = track.pick("segment", [64 * KIB, 32 * KIB, 16 * KIB, 8 * KIB])
    return replace(
        ORDINARY,
        block_size_default=track.pick("block", [50, 20, 7, 3, 1]),
        block_bytes_max=track.pick("block bytes", [64 * KIB, 8 * KIB, 1 * KIB]),
        segment_bytes=segment_bytes,
        segments_spare=track.between("spare", 1, 2),
        checkpoint_journal_bytes=segment_bytes * track.between("checkpoint", 1, 4),
        record_messages_max=track.pick("record", [256, 16, 2, 1]),
        record_bytes_max=track.pick("record bytes", [16 * KIB, 2 * KIB]),
        flush_bytes_max=16 * KIB,
        index_cache_bytes=track.pick("index cache", [64 * KIB, 16 * KIB, 4 * KIB]),
        pending_max=track.pick("pending", [1_000_000, 50, 5]),
        fetch_bytes_max=track.pick("fetch bytes", [8192 * KIB, 4 * KIB, 300]),
        watch_events_max=track.pick("watch events", [1024, 4]),
        parked_calls_max=track.pick("parked", [10_000, 10]),
        page_entries_max=track.pick("page", [10_000, 5]),
    )


def _odds(track: Track, label: str, high: int) -> int:
    """Draw a probability: none in half of the runs."""
    return track.magnitude(label, high) if track.draw(label + "?", 2) else 0


def plan_of(tape: Tape) -> Plan:
    """Draw the world of a run. What came later has a track of its own, so that other worlds do not change."""
    plan = draw_plan(tape.track("swarm"))
    if not plan.rot and not plan.may_lose_unsynced():
        plan.stores = tape.track("swarm, stores").draw("stores", STORES_ONE_IN) == STORES_ONE_IN - 1
        plan.sets = plan.stores and tape.track("swarm, some sets").draw("sets", 3) == 2
    if not plan.may_lose_unsynced():
        plan.sources = tape.track("swarm, sources").draw("sources", SOURCES_ONE_IN) == SOURCES_ONE_IN - 1
    if not plan.rot and not plan.sync_interval_ms and not (plan.objects or plan.stores):
        plan.buckets = tape.track("swarm, buckets").draw("buckets", BUCKETS_ONE_IN) == BUCKETS_ONE_IN - 1
        plan.keys_closely = plan.buckets and tape.track("swarm, second bucket").draw("keys closely", 2) == 1
    if not plan.rot and not plan.may_lose_unsynced() and not (plan.objects or plan.stores or plan.buckets):
        plan.sketches = tape.track("swarm, counts").draw("sketches", SKETCHES_ONE_IN) == SKETCHES_ONE_IN - 1
    # Frames that are encoded later have the bytes of others: this changes no world.
    deferred = tape.track("swarm, deferred frames").pick("subjects", [ORDINARY.checkpoint_deferred_subjects, 0, 3, 20])
    plan.limits = replace(plan.limits, checkpoint_deferred_subjects=deferred)
    return plan


def draw_plan(track: Track) -> Plan:
    """Draw what a world has always had."""
    limits = tiny_limits(track) if track.draw("tiny", 3) else ORDINARY
    plan = Plan(
        limits=limits,
        streams=track.between("streams", 1, 4),
        publishers=track.between("publishers", 1, 4),
        workers=track.between("workers", 1, 5),
        readers=track.between("readers", 0, 2),
        watchers=track.between("watchers", 0, 1),
        faults_ns=track.between("seconds", 2, 20) * SECOND,
        think_ns=track.pick("think", [20 * MS, 5 * MS, 100 * MS]),
    )
    plan.kill = _odds(track, "kill", 60_000)
    plan.kill_at_effect = _odds(track, "kill at effect", 60_000)
    plan.power = _odds(track, "power", 60_000)
    plan.drain = _odds(track, "drain", 20_000)
    plan.wall_jump = _odds(track, "wall jump", 30_000)
    plan.pause = _odds(track, "pause", 30_000)
    plan.full = _odds(track, "full", 30_000)
    plan.cancel = _odds(track, "cancel", 50_000)
    if track.draw("rot?", 4) == 3:
        plan.rot = track.magnitude("rot", 20_000)
    plan.disk = DiskFaults(
        read_error=_odds(track, "read error", 20_000),
        write_error=_odds(track, "write error", 3_000),
        sync_error=_odds(track, "sync error", 3_000),
        lose=track.draw("loss", 4) > 0,
        tear=track.draw("tears", 4) > 0,
        lose_names=track.draw("lost names", 4) > 0,
    )
    plan.pace = Pace(
        sync_ns=track.pick("sync", [300_000, 100_000, 3 * MS, 20 * MS]),
        read_ns=track.pick("read", [30_000, 30_000, 1 * MS, 50 * MS]),
        slow_per_million=_odds(track, "slow", 5_000),
    )
    plan.churn = _odds(track, "churn", 200_000)
    if not plan.disk.sync_error and not plan.power:
        # Syncs may come at intervals where no machine loses power: then every check holds as ever.
        plan.sync_interval_ms = track.pick("sync interval", [0, 0, 500, 20])
    # Fields that were added later are drawn last, and only where they apply, so that other worlds do not change.
    plan.selective = track.draw("selective", 3) == 2
    plan.other_starts = track.draw("other starts", 3) == 2
    plan.dry_runs = track.draw("dry runs", 3) == 2
    if (plan.disk.sync_error or plan.power) and not plan.rot and track.draw("late syncs", 4) == 3:
        plan.sync_interval_ms = track.pick("late sync interval", [500, 100, 20, 2_000])
    plan.archives = track.draw("archives", 5) == 4
    if plan.limits is not ORDINARY:
        plan.limits = replace(plan.limits, page_bytes_max=track.pick("page bytes", [8192 * KIB, 1 * KIB, 300]))
        plan.limits = replace(plan.limits, search_entries_max=track.pick("search entries", [10_000, 20, 1]))
    if plan.full:
        plan.targeted_disk_full = _odds(track, "full in ambush", 300_000)
        plan.disk.copy_on_write = track.draw("copy on write", 3) == 2
    plan.looks_at_ages = track.draw("looks at ages", 3) == 2
    if track.draw("wrong clock?", 6) == 5:
        plan.clock_wrong = track.magnitude("wrong clock", 40_000)
    if not plan.archives and not plan.may_lose_unsynced():
        plan.guests = track.draw("guests", 8) == 7
        if not plan.guests and not plan.disk.read_error:
            plan.pace.late_reads = track.pick("late reads", [0, 0, 0, 0, 0, 0, 20_000, 200_000])
    if not plan.rot and not plan.may_lose_unsynced() and track.draw("producers", 6) == 5:
        plan.producers = True
        plan.limits = replace(
            plan.limits,
            producers_max=track.pick("producers remembered", [1_024, 1_024, 1_024, 2, 1]),
            producer_spans_max=track.pick("spans remembered", [256, 256, 8, 2]),
        )
    if not plan.may_lose_unsynced() and track.draw("quorum", 4) == 3:
        plan.quorum = QuorumPlan(
            slow=track.pick("slow majorities", [0, 20_000, 200_000]),
            starves=track.pick("no majorities", [0, 300, 3_000]),
            deposes=track.pick("deposed", [0, 20_000, 200_000]),
        )
        plan.limits = replace(plan.limits, uncommitted_records_max=16)
    if plan.quorum is None:
        plan.old_format = track.draw("old format", 8) == 7
    if not plan.rot and not plan.may_lose_unsynced() and track.draw("objects", 10) == 9:
        plan.objects = True
        plan.limits = replace(
            plan.limits,
            object_grace_ms=track.pick("grace", [3_000, 500, 20]),
            object_tombstone_ms=track.pick("tombstone", [3_000, 500, 20]),
            object_revisions_max=track.pick("revisions", [64, 3, 1]),
            object_map_bytes_max=track.pick("map", [192 * KIB, 192 * KIB, 200]),
        )
    if plan.quorum is not None:
        plan.quorum.cuts = track.pick("cut off", [0, 200_000, 800_000])
    return plan

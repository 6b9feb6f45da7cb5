"""Marks: the situations that a healthy campaign reaches, and how they are recognized from outside.

A check that no run can make fail proves nothing. Each mark is counted where it shows: in answers, deliveries, log
lines, the node's counters, and its disk jobs; the core knows nothing of them. `REQUIRED` names those that a campaign
must have reached; the others are only reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from waymaker_core.api.effects import Effect, Job, Lane
from waymaker_core.model.disk_ops import CopyChunks, Delete, DiskOp, Rename, Write
from waymaker_core.node.stats import NodeStats
from waymaker_core.storage.paths import BLOCKS, CHECKPOINTS, MANIFEST

REQUIRED: dict[str, str] = {
    # -- store
    "kill": "the process dies, the page cache does not",
    "kill at effect": "the process dies between two effects of one step",
    "power loss": "the machine stops, and loses what was not synced",
    "looked at what a loss of power left": "a machine that syncs at intervals stops",
    "unsynced publish lost": "what was confirmed and not yet synced is lost with the machine",
    "unsynced ack perhaps lost": "an acknowledgement that was not yet synced may be lost with the machine",
    "crash while recovering": "a start is interrupted",
    "halted: clean": "an orderly stop comes to its end",
    "halted: unclean": "the node gives itself up, for it cannot promise durability any more",
    "log torn_tail_cut": "a start cuts off what a crash left half written",
    "log disk_full": "the disk is full",
    "refused: the disk is full": "a caller is told so",
    "commit retried": "a write of the journal finds no room, and is tried again",
    "log disk_has_room": "there is room again",
    "orphans found": "a start finds files that nobody names",
    "checkpoint finished": "a checkpoint comes into force",
    "checkpoint interrupted": "a crash meets a checkpoint half-way",
    "log checkpoint_failed": "the disk fails a checkpoint",
    "block gone as soon as moved": "retention takes a block away around the time it gets its file",
    "index loaded": "a sealed block's index is read from its file",
    "index loaded again": "indexes are given up for want of room, and read again",
    "bit rot": "a bit flips in what was durable",
    "log unreadable": "damage, or a failing disk, shows in a read",
    "log quarantined": "a start finds a stream damaged",
    "quarantined again": "a stream that was found damaged is still so after another start",
    "refused DATA_LOSS": "a caller is told of damage",
    "refused a rotten disk": "damage that belongs to no stream keeps the node from starting",
    "recovered twice": "one disk image is recovered twice, beside the run",
    # -- archives
    "archive taken": "a stream is taken out as an archive",
    "archive put back": "an archive is a stream again, under another name",
    "copy audited": "such a stream is read whole in the end",
    "import interrupted": "the process goes in the middle of an import",
    "import given up": "an import ends without becoming a stream",
    # -- retention
    "gone: limits": "age, count, bytes or the cap of a subject took a confirmed message away",
    "gone: interest": "a confirmed message went because nobody was interested any more",
    "gone: work_queue": "a confirmed message went with its acknowledgement or into a dead letter",
    "aged in time": "a page is looked at for what should have gone for its age",
    "pruned": "retention removes messages by itself",
    "update pruned": "new settings remove messages at once",
    "dry run": "an update is only tried",
    "dry run confirmed": "an update prunes, and as much as its dry run had counted in the same state",
    # -- delivery
    "subscription delivered": "messages reach a subscriber",
    "subscription ended: empty": "a reader that wanted no more came to the end",
    "subscription ended: consumer_deleted": "a reader hears that its consumer is gone",
    "subscription ended: stream_deleted": "a reader hears that its stream is gone",
    "subscription ended: server_shutdown": "a reader hears of an orderly stop",
    "begun by time": "a consumer is given messages that begin at a time",
    "passed over by time": "messages are there that a consumer passed over for their time",
    "redelivery": "a message is delivered again",
    "redelivery after a restart": "a message that was out when the process stopped is delivered again",
    "ack confirmed": "an acknowledgement is confirmed",
    "ack of an earlier life's delivery": "an acknowledgement counts that is of a delivery before the last restart",
    "wait extended": "a client that is still at it has its wait begun anew",
    "put off": "a message that was handed back with a delay comes again after it",
    "dead letter written": "a message is given up and its dead letter is there",
    "queue group member left with pending": "a member goes and leaves its deliveries to the others",
    # -- clients and clocks
    "subject rejected": "a publish goes to a subject that its stream does not take",
    "dead letters not taken": "a consumer wants its dead letters where its stream takes none",
    "wrong revision": "a conditional publish is refused by what it found",
    "linearizable": "the history of a subject is judged and fine",
    "doubt resolved": "the outcome of a change got lost, and was found out",
    "stream updated": "settings change",
    "stream deleted": "a stream ends",
    "consumer deleted": "a consumer ends",
    "refused RESOURCE_EXHAUSTED": "a caller is told that there is no room",
    "refused UNAVAILABLE": "a caller is told to come later",
    "watcher lagged": "a watcher is told that it has missed events",
    "drain": "an orderly stop begins",
    "pause": "the process stands still for a while",
    "clock jumped back": "the wall clock is set back",
}
"""Name and meaning."""


def never_reached(marks: Mapping[str, int]) -> list[str]:
    """Return the required marks that a campaign with these counts did not reach."""
    return [name for name in REQUIRED if not marks.get(name)]


def report(marks: Mapping[str, int]) -> list[str]:
    """Return lines for people: every mark with its count, then those that were never reached."""
    lines = [f"  {times:>10,}  {name}" for name, times in sorted(marks.items())]
    missing = never_reached(marks)
    lines.append(f"{len(REQUIRED) - len(missing)} of {len(REQUIRED)} required marks reached")
    return lines + [f"  never reached: {name} ({REQUIRED[name]})" for name in missing]


class MarkRecorder:
    """Observes one machine, and marks what shows in its node's counters and disk jobs."""

    def __init__(self, mark: Callable[[str], None]) -> None:
        self._mark = mark
        self._stats: NodeStats | None = None
        self._running = False
        self._fresh: set[str] = set()

    def stepped(self, stats: NodeStats | None, effects: Sequence[Effect]) -> None:
        """Count the marks of one step of the node."""
        self._stats = stats
        for effect in effects:
            if isinstance(effect, Job) and effect.lane is Lane.BACKGROUND:
                for op in effect.ops:
                    self._look_at(op)

    def _look_at(self, op: DiskOp) -> None:
        match op:
            case Write() if op.path.startswith(CHECKPOINTS):
                self._running = True
            case CopyChunks():
                if not self._running:
                    self._fresh.clear()
                self._running = True
                if op.path.startswith(BLOCKS):
                    self._fresh.add(op.path)
            case Rename() if op.target == MANIFEST:
                self._running = False
            case Delete() if op.path in self._fresh:
                self._mark("block gone as soon as moved")
            case _:
                pass

    def stopped(self) -> None:
        """Add the counters of a process that stopped, or of a run that is over."""
        stats, self._stats = self._stats, None
        if stats is None:
            return
        if self._running:
            self._mark("checkpoint interrupted")
        self._running = False
        self._fresh.clear()
        counted = {
            "checkpoint finished": stats.checkpoints,
            "orphans found": stats.recovered_orphans,
            "index loaded": stats.index_loads,
            "index loaded again": stats.index_loads if stats.index_evictions else 0,
            "pruned": stats.pruned_messages,
            "redelivery": stats.redelivered_messages,
            "commit retried": stats.commit_retries,
        }
        for name, count in counted.items():
            if count:
                self._mark(name)

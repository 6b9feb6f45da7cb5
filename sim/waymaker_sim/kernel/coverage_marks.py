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
    "kill": "the process is killed, the page cache stays",
    "a stream without a majority": "nothing of one stream is confirmed for a while",
    "deleted before a majority had it": "a stream is deleted while its records wait for a majority",
    "a suffix after a start": "a start finds records that are not known to be committed",
    "a suffix is cut off": "another leader cut off the end of a log that nothing had confirmed",
    "deposed": "another node leads all streams for a while",
    "kill at effect": "the process is killed between two effects of one step",
    "power loss": "the machine stops, and loses what was not synced",
    "looked at what a loss of power left": "a machine with interval sync loses power",
    "unsynced publish lost": "a loss of power loses what was confirmed and not yet synced",
    "unsynced ack perhaps lost": "a loss of power may lose an acknowledgement that was not yet synced",
    "crash while recovering": "a start is interrupted",
    "halted: clean": "an orderly stop ends",
    "halted: unclean": "the node halts, for it cannot promise durability any more",
    "log torn_tail_cut": "a start cuts off a write that a crash interrupted",
    "log disk_full": "the disk is full",
    "refused: the disk is full": "a caller is refused for it",
    "commit retried": "a write of the journal finds no space, and is retried",
    "log disk_has_room": "the disk has space again",
    "orphans found": "a start finds files that neither manifest nor snapshots name",
    "checkpoint finished": "a checkpoint comes into force",
    "checkpoint interrupted": "a crash interrupts a checkpoint",
    "log checkpoint_failed": "the disk fails a checkpoint",
    "block gone as soon as moved": "retention removes a block around the time of its relocation",
    "index loaded": "a sealed block's index is read from its file",
    "index loaded again": "indexes are evicted for lack of memory, and read again",
    "bit rot": "a bit flips in what was durable",
    "log unreadable": "damage, or a failing disk, shows in a read",
    "log quarantined": "a start finds a stream damaged",
    "quarantined again": "a stream that was found damaged is still so after another start",
    "refused DATA_LOSS": "a caller is refused because of damage",
    "refused a rotten disk": "damage that belongs to no stream keeps the node from starting",
    "log migrated": "a start migrates a directory of an older format",
    "adopted": "streams are transferred to the disk of an earlier moment, beside the run",
    "recovered twice": "one disk image is recovered twice, beside the run",
    # -- archives
    "archive taken": "a stream is exported as an archive",
    "archive put back": "an archive is restored under another name",
    "copy audited": "the audit reads a restored stream",
    "import interrupted": "the process stops in the middle of an import",
    "import given up": "an import ends without becoming a stream",
    # -- retention
    "gone: limits": "age, count, bytes or the cap of a subject removed a confirmed message",
    "gone: interest": "interest retention removed a confirmed message",
    "gone: work_queue": "an acknowledgement or a dead letter removed a confirmed message",
    "aged in time": "a page is checked for messages that should have expired",
    "pruned": "retention removes messages without a call",
    "update pruned": "new settings remove messages at once",
    "dry run": "an update is tried as a dry run",
    "dry run confirmed": "an update prunes, and as much as its dry run had counted in the same state",
    # -- delivery
    "subscription delivered": "messages reach a subscriber",
    "subscription ended: empty": "a subscription with `stop_when_empty` ends",
    "subscription ended: consumer_deleted": "a reader learns that its consumer is deleted",
    "subscription ended: stream_deleted": "a reader learns that its stream is deleted",
    "subscription ended: server_shutdown": "a reader learns of an orderly stop",
    "begun by time": "a consumer with a start time gets messages",
    "passed over by time": "a consumer with a start time skips earlier messages",
    "redelivery": "a message is delivered again",
    "redelivery after a restart": "a message that was pending when the process stopped is delivered again",
    "ack confirmed": "an acknowledgement is confirmed",
    "ack of an earlier life's delivery": "an acknowledgement of a delivery before the last restart counts",
    "wait extended": "an in-progress begins the wait anew",
    "put off": "a message is delivered again after a nak with a delay",
    "dead letter written": "a message is dropped and its dead letter is stored",
    "queue group member left with pending": "a member with pending deliveries is deleted, and the others get them",
    # -- clients and clocks
    "subject rejected": "a publish is refused for its subject",
    "dead letters not taken": "a consumer is refused for a dead-letter subject that its stream rejects",
    "wrong revision": "a conditional publish is refused by what it found",
    "producer lost its connection": "a producer gives up its calls, and sends their messages again",
    "sent again and stored before": "a message that was sent again had been stored, and is answered alike",
    "sent again and forgotten": "a stream has forgotten the number of a message that is sent again",
    "producer fenced": "what an older epoch of a producer sends is refused",
    "linearizable": "the history of a subject is found linearizable",
    "doubt resolved": "the outcome of a change got lost, and was resolved",
    "stream updated": "settings change",
    "stream deleted": "a stream is deleted",
    "consumer deleted": "a consumer is deleted",
    "refused RESOURCE_EXHAUSTED": "a caller is refused for lack of space",
    "refused UNAVAILABLE": "a caller is refused, and may try later",
    "watcher lagged": "a watcher learns that it missed events",
    "drain": "an orderly stop begins",
    "pause": "the process is paused",
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

"""Interval sync: what a loss of power may remove from a node that syncs at intervals, and what the history knows
afterwards.

Answers leave before they are durable. The promise is: a process that crashes alone loses nothing. A machine that loses
power loses at most what was confirmed since the last sync, and that sync is no longer ago than the interval and the
sync itself. Where something is lost, nothing later is left (never a hole). No sequence is given twice. What was there
before the last sync is as safe as if every answer had waited for it.

The disk knows when the whole journal was last synced. The check reads the remaining state from a copy of the disk,
before any client acts. From there on a later confirmation counts as an answer that got lost, unless its effect is
there: then it is durable. Streams, their settings and creations of consumers do not wait for the interval. The deletion
of a consumer does, and the history takes it as done only once it is durable (`settle`), so that incarnations stay
certain.
"""

from __future__ import annotations

from collections.abc import Callable

from waymaker_core.model.types import Now
from waymaker_core.storage.errors import StoreRefused
from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.history.history import Attempt, Letter, StreamIncarnation
from waymaker_sim.kernel.checks import Violation, require, violated
from waymaker_sim.kernel.events import MS
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.instant import InstantNode
from waymaker_sim.machine.observations import Seen, SeenStream, observe
from waymaker_sim.machine.process import Process
from waymaker_sim.machine.swarm import Plan

GRACE_NS = 20 * MS
"""Time of a sync beside its disk operations."""


class IntervalSync:
    """One machine whose answers do not wait for their sync, and which may lose power."""

    def __init__(self, plan: Plan, view: ClientView, process: Process, twins: Track) -> None:
        self._view = view
        self._process = process
        self._twins = twins
        self._interval_ns = plan.sync_interval_ms * MS
        self._sync_ns = 2 * plan.pace.sync_ns
        stalls = plan.pause or plan.full or plan.pace.slow_per_million or plan.disk.write_error
        self._punctual = not stalls
        """True if nothing delays a due sync."""
        self._synced_ns = 0
        self._up = False
        self._losses = 0
        self._waiting: list[tuple[Callable[[], None], Callable[[], None]]] = []
        process.disk.on_journal_synced = self._synced
        process.on_up = self._started
        view.settle = self.settle

    def _started(self) -> None:
        self._up = True

    def _synced(self) -> None:
        """Note that everything written is durable."""
        self._synced_ns = self._view.events.now_ns
        waiting, self._waiting = self._waiting, []
        for settled, _ in waiting:
            self._view.events.after(0, settled)

    def settle(self, settled: Callable[[], None], lost: Callable[[], None]) -> None:
        """Call `settled` once what was just confirmed is durable, or `lost` when it may have got lost."""
        if self._process.disk.unsynced_journal:
            self._waiting.append((settled, lost))
        else:
            settled()

    # ------------------------------------------------------------ a machine that stops

    def down(self) -> None:
        """Note that the process stopped. If it lost something, find out what, and check that it may be lost."""
        was_up, self._up = self._up, False
        disk = self._process.disk
        if disk.losses == self._losses:
            return
        self._losses = disk.losses
        now_ns = self._view.events.now_ns
        since_ns = self._synced_ns
        if was_up and self._punctual:
            late_ns = self._interval_ns + self._sync_ns * (2 + len(disk.unsynced_journal)) + GRACE_NS
            since_ns = max(since_ns, now_ns - late_ns)
        disk.forget_unsynced()
        waiting, self._waiting = self._waiting, []
        for _, lost in waiting:
            lost()
        seen = self._read_image()
        self._view.mark("looked at what a loss of power left")
        for name, stream in self._view.streams.items():
            if stream.steady() and stream.doubt is None:
                self._check_stream(name, stream.incarnation, seen, since_ns)
            for incarnation in self._view.history.incarnations:
                if incarnation.name == name and not incarnation.ended and not incarnation.config.ephemeral:
                    self._roll_back(incarnation, since_ns)
            there = seen.get(name)
            if stream.steady() and stream.incarnation is not None and isinstance(there, SeenStream):
                self._learn(stream.incarnation, there)
            stream.seen_ns = now_ns

    def _read_image(self) -> Seen:
        twin = self._process.disk.copy(self._twins)
        try:
            return observe(InstantNode(self._process.config, twin, Now(1, self._process.now().wall_ms)))
        except StoreRefused as refusal:
            violated("recovery honest", f"after a loss of power: {refusal}")
        except Violation:
            raise
        except Exception as error:
            violated("node raised", f"after a loss of power: {type(error).__name__}: {error}")

    def _check_stream(self, name: str, incarnation: StreamIncarnation | None, seen: Seen, since_ns: int) -> None:
        """Compare what is left of a stream with what had to be durable."""
        there = seen.get(name)
        if incarnation is None:
            require(there is None, "late syncs", f"{name} was deleted for good and is back")
            return
        if incarnation.config.ephemeral:
            return
        if not isinstance(there, SeenStream):
            violated("late syncs", f"{name} was created for good and is gone: {there}")
        found = {message.seq for message in there.messages}
        last, wall_max_ms = max(found, default=0), self._process.wall_max_ms
        for seq in found:
            gone_ns = incarnation.gone_ns.get(seq)
            require(gone_ns is None or gone_ns > since_ns, "nothing returns", f"{name} seq {seq} was gone and is back")
        for seq, attempt in incarnation.live.items():
            if seq in found or incarnation.may_be_removed(seq, wall_max_ms):
                continue
            what = f"{name} seq {seq}, confirmed at {attempt.confirmed_ns}, synced at {since_ns}"
            require(attempt.confirmed_ns > since_ns, "late syncs", f"{what}, is gone")
            require(seq > last, "late syncs", f"{what}, is gone, and {last} is not")
            self._view.mark("unsynced publish lost")
        for known in self._view.streams[name].consumers.values():
            consumer, group = there.consumers.get(known.name), known.group
            if group is None or not known.steady() or known.doubt is not None:
                continue
            if consumer is None:
                violated("late syncs", f"{name}/{known.name} was created for good and is gone")
            floor, dropped = group.risen_by(since_ns)
            what = f"{name}/{known.name}: floor {consumer.floor}, dropped {consumer.dropped}"
            require(
                consumer.floor >= floor and consumer.dropped >= dropped, "late syncs", f"{what}; {floor}, {dropped}"
            )
            for seq, done_ns in group.done_ns.items():
                if done_ns > since_ns and consumer.floor < seq:
                    self._view.mark("unsynced ack perhaps lost")

    @staticmethod
    def _roll_back(incarnation: StreamIncarnation, since_ns: int) -> None:
        """Mark as uncertain what clients read since then."""
        incarnation.rolled_back = True
        for seq in [seq for seq, attempt in incarnation.live.items() if attempt.confirmed_ns > since_ns]:
            del incarnation.live[seq]
        for seq in [seq for seq, gone_ns in incarnation.gone_ns.items() if gone_ns > since_ns]:
            del incarnation.gone_ns[seq]
        for seq, message in incarnation.at.items():
            if isinstance(message, Letter):
                message.group = None
                incarnation.unsynced.add(seq)
            elif not 0 <= message.confirmed_ns <= since_ns:
                incarnation.unsynced.add(seq)
        incarnation.first_seq = 0
        incarnation.last_seq = max((seq for seq in incarnation.at if seq not in incarnation.unsynced), default=0)
        for group in incarnation.groups:
            group.letters.clear()
            group.roll_back(since_ns)

    def _learn(self, incarnation: StreamIncarnation, there: SeenStream) -> None:
        """Mark what is there as durable, and the missing end as lost for good."""
        now_ns = self._view.events.now_ns
        for message in there.messages:
            attempt = incarnation.at.get(message.seq)
            incarnation.unsynced.discard(message.seq)
            if isinstance(attempt, Attempt) and attempt.confirmed_ns >= 0:
                incarnation.live[message.seq] = attempt
        for seq in incarnation.unsynced:
            if not incarnation.may_be_removed(seq, self._process.wall_max_ms):
                incarnation.gone_ns.setdefault(seq, now_ns)

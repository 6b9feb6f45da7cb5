"""The audit of a bucket at rest: its keys against the history, its watches against its messages, its bounds."""

from __future__ import annotations

from collections.abc import Sequence

from waymaker_core.kv.keys import key_subject
from waymaker_sim.checkers.linear import NOTHING, Kind, Operation, Verdict, check_register
from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.clients.key_client import BUCKET, BucketPlan, decoded
from waymaker_sim.clients.key_watcher import KeyWatcher
from waymaker_sim.history.keys import KeyBook
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.kernel.events import MS
from waymaker_sim.machine.process import ReceivedMessage

LATE_NS = 1_000 * MS
"""Time for which an end may be late at rest, where nothing hinders it."""


class KeyAudit:
    """Checks what was read of a bucket at rest: every message that is there, in order."""

    def __init__(self, view: ClientView, plan: BucketPlan, book: KeyBook, messages: Sequence[ReceivedMessage]) -> None:
        self.view = view
        self.plan = plan
        self.book = book
        self.messages = messages
        self.newest: dict[str, tuple[int, int]] = {}
        self.times_ms = {message.seq: message.time_ms for message in messages}
        for message in messages:
            name, value = decoded(message)
            book.keys[name].saw(message.seq, value)
            self.newest[name] = (message.seq, value)

    def check(self, watchers: Sequence[KeyWatcher]) -> None:
        """Check everything."""
        self._ends()
        self._purges()
        self._bounds()
        self._registers()
        for watcher in watchers:
            self._watch(watcher)

    def _ends(self) -> None:
        """Require that every value whose time to live is over has ended, though no client asked for it."""
        for name, (seq, value) in self.newest.items():
            write = self.book.writes.get(value)
            if write is None or not write.ttl_ms or write.touched:
                continue
            since_ns = max(write.asked_ns, self.view.access.up_ns)
            over_ns = self.view.events.now_ns - since_ns - write.ttl_ms * MS
            require(over_ns < LATE_NS, "ends in time", f"revision {seq} of {name} should have ended {over_ns} ns ago")

    def _purges(self) -> None:
        """Require that every tombstone has gone whose time is over."""
        tombstone_ms = self.plan.tombstone_ms
        if not tombstone_ms or not self.book.sane_clocks:
            return
        for name, (seq, value) in self.newest.items():
            over_ms = self.view.access.now().wall_ms - self.times_ms[seq] - tombstone_ms
            over_ms = min(over_ms, (self.view.events.now_ns - self.view.access.up_ns) // MS)
            require(
                value != NOTHING or over_ms * MS < LATE_NS, "ends in time",
                f"tombstone {seq} of {name} should have gone {over_ms} ms ago",
            )  # fmt: skip

    def _bounds(self) -> None:
        live = [seq for seq, value in self.newest.values() if value != NOTHING]
        kept: dict[str, int] = {}
        for message in self.messages:
            name, _ = decoded(message)
            kept[name] = kept.get(name, 0) + 1
            require(
                kept[name] <= self.plan.history, "limits hold", f"{name} has more than {self.plan.history} revisions"
            )
        bound = self.plan.max_messages
        require(
            not bound or len(live) <= bound, "limits hold", f"{len(live)} live keys in a bucket of {bound} messages"
        )
        live_bytes = sum(
            len(key_subject(BUCKET, name)) + len(str(value))
            for name, (_, value) in self.newest.items()
            if value != NOTHING
        )
        bound = self.plan.max_bytes
        require(
            not bound or live_bytes <= bound, "limits hold", f"{live_bytes} bytes live in a bucket of {bound} bytes"
        )

    def _registers(self) -> None:
        now_ns = self.view.events.now_ns
        for key in self.book.keys.values():
            value = self.newest.get(key.name, (0, NOTHING))[1]
            operations = [Operation(Kind(each.kind), *each[1:]) for each in key.operations]
            operations.append(Operation(Kind.READ, value, now_ns, now_ns))
            finding = check_register(operations, vanishing=key.expires)
            if finding.verdict is Verdict.VIOLATED:
                violated("linearizable", f"key {key.name}: {finding.stuck}")
            self.view.mark("keys " + finding.verdict.value)

    def _watch(self, watcher: KeyWatcher) -> None:
        """Require that a watch saw every change since it began, and the newest of what was there before."""
        if watcher.begun_ns < 0:
            return
        seen = set(watcher.seen)
        later = [revision for asked_ns, revision in self.book.confirmed if asked_ns > watcher.begun_ns]
        first = min(later, default=None)
        for message in self.messages:
            name, value = decoded(message)
            newest = self.newest[name][0] == message.seq and value != NOTHING
            if newest or (first is not None and message.seq >= first):
                require(message.seq in seen, "watch whole", f"revision {message.seq} of {name} was never sent")
        self.view.mark("watch of keys judged")

"""A client of one key whose values end: it reads the key just after the end, also where the process could not act on it.

No other client changes its key, so its state is nearly always known exactly. Now and then it stops the process shortly before a
value ends, and reads meanwhile: the read and the end then reach the node in one step.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.api.kv_requests import KvOp
from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.clients.key_client import STREAM, BucketPlan, KeyClient
from waymaker_sim.history.keys import NOTHING, SLACK_NS, Key, KeyBook
from waymaker_sim.kernel.events import MS
from waymaker_sim.kernel.tape import Track

ENDING: Final = "e"
"""The key."""
TTLS_MS: Final = (400, 0, 50, 120, 1_500)
STOPPED_NS_MAX: Final = 500 * MS
"""Time for which the process is stopped at most."""
WAITED_NS_MAX: Final = 2_000 * MS


class KeyEnds:
    """Puts, touches and deletes the key, and reads it around the ends of its values."""

    def __init__(self, view: ClientView, track: Track, plan: BucketPlan, book: KeyBook) -> None:
        self.view = view
        self.track = track
        self.book = book
        self.calls = KeyClient(view, track, plan, book, TTLS_MS)
        self._wait_until_ns = 0

    def act(self) -> None:
        """Make one call, or wait for an end."""
        self.track.begin()
        now_ns = self.view.events.now_ns
        if self.calls.busy or now_ns < self._wait_until_ns:
            return
        key = self.book.keys[ENDING]
        exact = key.exact
        if exact is None or exact.value == NOTHING:
            self.calls.write(key, KvOp.PUT)
            return
        end_ns = exact.answered_ns + exact.ttl_ms * MS + SLACK_NS
        if not exact.ttl_ms or now_ns >= end_ns:
            self._without_end(key)
        else:
            self._before(key, end_ns)

    def _without_end(self, key: Key) -> None:
        """Read a value that has ended, or that has no end, or go on with another one."""
        kind = self.track.weighted("over", ((3, "get"), (3, "put"), (3, "touch"), (1, "delete")))
        if kind == "get":
            self.calls.get(key)
        else:
            self.calls.write(key, KvOp[kind.upper()])

    def _before(self, key: Key, end_ns: int) -> None:
        """Wait for the end of a value, change it, or let it come while the process is stopped."""
        now_ns = self.view.events.now_ns
        kind = self.track.weighted(
            "ends", ((1, "get"), (4, "wait"), (3, "touch"), (5, "stop"), (1, "put"), (1, "delete"))
        )
        if kind == "get":
            self.calls.get(key)
        elif kind == "wait":
            self._wait_until_ns = min(end_ns, now_ns + WAITED_NS_MAX)
        elif kind == "stop":
            self._stop(end_ns)
        else:
            self.calls.write(key, KvOp[kind.upper()])
            if kind == "touch" and self.track.draw("until the old end", 2):
                self._wait_until_ns = min(end_ns, now_ns + WAITED_NS_MAX)

    def _stop(self, end_ns: int) -> None:
        """Stop the process that leads the bucket until a value has ended, and read it when it has."""
        events = self.view.events
        if not self.view.faulty or end_ns - events.now_ns > STOPPED_NS_MAX:
            return
        if not self.view.access.pause_primary(STREAM, end_ns + 2 * MS - events.now_ns):
            return
        self._wait_until_ns = end_ns + 2 * MS
        self.view.mark("value ended in a pause")
        events.at(end_ns + MS, self._read)

    def _read(self) -> None:
        if not self.calls.busy:
            self.track.begin()
            self.calls.get(self.book.keys[ENDING])

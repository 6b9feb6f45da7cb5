"""A watcher of keys: one watch that is begun again behind what it saw wherever it ends, and misses nothing meanwhile."""

from __future__ import annotations

from waymaker_core.api.effects import End, Event
from waymaker_core.api.kv_requests import KvWatch
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import Token
from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.clients.key_client import BUCKET, decoded
from waymaker_sim.history.keys import KeyBook
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId

CREDIT_BYTES = 64 * 1024


class KeyWatcher:
    """Watches all keys; `seen` are the revisions that it was sent, in order."""

    def __init__(self, view: ClientView, track: Track, book: KeyBook) -> None:
        self.view = view
        self.track = track
        self.book = book
        self.token: Token | None = None
        self.credit = 0
        self.begun_ns = -1
        """Time from which on it was sure to hear of every change."""
        self.seen: list[int] = []

    def act(self) -> None:
        """Begin, grant credit, or hang up."""
        self.track.begin()
        if self.token is None:
            self.begin()
        elif self.track.draw("hang up", 30) == 29:
            self.hang_up()
        elif self.track.draw("room", 2):
            self.grant(5)

    def begin(self) -> None:
        """Begin a watch, behind what was seen."""
        after = self.seen[-1] if self.seen else None
        self.credit = 0
        if after is None:
            self.begun_ns = -1
        self.token = self.view.access.call(KvWatch(BUCKET, "", after), self)

    def hang_up(self) -> None:
        """Cancel the watch."""
        if self.token is not None:
            self.view.access.cancel(self.token)
            self.token = None

    def grant(self, messages: int) -> None:
        """Grant credit."""
        if self.token is not None:
            self.credit += messages
            self.view.access.credit(self.token, messages, CREDIT_BYTES)

    def forget(self) -> None:
        """Cancel the watch, and let the next one begin anew: with the live values, whatever this one saw."""
        self.hang_up()
        self.seen = []
        self.begun_ns = -1

    # ------------------------------------------------------------ as a caller

    def replied(self, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        violated("answer allowed", f"a watch of keys was answered with {answer!r}")

    def delivered(self, got: list[ReceivedMessage], step_id: StepId) -> None:
        if self.begun_ns < 0:
            self.begun_ns = self.view.events.now_ns
        self.credit -= len(got)
        require(self.credit >= 0, "within credit", "a watcher of keys was sent more than it has room for")
        for message in got:
            last = self.seen[-1] if self.seen else 0
            require(message.seq > last, "watch whole", f"revision {message.seq} was sent after {last}")
            name, value = decoded(message)
            self.book.keys[name].saw(message.seq, value)
            self.seen.append(message.seq)
            if not value:
                self.view.mark("end of a key watched")

    def notified(self, event: Event) -> None:
        violated("answer allowed", "a watch of keys was sent events")

    def ended(self, end: End) -> None:
        self.token = None
        if end.refusal is None:
            require(end.reason in ("server_shutdown", "moved"), "answer allowed", f"a watch of keys: {end.reason!r}")
        elif end.refusal.status is not Status.NOT_FOUND:
            self.view.check_refusal("KvWatch", end.refusal)

    def lost(self) -> None:
        self.token = None


class LateKeyWatcher(KeyWatcher):
    """A watcher that begins anew now and then, and takes one message after the other: keys change before it has all values."""

    def act(self) -> None:
        self.track.begin()
        if self.token is None:
            self.begin()
        elif self.track.draw("begin anew", 12) == 11:
            self.forget()
        elif self.track.draw("room", 3):
            self.grant(1)
            self.view.mark("watch of keys granted late")

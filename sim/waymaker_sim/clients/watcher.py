"""Clients that watch creations and deletions of streams and consumers."""

from __future__ import annotations

from waymaker_core.api.effects import End, Event
from waymaker_core.api.requests import WatchStreams
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import Token
from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId

CREDIT_BYTES = 64 * 1024


class Watcher:
    """Watches creations and deletions of streams and consumers."""

    def __init__(self, view: ClientView, track: Track) -> None:
        self.view = view
        self.track = track
        self.watch: Watch | None = None

    def act(self) -> None:
        """Start, grant credit, or cancel."""
        self.track.begin()
        if self.watch is None:
            watch = Watch(self)
            watch.token = self.view.access.call(WatchStreams(), watch)
            if watch.token is not None:
                self.watch = watch
        elif self.track.draw("hang up", 30) == 29:
            self.hang_up()
        elif self.track.draw("room", 2):
            assert self.watch.token is not None
            self.watch.credit += 5
            self.view.access.credit(self.watch.token, 5, CREDIT_BYTES)

    def hang_up(self) -> None:
        """Cancel the watch."""
        if self.watch is not None and self.watch.token is not None:
            self.view.access.cancel(self.watch.token)
        self.watch = None


class Watch:
    """One watch."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.token: Token | None = None
        self.credit = 0

    def replied(self, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        violated("answer allowed", f"a watch was answered with {answer!r}")

    def delivered(self, got: list[ReceivedMessage], step_id: StepId) -> None:
        violated("answer allowed", "a watch was sent messages")

    def notified(self, event: Event) -> None:
        self.credit -= 1
        require(self.credit >= 0, "within credit", "a watcher was told more than it has room for")
        require(self.watcher.view.known(event.stream), "lives apart", f"nobody knows {event.stream}")
        if event.lagged:
            self.watcher.view.mark("watcher lagged")

    def ended(self, end: End) -> None:
        self.watcher.watch = None
        require(
            end.refusal is not None or end.reason == "server_shutdown", "answer allowed", f"a watch: {end.reason!r}"
        )

    def lost(self) -> None:
        self.watcher.watch = None

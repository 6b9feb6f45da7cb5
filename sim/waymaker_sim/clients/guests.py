"""A guest: creates consumers with an inactivity timeout, uses them for a while, and abandons them.

It checks that a consumer in use exists; at rest the audit checks that abandoned ones are deleted. Its consumers have
names of their own, in streams without interest retention, so that they change nothing for other clients.
"""

from __future__ import annotations

from dataclasses import dataclass

from waymaker_core.api.requests import Ack, AckKind, CreateConsumer, Fetch, Request
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import ConsumerConfig, Retention
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_sim.clients.client_view import Ask, ClientView, StreamName
from waymaker_sim.history.history import StreamIncarnation
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.events import MS
from waymaker_sim.kernel.tape import MILLION, Track
from waymaker_sim.machine.process import ReceivedMessage, StepId


@dataclass(slots=True)
class _ConsumerInUse:
    """The consumer that the guest uses now, and the time of the last call that the server confirmed."""

    stream: StreamName
    incarnation: StreamIncarnation
    config: ConsumerConfig
    used_ns: int


class Guest:
    """Uses one consumer at a time; `busy` while a call is in flight."""

    def __init__(self, view: ClientView, track: Track) -> None:
        self.view = view
        self.track = track
        self.busy = False
        self._in_use: _ConsumerInUse | None = None
        self._made = 0

    def act(self) -> None:
        """Create a consumer, use it, rest, or abandon it."""
        self.track.begin()
        if self.busy:
            return
        if self._in_use is None:
            self._arrive(self.view.streams[self.track.pick("stream", sorted(self.view.streams))])
            return
        kind = self.track.weighted("visit", ((6, "rest"), (4, "fetch"), (2, "ack"), (1, "leave")))
        name, consumer = self._in_use.stream.name, self._in_use.config.name
        if kind == "fetch":
            self._ask(Fetch(name, consumer, 3), self._in_use.stream)
        elif kind == "ack":
            self._ask(Ack(name, consumer, AckKind.ACK, [1 + self.track.draw("sequence", 20)], 0), self._in_use.stream)
        elif kind == "leave":
            self._in_use = None

    def _arrive(self, stream: StreamName) -> None:
        incarnation = stream.incarnation
        if (
            incarnation is None
            or not stream.steady()
            or incarnation.config.ephemeral
            or incarnation.config.retention is not Retention.LIMITS
        ):
            return
        self._made += 1
        inactive_ms = self.track.pick("inactive", (4_000, 2_000, 1_000))
        config = ConsumerConfig(f"guest{self._made}", ack_wait_ms=500, inactive_ms=inactive_ms)

        def made(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            self.busy = False
            if isinstance(answer, Answer) and answer.code == outcomes.OK and ask.incarnation() is incarnation:
                self._in_use = _ConsumerInUse(stream, incarnation, config, ask.asked_ns)

        self.busy = self.view.ask(CreateConsumer(stream.name, config), made, self._lost, stream) is not None

    def _ask(self, request: Request, stream: StreamName) -> None:
        self.busy = self.view.ask(request, self._used, self._lost, stream) is not None

    def _used(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        self.busy = False
        stay = self._in_use
        assert stay is not None
        if isinstance(answer, Refusal):
            return
        if answer.code == outcomes.OK:
            stay.used_ns = ask.asked_ns
            return
        self._in_use = None
        if ask.incarnation() is stay.incarnation and answer.code == outcomes.NO_SUCH_CONSUMER:
            idle_ms = (step_id.time_ns - stay.used_ns) // MS
            require(
                idle_ms >= stay.config.inactive_ms * (MILLION - self.view.rate_ppm) // MILLION, "used consumers stay",
                f"{stay.incarnation.name}/{stay.config.name} was used {idle_ms} ms ago and is gone, "
                f"{stay.config.inactive_ms} ms were promised",
            )  # fmt: skip
            self.view.mark("inactive consumer deleted")

    def _lost(self) -> None:
        self.busy = False

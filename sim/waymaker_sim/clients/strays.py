"""Stray answers: acks and terms of messages that were never delivered, sent first after an orderly stop.

They have no effect, so the history does not note them: a check notices a message that disappears, or that a floor
passes, although no client ever had it. They are sent only where the server must know all pending deliveries: no process
stopped abruptly since the consumer's creation, and nothing kept the last one from logging all of them.
"""

from __future__ import annotations

from waymaker_core.api.requests import Ack, AckKind
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_sim.clients.client_view import Ask, ClientView, ConsumerName, StreamName
from waymaker_sim.history.history import Attempt, Group
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId
from waymaker_sim.machine.swarm import Plan

AT_ONCE = 5
"""Messages that one stray answer names, at most."""


class Strays:
    """Sends answers for consumers that never received those messages."""

    def __init__(self, view: ClientView, track: Track, plan: Plan) -> None:
        self.view = view
        self.track = track
        self.possible = not (plan.full or plan.rot or plan.may_lose_unsynced())

    def started(self) -> None:
        """Send the stray answers at the start of a process, so that they are decided before any new delivery."""
        history = self.view.history
        if not self.possible or not history.orderly:
            return
        self.track.begin()
        if not self.track.draw("stray answers", 2):
            return
        for stream in self.view.streams.values():
            for consumer in stream.consumers.values():
                if stream.steady() and consumer.steady() and consumer.group is not None:
                    self._send(stream, consumer, consumer.group)

    def _send(self, stream: StreamName, consumer: ConsumerName, group: Group) -> None:
        incarnation = group.incarnation
        if (
            incarnation.damaged
            or incarnation.unsure
            or not group.certain
            or group.created_ns <= self.view.history.abrupt_ns
        ):
            return
        unseen = [seq for seq, message in incarnation.live.items() if self._is_unseen(group, seq, message)][:AT_ONCE]
        if unseen:
            kind = AckKind.TERM if self.track.draw("stray term", 2) else AckKind.ACK
            self.view.ask(Ack(stream.name, consumer.name, kind, unseen), _answered, _lost, stream, consumer)
            self.view.mark("stray answer")

    @staticmethod
    def _is_unseen(group: Group, seq: int, message: Attempt) -> bool:
        return not group.delivered_most(seq, message.asked_ns) and seq not in group.answered


def _answered(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
    pass


def _lost() -> None:
    pass

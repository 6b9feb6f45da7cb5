"""Stray answers: acks and terms of messages that were never delivered, sent first thing after an orderly stop.

They have no effect, so nothing is noted of them: a message that goes, or that a floor passes, is missed by the checks of
those who know that nobody ever had it. Only where the server must know all that was out: since the consumer began no process
stopped abruptly, and nothing kept the last one from saying that it logged everything.
"""

from __future__ import annotations

from waymaker_core.outcomes import Answer, Refusal
from waymaker_core.requests import Ack, AckKind
from waymaker_sim.ledger import Attempt, Group
from waymaker_sim.process import Got, Stamp
from waymaker_sim.scene import Ask, ConsumerName, Scene, StreamName
from waymaker_sim.swarm import Plan
from waymaker_sim.tape import Track

AT_ONCE = 5
"""Messages that one stray answer names at most."""


class Strays:
    """Answers for consumers that never got what they answer."""

    def __init__(self, scene: Scene, track: Track, plan: Plan) -> None:
        self.scene = scene
        self.track = track
        self.possible = not (plan.full or plan.rot or plan.may_lose_unsynced())

    def started(self) -> None:
        """The process is up and has heard nothing yet: what is sent now is judged before any new delivery."""
        ledger = self.scene.ledger
        if not self.possible or not ledger.orderly:
            return
        self.track.begin()
        if not self.track.draw("stray answers", 2):
            return
        for stream in self.scene.streams.values():
            for consumer in stream.consumers.values():
                if stream.steady() and consumer.steady() and consumer.group is not None:
                    self._send(stream, consumer, consumer.group)

    def _send(self, stream: StreamName, consumer: ConsumerName, group: Group) -> None:
        life = group.life
        if life.damaged or life.unsure or not group.certain or group.created_ns <= self.scene.ledger.abrupt_ns:
            return
        unseen = [seq for seq, message in life.live.items() if self._is_unseen(group, seq, message)][:AT_ONCE]
        if unseen:
            kind = AckKind.TERM if self.track.draw("stray term", 2) else AckKind.ACK
            self.scene.ask(Ack(stream.name, consumer.name, kind, unseen), _answered, _lost, stream, consumer)
            self.scene.mark("stray answer")

    @staticmethod
    def _is_unseen(group: Group, seq: int, message: Attempt) -> bool:
        return not group.delivered_most(seq, message.asked_ns) and seq not in group.answered


def _answered(ask: Ask, answer: Answer | Refusal, got: list[Got] | None, stamp: Stamp) -> None:
    pass


def _lost() -> None:
    pass

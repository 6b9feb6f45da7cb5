"""What is deleted leaves the memory: a few steps after its end nothing refers to a stream any more."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.kit.node_kit import Server
from tests.property.node.checkpoint.test_node_checkpoints import TINY, fill
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Effect, Job, Lane, Reply
from waymaker_core.api.inputs import Call, Input, JobFailed, Unreadable
from waymaker_core.api.requests import AckKind
from waymaker_core.model.disk_ops import DiskFailure, FailureKind
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import ANYONE, Token
from waymaker_core.node.stream_replica import StreamReplica


def replica(server: Server, name: str = "s") -> StreamReplica:
    state = server.node._state
    life = state.catalog.find("", name)
    assert life is not None
    return state.replicas[life.stream_id]


def references(server: Server) -> list[weakref.ref[object]]:
    """References to what a stream keeps in memory, which do not hold it."""
    one = replica(server)
    return [weakref.ref(one.stream), weakref.ref(one.consumers)]


def read_it(server: Server) -> None:
    """Replies with messages are remembered."""
    for _ in range(20):
        server.messages(rq.ReadLatest("s", "a.1"))
        server.messages(rq.ReadRange("s", 1, 5))
        server.messages(rq.ScanSubject("s", "a.1", 1, 5))


def follow_it(server: Server) -> None:
    """Readers that ended are remembered."""
    server.consumer()
    for _ in range(3):
        server.subscribe("s", "c", stop_when_empty=True, messages=1_000)
    server.subscribe("s", "c", messages=3)


def give_up(server: Server) -> None:
    """Dead letters were read and written."""
    server.consumer(max_deliver=1, ack_wait_ms=1_000, dead_letter_subject="dead")
    server.fetch(batch=20)
    server.pass_ms(1_500)


def acknowledge(server: Server) -> None:
    server.consumer()
    for seq, _, _ in server.fetch(batch=10):
        server.ack(seq)
    server.ack(15, kind=AckKind.TERM)


def load_indexes(server: Server) -> None:
    server.consumer(filter_subject="a.3")
    server.fetch(batch=50)
    server.messages(rq.ReadRange("s", 1, 200))


@pytest.mark.parametrize("use", [read_it, follow_it, give_up, acknowledge, load_indexes])
@pytest.mark.parametrize(
    "settings", [{}, {"max_msgs_per_subject": 3}, {"retention": "WORK_QUEUE"}, {"ephemeral": True}]
)
def test_nothing_refers_to_a_deleted_stream(use: Callable[[Server], None], settings: dict[str, object]) -> None:
    server = Server(TINY)
    server.create("s", block_size=20, **settings)
    server.create("other", block_size=20)
    fill(server, "s", 60)
    use(server)
    gone = references(server)
    server.ok(rq.DeleteStream("s"))
    server.pass_ms(1_000)
    gc.collect()
    assert [one() for one in gone] == [None, None]


class Holding(Server):
    """A server whose background jobs can be held back and then fail."""

    holding = False

    def open(self) -> None:
        self.held: list[Job] = []
        super().open()

    def perform(self, effect: Effect) -> list[Input]:
        if self.holding and isinstance(effect, Job) and effect.lane is Lane.BACKGROUND:
            self.held.append(effect)
            return []
        return super().perform(effect)

    def fail_held(self) -> None:
        held, self.held = self.held, []
        self.step(*[JobFailed(job.id, DiskFailure(FailureKind.NO_SPACE, "tails/1.tail", 0, "")) for job in held])


def test_a_checkpoint_that_failed_does_not_keep_a_deleted_stream() -> None:
    server = Holding(replace(TINY, disk_retry_ms=60_000, segments_spare=4))
    server.create("s", block_size=20)
    server.create("other", block_size=20)
    server.pass_ms(100)
    server.holding = True
    for number in range(200):
        server.publish("s", bytes(100), subject=f"a.{number % 7}")
        if server.node._checkpoints.running:
            break
    assert server.node._checkpoints.running
    gone = references(server)
    server.ok(rq.DeleteStream("s"))
    server.fail_held()
    server.pass_ms(1_000)
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_what_cannot_be_read_of_a_stream_that_is_gone_is_put_down_to_no_other() -> None:
    server = Server(TINY)
    server.create("s")
    server.create("other")
    fill(server, "s", 10)
    token = server.token()
    effects = server.node.step(server.now(), [Call(Token(token), ANYONE, rq.ReadRange("s", 1, 5))])
    reply = next(effect for effect in effects if isinstance(effect, Reply))
    assert isinstance(reply.answer, Answer)
    assert isinstance(reply.answer.value, rq.Messages)
    server.ok(rq.DeleteStream("s"))
    failure = DiskFailure(FailureKind.MISSING, "journal/0000000000000001.seg", 64, "deleted")
    server.step(Unreadable(Token(token), failure, [reply.answer.value]))
    answer = server.replies[token]
    assert isinstance(answer, Refusal)
    assert answer.status is Status.DATA_LOSS
    assert server.node.quarantined() == []

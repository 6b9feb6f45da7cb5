"""Copying from sources whose reads end late, or fail: what changes meanwhile is not missed, and what is over is not stored."""

from __future__ import annotations

from tests.kit.source_kit import SourceServer, source
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Effect, Job, Lane
from waymaker_core.api.inputs import Input, JobFailed, Lead, StepDown
from waymaker_core.model.disk_ops import DiskFailure, FailureKind


class SlowServer(SourceServer):
    """A server whose reads for copies end when the test says so."""

    def open(self) -> None:
        self.held: list[Job] = []
        self.holding = False
        super().open()

    def perform(self, effect: Effect) -> list[Input]:
        if self.holding and isinstance(effect, Job) and effect.lane is Lane.READ:
            self.held.append(effect)
            return []
        return super().perform(effect)

    def release(self) -> None:
        held, self.held, self.holding = self.held, [], False
        self.step(*map(self.do, held))


def slow() -> SlowServer:
    server = SlowServer(replicated=True)
    server.create("a")
    server.create("b", sources=(source(),))
    server.send("a", 1)
    server.holding = True
    server.send("a", 2)
    assert len(server.held) == 1
    return server


def end_of(server: SourceServer, name: str) -> int:
    return next(figures.end for figures in server.node.log_figures() if figures.name == name)


def test_what_was_read_for_a_former_leader_is_not_stored() -> None:
    server = slow()
    before = end_of(server, "b")
    server.step(StepDown(server.log_id("b")))
    server.release()
    server.send("a", 1)
    assert end_of(server, "b") == before
    server.step(Lead(server.log_id("b")))
    assert server.origins() == [1, 2, 3, 4]


def test_a_change_while_the_source_is_read_is_not_missed() -> None:
    server = slow()
    server.send("a", 3)
    server.release()
    assert server.origins() == [1, 2, 3, 4, 5, 6]


def test_a_source_that_is_deleted_while_it_is_read() -> None:
    server = slow()
    server.ok(rq.DeleteStream("a"))
    server.create("a")
    server.send("a", 1, start=9)
    server.release()
    assert [copy.payload for copy in server.copies()] == [b"0", b"0", b"1", b"9"]


def test_a_stream_that_is_deleted_while_its_source_is_read() -> None:
    server = slow()
    server.ok(rq.DeleteStream("b"))
    server.release()
    server.create("b", sources=(source(),))
    assert server.origins() == [1, 2, 3]


def test_an_unreadable_source_is_tried_again() -> None:
    server = slow()
    held, server.held, server.holding = server.held, [], False
    failure = DiskFailure(FailureKind.IO, "journal/1", 0, "broken")
    server.step(*[JobFailed(job.id, failure) for job in held])
    assert "could not be read" in server.status().last_error
    server.pass_ms(1_000)
    assert server.origins() == [1, 2, 3]
    assert server.status().last_error == ""


def test_a_read_error_does_not_hide_that_copying_has_stopped() -> None:
    server = SlowServer(replicated=True)
    server.create("a", max_msgs=3, strict_limits=True)
    server.create("b", sources=(source(),))
    server.step(StepDown(server.log_id("b")))
    server.send("a", 10)
    server.holding = True
    server.step(Lead(server.log_id("b")))
    reads = 0
    while server.held and reads < 10:
        held, server.held = server.held, []
        reads += len(held)
        stopped = "stopped" in server.status().last_error
        failure = DiskFailure(FailureKind.IO, "journal/1", 0, "broken")
        server.step(*[JobFailed(job.id, failure) if stopped else server.do(job) for job in held])
        server.holding = not stopped
    assert reads == 2, "it is read once more when it has stopped"
    server.pass_ms(10_000)
    assert "stopped" in server.status().last_error


def test_a_damaged_source_is_said_and_waited_for() -> None:
    server = slow()
    held, server.held, server.holding = server.held, [], False
    failure = DiskFailure(FailureKind.CORRUPT, "journal/1", 0, "bits")
    server.step(*[JobFailed(job.id, failure) for job in held])
    server.pass_ms(20_000)
    assert "quarantined" in server.status().last_error
    server.ok(rq.DeleteStream("a"))
    server.create("a")
    server.send("a", 1)
    server.pass_ms(20_000)
    assert server.origins() == [1, 1]

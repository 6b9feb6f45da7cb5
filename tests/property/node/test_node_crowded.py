"""A log of which as much waits for a majority as may: nothing adds to it, but the last deliveries of an orderly stop."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import waymaker_core.node
from tests.kit.node_kit import SMALL, Server, consumer_config, publish, stream_config
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Drain, Lead, StepDown
from waymaker_core.api.requests import AckKind
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status
from waymaker_core.node.node import LogFigures

BOUND = 4
ADDERS = ("add_record", "add_to_catalog", "add_sent", "add_decided", "log_deliveries")
QUESTIONS = ("has_room_for", "require_room", "require_room_in_log", "admit", "_admit", "is_crowded")
UNASKED = {
    "maintenance/drain.py": "the last deliveries are logged once a run: what is not logged is forgotten",
}
"""Modules that add records and do not ask for room, with the reason."""


def starving(*names: str) -> Server:
    server = Server(replace(SMALL, uncommitted_records_max=BOUND), replicated=True)
    for name in ("s", "t"):
        server.create(name)
        server.consumer(name, "c", ack_wait_ms=600_000)
    server.publish("s", b"one", b"two", b"three")
    server.fetch(batch=2)
    server.starve(*names)
    return server


def crowd(server: Server) -> None:
    for _ in range(BOUND):
        server.ask(publish("s", ("a", b"x")))
    assert waiting(server) == BOUND


def figures(server: Server, name: str = "s") -> LogFigures:
    return next(each for each in server.node.log_figures() if each.name == name)


def waiting(server: Server, name: str = "s") -> int:
    return figures(server, name).durable - figures(server, name).applied


def is_refused(server: Server, token: int) -> bool:
    answer = server.replies.get(token)
    if not isinstance(answer, Refusal):
        return False
    assert (answer.status, answer.outcome) == (Status.RESOURCE_EXHAUSTED, Outcome.NOT_APPLIED)
    return True


def test_every_module_that_adds_records_asks_for_room() -> None:
    found: dict[str, bool] = {}
    root = Path(waymaker_core.node.__file__).parent
    for path in sorted(root.rglob("*.py")):
        called = {
            node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
        }
        if called.intersection(ADDERS):
            found[str(path.relative_to(root))] = bool(called.intersection(QUESTIONS))
    assert len(found) > 10
    assert sorted(name for name, asks in found.items() if not asks) == sorted(UNASKED)


def test_an_orderly_stop_logs_its_last_deliveries_once_however_crowded_a_log_is() -> None:
    server = starving("s")
    crowd(server)
    server.step(Drain())
    server.pass_ms(3_000)
    assert server.halted is not None
    assert server.halted.clean
    assert waiting(server) == BOUND + 1
    server.starving = []
    server.kill()
    assert [seq for seq, _, _ in server.fetch()][:1] == [3], "the first two are out, and not due again yet"


def test_deliveries_are_not_logged_behind_an_ack_when_its_log_is_crowded_by_then() -> None:
    server = starving("s")
    for _ in range(BOUND - 1):
        server.ask(publish("s", ("a", b"x")))
    with Play(server) as play:
        play.tell((101, publish("s", ("a", b"x"))))
        play.tell((102, rq.Ack("s", "c", AckKind.ACK, [1])))
        end = figures(server).end
        play.done(min(play.jobs))
        assert (waiting(server), figures(server).end) == (BOUND, end), "the ack is decided, and its deliveries are not"
        play.done(min(play.jobs))
        play.lines.clear()
    for request in (rq.GetConsumerInfo("s", "c"), rq.Ack("s", "c", AckKind.ACK, [2])):
        assert is_refused(server, server.ask(request))
    server.pass_ms(700_000)
    assert figures(server).end == end
    server.feed()
    assert server.info().pending == 1, "one of two is acked"
    server.node.check()


def test_a_crowded_stream_can_be_deleted() -> None:
    server = starving("s")
    crowd(server)
    answer = server.replies[server.ask(rq.DeleteStream("s"))]
    assert isinstance(answer, Answer)
    assert answer.code == "ok"
    assert not any(each.name == "s" for each in server.node.log_figures())


def test_a_crowded_catalog_takes_no_record_of_any_stream() -> None:
    server = starving("")
    server.starving.clear()
    server.create("e", ephemeral=True)
    server.starve("")
    for number in range(BOUND):
        server.ask(rq.CreateStream(stream_config(f"new{number}")))
    end = figures(server, "").end
    refused = [
        server.ask(rq.CreateStream(stream_config("more"))),
        server.ask(rq.DeleteStream("s")),
        server.ask(rq.UpdateStream("e", max_msgs=5)),
    ]
    assert all(is_refused(server, token) for token in refused)
    assert figures(server, "").end == end
    server.ok(rq.UpdateStream("s", max_msgs=5))
    server.ok(rq.CreateConsumer("s", consumer_config("d")))
    server.feed()
    server.ok(rq.DeleteStream("s"))


@pytest.mark.parametrize("leads", [True, False])
def test_a_stop_whose_stream_is_not_led_leaves_open_what_was_delivered(leads: bool) -> None:
    server = starving()
    stream_id = server.log_id("s")
    if not leads:
        server.step(StepDown(stream_id))
    server.step(Drain())
    server.pass_ms(3_000)
    assert server.halted is not None
    server.kill()
    server.step(Lead(stream_id))
    server.ack(1, 2, 3)
    expected = [3] if leads else []
    assert [seq for seq, _, _ in server.fetch()] == expected, "an ack counts where a delivery may have happened"

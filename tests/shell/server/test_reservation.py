"""The name that a restore reserves ends with its caller, whenever the caller leaves."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit.server_fakes import FakeDisk, FakeNode, turns
from tests.shell.server.test_server_streaming import until
from waymaker.server.grpc import reservation
from waymaker.server.grpc.reservation import Reservation
from waymaker.server.node_runner import NodeRunner
from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import ImportBegin, ImportEnd
from waymaker_core.model.result_codes import ALREADY_EXISTS, OK, Answer, Outcome, Refusal, Status
from waymaker_core.model.types import ANYONE

BEGIN = ImportBegin("s", None)


def kept(begun: Answer | Refusal) -> tuple[FakeNode, Reservation]:
    disk = FakeDisk()
    node = FakeNode(disk)
    node.answers[ImportBegin] = lambda _: begun
    node.answers[ImportEnd] = lambda _: Answer(OK)
    return node, Reservation(NodeRunner(node, disk), ANYONE)


def ends(node: FakeNode) -> list[tuple[int, bool]]:
    requests = [call.request for call in node.calls]
    return [(each.stream_id, each.commit) for each in requests if isinstance(each, ImportEnd)]


async def test_a_caller_that_leaves_before_the_answer_leaves_no_name_behind() -> None:
    node, held = kept(Answer(OK, "", 7))
    task = asyncio.ensure_future(held.begin(BEGIN))
    await asyncio.sleep(0)  # the call is made, and not yet answered
    task.cancel()
    held.give_up()
    await until(lambda: ends(node) == [(7, False)])
    await turns()
    assert (len(ends(node)), node.cancelled, held.stream_id) == (1, [], None)


async def test_a_caller_that_leaves_after_the_answer_gives_up_once() -> None:
    node, held = kept(Answer(OK, "", 7))
    await held.begin(BEGIN)
    assert held.stream_id == 7
    held.give_up()
    held.give_up()
    await until(lambda: bool(ends(node)))
    await turns()
    assert ends(node) == [(7, False)]


async def test_nothing_is_given_up_of_an_open_stream_or_a_refused_name() -> None:
    node, held = kept(Answer(OK, "", 7))
    await held.begin(BEGIN)
    held.opened()
    held.give_up()
    await turns()
    assert not ends(node)
    refused = Answer(ALREADY_EXISTS, "taken", None)
    node, held = kept(refused)
    assert await held.begin(BEGIN) == refused
    held.give_up()
    await turns()
    assert not ends(node)


async def test_a_name_is_given_up_again_where_the_node_had_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservation, "PAUSE_S", 0.001)
    node, held = kept(Answer(OK, "", 7))

    def full(_: Call) -> Answer | Refusal:
        if len(ends(node)) < 3:
            return Refusal(Status.RESOURCE_EXHAUSTED, "no room", Outcome.NOT_APPLIED)
        return Answer(OK)

    node.answers[ImportEnd] = full
    await held.begin(BEGIN)
    held.give_up()
    await until(lambda: len(ends(node)) == 3)
    await asyncio.sleep(0.02)
    assert len(ends(node)) == 3


async def test_a_server_that_has_stopped_is_asked_once() -> None:
    disk = FakeDisk()
    node = FakeNode(disk)
    node.answers[ImportBegin] = lambda _: Answer(OK, "", 7)
    runner = NodeRunner(node, disk)
    held = Reservation(runner, ANYONE)
    await held.begin(BEGIN)
    runner.close()
    held.give_up()
    await turns()
    assert not ends(node)

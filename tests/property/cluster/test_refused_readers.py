"""Readers that a member refuses end: they have no answer, and one that waited for its end would wait for ever."""

from __future__ import annotations

import pytest

from tests.kit.store_disk import MemoryDisk
from waymaker_core.api.effects import End, Reply
from waymaker_core.api.inputs import Call
from waymaker_core.api.kv_requests import KvWatch
from waymaker_core.api.requests import Publish, Request, Subscribe
from waymaker_core.cluster.effects import ToPeer
from waymaker_core.cluster.member import Member, MemberEffect, open_member
from waymaker_core.model.result_codes import Outcome, Status
from waymaker_core.model.types import ANYONE, Now, Token
from waymaker_core.node import NodeConfig

NOW = Now(0, 0)
READERS = [Subscribe("s", "c", 0, False), KvWatch("s", "")]


def lone_member() -> Member:
    """Return one member of three that hears no other."""
    config = NodeConfig(node_id=1, identity=b"1" * 16, member=True, members=(1, 2, 3))
    return MemoryDisk().drive(open_member(config, NOW, 1))


def answer_to(member: Member, request: Request) -> MemberEffect:
    """Return what a member says to a call at once."""
    effects = member.step(NOW, [Call(Token(7), ANYONE, request)])
    [found] = [each for each in effects if not isinstance(each, ToPeer) and getattr(each, "token", 0) == 7]
    return found


@pytest.mark.parametrize("request_", READERS)
@pytest.mark.parametrize("case", ["no leader", "in a move", "an obstacle"])
def test_a_reader_ends_where_no_member_serves_it(request_: Request, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    member = lone_member()
    if case == "in a move":
        monkeypatch.setattr(member.moves, "is_draining", lambda stream_id: True)
    elif case == "an obstacle":
        member._obstacle = "an operator has to act"
    answer = answer_to(member, request_)
    assert isinstance(answer, End)
    assert answer.refusal is not None
    assert (answer.refusal.status, answer.refusal.outcome) == (Status.UNAVAILABLE, Outcome.NOT_APPLIED)


def test_other_calls_are_answered() -> None:
    answer = answer_to(lone_member(), Publish("s", ["a"], [1], [1], b"x"))
    assert isinstance(answer, Reply)

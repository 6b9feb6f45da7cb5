"""A member that leads sends what it decides while its own disk keeps it; nothing rests on that before both are there."""

from __future__ import annotations

from collections.abc import Iterable

from tests.kit.member_kit import Cluster, Member
from tests.kit.node_kit import publish
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Confirm, Effect, Job, Lane, Placed, Replicate, Reply
from waymaker_core.api.inputs import Call, Input, Replicated
from waymaker_core.model.types import ANYONE, Token

PUBLISH, READ, SECOND = Token(7_001), Token(7_002), Token(7_003)


def leading() -> tuple[Member, int]:
    cluster = Cluster()
    stream_id = cluster.create()
    primary = cluster.primary(stream_id)
    cluster.lead(primary, stream_id, 9)
    cluster.publish(primary, stream_id, b"before")
    return primary, stream_id


def take(member: Member, *inputs: Input) -> list[Effect]:
    """Step a node once, and leave what it asks of the disk undone."""
    return member.node.step(member.now(), list(inputs))


def written(member: Member, effects: Iterable[Effect]) -> list[Effect]:
    """Let the disk do what a step asked for."""
    return take(member, *(member.do(each) for each in effects if isinstance(each, Job)))


def test_a_record_may_leave_before_it_is_durable_here_and_is_answered_when_it_is() -> None:
    member, stream_id = leading()
    end = member.log(stream_id).end
    effects = take(member, Call(PUBLISH, ANYONE, publish("s", ("a", b"x"))))
    assert [each.position for each in effects if isinstance(each, Placed)] == [end + 1]
    assert any(isinstance(each, Job) and each.lane is Lane.JOURNAL for each in effects)
    assert member.records(stream_id, end + 1), "it can be sent"
    early = take(member, Replicated(stream_id, end + 1))
    assert not [each for each in early if isinstance(each, Reply)], "this node does not have it yet"
    done = written(member, effects)
    assert [each.position for each in done if isinstance(each, Replicate)] == [end + 1]
    assert [each.token for each in done if isinstance(each, Reply)] == [PUBLISH]


def test_an_acknowledgment_of_what_left_before_a_question_confirms_nothing() -> None:
    member, stream_id = leading()
    end = member.log(stream_id).end
    first = take(member, Call(PUBLISH, ANYONE, publish("s", ("a", b"x"))))
    asked = take(member, Call(READ, ANYONE, rq.ReadRange("s", 1, 1)))
    assert any(isinstance(each, Confirm) and each.stream_id == stream_id for each in asked)
    effects = [*take(member, Replicated(stream_id, end + 1)), *written(member, first)]
    assert [each.token for each in effects if isinstance(each, Reply)] == [PUBLISH]
    second = take(member, Call(SECOND, ANYONE, publish("s", ("a", b"y"))))
    effects = take(member, Replicated(stream_id, end + 2))
    assert [each.token for each in effects if isinstance(each, Reply)] == [READ], "this record left after the question"
    assert [each.token for each in written(member, second) if isinstance(each, Reply)] == [SECOND]

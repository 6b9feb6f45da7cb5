"""Bounds while no majority answers: whatever clients do, memory stays bounded, and what is refused was not applied."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.member_kit import Cluster, Member
from tests.kit.node_kit import SMALL, publish, stream_config
from waymaker_core.api import requests as rq
from waymaker_core.api.cluster_requests import OpenAuthorities
from waymaker_core.api.effects import Confirm, Effect
from waymaker_core.api.inputs import Confirmed, Input, StepDown
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status
from waymaker_core.model.types import CATALOG

FEW = replace(SMALL, waiting_answers_max=50)


def crowded(limits: Limits = FEW) -> tuple[Cluster, int, Member]:
    """Return a primary whose log no other member gets from here on."""
    cluster = Cluster(3, limits)
    stream_id, primary = cluster.serve("s")
    cluster.publish(primary, stream_id, b"first")
    return cluster, stream_id, primary


def refused(member: Member, request: rq.Request) -> bool:
    """Make a call; return True if it was refused at once, as one that did nothing."""
    answer = member.replies.get(member.ask(request))
    if answer is None:
        return False
    assert isinstance(answer, Refusal), answer
    assert (answer.status, answer.outcome) == (Status.RESOURCE_EXHAUSTED, Outcome.NOT_APPLIED)
    return True


def test_answers_that_wait_for_commits_are_bounded_and_served_when_a_majority_is_there() -> None:
    cluster, stream_id, primary = crowded()
    outcomes = [refused(primary, publish("s", ("a", b"%d" % number))) for number in range(200)]
    assert outcomes == [False] * 50 + [True] * 150
    primary.node.check()
    assert primary.node._gate.count == 50
    cluster.copy(primary, stream_id)
    assert primary.node._gate.count == 0
    assert len(primary.all("s")) == 51
    assert not refused(primary, publish("s", ("a", b"again")))


def test_questions_that_wait_for_confirmations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, stream_id, primary = crowded()
    asked: list[Confirm] = []
    perform = primary.perform

    def note(effect: Effect) -> list[Input]:
        if not isinstance(effect, Confirm):
            return perform(effect)
        asked.append(effect)
        return []

    monkeypatch.setattr(primary, "perform", note)
    outcomes = [refused(primary, rq.ReadLatest("s", "a")) for _ in range(200)]
    assert outcomes == [False] * 50 + [True] * 150
    primary.node.check()
    assert len(asked) == 1, "one question stands for all that wait"
    primary.step(Confirmed(stream_id, asked[-1].question))
    primary.step(Confirmed(stream_id, asked[-1].question))
    assert primary.node._gate.count == 0
    assert cluster.leader.node._gate.count == 0


def test_a_primary_that_steps_down_lets_go_of_all_that_waits() -> None:
    _, stream_id, primary = crowded()
    tokens = [primary.ask(publish("s", ("a", b"x"))) for _ in range(20)]
    primary.step(StepDown(stream_id))
    answers = [primary.replies[token] for token in tokens]
    assert all(isinstance(answer, Refusal) and answer.outcome is Outcome.UNKNOWN for answer in answers)
    assert primary.node._gate.count == 0
    primary.node.check()


def test_bytes_in_flight_are_bounded_over_all_streams_until_the_commit_and_full_members_go_on() -> None:
    limits = replace(
        SMALL,
        inflight_bytes_max=64 * KIB,
        publish_batch_bytes_max=32 * KIB,
        message_bytes_max=16 * KIB,
        header_bytes_max=KIB,
    )
    cluster = Cluster(3, limits)
    served = [cluster.serve(f"s{number}") for number in range(6)]
    for primary in cluster.members:
        names = [f"s{number}" for number, (_, member) in enumerate(served) if member is primary]
        admitted = 0
        for turn in range(400 if names else 0):
            admitted += not refused(primary, publish(names[turn % len(names)], ("a", bytes(1_000))))
        stats = primary.node.stats
        assert stats.inflight_bytes <= limits.inflight_bytes_max
        assert not names or 40 <= admitted <= 65, "durable here is not committed"
    # Each has as much of its own in flight as it admits, and takes what others have: or none could commit anything.
    for stream_id, primary in served:
        cluster.copy(primary, stream_id)
    assert all(member.node.stats.inflight_bytes == 0 for member in cluster.members)


def test_the_log_of_a_stream_takes_only_so_many_records_without_a_majority() -> None:
    _, _, primary = crowded(replace(SMALL, uncommitted_records_max=30))
    outcomes = [refused(primary, publish("s", ("a", b"x"))) for _ in range(100)]
    assert sum(outcomes) >= 60 and not any(outcomes[:20])


def test_what_members_ask_of_each_other_is_never_refused_for_answers_that_wait() -> None:
    cluster = Cluster(3, replace(SMALL, waiting_answers_max=5))
    stream_ids = [cluster.create(f"s{number}") for number in range(3)]
    leader = cluster.leader
    for number in range(20):
        leader.ask(rq.CreateStream(stream_config(f"t{number}")))
    assert leader.node._gate.is_crowded
    token = leader.ask(OpenAuthorities([]))
    assert token not in leader.replies or isinstance(leader.replies[token], Answer)
    cluster.copy(leader)
    assert isinstance(leader.replies[token], Answer) and len(stream_ids) == 3
    assert leader.log(CATALOG).applied == leader.log(CATALOG).end

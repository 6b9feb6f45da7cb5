"""A member of a cluster leads neither a stream nor the catalog before it is told to, and stops when it is told to."""

from __future__ import annotations

import pytest

from tests.kit.member_kit import Cluster, Member
from tests.kit.node_kit import Server, publish, stream_config
from waymaker_core.api import requests as rq
from waymaker_core.api.cluster_requests import ClaimStream
from waymaker_core.api.inputs import Append, Cut, Drain, Lead, Replicated, SentRecord, StepDown
from waymaker_core.model.records import EpochRecord, MembersRecord
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.model.types import CATALOG
from waymaker_core.raft.members import Members, encode_members
from waymaker_core.storage import record_codec

GROUP = encode_members(Members((1, 2, 3)))


def refusal(member: Member, request: rq.Request) -> tuple[Status, Outcome | None]:
    answer = member.call(request)
    assert isinstance(answer, Refusal), answer
    return answer.status, answer.outcome


UNAVAILABLE = (Status.UNAVAILABLE, Outcome.NOT_APPLIED)


def test_a_new_member_leads_nothing_and_answers_that_none_does() -> None:
    member = Member(1, (1,))
    for request in (
        rq.CreateStream(stream_config("s")),
        rq.ListStreams(),
        rq.GetStreamInfo("s"),
        publish("s", ("a", b"x")),
    ):
        assert refusal(member, request) == UNAVAILABLE
    assert not member.asked, "no majority is asked by a node that leads nothing"
    assert member.log().end == 0


def test_a_stream_is_led_by_none_when_it_is_created_nor_after_a_start() -> None:
    cluster = Cluster()
    stream_id = cluster.create()
    assert not any(member.leads(stream_id) for member in cluster.members)
    primary = cluster.primary(stream_id)
    assert refusal(primary, publish("s", ("a", b"x"))) == UNAVAILABLE
    cluster.lead(primary, stream_id, 9)
    cluster.publish(primary, stream_id, b"x")
    assert primary.all() == [(1, 0, b"x")]
    primary.pass_ms(200)
    primary.kill()
    assert not primary.leads(stream_id) and not primary.leads(CATALOG)
    assert not [each for each in primary.asked if each.stream_id == stream_id]
    for _ in range(3):
        primary.pass_ms(1_000)
    assert not primary.leads(stream_id) and not primary.leads(CATALOG)
    cluster.lead(primary, stream_id, 10)
    assert primary.all() == [(1, 0, b"x")]


def test_a_primary_serves_its_stream_where_another_node_leads_the_catalog() -> None:
    cluster = Cluster()
    stream_id, primary = cluster.serve()
    other = next(member for member in cluster.members if member is not primary)
    cluster.lead_catalog(other, 2)
    assert primary.leads(stream_id) and not primary.leads(CATALOG)
    cluster.publish(primary, stream_id, b"x", b"y")
    assert [payload for _, _, payload in primary.all()] == [b"x", b"y"]
    assert primary.stats().last_seq == 2
    for request in (
        rq.CreateStream(stream_config("t")),
        rq.DeleteStream("s"),
        rq.ListStreams(),
        rq.GetStreamInfo("none"),
    ):
        assert refusal(primary, request) == UNAVAILABLE
    cluster.call(rq.DeleteStream("s"))
    assert not any(member.node._state.replicas for member in cluster.members)
    for member in cluster.members:
        member.node.check()


def test_the_first_record_of_a_term_stands_behind_what_may_not_be_committed() -> None:
    cluster = Cluster()
    leader, other = cluster.members[:2]
    token = leader.ask(rq.CreateStream(stream_config("s")))
    cluster.send(leader, other)
    leader.step(StepDown(CATALOG))
    answer = leader.replies[token]
    assert isinstance(answer, Refusal) and (answer.status, answer.outcome) == (Status.ABORTED, Outcome.UNKNOWN)
    other.step(Lead(CATALOG, 5))
    assert other.records()[-1] == SentRecord(EpochRecord.KIND, 1, record_codec.encode(EpochRecord(5)), b"")
    end = other.log().end
    assert end == leader.log().end + 1
    assert not other.leads(CATALOG), "the whole log is not applied"
    assert refusal(other, rq.CreateStream(stream_config("t"))) == UNAVAILABLE
    other.step(Replicated(CATALOG, end - 1))
    assert not other.leads(CATALOG)
    cluster.copy(other)
    assert other.leads(CATALOG)
    assert leader.log_id("s") == other.log_id("s")
    assert cluster.members[2].node.epoch_table(CATALOG) == [(0, 0), (1, 1), (5, end)]
    cluster.leader = other
    assert cluster.code(rq.CreateStream(stream_config("s"))) == "already_exists"


def test_who_is_to_lead_the_catalog_takes_no_record_and_no_cut_of_another() -> None:
    cluster = Cluster()
    leader, other = cluster.members[:2]
    leader.ask(rq.CreateStream(stream_config("s")))
    cluster.send(leader, other)
    other.step(Lead(CATALOG, 5))
    sent = leader.records()[-1]
    other.step(Append(1, CATALOG, other.log().end + 1, [sent]), Cut(2, CATALOG, 1))
    assert {other.declined[ask].reason for ask in (1, 2)} == {"this node leads the stream"}
    other.step(StepDown(CATALOG))
    other.step(Cut(3, CATALOG, 1))
    assert other.kept[-1] == 3
    assert other.node.epoch_table(CATALOG) == [(0, 0), (1, 1)]
    assert len(other.records()) == 1


def test_what_a_deposed_leader_had_decided_binds_no_later_decision() -> None:
    cluster = Cluster()
    leader, other = cluster.members[:2]
    stream_id = cluster.create("kept")
    epoch = cluster.primary(stream_id).node.conf(stream_id)
    assert epoch is not None
    before = leader.log().end
    leader.ask(rq.CreateStream(stream_config("s")))
    leader.ask(ClaimStream(stream_id, 2, [2], epoch.newest.epoch))
    leader.step(StepDown(CATALOG))
    leader.step(Cut(1, CATALOG, before))
    cluster.lead_catalog(other, 2)
    cluster.call(ClaimStream(stream_id, 3, [3], epoch.newest.epoch))
    cluster.lead_catalog(leader, 3)
    conf = leader.node.conf(stream_id)
    assert conf is not None and conf.newest.primary == 3
    cluster.create("s")
    names = leader.ok(rq.ListStreams())
    assert isinstance(names, rq.Page) and names.entries == ["kept", "s"]
    for member in cluster.members:
        member.node.check()


def test_a_term_that_the_log_has_already_is_not_written_twice() -> None:
    cluster = Cluster(1)
    member = cluster.leader
    member.step(StepDown(CATALOG))
    record = SentRecord(EpochRecord.KIND, 1, record_codec.encode(EpochRecord(7)), b"")
    member.step(Append(1, CATALOG, 2, [record]))
    member.step(Lead(CATALOG, 7))
    assert member.log().end == 2
    member.commit()
    assert member.leads(CATALOG)


def test_the_catalogs_leader_takes_the_members_of_its_group_and_nothing_else() -> None:
    cluster = Cluster()
    leader = cluster.leader
    record = SentRecord(MembersRecord.KIND, 1, record_codec.encode(MembersRecord(GROUP)), b"")
    position = leader.log().end + 1
    leader.step(Append(1, CATALOG, position, [record]))
    assert 1 in leader.kept
    assert leader.node.catalog_members() == (0, b"")
    cluster.copy(leader)
    for member in cluster.members:
        assert member.node.catalog_members() == (position, GROUP)
        assert member.node.catalog_members(position - 1) == (0, b"")
    leader.step(Append(2, CATALOG, position + 1, [leader.records()[0]]), Append(3, CATALOG, position, [record]))
    assert leader.declined[2].reason == "this node leads the stream"
    assert leader.declined[3].reason.startswith("the log ends at")
    nonsense = SentRecord(MembersRecord.KIND, 1, record_codec.encode(MembersRecord(b"\x80")), b"")
    leader.step(Append(4, CATALOG, position + 1, [nonsense]))
    assert "not a set of members" in leader.declined[4].reason


def test_a_node_outside_of_a_cluster_is_asked_for_its_catalog_in_vain() -> None:
    server = Server(replicated=True)
    server.step(StepDown(CATALOG))
    server.create("s")
    assert server.node.conf(server.log_id("s")) is None
    assert server.node.sent_records(CATALOG, 1, 1 << 20) is None
    answer = server.call(ClaimStream(server.log_id("s"), 1, [1], 0))
    assert isinstance(answer, Refusal) and answer.status is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("what", ["ephemeral", "import"])
@pytest.mark.parametrize("known", [True, False], ids=["committed", "suffix"])
def test_what_ended_with_a_run_is_not_led_again_and_ends_with_the_catalogs_leader(what: str, known: bool) -> None:
    cluster = Cluster(2)
    leader = cluster.leader
    if what == "ephemeral":
        stream_id = cluster.create("s", ephemeral=True)
        cluster.call(ClaimStream(stream_id, 1, [1], leader.node.conf(stream_id).newest.epoch))  # type: ignore[union-attr]
    else:
        head = Cluster(1)
        old, primary = head.serve("s")
        stream_id_head = primary.ok(rq.ExportStream("s"))
        assert old
        value = cluster.call(rq.ImportBegin("s", stream_id_head))
        assert isinstance(value, int)
        stream_id = value
        conf = leader.node.conf(stream_id)
        assert conf is not None and conf.newest.primary == 1, "its archive's head is here"
    if known:
        leader.pass_ms(200)
    cluster.members[1].kill()
    leader.kill()
    other = cluster.members[1]
    cluster.copy(leader)
    leader.step(Lead(stream_id, 50))
    assert not leader.leads(stream_id)
    cluster.lead_catalog(other, 3)
    assert stream_id in other.node._state.replicas, "its primary may serve it"
    cluster.lead_catalog(leader, 4)
    cluster.copy(leader)
    assert stream_id not in leader.node._state.replicas
    assert stream_id not in other.node._state.replicas
    if what == "ephemeral":
        again = leader.log_id("s")
        conf = leader.node.conf(again)
        assert again > stream_id and conf is not None and (conf.newest.primary, conf.newest.replicas) == (1, (1,))
    for member in cluster.members:
        member.node.check()


def test_a_member_drains_though_it_leads_nothing() -> None:
    cluster = Cluster(2)
    member = cluster.members[1]
    cluster.leader.ask(rq.CreateStream(stream_config("s")))
    cluster.send(cluster.leader, member)
    member.step(Drain())
    member.pass_ms(3_000)
    assert member.halted is not None and member.halted.clean
    member.open()
    assert member.log().end == cluster.leader.log().end
    assert cluster.code(rq.DeleteStream("none")) == "no_such_stream"

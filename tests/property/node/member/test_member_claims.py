"""Claims in the catalog of a cluster: compare-and-set, opened only while they are the newest, the same on every member."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.member_kit import Cluster, Member
from tests.kit.node_kit import SMALL, Server, stream_config
from tests.kit.store_disk import Crash
from waymaker_core.api import requests as rq
from waymaker_core.api.cluster_requests import ClaimStream, OpenAuthority
from waymaker_core.api.inputs import Append, Call, Cut, Lead, Replicated, SentRecord, StepDown
from waymaker_core.catalog.authority import NO_CLAIM, Claim, Conf
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.records import AuthorityOpened, ClusterRecord, StreamCreated, StreamsClaimed
from waymaker_core.model.result_codes import Refusal, Status
from waymaker_core.model.types import ANYONE, CATALOG, Token
from waymaker_core.node.checkpoint.snapshots import encode_catalog
from waymaker_core.storage import record_codec
from waymaker_core.storage.config_codec import decode_plain

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)


def confs(cluster: Cluster, stream_id: int) -> Conf | None:
    """Return the claims of a stream, which are the same on all members."""
    (found,) = {member.node.conf(stream_id) for member in cluster.members}
    return found


def newest(cluster: Cluster, stream_id: int) -> Claim:
    conf = confs(cluster, stream_id)
    assert conf is not None
    return conf.newest


def kinds(member: Member) -> list[int]:
    return [each.kind for each in member.records()]


def test_a_new_stream_is_claimed_in_the_decision_that_creates_it() -> None:
    cluster = Cluster(5)
    token = cluster.leader.ask(rq.CreateStream(stream_config("s")))
    assert kinds(cluster.leader)[-2:] == [StreamCreated.KIND, StreamsClaimed.KIND]
    end = cluster.leader.log().end
    cluster.leader.step(Replicated(CATALOG, end - 1))
    assert token not in cluster.leader.replies, "the answer rests on the claim, too"
    cluster.copy(cluster.leader)
    assert token in cluster.leader.replies
    conf = confs(cluster, cluster.leader.log_id("s"))
    assert conf is not None and conf.opened == NO_CLAIM
    assert conf.newest.epoch == end, "the position of the claim is its epoch"
    assert len(set(conf.newest.replicas)) == 3 and conf.newest.primary == conf.newest.replicas[0]


def test_an_ephemeral_stream_has_one_replica_and_so_has_a_cluster_of_one() -> None:
    cluster = Cluster(3)
    assert len(newest(cluster, cluster.create("e", ephemeral=True)).replicas) == 1
    alone = Cluster(1)
    assert newest(alone, alone.create()).replicas == (1,)


def test_a_claim_is_made_only_over_the_newest_one() -> None:
    cluster = Cluster()
    stream_id = cluster.create()
    first = newest(cluster, stream_id)
    assert cluster.code(ClaimStream(stream_id, 1, [1, 2], 0)) == "wrong_revision"
    epoch = cluster.call(ClaimStream(stream_id, 2, [1, 2], first.epoch))
    assert newest(cluster, stream_id)[:3] == (epoch, 2, (1, 2))
    assert isinstance(epoch, int) and epoch > first.epoch
    assert cluster.code(ClaimStream(stream_id, 3, [3], first.epoch)) == "wrong_revision"
    assert cluster.code(ClaimStream(99, 1, [1], 0)) == "no_such_stream"
    for primary, replicas in ((3, [1, 2]), (1, [1, 1]), (0, [0]), (1, [])):
        answer = cluster.leader.call(ClaimStream(stream_id, primary, replicas, epoch))
        assert isinstance(answer, Refusal) and answer.status is Status.INVALID_ARGUMENT


def test_of_two_claims_at_once_the_second_one_sees_the_first() -> None:
    cluster = Cluster()
    stream_id = cluster.create()
    epoch = newest(cluster, stream_id).epoch
    leader = cluster.leader
    requests: list[rq.Request] = [
        ClaimStream(stream_id, 1, [1], epoch),
        ClaimStream(stream_id, 2, [2], epoch),
        OpenAuthority(stream_id, epoch),
    ]
    tokens = [leader.token() for _ in requests]
    leader.step(*[Call(Token(token), ANYONE, request) for token, request in zip(tokens, requests, strict=True)])
    assert not any(token in leader.replies for token in tokens), "each answer rests on what it saw"
    cluster.copy(leader)
    assert [getattr(leader.replies[token], "code", None) for token in tokens] == [
        "ok",
        "wrong_revision",
        "wrong_revision",
    ]
    assert newest(cluster, stream_id).primary == 1


def test_a_claim_is_opened_only_while_it_is_the_newest() -> None:
    cluster = Cluster()
    stream_id = cluster.create()
    first = newest(cluster, stream_id)
    cluster.call(OpenAuthority(stream_id, first.epoch))
    assert confs(cluster, stream_id) == Conf(first, first)
    end = cluster.leader.log().end
    cluster.call(OpenAuthority(stream_id, first.epoch))
    assert cluster.leader.log().end == end, "to open it again writes nothing"
    cluster.call(ClaimStream(stream_id, 2, [2, 3], first.epoch))
    second = newest(cluster, stream_id)
    assert confs(cluster, stream_id) == Conf(second, first)
    assert cluster.code(OpenAuthority(stream_id, first.epoch)) == "wrong_revision"
    assert cluster.code(OpenAuthority(99, 1)) == "no_such_stream"
    cluster.call(OpenAuthority(stream_id, second.epoch))
    assert confs(cluster, stream_id) == Conf(second, second)


def test_an_opening_behind_a_later_claim_changes_nothing_when_it_is_applied() -> None:
    cluster = Cluster()
    stream_id = cluster.create()
    first = newest(cluster, stream_id)
    cluster.call(ClaimStream(stream_id, 2, [2], first.epoch))
    second = newest(cluster, stream_id)
    # No leader decides it so; a log may hold it all the same.
    member = cluster.members[1]
    member.conf_changes.clear()
    position = member.log().end + 1
    sent: list[ClusterRecord] = [
        AuthorityOpened([stream_id], [first.epoch]),
        AuthorityOpened([99], [1]),
        StreamsClaimed([99], [1], [[1]]),
    ]
    encoded = [SentRecord(each.KIND, 1, record_codec.encode(each), b"") for each in sent]
    member.step(Append(1, CATALOG, position, encoded))
    member.commit()
    assert member.log().applied == position + 2
    assert member.node.conf(stream_id) == Conf(second, NO_CLAIM)
    assert member.node.conf(99) is None
    assert member.conf_changes == []


def test_conf_changed_leaves_once_a_stream_and_step_when_the_state_holds_it() -> None:
    cluster = Cluster()
    stream_id = cluster.create()
    for member in cluster.members:
        assert member.conf_changes.count(stream_id) >= 1
    other = cluster.members[1]
    other.conf_changes.clear()
    epoch = newest(cluster, stream_id).epoch
    leader = cluster.leader
    token = leader.ask(ClaimStream(stream_id, 1, [1], epoch))
    leader.ask(OpenAuthority(stream_id, leader.log().end))
    leader.ask(rq.CreateStream(stream_config("t")))
    cluster.send(leader, other)
    assert other.conf_changes == []
    other.step(Replicated(CATALOG, leader.log().end))
    assert other.conf_changes == [stream_id, other.log_id("t")]
    conf = other.node.conf(stream_id)
    assert conf is not None and conf.opened.primary == 1
    cluster.copy(leader)
    assert token in leader.replies
    other.conf_changes.clear()
    cluster.call(rq.DeleteStream("s"))
    assert other.conf_changes == [stream_id]
    assert other.node.conf(stream_id) is None


def test_claims_terms_and_members_are_known_after_checkpoints_and_starts() -> None:
    cluster = Cluster(3, TINY)
    stream_id, primary = cluster.serve("busy", block_size=20, max_msgs=50)
    epoch = newest(cluster, stream_id).epoch
    cluster.call(ClaimStream(stream_id, primary.node_id, [1, 2, 3], epoch))
    for round_ in range(3):
        expected = confs(cluster, stream_id)
        table = primary.node.epoch_table(CATALOG)
        for _ in range(120):
            cluster.publish(primary, stream_id, bytes(300), name="busy")
        assert all(member.node.stats.checkpoints for member in cluster.members)
        for member in cluster.members:
            member.pass_ms(200)
            member.lose_power()
            member.node.check()
            assert member.node.conf(stream_id) == expected
            assert member.node.epoch_table(CATALOG)[-1] == table[-1]
        cluster.lead_catalog(cluster.members[round_], 10 + round_)
        cluster.lead(primary, stream_id, 100 + round_)
    terms = primary.node.epoch_table(CATALOG)
    assert terms[0][0] > 0, "terms from before the checkpoint are forgotten"
    first = primary.node.first_in_memory(CATALOG)
    assert first is not None
    assert primary.node.epoch_at(CATALOG, first) > 0, "that of each record in memory is known"
    assert primary.node.epoch_at(CATALOG, 0) == -1


@pytest.mark.parametrize("kept", [1, 1 << 20])
def test_terms_are_forgotten_that_neither_a_checkpoint_nor_a_record_in_memory_needs(kept: int) -> None:
    cluster = Cluster(1, replace(TINY, recent_log_bytes_max=kept))
    member = cluster.leader
    for term in range(2, 6):
        member.step(StepDown(CATALOG))
        cluster.lead_catalog(member, term)
    stream_id, _ = cluster.serve("busy", block_size=20, max_msgs=50)
    before = member.node.epoch_table(CATALOG)
    assert [term for term, _ in before] == [0, 1, 2, 3, 4, 5]
    for _ in range(120):
        cluster.publish(member, stream_id, bytes(300), name="busy")
    assert member.node.stats.checkpoints
    first = member.node.first_in_memory(CATALOG)
    assert first is not None and member.node.epoch_at(CATALOG, first - 1) >= 0
    assert member.node.epoch_table(CATALOG) == (before if kept > 1 else before[-1:])
    assert member.node.epoch_at(CATALOG, 1) == (1 if kept > 1 else -1)


def test_a_checkpoint_without_a_cluster_has_the_bytes_that_it_had() -> None:
    catalog = Catalog(Limits())
    catalog.apply(catalog.decide_create("", stream_config("s"), 7))
    fields = decode_plain(encode_catalog(catalog))
    assert isinstance(fields, list) and len(fields) == 3
    catalog.apply_cluster(StreamsClaimed([1], [1], [[1]]), 2)
    fields = decode_plain(encode_catalog(catalog))
    assert isinstance(fields, list) and len(fields) == 4


def test_a_claim_that_a_crash_took_from_its_stream_is_made_up_for() -> None:
    cluster = Cluster()
    leader, other = cluster.members[:2]
    leader.ask(rq.CreateStream(stream_config("s")))
    cluster.send(leader, other)
    leader.step(StepDown(CATALOG))
    for member in (leader, other):
        member.step(Cut(1, CATALOG, leader.log().applied + 1))
    cluster.lead_catalog(other, 2)
    stream_id = other.log_id("s")
    conf = confs(cluster, stream_id)
    assert conf is not None and len(conf.newest.replicas) == 3
    assert conf.newest.epoch == other.log().end


def test_claims_that_are_missing_wait_for_room_in_the_catalogs_log() -> None:
    limits = replace(SMALL, uncommitted_records_max=4)
    server = Server(limits)
    for number in range(20):
        server.create(f"s{number}")
    server.restart()
    member = Member(1, (1, 2, 3), limits, server.disk)
    member.step(Lead(CATALOG, 1))
    for _ in range(3):
        member.commit()
    assert member.log().end - member.log().applied <= 20
    for _ in range(30):
        member.commit()
    assert member.log().applied == member.log().end
    streams = list(member.node._state.replicas)
    assert len(streams) == 20 and all(member.node.conf(stream_id) is not None for stream_id in streams)


def test_what_a_node_served_before_it_became_a_member_stays_with_it() -> None:
    server = Server()
    server.create("old")
    server.create("empty")
    server.publish("old", b"x")
    server.restart()
    member = Member(1, (1, 2, 3), disk=server.disk)
    assert not member.leads(member.log_id("old"))
    member.step(Lead(CATALOG, 1))
    member.commit()
    member.commit()
    old, empty = member.log_id("old"), member.log_id("empty")
    conf, other = member.node.conf(old), member.node.conf(empty)
    assert conf is not None and conf.newest.replicas == (1,)
    assert other is not None and len(other.newest.replicas) == 3
    member.step(Lead(old, conf.newest.epoch))
    member.commit(old)
    assert member.all("old") == [(1, 0, b"x")]
    assert member.node.epoch_at(old, 1) == 0
    assert member.node.epoch_table(old) == [(conf.newest.epoch, 2)]


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_a_crash_at_any_operation_leaves_a_claim_that_was_told(power: bool) -> None:
    seen = []
    for crash_in in range(8):
        cluster = Cluster(1)
        stream_id, member = cluster.create(), cluster.leader
        first = newest(cluster, stream_id)
        member.pass_ms(200)
        told = None
        member.disk.crash_in = crash_in
        try:
            told = cluster.call(ClaimStream(stream_id, 1, [1], first.epoch))
            member.pass_ms(200)
        except Crash:
            pass
        member.disk.crash_in = None
        member.lose_power() if power else member.kill()
        member.commit()
        conf = member.node.conf(stream_id)
        assert conf is not None
        assert conf.newest.epoch == told if told is not None else conf.newest.epoch >= first.epoch, crash_in
        seen.append((told is not None, conf.newest.epoch > first.epoch))
    assert {told for told, _ in seen} == {True, False}

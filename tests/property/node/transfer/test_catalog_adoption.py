"""A member adopts the catalog of another one: in one durable act, whatever it had before."""

from __future__ import annotations

from random import Random

import pytest

from tests.kit.member_kit import EVERYTHING, Cluster, Member
from tests.kit.node_kit import publish
from tests.kit.store_disk import Crash
from waymaker_core.api.inputs import Append, InstallCatalog, StepDown
from waymaker_core.api.requests import CreateStream, DeleteStream
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.types import CATALOG
from waymaker_core.node.checkpoint.snapshots import encode_catalog
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.storage.recovery.replay import Replay

ASK = 7


def state(member: Member) -> bytes:
    return encode_catalog(member.node.applied_catalog())


def left_behind() -> tuple[Cluster, Member, int]:
    """Return a cluster whose third member knows of "a" and "b", has a record of its own that is void, and lacks the rest.

    Since then "a" was deleted, and "c" created, of which it has records already.
    """
    cluster = Cluster(3)
    first, _, third = cluster.members
    gone, _ = cluster.serve("a")
    cluster.create("b")
    cluster.members.remove(third)
    cluster.call(DeleteStream("a"))
    stream_id = cluster.create("c")
    primary = first
    conf = first.node.conf(stream_id)
    assert conf is not None
    primary = cluster.members[conf.newest.primary - 1] if conf.newest.primary < 3 else first
    primary.step(StepDown(stream_id))
    cluster.lead(primary, stream_id, conf.newest.epoch)
    token = primary.ask(publish("c", ("a", b"one")))
    cluster.copy(primary, stream_id)
    assert token in primary.replies
    records = primary.node.sent_records(stream_id, 1, EVERYTHING)
    assert records
    third.step(Append(1, stream_id, 1, records))
    assert 1 in third.kept
    # Records of a leader that was deposed: no majority has them.
    void = Cluster(3)
    void.create("x")
    third.step(Append(2, CATALOG, third.log().end + 1, void.leader.records()[-1:]))
    assert 2 in third.kept
    return cluster, third, gone


def install(cluster: Cluster, member: Member) -> None:
    member.step(InstallCatalog(ASK, cluster.leader.log().applied, state(cluster.leader)))


def test_streams_end_and_begin_as_by_the_records_that_it_never_saw() -> None:
    cluster, third, gone = left_behind()
    install(cluster, third)
    assert ASK in third.kept
    for _ in range(2):
        assert state(third) == state(cluster.leader)
        assert third.log().end == third.log().applied == cluster.leader.log().applied
        assert sorted(each.name for each in third.node._state.replicas.values()) == ["b", "c"]
        assert gone not in third.node._state.replicas and not third.node._state.unknown
        assert third.log(third.log_id("c")).durable == cluster.leader.log(third.log_id("c")).end
        third.node.check()
        third.kill()
        third.open()


def test_it_goes_on_behind_the_snapshot_and_through_a_checkpoint() -> None:
    cluster, third, _ = left_behind()
    install(cluster, third)
    cluster.members.append(third)
    cluster.create("d")
    third.node._checkpoints.begin()
    third.step()
    assert not third.node._state.changes.adopted
    cluster.create("e")
    third.kill()
    third.open()
    assert third.node.log_end(CATALOG) == cluster.leader.log().end
    third.commit()
    assert state(third) == state(cluster.leader)


def test_a_crash_leaves_the_old_log_or_the_new_catalog() -> None:
    """What it had is there until the new one is: it may have acknowledged it, though no commit of it is durable."""
    found: set[bool] = set()
    for at in range(1, 40):
        cluster, third, _ = left_behind()
        end, after = third.log().end, state(cluster.leader)
        third.disk.crash_in = at
        try:
            install(cluster, third)
        except Crash:
            third.disk.crash_in = None
            third.disk.lose_power(Random(at))
            third.open()
            third.node.check()
            found.add(state(third) == after)
            assert state(third) == after or third.node.log_end(CATALOG) == end, at
        else:
            break
    assert found == {False, True}


def test_it_is_refused_while_leading_behind_the_end_and_where_it_makes_no_sense() -> None:
    cluster, third, _ = left_behind()
    leader = cluster.leader
    leader.step(InstallCatalog(1, leader.log().end + 5, state(leader)))
    assert leader.declined[1].reason == "this node leads the catalog"
    third.step(InstallCatalog(3, third.log().end, state(leader)))
    assert "the log here goes to" in third.declined[3].reason
    third.step(InstallCatalog(4, leader.log().applied + 9, b"nonsense"))
    assert "makes no sense" in third.declined[4].reason
    install(cluster, third)
    assert ASK in third.kept


def test_an_adoption_that_a_start_passes_over_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, third, _ = left_behind()
    install(cluster, third)
    third.kill()
    monkeypatch.setattr(Replay, "_is_known", lambda self, stream_id: self._target.exists(stream_id))
    third.open()
    assert state(third) != state(cluster.leader)


def test_an_answer_before_the_sync_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A power loss takes back what was answered."""
    lost = 0
    monkeypatch.setattr(GroupCommit, "call_when_durable", lambda self, call: call())
    for seed in range(8):
        cluster, third, _ = left_behind()
        after = state(cluster.leader)
        third.disk.crash_in = 6 + seed % 4
        try:
            install(cluster, third)
        except Crash:
            third.disk.crash_in = None
        kept = ASK in third.kept
        third.disk.lose_power(Random(seed))
        third.open()
        lost += kept and state(third) != after
    assert lost


def test_a_stream_of_the_same_name_takes_the_place_of_one_that_was_deleted() -> None:
    cluster = Cluster(3)
    third = cluster.members[2]
    old = cluster.create("a")
    cluster.members.remove(third)
    cluster.call(DeleteStream("a"))
    cluster.call(CreateStream(StreamConfig("a")))
    install(cluster, third)
    new = third.log_id("a")
    assert new != old and list(third.node._state.replicas) == [new]
    third.node.check()

"""Term and vote of a member, its promises and memberships: durable before they are answered, and kept for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.member_kit import Cluster, Member
from tests.kit.node_kit import SMALL, Server
from tests.kit.node_play import Play
from tests.kit.store_disk import Crash
from waymaker_core.api.inputs import Enrol, KeepVote, Promise
from waymaker_core.model.limits import KIB
from waymaker_core.storage.errors import CorruptStore
from waymaker_core.storage.frame import HEADER_BYTES, RAFT_HARD, decode_header, directory_key
from waymaker_core.storage.journal.facts import Membership

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)


def test_a_vote_is_answered_when_it_is_durable() -> None:
    member = Member(1, (1, 2, 3))
    with Play(member) as play:
        play.step(KeepVote(1, 4, 2))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.done(1)
        play.expect("Kept 1")
    assert member.node.raft_hard() == (4, 2)


def test_a_term_never_goes_back_and_has_one_vote() -> None:
    member = Member(1, (1, 2, 3))
    member.step(KeepVote(1, 4, 0), KeepVote(2, 4, 2), KeepVote(3, 4, 2), KeepVote(4, 4, 3), KeepVote(5, 3, 1))
    member.step(KeepVote(6, 4, 0))
    assert member.kept == [1, 2, 3]
    assert {member.declined[ask].reason for ask in (4, 5, 6)} == {"the vote in term 4 is for node 2"}
    member.step(KeepVote(7, 5, 0))
    assert member.node.raft_hard() == (5, 0)


def test_where_the_journal_has_no_free_space_no_vote_is_kept() -> None:
    member = Member(1, (1, 2, 3))
    member.node._group_commit.journal.fits = lambda *_, **__: False  # type: ignore[method-assign]
    member.step(KeepVote(1, 4, 2))
    assert list(member.declined) == [1]
    assert member.node.raft_hard() == (0, 0)


def busy(cluster: Cluster, member: Member, stream_id: int, count: int = 120) -> None:
    for _ in range(count):
        cluster.publish(member, stream_id, bytes(300), name="busy")


def test_votes_promises_and_memberships_are_known_after_checkpoints_and_starts() -> None:
    cluster = Cluster(1, TINY)
    stream_id, member = cluster.serve("busy", block_size=20, max_msgs=50)
    member.step(KeepVote(1, 7, 3), Promise(2, [stream_id], 4), Enrol(3, stream_id, 2, 4))
    for number in range(3):
        assert member.node.raft_hard() == (7, 3)
        assert (member.node.promised(stream_id), member.node.membership(stream_id)) == (4, Membership(2, 4))
        assert (member.node.promised(99), member.node.membership(99)) == (0, None)
        member.lose_power()
        cluster.lead_catalog(member, 5 + number)
        cluster.lead(member, stream_id, 10 + number)
        busy(cluster, member, stream_id)
    assert member.node.stats.checkpoints > 1
    alone = Server(TINY, member.disk.copy())
    for _ in range(120):
        alone.publish("busy", bytes(300))
    alone.kill()
    assert alone.node.raft_hard() == (7, 3), "a start outside of the cluster forgets nothing"


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_a_crash_at_any_operation_leaves_a_vote_that_was_answered(power: bool) -> None:
    for crash_in in range(4):
        member = Member(1, (1, 2, 3))
        member.step(KeepVote(1, 4, 2))
        member.disk.crash_in = crash_in
        kept = False
        try:
            member.step(KeepVote(2, 5, 3))
            kept = 2 in member.kept
        except Crash:
            pass
        member.disk.crash_in = None
        member.lose_power() if power else member.kill()
        assert member.node.raft_hard() in ([(5, 3)] if kept else [(4, 2), (5, 3)]), crash_in


def test_a_damaged_vote_makes_a_start_refuse_the_directory() -> None:
    member = Member(1, (1, 2, 3))
    member.step(KeepVote(1, 4, 2))
    member.pass_ms(2_000)
    key = directory_key(bytes.fromhex(member.node.directory_id))
    path, at = next(
        (path, at)
        for path in member.disk.names
        for at in range(0, len(member.disk.names[path].content), 8)
        if (header := decode_header(key, bytes(member.disk.names[path].content), at)) and header.kind == RAFT_HARD
    )
    member.disk.flip(path, 8 * (at + HEADER_BYTES + 20))
    with pytest.raises(CorruptStore, match="a term and vote"):
        member.kill()

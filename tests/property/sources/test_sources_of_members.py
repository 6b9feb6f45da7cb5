"""Sources in a cluster: a stream is copied from the replica at hand, of what is committed, and a position never goes back."""

from __future__ import annotations

from tests.kit.member_kit import Cluster, Member
from tests.kit.node_kit import publish
from waymaker_core.model.types import ANYONE
from waymaker_core.node.feed import FeedAnswer, FeedBatch, FeedHead, FeedRequest, FeedTrouble
from waymaker_core.sources.positions import Incarnation


def pulled(member: Member, incarnation: Incarnation | None, from_seq: int = 0) -> FeedAnswer:
    """Return what a member finds in the stream `s` from a sequence on."""
    found: list[FeedAnswer] = []
    member.node._feed.pull(FeedRequest(ANYONE.account, "s", incarnation, from_seq), found.append)
    member.step()
    [answer] = found
    return answer


def seqs(answer: FeedAnswer) -> list[int]:
    assert isinstance(answer, FeedBatch), answer
    return list(answer.messages.seqs)


def test_every_replica_is_copied_from() -> None:
    cluster = Cluster()
    stream_id, primary = cluster.serve()
    cluster.publish(primary, stream_id, b"1", b"2", b"3")
    for member in cluster.members:
        head = pulled(member, None)
        assert isinstance(head, FeedHead), head
        assert (head.first_seq, head.last_seq) == (1, 3)
        assert seqs(pulled(member, head.incarnation, 2)) == [2, 3]


def test_a_follower_gives_what_is_committed_and_waits_where_it_lacks_what_was_copied() -> None:
    cluster = Cluster()
    stream_id, primary = cluster.serve()
    cluster.publish(primary, stream_id, b"1", b"2")
    late, *others = [member for member in cluster.members if member is not primary]
    incarnation = pulled(primary, None)
    assert isinstance(incarnation, FeedHead)
    first = incarnation.incarnation
    assert seqs(pulled(late, first, 3)) == []
    token = primary.ask(publish("s", ("a", b"3")))
    cluster.copy(primary, stream_id, others)
    assert token in primary.replies
    assert seqs(pulled(others[0], first, 3)) == [3]
    assert seqs(pulled(late, first, 3)) == [], "it has nothing of it"
    cluster.send(primary, late, stream_id)
    assert seqs(pulled(late, first, 3)) == [], "it does not know that it is committed"
    answer = pulled(late, first, 4)
    assert isinstance(answer, FeedBatch) and (answer.next_seq, answer.torn) == (4, False), "a position never goes back"
    assert seqs(answer) == []
    cluster.copy(primary, stream_id, [late])
    assert seqs(pulled(late, first, 3)) == [3]
    assert seqs(pulled(late, first, 4)) == []


def test_a_member_without_a_replica_of_the_source_says_so() -> None:
    """It has an empty stream, at whose end a copy stood for ever, without a word."""
    cluster = Cluster(factor=2)
    stream_id, primary = cluster.serve()
    conf = primary.node.conf(stream_id)
    assert conf is not None
    cluster.publish(primary, stream_id, b"1")
    (without,) = [member for member in cluster.members if member.node_id not in conf.newest.replicas]
    answer = pulled(without, None)
    assert isinstance(answer, FeedTrouble) and "no replica on this member" in answer.text, answer
    assert not answer.missing

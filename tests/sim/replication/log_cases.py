"""Cases about logs: what is appended and acknowledged, what is committed, what a start reads, and what is answered."""

from __future__ import annotations

from tests.kit.replica_group import NOTE_MS, ReplicaGroup
from tests.sim.replication.claim_cases import commit_with_3, promise, record_on
from waymaker_core.replication.messages import Acked, Append, Heard, Mismatch


def record_lost_by_1(group: ReplicaGroup) -> None:
    """Let node 1 decide a record that no other replica has, and let node 2 take over."""
    group.decide(1)
    group.drop(2, Append, 1)
    group.drop(3, Append, 1)
    group.take_over(2, 3)


def check_previous() -> ReplicaGroup:
    """Node 1 has another record at the place before the one that epoch 3 goes on with."""
    group = ReplicaGroup().begin()
    record_lost_by_1(group)
    group.settle(2, 3)
    assert len(group.log.committed) == 2
    group.drop(1, Append, 2)
    group.take_over(2, 3)
    group.settle(1, 2, 3)
    group.wait(NOTE_MS)
    group.settle(1, 2, 3)
    return group


def cut_on_conflict() -> ReplicaGroup:
    """An append arrives once more, behind the one that follows on it."""
    group = ReplicaGroup(one_record=[1]).begin()
    group.decide(1, 2)
    group.hear(3, Append, 1, again=True)
    group.hear(3, Append, 1)
    group.sync(3)
    group.hear(1, Acked, 3)
    group.hear(1, Acked, 3)
    assert len(group.log.committed) == 3
    assert group.hear(3, Append, 1)
    group.sync(3)
    group.take_over(2, 3)
    return group


def cut_durable() -> ReplicaGroup:
    """A start finds the record that was cut, and what came in its place."""
    group = ReplicaGroup().begin()
    record_lost_by_1(group)
    group.settle(1, 2, 3)
    group.wait(NOTE_MS)
    group.settle(1, 2, 3)
    assert group.machines[1].applied == 2
    group.crash(1)
    return group


def behind_in_epoch_2() -> ReplicaGroup:
    """Let epoch 2, which is not open, bring node 3 the first of two records that nodes 1 and 2 committed."""
    group = ReplicaGroup(one_record=[1, 2]).begin()
    group.decide(1, 2)
    group.settle(1, 2)
    assert len(group.log.committed) == 3
    group.drop(3, Append, 1)
    group.claim(2)
    group.sync(2)
    promise(group, 1, 2)
    group.settle(2)
    group.hear(3, Append, 2)
    group.sync(3)
    assert group.hear(2, Mismatch, 3)
    return group


def rise_at_start() -> ReplicaGroup:
    """A log that has the first of two committed records counts as one of epoch 2."""
    group = behind_in_epoch_2()
    group.hear(3, Append, 2)
    group.settle(3)
    group.take_over(3, 1, on=[3])
    return group


def rise_when_durable() -> ReplicaGroup:
    """A node declines the second of two records, and keeps the epoch in which the log with it was verified."""
    group = behind_in_epoch_2()
    group.hear(3, Append, 2)
    group.settle(3)
    assert group.hear(2, Heard, 3)
    group.machines[3].crowded = True
    assert group.hear(3, Append, 2)
    group.settle(3)
    group.machines[3].crowded = False
    group.crash(3)
    group.take_over(3, 1, on=[3])
    return group


def ack_durable() -> ReplicaGroup:
    """A replica loses what it acknowledged."""
    group = ReplicaGroup().begin()
    group.decide(1)
    group.hear(3, Append, 1)
    group.hear(1, Acked, 3)
    group.crash(3)
    group.take_over(2, 3)
    return group


def silent_after_decline() -> ReplicaGroup:
    """A node declines a record, and an append arrives once more with it."""
    group = ReplicaGroup().begin()
    group.decide(1)
    group.machines[3].full = True
    group.hear(3, Append, 1, again=True)
    group.sync(3)
    group.machines[3].full = False
    assert group.hear(3, Append, 1)
    group.hear(1, Acked, 3)
    group.crash(3)
    group.take_over(2, 3)
    return group


def apply_when_durable() -> ReplicaGroup:
    """A node declines records that are committed already: its replica then takes no log that could give them back."""
    group = ReplicaGroup().begin()
    group.decide(1)
    group.settle(1, 2)
    assert len(group.log.committed) == 2
    group.drop(3, Append, 1)
    group.decide(1)
    group.hear(3, Append, 1)
    group.sync(3)
    assert group.hear(1, Mismatch, 3)
    group.machines[3].full = True
    assert group.hear(3, Append, 1)
    group.sync(3)
    group.heal(3)
    return group


def ack_own_epoch() -> ReplicaGroup:
    """An acknowledgment of epoch 1 arrives in epoch 3, in which another record has that place."""
    group = ReplicaGroup(5).begin()
    record_on(group, 3)
    group.take_over(2, 4, 5)
    group.hear(1, Append, 2)
    group.settle(1)
    for node in (1, 4, 5):
        group.drop(node, Append, 2)
    for node in (4, 5):
        group.drop(node, Append, 1)
    group.take_over(1, 4, 5)
    group.hear(4, Append, 1)
    group.sync(4)
    group.hear(1, Acked, 4)
    group.hear(1, Acked, 3)
    group.take_over(5, 2, 3)
    return group


def majority_of_set() -> ReplicaGroup:
    """A primary commits what it has alone."""
    group = ReplicaGroup().begin()
    record_lost_by_1(group)
    return group


def apply_verified() -> ReplicaGroup:
    """A follower answers, loses its directory, and takes an old append before the one that rests on its answer."""
    group = ReplicaGroup(5, one_record=[2])
    group.claim(1)
    group.settle(1, 2, 4, 5)
    group.open_at(1)
    group.settle(1, 2, 4, 5)
    group.hear(3, Append, 1)
    group.settle(3)
    group.drop(3, Append, 1)
    group.decide(1)
    for node in (2, 4, 5):
        group.drop(node, Append, 1)
    group.hear(1, Acked, 3)  # one append carries the beginning of epoch 1 and a record, and stays on its way
    group.take_over(2, 4, 5)
    group.settle(2, 4, 5)
    group.drop(3, Append, 2)
    group.take_over(2, 4, 5)
    group.settle(2, 4, 5)
    assert len(group.log.committed) == 3
    group.hear(3, Append, 2)
    group.sync(3)
    assert group.hear(2, Mismatch, 3)
    group.lose_directory(3)
    group.hear(3, Append, 1)
    group.settle(3)
    assert len(group.machines[3].log) == 2
    assert group.hear(3, Append, 2)
    group.settle(3)
    return group


def apply_known_commit() -> ReplicaGroup:
    """A start applies a record that is durable here alone."""
    group = ReplicaGroup().begin()
    group.decide(1)
    group.crash(1)
    return group


def carry_suffix() -> ReplicaGroup:
    """A checkpoint forgets a record that was acknowledged."""
    group = ReplicaGroup().begin()
    commit_with_3(group)
    group.machines[3].checkpoint()
    group.crash(3)
    group.take_over(2, 3)
    return group


def question_to_the_old_primary() -> ReplicaGroup:
    """Ask a primary that does not know of epoch 2, in which a record is committed."""
    group = ReplicaGroup().begin()
    group.take_over(2, 3)
    group.settle(2, 3)
    assert len(group.log.committed) == 2
    group.ask(1)
    return group


def own_disk() -> ReplicaGroup:
    """Others have a record that the primary's own disk has not, and the primary is asked."""
    group = ReplicaGroup().begin()
    group.decide_unsynced(1)
    assert group.hear(2, Append, 1)
    group.sync(2)
    assert group.hear(1, Acked, 2)
    assert group.hear(3, Append, 1)
    group.sync(3)
    assert group.hear(1, Acked, 3)
    group.ask(1)
    for node in (2, 3):
        assert group.hear(node, Append, 1)
        assert group.hear(1, Heard, node) or group.hear(1, Acked, node)
    assert group.answered
    return group

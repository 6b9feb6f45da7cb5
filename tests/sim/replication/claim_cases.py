"""Cases about claims: who is fenced, which log is chosen, when an epoch is opened, and which directory counts.

Each begins with a record that is committed, or that will be; without its rule, a later primary is open and lacks it.
"""

from __future__ import annotations

from tests.kit.replica_group import ReplicaGroup
from waymaker_core.replication.messages import Acked, Append, Donation, Fence, Promised, Want


def record_on(group: ReplicaGroup, *nodes: int) -> None:
    """Let node 1 decide a record that these nodes have; their acknowledgments stay on their way."""
    group.decide(1)
    for node in nodes:
        group.hear(node, Append, 1)
        group.sync(node)


def commit_with_3(group: ReplicaGroup) -> None:
    """Commit a record of epoch 1 that only nodes 1 and 3 have."""
    record_on(group, 3)
    group.hear(1, Acked, 3)
    assert len(group.log.committed) == 2


def promise(group: ReplicaGroup, node: int, claimant: int) -> None:
    """Let a node make its promise durable; the claimant hears of it."""
    group.hear(node, Fence, claimant)
    group.sync(node)
    group.hear(claimant, Promised, node)


def help_the_old_epoch_then_the_new(group: ReplicaGroup) -> None:
    """Let node 3, whose promise node 2 has, take a record of epoch 1; then let it verify epoch 2."""
    record_on(group, 3)
    group.hear(1, Acked, 3)
    group.settle(2, 3)
    group.open_at(2)


def fence_last_opened() -> ReplicaGroup:
    """A claim on a set of one asks that one alone."""
    group = ReplicaGroup().begin()
    commit_with_3(group)
    group.take_over(2, on=[2])
    return group


def promise_durable() -> ReplicaGroup:
    """A replica forgets a promise that has left."""
    group = ReplicaGroup().begin()
    group.claim(2)
    group.hear(3, Fence, 2)
    group.hear(2, Promised, 3)
    group.crash(3)
    help_the_old_epoch_then_the_new(group)
    return group


def carry_promise() -> ReplicaGroup:
    """A checkpoint forgets a promise."""
    group = ReplicaGroup().begin()
    group.claim(2)
    promise(group, 3, 2)
    group.machines[3].checkpoint()
    group.crash(3)
    help_the_old_epoch_then_the_new(group)
    return group


def torn_obeys_newest() -> ReplicaGroup:
    """A tear takes a promise."""
    group = ReplicaGroup().begin()
    group.claim(2)
    promise(group, 3, 2)
    group.tear(3)
    group.learn(3)
    group.sync(3)
    help_the_old_epoch_then_the_new(group)
    return group


def doubt_confirmed() -> ReplicaGroup:
    """A tear takes a promise, and the start knows of no newer claim than the one before."""
    group = ReplicaGroup().begin()
    group.claim(2)
    promise(group, 3, 2)
    group.tear(3)
    group.learn_old(3, 1)
    group.sync(3)
    help_the_old_epoch_then_the_new(group)
    return group


def silent_when_torn() -> ReplicaGroup:
    """A tear takes a promise, and the start knows of no claim yet."""
    group = ReplicaGroup().begin()
    group.claim(2)
    promise(group, 3, 2)
    group.tear(3)
    help_the_old_epoch_then_the_new(group)
    return group


def obey_promise() -> ReplicaGroup:
    """An append of epoch 1 arrives behind the promise."""
    group = ReplicaGroup().begin()
    group.claim(2)
    promise(group, 3, 2)
    help_the_old_epoch_then_the_new(group)
    return group


def doubt_torn() -> ReplicaGroup:
    """A tear takes a record that was acknowledged, and the promise hides it."""
    group = ReplicaGroup().begin()
    record_on(group, 3)
    group.tear(3)
    group.claim(2)
    group.learn(3)
    group.hear(1, Acked, 3)
    assert len(group.log.committed) == 2
    group.sync(3)
    group.settle(2, 3)
    group.open_at(2)
    return group


def never_resume() -> ReplicaGroup:
    """A tear takes a committed record of the primary itself, and it goes on where that stood."""
    group = ReplicaGroup().begin()
    commit_with_3(group)
    group.tear(1)
    group.learn(1)
    return group


def choose_newest() -> ReplicaGroup:
    """Of two logs of one epoch the shorter one is taken."""
    group = ReplicaGroup().begin()
    commit_with_3(group)
    group.take_over(2, 3)
    return group


def not_longest() -> ReplicaGroup:
    """Two records of epoch 1, which only node 1 has, are more than one that epoch 2 committed."""
    group = ReplicaGroup().begin()
    group.decide(1, 2)
    group.drop(2, Append, 1)
    group.drop(3, Append, 1)
    group.take_over(2, 3)
    group.hear(3, Append, 2)
    group.sync(3)
    group.hear(2, Acked, 3)
    assert len(group.log.committed) == 2
    group.take_over(3, 1)
    return group


def log_epoch_not_record_epoch() -> ReplicaGroup:
    """A record of epoch 1 wins in epoch 3, and is lost to one of epoch 2 (Raft paper, figure 8)."""
    group = ReplicaGroup().begin()
    group.decide(1)
    group.drop(3, Append, 1)
    group.take_over(2, 3)
    group.drop(3, Append, 2)
    group.take_over(1, 3)
    group.drop(3, Append, 1)
    group.take_over(2, 3)
    return group


def donor_as_promised() -> ReplicaGroup:
    """A donor loses its directory, takes an append of epoch 1 that was late, and promises the claim once more."""
    group = ReplicaGroup()
    group.claim(1)
    group.settle(1, 2, 3)
    group.decide_proposals()
    group.learn(1)
    group.decide(1)  # one append carries the beginning of the epoch and a record, and stays on its way
    group.take_over(3, 2)
    group.hear(2, Append, 3)
    group.sync(2)
    group.hear(3, Acked, 2)
    assert len(group.log.committed) == 1
    group.claim(1, 1)
    group.sync(1)
    group.hear(2, Fence, 1, again=True)
    group.sync(2)
    group.hear(1, Promised, 2)
    group.sync(1)
    group.lose_directory(2)
    group.hear(2, Append, 1)
    group.settle(2)
    group.hear(2, Fence, 1)
    group.settle(2)
    group.hear(2, Want, 1)
    assert group.hear(1, Donation, 2)
    group.settle(1)
    group.open_at(1)
    return group


def epoch_2_on_node_2_alone(group: ReplicaGroup) -> None:
    """Let node 2 claim for itself alone, with a record of epoch 1 that it shares with node 1 only."""
    record_on(group, 2)
    group.drop(1, Acked, 2)
    group.claim(2, 2)
    promise(group, 3, 2)
    promise(group, 4, 2)
    group.settle(2)


def commit_after_opened() -> ReplicaGroup:
    """Epoch 2 commits on a set that no later claim asks, for it was never opened."""
    group = ReplicaGroup(5).begin()
    epoch_2_on_node_2_alone(group)
    group.take_over(3, 4, 5)
    return group


def opened_newest_claim() -> ReplicaGroup:
    """Epoch 2 is opened behind claim 3, whose primary asks the set of epoch 1."""
    group = ReplicaGroup(5).begin()
    epoch_2_on_node_2_alone(group)
    group.claim(3)
    group.decide_proposals()
    group.learn(2)
    group.settle(3, 4, 5)
    group.open_at(3)
    return group


def step_down_for_newer() -> ReplicaGroup:
    """A primary for which the catalog claims its stream once more goes on in its old epoch, and never opens the new one."""
    group = ReplicaGroup().begin()
    group.heal(1)
    return group


def opened_verified() -> ReplicaGroup:
    """Epoch 2 is opened while its primary alone has what epoch 1 committed; then the others of its set decide."""
    group = ReplicaGroup(5).begin()
    record_on(group, 2, 3)
    group.hear(1, Acked, 2)
    group.hear(1, Acked, 3)
    assert len(group.log.committed) == 2
    group.claim(2, 2, 4, 5)
    promise(group, 4, 2)
    promise(group, 5, 2)
    group.settle(2)
    group.open_at(2)
    group.take_over(4, 5, on=[4, 5])
    return group


def count_identity() -> ReplicaGroup:
    """A replica that lost a committed record with its directory promises in the place of the old one."""
    group = ReplicaGroup().begin()
    commit_with_3(group)
    group.lose_directory(3)
    group.take_over(2, 3)
    return group


def acknowledge_identity() -> ReplicaGroup:
    """A replica promises, loses its directory, and acknowledges what the claimant, which counts its promise, will lack."""
    group = ReplicaGroup()
    group.claim(1)
    group.settle(1, 2)
    group.open_at(1)
    group.settle(1, 2)
    assert len(group.log.committed) == 1
    group.claim(2, 2)
    promise(group, 3, 2)
    group.settle(2)
    group.lose_directory(3)
    group.decide(1)
    group.settle(1, 3)
    group.open_at(2)
    return group

"""The end of a schedule: faults stop, and the group must do what Raft promises when enough of it works.

It elects one leader and agrees. Then one fault follows that a healthy group must stand: a node that is cut off, a leader that
is, a disk that stalls, a transfer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waymaker_core.raft.effects import Role
from waymaker_core.raft.inputs import Propose, Read, Transfer
from waymaker_core.raft.raft import Raft
from waymaker_sim.raft.machine import Machine
from waymaker_sim.raft.promises import broken

if TYPE_CHECKING:
    from waymaker_sim.raft.schedule import Schedule

ELECTIONS = 12
"""Election timeouts within which a healthy group has a leader."""
AGREEMENTS = 100
"""Further ones within which it agrees."""


def heal(schedule: Schedule) -> None:
    """Stop all faults, and demand what a healthy group does."""
    schedule.network.mend()
    schedule.network.odds.heal()
    schedule.forget_late()
    for machine in schedule.machines:
        machine.paused_until = 0
        if machine.raft is None:
            schedule.start(machine)
        elif machine.stalled:
            schedule.recover(machine, machine.raft)
    election_ms = schedule.settings.election_ms
    schedule.run_for(ELECTIONS * election_ms)
    if leader_of(schedule) is None:
        broken("a leader comes", "no machine leads")
    agree(schedule, "a leader comes")
    chance = schedule.random.random()
    leader = leader_of(schedule)
    if leader is None or leader.raft is None or len(leader.raft.members.voters) < 3:
        return
    if chance < 0.35:
        _cut_a_follower_off(schedule, leader, leader.raft)
    elif chance < 0.6:
        _cut_the_leader_off(schedule, leader, leader.raft)
    elif chance < 0.75:
        _stall_the_leader(schedule, leader, leader.raft)
    else:
        _transfer(schedule, leader, leader.raft)
    agree(schedule, "a leader comes")


def leader_of(schedule: Schedule) -> Machine | None:
    """Return the machine that leads in the newest term."""
    leaders = [each for each in schedule.machines if each.raft is not None and each.role == Role.LEADER]
    return max(leaders, key=lambda each: each.term, default=None)


def agree(schedule: Schedule, promise: str) -> None:
    """Demand one leader that votes, that all its members have its log, and that it commits and answers a read."""
    leader, raft = _agreed(schedule, promise)
    token = -1 - schedule.steps
    schedule.step(leader, raft, Propose(token, b"%d" % token))
    schedule.watch.ask(token)
    schedule.step(leader, raft, Read(token))
    schedule.run_for(2 * schedule.settings.election_ms)
    _agreed(schedule, promise)
    if token in schedule.watch.asked:
        broken(promise, f"machine {leader.id} does not answer a read")


def _agreed(schedule: Schedule, promise: str) -> tuple[Machine, Raft]:
    """Return the leader, once all have its log: small windows and slow disks may take long."""
    for _ in range(AGREEMENTS):
        if not _lacks(schedule):
            break
        schedule.run_for(schedule.settings.election_ms)
    lacks, leader = _lacks(schedule), leader_of(schedule)
    if lacks or leader is None or leader.raft is None:
        broken(promise, lacks)
    return leader, leader.raft


def _lacks(schedule: Schedule) -> str:
    """Return what the group lacks to agree; nothing if it does."""
    leaders = [each for each in schedule.machines if each.role == Role.LEADER]
    if len(leaders) != 1 or leaders[0].raft is None:
        return f"{len(leaders)} machines lead"
    leader, raft = leaders[0], leaders[0].raft
    members = raft.members
    if leader.id not in members.voters:
        return f"machine {leader.id} leads and does not vote"
    if raft.commit != raft.last_index:
        return f"machine {leader.id} has {raft.commit} of {raft.last_index} committed"
    for node in (*members.voters, *members.learners):
        machine = schedule.machines[node - 1]
        if machine.applied != raft.commit:
            return f"machine {node} has applied {machine.applied} of {raft.commit}"
    return ""


def _cut_a_follower_off(schedule: Schedule, leader: Machine, raft: Raft) -> None:
    """Cut a follower off, or let it hear nothing while the others hear it: the leader stays."""
    followers = [node for node in raft.members.voters if node != leader.id]
    node = schedule.random.choice(followers)
    ids = [each.id for each in schedule.machines]
    schedule.network.cut_off([node], ids, inward=True, outward=schedule.random.random() < 0.5)
    term = raft.term
    schedule.run_for(5 * schedule.settings.election_ms)
    schedule.network.mend()
    schedule.run_for(5 * schedule.settings.election_ms)
    if raft.role != Role.LEADER or raft.term != term:
        broken("a leader stays", f"machine {node} was cut off, and machine {leader.id} leads no more")


def _cut_the_leader_off(schedule: Schedule, leader: Machine, raft: Raft) -> None:
    """Cut the leader off, or let it hear nothing while the others hear it: another one leads."""
    ids = [each.id for each in schedule.machines]
    schedule.network.cut_off([leader.id], ids, inward=True, outward=schedule.random.random() < 0.5)
    schedule.run_for(4 * schedule.settings.election_ms)
    if raft.role == Role.LEADER:
        broken("a leader goes", f"machine {leader.id} hears nothing and leads on")
    schedule.run_for((ELECTIONS - 4) * schedule.settings.election_ms)
    if leader_of(schedule) is None:
        broken("a leader goes", "no other machine leads")
    schedule.network.mend()
    schedule.run_for(4 * schedule.settings.election_ms)


def _stall_the_leader(schedule: Schedule, leader: Machine, raft: Raft) -> None:
    """Let the leader's disk stall: another one leads."""
    schedule.stall(leader, raft)
    schedule.run_for(ELECTIONS * schedule.settings.election_ms)
    if raft.role == Role.LEADER or leader_of(schedule) is None:
        broken("a leader goes", f"the disk of machine {leader.id} stalls, and no other machine leads")
    schedule.recover(leader, raft)
    schedule.run_for(4 * schedule.settings.election_ms)


def _transfer(schedule: Schedule, leader: Machine, raft: Raft) -> None:
    """Let the leader hand over while entries are on their way: the other one leads, or it leads on."""
    followers = [node for node in raft.members.voters if node != leader.id]
    node = schedule.random.choice(followers)
    term = raft.term
    for number in range(1, 1 + schedule.random.choice((1, 3, 10))):
        schedule.step(leader, raft, Propose(-number, b"-%d" % number))
    schedule.step(leader, raft, Transfer(0, node))
    schedule.run_for(5 * schedule.settings.election_ms)
    if schedule.machines[node - 1].role != Role.LEADER and (raft.role != Role.LEADER or raft.term != term):
        broken("a leader goes", f"machine {leader.id} was to hand over to {node}, and neither leads")

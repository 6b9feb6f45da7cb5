"""Copies of logs: a report of what has changed tells the atlas the same as one of everything, at every step."""

from __future__ import annotations

import pytest

from waymaker_core.cluster.member import Member
from waymaker_core.model.types import CATALOG
from waymaker_sim.cluster.atlas import EMPTY, Atlas, Copy
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.process import Process
from waymaker_sim.members.cluster_world import ClusterWorld
from waymaker_sim.members.copies import Copies


class AllCopies:
    """A reporter that reports every copy of a member at every step."""

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}
        self._terms = (0, 0)

    def feed(self, atlas: Atlas, process: Process) -> None:
        member = process.server
        if not isinstance(member, Member):
            return
        view, machine, node = member.view_of_group(), process.number, member.node
        if view is not None and view.members.voters:
            if view.members_version >= self._terms:
                self._terms = view.members_version
                atlas.place(CATALOG, view.members.voters)
            figures = next(node.log_figures())
            counts = view.members.directory_of(machine) in (0, view.directory)
            good = counts and not view.doubtful
            copy = copy_at(view.term_at(figures.durable), figures.durable) if good else EMPTY
            least = Copy(0, view.members_version[1])
            atlas.report(machine, CATALOG, copy, max(least, copy_at(view.term_at(figures.applied), figures.applied)))
        for stream_id, replica in member.replicas.items():
            conf = node.conf(stream_id)
            if conf is None or not node.has_stream(stream_id):
                if node.was_deleted(stream_id):
                    atlas.forget(stream_id)
                continue
            claim = conf.opened if conf.opened.epoch else conf.newest
            if claim.epoch >= self._epochs.get(stream_id, 0):
                self._epochs[stream_id] = claim.epoch
                atlas.place(stream_id, claim.replicas)
            known = replica.conf
            seat = known is not None and replica.has_seat(known.opened if conf.opened.epoch else known.newest)
            if replica.doubt or replica.is_torn or not seat:
                atlas.report(machine, stream_id, EMPTY)
            elif replica.is_settled:
                atlas.report(machine, stream_id, Copy(replica.log_epoch, node.durable_end(stream_id)))


def copy_at(term: int, position: int) -> Copy:
    return Copy(term, position) if term >= 0 else EMPTY


class Both:
    """A reporter to two atlases, which stay alike. The second one hears of losses as the first one does."""

    def __init__(self) -> None:
        self.changed, self.all = Copies(), AllCopies()
        self.second = Atlas()
        self.steps = 0

    def feed(self, atlas: Atlas, process: Process) -> None:
        self.second._lost = dict(atlas._lost)
        for stream, copies in atlas._streams.items():
            other = self.second._streams.get(stream)
            if other is not None:
                other.damaged = dict(copies.damaged)
                for machine in [each for each in other.copies if each not in copies.copies]:
                    del other.copies[machine]
        self.changed.feed(atlas, process)
        self.all.feed(self.second, process)
        self.steps += 1
        assert known(atlas) == known(self.second), f"step {process.steps} of machine {process.number}"


def known(atlas: Atlas) -> dict[object, tuple[object, ...]]:
    return {stream: (copies.replicas, copies.copies, copies.committed) for stream, copies in atlas._streams.items()}


@pytest.mark.parametrize("seed", [2, 3])
def test_what_changed_is_all_that_an_atlas_has_to_know(seed: int) -> None:
    world = ClusterWorld(Tape(seed), counts=range(3, 6))
    world.machines_plan.lose_directory = world.machines_plan.tear_synced = 10_000
    both = Both()
    world.cluster._feed = both.feed
    world.run()
    assert both.steps > 1_000
    assert world.cluster.marks["directory lost"] + world.cluster.marks["synced end torn"]


def test_a_reporter_that_forgets_the_ends_of_copies_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_ends(self: Copies, atlas: Atlas, machine: int, member: Member) -> None:
        for stream_id, replica in member.replicas.items():
            figures = member.node.conf(stream_id), replica.conf
            if figures[0] is not None and self._reported[machine].get(stream_id) == figures:
                continue
            self._reported[machine][stream_id] = figures
            self._feed_stream(atlas, machine, member, stream_id, replica)

    world, both = ClusterWorld(Tape(2), counts=range(3, 6)), Both()
    world.cluster._feed = both.feed
    monkeypatch.setattr(Copies, "_feed_streams", without_ends)
    with pytest.raises(AssertionError, match="of machine"):
        world.run()

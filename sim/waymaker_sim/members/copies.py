"""The copies of a cluster's logs, as its members report them to the fault atlas: the catalog's, and each stream's.

A stream belongs to the replicas of the claim that was opened last, before the first opening to those of its first claim. A
member reports what it has durably and can say of it with certainty; one in doubt has no good copy.
"""

from __future__ import annotations

from waymaker_core.cluster.member import Member
from waymaker_core.model.types import CATALOG
from waymaker_sim.cluster.atlas import EMPTY, Atlas, Copy
from waymaker_sim.machine.process import Process


class Copies:
    """The reporter of one world."""

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}
        """By stream: the epoch of the claim that the atlas knows."""
        self._terms: tuple[int, int] = (0, 0)

    def feed(self, atlas: Atlas, process: Process) -> None:
        """Report the copies of a member that has stepped."""
        server = process.server
        if isinstance(server, Member):
            self._feed_catalog(atlas, process.number, server)
            self._feed_streams(atlas, process.number, server)

    def _feed_catalog(self, atlas: Atlas, machine: int, member: Member) -> None:
        view = member.view_of_group()
        if view is None or not view.members.voters:
            return
        version = view.members_version
        if version >= self._terms:
            self._terms = version
            atlas.place(CATALOG, view.members.voters)
        figures = next(member.node.log_figures())
        counts = view.members.directory_of(machine) in (0, view.directory)
        copy = EMPTY if view.doubtful or not counts else _copy(view.term_at(figures.durable), figures.durable)
        # The record that names the members counts as committed: they are waited for, with the directories that it names.
        least = Copy(0, view.members_version[1])
        committed = max(least, _copy(view.term_at(figures.applied), figures.applied))
        atlas.report(machine, CATALOG, copy, committed)

    def _feed_streams(self, atlas: Atlas, machine: int, member: Member) -> None:
        for stream_id, replica in member.replicas.items():
            conf = member.node.conf(stream_id)
            if conf is None or not member.node.has_stream(stream_id):
                if member.node.was_deleted(stream_id):
                    atlas.forget(stream_id)
                continue
            claim = conf.opened if conf.opened.epoch else conf.newest
            if claim.epoch >= self._epochs.get(stream_id, 0):
                self._epochs[stream_id] = claim.epoch
                atlas.place(stream_id, claim.replicas)
            known = replica.conf
            lacks_seat = known is None or not replica.has_seat(known.opened if conf.opened.epoch else known.newest)
            if replica.doubt or replica.is_torn or lacks_seat:
                atlas.report(machine, stream_id, EMPTY)
            elif replica.is_settled:
                atlas.report(machine, stream_id, Copy(replica.log_epoch, member.node.durable_end(stream_id)))


def _copy(term: int, position: int) -> Copy:
    return Copy(term, position) if term >= 0 else EMPTY

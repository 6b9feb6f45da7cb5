"""The copies of a cluster's logs, as its members report them to the fault atlas: the catalog's, and each stream's.

A stream belongs to the replicas of the claim that was opened last, before the first opening to those of its first claim. A
member reports what it has durably and can say of it with certainty; one in doubt has no good copy.
"""

from __future__ import annotations

from waymaker_core.cluster.member import Member
from waymaker_core.model.types import CATALOG
from waymaker_core.replication.replica import Replica
from waymaker_sim.cluster.atlas import EMPTY, Atlas, Copy
from waymaker_sim.machine.process import Process


class Copies:
    """The reporter of one world. It reports what has changed since a member's last report."""

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}
        """By stream: the epoch of the claim that the atlas knows."""
        self._terms: tuple[int, int] = (0, 0)
        self._members: dict[int, Member] = {}
        """By machine: the member of its last report. A process that starts anew reports everything."""
        self._reported: dict[int, dict[int, tuple[object, ...]]] = {}
        """By machine and stream: all that the last report was made of."""

    def feed(self, atlas: Atlas, process: Process) -> None:
        """Report the copies of a member that has stepped, as far as they have changed."""
        server = process.server
        if isinstance(server, Member):
            if self._members.get(process.number) is not server:
                self._members[process.number] = server
                self._reported[process.number] = {}
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
        durable, applied = member.node.durable_end(CATALOG), member.node.applied(CATALOG)
        counts = view.members.directory_of(machine) in (0, view.directory)
        copy = EMPTY if view.doubtful or not counts else _copy(view.term_at(durable), durable)
        # The record that names the members counts as committed: they are waited for, with the directories that it names.
        least = Copy(0, view.members_version[1])
        committed = max(least, _copy(view.term_at(applied), applied))
        atlas.report(machine, CATALOG, copy, committed)

    def _feed_streams(self, atlas: Atlas, machine: int, member: Member) -> None:
        node, reported = member.node, self._reported[machine]
        for stream_id, replica in member.replicas.items():
            figures = (
                node.conf(stream_id),
                replica.conf,
                replica.log_epoch,
                node.durable_end(stream_id),
                replica.doubt,
                replica.is_torn,
                replica.is_settled,
            )
            if figures[0] is not None and reported.get(stream_id) == figures:
                continue
            reported[stream_id] = figures
            self._feed_stream(atlas, machine, member, stream_id, replica)

    def _feed_stream(self, atlas: Atlas, machine: int, member: Member, stream_id: int, replica: Replica) -> None:
        conf = member.node.conf(stream_id)
        if conf is None or not member.node.has_stream(stream_id):
            if member.node.was_deleted(stream_id):
                atlas.forget(stream_id)
                self._report_anew(stream_id)
            return
        claim = conf.opened if conf.opened.epoch else conf.newest
        if claim.epoch >= self._epochs.get(stream_id, 0):
            self._epochs[stream_id] = claim.epoch
            if atlas.place(stream_id, claim.replicas):
                self._report_anew(stream_id)
        known = replica.conf
        lacks_seat = known is None or not replica.has_seat(known.opened if conf.opened.epoch else known.newest)
        if replica.doubt or replica.is_torn or lacks_seat:
            atlas.report(machine, stream_id, EMPTY)
        elif replica.is_settled:
            atlas.report(machine, stream_id, Copy(replica.log_epoch, member.node.durable_end(stream_id)))

    def _report_anew(self, stream_id: int) -> None:
        """Let every other member report its copy with its next step, for the atlas has another set, or none."""
        for reported in self._reported.values():
            reported.pop(stream_id, None)


def _copy(term: int, position: int) -> Copy:
    return Copy(term, position) if term >= 0 else EMPTY

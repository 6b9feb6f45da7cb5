"""Log views: what each replica believes of its node's log, beside the log itself, at every step.

The protocol keeps a view of its own of where the log ends, and of each record's epoch. By that view it decides what to cut, to
send and to acknowledge; the node alone knows what is there. While a primary leads, its node decides records that the view
has not yet. A replica that was declined something says nothing until it has read the log anew.
"""

from __future__ import annotations

from waymaker_core.cluster.member import Member
from waymaker_core.replication.replica import Replica
from waymaker_core.stream.epochs import EPOCHS_KEPT
from waymaker_sim.kernel.checks import violated
from waymaker_sim.machine.process import Process

Ends = tuple[int, int, int, int, bool, bool]
Table = list[tuple[int, int]]


class LogViews:
    """The views of one world."""

    def __init__(self) -> None:
        self.compared = 0
        """Number of views that were compared with their logs."""
        self._members: dict[int, tuple[Member, dict[int, Ends]]] = {}
        """By machine: its member, and the ends, by stream, at which views were compared."""

    def stepped(self, process: Process) -> None:
        """Compare what has changed in a step of a member."""
        member = process.server
        if not isinstance(member, Member):
            return
        known = self._members.get(process.number)
        if known is None or known[0] is not member:
            known = self._members[process.number] = member, {}
        seen, node = known[1], member.node
        for stream_id, replica in member.replicas.items():
            log, silent = replica.log, replica.is_silent
            starts = log.starts
            ends = log.end, node.log_end(stream_id), len(starts), starts[-1][0] if starts else 0, replica.leads, silent
            if seen.get(stream_id) == ends:
                continue
            if member.next_deadline() == 0:
                return  # what the protocol asked for last is left for the next step
            if node.is_adopting(stream_id):
                continue  # the view is of the log that a start would find, until the snapshot is durable
            seen[stream_id] = ends
            if not silent:
                self._compare(process.number, stream_id, replica, ends[1], node.epoch_table(stream_id))

    def _compare(self, number: int, stream_id: int, replica: Replica, end: int, table: Table) -> None:
        log = replica.log
        if replica.leads:
            # The node may have decided more than has its place in the journal.
            table = [each for each in table if each[1] <= log.end]
            end = min(end, log.end)
        self.compared += 1
        table, starts = table[-EPOCHS_KEPT:], log.starts[-EPOCHS_KEPT:]
        if (log.end, starts) != (end, table):
            what = f"a replica of stream {stream_id} on machine {number}"
            violated(
                "log as seen", f"{what} sees a log up to {log.end}, {starts}; its node has one up to {end}, {table}"
            )

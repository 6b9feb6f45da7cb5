"""Room before a decision: a record that finds none is refused, and parked while space is being made.

It must have room in its log, which a majority may be late to confirm, and in the journal.
"""

from __future__ import annotations

from waymaker_core.model.result_codes import resource_exhausted
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.parking import RetryLater
from waymaker_core.node.stream_log import StreamLog


def require_room(
    state: NodeState, group_commit: GroupCommit, log: StreamLog, bound: int, *, ordinary: bool = False
) -> None:
    """Refuse or put off a record of at most `bound` bytes for which its log or the journal has no room.

    `ordinary`: the reserve is not for it.
    """
    if not group_commit.has_room_for(log, bound, ordinary=ordinary):
        require_room_in_log(state, log)
        if state.stats.disk_full:
            what = "nothing was stored" if ordinary else "the reserve is used up too, and nothing was changed"
            raise resource_exhausted(f"{state.no_room_because}; {what}")
        raise RetryLater


def require_room_in_log(state: NodeState, log: StreamLog) -> None:
    """Refuse what would add to a log while as much of it waits for a majority as may."""
    if log.is_crowded(state.limits):
        what = "the catalog" if log is state.catalog_log else "this stream"
        raise resource_exhausted(f"too much of {what} waits for a majority of its replicas; try again later")

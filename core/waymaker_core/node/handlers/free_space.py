"""Free space before a decision: a record that finds none is refused on a full disk, and parked while space is being made."""

from __future__ import annotations

from waymaker_core.model.result_codes import resource_exhausted
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.parking import RetryLater


def require_free_space(state: NodeState, group_commit: GroupCommit, bound: int, *, ordinary: bool = False) -> None:
    """Refuse or put off a record of at most `bound` bytes for which the journal has no room.

    `ordinary`: the reserve is not for it.
    """
    if not group_commit.has_free_space_for(bound, ordinary=ordinary):
        if state.stats.disk_full:
            what = "nothing was stored" if ordinary else "the reserve is used up too, and nothing was changed"
            raise resource_exhausted(f"{state.no_room_because}; {what}")
        raise RetryLater

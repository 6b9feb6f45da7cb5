"""What always holds between a node's parts when a step is over: for tests and simulations, never on a path that serves."""

from __future__ import annotations

from waymaker_core.node.commits import Commits
from waymaker_core.node.hosted import Hosted
from waymaker_core.node.state import NodeState


def check(state: NodeState, commits: Commits) -> None:
    """Assert every invariant of every stream in service, and that nothing stays decided without a record under way."""
    under_way: dict[int, int] = {}
    for item in commits.under_way():
        if item.hosted is not None:
            under_way[item.hosted.id] = under_way.get(item.hosted.id, 0) + 1
    for stream_id, hosted in state.hosted.items():
        assert hosted.id == stream_id
        if hosted.damage is None:
            _check_hosted(hosted, under_way.get(stream_id, 0), commits)


def _check_hosted(hosted: Hosted, under_way: int, commits: Commits) -> None:
    hosted.stream.check()
    hosted.consumers.check()
    assert hosted.uncommitted == under_way, f"{hosted.name}: {hosted.uncommitted} records, {under_way} under way"
    assert hosted.stream.position <= hosted.position
    if not under_way:
        assert hosted.stream.is_settled(), f"{hosted.name}: messages or deletions are staged without a record"
        assert not hosted.consumers.has_staged(), f"{hosted.name}: an acknowledgement is staged without a record"
    if commits.last() is None:
        assert not hosted.stream.tail.configs, f"{hosted.name}: settings staged without a record"
        assert hosted.config_decided is None, f"{hosted.name}: settings decided without a record"

"""The parts of a node that recovery has made."""

from __future__ import annotations

from waymaker_core.node.context import NodeState
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.storage.recovery.recovery import Recovered


class Restored:
    """The state, the journal, the findings of recovery, and files that nothing names."""

    __slots__ = ("state", "journal", "recovered", "orphans")

    def __init__(self, state: NodeState, journal: Journal, recovered: Recovered, orphans: list[str]) -> None:
        self.state = state
        self.journal = journal
        self.recovered = recovered
        self.orphans = orphans

"""The parts of a node that recovery has made."""

from __future__ import annotations

from dataclasses import dataclass

from waymaker_core.node.context import NodeState
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.storage.recovery.recovery import Recovered


@dataclass(slots=True, eq=False)
class Restored:
    """The state, the journal, the findings of recovery, files that nothing names, and streams that are to begin anew."""

    state: NodeState
    journal: Journal
    recovered: Recovered
    orphans: list[str]

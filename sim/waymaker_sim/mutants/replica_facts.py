"""Rules of what a replica keeps through a start: facts, suffixes and cuts of its logs, and the files that they still need."""

from __future__ import annotations

from typing import Any

from waymaker_core.node import facts as node_facts
from waymaker_core.node.facts import CommitPoint, Facts
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.storage.frame import CUT
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.storage.recovery import replay
from waymaker_core.storage.recovery.replay import Replay
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, nothing


def _late(plan: Plan) -> bool:
    """Return True for worlds with late majorities, and stops that leave suffixes."""
    return (
        plan.quorum is not None
        and plan.quorum.slow + plan.quorum.starves > 0
        and plan.kill + plan.power + plan.kill_at_effect > 10_000
    )


def _stopping(plan: Plan) -> bool:
    """Return True for replicated worlds with many stops."""
    return plan.quorum is not None and plan.kill + plan.power + plan.kill_at_effect > 20_000


def _cutting(plan: Plan) -> bool:
    """Return True for worlds in which other leaders cut off suffixes."""
    return plan.quorum is not None and plan.quorum.cuts > 0 and _late(plan)


def _deleting(plan: Plan) -> bool:
    """Return True for worlds with stops, in which small files go all the time."""
    return _stopping(plan) and plan.limits.segment_bytes <= 32 * 1024


def _promising(plan: Plan) -> bool:
    """Return True for worlds in which the node promises, with checkpoints and restarts."""
    return (
        plan.quorum is not None
        and plan.quorum.deposes > 0
        and plan.limits.segment_bytes <= 64 * 1024
        and plan.kill + plan.power + plan.drain > 0
    )


def _writing_no_cut(original: Any) -> Any:
    def append_fact(self: Journal, kind: int, *arguments: Any) -> None:
        if kind != CUT:
            original(self, kind, *arguments)

    return append_fact


def _at_durable(_: Any) -> Any:
    return lambda self: CommitPoint(self._state.written_lsn)


def _claiming_the_end(_: Any) -> Any:
    return lambda log: log.durable


def _unknown_is_deleted(_: Any) -> Any:
    return lambda self, stream_id: stream_id not in self.catalog.entries


REPLICA_FACTS = {
    "write-no-cut": Mutant(
        "a cut stands in the journal before what is written behind it",
        ("answer allowed", "recovery honest", "one history", "acked survives", "ledger grows"),
        Journal, "append_fact", _writing_no_cut, _cutting,
    ),
    "read-no-cut": Mutant(
        "a start takes no record that a cut made void",
        ("recovery twice", "answer allowed", "recovery honest", "one history", "acked survives", "ledger grows"),
        Replay, "_cut", nothing, _cutting,
    ),
    "apply-beyond-the-commit": Mutant(
        "a start applies only what is known to be committed", ("majority first",), replay, "REPLICATED",
        lambda _: 0, _late,
    ),
    "claim-what-is-durable": Mutant(
        "a commit is written down for what is committed, not for what is durable", ("majority first",),
        node_facts, "committed", _claiming_the_end, _late,
    ),
    "delete-under-an-uncommitted-record": Mutant(
        "a file goes when it is durable that its record is committed",
        ("acked survives", "recovery honest", "answer allowed"), Facts, "point",
        _at_durable, _deleting,
    ),
    "forget-facts-at-checkpoints": Mutant(
        "a checkpoint writes the facts in force behind what it releases", ("facts kept",), Facts, "carry",
        lambda _: lambda self, cut, logs: (cut, False), _promising,
    ),
    "lose-the-suffix": Mutant(
        "a start keeps what is durable and not known to be committed",
        ("recovery twice", "acked survives", "ledger grows", "one history", "lives apart"),
        StreamLog, "restore", nothing, _late,
    ),
    "skip-the-unknown": Mutant(
        "records of a stream that the catalog does not know yet are kept",
        ("answer allowed", "acked survives", "ledger grows", "recovery honest"), Restoring, "is_deleted",
        _unknown_is_deleted, _stopping,
    ),
}  # fmt: skip

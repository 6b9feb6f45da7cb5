"""The world of a run in plain words: its actors, its limits, and its faults."""

from __future__ import annotations

from waymaker_core.model.limits import KIB
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.machine.disk import DiskFaults
from waymaker_sim.machine.swarm import ORDINARY, Plan
from waymaker_sim.timeline.words import duration

FAULTS = {
    "kill": "kills",
    "kill_at_effect": "kills in the middle of a step",
    "power": "losses of power",
    "drain": "orderly stops",
    "pause": "pauses",
    "wall_jump": "jumps of the wall clock",
    "clock_wrong": "wall clocks wrong for a while",
    "full": "full disks",
    "rot": "rotten bits",
}
"""Faults from outside, by the field of the plan with their rate."""
ERRORS = {"read_error": "reads", "write_error": "writes", "sync_error": "syncs"}
PER_SECOND = 10
"""Number of times in a virtual second that the nemesis acts."""


def describe_plan(plan: Plan) -> str:
    """Describe the world in one paragraph."""
    return " ".join([_clients(plan), _limits(plan), _faults(plan), _disk(plan.disk), _pace(plan)])


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _clients(plan: Plan) -> str:
    clients = ", ".join(
        _count(number, what)
        for number, what in (
            (plan.publishers, "publisher"),
            (plan.workers, "worker"),
            (plan.readers + 1, "reader"),
            (plan.watchers, "watcher"),
        )
    )
    return (
        f"{_count(plan.streams, 'stream').capitalize()}; {clients}, each acting about every {duration(plan.think_ns)}."
    )


def _limits(plan: Plan) -> str:
    limits = plan.limits
    if limits == ORDINARY:
        return "Limits are the usual ones."
    return (
        f"Limits are tiny: segments of {limits.segment_bytes // KIB} KiB, a checkpoint after "
        f"{limits.checkpoint_journal_bytes // KIB} KiB of journal, blocks of {limits.block_size_default} messages, records of "
        f"{limits.record_messages_max}."
    )


def _faults(plan: Plan) -> str:
    odds = [(getattr(plan, name), words) for name, words in FAULTS.items()]
    texts = [f"{words} ({_rate(per_million * PER_SECOND, plan)})" for per_million, words in odds if per_million]
    outside = ": " + ", ".join(texts) if texts else ", though nothing from outside"
    return f"For {plan.faults_ns / SECOND:g} s things may go wrong{outside}."


def _rate(per_million: int, plan: Plan) -> str:
    """Return a rate in plain words."""
    each = 1_000_000 / per_million
    return f"every {each:.1f} s" if each * SECOND < plan.faults_ns else "rarely"


def _disk(disk: DiskFaults) -> str:
    failing = [
        f"{getattr(disk, name) / 10_000:.3g} % of {words}" for name, words in ERRORS.items() if getattr(disk, name)
    ]
    texts = f"Meanwhile the disk fails {', '.join(failing)}." if failing else "No operation of the disk fails."
    ways = [
        words
        for name, words in (("lose", "unsynced writes"), ("lose_names", "unsynced names"), ("tear", "parts of sectors"))
        if getattr(disk, name)
    ]
    return texts + (
        f" Until faults end a loss of power may cost {', '.join(ways)}."
        if ways
        else " Until faults end a loss of power costs nothing."
    )


def _pace(plan: Plan) -> str:
    slow = plan.pace.slow_per_million
    texts = f"A sync takes {duration(plan.pace.sync_ns)} to {duration(2 * plan.pace.sync_ns)}"
    return texts + (f", and {slow / 10_000:.3g} % of operations a thousand times as long." if slow else ".")

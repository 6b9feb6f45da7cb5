"""Registers: what clients saw of the newest message at each subject, as histories that can be judged.

The newest message at a subject is a register whose values are sequences: a publish writes, one with `expected_last_seq`
compares and sets, reading the latest reads. Retention may take the newest message only with all before it, so the register
may become nothing by itself; in a work queue, where any message may go, it is no register.

Left out is what nobody can have seen: a message whose outcome is unknown and which was never found anywhere, and what was
told of a sequence that no message found has. A history with less in it is linearizable where the whole one is.
"""

from __future__ import annotations

from waymaker_core.model.config import Retention
from waymaker_sim.checkers.linear import ANY, NEVER, NOTHING, Kind, Operation
from waymaker_sim.clients.publisher import Refused
from waymaker_sim.history.history import Attempt, StreamIncarnation


def may_vanish(incarnation: StreamIncarnation) -> bool:
    """Whether anything takes messages of a life away that it did not replace."""
    bounded = any(incarnation.least(bound) for bound in ("max_msgs", "max_bytes", "max_age_ms"))
    return bounded or incarnation.config.retention is not Retention.LIMITS


def histories(incarnation: StreamIncarnation, refusals: list[Refused]) -> dict[str, list[Operation]]:
    """By subject, everything that was asked of this life's registers and what came of it."""
    if incarnation.config.retention is Retention.WORK_QUEUE:
        return {}
    found: dict[str, list[Operation]] = {}
    at: dict[str, set[int]] = {}
    for seq, message in incarnation.at.items():
        at.setdefault(message.subject, {NOTHING}).add(seq)
    for seq, message in incarnation.at.items():
        if isinstance(message, Attempt):
            answered = message.confirmed_ns if message.confirmed_ns >= 0 else NEVER
            expected = message.expected if message.expected in at[message.subject] else ANY
            write = Operation(Kind.WRITE, seq, message.asked_ns, answered, expected)
            found.setdefault(message.subject, []).append(write)
    for look in incarnation.looks:
        read = Operation(Kind.READ, look.seq, look.asked_ns, look.answered_ns)
        found.setdefault(look.subject, []).append(read)
    for refused in refusals:
        if refused.incarnation is incarnation and refused.actual in at.get(refused.subject, {NOTHING}):
            told = Operation(Kind.REFUSED, refused.actual, refused.asked_ns, refused.answered_ns, refused.expected)
            found.setdefault(refused.subject, []).append(told)
    return found

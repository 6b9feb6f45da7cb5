"""Registers: the newest message at each subject as clients saw it, as histories to check.

The newest message at a subject is a register whose values are sequences: a publish writes, one with `expected_last_seq`
compares and sets, a read of the latest reads. Retention removes the newest message only with all before it, so the
register may become nothing without an operation. In a work queue an ack removes any message, so it is no register.

Left out are operations that no client can have observed: a message of unknown outcome that was never found, and reads
of a sequence that no found message has. A history without them is linearizable if the whole one is.
"""

from __future__ import annotations

from waymaker_core.model.config import Retention
from waymaker_sim.checkers.linear import ANY, NEVER, NOTHING, Kind, Operation
from waymaker_sim.clients.publisher import Refused
from waymaker_sim.history.history import Attempt, StreamIncarnation


def may_vanish(incarnation: StreamIncarnation) -> bool:
    """Return True if something removes messages of an incarnation without replacing them."""
    bounded = any(incarnation.least(bound) for bound in ("max_msgs", "max_bytes", "max_age_ms"))
    return bounded or incarnation.config.retention is not Retention.LIMITS


def histories(incarnation: StreamIncarnation, refusals: list[Refused]) -> dict[str, list[Operation]]:
    """Return, by subject, every operation on this incarnation's registers with its outcome."""
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
    for look in incarnation.latest_reads:
        read = Operation(Kind.READ, look.seq, look.asked_ns, look.answered_ns)
        found.setdefault(look.subject, []).append(read)
    for refused in refusals:
        if refused.incarnation is incarnation and refused.actual in at.get(refused.subject, {NOTHING}):
            operation = Operation(Kind.REFUSED, refused.actual, refused.asked_ns, refused.answered_ns, refused.expected)
            found.setdefault(refused.subject, []).append(operation)
    return found

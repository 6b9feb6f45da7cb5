"""The checks: every promise that a run is held to, by name, with the rule it guards.

A violation is raised where it is seen and ends the run. Names are stable: saved cases, mutants and reports refer to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

SAFETY = "safety"
LIVENESS = "liveness"
CRASH = "crash"

CHECKS: dict[str, tuple[str, str]] = {
    "acked survives": (SAFETY, "what `ok` confirmed is readable until retention or an acknowledgement removes it"),
    "one history": (SAFETY, "a sequence of one life means one message, and a message has one sequence"),
    "bytes intact": (SAFETY, "what is read is byte for byte what was published; damage is refused, never served"),
    "ledger grows": (SAFETY, "no committed sequence is taken back: the last sequence covers all that was confirmed"),
    "no gaps": (SAFETY, "where every answer waits for its sync a stream passes no sequence over, restarts included"),
    "monotone": (SAFETY, "sequences, server times and consumers' floors never go back, across restarts too"),
    "server time": (SAFETY, "once the wall clock is right, server times are at most `clock_ahead_max_ms` ahead of it"),
    "nothing returns": (SAFETY, "what retention or an acknowledgement removed is never seen again"),
    "no redelivery after ack": (SAFETY, "after a confirmed ack or term a message is not delivered to that group again"),
    "one holder": (SAFETY, "a pending delivery is not given to anybody else before it is handed back or expires"),
    "handed back": (SAFETY, "what was handed back with a delay is not delivered to that group again before it is over"),
    "delivery count": (SAFETY, "counts start at 1, never repeat until a crash, never exceed `max_deliver`"),
    "in order": (SAFETY, "one answer lists due redeliveries first, by sequence, then new messages by sequence"),
    "filter": (SAFETY, "a consumer is given only what its filter and its start accept"),
    "subjects": (SAFETY, "a stream holds what its subjects filter accepts; all else is refused, and nothing but that"),
    "within credit": (SAFETY, "a subscription is never sent more than it has room for"),
    "compare and set": (SAFETY, "a conditional publish wins only on the last message at its subject; refusals tell the truth"),
    "linearizable": (SAFETY, "what clients wrote and read at one subject can have happened in some order, one at a time"),
    "no confirmed failure": (SAFETY, "what was refused as not applied never shows up"),
    "dead letter once": (SAFETY, "a dropped message has exactly one dead letter for each consumer that dropped it"),
    "floor honest": (SAFETY, "everything at or below a floor that matches was acknowledged, terminated or dropped"),
    "limits hold": (SAFETY, "at rest a stream holds no more than its bounds allow, and statistics count what is there"),
    "room given back": (
        SAFETY, "files that nobody uses go, they hold at most twice what lives, and a full disk that is pruned has room",
    ),
    "memory given back": (SAFETY, "nothing of a deleted stream stays in the node's memory"),
    "archives": (SAFETY, "a stream that was put back is what its archive was, whole or not at all"),
    "dry run": (SAFETY, "a dry run tells what the update then does, if nothing else happens between them"),
    "lives apart": (SAFETY, "ids of lives are never used twice, and nothing of an earlier life is found in a later one"),
    "recovery honest": (SAFETY, "a node starts on every disk that did not rot, and says where the damage is on one that did"),
    "late syncs": (
        SAFETY, "with syncs at intervals a loss of power takes at most the last interval, from the end, and never a hole",
    ),
    "quarantine stays": (SAFETY, "a stream that a start found damaged is not served before it is deleted"),
    "recovery twice": (SAFETY, "recovering one disk image twice gives the same state, equal to what was durable"),
    "same twice": (SAFETY, "the same tape gives the same steps, byte for byte"),
    "answer allowed": (SAFETY, "every answer carries a code or status that the request may have"),
    "used consumers stay": (SAFETY, "no consumer is deleted for inactivity before nobody used it for its time"),
    "inactive consumers go": (LIVENESS, "a consumer that nobody used for its inactivity timeout is deleted"),
    "given when due": (LIVENESS, "what is due goes to the next fetch with room, and to a subscription with credit"),
    "aged in time": (LIVENESS, "what is too old goes soon, while the node is up and its disk takes writes, however busy it is"),
    "answered": (LIVENESS, "every caller hears its last word while the process lives"),
    "progress": (LIVENESS, "once faults stop, publishes are confirmed and consumers reach the end of their streams"),
    "comes up": (LIVENESS, "once faults stop, a process that is started serves"),
    "node raised": (CRASH, "the node never throws"),
    "invariant": (CRASH, "the node's own invariants hold"),
}  # fmt: skip


class Violation(Exception):
    """A promise was broken. `check` is its name, `detail` what was seen."""

    def __init__(self, check: str, detail: str) -> None:
        assert check in CHECKS, check
        super().__init__(f"{check}: {detail}")
        self.check = check
        self.detail = detail
        self.kind = CHECKS[check][0]


def listed(values: Iterable[object]) -> str:
    """Values in the text of a violation: people read it, and an empty list of Python's tells them nothing."""
    return ", ".join(map(str, values)) or "none"


def violated(check: str, detail: str) -> NoReturn:
    """Raise a violation of this check."""
    raise Violation(check, detail)


def require(holds: bool, check: str, detail: str) -> None:
    """Raise a violation unless `holds`. For cold paths: the text is built in any case."""
    if not holds:
        raise Violation(check, detail)

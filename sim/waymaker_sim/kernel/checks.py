"""The checks: every promise that a run must keep, by name, with the rule it guards.

A violation is raised where it is detected and ends the run. Names are stable: saved cases, mutants and reports refer to
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

SAFETY = "safety"
LIVENESS = "liveness"
CRASH = "crash"

CHECKS: dict[str, tuple[str, str]] = {
    "acked survives": (SAFETY, "what `ok` confirmed is readable until retention or an acknowledgement removes it"),
    "one history": (SAFETY, "a sequence of one incarnation names one message, and a message has one sequence"),
    "stored once": (SAFETY, "a message that a producer numbered is stored once and answered alike, however often it is sent"),
    "producer fenced": (SAFETY, "once a newer epoch of a producer is stored, an older one stores nothing"),
    "bytes intact": (SAFETY, "what is read is byte for byte what was published; damage is refused, never served"),
    "ledger grows": (SAFETY, "no committed sequence is taken back: the last sequence covers all that was confirmed"),
    "no gaps": (SAFETY, "where every answer waits for its sync a stream skips no sequence, restarts included"),
    "monotone": (SAFETY, "sequences, server times and consumers' floors never go back, across restarts too"),
    "server time": (SAFETY, "once the wall clock is right, server times are at most `clock_ahead_max_ms` ahead of it"),
    "nothing returns": (SAFETY, "what retention or an acknowledgement removed is never seen again"),
    "no redelivery after ack": (SAFETY, "after a confirmed ack or term a message is not delivered to that group again"),
    "one holder": (SAFETY, "a pending delivery is not delivered to another consumer before its nak, its return or its expiry"),
    "left in time": (SAFETY, "a delivery leaves the node before its wait is over, however long it waited for a confirmation"),
    "handed back": (SAFETY, "after a nak with a delay a message is not delivered to that group again before the delay is over"),
    "delivery count": (SAFETY, "counts start at 1, never repeat until a crash, never exceed `max_deliver`"),
    "in order": (SAFETY, "one answer lists due redeliveries first, by sequence, then new messages by sequence"),
    "filter": (SAFETY, "a consumer gets only messages that its filter and its start accept"),
    "subjects": (SAFETY, "a stream stores every message that its subjects filter accepts, and refuses all others"),
    "within credit": (SAFETY, "a subscription is never sent more than its credit"),
    "compare and set": (SAFETY, "a conditional publish wins only on the last message at its subject; refusals name it"),
    "linearizable": (SAFETY, "the writes and reads of clients at one subject fit some order, one at a time"),
    "keys": (SAFETY, "a key holds what its last change left, and each change is judged on what the key holds"),
    "ends in time": (SAFETY, "a value is not read once its time to live is over, and ends by itself; nothing older comes back"),
    "watch whole": (SAFETY, "a watch of keys brings live values, then every change, in order, each once"),
    "no confirmed failure": (SAFETY, "what was refused as not applied never shows up"),
    "dead letter once": (SAFETY, "a dropped message has exactly one dead letter for each consumer that dropped it"),
    "floor honest": (SAFETY, "everything at or below a floor that matches was acknowledged, terminated or dropped"),
    "limits hold": (SAFETY, "at rest a stream holds no more than its bounds allow, and statistics count what is there"),
    "object whole": (SAFETY, "a reading gives the payload of one upload, whole, however long it lasts"),
    "object kept": (SAFETY, "an object that was stored is what every later reader finds, until a later end or deletion"),
    "chunks collected": (SAFETY, "after the grace period a bucket holds what its objects name, and nothing else"),
    "store entries": (SAFETY, "an entry of a store is what was put there last, until it is removed, and each is one message"),
    "taken once": (SAFETY, "a queue hands each value out at most once, in order, and loses none but in a lost answer"),
    "sketch equal": (SAFETY, "a sketch is what the same batches make in one process"),
    "sketch sourced": (
        SAFETY, "a sketch of a stream is what the committed messages up to its position make in one process",
    ),
    "room given back": (
        SAFETY, "unused files are deleted, others hold at most twice the live bytes, and a pruned full disk takes publishes",
    ),
    "memory given back": (SAFETY, "nothing of a deleted stream stays in the node's memory"),
    "archives": (SAFETY, "a restored stream equals its archive, whole or not at all"),
    "dry run": (SAFETY, "a dry run counts what the update then removes, if nothing else happens between them"),
    "lives apart": (SAFETY, "ids of incarnations are never reused, and a later one has nothing of an earlier one"),
    "pinned stays": (SAFETY, "a pinned stream moves by a failover, an orderly stop, or an operator's word alone"),
    "returns settled": (SAFETY, "a stream returns to its home only, and by itself only once that has been well for a while"),
    "moves leave no doubt": (SAFETY, "without faults no call is answered as unknown, whatever moves"),
    "moves in time": (LIVENESS, "without faults a stream that moves has a primary that serves again after a moment"),
    "copied once": (SAFETY, "a message of a source is copied once into a stream, in the source's order, through any crash"),
    "copies honest": (SAFETY, "a copy is of a committed message, byte for byte, at its transformed subject, and names it"),
    "copied all": (SAFETY, "what a position in a source has passed is copied, or excluded; no gap goes unnoticed"),
    "recovery honest": (SAFETY, "a node starts on every disk without bit rot, and names the damaged place on one with it"),
    "late syncs": (
        SAFETY, "with syncs at intervals a loss of power takes at most the last interval, from the end, and never a hole",
    ),
    "format named": (SAFETY, "no file is of a newer format than the manifest says, which an older server refuses"),
    "adopted equal": (
        SAFETY, "a stream that a replica adopts is what it was on the donor, at once and after a loss of power",
    ),
    "files held": (SAFETY, "a file that a delivery names stays until its bodies are read, whatever the delivery waits for"),
    "quarantine stays": (SAFETY, "a stream that a start found damaged is not served before it is deleted"),
    "recovery twice": (SAFETY, "recovering one disk image twice gives the same state, equal to what was durable"),
    "same twice": (SAFETY, "the same tape gives the same steps, byte for byte"),
    "majority first": (SAFETY, "nothing is applied, answered or delivered that rests on what no majority has confirmed"),
    "facts kept": (SAFETY, "what a replica promised or noted durably is known after a start"),
    "one leader": (SAFETY, "a node decides nothing about a stream that it does not lead"),
    "one primary": (
        SAFETY, "an epoch has one primary, serves once it is opened, and answers nothing asked after a newer one has answered",
    ),
    "replicas agree": (SAFETY, "what one member applies at a position of a log, every other one applies there, too"),
    "log as seen": (SAFETY, "a replica sees its node's log as it is: its end, and the epoch of each record"),
    "replicas converge": (LIVENESS, "once faults stop, all replicas of a stream come to the same state"),
    "answer allowed": (SAFETY, "every answer carries a code or status that the request may have"),
    "answers alike": (SAFETY, "every answer of a service is that of a naive one, or within the documented bound around it"),
    "used consumers stay": (SAFETY, "no consumer is deleted for inactivity before its timeout passed without use"),
    "inactive consumers go": (LIVENESS, "a consumer is deleted once no client used it for its inactivity timeout"),
    "given when due": (LIVENESS, "what is due is in the next fetch with room for it, and sent to a subscription with credit"),
    "aged in time": (LIVENESS, "expired messages are removed soon, however busy the node, as long as its disk takes writes"),
    "sources catch up": (LIVENESS, "once faults stop, whatever has sources reaches their ends, or says what keeps it"),
    "answered": (LIVENESS, "every call is answered while the process runs"),
    "progress": (LIVENESS, "once faults stop, publishes are confirmed and consumers reach the end of their streams"),
    "comes up": (LIVENESS, "once faults stop, a started process serves"),
    "node raised": (CRASH, "the node never throws"),
    "invariant": (CRASH, "the node's own invariants hold"),
}  # fmt: skip


class Violation(Exception):
    """A violated check. `check` is its name, `detail` describes it."""

    def __init__(self, check: str, detail: str) -> None:
        assert check in CHECKS, check
        super().__init__(f"{check}: {detail}")
        self.check = check
        self.detail = detail
        self.kind = CHECKS[check][0]


def listed(values: Iterable[object]) -> str:
    """Return values for the text of a violation, which people read; an empty list reads "none"."""
    return ", ".join(map(str, values)) or "none"


def violated(check: str, detail: str) -> NoReturn:
    """Raise a violation of this check."""
    raise Violation(check, detail)


def require(holds: bool, check: str, detail: str) -> None:
    """Raise a violation unless `holds`. For cold paths: the text is built in any case."""
    if not holds:
        raise Violation(check, detail)

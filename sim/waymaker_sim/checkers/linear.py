"""Linearizability of a compare-and-set register: concurrent operations must fit some order, one at a time.

Wing and Gong's search ("Testing and Verifying Concurrent Objects", 1993) with Lowe's cache of configurations ("Testing
for linearizability", 2017). An operation takes effect at one moment between its call and its answer. One without an
answer may have taken effect at any later moment, or never. The search looks for an order of all answered operations,
and of any unanswered ones, in which each has the effect that it reported, and none precedes one that was answered
before it was called.

A configuration is the set of operations that are placed and the register's value; none is examined twice. An operation
that fits and changes nothing is placed at once, for that only leaves more choice to the others. The search is bounded:
past its budget the verdict is `UNDECIDED`, which is never a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

NOTHING = 0
"""The value of a register that was never written to."""
ANY = -1
"""As an expectation: none."""
NEVER = 1 << 62
"""As the moment of an answer: there was none."""
BUDGET = 100_000
"""Configurations to examine, at most."""


class Kind(Enum):
    """The kind of an operation, as called or as it turned out."""

    READ = "read"
    """A read that found `value`."""
    WRITE = "write"
    """A write that replaced `expected` (`ANY`: any value) by `value`."""
    REFUSED = "refused"
    """A refusal: it expected `expected`, found `value` instead and changed nothing."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client. `asked` and `answered` are moments; those of one moment are concurrent."""

    kind: Kind
    value: int
    asked: int
    answered: int = NEVER
    expected: int = ANY

    def follows(self, value: int) -> int | None:
        """Return the register's value after this operation if it fits to the value before; else None."""
        if self.kind is Kind.WRITE:
            return self.value if self.expected in (ANY, value) else None
        fits = value == self.value and (self.kind is Kind.READ or value != self.expected)
        return value if fits else None


class Verdict(Enum):
    """The result of a search."""

    LINEARIZABLE = "linearizable"
    VIOLATED = "violated"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict. `examined`: configurations; `stuck`: for a violation, the operations that fit after no order."""

    verdict: Verdict
    examined: int
    stuck: tuple[Operation, ...] = ()


def check_register(operations: Sequence[Operation], *, vanishing: bool = False, budget: int = BUDGET) -> Finding:
    """Decide if these operations on one register, which begins as `NOTHING`, are linearizable.

    `vanishing`: at any moment the register may become `NOTHING` without an operation.
    """
    return _Search(operations, vanishing, budget).run()


@dataclass(slots=True)
class _Place:
    """A configuration of the search: the placed operations, the value, the first answered operation that is not placed,
    and the choices still to try."""

    done: int
    value: int
    low: int
    choices: list[tuple[int, int]]
    """(index of an operation, value after it), the next one last."""


class _Search:
    """One search. Operations are numbered: answered ones first, in the order of their calls."""

    def __init__(self, operations: Sequence[Operation], vanishing: bool, budget: int) -> None:
        answered = sorted((op for op in operations if op.answered < NEVER), key=lambda op: (op.asked, op.answered))
        unanswered = sorted((op for op in operations if op.answered >= NEVER), key=lambda op: op.asked)
        assert all(op.kind is Kind.WRITE for op in unanswered), "a read without an answer says nothing"
        self.operations = [*answered, *unanswered]
        self.changing = [op.kind is Kind.WRITE for op in self.operations]
        self.answered = len(answered)
        self.vanishing = vanishing
        self.budget = budget
        self.seen: set[tuple[int, int]] = set()
        self.furthest = -1
        self.stuck: tuple[Operation, ...] = ()

    def run(self) -> Finding:
        """Search depth first."""
        path = [self._place(0, NOTHING, 0)]
        while path:
            place = path[-1]
            if place.low == self.answered:
                return Finding(Verdict.LINEARIZABLE, len(self.seen))
            if not place.choices:
                path.pop()
                continue
            index, value = place.choices.pop()
            done = place.done | 1 << index
            if (done, value) in self.seen:
                continue
            if len(self.seen) >= self.budget:
                return Finding(Verdict.UNDECIDED, len(self.seen))
            self.seen.add((done, value))
            path.append(self._place(done, value, place.low))
        return Finding(Verdict.VIOLATED, len(self.seen), self.stuck)

    def _place(self, done: int, value: int, low: int) -> _Place:
        while True:
            while low < self.answered and done >> low & 1:
                low += 1
            ready = self._ready(done, low)
            changing, operations = self.changing, self.operations
            idle = [index for index in ready if not changing[index] and operations[index].follows(value) == value]
            if not idle:
                break
            for index in idle:
                done |= 1 << index
        # Values are numbers that a stream or a bucket gives in ascending order, so the lowest write is likely to be next.
        ready.sort(key=self._likely)
        choices = [(index, after) for index in reversed(ready) for after in self._after(index, value)]
        turns = done.bit_count()
        if turns > self.furthest:
            self.furthest = turns
            self.stuck = tuple(self.operations[index] for index in ready if index < self.answered)
        return _Place(done, value, low, choices)

    def _likely(self, index: int) -> int:
        return self.operations[index].value if self.changing[index] else NEVER

    def _ready(self, done: int, low: int) -> list[int]:
        """Return the operations that may be next: called before any other unplaced one was answered. Unanswered ones
        are last."""
        first_answer = NEVER
        ready: list[int] = []
        for index in range(low, self.answered):
            if done >> index & 1:
                continue
            op = self.operations[index]
            if op.asked > first_answer:
                break
            first_answer = min(first_answer, op.answered)
            ready.append(index)
        ready = [index for index in ready if self.operations[index].asked <= first_answer]
        for index in range(self.answered, len(self.operations)):
            if self.operations[index].asked > first_answer:
                break
            if not done >> index & 1:
                ready.append(index)
        return ready

    def _after(self, index: int, value: int) -> list[int]:
        """Return the values that the register may have after an operation, the likeliest last."""
        found = self.operations[index].follows(value)
        values = [] if found is None else [found]
        if self.vanishing and value != NOTHING:
            vanished = self.operations[index].follows(NOTHING)
            if vanished is not None and vanished != found:
                values.insert(0, vanished)
        return values

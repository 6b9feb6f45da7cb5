"""The history of a bucket's keys, as clients can know it: a reference model for each key, and what its registers need.

While no change of a key is in flight the model knows its state exactly: the last confirmed change, and the time at which its
value ends. Changes that overlap, or whose outcome is unknown, make the state unknown until a later change stands alone; the
registers judge those (`checkers/linear`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.kernel.events import MS

NOTHING: Final = 0
"""The value of a key that has none; `checkers/linear` has the same words."""
ANY: Final = -1
NEVER: Final = 1 << 62
SLACK_NS = 2 * MS
"""Times to live are whole milliseconds of two clocks."""


class KeyOperation(NamedTuple):
    """One call about a key, as it turned out: `kind` is read, write or refused; see `checkers.linear.Operation`."""

    kind: str
    value: int
    asked: int
    answered: int = NEVER
    expected: int = ANY


@dataclass(slots=True)
class Exact:
    """The state of a key after a change that stood alone: its revision, its value (`NOTHING`: none), and its end.

    `fresh` is False where the change may have found a tombstone, and left it as it was.
    """

    revision: int
    value: int
    ttl_ms: int
    asked_ns: int
    answered_ns: int
    fresh: bool


@dataclass(slots=True)
class Key:
    """One key. `changes` counts every beginning and end of a change; `newest` is the greatest revision that was seen."""

    name: str
    changes: int = 0
    exact: Exact | None = None
    newest: int = 0
    expires: bool = False
    """True if a value of it ever had a time to live."""
    operations: list[KeyOperation] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=dict)
    """Values by revision; `NOTHING` for a tombstone."""

    def saw(self, revision: int, value: int) -> None:
        """Note that a revision has a value."""
        known = self.values.setdefault(revision, value)
        if known != value:
            violated("keys", f"revision {revision} of {self.name} is value {value}, and was {known}")
        self.newest = max(self.newest, revision)


@dataclass(slots=True, eq=False)
class Write:
    """A value that a client wrote, maybe in vain."""

    key: Key
    ttl_ms: int
    asked_ns: int
    touched: bool = False


@dataclass(slots=True)
class Snapshot:
    """The knowledge of a key at the moment at which a call about it was made."""

    asked_ns: int
    changes: int
    newest: int
    exact: Exact | None


class KeyBook:
    """All keys of the bucket. `sane_clocks`: the wall clock never jumps, so no value ends early."""

    def __init__(self, names: list[str], sane_clocks: bool) -> None:
        self.keys = {name: Key(name) for name in names}
        self.sane_clocks = sane_clocks
        self.writes: dict[int, Write] = {}
        """By value."""
        self.confirmed: list[tuple[int, int]] = []
        """Time of the call and revision of each confirmed change that made a message."""

    def new_value(self, key: Key, ttl_ms: int, now_ns: int) -> int:
        """Return a value that no other write has."""
        value = len(self.writes) + 1
        self.writes[value] = Write(key, ttl_ms, now_ns)
        key.expires = key.expires or ttl_ms > 0
        return value

    def snapshot(self, key: Key, now_ns: int, *, changes: bool) -> Snapshot:
        """Note what is known as a call is made; one that changes the key makes its state unknown."""
        if changes:
            key.changes += 1
        return Snapshot(now_ns, key.changes, key.newest, key.exact)

    def changed(self, key: Key, at: Snapshot, revision: int, value: int, ttl_ms: int, now_ns: int) -> None:
        """Note a confirmed change."""
        alone = key.changes == at.changes
        key.changes += 1
        key.saw(revision, value)
        was_live = at.exact is not None and at.exact.value != NOTHING and not at.exact.ttl_ms
        fresh = value != NOTHING or was_live
        key.exact = Exact(revision, value, ttl_ms, at.asked_ns, now_ns, fresh) if alone else None

    def unknown(self, key: Key) -> None:
        """Note the end of a change that was refused, or of which nothing is known."""
        key.changes += 1
        key.exact = None

    def not_changed(self, key: Key, at: Snapshot) -> None:
        """Note that a change was judged and made nothing."""
        alone = key.changes == at.changes
        key.changes += 1
        key.exact = at.exact if alone else None

    # ------------------------------------------------------------ reads

    def read(self, key: Key, at: Snapshot, revision: int, value: int, now_ns: int, up_ns: int) -> None:
        """Judge a read that found this revision and value; 0 and `NOTHING`: no value."""
        key.operations.append(KeyOperation("read", value, at.asked_ns, now_ns))
        if revision:
            require(
                revision >= at.newest, "keys",
                f"{key.name} is read at revision {revision} after {at.newest} had been seen",
            )  # fmt: skip
            key.saw(revision, value)
        exact = at.exact
        if exact is None or key.changes != at.changes:
            return
        ttl_ns = exact.ttl_ms * MS
        if revision:
            require(
                (revision, value) == (exact.revision, exact.value), "keys",
                f"{key.name} is value {value} of revision {revision}; its last change made {exact}",
            )  # fmt: skip
            # Where the wall clock is sane, a restart grants nothing; else at most the whole time to live anew.
            sane_ns = max(exact.answered_ns + ttl_ns, up_ns)
            ended_ns = (sane_ns if self.sane_clocks else max(exact.answered_ns, up_ns) + ttl_ns) + SLACK_NS
            require(
                not ttl_ns or at.asked_ns < ended_ns, "ends in time",
                f"{key.name} is read at {at.asked_ns}, and ended at {ended_ns} at the latest: {exact}",
            )  # fmt: skip
        elif exact.value != NOTHING:
            surely = not ttl_ns or (self.sane_clocks and now_ns + SLACK_NS < exact.asked_ns + ttl_ns)
            require(not surely, "keys", f"{key.name} has no value, and its last change made {exact}")

    def refused(self, key: Key, at: Snapshot, expected: int, revision: int, now_ns: int) -> None:
        """Note a condition that was not met: the key had this revision, as far as its value is known."""
        value = NOTHING if not revision else key.values.get(revision)
        if value is not None and value != expected:
            key.operations.append(KeyOperation("refused", value, at.asked_ns, now_ns, expected))

    def wrote(self, key: Key, at: Snapshot, value: int, expected: int, now_ns: int = NEVER) -> None:
        """Note a write for the register; without an answer it may have happened."""
        key.operations.append(KeyOperation("write", value, at.asked_ns, now_ns, expected))

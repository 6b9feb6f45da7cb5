"""The consensus group in the catalog's log: in which term each record was made, and which members were in force.

Both are functions of the log's committed records: a term begins with an epoch record, and a set of members holds from its own
record on. What is older than a checkpoint in force is let go of, but for the entry that holds at it. A snapshot has only that
one, so a start knows both from there on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from waymaker_core.raft.members import Members, decode_members

UNKNOWN: Final = -1
"""The term of a record that is older than all that is remembered."""


class GroupMembers(NamedTuple):
    """The members in force, as the group encodes them, and the position of their record; 0 and nothing where none was."""

    position: int = 0
    data: bytes = b""


NO_GROUP: Final = GroupMembers()


class GroupHistory:
    """Terms and sets of members, each with the position from which on it holds; ascending, and never empty."""

    def __init__(self) -> None:
        self.terms: list[tuple[int, int]] = [(0, 0)]
        """(term, position of its first record)."""
        self.members: list[GroupMembers] = [NO_GROUP]
        self._decoded: tuple[bytes, Members] = b"", Members()

    @property
    def last_term(self) -> int:
        """Return the term of the last record; 0 where no term was ever noted."""
        return self.terms[-1][0]

    def begin_term(self, term: int, position: int) -> None:
        """Note that a term begins with the record at a position. ValueError where it is not later than the last one."""
        if term <= self.last_term or position <= self.terms[-1][1]:
            raise ValueError(f"term {term} follows term {self.last_term}")
        self.terms.append((term, position))

    def set_members(self, position: int, data: bytes) -> None:
        """Note the members that are in force from a position on."""
        self.members.append(GroupMembers(position, data))

    def directory_of(self, node: int) -> int:
        """Return the directory with which a node counts by the last members; 0 for any."""
        data = self.members[-1].data
        if data != self._decoded[0]:
            try:
                self._decoded = data, decode_members(data)
            except ValueError:
                self._decoded = data, Members()
        return self._decoded[1].directory_of(node)

    def term_of(self, position: int) -> int:
        """Return the term of a record; `UNKNOWN` where it is older than all that is remembered."""
        return next((term for term, start in reversed(self.terms) if start <= position), UNKNOWN)

    def members_at(self, position: int) -> GroupMembers | None:
        """Return the members in force at a position; None where that is older than all that is remembered."""
        return next((each for each in reversed(self.members) if each.position <= position), None)

    def release(self, position: int) -> None:
        """Let go of what held only before a position."""
        while len(self.terms) > 1 and self.terms[1][1] <= position:
            del self.terms[0]
        while len(self.members) > 1 and self.members[1].position <= position:
            del self.members[0]

    def history_as_list(self) -> list[object]:
        """Encode what holds now as plain values."""
        return [list(self.terms[-1]), list(self.members[-1])]

    def restore(self, value: object, position: int) -> None:
        """Fill it from `history_as_list`, at a position of the log; ValueError where the values are none."""
        match value:
            case [[int(term), int(start)], [int(since), bytes(data)]] if (
                0 <= start <= position
                and 0 <= since <= position
                and (term > 0) == (start > 0)
                and (since > 0) == (data != b"")
            ):
                self.terms, self.members = [(term, start)], [GroupMembers(since, data)]
            case _:
                raise ValueError("not the history of a group")

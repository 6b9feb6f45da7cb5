"""The committed log of the model: everything ever committed, and what may never happen to it."""

from __future__ import annotations


class Lost(Exception):
    """An error: a promise to a client was broken; the text names it."""


class CommittedLog:
    """Everything ever committed, in order. A record is committed once, at one position, for ever."""

    __slots__ = ("committed",)

    def __init__(self) -> None:
        self.committed: list[int] = []

    def commit(self, log: list[int], begin: int, end: int, who: str) -> None:
        """Note that records `begin..end` of a log are committed. `Lost` if others were at their positions."""
        committed = self.committed
        for position in range(begin, end):
            if position < len(committed):
                if committed[position] != log[position]:
                    raise Lost(f"{who} committed another record at {position}")
            elif position == len(committed):
                committed.append(log[position])
            else:
                raise Lost(f"{who} committed {position} behind a gap")

    def apply(self, log: list[int], begin: int, end: int, who: str) -> None:
        """Hold what a replica applies against what is committed. `Lost` if it is not committed, or another record."""
        committed = self.committed
        if end > len(committed) or log[begin:end] != committed[begin:end]:
            raise Lost(f"{who} applied {begin}..{end}, which is not what was committed")

    def opened(self, log: list[int], who: str) -> None:
        """Note that an epoch is open. `Lost` if its primary lacks anything that was committed."""
        committed = self.committed
        if log[: len(committed)] != committed:
            raise Lost(f"{who} is open and lacks what was committed")

    def answer(self, log: list[int], end: int, committed_when_asked: int, who: str) -> None:
        """Compare an answer that depends on `log[:end]` with what is committed.

        `Lost` if it depends on uncommitted records, or lacks records that were committed before the question.
        """
        if end < committed_when_asked:
            raise Lost(
                f"{who} answered from {end} records when {committed_when_asked} were committed before the question"
            )
        if end > len(self.committed) or log[:end] != self.committed[:end]:
            raise Lost(f"{who} answered from records that are not committed")

"""The fate of many messages: one outcome each, kept as ranges."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, overload

from waymaker.client.errors import WaymakerError


class Segment:
    """The outcome of consecutive messages: sequences from `first_seq` for those without an entry in `failures`.

    `seqs` says them one by one, where some of the messages had been stored before.
    """

    __slots__ = ("first_seq", "count", "failures", "failure", "seqs")

    def __init__(
        self, first_seq: int, count: int, failures: dict[int, WaymakerError], failure: WaymakerError | None = None,
        seqs: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.first_seq = first_seq
        self.count = count
        self.failures = failures
        self.failure = failure
        """The outcome of all without an entry, where they have no sequences."""
        self.seqs: Sequence[int] = range(first_seq, first_seq + count - len(failures)) if seqs is None else seqs

    def at(self, index: int) -> int | WaymakerError:
        if self.failure is not None:
            return self.failures.get(index, self.failure)
        if not self.failures:
            return self.seqs[index]
        error = self.failures.get(index)
        if error is not None:
            return error
        return self.seqs[index - sum(1 for other in self.failures if other < index)]

    def outcomes(self) -> Iterator[int | WaymakerError]:
        if self.failure is not None:
            for index in range(self.count):
                yield self.failures.get(index, self.failure)
            return
        seqs = iter(self.seqs)
        for index in range(self.count):
            error = self.failures.get(index) if self.failures else None
            yield next(seqs) if error is None else error


class PublishResults(Sequence["int | WaymakerError"]):
    """One outcome a message, in the order given: its sequence, or the exception that says why it has none.

    Kept as ranges, so that millions of results cost next to nothing.
    """

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._starts: list[int] = []
        self._count = 0

    def add(self, segment: Segment) -> None:
        self._starts.append(self._count)
        self._segments.append(segment)
        self._count += segment.count

    def extend(self, other: PublishResults) -> None:
        for segment in other._segments:
            self.add(segment)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> int | WaymakerError: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int | WaymakerError]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._count))]
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError(index)
        part = bisect_right(self._starts, index) - 1
        return self._segments[part].at(index - self._starts[part])

    def __iter__(self) -> Iterator[int | WaymakerError]:
        for segment in self._segments:
            yield from segment.outcomes()

    @property
    def stored(self) -> int:
        """Return how many messages have a sequence."""
        return sum(s.count - len(s.failures) for s in self._segments if s.failure is None)

    @property
    def last_seq(self) -> int:
        """Return the greatest sequence given, or 0."""
        return max(
            (
                s.seqs[-1] if isinstance(s.seqs, range) else max(s.seqs)
                for s in self._segments
                if s.failure is None and s.count > len(s.failures)
            ),
            default=0,
        )

    @property
    def failures(self) -> dict[int, WaymakerError]:
        """Return the errors of messages without a sequence, by index."""
        out: dict[int, WaymakerError] = {}
        for start, segment in zip(self._starts, self._segments, strict=True):
            if segment.failure is not None:
                out.update(dict.fromkeys(range(start, start + segment.count), segment.failure))
            out.update({start + index: error for index, error in segment.failures.items()})
        return out

    def raise_first(self) -> None:
        """Raise the first failure, if there is one."""
        for segment in self._segments:
            if segment.failure is not None:
                raise segment.failure
            if segment.failures:
                raise segment.failures[min(segment.failures)]

    def __repr__(self) -> str:
        return f"PublishResults(messages={self._count}, stored={self.stored}, last_seq={self.last_seq})"

"""The tape: every choice of a run, drawn from one seed, labelled and bounded, so that a run can be told and replayed.

Responsible for randomness, and the only place that has any. A draw is an integer below its bound, and 0 is always the benign
choice: no fault, the first option, the smallest number. A run replayed from a tape with parts set to 0 or cut off is the
same run with less going wrong, which is what makes shrinking work (the idea of Hypothesis' choice sequence).

A tape has named tracks (one for each actor), and a track is a list of spans (one for each operation of that actor). Draws are
looked up by track, span and place, so leaving one operation out does not shift the draws of any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

MILLION = 1_000_000
Spans = list[list[int]]
Saved = dict[str, Spans]


class Track:
    """One actor's draws. `spans` is what was drawn so far."""

    __slots__ = ("name", "spans", "labels", "_span", "_random", "_saved")

    def __init__(self, name: str, seed: int, saved: Spans | None, keep_labels: bool) -> None:
        self.name = name
        self.spans: Spans = [[]]
        self.labels: list[list[str]] | None = [[]] if keep_labels else None
        self._span = self.spans[0]
        self._random = Random(f"{seed}/{name}").random
        self._saved = saved

    def begin(self) -> None:
        """The next span: draws from here on belong to another operation."""
        self._span = []
        self.spans.append(self._span)
        if self.labels is not None:
            self.labels.append([])

    def draw(self, label: str, bound: int) -> int:
        """An integer in [0, bound)."""
        span = self._span
        if self._saved is None:
            value = int(self._random() * bound)
        else:
            value = self._recall(len(self.spans) - 1, len(span), bound)
        span.append(value)
        if self.labels is not None:
            self.labels[-1].append(label)
        return value

    def _recall(self, span: int, place: int, bound: int) -> int:
        saved = self._saved
        assert saved is not None
        if span >= len(saved) or place >= len(saved[span]):
            return 0
        return min(saved[span][place], bound - 1)

    def between(self, label: str, low: int, high: int) -> int:
        """An integer in [low, high]; `low` is the benign one."""
        return low + self.draw(label, high - low + 1)

    def chance(self, label: str, per_million: int) -> bool:
        """True with this probability; draws nothing where it cannot be."""
        return per_million > 0 and self.draw(label, MILLION) >= MILLION - per_million

    def pick(self, label: str, options: Sequence[T]) -> T:
        """One of the options, the first being the benign one."""
        return options[self.draw(label, len(options))]

    def weighted(self, label: str, options: Sequence[tuple[int, T]]) -> T:
        """One of (weight, option) pairs; weights are small integers and the first option is the benign one."""
        left = self.draw(label, sum(weight for weight, _ in options))
        for weight, option in options:
            left -= weight
            if left < 0:
                return option
        raise AssertionError("weights do not add up")

    def magnitude(self, label: str, high: int) -> int:
        """An integer in [0, high] whose order of magnitude is drawn first, so that small ones are not rare."""
        bits = self.draw(label, high.bit_length() + 1)
        return min(high, self.draw(label, 1 << bits)) if bits else 0


class Tape:
    """All tracks of a run: from a seed, or from a saved tape."""

    def __init__(self, seed: int, saved: Saved | None = None, keep_labels: bool = False) -> None:
        self.seed = seed
        self.keep_labels = keep_labels
        self._saved = saved
        self._tracks: dict[str, Track] = {}

    def track(self, name: str) -> Track:
        """The track of this name, begun where it does not exist yet."""
        track = self._tracks.get(name)
        if track is None:
            saved = None if self._saved is None else self._saved.get(name, [])
            track = self._tracks[name] = Track(name, self.seed, saved, self.keep_labels)
        return track

    def saved(self) -> Saved:
        """What was drawn, without the benign ends: a tape made from it replays the same run."""
        out: Saved = {}
        for name in sorted(self._tracks):
            spans = [_trimmed(span) for span in self._tracks[name].spans]
            while spans and not spans[-1]:
                spans.pop()
            if spans:
                out[name] = spans
        return out

    def draw_count(self) -> int:
        """Draws made so far, for reports."""
        return sum(len(span) for track in self._tracks.values() for span in track.spans)


def _trimmed(span: list[int]) -> list[int]:
    end = len(span)
    while end and span[end - 1] == 0:
        end -= 1
    return span[:end]

"""The tape: every choice of a run, drawn from one seed, labelled and bounded, so that a run can be saved and replayed.

Responsible for randomness, and the only place that has any. A draw is an integer below its bound, and 0 is always the
benign choice: no fault, the first option, the smallest number. A run replayed from a tape with parts set to 0 or cut
off is the same run with less going wrong, which is what makes shrinking work (the idea of Hypothesis' choice sequence).

A tape has named tracks (one for each actor), and a track is a list of spans (one for each operation of that actor).
Draws are looked up by track, span and label, and counted there: the second `subject` of an operation is the second
`subject`, whatever else is drawn before it. So leaving out an operation, or one kind of choice, does not shift the
draws of any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

MILLION = 1_000_000

SavedSpan = dict[str, list[int]]
"""The draws of one span by label; missing ones at the end are 0."""
SavedTrack = dict[int, SavedSpan]
Saved = dict[str, SavedTrack]
"""A tape: by track, by span. No part of it is empty, and no list ends in 0, so that equal runs have equal tapes."""

_NOTHING: SavedSpan = {}


class Track:
    """One actor's draws. `spans` are the draws so far, `labels` their names."""

    __slots__ = ("name", "spans", "labels", "_span", "_span_labels", "_random", "_saved", "_wanted", "_places")

    def __init__(self, name: str, seed: int, saved: SavedTrack | None) -> None:
        self.name = name
        self.spans: list[list[int]] = []
        self.labels: list[list[str]] = []
        self._random = Random(f"{seed}/{name}").random
        self._saved = saved
        self.begin()

    def begin(self) -> None:
        """Begin the next span: draws from here on belong to another operation."""
        self._span: list[int] = []
        self._span_labels: list[str] = []
        self.spans.append(self._span)
        self.labels.append(self._span_labels)
        if self._saved is not None:
            self._wanted = self._saved.get(len(self.spans) - 1, _NOTHING)
            self._places: dict[str, int] = {}

    def draw(self, label: str, bound: int) -> int:
        """Draw an integer in [0, bound)."""
        value = int(self._random() * bound) if self._saved is None else self._recall(label, bound)
        self._span.append(value)
        self._span_labels.append(label)
        return value

    def _recall(self, label: str, bound: int) -> int:
        values = self._wanted.get(label)
        if values is None:
            return 0
        place = self._places.get(label, 0)
        self._places[label] = place + 1
        return min(values[place], bound - 1) if place < len(values) else 0

    def between(self, label: str, low: int, high: int) -> int:
        """Draw an integer in [low, high]; `low` is the benign one."""
        return low + self.draw(label, high - low + 1)

    def chance(self, label: str, per_million: int) -> bool:
        """Return True with this probability; draws nothing if it is 0. On the tape it is 0 or 1, whatever the odds."""
        if per_million <= 0:
            return False
        if self._saved is None:
            happens = self._random() * MILLION >= MILLION - per_million
        else:
            happens = self._recall(label, 2) == 1
        self._span.append(int(happens))
        self._span_labels.append(label)
        return happens

    def pick(self, label: str, options: Sequence[T]) -> T:
        """Draw one of the options, the first being the benign one."""
        return options[self.draw(label, len(options))]

    def weighted(self, label: str, options: Sequence[tuple[int, T]]) -> T:
        """Draw one of (weight, option) pairs; weights are small integers and the first option is the benign one."""
        left = self.draw(label, sum(weight for weight, _ in options))
        for weight, option in options:
            left -= weight
            if left < 0:
                return option
        raise AssertionError("weights do not add up")

    def magnitude(self, label: str, high: int) -> int:
        """Draw an integer in [0, high] whose order of magnitude is drawn first, so that small ones are not rare."""
        bits = self.draw(label, high.bit_length() + 1)
        return min(high, self.draw(label, 1 << bits)) if bits else 0

    def saved(self) -> SavedTrack:
        """Return the draws, without trailing zeros."""
        out: SavedTrack = {}
        for number, (values, labels) in enumerate(zip(self.spans, self.labels, strict=True)):
            if any(values) and (span := _by_label(values, labels)):
                out[number] = span
        return out


class Tape:
    """All tracks of a run: from a seed, or from a saved tape."""

    def __init__(self, seed: int, saved: Saved | None = None) -> None:
        self.seed = seed
        self._saved = saved
        self._tracks: dict[str, Track] = {}

    def track(self, name: str) -> Track:
        """Return the track of this name; begins it if it does not exist yet."""
        track = self._tracks.get(name)
        if track is None:
            saved = None if self._saved is None else self._saved.get(name, {})
            track = self._tracks[name] = Track(name, self.seed, saved)
        return track

    def saved(self) -> Saved:
        """Return the draws, without trailing zeros: a tape made from them replays the same run."""
        tracks = {name: self._tracks[name].saved() for name in sorted(self._tracks)}
        return {name: spans for name, spans in tracks.items() if spans}

    def draw_count(self) -> int:
        """Return the number of draws so far, for reports."""
        return sum(sum(map(len, track.spans)) for track in self._tracks.values())


def _by_label(values: list[int], labels: list[str]) -> SavedSpan:
    span: SavedSpan = {}
    for label, value in zip(labels, values, strict=True):
        span.setdefault(label, []).append(value)
    for label in sorted(span):
        drawn = span.pop(label)
        while drawn and drawn[-1] == 0:
            drawn.pop()
        if drawn:
            span[label] = drawn
    return span

"""Pins: journal segments that a reader still needs after a checkpoint has released them.

A follower that catches up reads records, and a snapshot that is being sent reads bodies, over many steps. A pin keeps every
segment from a number on under its name. Manifest and recovery know nothing of it: after a start the segments are released ones.

What pins keep is bounded, however slow a reader is. A pin that does not move on for `pinned_ms_max` is lost. So are the oldest
ones where kept segments take more than `pinned_bytes_max`, and all of them on a full disk. A reader looks at `lost` before each
read that it begins; one that is under way keeps its file, as every read does (`api.effects.Lane`).
"""

from __future__ import annotations

from collections.abc import Callable

from waymaker_core.node.context import NodeState
from waymaker_core.node.file_gc import Garbage
from waymaker_core.node.timers import Timer
from waymaker_core.storage.journal.writer import Journal


class SegmentPin:
    """One reader's need: no segment from `segment` on is used again. `lost`: they may have been, and the reader begins anew."""

    __slots__ = ("segment", "deadline_ns", "on_lost", "lost")

    def __init__(self, segment: int, deadline_ns: int, on_lost: Callable[[], None]) -> None:
        self.segment = segment
        self.deadline_ns = deadline_ns
        self.on_lost = on_lost
        self.lost = False


class SegmentPins:
    """The pins of a node."""

    def __init__(self, state: NodeState, journal: Journal, garbage: Garbage) -> None:
        self._state = state
        self._journal = journal
        self._garbage = garbage
        self._pins: list[SegmentPin] = []

    def pin(self, segment: int, on_lost: Callable[[], None] = lambda: None) -> SegmentPin:
        """Keep the segments from a number on. It is lost at once where that one is not there any more.

        `on_lost` is called when it is lost later.
        """
        pin = SegmentPin(segment, self._deadline_ns(), on_lost)
        if segment < self._oldest():
            pin.lost = True
            return pin
        self._pins.append(pin)
        self._apply()
        return pin

    def move_on(self, pin: SegmentPin, segment: int) -> None:
        """Note that a reader needs nothing before a segment any more, and that it is not stuck."""
        if pin.lost:
            return
        assert segment >= pin.segment, "a reader goes on and not back"
        pin.segment, pin.deadline_ns = segment, self._deadline_ns()
        self._apply()

    def unpin(self, pin: SegmentPin) -> None:
        """End a pin; one that was lost has ended already."""
        if not pin.lost:
            self._pins.remove(pin)
            self._apply()

    def settle(self) -> None:
        """Lose the pins that keep more than they may, at the end of a step."""
        if not self._journal.kept:
            return
        bound = 0 if self._state.stats.disk_full else self._state.limits.pinned_bytes_max
        while self._journal.kept_bytes > bound:
            self._lose(min(self._pins, key=lambda pin: pin.segment))

    def lose_stuck(self) -> None:
        """Lose the pins whose readers are stuck."""
        for pin in [pin for pin in self._pins if pin.deadline_ns <= self._state.now.mono_ns]:
            self._lose(pin)
        self._arm()

    def _deadline_ns(self) -> int:
        return self._state.now.mono_ns + self._state.limits.pinned_ms_max * 1_000_000

    def _oldest(self) -> int:
        kept = self._journal.kept
        return kept[0].number if kept else self._journal.oldest_segment()

    def _lose(self, pin: SegmentPin) -> None:
        self._pins.remove(pin)
        pin.lost = True
        self._state.log("warning", "segment_pin_lost", segment=pin.segment, kept_bytes=self._journal.kept_bytes)
        self._apply()
        pin.on_lost()

    def _apply(self) -> None:
        """Keep what is pinned, and let the rest go."""
        ops = self._journal.keep_from(min((pin.segment for pin in self._pins), default=None))
        if ops:
            self._garbage.delete(ops)
        self._arm()

    def _arm(self) -> None:
        deadline_ns = min((pin.deadline_ns for pin in self._pins), default=None)
        self._state.timers.arm(Timer.PINS, 0, deadline_ns)

"""The network of a schedule: each message is lost, repeated, late, or cut off, by the odds of the run."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from waymaker_core.raft.message_codec import decode, encode
from waymaker_core.raft.messages import Message

GROUP = 7
Post = Callable[[int, Message], None]
"""Hands a message over after so many milliseconds."""


class Odds:
    """The odds of a run, drawn before it begins, so that runs differ in kind."""

    __slots__ = ("loss", "repeat", "late", "late_ms", "latency_ms", "encoded")

    def __init__(self, random: Random) -> None:
        pick = random.choice
        self.loss = pick((0.0, 0.0, 0.02, 0.1, 0.3))
        self.repeat = pick((0.0, 0.0, 0.05, 0.2))
        self.late = pick((0.0, 0.0, 0.02, 0.1, 0.3))
        self.late_ms = pick((50, 300, 2_000))
        self.latency_ms = pick((1, 3, 10, 25))
        self.encoded = random.random() < 0.06
        """True if messages travel as bytes."""

    def heal(self) -> None:
        """Let every message arrive once, soon."""
        self.loss = self.repeat = self.late = 0.0
        self.latency_ms = 2


class Network:
    """Links between machines, each open or cut in its own direction."""

    __slots__ = ("odds", "cut", "_draw", "_post")

    def __init__(self, random: Random, post: Post) -> None:
        self.odds = Odds(random)
        self.cut: dict[tuple[int, int], bool] = {}
        """Links, from one machine to another, that nothing passes."""
        self._draw = random.random
        self._post = post

    def send(self, message: Message) -> None:
        """Send a message, perhaps."""
        if (message.sender, message.to) in self.cut:
            return
        odds, draw = self.odds, self._draw
        if odds.loss and draw() < odds.loss:
            return
        if odds.encoded:
            message = decode(GROUP, encode(GROUP, message))
        self._post(self._delay(), message)
        if odds.repeat and draw() < odds.repeat:
            self._post(self._delay(), message)

    def _delay(self) -> int:
        odds, draw = self.odds, self._draw
        if odds.late and draw() < odds.late:
            return 1 + int(draw() * odds.late_ms)
        return 1 + int(draw() * odds.latency_ms)

    def cut_off(self, inside: list[int], outside: list[int], inward: bool, outward: bool) -> None:
        """Cut the links between two groups of machines, into the first, out of it, or both."""
        for one in inside:
            for other in outside:
                if one != other:
                    if inward:
                        self.cut[other, one] = True
                    if outward:
                        self.cut[one, other] = True

    def mend(self) -> None:
        """Open all links."""
        self.cut.clear()

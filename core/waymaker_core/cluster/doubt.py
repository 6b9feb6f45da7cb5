"""Doubt: what a member does when its journal ended with a tear, behind which synced records may have stood.

It may have forgotten promises and acknowledgments. So none of its replicas says anything before the member knows all claims
that were made up to now: it asks the catalog's leader for the end of the catalog, and applies up to there. Then each replica
is in doubt up to the newest claim of its stream, which is durable before it speaks. It obeys that claim, and counts in no
fence, unless all replicas are heard, until a later claim has been opened with it.

The same holds for its votes in the catalog's group until it has applied an entry of a later term than any that it may
have voted in (`raft/state`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from waymaker_core.api.inputs import KeepDoubts
from waymaker_core.cluster.peer_messages import EndAsked, EndKnown
from waymaker_core.model.types import CATALOG
from waymaker_core.node.node import Node
from waymaker_core.replication.state import NEVER

ASK_MS: Final = 200
"""The time after which a question without an answer is asked again."""


class Doubts:
    """The doubts of one member, from its start until they are noted stream by stream."""

    def __init__(self, node: Node, seed: int, take_ask: Callable[[], int]) -> None:
        self._node = node
        self._take_ask = take_ask
        self.is_torn = bool(node.doubt(CATALOG).torn)
        """True before the streams in doubt are known, and noted."""
        self._first = self._number = seed << 20
        """Numbers of other runs are others: an answer to one of those may be older than this start."""
        self._ask_at = 0
        self._end: int | None = None
        self._ask = 0
        """The number that the node will answer."""
        self._doubts: dict[int, int] = {}

    def question(self, now: int) -> EndAsked | None:
        """Return a question for the catalog's leader, if it is time for one."""
        if not self.is_torn or self._end is not None or now < self._ask_at:
            return None
        self._ask_at = now + ASK_MS
        self._number += 1
        return EndAsked(self._number)

    def next_deadline(self) -> int:
        """Return the moment of the next question; `NEVER` where there is none to ask."""
        return self._ask_at if self.is_torn and self._end is None else NEVER

    def end_known(self, answer: EndKnown) -> None:
        """Take the leader's answer to a question of this run."""
        if self._first < answer.number <= self._number and self._end is None:
            self._end = answer.position

    def notes(self) -> KeepDoubts | None:
        """Return what the node is to note, when all claims are applied that this node may have promised to obey."""
        node = self._node
        if not self.is_torn or self._end is None or self._ask or node.applied(CATALOG) < self._end:
            return None
        for stream_id in node.claimed_streams():
            conf = node.conf(stream_id)
            if conf is not None:
                self._doubts[stream_id] = conf.newest.epoch
        self._ask = self._take_ask()
        rows = [(stream_id, epoch, 0) for stream_id, epoch in self._doubts.items()]
        return KeepDoubts(self._ask, [*rows, (CATALOG, node.doubt(CATALOG).until, 0)])

    def take_answer(self, ask: int, kept: bool) -> bool:
        """Take the node's answer; return True if the doubts are noted by it, so that replicas may speak."""
        if not self._ask or ask != self._ask:
            return False
        self._ask = 0
        if kept:
            self.is_torn = False
        return kept

    def in_doubt(self) -> list[int]:
        """Return the streams whose replicas here are in doubt."""
        return list(self._doubts)

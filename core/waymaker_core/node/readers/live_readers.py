"""Live readers: they are sent what a service has from a place on, then what comes, as long as they have credit.

A reader consumes nothing and acknowledges nothing. What it is sent next, its service says (`Source`). It exists while its
stream is led here. `delivery/live_turns` sends.
"""

from __future__ import annotations

from typing import Protocol

from waymaker_core.api.requests import Messages
from waymaker_core.model.result_codes import Refusal
from waymaker_core.model.types import Token
from waymaker_core.node.gate import Gate
from waymaker_core.node.stream_replica import Leading, StreamReplica


class Source(Protocol):
    """The place of a reader, and what follows there."""

    def has_more(self) -> bool:
        """Return True if there is something to look at."""
        ...

    def read(self, limit: int, byte_max: int) -> Messages:
        """Return what comes next, maybe nothing although there is more to look at. May raise `NeedBlocks`."""
        ...


class LiveReader:
    """One reader: its source and its credit."""

    __slots__ = ("token", "leading", "source", "messages", "bytes", "in_turn")

    def __init__(self, token: Token, replica: StreamReplica) -> None:
        self.token = token
        self.leading: Leading = replica.leading
        self.source: Source | None = None
        """None until it is confirmed that this node leads: what it is sent first must not be old."""
        self.messages = 0
        self.bytes = 0
        self.in_turn = False
        """True while it waits for its turn, or its turn for an index."""


class LiveReaders:
    """All live_readers of a node by their token."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._by_token: dict[Token, LiveReader] = {}

    def __len__(self) -> int:
        return len(self._by_token)

    def __contains__(self, token: Token) -> bool:
        return token in self._by_token

    def add_reader(self, token: Token, replica: StreamReplica) -> LiveReader:
        """Add a reader, without credit and without a source."""
        reader = self._by_token[token] = LiveReader(token, replica)
        replica.leading.live_readers[token] = reader
        return reader

    # ------------------------------------------------------------------ ends

    def remove_reader(self, token: Token) -> None:
        """Remove a reader that its client has ended."""
        reader = self._by_token.pop(token, None)
        if reader is not None:
            del reader.leading.live_readers[token]

    def end_reader(self, token: Token, reason: str, refusal: Refusal | None = None) -> None:
        """End a reader, with the reason for its client."""
        if token in self._by_token:
            self.remove_reader(token)
            self._gate.end(token, reason, refusal)

    def end_readers(self, replica: StreamReplica, reason: str, refusal: Refusal | None = None) -> None:
        """End the live_readers of a stream that was deleted, is led no longer, or cannot be served."""
        for token in list(replica.leading.live_readers):
            self.end_reader(token, reason, refusal)

    def end_all(self, reason: str) -> None:
        """End every reader: the node stops."""
        for token in list(self._by_token):
            self.end_reader(token, reason)

    def find_reader(self, token: Token) -> LiveReader | None:
        """Return the reader of a token, if it has not ended."""
        return self._by_token.get(token)

    def of_stream(self, replica: StreamReplica) -> list[LiveReader]:
        """Return the live_readers of a stream."""
        return [self._by_token[token] for token in replica.leading.live_readers]

    def replica_of(self, token: Token) -> StreamReplica | None:
        """Return the stream of a reader, if it has not ended."""
        reader = self._by_token.get(token)
        return None if reader is None else reader.leading.replica

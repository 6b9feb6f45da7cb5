"""Turns of live readers: what their services have for them leaves while they have credit, a batch at a time, in turn.

A stream that changes, and new credit, give a reader its turn; nothing polls. Credit is counted in messages and bytes, as that
of subscribers is. What is sent is committed, so it waits for no confirmation.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.types import Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.readers.live_readers import LiveReader, LiveReaders
from waymaker_core.node.stream_replica import StreamReplica

TURNS_A_STEP = 64
"""Turns in one step; those that remain are taken in the next, which follows at once."""
BATCH_MESSAGES_MAX = 1_000


class LiveTurns:
    """The turns of all live_readers."""

    def __init__(
        self, state: NodeState, gate: Gate, indexes: Indexes, live_readers: LiveReaders, quarantine: Quarantine
    ) -> None:
        self._state = state
        self._gate = gate
        self._indexes = indexes
        self._live_readers = live_readers
        self._quarantine = quarantine
        self._ready: deque[LiveReader] = deque()

    def has_turns(self) -> bool:
        """Return True if another step would take a turn."""
        return bool(self._ready)

    def credit(self, token: Token, messages: int, bytes_: int) -> None:
        """Add to a reader's credit."""
        reader = self._live_readers.find_reader(token)
        if reader is None:
            return
        reader.messages += messages
        reader.bytes += bytes_
        self._wake(reader)

    def wake_readers(self, replica: StreamReplica) -> None:
        """Give a turn to the live_readers of a changed stream."""
        for reader in self._live_readers.of_stream(replica):
            self._wake(reader)

    def _wake(self, reader: LiveReader) -> None:
        if reader.source is None or reader.in_turn or not reader.source.has_more():
            return
        if reader.messages > 0 and reader.bytes > 0:
            reader.in_turn = True
            self._ready.append(reader)

    # ------------------------------------------------------------------ turns

    def serve(self) -> None:
        """Take the turns of this step."""
        for _ in range(min(TURNS_A_STEP, len(self._ready))):
            reader = self._ready.popleft()
            if self._live_readers.find_reader(reader.token) is reader:
                send, lost = partial(self._send, reader), partial(self._lost, reader)
                self._indexes.when_resident(reader.leading.replica, send, lost)

    def _send(self, reader: LiveReader) -> None:
        if self._live_readers.find_reader(reader.token) is not reader or reader.source is None:
            return
        limits = self._state.limits
        limit = min(reader.messages, BATCH_MESSAGES_MAX)
        messages = reader.source.read(limit, min(reader.bytes, limits.fetch_bytes_max))
        reader.in_turn = False
        if messages.count:
            reader.messages -= messages.count
            reader.bytes -= messages.byte_count
            self._gate.deliver(reader.token, messages)
        self._wake(reader)

    def _lost(self, reader: LiveReader, failure: DiskFailure) -> None:
        reader.in_turn = False
        if self._live_readers.find_reader(reader.token) is reader:
            self._live_readers.end_reader(reader.token, "", self._quarantine.found(reader.leading.replica, failure))

"""One lane to one other member: what waits to be sent, within its bound, and the connection that takes it.

Without a connection, and past the bound, messages are dropped: the protocol repeats what matters, and a late heartbeat is
worth nothing. A part of the bound is kept for small messages, so that records that pile up do not take a heartbeat's room.
"""

from __future__ import annotations

from typing import Final

from waymaker.server.peers.connection import Connection
from waymaker.server.peers.figures import LaneFigures
from waymaker.server.peers.frames import HEADER_BYTES, Kind, header
from waymaker_core.model.limits import KIB, MIB

QUEUE_BYTES: Final = 8 * MIB
RESERVE_BYTES: Final = 1 * MIB
SMALL_BYTES: Final = 1 * KIB


class OutgoingLane:
    """One lane to one other member."""

    def __init__(self, figures: LaneFigures) -> None:
        self.figures = figures
        self.connection: Connection | None = None
        self._pieces: list[bytes] = []
        self._bytes = 0

    @property
    def is_connected(self) -> bool:
        """Return True if messages can be sent."""
        return self.connection is not None and self.connection.is_ready

    def add(self, data: bytes) -> bool:
        """Add a message to what is sent at the next flush; return True if it is the first there."""
        connection = self.connection
        if connection is None or not connection.is_ready:
            self.figures.dropped_unconnected += 1
            return False
        waiting = self._bytes + connection.waiting_bytes
        bound = QUEUE_BYTES + (RESERVE_BYTES if len(data) <= SMALL_BYTES else 0)
        if waiting and waiting + len(data) > bound:
            self.figures.dropped_full += 1
            return False
        self._pieces += (header(Kind.MESSAGE, data), data)
        self._bytes += HEADER_BYTES + len(data)
        return len(self._pieces) == 2

    def flush(self) -> None:
        """Send what was added, in one write."""
        pieces, self._pieces = self._pieces, []
        size, self._bytes = self._bytes, 0
        connection = self.connection
        if connection is None or not connection.is_ready:
            self.figures.dropped_unconnected += len(pieces) // 2
            return
        self.figures.sent_messages += len(pieces) // 2
        self.figures.sent_bytes += size
        connection.write(b"".join(pieces))

"""Snapshots of the catalog between members: offered by Raft's own message, and asked for piece by piece.

The receiver asks for each piece, and asks again where nothing comes. So the leader keeps no window and no timer for a piece,
and a loss costs one piece. The state of an offer is encoded once, and shared by members that are offered the same position.
The receiver gathers it in memory: the catalog is there on every member anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from waymaker_core.cluster.peer_messages import OfGroup, PeerMessage, Piece, PieceAsked
from waymaker_core.model.types import CATALOG
from waymaker_core.raft.entries import SnapshotMeta
from waymaker_core.raft.messages import SnapshotRequest

PIECE_BYTES: Final = 256 * 1024
STATE_BYTES_MAX: Final = 1 << 29
"""Bytes of a state from which on nothing more is taken: no catalog within its limits is as large."""
ASK_MS: Final = 200
"""The time after which a piece is asked for again."""
ASKS_MAX: Final = 25
"""Questions for one piece, after which a snapshot is given up; its leader offers another one."""
SILENCE_MS: Final = 2_000
"""The time without a question after which an offer counts as lost."""
NEVER: Final = 1 << 62


@dataclass(slots=True, eq=False)
class _Offer:
    """A snapshot that a member is offered, and when that was heard of last."""

    meta: SnapshotMeta
    state: bytes
    heard_at: int


@dataclass(slots=True, eq=False)
class _Receipt:
    """A snapshot on its way here: the message that offered it, and the pieces so far."""

    offered: OfGroup
    request: SnapshotRequest
    ask_at: int
    asks: int = 0
    size: int = 0
    parts: list[bytes] = field(default_factory=list)


class CatalogSnapshots:
    """The snapshots of the catalog that this member sends, as its leader, and the one that it receives."""

    def __init__(self) -> None:
        self._offers: dict[int, _Offer] = {}
        self._receipt: _Receipt | None = None
        self.out: list[tuple[int, PeerMessage]] = []

    # ------------------------------------------------------------------ sending

    def offer_to(self, now: int, node: int, meta: SnapshotMeta, encode: Callable[[], bytes]) -> SnapshotMeta:
        """Offer a member a snapshot of the catalog as it is now; return the place of the one that it is offered already."""
        offer = self._offers.get(node)
        if offer is None:
            shared = next((each.state for each in self._offers.values() if each.meta.index == meta.index), None)
            offer = self._offers[node] = _Offer(meta, encode() if shared is None else shared, now)
        return offer.meta

    def piece_asked(self, now: int, sender: int, asked: PieceAsked) -> None:
        """Send a piece."""
        offer = self._offers.get(sender)
        first = asked.piece * PIECE_BYTES
        if offer is None or offer.meta.index != asked.number or first > len(offer.state):
            return
        offer.heard_at = now
        end = first + PIECE_BYTES
        more = int(end < len(offer.state))
        self.out.append((sender, Piece(CATALOG, asked.number, asked.piece, more, offer.state[first:end])))

    def take_lost(self, now: int) -> list[int]:
        """Take out the members that ask for nothing any more: they have it, or never will."""
        if not self._offers:
            return []
        lost = [node for node, offer in self._offers.items() if now - offer.heard_at >= SILENCE_MS]
        for node in lost:
            del self._offers[node]
        return lost

    # ------------------------------------------------------------------ receiving

    def offered(self, now: int, offered: OfGroup, request: SnapshotRequest) -> None:
        """Begin to ask for a snapshot, unless it is on its way already. The offer of a newer leader takes another's place."""
        receipt = self._receipt
        if receipt is not None and request.term < receipt.request.term:
            return
        if receipt is not None and receipt.request.sender == request.sender:
            if receipt.request.snapshot == request.snapshot:
                receipt.offered, receipt.request = offered, request
                return
        self._receipt = _Receipt(offered, request, now)
        self.ask_due(now)

    def piece_arrived(self, now: int, sender: int, piece: Piece) -> tuple[OfGroup, bytes] | None:
        """Take a piece; return the message that offered the snapshot, and its state, when that is complete."""
        receipt = self._receipt
        if receipt is None or (sender, piece.number) != (receipt.request.sender, receipt.request.snapshot.index):
            return None
        if piece.piece != len(receipt.parts):
            return None
        receipt.parts.append(piece.data)
        receipt.size += len(piece.data)
        if receipt.size > STATE_BYTES_MAX:
            self._receipt = None
            return None
        if not piece.more:
            self._receipt = None
            return receipt.offered, b"".join(receipt.parts)
        receipt.asks, receipt.ask_at = 0, now
        self.ask_due(now)
        return None

    def ask_due(self, now: int) -> None:
        """Ask for the next piece, where that is due; give the snapshot up after many questions without an answer."""
        receipt = self._receipt
        if receipt is None or now < receipt.ask_at:
            return
        if receipt.asks >= ASKS_MAX:
            self._receipt = None
            return
        receipt.asks += 1
        receipt.ask_at = now + ASK_MS
        asked = PieceAsked(CATALOG, receipt.request.snapshot.index, len(receipt.parts))
        self.out.append((receipt.request.sender, asked))

    def next_deadline(self) -> int:
        """Return the moment, in milliseconds, at which to look again."""
        if self._receipt is None and not self._offers:
            return NEVER
        asks_at = NEVER if self._receipt is None else self._receipt.ask_at
        return min([asks_at, *(offer.heard_at + SILENCE_MS for offer in self._offers.values())])

"""Snapshots of streams between members: a primary sends its applied state to a replica that lacks what no journal has any more.

The node does the work (`node/transfer`). Here the pieces find their way: the receiver asks for each one when the last is
written, and asks again where nothing comes; the sender keeps the last piece until the next one is asked for. So a slow peer
costs one piece of memory. Few transfers go on at a time; a replica that finds no place is offered one with the next retry.

What is sent is committed. So a replica may adopt it in any epoch, as long as its own log ends before: it loses nothing that it
acknowledged. Only what contradicts an opened epoch is cut for it (`replication/replica`, `on_superseded`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from waymaker_core.api.effects import PieceStored, SnapshotPiece, TransferEnded
from waymaker_core.api.inputs import EndTransfer, NextPiece, PieceArrived, ReceiveSnapshot, SendSnapshot
from waymaker_core.cluster.peer_messages import PeerMessage, Piece, PieceAsked, SnapshotAdopted, SnapshotOffered

NodeInput = SendSnapshot | NextPiece | ReceiveSnapshot | PieceArrived | EndTransfer
SENDS_MAX: Final = 3
"""Streams that are sent at a time."""
RECEIPTS_MAX: Final = 3
"""Streams that are received at a time; the node refuses more than eight transfers of both kinds."""
ASK_MS: Final = 200
"""The time after which a piece is asked for again."""
ASKS_MAX: Final = 25
"""Questions for one piece, after which a receipt is given up."""
SILENCE_MS: Final = 5_000
"""The time without a question after which a snapshot is sent no more."""
NEVER: Final = 1 << 62


@dataclass(slots=True, eq=False)
class _Sending:
    """A stream on its way to a member. `data`: the piece that was asked for last; None while the node makes it."""

    node: int
    offer: SnapshotOffered
    heard_at: int
    piece: int = -1
    data: bytes | None = None
    ended: bool = False
    """True once the node has made the last piece."""


@dataclass(slots=True, eq=False)
class _Receipt:
    """A stream on its way here, as the transfer of a number here. `busy`: a piece is being written."""

    sender: int
    offer: SnapshotOffered
    transfer: int
    ask_at: int
    piece: int = 0
    asks: int = 0
    busy: bool = False


class StreamSnapshots:
    """The snapshots of streams that this member sends and receives. `out`, `node_inputs` are what they want."""

    def __init__(self) -> None:
        self._numbers = 0
        self._sending: dict[int, _Sending] = {}
        """By number of the transfer."""
        self._receipts: dict[int, _Receipt] = {}
        """By stream."""
        self.out: list[tuple[int, PeerMessage]] = []
        self.node_inputs: list[NodeInput] = []
        self.adopted = 0
        """Snapshots that were put into force here."""

    def _take_number(self) -> int:
        self._numbers += 1
        return self._numbers

    # ------------------------------------------------------------------ sending

    def offer_stream(self, now: int, node: int, stream_id: int, epoch: int, position: int, opened: bool) -> None:
        """Offer a snapshot to a replica, or offer it again; nothing where as many are on their way as may be."""
        for sending in self._sending.values():
            if (sending.node, sending.offer.stream_id) == (node, stream_id):
                if sending.piece < 0:
                    self.out.append((node, sending.offer))
                return
        if len(self._sending) < SENDS_MAX:
            number = self._take_number()
            offer = SnapshotOffered(stream_id, epoch, number, position, int(opened))
            self._sending[number] = _Sending(node, offer, now)
            self.node_inputs.append(SendSnapshot(number, stream_id))
            self.out.append((node, offer))

    def piece_asked(self, now: int, sender: int, asked: PieceAsked) -> None:
        """Send a piece, or let the node make the next one."""
        sending = self._sending.get(asked.number)
        if sending is None or (sending.node, sending.offer.stream_id) != (sender, asked.stream_id):
            return
        sending.heard_at = now
        if asked.piece == sending.piece:
            self._send_piece(sending)
        elif asked.piece == sending.piece + 1 and not sending.ended and (sending.piece < 0 or sending.data is not None):
            sending.piece, sending.data = asked.piece, None
            self.node_inputs.append(NextPiece(asked.number))

    def _send_piece(self, sending: _Sending) -> None:
        if sending.data is not None:
            offer = sending.offer
            self.out.append((sending.node, Piece(offer.stream_id, offer.number, sending.piece, 1, sending.data)))

    def piece_made(self, effect: SnapshotPiece) -> None:
        """Send a piece that the node has made."""
        sending = self._sending.get(effect.transfer)
        if sending is not None:
            sending.data = effect.data
            self._send_piece(sending)

    def end_epoch(self, stream_id: int, epoch: int) -> None:
        """Give up what an older epoch of a stream sends or receives: another primary knows better what is lacking."""
        for number, sending in list(self._sending.items()):
            if sending.offer.stream_id == stream_id and sending.offer.epoch < epoch:
                self._stop_sending(number)
        receipt = self._receipts.get(stream_id)
        if receipt is not None and receipt.offer.epoch < epoch:
            self._stop_receiving(stream_id)

    def _stop_sending(self, number: int) -> None:
        sending = self._sending.pop(number)
        if not sending.ended:
            self.node_inputs.append(EndTransfer(number))

    # ------------------------------------------------------------------ receiving

    def receive_stream(self, now: int, sender: int, offer: SnapshotOffered) -> None:
        """Begin to receive what is offered, in place of what an older epoch sends; one that is on its way goes on."""
        receipt = self._receipts.get(offer.stream_id)
        if receipt is not None and (receipt.sender, receipt.offer.number) != (sender, offer.number):
            if receipt.offer.epoch > offer.epoch or receipt.busy:
                return
            self._stop_receiving(offer.stream_id)
            receipt = None
        if receipt is None and len(self._receipts) < RECEIPTS_MAX:
            transfer = self._take_number()
            self._receipts[offer.stream_id] = _Receipt(sender, offer, transfer, now)
            self.node_inputs.append(ReceiveSnapshot(transfer, offer.stream_id))
            self._ask(now, self._receipts[offer.stream_id])

    def piece_arrived(self, sender: int, piece: Piece) -> None:
        """Let the node write a piece that was asked for."""
        receipt = self._receipts.get(piece.stream_id)
        if receipt is None or receipt.busy or (sender, piece.number) != (receipt.sender, receipt.offer.number):
            return
        if piece.piece == receipt.piece:
            receipt.busy = True
            self.node_inputs.append(PieceArrived(receipt.transfer, piece.data))

    def piece_stored(self, now: int, effect: PieceStored) -> None:
        """Ask for the next piece."""
        for receipt in self._receipts.values():
            if receipt.transfer == effect.transfer:
                receipt.busy, receipt.asks = False, 0
                receipt.piece += 1
                self._ask(now, receipt)

    def _ask(self, now: int, receipt: _Receipt) -> None:
        receipt.asks += 1
        receipt.ask_at = now + ASK_MS
        offer = receipt.offer
        self.out.append((receipt.sender, PieceAsked(offer.stream_id, offer.number, receipt.piece)))

    def _stop_receiving(self, stream_id: int) -> None:
        receipt = self._receipts.pop(stream_id)
        self.node_inputs.append(EndTransfer(receipt.transfer))

    # ------------------------------------------------------------------ both

    def transfer_ended(self, effect: TransferEnded) -> tuple[int, int] | None:
        """Note the end of a transfer; return stream and position of a snapshot that is in force here from now on."""
        sending = self._sending.get(effect.transfer)
        if sending is not None:
            sending.ended = True
            if effect.problem:
                del self._sending[effect.transfer]
            return None
        for stream_id, receipt in list(self._receipts.items()):
            if receipt.transfer == effect.transfer:
                del self._receipts[stream_id]
                if effect.problem:
                    return None
                self.adopted += 1
                offer = receipt.offer
                self.out.append(
                    (receipt.sender, SnapshotAdopted(stream_id, offer.epoch, offer.number, effect.position))
                )
                return stream_id, effect.position
        return None

    def note_adopted(self, sender: int, message: SnapshotAdopted) -> bool:
        """Note that a member has adopted what it was sent; False where it was not this member's."""
        sending = self._sending.get(message.number)
        if sending is None or (sending.node, sending.offer.stream_id) != (sender, message.stream_id):
            return False
        self._stop_sending(message.number)
        return True

    def step_due(self, now: int) -> None:
        """Ask for pieces again, and give up what has no answer."""
        if not self._receipts and not self._sending:
            return
        for stream_id, receipt in list(self._receipts.items()):
            if not receipt.busy and now >= receipt.ask_at:
                if receipt.asks >= ASKS_MAX:
                    self._stop_receiving(stream_id)
                else:
                    self._ask(now, receipt)
        for number, sending in list(self._sending.items()):
            if now - sending.heard_at >= SILENCE_MS:
                self._stop_sending(number)

    def next_deadline(self) -> int:
        """Return the moment, in milliseconds, at which to look again."""
        if not self._receipts and not self._sending:
            return NEVER
        asks = [receipt.ask_at for receipt in self._receipts.values() if not receipt.busy]
        return min([NEVER, *asks, *(sending.heard_at + SILENCE_MS for sending in self._sending.values())])

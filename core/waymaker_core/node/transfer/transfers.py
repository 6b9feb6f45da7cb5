"""Transfers: streams that are sent to other replicas, and received from them, each under a number of its driver's.

The driver pulls pieces from a sender (`NextPiece`), and gives a receiver the next one when the last is written (`PieceStored`).
So a slow peer costs neither side memory. When the last piece is durable, the receiver adopts (`adoption`).
"""

from __future__ import annotations

from functools import partial

from waymaker_core.api.effects import Lane, PieceStored, SnapshotPiece, TransferEnded
from waymaker_core.api.inputs import EndTransfer, NextPiece, PieceArrived, ReceiveSnapshot, SendSnapshot
from waymaker_core.model.disk_ops import Delete, DiskFailure, DiskOp, OpResult
from waymaker_core.model.types import StreamId
from waymaker_core.node.checkpoint.checkpoints import Checkpoints
from waymaker_core.node.context import NodeState
from waymaker_core.node.file_gc import Garbage
from waymaker_core.node.transfer.adoption import Adoption
from waymaker_core.node.transfer.receiving import Receipt
from waymaker_core.node.transfer.segment_pins import SegmentPin, SegmentPins
from waymaker_core.node.transfer.sending import FrozenStream, SendingSteps, send
from waymaker_core.storage.recovery.replay import NONSENSE

TransferInput = SendSnapshot | NextPiece | ReceiveSnapshot | PieceArrived | EndTransfer
TRANSFERS_MAX = 8
"""Transfers in progress on one node, at most: each has an index and some chunks in memory."""
TOO_MANY = "as many transfers as may be are in progress"


class _Sender:
    """A stream that is being sent. `busy`: a piece is wanted, and what it needs is being read."""

    def __init__(self, frozen: FrozenStream, pin: SegmentPin, steps: SendingSteps) -> None:
        self.frozen = frozen
        self.pin = pin
        self.steps = steps
        self.busy = False


class _Receiver:
    """A stream that arrives. `busy`: a piece is being written, or the snapshot adopted."""

    def __init__(self, receipt: Receipt, stream_id: StreamId) -> None:
        self.receipt = receipt
        self.stream_id = stream_id
        self.busy = False
        self.ended = False
        """True if it ended while a piece was being written: then its files go."""


class Transfers:
    """The transfers of a node."""

    def __init__(
        self,
        state: NodeState,
        garbage: Garbage,
        pins: SegmentPins,
        checkpoints: Checkpoints,
        adoption: Adoption,
        key: int,
    ) -> None:
        self._state = state
        self._garbage = garbage
        self._pins = pins
        self._checkpoints = checkpoints
        self._adoption = adoption
        self._key = key
        self._senders: dict[int, _Sender] = {}
        self._receivers: dict[int, _Receiver] = {}

    def process(self, event: TransferInput) -> None:
        """Pass one input to its part."""
        match event:
            case SendSnapshot():
                self._send(event)
            case NextPiece():
                self._next_piece(event)
            case ReceiveSnapshot():
                self._receive(event)
            case PieceArrived():
                self._arrived(event)
            case EndTransfer():
                self._give_up(event)

    def _end(self, transfer: int, position: int, problem: str) -> None:
        self._state.effects.append(TransferEnded(transfer, position, problem))

    def _begins(self, transfer: int) -> bool:
        """Return True if there is room for one more; refuse it otherwise."""
        assert transfer not in self._senders and transfer not in self._receivers, "a number is used once"
        if len(self._senders) + len(self._receivers) < TRANSFERS_MAX:
            return True
        self._end(transfer, 0, TOO_MANY)
        return False

    # ------------------------------------------------------------------ sending

    def _send(self, event: SendSnapshot) -> None:
        """Freeze a stream, and keep what it names until the end."""
        replica = self._state.replicas.get(StreamId(event.stream_id))
        problem = "no such stream here" if replica is None else self._adoption.why_unfit(replica)
        if replica is None or problem or (replica.damage is not None):
            self._end(event.transfer, 0, problem or "the stream is quarantined")
            return
        if not self._begins(event.transfer):
            return
        frozen = FrozenStream(replica, self._state.now, self._state.limits)
        pin = self._pins.pin(frozen.oldest_segment(0), partial(self._lost, event.transfer))
        self._garbage.hold(frozen.files)
        steps = send(frozen, lambda block: self._pins.move_on(pin, frozen.oldest_segment(block)))
        self._senders[event.transfer] = _Sender(frozen, pin, steps)

    def _next_piece(self, event: NextPiece) -> None:
        """Send the next piece, once what it needs is read. One of a transfer that has ended is late, and ignored."""
        sender = self._senders.get(event.transfer)
        if sender is not None and not sender.busy:
            sender.busy = True
            self._advance(event.transfer, sender, None)

    def _advance(self, transfer: int, sender: _Sender, results: list[OpResult] | None) -> None:
        """Go on until a piece is there, or something must be read."""
        if self._senders.get(transfer) is not sender:
            return
        wanted = next(sender.steps) if results is None else sender.steps.send(results)
        if isinstance(wanted, bytes):
            sender.busy = False
            self._state.effects.append(SnapshotPiece(transfer, wanted))
            if sender.frozen.sent:
                self._stop_sending(transfer, "")
            return
        done, failed = partial(self._advance, transfer, sender), partial(self._unreadable, transfer, sender)
        self._state.start(Lane.READ, wanted, done, failed)

    def _unreadable(self, transfer: int, sender: _Sender, failure: DiskFailure) -> None:
        if self._senders.get(transfer) is sender:
            self._stop_sending(transfer, f"{failure.path} could not be read: {failure.detail or failure.kind.value}")

    def _lost(self, transfer: int) -> None:
        self._stop_sending(transfer, "the receiver was too slow, or the disk is full")

    def _stop_sending(self, transfer: int, problem: str) -> None:
        sender = self._senders.pop(transfer)
        self._pins.unpin(sender.pin)
        self._garbage.let_go(sender.frozen.files)
        self._end(transfer, sender.frozen.stream.position, problem)

    # ------------------------------------------------------------------ receiving

    def _receive(self, event: ReceiveSnapshot) -> None:
        """Begin to receive a stream that the catalog knows, and that this node does not lead."""
        stream_id = StreamId(event.stream_id)
        problem = self._adoption.why_not(stream_id, None)
        if self._state.stats.disk_full:
            problem = "the disk is full"
        if problem:
            self._end(event.transfer, 0, problem)
        elif self._begins(event.transfer):
            part_bytes = self._state.limits.block_bytes_max
            receipt = Receipt(self._key, stream_id, part_bytes, self._checkpoints.draw_number)
            self._receivers[event.transfer] = _Receiver(receipt, stream_id)

    def _arrived(self, event: PieceArrived) -> None:
        """Write what a piece holds. One of a transfer that has ended is late, and ignored."""
        receiver = self._receivers.get(event.transfer)
        if receiver is None:
            return
        if receiver.busy:
            self._stop_receiving(event.transfer, "a piece came before the last one was written")
            return
        try:
            ops = receiver.receipt.feed(event.data)
        except NONSENSE as problem:
            self._stop_receiving(event.transfer, str(problem))
            return
        receiver.busy = True
        self._write(event.transfer, receiver, ops)

    def _write(self, transfer: int, receiver: _Receiver, ops: list[DiskOp]) -> None:
        done, failed = partial(self._written, transfer, receiver), partial(self._not_written, transfer, receiver)
        if ops:
            self._state.start(Lane.BACKGROUND, ops, done, failed)
        else:
            self._written(transfer, receiver, [])

    def _written(self, transfer: int, receiver: _Receiver, _results: list[OpResult]) -> None:
        if receiver.ended:
            self._delete_files(receiver)
            return
        received = receiver.receipt.received
        if received is None:
            receiver.busy = False
            self._state.effects.append(PieceStored(transfer))
            return
        problem = self._adoption.put_in_force(receiver.stream_id, received, partial(self._adopted, transfer))
        if problem:
            receiver.busy = False
            self._stop_receiving(transfer, problem)

    def _not_written(self, transfer: int, receiver: _Receiver, failure: DiskFailure) -> None:
        receiver.busy = False
        if receiver.ended:
            self._delete_files(receiver)
        else:
            self._stop_receiving(
                transfer, f"{failure.path} could not be written: {failure.detail or failure.kind.value}"
            )

    def _adopted(self, transfer: int, position: int, problem: str) -> None:
        del self._receivers[transfer]
        self._end(transfer, position, problem)

    def _stop_receiving(self, transfer: int, problem: str) -> None:
        """Give a receipt up, with its files, unless one of its jobs is in flight: they go when it ends."""
        receiver = self._receivers.pop(transfer)
        receiver.ended = True
        if not receiver.busy:
            self._delete_files(receiver)
        self._end(transfer, 0, problem)

    def _delete_files(self, receiver: _Receiver) -> None:
        receipt = receiver.receipt
        paths = [*receipt.paths, *([receipt.snapshot_path] if receipt.snapshot_path else [])]
        if paths:
            self._garbage.delete([Delete(path) for path in paths])

    # ------------------------------------------------------------------ both

    def _give_up(self, event: EndTransfer) -> None:
        """End a transfer that its driver gives up. One that is being adopted, or has ended, is not ended by that."""
        if event.transfer in self._senders:
            self._stop_sending(event.transfer, "given up")
        receiver = self._receivers.get(event.transfer)
        if receiver is not None and receiver.receipt.received is None:
            self._stop_receiving(event.transfer, "given up")

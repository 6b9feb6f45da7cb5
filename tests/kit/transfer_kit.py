"""Two nodes with a directory each, and transfers of streams from one to the other."""

from __future__ import annotations

from tests.kit.node_kit import Server
from tests.kit.store_disk import MemoryDisk
from waymaker_core.api.effects import Effect, PieceStored, SnapshotPiece, TransferEnded
from waymaker_core.api.inputs import (
    EndTransfer,
    Input,
    Lead,
    NextPiece,
    PieceArrived,
    ReceiveSnapshot,
    SendSnapshot,
    StepDown,
)
from waymaker_core.consumer.group import Group
from waymaker_core.consumer.snapshot import decode as decode_consumers
from waymaker_core.model.types import StreamId
from waymaker_core.node.checkpoint.snapshots import decode_stream, encode_stream
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.paths import JOURNAL, MANIFEST, RESERVE
from waymaker_core.storage.recovery.verify import verify

FILES, INDEX, COLUMNS, LAST_SIZE = 10, 11, 12, 7
"""Places in the summary of a block of what differs between replicas."""


class Peer(Server):
    """A node that takes part in transfers."""

    def open(self) -> None:
        self.pieces: list[SnapshotPiece] = []
        self.stored: list[PieceStored] = []
        self.transfers: dict[int, TransferEnded] = {}
        self.copies = False
        """True if the disk is copied at the end of each transfer: `at_end`."""
        self.at_end: MemoryDisk | None = None
        super().open()

    def perform(self, effect: Effect) -> list[Input]:
        match effect:
            case SnapshotPiece():
                self.pieces.append(effect)
            case PieceStored():
                self.stored.append(effect)
            case TransferEnded():
                assert effect.transfer not in self.transfers, "a transfer ends once"
                self.at_end = self.disk.copy() if self.copies else None
                self.transfers[effect.transfer] = effect
            case _:
                return super().perform(effect)
        return []

    def replica(self, name: str = "s") -> StreamReplica:
        return next(each for each in self.node._state.replicas.values() if each.name == name)

    def step_down(self, name: str = "s") -> None:
        self.step(StepDown(self.replica(name).id))

    def lead(self, name: str = "s") -> None:
        self.step(Lead(self.replica(name).id))


class Transfer:
    """One transfer between two nodes, piece by piece."""

    numbers = 0

    def __init__(self, donor: Peer, receiver: Peer, name: str = "s") -> None:
        Transfer.numbers += 1
        self.donor, self.receiver, self.number = donor, receiver, Transfer.numbers
        self.stream_id: StreamId = donor.replica(name).id
        self.sent: list[bytes] = []

    def begin(self) -> None:
        self.receiver.step(ReceiveSnapshot(self.number, self.stream_id))
        self.donor.step(SendSnapshot(self.number, self.stream_id))

    def next_piece(self) -> bytes | None:
        """Let the donor send a piece; None where it does not."""
        self.donor.step(NextPiece(self.number))
        if not self.donor.pieces:
            return None
        self.sent.append(self.donor.pieces.pop().data)
        return self.sent[-1]

    def advance(self) -> bool:
        """Carry one piece over; return False at the end."""
        data = self.next_piece()
        if data is not None:
            self.receiver.step(PieceArrived(self.number, data))
        return data is not None and self.number not in self.receiver.transfers

    def end_on(self, peer: Peer) -> None:
        """Give it up on one side."""
        peer.step(EndTransfer(self.number))
        peer.transfers.pop(self.number, None)

    def give_up(self) -> None:
        """Give it up on both sides."""
        self.end_on(self.donor)
        self.end_on(self.receiver)

    def last_piece(self) -> bytes:
        """Begin, and carry all pieces over but the last, which is returned."""
        self.begin()
        while (data := self.next_piece()) is not None:
            if self.number in self.donor.transfers:
                return data
            self.receiver.step(PieceArrived(self.number, data))
        raise AssertionError("the donor does not come to an end")

    def run(self) -> TransferEnded:
        """Carry everything over; the receiver's end of it."""
        self.begin()
        while self.number not in self.receiver.transfers and self.advance():
            pass
        return self.receiver.transfers[self.number]


def state_of(peer: Peer, name: str = "s") -> object:
    """Return all that a replica's snapshot says, but for where bytes lie."""
    snapshot = decode_stream(encode_stream(peer.replica(name), peer.now()))
    stream = snapshot.stream
    assert isinstance(stream, list)
    for block in stream[9]:
        for place in (FILES, INDEX, COLUMNS, LAST_SIZE):
            block[place] = None
    groups, next_id = decode_consumers(snapshot.consumers)
    consumers = [[_plain(group), [_pending(group)]] for group in groups]
    return [stream, consumers, next_id, snapshot.layers]


def _plain(group: Group) -> list[object]:
    """Return the fields of a group and of its members."""
    members = [[key, member.created_ms, member.config] for key, member in sorted(group.members.items())]
    skipped, ahead = group.skipped.to_list(), group.acked_ahead.to_list()
    return [group.id, group.cursor, group.last_delivered, group.dropped, group.uncertain_to, skipped, ahead, members]


def _pending(group: Group) -> list[list[object]]:
    """Return every pending message with its delivery, however batches hold it."""
    return [
        [seq, batch.member, batch.deliver_count, batch.deadline_ms, batch.rest_ms, batch.claiming]
        for seq, batch in sorted(
            ((seq, batch) for batch in group.pending.batches() for seq in batch.seqs_of(batch.bits)),
            key=lambda each: each[0],
        )
    ]


def require_tidy(peer: Peer, *, running: bool = False) -> None:
    """Require that a directory is sound, and that it holds no file that nothing names.

    Of a node that runs the next checkpoint deletes the shared block files that nothing uses any more.
    """
    report = peer.disk.copy().drive(verify(Restoring(peer.config.limits), peer.config.limits))
    findings = [each for each in report.findings if not (running and each.harmless and each.path.startswith("tails/"))]
    assert not findings, findings
    named = {MANIFEST, RESERVE}
    files = [path for path in peer.disk.names if path not in named and not path.startswith(JOURNAL)]
    assert all(path.partition("/")[0] in ("blocks", "tails", "checkpoints", "memory") for path in files)

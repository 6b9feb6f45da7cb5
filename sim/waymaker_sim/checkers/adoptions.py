"""Adoptions: streams of one moment are transferred to the disk of an earlier moment, and must be the same there.

Two crashes of one world leave two images of one directory. The earlier one is a replica that lags: it gets every stream that
went on since. What it adopted is compared with the donor's, at once and after a loss of power. The world itself goes on
untouched.
"""

from __future__ import annotations

from copy import deepcopy

from waymaker_core.api.effects import SnapshotPiece, TransferEnded
from waymaker_core.api.inputs import NextPiece, PieceArrived, ReceiveSnapshot, SendSnapshot, StepDown
from waymaker_core.consumer.snapshot import decode
from waymaker_core.model.types import Now, StreamId
from waymaker_core.node import NodeConfig
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.storage.disk_steps import drive
from waymaker_core.storage.recovery.verify import verify
from waymaker_core.stream.snapshot import encode_snapshot
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.disk import SimDisk
from waymaker_sim.machine.instant import InstantNode

BLOCKS = 9
"""Place of the blocks in a snapshot."""
LOOKS_MAX = 4
"""Images of one world that are looked at: each costs two starts and all that its streams hold."""


class Adoptions:
    """The images of one world's crashes."""

    def __init__(self, config: NodeConfig, track: Track) -> None:
        self._config = config
        self._track = track
        self._earlier: SimDisk | None = None
        self._looks = 0
        self.adopted = 0

    def look(self, disk: SimDisk, now: Now) -> None:
        """Transfer what has gone on since the last image. `disk` is a copy, and is kept."""
        earlier, self._earlier = self._earlier, disk.copy(self._track)
        self._looks += 1
        if earlier is None or self._looks > LOOKS_MAX:
            return
        donor, receiver = InstantNode(self._config, disk, now), InstantNode(self._config, earlier, now)
        donor.settle([])  # what copies from another stream goes on until it has all
        ids = [stream_id for stream_id in _positions(donor) if _lags(stream_id, donor, receiver)]
        expected = {stream_id: _state(donor, stream_id) for stream_id in ids}
        consumers = {stream_id: _consumers(donor, stream_id) for stream_id in ids}
        # All at once, for a stream that copies would go on during the transfers of others.
        if ids:
            receiver.settle([StepDown(stream_id) for stream_id in ids])
        for stream_id in ids:
            self._transfer(stream_id, donor, receiver)
            found = _state(receiver, stream_id), _consumers(receiver, stream_id)
            require(found == (expected[stream_id], consumers[stream_id]), "adopted equal", f"stream {stream_id}")
        earlier.lose_power(self._track)
        started = InstantNode(self._config, earlier, now)
        for stream_id in ids:
            damage = started.replica(stream_id).damage
            require(damage is None, "adopted equal", f"stream {stream_id} after a loss of power: {damage}")
            same = _state(started, stream_id) == expected[stream_id]
            require(same, "adopted equal", f"stream {stream_id} after a loss of power")
        target = Restoring(self._config.limits)
        report = drive(verify(target, self._config.limits), earlier.perform)
        require(not report.has_damage, "adopted equal", f"{report.findings}")
        self.adopted += len(ids)

    def _transfer(self, stream_id: StreamId, donor: InstantNode, receiver: InstantNode) -> None:
        receiver.settle([ReceiveSnapshot(stream_id, stream_id)])
        donor.settle([SendSnapshot(stream_id, stream_id)])
        while not _ended(donor):
            donor.settle([NextPiece(stream_id)])
            for effect in donor.transferred:
                if isinstance(effect, SnapshotPiece):
                    receiver.settle([PieceArrived(stream_id, effect.data)])
            donor.transferred = [effect for effect in donor.transferred if isinstance(effect, TransferEnded)]
        problems = [effect.problem for effect in (*_ended(donor), *_ended(receiver))]
        require(problems == ["", ""], "adopted equal", f"the transfer of stream {stream_id} ended with {problems}")
        donor.transferred, receiver.transferred = [], []


def _ended(node: InstantNode) -> list[TransferEnded]:
    return [effect for effect in node.transferred if isinstance(effect, TransferEnded)]


def _positions(node: InstantNode) -> dict[StreamId, int]:
    """Return the positions of the streams that can be transferred."""
    return {StreamId(each.stream_id): each.applied for each in node.node.log_figures() if each.name}


def _lags(stream_id: StreamId, donor: InstantNode, receiver: InstantNode) -> bool:
    """Return True if a stream is on both, and has gone on since on the donor."""
    behind = _positions(receiver).get(stream_id)
    if behind is None or behind >= _positions(donor)[stream_id]:
        return False
    replicas = donor.replica(stream_id), receiver.replica(stream_id)
    return not any(each.damage or each.importing or each.stream.config.ephemeral for each in replicas)


def _state(node: InstantNode, stream_id: StreamId) -> object:
    """Return what a stream's snapshot says, but for where its bytes lie."""
    stream = node.replica(stream_id).stream
    snapshot = encode_snapshot(stream)
    assert isinstance(snapshot, list)
    blocks = [[block.number, block.first, block.size, block.alive, block.bytes, block.dead, block.time_min, block.time_max]
              for block in stream.blocks.values()]  # fmt: skip
    # A copy: the donor goes on, and its snapshot shares what it changes in place.
    return deepcopy(([each for place, each in enumerate(snapshot) if place != BLOCKS], blocks))


def _consumers(node: InstantNode, stream_id: StreamId) -> object:
    """Return the consumers of a stream, and what is pending, however batches hold it."""
    groups, next_id = decode(node.replica(stream_id).consumers.snapshot(node.now))
    return next_id, [
        [group.id, group.cursor, group.last_delivered, group.dropped, list(group.members), group.skipped.to_list(),
         group.acked_ahead.to_list(), sorted(seq for batch in group.pending.batches() for seq in batch.seqs_of(batch.bits))]
        for group in groups
    ]  # fmt: skip

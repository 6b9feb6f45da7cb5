"""Adoption: a snapshot that was received takes the place of a stream's log and state, in one durable act.

The act is one frame of the journal, `ADOPT`. When it is durable the replica is another object, whose log continues behind the
snapshot; before, the old one holds. The old one's files go, for a restart never reads them. The snapshot's file is named by the
frame until a checkpoint holds a newer snapshot of the stream.

A replica adopts only what it does not lead, and only a position behind the end of its own log. So no frame before the act is
at a later position, and a snapshot in a checkpoint is newer than the act exactly if its position is not smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from waymaker_core.model.types import StreamId
from waymaker_core.node.apply import Applier
from waymaker_core.node.checkpoint.shared_block_files import SharedBlockFiles
from waymaker_core.node.checkpoint.snapshots import decode_stream, make_from_snapshot
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.node.transfer.receiving import Received
from waymaker_core.storage.errors import CorruptRecord, JournalFull
from waymaker_core.storage.frame import ADOPT
from waymaker_core.storage.journal.adoption_frame import encode_adoption
from waymaker_core.storage.paths import checkpoint_path
from waymaker_core.storage.recovery.replay import NONSENSE

Adopted = Callable[[int, str], None]
"""Takes the position of the snapshot that is in force, or why there is none."""


class Adoption:
    """Puts received snapshots into force."""

    def __init__(
        self, state: NodeState, group_commit: GroupCommit, applier: Applier, shared_files: SharedBlockFiles
    ) -> None:
        self._state = state
        self._group_commit = group_commit
        self._applier = applier
        self._shared_files = shared_files
        self._adopting: dict[StreamId, None] = {}
        """Streams whose frame is being written."""

    def why_unfit(self, replica: StreamReplica) -> str:
        """Return why a stream is never transferred, or an empty text."""
        return "an ephemeral stream has no files" if replica.stream.config.ephemeral else ""

    def why_not(self, stream_id: StreamId, position: int | None) -> str:
        """Return why a stream cannot adopt a snapshot, of a position if it is known; or an empty text."""
        replica = self._state.replicas.get(stream_id)
        if replica is None:
            return "no such stream here"
        problem = self.why_unfit(replica)
        if problem:
            return problem
        if replica.leads and replica.damage is None:
            return "this node leads the stream"
        if stream_id in self._adopting:
            return "another snapshot is being adopted"
        log = replica.log
        if position is not None and position <= log.end:
            return f"its log here goes to {log.end}, and the snapshot to {position}"
        if position is not None and log.carrying:
            return "a checkpoint writes records of the stream"
        return ""

    def put_in_force(self, stream_id: StreamId, received: Received, done: Adopted) -> str:
        """Adopt a snapshot; `done` is called when it is in force. Return why not, or an empty text."""
        problem = self.why_not(stream_id, received.position)
        if problem:
            return problem
        before = self._state.replicas[stream_id]
        try:
            replica = self._make(before, received)
        except NONSENSE as error:
            return f"the snapshot makes no sense: {error}"
        # A restart that does not know that the stream's creation is committed could not adopt anything for it.
        if not self._group_commit.place_commits():
            return "the journal has no free space"
        try:
            self._group_commit.journal.append_fact(ADOPT, encode_adoption(received.file), stream_id, received.position)
        except JournalFull:
            return "the journal has no free space"
        self._adopting[stream_id] = None
        before.log.abandoned = True
        # Its records that are not applied are older than the snapshot: those that were committed are part of it.
        self._group_commit.void_above(before.log, before.log.applied)
        self._group_commit.call_when_durable(partial(self._in_force, before, replica, received, done))
        return ""

    def _make(self, before: StreamReplica, received: Received) -> StreamReplica:
        state = self._state
        replica = make_from_snapshot(
            decode_stream(received.meta), before.entry, state.limits, state.config.layers, state.catalog.next_id
        )
        if (replica.stream.id, replica.stream.position) != (before.id, received.position):
            raise CorruptRecord(f"it is one of stream {replica.stream.id} at position {replica.stream.position}")
        return replica

    def _in_force(self, before: StreamReplica, replica: StreamReplica, received: Received, done: Adopted) -> None:
        """Let the new replica take the old one's place, now that a restart would find it too."""
        del self._adopting[replica.id]
        path = checkpoint_path(received.file.number)
        if self._state.replicas.get(replica.id) is before:
            replica.leading.over = True
            self._applier.replace(before, replica, path)
            if received.shared_file is not None:
                self._shared_files.created(*received.shared_file)
            self._shared_files.note(replica)
            self._state.log("info", "snapshot_adopted", stream=replica.name, position=received.position)
            done(received.position, "")
        else:
            self._applier.drop_received(replica, path)
            done(0, "the stream was deleted meanwhile")

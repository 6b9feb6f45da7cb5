"""Finding streams by their names and ids, for calls.

It must never change a stream: records do that, in `apply`.
"""

from __future__ import annotations

from waymaker_core.model.result_codes import NO_SUCH_STREAM, CodeError, RefusedError
from waymaker_core.model.types import Principal, StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.archive import Head


class StreamRegistry:
    """Every stream of this node, as calls may find it."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self.import_heads: dict[int, Head] = {}
        """Of streams being restored: what their archives hold besides the messages."""

    def find_replica(self, principal: Principal, name: str) -> StreamReplica:
        """Return the committed stream of a name. CodeError (`no_such_stream`); refused in quarantine."""
        entry = self._state.catalog.find(principal.account, name)
        if entry is None or entry.importing:
            raise no_such_stream(name)
        replica = self._state.replicas[entry.stream_id]
        if replica.damage is not None:
            raise RefusedError(replica.damage.refusal(replica.name))
        return replica

    def find_for_change(self, principal: Principal, name: str) -> StreamReplica:
        """Return the stream of a name, unless its deletion is decided."""
        replica = self.find_replica(principal, name)
        if self._state.catalog.is_deletion_staged(replica.entry):
            raise no_such_stream(name)
        return replica

    def find_for_deletion(self, principal: Principal, name: str) -> StreamReplica:
        """Return the stream of a name, even in quarantine, unless its deletion is decided."""
        entry = self._state.catalog.find(principal.account, name)
        if entry is None or entry.importing or self._state.catalog.is_deletion_staged(entry):
            raise no_such_stream(name)
        return self._state.replicas[entry.stream_id]

    def find_import(self, stream_id: int) -> StreamReplica:
        """Return a stream that is being restored, by the id that `ImportBegin` answered."""
        replica = self._state.replicas.get(StreamId(stream_id))
        if replica is None or not replica.entry.importing or self._state.catalog.is_deletion_staged(replica.entry):
            raise CodeError(NO_SUCH_STREAM, f"no stream with id {stream_id} is being restored here")
        return replica


def no_such_stream(name: str) -> CodeError:
    """Return the error for a name without a stream."""
    return CodeError(NO_SUCH_STREAM, f"no stream is called {name[:300]!r}")

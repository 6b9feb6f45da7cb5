"""Finding streams by their names and ids, for calls, and checking that a call may have what was found.

It must never change a stream: records do that, in `apply`.
"""

from __future__ import annotations

from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import ImportBatch, ImportEnd
from waymaker_core.model.result_codes import NO_SUCH_STREAM, CodeError, RefusedError
from waymaker_core.model.types import StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.stream_replica import NOT_LEADING, StreamReplica
from waymaker_core.storage.archive import Head


class StreamRegistry:
    """Every stream of this node, as calls may find it."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self.import_heads: dict[int, Head] = {}
        """Of streams being restored: what their archives hold besides the messages."""

    def find_replica(self, call: Call, name: str) -> StreamReplica | None:
        """Return the stream that a call means now by name or id, whatever its state."""
        request, state = call.request, self._state
        if isinstance(request, ImportBatch | ImportEnd):
            return state.replicas.get(StreamId(request.stream_id))
        entry = state.catalog.find(call.principal.account, name)
        return None if entry is None else state.replicas[entry.stream_id]

    # ------------------------------------------------------------------ checks on what was found

    def require_served(self, found: StreamReplica | None, name: str) -> StreamReplica:
        """Return the committed stream that was found. CodeError (`no_such_stream`); refused in quarantine."""
        if found is None or found.importing:
            raise no_such_stream(name)
        if found.damage is not None:
            raise RefusedError(found.damage.refusal(found.name))
        return found

    def require_changeable(self, found: StreamReplica | None, name: str) -> StreamReplica:
        """Return the stream that was found, unless its deletion is decided."""
        replica = self.require_served(found, name)
        self._require_no_end(replica, name)
        return replica

    def require_deletable(self, found: StreamReplica | None, name: str) -> StreamReplica:
        """Return the stream that was found, even in quarantine, unless its deletion is decided."""
        if found is None or found.importing:
            raise no_such_stream(name)
        self._require_no_end(found, name)
        return found

    def _require_no_end(self, replica: StreamReplica, name: str) -> None:
        catalog = self._state.catalog
        if catalog.is_deletion_staged(replica.entry):
            if catalog.projected_id(*replica.entry.key()) in self._state.emptied:
                # One record ends it and begins it anew: at no moment is there no stream of this name.
                raise RefusedError(NOT_LEADING)
            raise no_such_stream(name)

    def require_importing(self, found: StreamReplica | None, stream_id: int) -> StreamReplica:
        """Return the stream that was found by the id that `ImportBegin` answered, unless the end of its restore is decided."""
        if (
            found is None
            or not found.importing
            or found.id not in self.import_heads  # it began before a restart
            or found.stream.overlay.import_ended
            or self._state.catalog.is_deletion_staged(found.entry)
        ):
            raise CodeError(NO_SUCH_STREAM, f"no stream with id {stream_id} is being restored here")
        return found


def no_such_stream(name: str) -> CodeError:
    """Return the error for a name without a stream."""
    return CodeError(NO_SUCH_STREAM, f"no stream is called {name[:300]!r}")

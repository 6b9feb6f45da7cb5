"""Calls about objects: uploads and readings, which last until their token ends, deletions and lists.

What a token has begun is closed when it ends (`close`), wherever its stream is by then.
"""

from __future__ import annotations

from waymaker_core.api.inputs import Call
from waymaker_core.api.object_requests import (
    BeginUpload,
    DeleteObject,
    FindObject,
    FinishUpload,
    HoldBucket,
    ListObjectRevisions,
    ListObjects,
    OpenObject,
    ReadChunks,
    UploadChunks,
)
from waymaker_core.layers.layer import OBJECTS
from waymaker_core.model.result_codes import NO_SUCH_BUCKET, NO_SUCH_STREAM, OK, Answer, CodeError, invalid
from waymaker_core.model.types import CATALOG, StreamId, Token
from waymaker_core.node.context import NodeState, remember
from waymaker_core.node.gate import Gate
from waymaker_core.node.handlers.checks import page_limit, require_whole
from waymaker_core.node.handlers.committing import Committing
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.objects import decisions
from waymaker_core.objects.layer import ObjectLayer
from waymaker_core.objects.names import STREAM_PREFIX

REVISIONS_DEFAULT = 100
RECORD_BYTES = 8 * 1024
"""The most that the record of a revision takes beside the map of its chunks: names, numbers, deletions."""


class Objects:
    """Handlers of the calls about objects."""

    def __init__(self, state: NodeState, gate: Gate, committing: Committing, registry: StreamRegistry) -> None:
        self._state = state
        self._gate = gate
        self._committing = committing
        self._registry = registry
        self._open: dict[Token, StreamId] = {}
        """The bucket of each upload, reading and hold whose token has not ended."""
        self._over: dict[Token, StreamId] = {}
        """The latest tokens that ended with nothing open: their call may still wait, and must open nothing."""

    def __len__(self) -> int:
        return len(self._open)

    def close(self, token: Token) -> None:
        """End what the call with this token began."""
        stream_id = self._open.pop(token, None)
        if stream_id is None:
            remember(self._over, token, CATALOG)
            return
        replica = self._state.replicas.get(stream_id)
        if replica is not None:
            _layer_of(replica).close(token)
            self._state.mark_dirty(replica)

    def _opened(self, token: Token, replica: StreamReplica) -> None:
        """Note what a token has begun; it is closed at once where the token ended while its call waited."""
        self._open[token] = replica.id
        if self._over.pop(token, None) is not None:
            self.close(token)

    # ------------------------------------------------------------------ uploads

    def begin_upload(self, call: Call, found: StreamReplica | None) -> None:
        """Begin a `BeginUpload`."""
        request = call.request
        assert isinstance(request, BeginUpload)
        replica = self._changeable(found, request.stream)
        limits = self._state.limits
        decisions.begin_upload(_layer_of(replica), call.token, request.name, shared=request.dedupe, limits=limits)
        self._opened(call.token, replica)
        self._gate.answer_read(call.token, replica.log, Answer(OK))

    def chunks(self, call: Call, found: StreamReplica | None) -> None:
        """Decide an `UploadChunks`."""
        request = call.request
        assert isinstance(request, UploadChunks)
        replica = self._changeable(found, request.stream)
        bound = self._committing.admit(replica, len(request.bodies), sum(map(len, request.bodies)))
        decision = decisions.decide_chunks(replica.stream, _layer_of(replica), request, self._state.now)
        stored = len(decision.parts)
        self._state.stats.object_chunks_stored += stored
        self._state.stats.object_chunks_shared += len(request.bodies) - stored
        self._committing.commit_layer(call.token, replica, decision, bound)

    def finish(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `FinishUpload`."""
        request = call.request
        assert isinstance(request, FinishUpload)
        replica = self._changeable(found, request.stream)
        layer = _layer_of(replica)
        upload = layer.uploads.get(request.upload)
        more = RECORD_BYTES + (upload.chunks.encoded_bytes if upload is not None else 0)
        bound = self._committing.admit(replica, 1, len(request.headers) + more, more) - more
        decision = decisions.decide_finish(replica.stream, layer, request, self._state.now)
        self._state.stats.objects_stored += 1
        self._committing.commit_layer(call.token, replica, decision, bound)

    def delete_object(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `DeleteObject`."""
        request = call.request
        assert isinstance(request, DeleteObject)
        replica = self._changeable(found, request.stream)
        bound = self._committing.admit(replica, 1, RECORD_BYTES, RECORD_BYTES, ordinary=False) - RECORD_BYTES
        decision = decisions.decide_delete(replica.stream, _layer_of(replica), request.name, self._state.now)
        self._committing.commit_layer(call.token, replica, decision, bound)

    # ------------------------------------------------------------------ readings

    def open(self, call: Call, found: StreamReplica | None) -> None:
        """Begin an `OpenObject`."""
        request = call.request
        assert isinstance(request, OpenObject)
        replica = self._served(found, request.stream)
        messages = decisions.open_object(replica.stream, _layer_of(replica), call.token, request.name, request.revision)
        self._opened(call.token, replica)
        self._gate.reply_messages(call.token, replica, messages)

    def read(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `ReadChunks`."""
        request = call.request
        assert isinstance(request, ReadChunks)
        replica = self._served(found, request.stream)
        messages = decisions.read_chunks(replica.stream, _layer_of(replica), request.reading, request.ranges)
        self._gate.reply_messages(call.token, replica, messages)

    def find_object(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `FindObject`."""
        request = call.request
        assert isinstance(request, FindObject)
        replica = self._served(found, request.stream)
        messages = decisions.find_object(replica.stream, _layer_of(replica), request.name)
        if messages is None:
            self._gate.reply(call.token, Answer(OK))
        else:
            self._gate.reply_messages(call.token, replica, messages)

    def list_objects(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `ListObjects`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ListObjects)
        replica = self._served(found, request.stream)
        page_limit(request.limit, limits.page_entries_max)
        page = decisions.list_objects(_layer_of(replica), request, limits)
        require_whole(request.limit, page.next_after)
        self._gate.reply(call.token, Answer(OK, "", page))

    def revisions(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `ListObjectRevisions`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ListObjectRevisions)
        replica = self._served(found, request.stream)
        if not 0 <= request.limit <= limits.page_entries_max:
            raise invalid(f"limit = {request.limit}; at most {limits.page_entries_max} revisions are given at once")
        limit = request.limit or REVISIONS_DEFAULT
        messages = decisions.list_revisions(replica.stream, request.name, request.from_seq, limit)
        self._gate.reply_messages(call.token, replica, messages)

    def hold(self, call: Call, found: StreamReplica | None) -> None:
        """Begin a `HoldBucket`."""
        request = call.request
        assert isinstance(request, HoldBucket)
        replica = self._served(found, request.stream)
        _layer_of(replica).hold(call.token)
        self._opened(call.token, replica)
        self._gate.answer_read(call.token, replica.log, Answer(OK))

    # ------------------------------------------------------------------ the bucket

    def _served(self, found: StreamReplica | None, stream: str) -> StreamReplica:
        try:
            return self._registry.require_served(found, stream)
        except CodeError as error:
            raise _no_such_bucket(error, stream) from None

    def _changeable(self, found: StreamReplica | None, stream: str) -> StreamReplica:
        try:
            return self._registry.require_changeable(found, stream)
        except CodeError as error:
            raise _no_such_bucket(error, stream) from None


def _no_such_bucket(error: CodeError, stream: str) -> CodeError:
    if error.code != NO_SUCH_STREAM:
        return error
    bucket = stream.removeprefix(STREAM_PREFIX)
    return CodeError(NO_SUCH_BUCKET, f"there is no bucket {bucket[:300]!r}; create the stream {stream[:300]!r} first")


def _layer_of(replica: StreamReplica) -> ObjectLayer:
    layer = replica.layers.by_kind.get(OBJECTS)
    if not isinstance(layer, ObjectLayer):
        raise CodeError(NO_SUCH_BUCKET, f"the stream {replica.name!r} is not a bucket of objects")
    return layer

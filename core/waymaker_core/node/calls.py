"""Calls: the authorize hook admits them, a handler decides them, and what the handler raises becomes an answer.

A handler that cannot decide yet changes nothing and raises: `NeedBlocks` where an index must be read first, `RetryLater`
where a commit or a spare journal segment must come first. The call is then parked and tried again. Changes
that must keep their order (publishes of one stream above all) wait in their stream's queue, behind one another. Every other
call waits by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from waymaker_core.api.authority_requests import ClearStreamAuthority, GetClusterStats, ListOverrides, SetStreamPinned
from waymaker_core.api.authorize import ACTIONS, stream_of
from waymaker_core.api.cluster_requests import ClaimStream, ClaimStreams, ClusterRequest, OpenAuthorities, OpenAuthority
from waymaker_core.api.collection_requests import COLLECTION_CHANGES, COLLECTION_READS
from waymaker_core.api.inputs import Call
from waymaker_core.api.kv_requests import (
    KV_READS,
    KvCreateBucket,
    KvDeleteBucket,
    KvWatch,
    KvWrite,
)
from waymaker_core.api.object_requests import (
    DeleteObject,
    FindObject,
    FinishUpload,
    ListObjectRevisions,
    ListObjects,
    OpenObject,
    ReadChunks,
    UploadChunks,
)
from waymaker_core.api.requests import (
    Ack,
    CreateConsumer,
    CreateStream,
    DeleteConsumer,
    DeleteStream,
    ExportStream,
    GetConsumerInfo,
    GetStreamInfo,
    GetStreamSources,
    ImportBatch,
    ImportBegin,
    ImportEnd,
    ListConsumers,
    ListStreams,
    ListSubjects,
    Publish,
    ReadLatest,
    ReadRange,
    ScanSubject,
    Subscribe,
    UpdateStream,
    WatchStreams,
)
from waymaker_core.api.sketch_requests import SKETCH_CHANGES, SKETCH_READS
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.result_codes import (
    NO_SUCH_BUCKET,
    NO_SUCH_STREAM,
    Answer,
    CodeError,
    Outcome,
    Refusal,
    RefusedError,
    Status,
)
from waymaker_core.model.types import CATALOG
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate, nothing
from waymaker_core.node.handlers.free_space import require_room_in_log
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.parking import Parking, RetryLater
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import NOT_LEADING, Leading, StreamReplica
from waymaker_core.stream import NeedBlocks

Handler = Callable[[Call, StreamReplica | None], None]
"""A function that decides a call about the stream that was found for it, if there is one."""

ORDERED = (
    Publish, ImportBatch, ImportEnd, UpdateStream, UploadChunks, FinishUpload, DeleteObject, *COLLECTION_CHANGES,
    *SKETCH_CHANGES, KvWrite,
)  # fmt: skip
"""Changes of one stream that are decided in the order in which they came."""

CHANGES = (
    *ORDERED,
    Ack,
    CreateStream,
    DeleteStream,
    CreateConsumer,
    DeleteConsumer,
    ImportBegin,
    KvCreateBucket,
    KvDeleteBucket,
    ClaimStream,
    ClaimStreams,
    OpenAuthority,
    OpenAuthorities,
    SetStreamPinned,
    ClearStreamAuthority,
)
"""Calls whose failure may depend on what is decided and not committed."""

OF_WISHES = (SetStreamPinned, ClearStreamAuthority)
"""Wishes about a stream, which are records of the catalog: another node may lead the stream."""

ABOUT_EXISTENCE = (DeleteStream, KvDeleteBucket, *OF_WISHES)
"""Those of them that are about a stream which is there already."""

OF_CATALOG = (
    CreateStream, DeleteStream, KvCreateBucket, KvDeleteBucket, ImportBegin, ClaimStream, ClaimStreams, OpenAuthority,
    OpenAuthorities, *OF_WISHES,
)  # fmt: skip
"""Changes that are records of the catalog."""

OF_THIS_NODE = (ListOverrides, GetClusterStats, WatchStreams)
"""Calls that mean what the member that is asked has applied: each member answers them itself."""

READS = (
    ReadLatest, ListSubjects, ScanSubject, ReadRange, GetStreamInfo, ListStreams, GetStreamSources, ExportStream, OpenObject,
    ReadChunks, FindObject, ListObjects, ListObjectRevisions, *COLLECTION_READS, *SKETCH_READS, *KV_READS,
)  # fmt: skip
"""Calls that change nothing, and are answered from applied state."""

CROWDED: Final = Refusal(
    Status.RESOURCE_EXHAUSTED, "too many answers wait for majorities of replicas; try again later", Outcome.NOT_APPLIED
)

LOGGED = (*CHANGES, GetConsumerInfo, ListConsumers)
"""Calls that may add to a log: a figure that a client sees is logged first."""


class Calls:
    """Every call on its way from admission to its answer."""

    def __init__(
        self,
        state: NodeState,
        gate: Gate,
        indexes: Indexes,
        parking: Parking,
        quarantine: Quarantine,
        registry: StreamRegistry,
        handlers: dict[type, Handler],
    ) -> None:
        self._state = state
        self._gate = gate
        self._indexes = indexes
        self._parking = parking
        self._quarantine = quarantine
        self._registry = registry
        self._handlers = handlers

    # ------------------------------------------------------------------ coming in

    def admit(self, call: Call) -> None:
        """Admit or refuse a client's call, and attempt it."""
        self._state.stats.calls += 1
        self._admit(call)

    def admit_own(self, call: Call) -> None:
        """Admit a call that the node itself makes; its token is one of `Gate.draw_own`."""
        self._admit(call)

    def _admit(self, call: Call) -> None:
        state, request, name = self._state, call.request, stream_of(call.request)
        refusal = state.config.authorize(call.principal, ACTIONS[type(request)], name)
        if refusal is None and state.stats.draining:
            refusal = Refusal(Status.UNAVAILABLE, "the server is shutting down", Outcome.NOT_APPLIED)
        if refusal is None and self._gate.is_crowded and not isinstance(request, ClusterRequest):
            refusal = CROWDED
        if refusal is not None:
            self._parking.refuse(call, refusal)
        elif isinstance(request, READS) and self._gate.replicated:
            self._read_when_confirmed(call, self._registry.find_replica(call, name))
        elif isinstance(request, ORDERED):
            self._attempt_in_order(call, self._registry.find_replica(call, name))
        else:
            self._attempt(call, self._registry.find_replica(call, name))

    def _read_when_confirmed(self, call: Call, replica: StreamReplica | None) -> None:
        """Read when it is confirmed that this node leads: the answer then holds all that was confirmed before the call."""
        state = self._state
        if state.config.member and not (state.catalog_leads if replica is None else replica.leads):
            self._parking.refuse(call, NOT_LEADING)  # no majority will confirm it
            return
        if replica is None:
            log, read = self._state.catalog_log, partial(self._read_unless_found, call)
        else:
            log, read = replica.log, partial(self._attempt, call, replica)
        self._gate.when_confirmed(log, call.token, read, nothing, partial(self._read_elsewhere, call))

    def _read_unless_found(self, call: Call) -> None:
        """Read without a stream, unless the catalog has learnt of it meanwhile: a start may know less than was confirmed."""
        replica = self._registry.find_replica(call, stream_of(call.request))
        if replica is None:
            self._attempt(call, None)
        else:
            self._read_when_confirmed(call, replica)

    def _read_elsewhere(self, call: Call, _refusal: Refusal) -> None:
        """Admit a read anew whose stream was deleted: by now its name may mean another one."""
        self._admit(call)

    def log_of(self, call: Call) -> int:
        """Return the id of the log whose leader answers a call, in a cluster."""
        replica = self._registry.find_replica(call, stream_of(call.request))
        return CATALOG if replica is None or self._is_of_catalog(call) else replica.id

    # ------------------------------------------------------------------ attempts

    def _attempt(self, call: Call, replica: StreamReplica | None) -> None:
        """Try a call at once, and again when the indexes that it needs are resident."""
        if replica is None:
            self._attempt_now(call, None)
        else:
            attempt, lost = partial(self._attempt_now, call, replica.leading), partial(self._unreadable, call, replica)
            self._indexes.when_resident(replica, attempt, lost)

    def attempt_again(self, call: Call) -> None:
        """Try a call anew that waited for a commit: by now its name may mean another stream."""
        self._attempt(call, self._registry.find_replica(call, stream_of(call.request)))

    def _attempt_now(self, call: Call, leading: Leading | None) -> None:
        replica = None if leading is None else leading.replica
        if leading is not None and leading.over:
            # It was deleted while the call waited for an index: by now its name may mean another stream.
            replica = self._registry.find_replica(call, stream_of(call.request))
        if not self._handled(call, replica):
            self._parking.add_later(call)

    def _attempt_in_order(self, call: Call, replica: StreamReplica | None) -> None:
        """Try a change, unless others of its stream wait: it must not overtake them."""
        if replica is None:
            self._handle(call, None)
        elif not replica.leading.queue:
            replica.leading.queue.append(call)
            self._attempt_queue(replica.leading)
        elif self._parking.park(call, again=False):
            replica.leading.queue.append(call)

    def _attempt_queue(self, leading: Leading) -> None:
        """Try the calls of a queue from its head on, and go on when the indexes that the head needs are resident."""
        attempt, lost = partial(self._attempt_queue_now, leading), partial(self._head_unreadable, leading)
        self._indexes.when_resident(leading.replica, attempt, lost)

    def _attempt_queue_now(self, leading: Leading) -> None:
        queue = leading.queue
        while queue:
            if not self._handled(queue[0], leading.replica):
                self._parking.add_queue(leading)
                return
            queue.popleft()

    def _handled(self, call: Call, replica: StreamReplica | None) -> bool:
        """Let a call's handler decide it; return False if it must be tried again later.

        While its handler runs a call has no place among those that wait: its own bytes must not count against it.
        `NeedBlocks` passes through when the call has its place again. A call that gets no place is refused.
        """
        again = self._parking.unpark(call)
        try:
            self._handle(call, replica)
        except NeedBlocks:
            if self._parking.park(call, again=again):
                raise
        except RetryLater:
            return not self._parking.park(call, again=again)
        return True

    def retry_parked(self) -> None:
        """Try the calls again that wait for free space, in the order in which they came."""
        for leading in self._parking.take_queues():
            self._attempt_queue(leading)
        for call in self._parking.take_later():
            self._parking.unpark(call)
            self._attempt(call, self._registry.find_replica(call, stream_of(call.request)))

    def readmit_queue(self, replica: StreamReplica) -> None:
        """Admit the calls in the queue of a deleted stream anew: by now its name may mean another stream."""
        for call in self._parking.take_queue(replica):
            self._admit(call)

    # ------------------------------------------------------------------ answering

    def _handle(self, call: Call, replica: StreamReplica | None) -> None:
        """Run a call's handler, and turn what it raises into an answer."""
        try:
            if not self._state.catalog_leads and self._needs_catalog(call, replica):
                raise RefusedError(NOT_LEADING)
            of_catalog = self._is_of_catalog(call)
            if replica is not None and not replica.leads and not of_catalog:
                raise RefusedError(NOT_LEADING)
            if isinstance(call.request, LOGGED):
                # Also a call that will fail: its answer would wait as well. Deletions are records of the catalog.
                log = self._state.catalog_log if replica is None or of_catalog else replica.log
                require_room_in_log(self._state, log)
            self._handlers[type(call.request)](call, replica)
        except CodeError as error:
            self._answer_code(call, replica, error)
        except RefusedError as refused:
            self._parking.refuse(call, refused.refusal)

    def _needs_catalog(self, call: Call, replica: StreamReplica | None) -> bool:
        """Return True for a call that only the node which leads the catalog answers.

        In a cluster another node may lead the catalog: a call to a stream that is led here does not need it. Elsewhere the node
        answers no call before it leads the catalog.
        """
        if self._state.config.member and isinstance(call.request, OF_THIS_NODE):
            return False
        return not self._state.config.member or replica is None or self._is_of_catalog(call)

    def _is_of_catalog(self, call: Call) -> bool:
        """Return True for a change that is a record of the catalog: the stream of that name need not be led here."""
        return isinstance(call.request, ABOUT_EXISTENCE) or self._rests_on_catalog(call)

    def _rests_on_catalog(self, call: Call) -> bool:
        """Return True in a cluster for a change whose answer the log of no stream has: another node may lead the stream."""
        return self._state.config.member and isinstance(call.request, OF_CATALOG)

    def _answer_code(self, call: Call, replica: StreamReplica | None, error: CodeError) -> None:
        request, catalog = call.request, self._state.catalog_log
        answer = Answer(error.code, error.message)
        if isinstance(request, Subscribe | KvWatch):
            refusal = Refusal(Status.NOT_FOUND, error.message, Outcome.NOT_APPLIED, error.code)
            self._parking.refuse(call, refusal)
        elif not isinstance(request, CHANGES):
            self._gate.answer_read(call.token, catalog if replica is None else replica.log, answer)
        elif replica is None or error.code in (NO_SUCH_STREAM, NO_SUCH_BUCKET) or self._rests_on_catalog(call):
            self._gate.answer(call.token, answer, catalog.last)
        else:
            self._gate.answer(call.token, answer, replica.log.last)

    def _unreadable(self, call: Call, replica: StreamReplica, failure: DiskFailure) -> None:
        self._parking.unpark(call)
        self._parking.refuse(call, self._quarantine.found(replica, failure))

    def _head_unreadable(self, leading: Leading, failure: DiskFailure) -> None:
        refusal = self._quarantine.found(leading.replica, failure)
        if leading.queue:
            call = leading.queue.popleft()
            self._parking.unpark(call)
            self._parking.refuse(call, refusal)
            self._attempt_queue(leading)

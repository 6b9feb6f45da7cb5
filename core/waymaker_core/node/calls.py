"""Calls: admitted by the authorize hook, given to their handler, answered with what the handler says or raises.

A handler that cannot decide yet changes nothing and raises: `NeedBlocks` where an index must be read first, `RetryLater`
where a commit or a spare journal segment must come first. The call is then parked and handed to its handler again. Changes
that must keep their order (publishes of one stream above all) wait in their stream's queue, behind one another; everything
else waits for itself alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from waymaker_core.api.authorize import ACTIONS, stream_of
from waymaker_core.api.effects import End
from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import (
    Ack,
    CreateConsumer,
    CreateStream,
    DeleteConsumer,
    DeleteStream,
    ImportBatch,
    ImportBegin,
    ImportEnd,
    Publish,
    Subscribe,
    UpdateStream,
    WatchStreams,
)
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.result_codes import (
    OK,
    Answer,
    CodeError,
    Outcome,
    Refusal,
    RefusedError,
    Status,
    resource_exhausted,
)
from waymaker_core.model.types import StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.group_commit import Commits
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.stream import NeedBlocks

Handler = Callable[[Call], None]

ORDERED = (Publish, ImportBatch, ImportEnd, UpdateStream)
"""Changes of one stream that are decided in the order in which they came."""

CHANGES = (*ORDERED, Ack, CreateStream, DeleteStream, CreateConsumer, DeleteConsumer, ImportBegin)
"""Calls whose failure may rest on what is decided and not committed."""


class RetryLater(Exception):
    """Not now: ask again after the next commit, or when the journal has more room. Nothing was changed."""


class Calls:
    """The node's desk: every call comes in here, and leaves with an answer or a place to wait."""

    def __init__(self, state: NodeState, commits: Commits, indexes: Indexes, handlers: dict[type, Handler]) -> None:
        self._state = state
        self._commits = commits
        self._indexes = indexes
        self._handlers = handlers
        self._later: list[Call] = []
        self._queued: dict[StreamId, StreamReplica] = {}
        """Streams whose queue waits for room."""
        self.damaged: Callable[[StreamReplica, DiskFailure], None]
        """What to do about a stream whose data could not be read."""

    # ------------------------------------------------------------------ coming in

    def admit(self, call: Call) -> None:
        """A client asks."""
        state, request = self._state, call.request
        state.stats.calls += 1
        refusal = state.config.authorize(call.principal, ACTIONS[type(request)], stream_of(request))
        if refusal is None and state.stats.draining:
            refusal = Refusal(Status.UNAVAILABLE, "the server is shutting down", Outcome.NOT_APPLIED)
        if refusal is not None:
            self._refuse(call, refusal)
        elif isinstance(request, ORDERED):
            self._attempt_in_order(self._stream_of(call), call)
        else:
            self._attempt(call)

    def _may_park(self, call: Call) -> bool:
        state, size = self._state, parked_bytes(call)
        if state.stats.parked_calls >= state.limits.parked_calls_max or (
            state.stats.inflight_bytes + size > state.limits.inflight_bytes_max
        ):
            self._refuse(call, resource_exhausted("too many calls are waiting for the disk; try again later").refusal)
            return False
        self._park(call)
        return True

    def _park(self, call: Call) -> None:
        self._state.stats.parked_calls += 1
        self._state.stats.inflight_bytes += parked_bytes(call)

    def _unpark(self, call: Call) -> None:
        self._state.stats.parked_calls -= 1
        self._state.stats.inflight_bytes -= parked_bytes(call)

    # ------------------------------------------------------------------ asking

    def _attempt(self, call: Call) -> None:
        """Hand a call to its handler; park it where that must wait."""
        try:
            self._handle(call)
        except NeedBlocks as need:
            replica = self._stream_of(call)
            assert replica is not None
            if self._may_park(call):
                retry, lost = partial(self._reattempt, call), partial(self._unreadable, call, replica)
                self._indexes.load(replica, need.blocks, retry, lost)
        except RetryLater:
            if self._may_park(call):
                self._later.append(call)

    def _reattempt(self, call: Call) -> None:
        """A parked call's index is there. `NeedBlocks` passes through: it then waits for more."""
        self._unpark(call)
        try:
            self._handle(call)
        except NeedBlocks:
            self._park(call)
            raise
        except RetryLater:
            self._park(call)
            self._later.append(call)

    def _attempt_in_order(self, replica: StreamReplica | None, call: Call) -> None:
        """Hand over a change that must not overtake the ones of its stream that wait."""
        if replica is None:
            self._handle(call)
            return
        if replica.queue:
            if self._may_park(call):
                replica.queue.append(call)
            return
        try:
            self._handle(call)
        except NeedBlocks as need:
            if self._may_park(call):
                replica.queue.append(call)
                self._load_for_head(replica, need)
        except RetryLater:
            if self._may_park(call):
                replica.queue.append(call)
                self._queued[replica.id] = replica

    def _attempt_queue_head(self, replica: StreamReplica) -> None:
        """Hand over a queue from its head on, as far as it goes. `NeedBlocks` passes through."""
        queue = replica.queue
        while queue:
            call = queue[0]
            self._unpark(call)
            try:
                self._handle(call)
            except NeedBlocks:
                self._park(call)
                raise
            except RetryLater:
                self._park(call)
                self._queued[replica.id] = replica
                return
            queue.popleft()

    def _attempt_queue(self, replica: StreamReplica) -> None:
        try:
            self._attempt_queue_head(replica)
        except NeedBlocks as need:
            self._load_for_head(replica, need)

    def _load_for_head(self, replica: StreamReplica, need: NeedBlocks) -> None:
        ask, lost = partial(self._attempt_queue_head, replica), partial(self._head_unreadable, replica)
        self._indexes.load(replica, need.blocks, ask, lost)

    def retry_parked(self) -> None:
        """There may be room now: ask again for what waits for it, in the order in which it came."""
        if not self._queued and not self._later:
            return
        queued, self._queued = self._queued, {}
        for replica in queued.values():
            self._attempt_queue(replica)
        later, self._later = self._later, []
        for call in later:
            self._unpark(call)
            self._attempt(call)

    def readmit_queue(self, replica: StreamReplica) -> None:
        """A stream is gone or quarantined: whatever waits in its queue hears so."""
        self._queued.pop(replica.id, None)
        while replica.queue:
            call = replica.queue.popleft()
            self._unpark(call)
            if replica.damage is not None and self._state.replicas.get(replica.id) is replica:
                self._refuse(call, replica.damage.refusal(replica.name))
            else:
                self.admit(call)

    def refuse_waiting(self, refusal: Refusal) -> None:
        """Nothing that waits will be done: it was not begun."""
        for replica in list(self._queued.values()):
            while replica.queue:
                call = replica.queue.popleft()
                self._unpark(call)
                self._refuse(call, refusal)
        self._queued.clear()
        later, self._later = self._later, []
        for call in later:
            self._unpark(call)
            self._refuse(call, refusal)

    # ------------------------------------------------------------------ answering

    def _handle(self, call: Call) -> None:
        """The one place where what a handler raises becomes an answer."""
        try:
            self._handlers[type(call.request)](call)
        except CodeError as error:
            self._answer_code(call, error)
        except RefusedError as error:
            self._refuse(call, error.refusal)

    def _answer_code(self, call: Call, error: CodeError) -> None:
        request = call.request
        if isinstance(request, Subscribe):
            refusal = Refusal(Status.NOT_FOUND, error.message, Outcome.NOT_APPLIED, error.code)
            self._refuse(call, refusal)
        elif isinstance(request, CHANGES):
            self._commits.answer_with_last(call.token, Answer(error.code, error.message))
        else:
            self._state.reply(call.token, Answer(error.code, error.message))

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        if isinstance(call.request, Subscribe | WatchStreams):
            self._state.stats.calls_refused += 1
            self._state.effects.append(End(call.token, "", refusal))
        else:
            self._state.reply(call.token, refusal)

    def answer_last_naks(self, replica: StreamReplica, *, dropped_only: bool = False) -> None:
        """Answer naks that ended last attempts, with the commit of all that is decided so far.

        `dropped_only`: those whose messages are decided to be dropped, or gone otherwise. One that is answered earlier is
        durable all the same; its drop follows.
        """
        naks = replica.last_naks
        while naks:
            if dropped_only and replica.consumers.is_giving_up(naks[0].consumer_id, naks[0].seqs):
                return
            self._commits.answer_with_last(naks.popleft().token, Answer(OK))

    def _unreadable(self, call: Call, replica: StreamReplica, failure: DiskFailure) -> None:
        self._unpark(call)
        self._refuse(call, self.refusal_of_damage(replica, failure))

    def _head_unreadable(self, replica: StreamReplica, failure: DiskFailure) -> None:
        refusal = self.refusal_of_damage(replica, failure)
        if replica.queue:
            call = replica.queue.popleft()
            self._unpark(call)
            self._refuse(call, refusal)
            self._attempt_queue(replica)

    def refusal_of_damage(self, replica: StreamReplica, failure: DiskFailure) -> Refusal:
        """Data of a stream could not be read: the refusal that says so."""
        self.damaged(replica, failure)
        if replica.damage is not None:
            return replica.damage.refusal(replica.name)
        return Refusal(
            Status.DATA_LOSS,
            f"stream {replica.name!r}: {failure.path} could not be read at offset {failure.offset} ({failure.detail})",
            Outcome.NOT_APPLIED,
        )

    def _stream_of(self, call: Call) -> StreamReplica | None:
        """The stream a call means now, whatever its state."""
        request, state = call.request, self._state
        if isinstance(request, ImportBatch | ImportEnd):
            return state.replicas.get(StreamId(request.stream_id))
        entry = state.catalog.find(call.principal.account, stream_of(request))
        return None if entry is None else state.replicas[entry.stream_id]


def parked_bytes(call: Call) -> int:
    """Message bytes that a waiting call holds."""
    request = call.request
    return len(request.body) if isinstance(request, Publish | ImportBatch) else 0

"""Calls that wait for something else than an index, and answers that wait for a drop.

Changes of one stream wait in its queue and keep their order. A creation, an acknowledgement or a deletion waits by itself. A
nak that ended a last attempt is answered when its messages are dropped. How much may wait is bounded; beyond it a call is
refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from waymaker_core.api.collection_requests import PushValues, PutEntries
from waymaker_core.api.inputs import Call
from waymaker_core.api.kv_requests import KvWatch, KvWrite
from waymaker_core.api.object_requests import UploadChunks
from waymaker_core.api.requests import ImportBatch, Publish, Subscribe, WatchStreams
from waymaker_core.api.sketch_requests import AddToSketch, MergeIntoSketch
from waymaker_core.model.result_codes import OK, Answer, Refusal, resource_exhausted
from waymaker_core.model.types import StreamId, Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.stream_replica import Leading, StreamReplica


class RetryLater(Exception):
    """The call must wait for the next commit, or for more free space in the journal. Nothing was changed."""


class Parking:
    """The waiting calls and naks of a node."""

    def __init__(self, state: NodeState, gate: Gate) -> None:
        self._state = state
        self._gate = gate
        self._parked: dict[Token, None] = {}
        """Calls that have a place."""
        self._later: list[Call] = []
        self._queued: dict[StreamId, Leading] = {}
        """Streams whose queue waits for free space."""

    # ------------------------------------------------------------------ places

    def park(self, call: Call, *, again: bool) -> bool:
        """Give a call a place to wait; refuse it and return False if too much waits. One that waits `again` gets its place."""
        state, size = self._state, parked_bytes(call)
        if not again and (
            state.stats.parked_calls >= state.limits.parked_calls_max
            or state.stats.inflight_bytes + size > state.limits.inflight_bytes_max
        ):
            self.refuse(call, resource_exhausted("too many calls are waiting for the disk; try again later").refusal)
            return False
        self._parked[call.token] = None
        state.stats.parked_calls += 1
        state.stats.inflight_bytes += size
        return True

    def unpark(self, call: Call) -> bool:
        """Free the place of a call; return False if it has none."""
        if call.token not in self._parked:
            return False
        del self._parked[call.token]
        self._state.stats.parked_calls -= 1
        self._state.stats.inflight_bytes -= parked_bytes(call)
        return True

    # ------------------------------------------------------------------ waiting for free space

    def add_later(self, call: Call) -> None:
        """Note a parked call that waits by itself."""
        self._later.append(call)

    def add_queue(self, leading: Leading) -> None:
        """Note a stream whose queue waits."""
        self._queued[leading.replica.id] = leading

    def take_queues(self) -> list[Leading]:
        """Take out the streams whose queues wait, oldest first."""
        queued, self._queued = self._queued, {}
        return list(queued.values())

    def take_later(self) -> list[Call]:
        """Take out the calls that wait by themselves, oldest first. They keep their places."""
        later, self._later = self._later, []
        return later

    # ------------------------------------------------------------------ answering

    def refuse(self, call: Call, refusal: Refusal) -> None:
        """Answer a call with a refusal."""
        if isinstance(call.request, Subscribe | WatchStreams | KvWatch):
            self._state.stats.calls_refused += 1
            self._gate.end(call.token, "", refusal)
        else:
            self._gate.refuse(call.token, refusal)

    def take_queue(self, replica: StreamReplica) -> Iterator[Call]:
        """Take the calls out of a stream's queue, one after the other."""
        self._queued.pop(replica.id, None)
        queue = replica.leading.queue
        while queue:
            call = queue.popleft()
            self.unpark(call)
            yield call

    def refuse_queue(self, replica: StreamReplica, refusal: Refusal) -> None:
        """Refuse every call in a stream's queue."""
        for call in self.take_queue(replica):
            self.refuse(call, refusal)

    def refuse_waiting(self, refusal: Refusal) -> None:
        """Refuse every call that waits for free space: nothing of it was begun."""
        for leading in self.take_queues():
            self.refuse_queue(leading.replica, refusal)
        for call in self.take_later():
            self.unpark(call)
            self.refuse(call, refusal)

    def answer_last_naks(self, replica: StreamReplica, *, dropped_only: bool = False) -> None:
        """Answer naks that ended last attempts, with the commit of all that is decided so far.

        `dropped_only`: those whose messages are decided to be dropped, or removed otherwise. A nak that is answered
        earlier is durable all the same; its drop follows.
        """
        naks = replica.leading.last_naks
        while naks:
            if dropped_only and replica.consumers.is_dropping(naks[0].consumer_id, naks[0].seqs):
                return
            self._gate.answer(naks.popleft().token, Answer(OK), replica.log.last)


def parked_bytes(call: Call) -> int:
    """Return the message bytes that a waiting call holds."""
    request = call.request
    if isinstance(request, Publish | ImportBatch | KvWrite):
        return len(request.body)
    if isinstance(request, PutEntries | PushValues | UploadChunks):
        return sum(map(len, request.bodies))
    if isinstance(request, AddToSketch):
        return len(request.numbers) + sum(map(len, request.values))
    return len(request.snapshot) if isinstance(request, MergeIntoSketch) else 0

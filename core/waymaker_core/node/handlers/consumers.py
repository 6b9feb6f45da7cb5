"""Calls about consumers: create, delete, list, fetch, subscribe, and the answers to deliveries."""

from __future__ import annotations

from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import (
    Ack,
    AckKind,
    CreateConsumer,
    DeleteConsumer,
    Fetch,
    GetConsumerInfo,
    ListConsumers,
    Messages,
    Subscribe,
)
from waymaker_core.model.records import ConsumerCreated
from waymaker_core.model.result_codes import OK, Answer, invalid
from waymaker_core.node.context import NodeState
from waymaker_core.node.delivery.scheduler import DeliveryScheduler
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.handlers.checks import page_limit, require_whole
from waymaker_core.node.handlers.free_space import require_room
from waymaker_core.node.readers.fetches import Fetches
from waymaker_core.node.readers.subscriptions import Subscriptions
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import LastNak, StreamReplica, Subscription
from waymaker_core.storage.journal.writer import frame_bytes_max


class Consuming:
    """Handlers of the calls about consumers."""

    def __init__(
        self,
        state: NodeState,
        group_commit: GroupCommit,
        gate: Gate,
        registry: StreamRegistry,
        subscriptions: Subscriptions,
        fetches: Fetches,
        scheduler: DeliveryScheduler,
    ) -> None:
        self._state = state
        self._group_commit = group_commit
        self._gate = gate
        self._registry = registry
        self._subscriptions = subscriptions
        self._fetches = fetches
        self._scheduler = scheduler

    # ------------------------------------------------------------------ creation and deletion

    def create(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `CreateConsumer`."""
        request, state = call.request, self._state
        assert isinstance(request, CreateConsumer)
        replica = self._registry.require_changeable(found, request.stream)
        bound = record_frame_bytes_max(ConsumerCreated(0, request.config, 0, 0))
        require_room(self._state, self._group_commit, replica.log, bound)
        decision = replica.consumers.decide_create(request.config, state.now.wall_ms)
        if decision.record is not None:
            self._group_commit.add_record(replica, decision.record, [], bound, 0)
        elif not decision.depends_on_uncommitted:
            replica.consumers.inactivity.used(replica.consumers.find_consumer_id(request.config.name), state.now)
            self._gate.answer_read(call.token, replica.log, Answer(OK))
            return
        self._gate.answer(call.token, Answer(OK), replica.log.last)

    def delete(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `DeleteConsumer`."""
        request = call.request
        assert isinstance(request, DeleteConsumer)
        replica = self._registry.require_changeable(found, request.stream)
        require_room(self._state, self._group_commit, replica.log, frame_bytes_max(0, 0, 0))
        record = replica.consumers.decide_delete(request.consumer)
        rest = self._group_commit.add_record(replica, record, [], record_frame_bytes_max(record), 0)
        self._gate.answer(call.token, Answer(OK), rest)

    # ------------------------------------------------------------------ infos

    def info(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `GetConsumerInfo`. A floor that a client has seen must not go back, so its deliveries are logged first."""
        request = call.request
        assert isinstance(request, GetConsumerInfo)
        replica = self._registry.require_served(found, request.stream)
        answer = Answer(OK, "", replica.consumers.info(replica.consumers.find_consumer_id(request.consumer)))
        self._log(replica)
        self._gate.answer(call.token, answer, replica.log.last)

    def list_infos(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `ListConsumers`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ListConsumers)
        replica = self._registry.require_served(found, request.stream)
        limit = page_limit(request.limit, limits.page_entries_max)
        page = replica.consumers.page(request.after, limit, limits.page_bytes_max)
        require_whole(request.limit, page.next_after)
        self._log(replica)
        self._gate.answer(call.token, Answer(OK, "", page), replica.log.last)

    def _log(self, replica: StreamReplica) -> None:
        if replica.consumers.unlogged():
            require_room(self._state, self._group_commit, replica.log, frame_bytes_max(0, 0, 0))
            self._group_commit.log_deliveries(replica)

    # ------------------------------------------------------------------ delivering

    def fetch(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `Fetch`."""
        request, state = call.request, self._state
        assert isinstance(request, Fetch)
        replica = self._registry.require_served(found, request.stream)
        batch = self._batch(request.batch_size, state.limits.fetch_default)
        consumer_id = replica.consumers.find_consumer_id(request.consumer)
        replica.consumers.inactivity.used(consumer_id, state.now)
        messages = replica.consumers.dispatch(consumer_id, state.now, batch, state.limits.fetch_bytes_max)
        if messages is None:
            nothing = Messages([], 0, 0)
            nothing.incarnation = replica.consumers.incarnation(consumer_id)
            self._gate.answer_read(call.token, replica.log, Answer(OK, "", nothing))
            return
        state.mark_dirty(replica)
        self._fetches.add_fetch(call.token, replica, consumer_id, messages)
        self._fetches.send(call, replica, messages)

    def subscribe(self, call: Call, found: StreamReplica | None) -> None:
        """Begin a `Subscribe`."""
        request, state = call.request, self._state
        assert isinstance(request, Subscribe)
        replica = self._registry.require_served(found, request.stream)
        batch = self._batch(request.batch_size, state.limits.subscription_default)
        consumer_id = replica.consumers.find_consumer_id(request.consumer)
        self._subscriptions.add_subscription(
            Subscription(
                call.token, replica, consumer_id, batch, stop_when_empty=request.stop_when_empty, window=request.window
            )
        )

    def _batch(self, asked: int, default: int) -> int:
        if not 0 <= asked <= self._state.limits.fetch_max:
            raise invalid(f"batch_size = {asked}; it must lie between 1 and {self._state.limits.fetch_max}, or be 0")
        return asked or default

    # ------------------------------------------------------------------ what became of deliveries

    def ack(self, call: Call, found: StreamReplica | None) -> None:
        """Decide an `Ack`: the answer leaves with the commit; one about a last attempt, with the commit of its drop."""
        request, state = call.request, self._state
        assert isinstance(request, Ack)
        replica = self._registry.require_changeable(found, request.stream)
        consumers = replica.consumers
        bound = frame_bytes_max(len(request.seqs), 0, 0, len(request.seqs))
        require_room(self._state, self._group_commit, replica.log, bound)
        consumer_id = consumers.find_consumer_id(request.consumer)
        consumers.inactivity.used(consumer_id, state.now)
        decision = consumers.decide_ack(
            consumer_id, request.kind, request.seqs, request.delay_ms, state.now, request.incarnation
        )
        if decision.record is not None:
            self._group_commit.add_record(replica, decision.record, [], record_frame_bytes_max(decision.record), 0)
        if decision.given_up:
            replica.leading.last_naks.append(LastNak(call.token, consumer_id, decision.given_up))
        elif decision.record is not None or decision.depends_on_uncommitted:
            self._gate.answer(call.token, Answer(OK), replica.log.last)
        else:
            self._gate.answer_read(call.token, replica.log, Answer(OK))
        if request.kind in {AckKind.NAK, AckKind.IN_PROGRESS}:
            if request.kind is AckKind.NAK:
                state.stats.naked_messages += decision.count
            state.mark_dirty(replica)
        if decision.count and request.kind is not AckKind.IN_PROGRESS:
            self._scheduler.answered(replica, request.seqs)

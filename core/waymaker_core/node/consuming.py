"""Calls about consumers: created, deleted, told about, fetched from, subscribed to, and told what became of deliveries."""

from __future__ import annotations

from waymaker_core.inputs import Call
from waymaker_core.node.calls import AskLater
from waymaker_core.node.commits import Commits, record_bound
from waymaker_core.node.fetches import Fetches
from waymaker_core.node.hosted import Hosted, LastNak, Subscription
from waymaker_core.node.lives import Lives
from waymaker_core.node.state import NodeState
from waymaker_core.node.streams import page_limit, require_whole
from waymaker_core.node.subscriptions import Subscriptions
from waymaker_core.outcomes import OK, Answer, exhausted, invalid
from waymaker_core.records import ConsumerCreated
from waymaker_core.requests import (
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
from waymaker_core.store.journal import frame_bound
from waymaker_core.types import ConsumerId


class Consuming:
    """Handlers of the calls about consumers."""

    def __init__(
        self, state: NodeState, commits: Commits, lives: Lives, subscriptions: Subscriptions, fetches: Fetches
    ) -> None:
        self._state = state
        self._commits = commits
        self._lives = lives
        self._subscriptions = subscriptions
        self._fetches = fetches

    def _require_room(self, bound: int) -> None:
        if not self._commits.room_for(bound, ordinary=False):
            if self._state.stats.disk_full:
                raise exhausted(f"{self._state.no_room_because}; the reserve is used up too, and nothing was changed")
            raise AskLater

    # ------------------------------------------------------------------ coming and going

    def create(self, call: Call) -> None:
        """`requests.CreateConsumer`."""
        request, state = call.request, self._state
        assert isinstance(request, CreateConsumer)
        hosted = self._lives.find_for_change(call.principal, request.stream)
        bound = record_bound(ConsumerCreated(0, request.config, 0, 0))
        self._require_room(bound)
        consumer_id = ConsumerId(state.catalogue.next_id)
        decision = hosted.consumers.decide_create(consumer_id, request.config, state.now.wall_ms)
        answer = Answer(OK)
        if decision.record is not None:
            state.catalogue.draw_id()
            self._commits.add(hosted, decision.record, [], bound, 0).replies.append((call.token, answer))
        elif decision.rests_on_tail:
            self._commits.answer_with_last(call.token, answer)
        else:
            hosted.consumers.inactivity.used(hosted.consumers.find(request.config.name), state.now)
            state.reply(call.token, answer)

    def delete(self, call: Call) -> None:
        """`requests.DeleteConsumer`."""
        request = call.request
        assert isinstance(request, DeleteConsumer)
        hosted = self._lives.find_for_change(call.principal, request.stream)
        self._require_room(frame_bound(0, 0, 0))
        record = hosted.consumers.decide_delete(request.consumer)
        item = self._commits.add(hosted, record, [], record_bound(record), 0)
        item.replies.append((call.token, Answer(OK)))

    # ------------------------------------------------------------------ telling

    def info(self, call: Call) -> None:
        """`requests.GetConsumerInfo`. A floor that is told must not go back, so what it rests on is logged first."""
        request = call.request
        assert isinstance(request, GetConsumerInfo)
        hosted = self._lives.find(call.principal, request.stream)
        answer = Answer(OK, "", hosted.consumers.info(hosted.consumers.find(request.consumer)))
        self._log(hosted)
        self._commits.answer_with_last(call.token, answer)

    def list_infos(self, call: Call) -> None:
        """`requests.ListConsumers`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ListConsumers)
        hosted = self._lives.find(call.principal, request.stream)
        limit = page_limit(request.limit, limits.page_entries_max)
        page = hosted.consumers.page(request.after, limit, limits.page_bytes_max)
        require_whole(request.limit, page.next_after)
        self._log(hosted)
        self._commits.answer_with_last(call.token, Answer(OK, "", page))

    def _log(self, hosted: Hosted) -> None:
        if hosted.consumers.unlogged():
            self._require_room(frame_bound(0, 0, 0))
            self._commits.log_deliveries(hosted)

    # ------------------------------------------------------------------ delivering

    def fetch(self, call: Call) -> None:
        """`requests.Fetch`."""
        request, state = call.request, self._state
        assert isinstance(request, Fetch)
        hosted = self._lives.find(call.principal, request.stream)
        batch = self._batch(request.batch_size, state.limits.fetch_default)
        consumer_id = hosted.consumers.find(request.consumer)
        hosted.consumers.inactivity.used(consumer_id, state.now)
        messages = hosted.consumers.take(consumer_id, state.now, batch, state.limits.fetch_bytes_max)
        if messages is None:
            nothing = Messages([], 0, 0)
            nothing.incarnation = hosted.consumers.incarnation(consumer_id)
            state.reply(call.token, Answer(OK, "", nothing))
            return
        state.count_delivery(messages)
        state.touch(hosted)
        self._fetches.add(call.token, hosted, consumer_id, messages)
        state.reply_messages(call.token, hosted, messages)

    def subscribe(self, call: Call) -> None:
        """`requests.Subscribe`."""
        request, state = call.request, self._state
        assert isinstance(request, Subscribe)
        hosted = self._lives.find(call.principal, request.stream)
        batch = self._batch(request.batch_size, state.limits.subscription_default)
        consumer_id = hosted.consumers.find(request.consumer)
        self._subscriptions.add(
            Subscription(
                call.token, hosted, consumer_id, batch, stop_when_empty=request.stop_when_empty, window=request.window
            )
        )

    def _batch(self, asked: int, default: int) -> int:
        if not 0 <= asked <= self._state.limits.fetch_max:
            raise invalid(f"batch_size = {asked}; it must lie between 1 and {self._state.limits.fetch_max}, or be 0")
        return asked or default

    # ------------------------------------------------------------------ what became of deliveries

    def ack(self, call: Call) -> None:
        """`requests.Ack`: the answer leaves with the commit; one about a last attempt, with the commit of its drop."""
        request, state = call.request, self._state
        assert isinstance(request, Ack)
        hosted = self._lives.find_for_change(call.principal, request.stream)
        consumers = hosted.consumers
        if not hosted.stream.config.ephemeral:
            self._require_room(frame_bound(len(request.seqs), 0, 0, len(request.seqs)))
        consumer_id = consumers.find(request.consumer)
        consumers.inactivity.used(consumer_id, state.now)
        decision = consumers.decide_ack(
            consumer_id, request.kind, request.seqs, request.delay_ms, state.now, request.incarnation
        )
        answer, item = Answer(OK), None
        if decision.record is not None:
            item = self._commits.add(hosted, decision.record, [], record_bound(decision.record), 0)
        if decision.given_up:
            hosted.last_naks.append(LastNak(call.token, consumer_id, decision.given_up))
        elif item is not None:
            item.replies.append((call.token, answer))
        elif decision.rests_on_tail:
            self._commits.answer_with_last(call.token, answer)
        else:
            state.reply(call.token, answer)
        if request.kind in {AckKind.NAK, AckKind.IN_PROGRESS}:
            if request.kind is AckKind.NAK:
                state.stats.naked_messages += decision.count
            state.touch(hosted)
        if decision.count and request.kind is not AckKind.IN_PROGRESS:
            self._subscriptions.answered(hosted, request.seqs)

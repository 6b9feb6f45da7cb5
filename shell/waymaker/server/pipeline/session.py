"""One pipeline session: many calls, batches and subscriptions over one stream of frames, with flow control both ways.

The session takes frames as bytes and gives fragments of frames. It knows no transport, so that every transport carries the
same session. Everything passes the same admission as unary calls. A session holds a bounded amount whatever its client does:

- towards the server, work is paid for from a window from its arrival until its answer has been taken over by the transport for
  sending; with the window used up nothing more is read, and the transport pushes back;
- towards the client, each subscription has credit from its client and a slice of its own in the core's hands; the slice is
  filled up again only by what has been sent, so that no generosity of a client's credit makes the server hold more.

`pipeline.proto` defines the protocol. A client that breaks it ends its own session and no other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from waymaker.server.config import TRANSPORT_BYTES_MAX
from waymaker.server.grpc.metadata import Metadata
from waymaker.server.grpc.rpcs import Rpc, Serving, inactive_of, incarnation_of, judged, next_page
from waymaker.server.grpc.services import IN_SESSIONS
from waymaker.server.incidents import internal_error
from waymaker.server.lifecycle import STOPPING, State
from waymaker.server.lifecycle import Event as LifeEvent
from waymaker.server.node_runner import NodeRunner, OnAnswer
from waymaker.server.pipeline.batch import Batch
from waymaker.server.pipeline.endings import OVER, SUPERSEDED
from waymaker.server.pipeline.frame_batches import FrameBatches
from waymaker.server.pipeline.key_columns import KEY_BATCH_MAX, key_columns
from waymaker.server.pipeline.transport import Transport
from waymaker.server.pipeline.work import (
    SLICE_BYTES_MIN,
    SLICE_MESSAGES,
    Load,
    Outgoing,
    SessionSubscription,
)
from waymaker.server.refusals import NOT_OFFERED, status_name
from waymaker.state_machine import StateMachine
from waymaker.storage.store import Bodies
from waymaker.wire import frames
from waymaker.wire.batches import ack_request, publish_request, spans
from waymaker.wire.elsewhere import in_words
from waymaker.wire.protocol import PIPELINE_VERSION
from waymaker_core.api import requests as core
from waymaker_core.api.effects import End
from waymaker_core.api.requests import Messages
from waymaker_core.model.result_codes import (
    OK,
    Answer,
    CodeError,
    Outcome,
    Refusal,
    RefusedError,
    Status,
    invalid,
    resource_exhausted,
)
from waymaker_core.model.types import Principal, Token
from waymaker_proto import pipeline_pb2 as pipe

OPEN_MAX: Final = 4_096
"""Unanswered items at which reading pauses."""
LARGE_RESPONSES_OPEN_MAX: Final = 4
"""Calls with answers of megabytes that one session has in the core at once."""
SUBSCRIPTIONS_MAX: Final = 1_000
ITEM_COST_BYTES: Final = 1_024
MESSAGE_COST_BYTES: Final = 64
"""Memory that an item, and a message in it, take up beside their bytes."""

_CANCELLED: Final = Refusal(Status.INVALID_ARGUMENT, "the client gave the call up", Outcome.NOT_APPLIED)
_FRAME_TARGET_BYTES: Final = 1 << 20


class Sessions:
    """The open sessions of the pipeline."""

    def __init__(
        self, runner: NodeRunner, serving: Serving, window_bytes: int, version: str,
        observe: Callable[[str, str, float, int], None], arrived: Callable[[], None], lifecycle: StateMachine[State, LifeEvent],
        members: Callable[[], list[tuple[int, str]]], node_id: int,
    ) -> None:  # fmt: skip
        self.runner = runner
        self.arrived = arrived
        self.observe = observe
        self.serving = serving
        self.window_bytes = window_bytes
        self.version = version
        self.lifecycle = lifecycle
        self.members = members
        """Returns the members of the cluster whose addresses are known."""
        self.node_id = node_id
        """The server's own number among them; 0: it has no cluster."""
        self._open: set[Session] = set()
        self._of_producers: dict[tuple[Principal, int], Session] = {}

    @property
    def stopped(self) -> bool:
        """Return True if sessions that begin now are refused with `OVER`."""
        return self.lifecycle.state in (State.FINISHING, State.CLOSED)

    def open(self, principal: Principal, transport: Transport) -> Session:
        """Begin a session; `close` ends it."""
        session = Session(self, principal, transport)
        self._open.add(session)
        return session

    def close(self, session: Session) -> None:
        """Forget a session, whose transport carries nothing any more."""
        self._open.discard(session)
        key = (session.principal, session.producer[0])
        if self._of_producers.get(key) is session:
            del self._of_producers[key]
        session.close()

    def begin_producer(self, principal: Principal, session: Session) -> None:
        """End the older session of a producer. Raises `RefusedError` where the one that is open is newer."""
        key = (principal, session.producer[0])
        older = self._of_producers.get(key)
        if older is not None:
            if older.producer[1] > session.producer[1]:
                raise RefusedError(SUPERSEDED)
            older.supersede()
        self._of_producers[key] = session

    def drain(self) -> None:
        """Tell every client that the server stops."""
        for session in self._open:
            session.say_closing()

    def finish(self) -> None:
        """End every session once what it has to say is sent."""
        for session in self._open:
            session.finish()

    def __len__(self) -> int:
        return len(self._open)


class Session:
    """One session. Its transport calls `receive`, `next_items` and `sent`, and asks `is_over` after each."""

    def __init__(self, sessions: Sessions, principal: Principal, transport: Transport) -> None:
        self.runner = sessions.runner
        self.principal = principal
        self._sessions = sessions
        self._serving = sessions.serving
        self._transport = transport
        self._window_bytes = sessions.window_bytes
        self._outgoing: deque[Outgoing] = deque()
        self._unsent_bytes = 0
        self._used_bytes = 0
        self._open: dict[int, Token | None] = {}
        self._fetched: dict[int, Messages] = {}
        """Answers to fetches of which the client is to say whether they reached its program."""
        self._unwanted: set[int] = set()
        """Calls that the client cancelled before they were answered."""
        self._large_responses_open = 0
        self._large_responses_waiting: deque[Callable[[], None]] = deque()
        self._subscriptions: dict[int, SessionSubscription] = {}
        self._paused = False
        self._input_ended = False
        self._finishing = False
        self._superseded = False
        self._closed = False
        self.greeted = False
        self._follows = False
        """True if the client goes where a refusal sends it."""
        self.producer = (0, 0)
        """Id and epoch of the client's producer; id 0: it has none."""

    @property
    def slice_bytes(self) -> int:
        """Return the bytes of one subscription that may be in flight from the core to the transport."""
        return max(SLICE_BYTES_MIN, min(self._window_bytes // max(1, len(self._subscriptions)), 1 << 20))

    # ------------------------------------------------------------ lifecycle

    def is_over(self) -> bool:
        """Return True once the client has half-closed and everything is answered and sent.

        Raises `RefusedError` where the session ends otherwise.
        """
        if self._superseded:
            raise RefusedError(SUPERSEDED)
        if self._outgoing or self._open:
            return False
        if self._finishing:
            raise RefusedError(OVER)
        return self._input_ended

    def close(self) -> None:
        """Forget everything; the core finishes what was admitted."""
        self._closed = True
        for subscription in self._subscriptions.values():
            if subscription.token is not None:
                self.runner.cancel(subscription.token)
        self._subscriptions.clear()
        for token in self._open.values():
            if token is not None:
                self.runner.cancel(token)
        self._open.clear()
        for fetched in self._fetched.values():
            self.runner.did_not_arrive(fetched)
        self._fetched.clear()
        for item in self._outgoing:
            if item.fetched is not None:
                self.runner.did_not_arrive(item.fetched)
        self._large_responses_waiting.clear()
        self._outgoing.clear()

    def say_closing(self) -> None:
        """Announce to the client that the server stops."""
        self.send(Outgoing(frames.closing("server_shutdown")))

    def finish(self) -> None:
        """Read nothing more, answer what was read, then end."""
        self._finishing = True
        self._transport.stop_reading()
        self._transport.wake()

    def supersede(self) -> None:
        """Read nothing more and end: a newer session of this producer sends again what this one left open."""
        self._superseded = True
        self._transport.stop_reading()
        self._transport.wake()

    # ------------------------------------------------------------ sending

    def send(self, item: Outgoing) -> None:
        """Queue a fragment."""
        if self._closed:
            return
        self._outgoing.append(item)
        self._unsent_bytes += len(item.data)
        self._transport.wake()

    def next_items(self) -> list[Outgoing]:
        """Return the fragments of the next frame, whose data joined are the frame; empty where there is none.

        The transport calls `sent` with them once it has taken them over.
        """
        items: list[Outgoing] = []
        size = 0
        # Protobuf merges messages that follow one another, so fragments joined are one frame.
        while self._outgoing and (not items or size + len(self._outgoing[0].data) <= _FRAME_TARGET_BYTES):
            items.append(self._outgoing.popleft())
            size += len(items[-1].data)
        return items

    def sent(self, items: list[Outgoing]) -> None:
        """Free what the sending of these fragments frees: window, credit, fetched messages."""
        for item in items:
            self._unsent_bytes -= len(item.data)
            if item.load is not None:
                item.load.items -= item.items
                if not item.load.items:
                    self._used_bytes -= item.load.cost_bytes
            if item.fetched is not None:
                self.runner.arrived(item.fetched)
            if item.subscription is not None:
                item.subscription.sent(item.messages, item.bytes)
        self._start_large_responses()
        if self._paused and self.has_room:
            self._paused = False
            self._transport.resume()

    # ------------------------------------------------------------ reading

    @property
    def has_room(self) -> bool:
        """Return True if more may be read."""
        return self._used_bytes < self._window_bytes and len(self._open) < OPEN_MAX

    def receive(self, data: bytes) -> bool:
        """Take a frame; return False where nothing more may be read before `Transport.resume`. Raises `RefusedError`."""
        self._sessions.arrived()
        frame = frames.parsed_frame(data, self._serving.limits)
        if not self.greeted:
            self._greet(frame)
            self.greeted = True
        self._take(frame, len(data))
        self._paused = not self.has_room
        return not self._paused

    def end_input(self) -> None:
        """Note that the client has half-closed: subscriptions end, what is unanswered is answered."""
        self._input_ended = True
        for subscription_id in list(self._subscriptions):
            self._unsubscribe(subscription_id)
        self._transport.wake()

    def _greet(self, frame: Any) -> None:
        if not frame.HasField("hello") or frame.hello.version < PIPELINE_VERSION:
            raise invalid(f"a session begins with hello, in version {PIPELINE_VERSION} or above")
        self._follows = frame.hello.follows
        if frame.hello.producer_id:
            self.producer = (frame.hello.producer_id, frame.hello.producer_epoch)
            self._sessions.begin_producer(self.principal, self)
        limits = self._serving.limits
        message = pipe.Welcome(
            version=PIPELINE_VERSION,
            server=self._sessions.version,
            window_bytes=self._window_bytes,
            frame_bytes_max=TRANSPORT_BYTES_MAX,
            publish_batch_max=limits.publish_batch_max,
            ack_batch_max=limits.ack_batch_max,
            message_bytes_max=limits.message_bytes_max,
            subscriptions_max=SUBSCRIPTIONS_MAX,
            producer_spans_max=limits.producer_spans_max,
            key_batch_max=KEY_BATCH_MAX,
            members=[pipe.ClusterMember(node_id=id_, address=address) for id_, address in self._sessions.members()],
            node_id=self._sessions.node_id,
        )
        self.send(Outgoing(frames.welcome(message)))
        if self._sessions.lifecycle.state in STOPPING:
            self.say_closing()

    def _take(self, frame: Any, size: int) -> None:
        """Hand everything in a frame to the same step."""
        work = len(frame.calls) + len(frame.publishes) + len(frame.acks) + len(frame.key_batches)
        messages = sum([len(batch.payloads) for batch in frame.publishes])
        messages += sum([len(batch.keys) for batch in frame.key_batches])
        if messages > self._serving.limits.publish_batch_max:
            raise resource_exhausted(f"more than {self._serving.limits.publish_batch_max} messages and keys in a frame")
        if work:
            load = Load(size + ITEM_COST_BYTES * work + MESSAGE_COST_BYTES * messages, work)
            self._used_bytes += load.cost_bytes
            for publish in frame.publishes:
                self._publish(publish, load)
            for ack in frame.acks:
                self._ack(ack, load)
            for keys in frame.key_batches:
                self._key_batch(keys, load)
            batches = FrameBatches(self._serving)
            for call in frame.calls:
                if call.id not in self._open and batches.take(call.id, call.method, call.request):
                    self._open[call.id] = None
                    continue
                for batch in batches.take_ready():
                    self._ask_batch(batch, load)
                self._call(call, load)
            for batch in batches.take_ready():
                self._ask_batch(batch, load)
        for credit in frame.credits:
            subscription = self._subscriptions.get(credit.subscription)
            if subscription is not None:
                if credit.handed_out:
                    subscription.handed_out(credit.handed_out, spans(credit.handed_back))
                subscription.grant(credit.messages, credit.bytes)
        for call_id in frame.received:
            if (fetched := self._fetched.pop(call_id, None)) is not None:
                self.runner.arrived(fetched)
        for call_id in frame.cancels:
            self._cancel(call_id)
        for subscription_id in frame.unsubscribes:
            self._unsubscribe(subscription_id)
        for subscribe in frame.subscribes:
            self._subscribe(subscribe)

    # ------------------------------------------------------------ work

    def _begin(self, id_: int) -> None:
        if id_ in self._open:
            raise invalid(f"id {id_} is in use already")
        self._open[id_] = None

    def _ask(self, id_: int, request: core.Request, answered: OnAnswer) -> None:
        self._open[id_] = self.runner.call(self.principal, request, self._readable(answered))

    def _readable(self, answered: OnAnswer) -> OnAnswer:
        """Return a callback that is given what this client understands of where a call is served."""
        if self._follows:
            return answered
        return lambda answer, bodies: answered(in_words(answer) if isinstance(answer, Refusal) else answer, bodies)

    def _done(self, id_: int, load: Load, data: bytes) -> None:
        self._open.pop(id_, None)
        self.send(Outgoing(data, load))

    def _publish(self, batch: Any, load: Load) -> None:
        id_ = batch.id
        self._begin(id_)
        try:
            # A stream that was reached over another session of the client meanwhile has heard of a higher epoch.
            epoch = max(self.producer[1], batch.producer_epoch)
            producer = (self.producer[0], epoch) if self.producer[0] else None
            request, malformed = publish_request(batch, self._serving.limits, producer)
        except RefusedError as error:
            self._done(id_, load, frames.published(id_, error.refusal))
            return
        if request is None:
            self._done(id_, load, frames.published(id_, Answer(OK, "", core.Published(0, 0, None)), malformed))
            return
        encode = partial(frames.published, malformed=malformed) if malformed else frames.published
        self._ask(id_, request, partial(self._judged, "Session.Publish", time.perf_counter(), id_, load, encode))

    def _ack(self, batch: Any, load: Load) -> None:
        id_ = batch.id
        self._begin(id_)
        try:
            request = ack_request(batch, self._serving.limits)
        except RefusedError as error:
            self._done(id_, load, frames.acked(id_, error.refusal))
            return
        self._ask(id_, request, partial(self._judged, "Session.Ack", time.perf_counter(), id_, load, frames.acked))

    def _key_batch(self, message: Any, load: Load) -> None:
        id_ = message.id
        self._begin(id_)
        try:
            batch = key_columns(message)
        except RefusedError as error:
            self._done(id_, load, frames.keys_refused(id_, error.refusal))
            return
        self._ask_batch(batch, load)

    def _judged(
        self, name: str, started: float, id_: int, load: Load, encode: Callable[[int, Answer | Refusal], bytes],
        answer: Answer | Refusal, bodies: Bodies | None,
    ) -> None:  # fmt: skip
        self._observe(name, started, answer)
        try:
            data = encode(id_, answer)
        except Exception as error:
            data = encode(id_, internal_error(error, name, self.principal, admitted=True))
        self._done(id_, load, data)

    def _observe(self, name: str, started: float, answer: Answer | Refusal) -> None:
        status = status_name(answer) if isinstance(answer, Refusal) else "OK"
        self._sessions.observe(name, status, time.perf_counter() - started, 1)

    def _call(self, call: Any, load: Load) -> None:
        id_ = call.id
        self._begin(id_)
        rpc = IN_SESSIONS.get(call.method)
        if rpc is None:
            self._done(id_, load, frames.call_refused(id_, NOT_OFFERED))
            return
        try:
            request = rpc.parse(
                call.request, Metadata(call.after, call.limit, call.incarnation, call.inactive_ms), self._serving
            )
        except RefusedError as error:
            self._done(id_, load, frames.call_refused(id_, error.refusal))
            return
        except CodeError as error:
            self._done(id_, load, frames.call_result(id_, judged(error), ""))
            return
        if rpc.large_response:
            self._large_responses_waiting.append(
                partial(self._ask_for_large_response, id_, rpc, request, load, call.reports)
            )
            self._start_large_responses()
        else:
            self._ask(id_, request, partial(self._answered, id_, rpc, load, time.perf_counter()))

    def _answered(
        self, id_: int, rpc: Rpc, load: Load, started: float, answer: Answer | Refusal, bodies: Bodies | None,
        reports: bool = False,
    ) -> None:  # fmt: skip
        self._observe(rpc.name, started, answer)
        fetched: Messages | None = None
        if isinstance(answer, Refusal):
            data = frames.call_refused(id_, answer)
        else:
            try:
                response = rpc.encode(answer, bodies, self._serving)
                data = frames.call_result(id_, response, next_page(answer), incarnation_of(answer), inactive_of(answer))
                if isinstance(answer.value, Messages) and answer.value.fetched is not None:
                    fetched = answer.value
            except RefusedError as error:
                data = frames.call_refused(id_, error.refusal)
            except Exception as error:
                data = frames.call_refused(id_, internal_error(error, rpc.name, self.principal, admitted=True))
        if fetched is not None and id_ in self._unwanted:
            self.runner.did_not_arrive(fetched)
            fetched = None
        elif fetched is not None and reports:
            self._fetched[id_] = fetched
            fetched = None
        self._unwanted.discard(id_)
        self._open.pop(id_, None)
        self.send(Outgoing(data, load, fetched=fetched))

    def _ask_batch(self, batch: Batch, load: Load) -> None:
        """Ask for the calls of a batch together."""
        if batch.large_response:
            self._large_responses_waiting.append(partial(self._ask_to_read, batch, load))
            self._start_large_responses()
        else:
            self._send_batch(batch, load, partial(self._batch_answered, batch, load, time.perf_counter()))

    def _send_batch(self, batch: Batch, load: Load, answered: OnAnswer) -> None:
        token = self.runner.call(self.principal, batch.request(), self._readable(answered))
        for id_ in batch.ids:
            self._open[id_] = token

    def _ask_to_read(self, batch: Batch, load: Load) -> None:
        self._large_responses_open += 1
        started = time.perf_counter()

        def answered(answer: Answer | Refusal, bodies: Bodies | None) -> None:
            self._large_responses_open -= 1
            self._batch_answered(batch, load, started, answer, bodies)
            self._start_large_responses()

        self._send_batch(batch, load, answered)

    def _batch_answered(
        self, batch: Batch, load: Load, started: float, answer: Answer | Refusal, bodies: Bodies | None
    ) -> None:
        if isinstance(answer, Refusal) and (alone := batch.apart(answer)):
            for each in alone:
                self._ask_batch(each, load)
            return
        try:
            answered = batch.answered(answer, bodies)
        except Exception as error:
            refusal = internal_error(error, batch.method, self.principal, admitted=True)
            answered = batch.answered(refusal, None)
        took = time.perf_counter() - started
        for id_ in answered.closed:
            self._unwanted.discard(id_)
            self._open.pop(id_, None)
        for data, items in answered.fragments:
            self.send(Outgoing(data, load, items=items))
        for (method, status), count in answered.outcomes.items():
            self._sessions.observe(method, status, took, count)
        if answered.calls < len(batch):
            self._ask_batch(batch.rest(answered.calls), load)

    def _cancel(self, id_: int) -> None:
        """Cancel a call that the client gave up: what it takes from a consumer returns to it."""
        fetched = self._fetched.pop(id_, None)
        if fetched is not None:
            self.runner.did_not_arrive(fetched)
        elif id_ in self._open:
            self._unwanted.add(id_)

    def _ask_for_large_response(self, id_: int, rpc: Rpc, request: core.Request, load: Load, reports: bool) -> None:
        if id_ in self._unwanted:
            self._unwanted.discard(id_)
            self._done(id_, load, frames.call_refused(id_, _CANCELLED))
            return
        self._large_responses_open += 1
        started = time.perf_counter()

        def answered(answer: Answer | Refusal, bodies: Bodies | None) -> None:
            self._large_responses_open -= 1
            self._answered(id_, rpc, load, started, answer, bodies, reports)
            self._start_large_responses()

        self._ask(id_, request, answered)

    def _start_large_responses(self) -> None:
        """Ask for large answers a few at a time, and only while the client takes what there is."""
        while (
            self._large_responses_waiting
            and self._large_responses_open < LARGE_RESPONSES_OPEN_MAX
            and self._unsent_bytes < self._window_bytes
        ):  # fmt: skip
            self._large_responses_waiting.popleft()()

    # ------------------------------------------------------------ subscriptions

    def _subscribe(self, message: Any) -> None:
        if message.id in self._subscriptions:
            raise invalid(f"subscription {message.id} exists already")
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            refusal = resource_exhausted(f"more than {SUBSCRIPTIONS_MAX} subscriptions in one session").refusal
            self.send(Outgoing(frames.ended(message.id, "", refusal)))
            return
        subscription = SessionSubscription(self, message.id, message.reports)
        self._subscriptions[message.id] = subscription
        batch_size = message.batch_size or SLICE_MESSAGES
        request = core.Subscribe(message.stream, message.consumer, batch_size, message.stop_when_empty)
        subscription.token = self.runner.open(self.principal, request, subscription)
        subscription.grant(message.credit_messages, message.credit_bytes)

    def _unsubscribe(self, subscription_id: int) -> None:
        subscription = self._subscriptions.pop(subscription_id, None)
        if subscription is not None and subscription.token is not None:
            self.runner.cancel(subscription.token)

    def subscription_ended(self, subscription: SessionSubscription, end: End) -> None:
        """Forget a subscription that has ended in the core."""
        if self._subscriptions.pop(subscription.id, None) is not None:
            refusal = in_words(end.refusal) if end.refusal is not None and not self._follows else end.refusal
            self.send(Outgoing(frames.ended(subscription.id, end.reason, refusal)))

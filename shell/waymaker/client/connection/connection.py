"""One client's connection: a session of the pipeline, renewed when it is lost.

Responsible for moving work and deliveries, nothing of their meaning: frames are packed from what waits, within the window
that the server granted, and one write is under way at a time, so everything asked for during a loop turn (or during a slow
write) travels in the next frame. What may have happened is sent again only where `Work.lost` says that it is safe. Back-off
doubles from `backoff_first` to `backoff_max` with half of it drawn by lot, so that many clients of one server do not return in
step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from waymaker.client.connection.carriers import Carrier, GrpcCarrier
from waymaker.client.connection.failures import error_of, unsent
from waymaker.client.connection.link import LinkCarrier, LinkUnusable, Place, open_link
from waymaker.client.connection.numbering import Numbering
from waymaker.client.connection.process import inherited, this_process
from waymaker.client.connection.states import ENDED, IN_SESSION, TAKES_WORK, TRANSITIONS, Event, State
from waymaker.client.connection.subscribers import Subscriber, Subscribers
from waymaker.client.connection.work import timed_out
from waymaker.client.errors import (
    NOT_APPLIED,
    UNKNOWN,
    ClosedError,
    ConnectionLostError,
    HandshakeError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    UsageError,
    WaymakerError,
)
from waymaker.client.options import Options
from waymaker.state_machine import StateMachine
from waymaker.wire.protocol import ADMIN_SERVICE, FRAME_ITEMS_TARGET, PIPELINE_VERSION
from waymaker_proto import admin_pb2 as admin
from waymaker_proto import pipeline_pb2 as pl

if TYPE_CHECKING:
    from waymaker.client.connection.work import Work

log = logging.getLogger("waymaker.client")

SERVER_INFO = f"/{ADMIN_SERVICE}/ServerInfo"
LINK_OPEN_S = 2.0
"""The time that a server may take to say where its native link is, at most."""
FRAME_BYTES_TARGET = 512 * 1024
"""The size at which a frame is full enough: larger ones cost memory and latency and save nothing more."""
LOSSES_MAX = 5
"""Ends of sessions, absences apart, that work may meet before it is held to be their cause."""
FINAL = (UnauthenticatedError, PermissionDeniedError, UnimplementedError, UsageError)
"""Ends of a session that trying again does not mend: every waiting caller receives them."""


class Connection:
    """Work in, frames out, and back. Belongs to one event loop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.welcome = pl.Welcome()
        self.sessions = 0
        """The number of sessions that were opened."""
        self.frames_sent = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self._forks = this_process.forks
        self._channel: grpc.aio.Channel | None = None
        self._task: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._machine = StateMachine(State.IDLE, TRANSITIONS)
        self._over: WaymakerError | None = None
        """The reason for which no other session follows."""
        self._last_error: WaymakerError | None = None
        self._diagnosis: asyncio.Task[HandshakeError | None] | None = None
        self._settled = asyncio.Event()
        """Set in a session and at the end of all sessions: callers that wait for a session look again."""
        self._next_id = 0
        self._outbox: deque[Work] = deque()
        self._inflight: dict[int, Work] = {}
        self._inflight_bytes = 0
        self._producer = Numbering() if options.resend and options.reconnect else None
        self._pause_s = 0.0
        self._carrier: Carrier | None = None
        self._alone = False
        """The last frame with work carried one message or call: its sender is held to be alone."""
        self._link_place: Place | None = None
        self._link_refused: Place | None = None
        """The native link that could not be used; another one is tried."""
        self._sweep: asyncio.TimerHandle | None = None
        self._subscribers = Subscribers()

    @property
    def state(self) -> State:
        """Return the present state."""
        return self._machine.state

    def _on(self, event: Event) -> bool:
        """Follow an event; return False where it has no effect."""
        if not self._machine.on(event):
            return False
        if self.state in IN_SESSION or self.state in ENDED:
            self._settled.set()
        else:
            self._settled.clear()
        return True

    # ------------------------------------------------------------------------------------ open and close

    async def open(self) -> None:
        """Connect; UnavailableError where no server answers within `connect_timeout`."""
        this_process.opened(self)
        loop = self.loop = asyncio.get_running_loop()
        self._forks = this_process.forks
        self._opened = loop.create_future()
        self._on(Event.OPEN)
        self._task = loop.create_task(self._run(), name="waymaker-connection")
        patience = loop.call_later(self.options.connect_timeout / 3, self._diagnose)
        try:
            async with asyncio.timeout(self.options.connect_timeout):
                await asyncio.shield(self._opened)
        except TimeoutError:
            diagnosed = self._diagnosis is not None and self._diagnosis.done()
            finding = self._diagnosis.result() if diagnosed and self._diagnosis is not None else None
            await self.close()
            reason = f": {self._last_error}" if self._last_error else ""
            raise finding or UnavailableError(
                f"no answer from {self.options.target} within {self.options.connect_timeout:g} s{reason}",
                outcome=NOT_APPLIED,
            ) from None
        except BaseException:
            await self.close()
            raise
        finally:
            patience.cancel()
            if self._diagnosis is not None:
                self._diagnosis.cancel()

    def _diagnose(self) -> asyncio.Task[HandshakeError | None]:
        """Begin to find out why the opening takes long, or has failed."""
        if self._diagnosis is None:
            from waymaker.client.connection.diagnosis import diagnose

            work = diagnose(self.options, self.options.connect_timeout / 2)
            self._diagnosis = asyncio.get_running_loop().create_task(work, name="waymaker-diagnosis")
        return self._diagnosis

    async def close(self) -> None:
        """End the session; whatever is still waiting fails."""
        if not self._on(Event.CLOSE) or self.is_inherited:
            return
        this_process.closed(self)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._hang_up()
        self._lose(ClosedError("the client was closed"), again=False, announced=False)
        self._fail_all(ClosedError("the client was closed", outcome=NOT_APPLIED))
        if self._sweep is not None:
            self._sweep.cancel()
        if self._opened is not None and self._opened.done() and not self._opened.cancelled():
            self._opened.exception()  # seen: `open` reported it, or no caller waits for it

    @property
    def transport(self) -> tuple[object, ...]:
        """Return the objects that hold the sockets."""
        return (self._channel, *(self._carrier.held if self._carrier is not None else ()))

    @property
    def is_inherited(self) -> bool:
        """Return True in a process that was forked off after the opening: the connection is the parent's."""
        return self._task is not None and self._forks != this_process.forks

    @property
    def channel(self) -> grpc.aio.Channel:
        """Return the present channel, for calls outside the session."""
        if self._channel is None or self.state is State.CLOSED:
            raise ClosedError("the client is closed")
        return self._channel

    @property
    def ended(self) -> bool:
        """Return True if there will be no other session."""
        return self.state in ENDED

    async def connected(self, deadline: float | None = None) -> None:
        """Wait until there is a session; DeadlineExceededError where there is none by `deadline`, in the loop's time."""
        self._check_open()
        try:
            async with asyncio.timeout_at(deadline):
                await self._settled.wait()
        except TimeoutError:
            raise timed_out(False, self._absence()) from None
        self._check_open()

    def _absence(self) -> str:
        """Return why nothing can be sent at the moment; empty where there is a session."""
        if self.state in TAKES_WORK:
            return ""
        return f"no connection to {self.options.target}" + (f" ({self._last_error})" if self._last_error else "")

    # -------------------------------------------------------------------------------------------- work

    def submit(self, work: Work) -> None:
        """Queue work. It is sent in order, after what was queued before."""
        self._check_open()
        self.check_size(work.size)
        self._next_id += 1
        work.id = self._next_id
        work.producer = self._producer
        self._outbox.append(work)
        self._wake()
        if work.deadline is not None:
            self.watch_deadline(work.deadline)

    def check_size(self, size: int) -> None:
        """Raise ResourceExhaustedError for work that fits in no frame."""
        most = self.welcome.frame_bytes_max
        if most and size > most:
            text = f"a request of about {size} bytes; this server takes at most {most} in a frame"
            raise ResourceExhaustedError(text, outcome=NOT_APPLIED)

    def watch_deadline(self, deadline: float) -> None:
        """Set the timer so that it fires at this deadline at the latest; one timer serves all work."""
        if self._sweep is None or deadline < self._sweep.when():
            if self._sweep is not None:
                self._sweep.cancel()
            self._sweep = asyncio.get_running_loop().call_at(deadline, self._expire)

    def add_subscriber(self, subscriber: Subscriber) -> None:
        self._check_open()
        self._next_id += 1
        subscriber.id = self._next_id
        self._subscribers.add(subscriber)
        self._wake()

    def retry_subscriber(self, subscriber: Subscriber) -> None:
        """Subscribe again after a pause, unless the client ends first."""

        def again() -> None:
            if self.ended:
                subscriber.ended("", self._over or ClosedError("the client was closed"))
            else:
                self.add_subscriber(subscriber)

        asyncio.get_running_loop().call_later(self.options.backoff_first, again)

    def drop_subscriber(self, subscriber: Subscriber) -> None:
        """Forget a subscription; unsubscribe where the server knows of it."""
        if self._subscribers.remove(subscriber, self.state in IN_SESSION):
            self._wake()

    def credit(
        self, subscriber: Subscriber, messages: int, bytes_: int, handed_out: int, back: list[tuple[int, int]]
    ) -> None:
        """Grant more to a subscription and report how far it handed out. A session that is lost takes both with it."""
        if self.state in IN_SESSION and self._subscribers.credit(subscriber, messages, bytes_, handed_out, back):
            self._wake()

    async def flushed(self) -> bool:
        """Wait until news of subscriptions and fetches is sent; return False where the session ended before."""
        return self.state in IN_SESSION and await self._subscribers.flushed()

    # --------------------------------------------------------------------------------------- the session

    async def _run(self) -> None:
        """Open sessions until the client is closed."""
        backoff = self.options.backoff_first
        while True:
            before = self.sessions
            error = await self._session()
            self._last_error = error
            was_welcome = self.sessions > before
            if was_welcome:
                backoff = self.options.backoff_first
            await self._hang_up()
            assert self._opened is not None
            if not self._opened.done():
                if isinstance(error, FINAL) or not self.options.wait_for_server:
                    if isinstance(error, UnavailableError):
                        error = await self._diagnose() or error
                    self._opened.set_exception(error)
                    return
            elif not self.options.reconnect:
                self._over = error
                self._on(Event.GIVE_UP)
                self._fail_all(error)
                return
            elif isinstance(error, FINAL):
                self._fail_all(error)
            if was_welcome:
                log.warning("connection lost (%s); trying again", error)
            await asyncio.sleep(backoff * (0.5 + random.random() / 2))
            backoff = min(backoff * 2, self.options.backoff_max)
            self._on(Event.RETRY)

    async def _session(self) -> WaymakerError:
        """Run one session from its opening to its end; return why it ended."""
        options = self.options
        try:
            credentials = options.credentials()
        except UsageError as unreadable:
            self._on(Event.SESSION_ENDED)
            return unreadable
        arguments = options.channel_arguments()
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(options.target, arguments)
        else:
            self._channel = grpc.aio.secure_channel(options.target, credentials, arguments)
        error: WaymakerError | None = None
        if (link := await self._link()) is not None:
            error = await self._carried(link)
            if self.state is not State.CONNECTING:
                return error
            log.info("the native link of %s refused the session (%s); using gRPC", options.target, error)
            self._link_refused = self._link_place
        return await self._carried(GrpcCarrier(self, self._channel))

    async def _carried(self, carrier: Carrier) -> WaymakerError:
        """Run one session over a carrier; return why it ended."""
        self._carrier = carrier
        try:
            error = await carrier.run()
        finally:
            announced = self.state is State.DRAINING
            is_refused = self.state is State.CONNECTING and not isinstance(carrier, GrpcCarrier)
            if not is_refused:
                self._on(Event.SESSION_ENDED)
            carrier.hang_up()
        if is_refused:
            return error
        self._lose(error, again=True, announced=announced)
        return error

    async def _link(self) -> LinkCarrier | None:
        """Open the native link, where the server tells of one and it is that server's."""
        options = self.options
        if options.transport != "auto" or self._channel is None:
            return None
        told: Any = self._channel.unary_unary(SERVER_INFO, response_deserializer=admin.ServerInfoResponse.FromString)
        try:
            info = await told(b"", timeout=min(LINK_OPEN_S, options.connect_timeout / 3), metadata=options.metadata)
            place = Place(info.link_port, info.link_socket, info.link_id)
            if not place.identity or place == self._link_refused:
                return None
            self._link_place = place
            return await open_link(self, options, place)
        except grpc.aio.AioRpcError:
            return None  # the session says why
        except LinkUnusable as unusable:
            self._link_refused = self._link_place
            log.info("the native link of %s cannot be used (%s); using gRPC", options.target, unusable)
            return None

    @property
    def target(self) -> str:
        """Return the server's address."""
        return self.options.target

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the credentials."""
        return self.options.metadata

    @property
    def over_link(self) -> bool:
        """Return True while the session runs over the native link."""
        return self.state in IN_SESSION and isinstance(self._carrier, LinkCarrier)

    def hello(self) -> bytes:
        """Return the first frame of a session; each is a new epoch of the producer, which ends the one before."""
        hello = pl.Hello(version=PIPELINE_VERSION, client="waymaker-python")
        if self._producer is not None:
            self._producer.epoch += 1
            hello.producer_id, hello.producer_epoch = self._producer.id, self._producer.epoch
        return pl.Frame(hello=hello).SerializeToString()

    def received(self, data: bytes) -> None:
        """Take a frame."""
        frame = pl.Frame.FromString(data)
        if frame.HasField("welcome") and self.state is State.CONNECTING:
            self._begin(frame.welcome)
        self._receive(frame)

    def _begin(self, welcome: pl.Welcome) -> None:
        if self.sessions:
            log.info("connected to %s again", self.options.target)
        self.welcome = welcome
        self.sessions += 1
        self._pause_s = 0.0
        self._subscribers.session_began()
        if self._producer is not None:
            self._producer.begin(welcome.producer_spans_max)
        self._on(Event.WELCOME)
        self._wake()
        assert self._opened is not None
        if not self._opened.done():
            self._opened.set_result(None)

    def next_frame(self) -> bytes | None:
        """Return the next frame, or None where nothing may be sent now."""
        data = self._pack()
        self.frames_sent += data is not None
        return data

    def frame_sent(self) -> None:
        """Note that the frame was taken over."""
        self._subscribers.sent()

    def _wake(self) -> None:
        if self._carrier is not None:
            self._carrier.wake()

    def send_alone(self) -> None:
        """Send what was submitted right here, where one task alone asks: what many ask for in a turn travels together."""
        if self._alone and not self._inflight and self.state is State.READY and self._carrier is not None:
            self._carrier.send_now()

    def _pack(self) -> bytes | None:
        """Return the next frame, or None where nothing may be sent now."""
        if self.state not in TAKES_WORK or not (self._outbox or self._subscribers.has_news):
            return None
        frame = pl.Frame()
        subscriptions = self._subscribers.pack(frame)
        outbox = self._outbox
        window = self.welcome.window_bytes or FRAME_BYTES_TARGET
        packed: list[Work] = []
        packed_bytes = packed_messages = 0
        messages_max = self.welcome.publish_batch_max or FRAME_ITEMS_TARGET
        while outbox and self.state is State.READY:
            work = outbox[0]
            # With nothing in flight, work larger than the window is sent too: it would never fit better.
            if self._inflight_bytes and self._inflight_bytes + work.size > window:
                break
            if work.lane and self._producer is not None and self._producer.is_full(work.lane):
                break
            if packed and (
                packed_bytes + work.size > FRAME_BYTES_TARGET
                or packed_messages + work.messages > messages_max
                or len(packed) == FRAME_ITEMS_TARGET
            ):
                break
            outbox.popleft()
            try:
                kept = work.fill(frame)
            except (TypeError, ValueError, OverflowError) as error:
                work.fail(UsageError(f"cannot be sent: {error}", outcome=NOT_APPLIED))
                frame = _repacked(subscriptions, packed)
                continue
            if not kept:
                continue
            packed.append(work)
            packed_bytes += work.size
            packed_messages += work.messages
            work.sent = True
            self._inflight[work.id] = work
            self._inflight_bytes += work.size
            if work.lane and self._producer is not None:
                self._producer.sent(work.lane)
        if packed:
            self._alone = len(packed) == 1 and packed_messages <= 1
        return frame.SerializeToString() if subscriptions is not None or packed else None

    def _receive(self, frame: pl.Frame) -> None:
        for batch in frame.deliveries:
            self._subscribers.deliver(batch)
        for replies in (frame.published, frame.acked, frame.results, frame.keyed):
            for reply in replies:
                work = self._inflight.get(reply.id)
                if work is None or work.takes_part(reply):
                    continue
                del self._inflight[reply.id]
                self._inflight_bytes -= work.size
                if work.lane and self._producer is not None:
                    self._producer.answered(work.lane)
                if (refused := work.refusal_in(reply)) is not None:
                    self._refused(work, refused)
                else:
                    self._pause_s = 0.0
                    if work.reports:
                        self._subscribers.answered(work.id, work.is_awaited)
                        self._wake()
                    work.answer(reply)
        for ended in frame.ended:
            self._subscribers.end(ended)
        if frame.HasField("closing"):
            self._on(Event.CLOSING)
        elif self._outbox:
            self._wake()

    def _refused(self, work: Work, refused: pl.Refused) -> None:
        """End refused work, or put it back where the server cannot serve for the moment and did nothing."""
        error = error_of(refused)
        if not (isinstance(error, UnavailableError) and error.outcome == NOT_APPLIED and self.options.reconnect):
            work.fail(error)
            return
        self._put_back([work])
        self._last_error = error
        if self._on(Event.REFUSED):
            self._pause_s = min(max(self._pause_s * 2, self.options.backoff_first), self.options.backoff_max)
            asyncio.get_running_loop().call_later(self._pause_s, self._resume)

    def _resume(self) -> None:
        self._on(Event.RESUME)
        self._wake()

    def _put_back(self, works: list[Work]) -> None:
        """Return work to the queue at its old place: order within a stream survives."""
        for work in works:
            work.put_back()
        merged = sorted([*works, *self._outbox], key=lambda work: work.id)
        self._outbox = deque(merged)

    def _lose(self, error: WaymakerError, again: bool, announced: bool) -> None:
        """Settle what was in flight when a session ended; `announced`: the server had said that it stops."""
        self._subscribers.session_lost()
        works = sorted(self._inflight.values(), key=lambda work: work.id)
        self._inflight.clear()
        self._inflight_bytes = 0
        if announced and isinstance(error, UnavailableError) and error.outcome == NOT_APPLIED:
            # A server that stops in order answers all that it has read before it says this.
            self._put_back(works)
            return
        lost = ConnectionLostError(f"the connection was lost before the answer came ({error})", outcome=UNKNOWN)
        if again and self.options.reconnect:
            self._put_back([work for work in works if self._again(work, error, lost)])
        else:
            for work in works:
                work.fail(lost)

    def _again(self, work: Work, error: WaymakerError, lost: ConnectionLostError) -> bool:
        """Return True if lost work is sent again: it must be safe, and must not be what ends the sessions."""
        work.losses += not isinstance(error, UnavailableError)
        if work.losses >= LOSSES_MAX:
            work.fail(error)
            return False
        return work.lost(lost)

    def _fail_all(self, error: WaymakerError) -> None:
        assert not self._inflight, "work without an answer is settled by `_lose`"
        works = list(self._outbox)
        self._outbox.clear()
        for work in works:
            work.fail(unsent(error))
        self._subscribers.fail(error)

    def _expire(self) -> None:
        """End work whose time is over and set the timer for the next."""
        self._sweep = None
        now = asyncio.get_running_loop().time()
        # Answers to what expires after it was sent still come; its bytes stay counted until then.
        absence = self._absence()
        expired = {work.id for work in (*self._inflight.values(), *self._outbox) if work.expire(now, absence)}
        if expired:
            self._outbox = deque(work for work in self._outbox if work.id not in expired)
        deadlines = [
            work.deadline
            for work in (*self._inflight.values(), *self._outbox)
            if work.deadline is not None and work.id not in expired
        ]
        if deadlines:
            self.watch_deadline(min(deadlines))

    async def _hang_up(self) -> None:
        carrier, channel = self._carrier, self._channel
        self._carrier = self._channel = None
        if carrier is not None:
            carrier.hang_up()
        if channel is not None:
            await channel.close()

    def _check_open(self) -> None:
        if self.is_inherited:
            raise inherited()
        if self._over is not None:
            raise unsent(self._over)
        if self.state is State.CLOSED:
            raise ClosedError("the client is closed")
        if self.state is State.IDLE:
            raise ClosedError("the client is not open; use `async with`")


def _repacked(subscriptions: bytes | None, packed: list[Work]) -> pl.Frame:
    """Return a frame without the item that could not be encoded. Rare: values are checked where callers give them."""
    frame = pl.Frame.FromString(subscriptions or b"")
    for work in packed:
        work.fill(frame)
    return frame

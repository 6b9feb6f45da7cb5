"""One connection of a client to one server: a session of the pipeline, renewed when it is lost.

Responsible for moving work and deliveries, nothing of their meaning: frames are packed from what waits, within the window
that the server granted, and one write is under way at a time, so everything asked for during a loop turn (or during a slow
write) travels in the next frame. What may have happened is sent again only where `Work.lost` says that it is safe. Back-off
doubles from `backoff_first` to `backoff_max` with half of it drawn by lot, so that many clients of one server do not return in
step. Where other members of a cluster can be asked, `Members` takes over in place of a renewal, and moves what is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from waymaker.client.connection.backlog import FRAME_BYTES_TARGET, LOSSES_MAX, Backlog, repacked
from waymaker.client.connection.carriers import Carrier, GrpcCarrier
from waymaker.client.connection.failures import FINAL, error_of, unsent
from waymaker.client.connection.link import LinkCarrier
from waymaker.client.connection.numbering import Numbering
from waymaker.client.connection.opening import Diagnosis, LinkFinder, open_channel
from waymaker.client.connection.process import inherited, this_process
from waymaker.client.connection.states import ENDED, IN_SESSION, TAKES_WORK, TRANSITIONS, Event, State
from waymaker.client.connection.subscribers import MOVED, Subscriber, Subscribers
from waymaker.client.connection.work import timed_out
from waymaker.client.errors import (
    NOT_APPLIED,
    UNKNOWN,
    AbortedError,
    ClosedError,
    ConnectionLostError,
    ResourceExhaustedError,
    UnavailableError,
    UsageError,
    WaymakerError,
)
from waymaker.client.options import Options
from waymaker.state_machine import StateMachine
from waymaker.wire.protocol import FRAME_ITEMS_TARGET, PIPELINE_VERSION
from waymaker_proto import pipeline_pb2 as pl

if TYPE_CHECKING:
    from waymaker.client.connection.members import Members
    from waymaker.client.connection.work import Work

log = logging.getLogger("waymaker.client")


class Connection:
    """Work in, frames out, and back. Belongs to one event loop."""

    def __init__(self, options: Options, members: Members, node_id: int = 0) -> None:
        self.options = options
        self.node_id = node_id
        """The server's number in its cluster; 0: it is not known, or has none."""
        self._members = members
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
        self.over: WaymakerError | None = None
        """The reason for which no other session follows."""
        self._last_error: WaymakerError | None = None
        self._diagnosis = Diagnosis(options)
        self._settled = asyncio.Event()
        """Set in a session and at the end of all sessions: callers that wait for a session look again."""
        self.backlog = Backlog()
        self._producer = Numbering(members.producer) if members.producer is not None else None
        self._pause_s = 0.0
        self._carrier: Carrier | None = None
        self._alone = False
        """The last frame with work carried one message or call: its sender is held to be alone."""
        self._links = LinkFinder(self, options)
        self._patience_s: float | None = None
        """The time that a session may take to begin, where no caller waits for it."""
        self._patience = asyncio.Timeout(None)
        self.heard = False
        """A frame came since `Liveness` looked last."""
        self.silent_looks = 0
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

    def start(self, delay_s: float = 0.0) -> None:
        """Connect, after a while, without a caller that waits for it; what is submitted waits."""
        self._patience_s = self.options.connect_timeout
        self._begin_opening(delay_s).set_result(None)

    def _begin_opening(self, delay_s: float = 0.0) -> asyncio.Future[None]:
        this_process.opened(self)
        loop = self.loop = asyncio.get_running_loop()
        self._forks = this_process.forks
        self._opened = loop.create_future()
        self._on(Event.OPEN)
        self._task = loop.create_task(self._run(delay_s), name="waymaker-connection")
        return self._opened

    async def open(self) -> None:
        """Connect; UnavailableError where no server answers within `connect_timeout`."""
        opened = self._begin_opening()
        loop = asyncio.get_running_loop()
        patience = loop.call_later(self.options.connect_timeout / 3, self._diagnosis.begin)
        try:
            async with asyncio.timeout(self.options.connect_timeout):
                await asyncio.shield(opened)
        except TimeoutError:
            finding = self._diagnosis.finding
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
            self._diagnosis.cancel()

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
        self.check_open()
        try:
            async with asyncio.timeout_at(deadline):
                await self._settled.wait()
        except TimeoutError:
            raise timed_out(False, self._absence()) from None
        self.check_open()

    def _absence(self) -> str:
        """Return why nothing can be sent at the moment; empty where there is a session."""
        if self.state in TAKES_WORK:
            return ""
        return f"no connection to {self.options.target}" + (f" ({self._last_error})" if self._last_error else "")

    # -------------------------------------------------------------------------------------------- work

    def submit(self, work: Work) -> None:
        """Queue work. It is sent in order, after what was queued before."""
        self.check_open()
        self.check_size(work.size)
        work.id = self._members.next_id()
        work.home, work.producer = self, self._producer
        self.backlog.waiting.append(work)
        self._wake()
        if work.deadline is not None:
            self.watch_deadline(work.deadline)

    def take(self, work: Work) -> None:
        """Queue work at its old place that another connection gave back."""
        if self.over is not None or self.state is State.CLOSED:
            work.fail(unsent(self.over or ClosedError("the client was closed")))
            return
        work.home, work.producer = self, self._producer
        self.backlog.put_back([work])
        self._wake()
        if work.deadline is not None:
            self.watch_deadline(work.deadline)

    def give_up(self, error: WaymakerError) -> list[Subscriber]:
        """End after a session without another one; return the subscriptions."""
        self.over = error
        self._on(Event.GIVE_UP)
        this_process.closed(self)
        return self._subscribers.withdraw()

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
        self.check_open()
        subscriber.id = self._members.next_id()
        subscriber.home = self
        self._subscribers.add(subscriber)
        self._wake()

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

    async def _run(self, delay_s: float) -> None:
        """Open sessions until the client is closed, or other members can be asked in place of the server."""
        await asyncio.sleep(delay_s)
        backoff = self.options.backoff_first
        while True:
            before = self.sessions
            error = await self._session_in_time()
            self._last_error = error
            was_welcome = self.sessions > before
            if was_welcome:
                backoff = self.options.backoff_first
            await self._hang_up()
            assert self._opened is not None
            if not self._opened.done():
                if isinstance(error, FINAL) or not self.options.wait_for_server:
                    if isinstance(error, UnavailableError):
                        error = await self._diagnosis.begin() or error
                    self._opened.set_exception(error)
                    return
            elif self._members.takes_over(self, error):
                return
            elif not self.options.reconnect:
                self.over = error
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

    async def _session_in_time(self) -> WaymakerError:
        """Run one session, unless it does not begin in time; return why it ended."""
        try:
            async with asyncio.timeout(self._patience_s) as self._patience:
                return await self._session()
        except TimeoutError:
            self._on(Event.SESSION_ENDED)
            error = UnavailableError(f"{self.target}: it does not answer", outcome=NOT_APPLIED)
            self._lose(error, again=True, announced=False)
            return error

    async def _session(self) -> WaymakerError:
        """Run one session from its opening to its end; return why it ended."""
        options = self.options
        try:
            self._channel = open_channel(options)
        except UsageError as unreadable:
            self._on(Event.SESSION_ENDED)
            return unreadable
        if (link := await self._links.find(self._channel)) is not None:
            error = await self._carried(link)
            if self.state is not State.CONNECTING:
                return error
            log.info("the native link of %s refused the session (%s); using gRPC", options.target, error)
            self._links.refuse()
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
        hello = pl.Hello(version=PIPELINE_VERSION, client="waymaker-python", follows=self.options.reconnect)
        if self._producer is not None:
            producer = self._producer.producer
            self._producer.epoch = producer.begin_epoch()
            hello.producer_id, hello.producer_epoch = producer.id, self._producer.epoch
        return pl.Frame(hello=hello).SerializeToString()

    def received(self, data: bytes) -> None:
        """Take a frame."""
        self.heard = True
        frame = pl.Frame.FromString(data)
        if frame.HasField("welcome") and self.state is State.CONNECTING:
            self._begin(frame.welcome)
        self._receive(frame)

    def _begin(self, welcome: pl.Welcome) -> None:
        if self.sessions:
            log.info("connected to %s again", self.options.target)
        self.welcome = welcome
        self.node_id = welcome.node_id
        self._patience.reschedule(None)
        self._members.began(self, welcome)
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

    @property
    def is_owed_something(self) -> bool:
        """Return True if the server is to send something, sooner or later."""
        return bool(self.backlog.in_flight) or not self._subscribers.is_empty

    def end_session(self) -> None:
        """End a session whose server is silent, as if it were lost."""
        self._patience.reschedule(asyncio.get_running_loop().time())

    def send_alone(self) -> None:
        """Send what was submitted right here, where one task alone asks: what many ask for in a turn travels together."""
        if self._alone and not self.backlog.in_flight and self.state is State.READY and self._carrier is not None:
            self._carrier.send_now()

    def _pack(self) -> bytes | None:
        """Return the next frame, or None where nothing may be sent now."""
        if self.state not in TAKES_WORK or not (self.backlog.waiting or self._subscribers.has_news):
            return None
        frame = pl.Frame()
        subscriptions = self._subscribers.pack(frame)
        backlog = self.backlog
        outbox = backlog.waiting
        window = self.welcome.window_bytes or FRAME_BYTES_TARGET
        packed: list[Work] = []
        packed_bytes = packed_messages = 0
        messages_max = self.welcome.publish_batch_max or FRAME_ITEMS_TARGET
        while outbox and self.state is State.READY:
            work = outbox[0]
            # With nothing in flight, work larger than the window is sent too: it would never fit better.
            if backlog.in_flight_bytes and backlog.in_flight_bytes + work.size > window:
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
                frame = repacked(subscriptions, packed)
                continue
            if not kept:
                continue
            packed.append(work)
            packed_bytes += work.size
            packed_messages += work.messages
            backlog.sent(work)
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
                work = self.backlog.in_flight.get(reply.id)
                if work is None or work.takes_part(reply):
                    continue
                self.backlog.answered(work)
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
            self._end(ended)
        if frame.HasField("closing"):
            self._on(Event.CLOSING)
            self._members.closing(self)
        elif self.backlog.waiting:
            self._wake()
        self._members.look()

    def _end(self, ended: pl.Ended) -> None:
        """End a subscription; one that is served elsewhere begins anew there."""
        subscriber = self._subscribers.find(ended.subscription)
        if subscriber is None:
            return
        if ended.refused.HasField("elsewhere"):
            self._members.learn(subscriber.stream, ended.refused.elsewhere)
        elif ended.reason in MOVED or ended.refused.status == UnavailableError.status:
            self._members.doubt(subscriber.stream, self)
        self._subscribers.end(ended)

    def _refused(self, work: Work, refused: pl.Refused) -> None:
        """End refused work, or put it back where the server cannot serve for the moment and did nothing."""
        error = error_of(refused)
        if not self.options.reconnect:
            work.fail(error)
            return
        if refused.HasField("elsewhere"):
            work.put_back()
            self._members.redirected(self, work, refused.elsewhere, error)
            return
        if error.outcome == UNKNOWN and isinstance(error, UnavailableError | AbortedError):
            # Its primary ended in good order, or another one leads: the same question as after a lost connection.
            if not self._again(work, error, error):
                return
        elif not (isinstance(error, UnavailableError) and error.outcome == NOT_APPLIED):
            work.fail(error)
            return
        if self._members.has_others:
            work.put_back()
            self._members.unserved(self, work, error)
            return
        self.backlog.put_back([work])
        self._last_error = error
        if self._on(Event.REFUSED):
            self._pause_s = min(max(self._pause_s * 2, self.options.backoff_first), self.options.backoff_max)
            asyncio.get_running_loop().call_later(self._pause_s, self._resume)

    def _resume(self) -> None:
        self._on(Event.RESUME)
        self._wake()

    def _lose(self, error: WaymakerError, again: bool, announced: bool) -> None:
        """Settle what was in flight when a session ended; `announced`: the server had said that it stops."""
        self._subscribers.session_lost()
        works = self.backlog.lose()
        if announced and isinstance(error, UnavailableError) and error.outcome == NOT_APPLIED:
            # A server that stops in order answers all that it has read before it says this.
            self.backlog.put_back(works)
            return
        lost = ConnectionLostError(f"the connection was lost before the answer came ({error})", outcome=UNKNOWN)
        if again and self.options.reconnect:
            self.backlog.put_back([work for work in works if self._again(work, error, lost)])
        else:
            for work in works:
                work.fail(lost)

    def _again(self, work: Work, error: WaymakerError, lost: WaymakerError) -> bool:
        """Return True if lost work is sent again: it must be safe, and must not be what ends the sessions."""
        work.losses += not isinstance(error, UnavailableError)
        if work.losses >= LOSSES_MAX:
            work.fail(error)
            return False
        if not work.lost(lost):
            return False
        if work.lane and self._producer is not None and self._members.has_others:
            self._producer.producer.begin_anew(work.lane)
        return True

    def _fail_all(self, error: WaymakerError) -> None:
        assert not self.backlog.in_flight, "work without an answer is settled by `_lose`"
        for work in self.backlog.withdraw():
            work.fail(unsent(error))
        self._subscribers.fail(error)

    def _expire(self) -> None:
        """End work whose time is over and set the timer for the next."""
        self._sweep = None
        deadline = self.backlog.expire(asyncio.get_running_loop().time(), self._absence())
        if deadline is not None:
            self.watch_deadline(deadline)

    async def _hang_up(self) -> None:
        carrier, channel = self._carrier, self._channel
        self._carrier = self._channel = None
        if carrier is not None:
            carrier.hang_up()
        if channel is not None:
            await channel.close()

    def check_open(self) -> None:
        if self.is_inherited:
            raise inherited()
        if self.over is not None:
            raise unsent(self.over)
        if self.state is State.CLOSED:
            raise ClosedError("the client is closed")
        if self.state is State.IDLE:
            raise ClosedError("the client is not open; use `async with`")

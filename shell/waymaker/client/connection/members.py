"""The connections of one client: to one server, or to the members of a cluster, and which of them serves what.

A single server has one connection, which renews its own session, and nothing here adds to a call but its name. Of a cluster the
client learns the members from the servers' welcomes and refusals. It asks the `main` connection until a refusal names another
member, remembers that, and has one connection to each member that it needs.

Work changes its connection only where it certainly was not applied, or where `Work.lost` says that sending it again is safe.
What is about one stream keeps its order: while a part of it is on its way elsewhere, the rest waits in a `_Hold`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from waymaker.client.connection.connection import Connection
from waymaker.client.connection.failures import FINAL
from waymaker.client.connection.liveness import Liveness
from waymaker.client.connection.numbering import Producer
from waymaker.client.connection.states import TAKES_WORK, State
from waymaker.client.errors import NOT_APPLIED, ClosedError, HandshakeError, UnavailableError, UsageError, WaymakerError
from waymaker_proto import pipeline_pb2 as pl

if TYPE_CHECKING:
    import grpc.aio

    from waymaker.client.connection.subscribers import Subscriber
    from waymaker.client.connection.work import Work
    from waymaker.client.options import Options

log = logging.getLogger("waymaker.client")

TOPICS_MAX: Final = 10_000
"""Topics of which the member that serves them is remembered."""
PROMPT_HOPS: Final = 2
"""Refusals after which work is sent on at once; past it members contradict each other, and it waits between them."""
PAUSE_MAX_S: Final = 0.4
DOWN_MAX_S: Final = 1.0
"""The longest time for which a member that could not be reached is left alone."""
LOOK_S: Final = 0.02
LOOK_MAX_S: Final = 0.1
"""The intervals of looks at what waits to be sent elsewhere."""
SEED_S: Final = 1.5
"""The time that one of several addresses may take to answer, before the next one is tried."""


class _Hold:
    """Work of one topic on its way to another member: it leaves together once none of it is in flight any more."""

    def __init__(self) -> None:
        self.works: list[Work] = []
        self.due = 0.0
        self.sources: set[Connection] = set()


class _Down:
    """A member that could not be reached: until when it is left alone, and for how long the next time."""

    def __init__(self, until: float, pause_s: float) -> None:
        self.until = until
        self.pause_s = pause_s


class Members:
    """The connections of a client. Belongs to one event loop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.producer = Producer() if options.resend and options.reconnect else None
        self.welcome = pl.Welcome()
        """The newest welcome of a server."""
        self.main = Connection(options.at(options.targets[0]), self)
        self._connections: list[Connection] = [self.main]
        self._addresses: dict[int, str] = {}
        """Of the cluster's members, by their numbers."""
        self._serves: dict[str, int] = {}
        """Topics and the members that serve them, as far as it was not the main one."""
        self._holds: dict[str, _Hold] = {}
        self._down: dict[str, _Down] = {}
        self._latest = self.main
        """The connection that was given work last."""
        self._next_id = 0
        self._sessions_before = 0
        self._ticker: asyncio.TimerHandle | None = None
        self._is_open = False
        self._liveness = Liveness(lambda: self._connections)
        self._last_error: WaymakerError | None = None

    # ------------------------------------------------------------------------------------ open and close

    async def open(self) -> None:
        """Connect to the first server of those named that answers; UnavailableError where none does in time."""
        targets = self.options.targets
        if len(targets) == 1:
            await self.main.open()
        else:
            await self._open_one_of(targets)
        self._is_open = True
        if self.has_others:
            self._liveness.begin()

    async def _open_one_of(self, targets: tuple[str, ...]) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.options.connect_timeout
        while True:
            errors: list[WaymakerError] = []
            for place, target in enumerate(targets):
                share = max((ends - loop.time()) / (len(targets) - place), 0.05)
                # The last one may use up the time that the others left.
                options = self.options.at(target, min(share, SEED_S) if place < len(targets) - 1 else share)
                self.main = self._latest = Connection(options, self)
                self._connections = [self.main]
                try:
                    await self.main.open()
                    return
                except (UnavailableError, HandshakeError) as error:
                    errors.append(error)
            if not self.options.wait_for_server or loop.time() + self.options.backoff_first > ends:
                for each in errors:
                    if isinstance(each, HandshakeError):
                        raise each
                raise UnavailableError("; ".join(map(str, errors)), outcome=NOT_APPLIED)
            await asyncio.sleep(self.options.backoff_first)

    async def close(self) -> None:
        """End all sessions; whatever is still waiting fails."""
        if self._ticker is not None:
            self._ticker.cancel()
        self._is_open = False
        self._liveness.end()
        holds, self._holds = self._holds, {}
        for connection in list(self._connections):
            await connection.close()
        for work in _all_works(holds.values()):
            work.fail(ClosedError("the client was closed", outcome=NOT_APPLIED))

    # ----------------------------------------------------------------------------- the client's view

    @property
    def state(self) -> State:
        """Return the state of the main connection."""
        return self.main.state

    @property
    def sessions(self) -> int:
        """Return the number of sessions that were opened."""
        return self._sessions_before + sum(connection.sessions for connection in self._connections)

    @property
    def over_link(self) -> bool:
        """Return True while the main session runs over the native link."""
        return self.main.over_link

    @property
    def ended(self) -> bool:
        """Return True if there will be no other session."""
        return self.main.ended

    @property
    def is_inherited(self) -> bool:
        """Return True in a process that was forked off after the opening: the connections are the parent's."""
        return self.main.is_inherited

    @property
    def channel(self) -> grpc.aio.Channel:
        """Return the present channel, for calls outside the session: any member takes any call."""
        return self.main.channel

    @property
    def has_others(self) -> bool:
        """Return True if another member can be asked where one cannot serve."""
        return self._is_open and self.options.reconnect and len(self._candidates()) > 1

    async def connected(self, deadline: float | None = None) -> None:
        """Wait until there is a session; DeadlineExceededError where there is none by `deadline`, in the loop's time."""
        while True:
            main = self.main
            try:
                await main.connected(deadline)
            except WaymakerError:
                if main is self.main:
                    raise
            if main is self.main:
                return

    def submit(self, work: Work) -> None:
        """Queue work. What is about one stream is sent in order, after what was queued before."""
        if not self._serves and not self._holds:
            self.main.submit(work)
            return
        hold = self._holds.get(work.topic)
        if hold is None:
            self._latest = self.connection_for(work.topic)
            self._latest.submit(work)
            return
        self.main.check_open()
        self.main.check_size(work.size)
        work.id = self.next_id()
        hold.works.append(work)

    def check_size(self, size: int) -> None:
        """Raise ResourceExhaustedError for work that fits in no frame."""
        self.main.check_size(size)

    def send_alone(self) -> None:
        """Send what was submitted right here, where one task alone asks."""
        (self._latest if self._serves else self.main).send_alone()

    def watch_deadline(self, deadline: float) -> None:
        """Set the timers so that one fires at this deadline at the latest."""
        for connection in self._connections:
            connection.watch_deadline(deadline)

    def add_subscriber(self, subscriber: Subscriber) -> None:
        """Subscribe at the member that serves its stream, as far as known."""
        self.connection_for(subscriber.stream).add_subscriber(subscriber)

    def retry_subscriber(self, subscriber: Subscriber) -> None:
        """Subscribe again after a pause, unless the client ends first."""

        def again() -> None:
            if self.ended:
                subscriber.ended("", self.main.over or ClosedError("the client was closed"))
            elif subscriber.is_wanted:
                self.add_subscriber(subscriber)

        first = self.options.backoff_first
        # At another member at once; where there is one server only, as many clients as it has do the same.
        pause_s = 0.0 if subscriber.stream in self._serves and not subscriber.hops else first
        subscriber.hops += 1
        if subscriber.hops > PROMPT_HOPS and self._addresses:
            pause_s = self.pause_s(subscriber.hops)
        asyncio.get_running_loop().call_later(pause_s, again)

    def drop_subscriber(self, subscriber: Subscriber) -> None:
        """Forget a subscription; unsubscribe where a server knows of it."""
        if subscriber.home is not None:
            subscriber.home.drop_subscriber(subscriber)

    def pause_s(self, hops: int) -> float:
        """Return how long to wait with what several members sent away: longer each time, with half of it drawn by lot."""
        return min(self.options.backoff_first * (1 << min(hops - 1, 6)), PAUSE_MAX_S) * (0.5 + random.random() / 2)

    # ------------------------------------------------------------------------------ for the connections

    def next_id(self) -> int:
        """Return the number of the next piece of work or subscription: it is its place in the order of all."""
        self._next_id += 1
        return self._next_id

    def began(self, connection: Connection, welcome: pl.Welcome) -> None:
        """Note that a session began."""
        self.welcome = welcome
        self._down.pop(connection.target, None)
        for member in welcome.members:
            self._addresses[member.node_id] = member.address
        if self.has_others:
            self._liveness.begin()

    def redirected(self, connection: Connection, work: Work, elsewhere: pl.Elsewhere, error: WaymakerError) -> None:
        """Send work to the member that serves it: it was not applied."""
        self._last_error = error
        is_reachable = self.learn(work.topic, elsewhere)
        work.hops += 1
        prompt = is_reachable and work.hops <= PROMPT_HOPS
        self._hold(connection, work, 0.0 if prompt else self.pause_s(work.hops))

    def unserved(self, connection: Connection, work: Work, error: WaymakerError) -> None:
        """Ask another member after a while: this one could not serve the work, and did not apply it."""
        self._last_error = error
        work.hops += 1
        if work.hops > 1:  # a stream that was just created is led in a moment, where it was created
            self.doubt(work.topic, connection)
        self._hold(connection, work, self.pause_s(work.hops))

    def learn(self, topic: str, elsewhere: pl.Elsewhere) -> bool:
        """Remember who serves a topic; return True if that member can be reached, as far as known."""
        node_id = elsewhere.node_id
        if elsewhere.address:
            self._addresses[node_id] = elsewhere.address
            self._liveness.begin()
        if len(self._serves) >= TOPICS_MAX and topic not in self._serves:
            self._serves.clear()
        self._serves[topic] = node_id
        return self._of_node(node_id) is not None or (node_id in self._addresses and not self._is_down(node_id))

    def doubt(self, topic: str, connection: Connection) -> None:
        """Ask the next member about a topic: this one does not serve it, and knows of none that does."""
        nodes = sorted(self._addresses)
        if len(nodes) < 2:
            self._serves.pop(topic, None)
            return
        after = [node_id for node_id in nodes if node_id > connection.node_id]
        self._serves[topic] = (after or nodes)[0]

    def closing(self, connection: Connection) -> None:
        """Move what a server that stops was not sent yet to other members."""
        if not self.has_others:
            return
        self._forget(connection)
        if connection is self.main:
            self._replace_main()
        self._place(connection.backlog.withdraw())

    def takes_over(self, connection: Connection, error: WaymakerError) -> bool:
        """Take what a connection had whose session ended, where other members can be asked; return True if so."""
        if isinstance(error, FINAL) or not self.has_others:
            return False
        self._last_error = error
        self._connections.remove(connection)
        self._sessions_before += connection.sessions
        self._forget(connection)
        self._leave_alone(connection.target)
        if connection is self.main:
            self._replace_main()
        subscribers = connection.give_up(error)
        self._place(connection.backlog.withdraw())
        for subscriber in subscribers:
            self.add_subscriber(subscriber)
        self.look()
        return True

    def look(self) -> None:
        """Send what waits to be sent elsewhere, as far as its time has come and none of its topic is in flight."""
        if not self._holds:
            return
        now = asyncio.get_running_loop().time()
        for topic, hold in list(self._holds.items()):
            if hold.due <= now and not any(source.backlog.has_in_flight(topic) for source in hold.sources):
                del self._holds[topic]
                self._place(hold.works)

    # ------------------------------------------------------------------------------------------- within

    def connection_for(self, topic: str) -> Connection:
        """Return the connection that is asked about a topic; it may have to be opened yet."""
        node_id = self._serves.get(topic)
        if node_id is None:
            return self.main
        connection = self._of_node(node_id)
        if connection is not None:
            return connection
        if node_id not in self._addresses or self._is_down(node_id):
            return self.main
        try:
            return self._dial(self._addresses[node_id], node_id)
        except UsageError as error:
            self._last_error = error
            return self.main

    def _of_node(self, node_id: int) -> Connection | None:
        address = self._addresses.get(node_id)
        for connection in self._connections:
            if connection.state is not State.DRAINING and (
                connection.node_id == node_id or (not connection.node_id and connection.target == address)
            ):
                return connection
        return None

    def _dial(self, address: str, node_id: int = 0, delay_s: float = 0.0) -> Connection:
        connection = Connection(self.options.at(address, SEED_S), self, node_id)
        self._connections.append(connection)
        connection.start(delay_s)
        return connection

    def _replace_main(self) -> None:
        """Make another connection the main one: one with a session, else the one to the address that failed longest ago."""
        others = [each for each in self._connections if each is not self.main and each.state is not State.DRAINING]
        ready = [each for each in others if each.state in TAKES_WORK]
        if ready or others:
            self.main = (ready or others)[0]
            return
        now = asyncio.get_running_loop().time()
        candidates = [address for address in self._candidates() if address != self.main.target] or [self.main.target]
        address = min(candidates, key=lambda each: self._down[each].until if each in self._down else 0.0)
        until = self._down[address].until if address in self._down else 0.0
        self.main = self._dial(address, delay_s=max(until - now, 0.0))

    def _candidates(self) -> list[str]:
        """Return every address at which a member may be found: those that members name first."""
        return list(
            dict.fromkeys([*(self._addresses[each] for each in sorted(self._addresses)), *self.options.targets])
        )

    def _is_down(self, node_id: int) -> bool:
        down = self._down.get(self._addresses.get(node_id, ""))
        return down is not None and down.until > asyncio.get_running_loop().time()

    def _leave_alone(self, address: str) -> None:
        """Note that an address could not be reached."""
        now = asyncio.get_running_loop().time()
        before = self._down.get(address)
        pause_s = self.options.backoff_first if before is None else min(before.pause_s * 2, DOWN_MAX_S)
        self._down[address] = _Down(now + pause_s * (0.5 + random.random() / 2), pause_s)

    def _forget(self, connection: Connection) -> None:
        """Forget what a member serves."""
        if connection.node_id:
            self._serves = {topic: node for topic, node in self._serves.items() if node != connection.node_id}

    def _place(self, works: Iterable[Work]) -> None:
        """Queue work anew, in its order."""
        for work in sorted(works, key=lambda work: work.id):
            hold = self._holds.get(work.topic)
            if hold is not None:
                hold.works.append(work)
            else:
                self.connection_for(work.topic).take(work)

    def _hold(self, connection: Connection, work: Work, pause_s: float) -> None:
        """Keep work, and what of its topic was not sent behind it, until it can be sent elsewhere."""
        hold = self._holds.setdefault(work.topic, _Hold())
        hold.works += [work, *connection.backlog.withdraw(work.topic)]
        hold.sources.add(connection)
        hold.due = max(hold.due, asyncio.get_running_loop().time() + pause_s)
        if self._ticker is None:
            self._tick()

    def _tick(self) -> None:
        """Look at what is held, and end what waited too long."""
        self._ticker = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        absence = f"no member serves it at the moment ({self._last_error})"
        for hold in self._holds.values():
            hold.works = [work for work in hold.works if not work.expire(now, absence)]
        self._holds = {topic: hold for topic, hold in self._holds.items() if hold.works}
        self.look()
        if self._holds:
            due = min(hold.due for hold in self._holds.values()) - now
            self._ticker = loop.call_later(min(max(due, LOOK_S), LOOK_MAX_S), self._tick)


def _all_works(holds: Iterable[_Hold]) -> list[Work]:
    return sorted((work for hold in holds for work in hold.works), key=lambda work: work.id)

"""The other members of a cluster: a connection a lane to each, those that come from each, and what each said of itself.

Every member connects to every other one and sends on what it connected; so two members never have to agree on whose
connection counts. Nothing is confirmed and nothing is sent again here: the core's protocol does both.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from waymaker.server.config import ServerConfig
from waymaker.server.peers.connection import Connection
from waymaker.server.peers.figures import LaneFigures
from waymaker.server.peers.frames import MESSAGE_BYTES_MAX
from waymaker.server.peers.hello import IDENTITY_BYTES, Hello, cluster_identity, mismatch
from waymaker.server.peers.lanes import OutgoingLane
from waymaker.server.peers.port import BACKLOG, PeerPort
from waymaker.server.peers.repeated_lines import RepeatedLines
from waymaker_core.cluster.effects import Lane

CONNECT_S: Final = 1.0
BACKOFF_S: Final = 0.05
BACKOFF_MAX_S: Final = 1.0
STARTING_S: Final = 3.0
"""The time after the start for which members that are not there are not worth a line."""
UNGREETED_MAX: Final = 64
"""Connections at once that have not said who they are."""
_HANDSHAKE_S: Final = 3.0

log = structlog.get_logger("waymaker.peers")


class Peer:
    """Another member: its lanes, and what it said of itself last."""

    def __init__(self, node_id: int) -> None:
        self.lanes = {lane: OutgoingLane(LaneFigures(node_id, lane)) for lane in Lane}
        self.incoming: dict[int, Connection] = {}
        """By lane, the connection that it made."""
        self.hello: Hello | None = None
        self.is_there = {lane: asyncio.Event() for lane in Lane}
        """Set when the other member connected: then it can be connected to, and no pause is worth its time."""


class Peers:
    """All other members. Needs a running event loop."""

    def __init__(self, config: ServerConfig, port: PeerPort) -> None:
        assert config.cluster is not None
        self._own = config.node_id
        self._addresses = {each.node_id: each.address for each in config.cluster if each.node_id != self._own}
        self._peers = {node_id: Peer(node_id) for node_id in self._addresses}
        self._port = port
        self._cluster = cluster_identity(config.cluster_name, [each.node_id for each in config.cluster])
        self._start = os.urandom(IDENTITY_BYTES)
        self._client_address = self._link_address = ""
        self._deliver: Callable[[int, bytes], None] = _ignore
        self._started = 0.0
        self._closing = False
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._open: set[Connection] = set()
        self._to_flush: list[OutgoingLane] = []
        self._lines = RepeatedLines()
        self.refused = 0
        """Connections that did not belong here."""

    # ------------------------------------------------------------ lifecycle

    async def start(self, deliver: Callable[[int, bytes], None], client_address: str, link_address: str = "") -> None:
        """Connect and accept from now on. `deliver` takes the sender of a message and its bytes."""
        loop = asyncio.get_running_loop()
        self._deliver, self._started = deliver, loop.time()
        self._client_address, self._link_address = client_address, link_address
        tls = self._port.server_tls
        self._server = await loop.create_server(
            lambda: Connection(self, 0), sock=self._port.take_socket(), backlog=BACKLOG, ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE_S if tls is not None else None,
        )  # fmt: skip
        for node_id in self._addresses:
            for lane in Lane:
                self._tasks.append(loop.create_task(self._keep_connected(node_id, lane)))

    async def close(self) -> None:
        """End every connection, and accept none."""
        self._closing = True
        self._port.close()
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()
        for connection in list(self._open):
            connection.refuse("this member stops")
        await asyncio.sleep(0)

    # ------------------------------------------------------------ sending

    def send(self, to: int, lane: Lane, data: bytes) -> None:
        """Add a message to what `flush` sends. It may be lost, and nothing says so."""
        peer = self._peers.get(to)
        if len(data) > MESSAGE_BYTES_MAX:
            # The other side would end the connection for it, again and again.
            self._lines.write(
                log.error, "peer_message_too_large", peer=to, bytes=len(data), bytes_max=MESSAGE_BYTES_MAX
            )
        elif peer is not None and peer.lanes[lane].add(data):
            self._to_flush.append(peer.lanes[lane])

    def flush(self) -> None:
        """Send what was added: one write for each lane."""
        if self._to_flush:
            lanes, self._to_flush = self._to_flush, []
            for lane in lanes:
                lane.flush()

    # ------------------------------------------------------------ views

    def client_address(self, node_id: int) -> str | None:
        """Return where clients reach a member, as HOST:PORT, as it announced last; None if that is not known."""
        if node_id == self._own:
            return self._client_address or None
        peer = self._peers.get(node_id)
        return None if peer is None or peer.hello is None else peer.hello.client_address or None

    def link_address(self, node_id: int) -> str | None:
        """Return where clients reach a member's native link, as HOST:PORT, as it announced last; None if not known."""
        if node_id == self._own:
            return self._link_address or None
        peer = self._peers.get(node_id)
        return None if peer is None or peer.hello is None else peer.hello.link_address or None

    def figures(self) -> Iterator[LaneFigures]:
        """Yield the figures of every lane to every other member."""
        for peer in self._peers.values():
            for outgoing in peer.lanes.values():
                outgoing.figures.is_connected = outgoing.is_connected
                yield outgoing.figures

    # ------------------------------------------------------------ connecting

    async def _keep_connected(self, node_id: int, lane: Lane) -> None:
        """Connect one lane to one member, and again whenever the connection ends."""
        outgoing = self._peers[node_id].lanes[lane]
        pause = BACKOFF_S
        while True:
            made = outgoing.figures.connected
            try:
                connection = await self._connect(node_id, lane)
            except (OSError, TimeoutError) as error:
                self._not_connected(node_id, str(error) or "no answer in time")
            else:
                await connection.closed
            pause = BACKOFF_S if outgoing.figures.connected > made else min(pause * 2, BACKOFF_MAX_S)
            there = self._peers[node_id].is_there[lane]
            there.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                    await there.wait()

    async def _connect(self, node_id: int, lane: Lane) -> Connection:
        address = self._addresses[node_id]
        tls = self._port.client_tls
        async with asyncio.timeout(CONNECT_S if tls is None else CONNECT_S + _HANDSHAKE_S):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self, node_id, lane), address.host, address.port, ssl=tls
            )
        return connection

    def _not_connected(self, node_id: int, reason: str) -> None:
        if self._closing or asyncio.get_running_loop().time() - self._started < STARTING_S:
            return  # members that are started together come one after the other
        address = str(self._addresses[node_id])
        self._lines.write(log.warning, "peer_not_connected", str(node_id), peer=node_id, address=address, reason=reason)

    # ------------------------------------------------------------ what connections report

    def own_hello(self, connection: Connection) -> Hello:
        """Return what this member says of itself on a connection."""
        to = connection.dialled or (connection.peer.node_id if connection.peer is not None else 0)
        return Hello(
            self._cluster, self._own, to, Lane(connection.lane), self._start, self._client_address, self._link_address
        )

    def greeted(self, connection: Connection, hello: Hello) -> str:
        """Take the other side's hello; return why the connection is refused, or nothing."""
        reason = mismatch(self.own_hello(connection), hello)
        peer = self._peers.get(hello.node_id)
        if not reason and peer is None:
            reason = f"there is no member {hello.node_id} in this cluster"
        if not reason and hello.lane != connection.lane:
            reason = "it answers on another lane"
        if reason or peer is None:
            return reason
        previous = peer.hello
        peer.hello = hello
        if connection.dialled:
            lane = peer.lanes[hello.lane]
            lane.connection = connection
            lane.figures.connected += 1
            self._lines.forget("peer_not_connected", str(hello.node_id))
            if hello.lane is Lane.LIVE:
                logged_as = "peer_connected" if previous is None or previous.start == hello.start else "peer_restarted"
                self._lines.write(log.info, logged_as, str(hello.node_id), peer=hello.node_id)
        else:
            self._replace(peer, connection)
        return ""

    def _replace(self, peer: Peer, connection: Connection) -> None:
        """Take a connection that a member made in the place of its last one on that lane."""
        for there in peer.is_there.values():
            there.set()
        old = peer.incoming.get(connection.lane)
        peer.incoming[connection.lane] = connection
        if old is not None:
            old.abort("it connected anew")

    def connection_made(self, connection: Connection) -> bool:
        """Note a connection; return False if it is one too many."""
        if sum(each.peer is None for each in self._open) >= UNGREETED_MAX:
            return False
        self._open.add(connection)
        return True

    def message_arrived(self, connection: Connection, data: bytes) -> None:
        """Hand a message to the core."""
        assert connection.peer is not None
        node_id = connection.peer.node_id
        counts = self._peers[node_id].lanes[Lane(connection.lane)].figures
        counts.received_messages += 1
        counts.received_bytes += len(data)
        self._deliver(node_id, data)

    def connection_ended(self, connection: Connection, reason: str) -> None:
        """Forget a connection, and log why it ended."""
        self._open.discard(connection)
        for peer in self._peers.values():
            for outgoing in peer.lanes.values():
                if outgoing.connection is connection:
                    outgoing.connection = None
            if peer.incoming.get(connection.lane) is connection:
                del peer.incoming[connection.lane]
        if connection.peer is None and not connection.dialled and not self._closing:
            self.refused += 1
            host = connection.address.rpartition(":")[0]
            self._lines.write(log.warning, "peer_refused", host, address=connection.address, reason=reason)
        elif connection.dialled:
            self._not_connected(connection.dialled, reason)


def _ignore(sender: int, data: bytes) -> None:
    """Drop a message that comes before the start."""

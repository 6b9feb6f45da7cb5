"""One server: listeners, services and the node runner, put together around one node.

The table of contents of the shell: which service is served by what, who may call without credentials (only the health
service), and the order in which things stop. Nothing here knows files or signals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from waymaker.server.auth.authenticator import Authenticator
from waymaker.server.auth.tokens import Tokens
from waymaker.server.config import Address, ServerConfig
from waymaker.server.grpc.admin import Admin
from waymaker.server.grpc.caller import Caller
from waymaker.server.grpc.calls import Calls, Guarded, Router, not_offered
from waymaker.server.grpc.forwarding import Forwarder
from waymaker.server.grpc.gate import Gate
from waymaker.server.grpc.kv_watch import KvWatches
from waymaker.server.grpc.listener import StartError, bind, forwarding_credentials, new_server, why_not
from waymaker.server.grpc.objects import ObjectCalls
from waymaker.server.grpc.rpcs import LATER, Serving
from waymaker.server.grpc.services import RPCS
from waymaker.server.grpc.streaming import Streaming
from waymaker.server.http.condition import Condition
from waymaker.server.http.metrics import Figures, Metrics
from waymaker.server.lifecycle import STOPPING, TRANSITIONS, Event, State
from waymaker.server.membership import Membership
from waymaker.server.node_runner import CoreNode, NodeRunner
from waymaker.server.peers.peers import Peers
from waymaker.server.peers.port import PeerPort, PeerPortError
from waymaker.server.pipeline.link import Figures as LinkFigures
from waymaker.server.pipeline.link_listener import LinkListener, LinkPort
from waymaker.server.pipeline.session import Sessions
from waymaker.server.pipeline.transport_grpc import GrpcSessions
from waymaker.server.runner_parts import Disk
from waymaker.state_machine import StateMachine
from waymaker.wire.protocol import ADMIN_SERVICE, KV_SERVICE, PIPELINE_SERVICE, STREAMS_SERVICE
from waymaker_core.api.effects import Halt
from waymaker_core.cluster.member import Member
from waymaker_proto import admin_pb2

if TYPE_CHECKING:
    from waymaker.server.http.listener import OperatorsListener

SERVICES: Final = (*RPCS, PIPELINE_SERVICE, ADMIN_SERVICE)

_QUIET_S: Final = 1.0
"""The time for which a closing server waits for calls to stop coming."""
_READINESS_S: Final = 0.2
_FLUSH_S: Final = 3.0
"""The time that answers in flight may take to leave, once the node has nothing more to say."""

log = structlog.get_logger("waymaker.server")


class _Health(health.aio.HealthServicer):  # type: ignore[misc]
    """The standard service, whose watches end with the server instead of keeping it."""

    def __init__(self) -> None:
        super().__init__()
        self._over = asyncio.Event()

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the contract's name
        """Report changes until the client has enough, or the server stops."""
        watching = asyncio.ensure_future(super().Watch(request, Caller(context)))
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait([watching, over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            over.cancel()

    def end_watches(self) -> None:
        """End every watch."""
        self._over.set()


class ServedNode(CoreNode, Figures, Protocol):
    """A node as the server uses it."""

    @property
    def directory_id(self) -> str: ...

    def quarantined(self) -> list[str]: ...


class Members:
    """The members of this node's cluster as clients see them, itself included. No ids: it has no cluster."""

    def __init__(self, ids: Sequence[int] = (), client_address: Callable[[int], str | None] | None = None) -> None:
        self.ids = ids
        self._client_address = client_address

    def address(self, node_id: int) -> str | None:
        """Return where clients reach a member, as HOST:PORT; None where that is not known."""
        return None if self._client_address is None else self._client_address(node_id)

    def known(self) -> list[tuple[int, str]]:
        """Return the members whose addresses are known."""
        found = [(node_id, self.address(node_id)) for node_id in self.ids]
        return [(node_id, address) for node_id, address in found if address]


class Listeners:
    """The ports, opened before anything that takes long; clients that come early wait. Raises `StartError`."""

    def __init__(self, config: ServerConfig) -> None:
        self.condition = Condition()
        try:
            self.peers = PeerPort(config) if config.cluster is not None else None
        except PeerPortError as error:
            raise StartError(str(error)) from None
        self.grpc = new_server(config)
        self.address: Address = bind(self.grpc, config)
        self.link = LinkPort(config, self.address)
        self.operators: OperatorsListener | None = None
        self._metrics: Metrics | None = None
        if config.metrics_listen is not None:
            # Loaded only where it is used: an HTTP server and its libraries take a quarter of a second of a start.
            from waymaker.server.http.listener import OperatorsListener, application

            app = application(self.condition, self._scrape)
            try:
                self.operators = OperatorsListener(config.metrics_listen, app)
            except OSError:
                reason = why_not(config.metrics_listen)
                raise StartError(f"cannot serve metrics on {config.metrics_listen}: {reason}") from None
            self.operators.start()

    def measure(self, metrics: Metrics) -> None:
        """Serve these metrics from now on."""
        self._metrics = metrics

    def _scrape(self) -> bytes:
        return self._metrics.text() if self._metrics is not None else b""

    async def close(self) -> None:
        """Close what is still open."""
        await self.grpc.stop(None)
        self.link.close()
        if self.peers is not None:
            self.peers.close()
        if self.operators is not None:
            await self.operators.stop()


class Server:
    """A node in service on this event loop."""

    def __init__(
        self, config: ServerConfig, listeners: Listeners, opened: ServedNode | Member, disk: Disk, tokens: Tokens | None,
        version: str, members: Members | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.listeners = listeners
        self.authenticator = Authenticator(tokens)
        node: ServedNode = opened.node if isinstance(opened, Member) else opened
        self._node = node
        self.peers: Peers | None = None
        self._membership: Membership | None = None
        if isinstance(opened, Member):
            assert listeners.peers is not None
            self.peers = Peers(config, listeners.peers)
            self._membership = Membership(config, opened, self.peers)
        self._watching: asyncio.Task[None] | None = None
        self._members = members or _members(config, self.peers)
        self._version = version
        self._lifecycle = StateMachine(State.STARTING, TRANSITIONS)
        self._gate = Gate()
        self._health = _Health()
        link_figures = LinkFigures()
        self.metrics = Metrics(node, lambda: len(self.sessions), link_figures)
        if self._membership is not None:
            self.metrics.add_cluster(self._membership)
        self.runner = NodeRunner(opened, disk, self.metrics, self.peers, self._members.address)
        self._forwarder = Forwarder(forwarding_credentials(config)) if self._members.ids else None
        serving = Serving(config.limits, config.node_id)
        self.sessions = Sessions(
            self.runner,
            serving,
            config.session_window_bytes,
            version,
            self.metrics.observe,
            self._gate.arrived,
            self._lifecycle,
            self._members.known,
            config.node_id if self._members.ids else 0,
        )
        self.link = LinkListener(config, listeners.link, self.sessions, self.authenticator, self.runner, link_figures)
        calls = Calls(self.runner, serving, self.metrics.observe)
        streaming = Streaming(self.runner, serving)
        objects = ObjectCalls(self.runner, serving, self.metrics.observe)
        admin = Admin(self.runner, calls, self._facts, self._cluster_facts)
        router = self.router = Router(self.authenticator, self._gate, self._forwarder)
        for service in RPCS:
            router.add_unary(service, calls.methods(service))
        router.add_streams(STREAMS_SERVICE, streaming.methods())
        router.add_unary(STREAMS_SERVICE, objects.unary())
        router.add_streams(STREAMS_SERVICE, objects.streams())
        router.add_sessions(STREAMS_SERVICE, objects.sessions())
        router.add_streams(KV_SERVICE, KvWatches(self.runner).methods())
        router.add_sessions(STREAMS_SERVICE, dict.fromkeys(LATER, not_offered))
        router.add_sessions(PIPELINE_SERVICE, GrpcSessions(self.sessions).methods())
        router.add_unary(ADMIN_SERVICE, admin.unary())
        router.add_streams(ADMIN_SERVICE, admin.streams())
        router.add_sessions(ADMIN_SERVICE, admin.sessions())
        listeners.grpc.add_generic_rpc_handlers((router, *self._borrowed()))
        listeners.measure(self.metrics)

    def _borrowed(self) -> list[grpc.GenericRpcHandler]:
        """Return the standard services. Health answers probes without credentials; reflection is for authenticated callers."""
        found = _Handlers()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, found)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        guarded = _Handlers()
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), guarded)
        return [*found.handlers, *(Guarded(self.authenticator, handler) for handler in guarded.handlers)]

    def _facts(self, response: admin_pb2.ServerInfoResponse) -> None:
        stats = self._node.stats
        response.version = self._version
        response.node_id = self.config.node_id
        response.directory_id = self._node.directory_id
        response.sync = self.config.sync
        response.streams = stats.streams
        response.consumers = stats.consumers
        response.draining = self._lifecycle.state in STOPPING
        response.quarantined.extend(self._node.quarantined())
        for node_id, address in self._members.known():
            response.members.add(node_id=node_id, address=address)
        self.link.announce(response)

    def _cluster_facts(self, response: admin_pb2.ClusterStatusResponse) -> None:
        response.node_id = self.config.node_id
        if self._membership is not None:
            self._membership.fill(response)

    def _announced(self) -> tuple[str, str]:
        """Return where the other members send clients: to the contract's port, and to the native link's."""
        address = self.config.advertise or self.listeners.address
        link = self.listeners.link.address
        return str(address), "" if link is None else str(Address(address.host, link.port))

    # ------------------------------------------------------------ lifecycle

    async def start(self) -> None:
        """Serve calls from now on."""
        self.runner.start()
        await self._report_ready(self._not_ready)
        await self.link.start()
        if self.peers is not None:
            await self.peers.start(self.runner.from_peer, *self._announced())
        await self.listeners.grpc.start()
        self._lifecycle.on(Event.START)
        self.listeners.condition.not_ready = self._not_ready
        if self._membership is not None:
            self._watching = asyncio.create_task(self._watch_leader(self._membership))

    @property
    def _not_ready(self) -> str:
        return "" if self._membership is None else self._membership.not_ready

    async def _report_ready(self, not_ready: str) -> None:
        """Let the standard health service say whether calls are served."""
        answer = health_pb2.HealthCheckResponse
        for name in SERVICES:
            await self._health.set(name, answer.NOT_SERVING if not_ready else answer.SERVING)

    async def _watch_leader(self, membership: Membership) -> None:
        """Follow which leader this member knows: without one it refuses what needs one."""
        condition = self.listeners.condition
        leader = 0
        while self._lifecycle.state is State.SERVING:
            if membership.leader != leader:
                leader = membership.leader
                log.info("catalog_leader" if leader else "catalog_leader_lost", leader=leader)
            if condition.not_ready != membership.not_ready:
                condition.not_ready = membership.not_ready
                await self._report_ready(membership.not_ready)
            await asyncio.sleep(_READINESS_S)

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def drain(self, grace_s: float) -> Halt | None:
        """Stop serving in good order. Return how the node halted, or None if it did not within the grace period."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        self._lifecycle.on(Event.DRAIN)
        self._stop_watching()
        self.listeners.condition.not_ready = "draining"
        await self._health.enter_graceful_shutdown()
        self.sessions.drain()
        self.runner.drain()
        # The rest of the grace period is for the answers: once the node is drained, they still have to leave.
        await asyncio.wait([self.runner.halted], timeout=max(0.0, grace_s - min(_FLUSH_S, grace_s / 4)))
        halt = self.runner.halted.result() if self.runner.halted.done() else None
        if halt is None:
            self.runner.close()
        await self.close(min(_FLUSH_S, max(0.0, deadline - loop.time())))
        return halt

    async def close(self, grace_s: float = 0.0) -> None:
        """Close the ports; calls still open have this long to end by themselves.

        A call that comes while the ports close is held until gRPC turns further ones away, and refused then.
        """
        self._stop_watching()
        self.listeners.condition.not_ready = self.listeners.condition.not_ready or "stopped"
        self._gate.hold()
        self.link.stop_accepting()
        await self._gate.quiet(min(_QUIET_S, grace_s / 3))
        self._lifecycle.on(Event.FINISH)
        self.sessions.finish()
        self._health.end_watches()
        link_closing = asyncio.create_task(self.link.close(grace_s))
        stopping = asyncio.create_task(self.listeners.grpc.stop(grace_s))
        # One turn of the loop: gRPC turns new calls away before the held ones pass.
        await asyncio.sleep(0)
        self._gate.release()
        await stopping
        await link_closing
        self._lifecycle.on(Event.CLOSE)
        self.runner.close()
        if self._forwarder is not None:
            await self._forwarder.close()
        if self.peers is not None:
            await self.peers.close()
        if self.listeners.operators is not None:
            await self.listeners.operators.stop()


def _members(config: ServerConfig, peers: Peers | None) -> Members:
    """Return the members of the cluster, as they announced themselves."""
    if peers is None:
        return Members()
    return Members([each.node_id for each in config.cluster or ()], peers.client_address)


class _Handlers:
    """A receiver of the handlers that a generated function would add to a server."""

    def __init__(self) -> None:
        self.handlers: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Keep handlers; generated code calls it."""
        self.handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Do nothing: generated code calls it, and the generic handlers are enough."""

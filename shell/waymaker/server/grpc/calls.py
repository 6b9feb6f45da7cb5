"""The unary calls of all services: bytes in, bytes out, by the tables in `services`.

Requests are handed over unparsed, so that a malformed one is answered as such and not as a failure of the server, and
answers full of messages leave as joined bytes. Every call carries the principal that its credentials name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar, cast

import grpc

from waymaker.server.auth.authenticator import Authenticator
from waymaker.server.grpc.caller import Caller
from waymaker.server.grpc.forwarding import Forwarder, ReplayedCaller
from waymaker.server.grpc.gate import Gate
from waymaker.server.grpc.metadata import INCARNATION_METADATA, Metadata, metadata_of, next_trailer
from waymaker.server.grpc.rpcs import Rpc, Serving, incarnation_of, judged, next_page
from waymaker.server.grpc.services import RPCS
from waymaker.server.incidents import internal_error
from waymaker.server.node_runner import NodeRunner
from waymaker.server.refusals import NOT_OFFERED, UNAUTHENTICATED, ElsewhereError, abort, status_name
from waymaker_core.api.requests import Messages, Request
from waymaker_core.model.result_codes import CodeError, Refusal, RefusedError, invalid
from waymaker_core.model.types import Principal

T = TypeVar("T")
Context = grpc.aio.ServicerContext[bytes, bytes]
UnaryCall = Callable[[Principal, bytes, Context], Coroutine[None, None, bytes]]
StreamCall = Callable[[Principal, bytes, Context], Coroutine[None, None, None]]
SessionCall = Callable[[Principal, object, Context], Coroutine[None, None, None]]

REQUEST_S: Final = 60.0
"""The time that a request may take to come, once its call is open."""
_LARGE_RESPONSES_MAX: Final = 8
"""Answers of megabytes that may be on their way to one connection at once; its further ones wait their turn."""


class Turns:
    """A bounded number of places for each connection: who does not take its answers keeps only itself waiting."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._peers: dict[str, tuple[asyncio.Semaphore, int]] = {}

    async def take(self, context: Context) -> None:
        """Wait for a place; it is given back when the call is over."""
        peer = context.peer()
        semaphore, users = self._peers.get(peer, (None, 0))
        if semaphore is None:
            semaphore = asyncio.Semaphore(self._places)
        self._peers[peer] = (semaphore, users + 1)
        try:
            await semaphore.acquire()
        except asyncio.CancelledError:
            self._leave(peer)
            raise

        def over(context: object) -> None:
            semaphore.release()
            self._leave(peer)

        context.add_done_callback(over)  # type: ignore[arg-type]

    def _leave(self, peer: str) -> None:
        semaphore, users = self._peers[peer]
        if users > 1:
            self._peers[peer] = (semaphore, users - 1)
        else:
            del self._peers[peer]


class Calls:
    """Unary calls, answered through a node runner and counted."""

    def __init__(self, runner: NodeRunner, serving: Serving, observe: Callable[[str, str, float], None]) -> None:
        self._runner = runner
        self._serving = serving
        self._observe = observe
        self._large_response = Turns(_LARGE_RESPONSES_MAX)

    def methods(self, service: str) -> dict[str, UnaryCall]:
        """Return the handlers of a service, by the RPC's name."""
        return {name: partial(self.serve, rpc) for name, rpc in RPCS[service].items()}

    async def serve(self, rpc: Rpc, principal: Principal, data: bytes, context: Context) -> bytes:
        """Serve one call, from its bytes to its answer's."""
        started = time.perf_counter()
        outcome = self._parse(rpc, principal, data, context)
        del (
            data
        )  # a call that waits, for its turn or for its sender to read, keeps what it asks and not how it was written
        if not isinstance(outcome, bytes | Refusal):
            try:
                if rpc.large_response:
                    await self._large_response.take(context)
                outcome = await self._answer(rpc, principal, outcome, context)
            except asyncio.CancelledError:
                self._observe(rpc.name, "CANCELLED", time.perf_counter() - started)
                raise
        if isinstance(outcome, Refusal):
            self._observe(rpc.name, status_name(outcome), time.perf_counter() - started)
            await abort(context, outcome)
        self._observe(rpc.name, "OK", time.perf_counter() - started)
        return outcome

    def _parse(self, rpc: Rpc, principal: Principal, data: bytes, context: Context) -> Request | bytes | Refusal:
        """Return the core's request; the answer or the refusal of one that does not get that far."""
        try:
            beside = metadata_of(context.invocation_metadata() or ()) if rpc.paged or rpc.asides else Metadata()
            return rpc.parse(data, beside, self._serving)
        except CodeError as error:
            return judged(error)
        except RefusedError as error:
            return error.refusal
        except Exception as error:
            return internal_error(error, rpc.name, principal, admitted=False)

    async def _answer(self, rpc: Rpc, principal: Principal, request: Request, context: Context) -> bytes | Refusal:
        try:
            answer, bodies = await self._runner.ask(principal, request)
            if isinstance(answer, Refusal):
                return answer
            if isinstance(answer.value, Messages) and answer.value.fetched is not None:
                context.add_done_callback(partial(self._fetched, answer.value))  # type: ignore[arg-type]
            if rpc.paged and (cursor := next_page(answer)):
                context.set_trailing_metadata(next_trailer(cursor))
            if word := incarnation_of(answer):
                await context.send_initial_metadata(((INCARNATION_METADATA, word),))
            return rpc.encode(answer, bodies, self._serving)
        except RefusedError as error:
            return error.refusal
        except Exception as error:
            return internal_error(error, rpc.name, principal, admitted=True)

    def _fetched(self, messages: Messages, context: Any) -> None:
        """Report a fetch's call as done, or as given up by its caller before the answer left."""
        if context.done():
            self._runner.arrived(messages)
        else:
            self._runner.did_not_arrive(messages)


class Router(grpc.GenericRpcHandler):
    """The table of handlers. It refuses unauthenticated callers, and sends on what another member serves."""

    def __init__(self, authenticator: Authenticator, gate: Gate, forwarder: Forwarder | None = None) -> None:
        self._authenticator = authenticator
        self._gate = gate
        self._forwarder = forwarder
        self._unary: dict[str, UnaryCall] = {}
        self._streams: dict[str, StreamCall] = {}
        self._sessions: dict[str, SessionCall] = {}

    def add_unary(self, service: str, methods: dict[str, UnaryCall]) -> None:
        """Add calls with one message each way."""
        self._unary |= {f"/{service}/{name}": handler for name, handler in methods.items()}

    def add_streams(self, service: str, methods: dict[str, StreamCall]) -> None:
        """Add calls with one message in and many out."""
        self._streams |= {f"/{service}/{name}": handler for name, handler in methods.items()}

    def add_sessions(self, service: str, methods: dict[str, SessionCall]) -> None:
        """Add calls with many messages both ways."""
        self._sessions |= {f"/{service}/{name}": handler for name, handler in methods.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        unary = self._unary.get(method)
        stream = self._streams.get(method)
        session = self._sessions.get(method)
        if unary is None and stream is None and session is None:
            return None
        self._gate.arrived()
        principal = self._authenticator.principal(handler_call_details.invocation_metadata)
        if principal is None:
            return REFUSE_UNAUTHENTICATED
        if unary is not None:
            return grpc.stream_unary_rpc_method_handler(partial(self._call, method, unary, principal))
        long: SessionCall
        if stream is not None:
            long = partial(_with_request, stream)
        else:
            assert session is not None
            long = session
        metadata = handler_call_details.invocation_metadata

        async def attended(requests: object, context: Context) -> None:
            await self._gate.enter()
            caller = self._caller(context)
            call = self._long(method, long, principal, requests, caller)
            await self._authenticator.supervise(principal, metadata, call, caller)

        return grpc.stream_stream_rpc_method_handler(attended)

    def _caller(self, context: Context) -> Context:
        return cast(Context, Caller(context) if self._forwarder is None else ReplayedCaller(context))

    async def _call(
        self, method: str, handler: UnaryCall, principal: Principal, requests: object, context: Context
    ) -> bytes:
        await self._gate.enter()
        caller = self._caller(context)
        try:
            return await _with_request(handler, principal, requests, caller)
        except ElsewhereError as end:
            assert self._forwarder is not None
            return await self._forwarder.unary(method, cast(ReplayedCaller, caller), end)

    async def _long(
        self, method: str, handler: SessionCall, principal: Principal, requests: object, caller: Context
    ) -> None:
        try:
            await handler(principal, requests, caller)
        except ElsewhereError as end:
            assert self._forwarder is not None
            send_on = self._forwarder.stream if method in self._streams else self._forwarder.session
            await send_on(method, cast(ReplayedCaller, caller), end)


async def _with_request(
    handler: Callable[[Principal, bytes, Context], Coroutine[None, None, T]],
    principal: Principal,
    requests: object,
    context: Context,
) -> T:
    # The request is the handler's alone: what is not named here is not kept here, however long the call lasts.
    return await handler(principal, await _request(context), context)


async def _request(context: Context) -> bytes:
    """Read the one request of a call ourselves: a client that opens calls and never finishes them does not keep them."""
    data: Any = None
    try:
        async with asyncio.timeout(REQUEST_S):
            data = await context.read()
    except TimeoutError:
        await abort(context, invalid(f"no request came within {REQUEST_S:.0f} s").refusal)
    if data is grpc.aio.EOF:
        await abort(context, invalid("the call has no request").refusal)
    return data  # type: ignore[no-any-return]


async def not_offered(principal: Principal, requests: object, context: Context) -> None:
    """Refuse a call of the contract that this server does not have, whatever its kind."""
    await abort(context, NOT_OFFERED)


async def _refuse_unauthenticated(requests: object, context: Context) -> None:
    await abort(context, UNAUTHENTICATED)


REFUSE_UNAUTHENTICATED: Final[grpc.RpcMethodHandler[Any, Any]] = grpc.stream_stream_rpc_method_handler(
    _refuse_unauthenticated
)


class Guarded(grpc.GenericRpcHandler):
    """A service of another package, behind our authentication."""

    def __init__(self, authenticator: Authenticator, inner: grpc.GenericRpcHandler) -> None:
        self._authenticator = authenticator
        self._inner = inner

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = self._inner.service(handler_call_details)
        if handler is not None and self._authenticator.principal(handler_call_details.invocation_metadata) is None:
            return REFUSE_UNAUTHENTICATED
        return handler

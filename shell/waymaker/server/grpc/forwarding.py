"""Calls that another member of the cluster serves, sent on by one hop: bytes in, bytes out, as they came.

A call is served here until the node says that it is elsewhere. Where its caller has seen nothing of it by then, and all that
was read of it is still there, it is sent on with the caller's metadata and deadline; answer, headers, trailers and status come
back unchanged. A header keeps it from being sent on a second time: members may disagree for a moment about who serves it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import grpc
import grpc.aio

from waymaker.server.grpc.caller import Caller
from waymaker.server.refusals import ElsewhereError, abort
from waymaker.wire.elsewhere import FORWARDED_METADATA, ServedElsewhere
from waymaker.wire.grpc_calls import CallEnded, begin, send
from waymaker.wire.protocol import OUTCOME_TRAILER
from waymaker_core.model.result_codes import Outcome, Refusal, Status, resource_exhausted

CALLS_MAX: Final = 1_024
"""Calls that one member sends on at a time."""
CHANNELS_MAX: Final = 64
CONNECT_S: Final = 2.0
"""The time that another member may take to be connected to."""
REPLAY_BYTES_MAX: Final = 4 << 20
"""The most that is kept of a call in many messages, so that it can be sent on from its beginning."""
FOREVER_S: Final = 1e8
"""A deadline that is further away is none."""
_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
_OF_THE_HOP: Final = ("grpc-", ":")
_OF_THE_CALLER: Final = frozenset({"user-agent", "te", "content-type", "date", FORWARDED_METADATA})
"""Metadata that each hop has of its own."""

Pairs = tuple[tuple[str, str | bytes], ...]


class ReplayedCaller(Caller):
    """A caller of which everything that was read is kept, as long as its call may be sent on."""

    __slots__ = ("may_be_sent_on", "read_messages", "headers_sent", "_read_bytes")

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.may_be_sent_on = all(key != FORWARDED_METADATA for key, _ in context.invocation_metadata() or ())
        self.read_messages: list[bytes] = []
        self.headers_sent = False
        self._read_bytes = 0

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF`."""
        data = await super().read()
        if self.may_be_sent_on and data is not grpc.aio.EOF:
            # The first message of a call is always kept: it is the whole request of most.
            self._read_bytes += len(data) if self.read_messages else 0
            self.read_messages.append(data)
            if self._read_bytes > REPLAY_BYTES_MAX:
                self._serve_here()
        return data

    async def write(self, message: Any) -> None:
        """Send a message."""
        self._serve_here()
        await super().write(message)

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Send the headers before there is a message."""
        self.headers_sent = True
        await super().send_initial_metadata(metadata)

    def _serve_here(self) -> None:
        """Note that the call cannot be sent on any more."""
        self.may_be_sent_on = False
        self.read_messages.clear()


class Forwarder:
    """The channels to other members, and the calls that are sent on over them."""

    def __init__(self, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._credentials = credentials
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.under_way = 0
        """Calls that are sent on at the moment."""

    async def close(self) -> None:
        """Close the channels; calls on them end."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close(None)

    # ------------------------------------------------------------ the kinds of calls

    async def unary(self, method: str, caller: ReplayedCaller, end: ElsewhereError) -> bytes:
        """Send on a call with one message each way; return the answer."""
        async with self._channel(caller, end.refusal) as channel:
            begin_call: Any = channel.unary_unary(method)
            call = begin_call(caller.read_messages[0], **_beside(caller))
            with _cancelled_with(call):
                try:
                    data: bytes = await call
                    await _pass_headers(call, caller)
                    caller.set_trailing_metadata(_own(await call.trailing_metadata()))
                    return data
                except grpc.aio.AioRpcError as error:
                    await _pass_end(error, caller, end.refusal)
        raise AssertionError("an aborted call goes on")

    async def stream(self, method: str, caller: ReplayedCaller, end: ElsewhereError) -> None:
        """Send on a call with one message in and many out."""
        async with self._channel(caller, end.refusal) as channel:
            begin_call: Any = channel.unary_stream(method)
            call = begin_call(caller.read_messages[0], **_beside(caller))
            with _cancelled_with(call):
                await self._pass_answers(call, caller, end.refusal)

    async def session(self, method: str, caller: ReplayedCaller, end: ElsewhereError) -> None:
        """Send on a call with many messages both ways."""
        replayed = list(caller.read_messages)
        caller.may_be_sent_on = False
        caller.read_messages.clear()
        async with self._channel(caller, end.refusal) as channel:
            call: Any = channel.stream_stream(method)(**_beside(caller))
            with _cancelled_with(call):
                sending = asyncio.create_task(_pass_messages(call, replayed, caller))
                try:
                    await self._pass_answers(call, caller, end.refusal)
                finally:
                    sending.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await sending

    async def _pass_answers(self, call: Any, caller: ReplayedCaller, elsewhere: ServedElsewhere) -> None:
        try:
            await _pass_headers(call, caller)
            while (data := await call.read()) is not grpc.aio.EOF:
                await caller.write(data)
            caller.set_trailing_metadata(_own(await call.trailing_metadata()))
            code = await call.code()
        except grpc.aio.AioRpcError as error:
            await _pass_end(error, caller, elsewhere)
            return
        if code is not grpc.StatusCode.OK:
            await caller.abort(code, await call.details() or "", _own(await call.trailing_metadata()))

    # ------------------------------------------------------------ channels

    @contextlib.asynccontextmanager
    async def _channel(self, caller: Caller, elsewhere: ServedElsewhere) -> AsyncIterator[grpc.aio.Channel]:
        """Lend a connected channel for one call. Ends the call where there is none: then certainly nothing was done."""
        context: Any = caller
        if not elsewhere.address:
            await context.abort(*_ending(elsewhere))
        if self.under_way >= CALLS_MAX:
            text = f"{CALLS_MAX:,} calls are being sent on to other members already; try again later"
            await abort(context, resource_exhausted(text).refusal)
        self.under_way += 1
        try:
            channel = await self._opened(elsewhere.address)
            if not await _is_connected(channel, _seconds_left(caller)):
                text = f"node {elsewhere.node_id} at {elsewhere.address} serves this and cannot be reached"
                await abort(context, Refusal(Status.UNAVAILABLE, text, Outcome.NOT_APPLIED))
            yield channel
        finally:
            self.under_way -= 1

    async def _opened(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            while len(self._channels) >= CHANNELS_MAX:
                await self._channels.pop(next(iter(self._channels))).close(None)
            if self._credentials is None:
                channel = grpc.aio.insecure_channel(address, _OPTIONS)
            else:
                channel = grpc.aio.secure_channel(address, self._credentials, _OPTIONS)
            self._channels[address] = channel
        return channel


async def _is_connected(channel: grpc.aio.Channel, seconds: float | None) -> bool:
    """Connect; return True once a call can be sent."""
    try:
        async with asyncio.timeout(CONNECT_S if seconds is None else min(CONNECT_S, seconds)):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                    return False
                await channel.wait_for_state_change(state)
    except TimeoutError:
        return False
    return True


def _seconds_left(caller: Any) -> float | None:
    left = caller.time_remaining()
    return None if left is None or left > FOREVER_S else max(left, 0.0)


def _beside(caller: Any) -> dict[str, Any]:
    """Return the metadata and the deadline of a call that is sent on."""
    metadata = (*_own(caller.invocation_metadata() or ()), (FORWARDED_METADATA, "1"))
    return {"metadata": metadata, "timeout": _seconds_left(caller)}


def _own(metadata: Iterable[tuple[str, str | bytes]] | None) -> Pairs:
    """Return metadata without what belongs to one hop."""
    found = tuple((key, value) for key, value in metadata or ())
    return tuple(pair for pair in found if not pair[0].startswith(_OF_THE_HOP) and pair[0] not in _OF_THE_CALLER)


def _ending(refusal: Refusal) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    return grpc.StatusCode.UNAVAILABLE, refusal.message, ((OUTCOME_TRAILER, Outcome.NOT_APPLIED.value),)


@contextlib.contextmanager
def _cancelled_with(call: Any) -> Any:
    """Cancel a call that was sent on with the one that it was sent on for."""
    try:
        yield
    finally:
        call.cancel()


async def _pass_headers(call: Any, caller: ReplayedCaller) -> None:
    headers = _own(await call.initial_metadata())
    if not caller.headers_sent:
        await caller.send_initial_metadata(headers)


async def _pass_messages(call: Any, replayed: list[bytes], caller: Caller) -> None:
    """Send what was read of a call and what still comes."""
    try:
        await begin(call)
        for data in replayed:
            await send(call, data)
        replayed.clear()
        while (data := await caller.read()) is not grpc.aio.EOF:
            await send(call, data)
        await call.done_writing()
    except CallEnded:
        pass  # the reader of the answers sees the same end, with its reason


async def _pass_end(error: grpc.aio.AioRpcError, caller: Any, elsewhere: ServedElsewhere) -> None:
    """End a call as the other member ended it, or as its loss."""
    trailers = _own(error.trailing_metadata())
    if error.code() is grpc.StatusCode.UNAVAILABLE and not trailers and not _is_of_the_member(error):
        text = f"the connection to node {elsewhere.node_id} at {elsewhere.address} was lost before its answer came"
        await caller.abort(error.code(), text, ((OUTCOME_TRAILER, Outcome.UNKNOWN.value),))
    await caller.abort(error.code(), error.details() or "", trailers)


def _is_of_the_member(error: grpc.aio.AioRpcError) -> bool:
    """Return True for a status that the other member sent; in doubt the connection was lost."""
    return "from peer" in (error.debug_error_string() or "")

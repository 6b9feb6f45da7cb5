"""The contract's two streaming calls: Subscribe and WatchStreams, one event a gRPC message.

Back-pressure is credit: the core sends no more than the credit it was given, and credit is given again only for what gRPC
has taken over for sending, which it does as fast as the client reads. What a slow reader can make the server hold is thus one
window of messages, whatever the stream brings.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from google.protobuf.message import DecodeError

from waymaker.server.grpc.calls import Context, StreamCall
from waymaker.server.grpc.metadata import INCARNATION_METADATA
from waymaker.server.grpc.rpcs import Serving
from waymaker.server.incidents import internal_error
from waymaker.server.node_runner import NodeRunner
from waymaker.server.refusals import abort
from waymaker.storage.store import Bodies
from waymaker.wire.infos import watch_event_pb
from waymaker.wire.messages import wire_messages
from waymaker_core.api.effects import End, Event
from waymaker_core.api.requests import Messages, Request, Subscribe, WatchStreams
from waymaker_core.model.message_codec import varint
from waymaker_core.model.result_codes import Refusal, Status, invalid
from waymaker_core.model.types import Principal
from waymaker_proto import waymaker_streams_pb2 as pb

_WINDOW_BYTES: Final = 1 << 20
_WINDOW_MESSAGES_MAX: Final = 1_024
_WATCH_WINDOW: Final = 64
UNANSWERED_MIN: Final = 128
"""Messages that a subscription may have unanswered at least, whatever it takes at a time: so that who reads some and answers
later, or not at all, gets them; no more, for what a transport holds for a reader that stands still is kept from others."""


class Inbox:
    """The queue of one stream, filled by the node runner and emptied by the task that sends."""

    def __init__(self) -> None:
        self._items: deque[tuple[Messages, Bodies] | Event | End] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def deliver(self, messages: Messages, bodies: Bodies) -> None:
        """Queue a delivery of the node runner."""
        self._add((messages, bodies))

    def event(self, event: Event) -> None:
        """Queue a change."""
        self._add(event)

    def ended(self, end: End) -> None:
        """Queue the end."""
        self._add(end)

    def _add(self, item: tuple[Messages, Bodies] | Event | End) -> None:
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> tuple[Messages, Bodies] | Event | End:
        """Wait for the next item."""
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._items.popleft()


class Streaming:
    """The streaming calls of the contract."""

    def __init__(self, runner: NodeRunner, serving: Serving) -> None:
        self._runner = runner
        self._serving = serving

    def methods(self) -> dict[str, StreamCall]:
        """Return the handlers by the RPC's name."""
        return {"Subscribe": self.subscribe, "WatchStreams": self.watch}

    async def subscribe(self, principal: Principal, data: bytes, context: Context) -> None:
        """Push messages until something ends it."""
        try:
            message = pb.SubscribeRequest.FromString(data)
        except DecodeError:
            await abort(context, invalid("the request is not a valid SubscribeRequest").refusal)
        batch = message.batch_size or self._serving.limits.subscription_default
        unanswered = max(batch, UNANSWERED_MIN)
        request = Subscribe(message.stream, message.consumer, message.batch_size, message.stop_when_empty, unanswered)
        window = min(batch, _WINDOW_MESSAGES_MAX)
        del data, message  # a subscription lasts; unknown fields, which may be megabytes, need not
        await self._run("Subscribe", principal, request, window, context)

    async def watch(self, principal: Principal, data: bytes, context: Context) -> None:
        """Send changes until the call ends."""
        del data
        await self._run("WatchStreams", principal, WatchStreams(), _WATCH_WINDOW, context)

    async def _run(self, name: str, principal: Principal, request: Request, window: int, context: Context) -> None:
        inbox = Inbox()
        token = self._runner.open(principal, request, inbox)
        self._runner.credit(token, window, _WINDOW_BYTES)
        refusal: Refusal | None = None
        try:
            if isinstance(request, WatchStreams):
                # Nothing may happen for hours: the headers tell a watcher that it will hear of whatever it does from now on.
                await context.send_initial_metadata(())
            told = False
            written = 0
            while True:
                item = await inbox.take()
                if isinstance(item, End):
                    refusal = item.refusal or _interrupted(request, item)
                    if refusal is None:
                        await context.write(_stopped(item.reason))
                    break
                if isinstance(item, Event):
                    await context.write(watch_event_pb(item, self._serving.node_id).SerializeToString())
                    self._runner.credit(token, 1, 0)
                else:
                    messages, bodies = item
                    if messages.incarnation and not told:
                        told = True
                        await context.send_initial_metadata(((INCARNATION_METADATA, messages.incarnation),))
                    for wire in wire_messages(messages, bodies):
                        await context.write(b"\x0a" + varint(len(wire)) + wire)
                        written += 1
                        self._runner.report(token, written)
                    self._runner.credit(token, messages.count, messages.byte_count)
        except Exception as error:
            refusal = internal_error(error, name, principal, admitted=True)
        finally:
            self._runner.cancel(token)
        if refusal is not None:
            await abort(context, refusal)


def _interrupted(request: Request, end: End) -> Refusal | None:
    """Return the refusal that ends a watch; None for a subscription, whose end is an event with the reason."""
    if isinstance(request, WatchStreams):
        return Refusal(Status.UNAVAILABLE, f"the watch is over: {end.reason}", None)
    return None


def _stopped(reason: str) -> bytes:
    return pb.SubscribeEvent(stopped=pb.SubscribeStopped(reason=reason)).SerializeToString()

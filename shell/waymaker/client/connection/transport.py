"""gRPC's calls, where its own ways lose what happened.

Responsible for writing to a call without losing the status that ended it, and for the client's exceptions in place of gRPC's.
gRPC's own `write`, where it meets the end of a call, puts "Internal error from Core" in the place of the status that is about
to arrive: a server's reason and its `wmkr-outcome` were lost in every other orderly stop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from waymaker.client.connection.failures import call_error, of_a_read
from waymaker.client.errors import UNKNOWN, ConnectionLostError, WaymakerError

Call = Any
"""grpc's bidirectional call, bytes both ways; its stubs do not know calls without serializers."""


class CallEnded(Exception):
    """The call ended before the message was taken; reading from it gives the status."""


@contextlib.contextmanager
def ends_told(changes: bool = False) -> Iterator[None]:
    """Raise the client's exceptions for the ends of a call outside the session, which `changes` something or only reads."""
    end: WaymakerError
    try:
        yield
        return
    except grpc.aio.AioRpcError as failure:
        end = call_error(failure)
    except asyncio.CancelledError:
        # Closing the channel under a call cancels the call, not this task.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        end = ConnectionLostError("the connection was lost before the answer came", outcome=UNKNOWN)
    raise end if changes else of_a_read(end)


async def begin(call: Call) -> None:
    """Wait until messages can be written to a call; CallEnded where the call ended first."""
    try:
        await call.wait_for_connection()
    except grpc.aio.AioRpcError:
        raise CallEnded from None


async def send(call: Call, data: bytes) -> None:
    """Write a message; CallEnded where the call is over."""
    if call.done():
        raise CallEnded
    try:
        await call._cython_call.send_serialized_message(data)
    except cygrpc.InternalError:
        raise CallEnded from None

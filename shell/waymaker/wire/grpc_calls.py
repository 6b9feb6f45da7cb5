"""Writing to a gRPC call without losing the status that ended it.

gRPC's own `write`, where it meets the end of a call, puts "Internal error from Core" in the place of the status that is about
to arrive: a server's reason and its `wmkr-outcome` were lost in every other orderly stop.
"""

from __future__ import annotations

from typing import Any

import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]

Call = Any
"""grpc's bidirectional call, bytes both ways; its stubs do not know calls without serializers."""


class CallEnded(Exception):
    """The call ended before the message was taken; reading from it gives the status."""


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

"""gRPC's ends of calls as the client's exceptions: statuses, trailers, and the transport's own words made plain."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from waymaker.client.errors import (
    UNKNOWN,
    ConnectionLostError,
    DeadlineExceededError,
    InternalError,
    UnavailableError,
    UnimplementedError,
    WaymakerError,
    from_status,
)
from waymaker.client.options import Options
from waymaker_proto import pipeline_pb2 as pl

HIDDEN = "Internal error from Core"
"""What the transport says of a write that met the end of its call, in place of the status that ended it."""
ASK_S = 2.0


def error_of(refused: pl.Refused) -> WaymakerError:
    """The exception of a refusal inside a frame."""
    return from_status(refused.status, refused.message, refused.outcome, refused.code)


def status_error(code: grpc.StatusCode, details: str, trailers: grpc.aio.Metadata | None) -> WaymakerError:
    """The exception of a gRPC status with its trailers."""
    pairs = {key: value for key, value in trailers or () if isinstance(value, str)}
    status = code.value[0]
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceededError(details or "no answer in time", outcome=pairs.get("wmkr-outcome") or UNKNOWN)
    return from_status(status, details or code.value[1], pairs.get("wmkr-outcome", ""), pairs.get("wmkr-code", ""))


def call_error(failure: grpc.aio.AioRpcError) -> WaymakerError:
    """The exception of a call outside the session."""
    return status_error(failure.code(), failure.details() or "", failure.trailing_metadata())


async def end_of_session(call: Any, target: str) -> WaymakerError:
    """Why a session ended."""
    details = await call.details() or ""
    error = status_error(await call.code(), details, await call.trailing_metadata())
    if isinstance(error, UnavailableError):
        return UnavailableError(f"{target}: {_plainly(details)}", outcome=error.outcome)
    if isinstance(error, UnimplementedError):
        return UnimplementedError(f"{target} does not speak the pipeline: is it a Waymaker server? ({details})")
    return error


def is_hidden(error: WaymakerError) -> bool:
    """Whether the transport lost the status on the way."""
    return isinstance(error, InternalError) and HIDDEN in error.message


async def ask_why(channel: grpc.aio.Channel, method: str, options: Options) -> WaymakerError:
    """Why a server turned a session away before it took the first frame: asked by opening one and only listening."""
    call: Any = channel.stream_stream(method)(metadata=options.metadata)
    try:
        async with asyncio.timeout(ASK_S):
            await call.read()
            return await end_of_session(call, options.target)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return await end_of_session(call, options.target)
    except TimeoutError:
        return ConnectionLostError(f"{options.target} ended the session at its beginning", outcome=UNKNOWN)
    finally:
        call.cancel()


def _plainly(details: str) -> str:
    """The transport's account of a failed connection, without its inner workings."""
    for sign, meaning in (
        ("Connection refused", "cannot reach it: connection refused, nobody listens there"),
        ("DNS resolution failed", "cannot reach it: no such host"),
        ("Ssl handshake failed", "cannot reach it: the TLS handshake failed; check tls, ca and server_name"),
        ("Timeout occurred", "cannot reach it: no answer to the connection"),
        ("Socket closed", "the connection was closed"),
    ):
        if sign.lower() in details.lower():
            return meaning
    return details or "no connection"

"""gRPC's ends of calls as the client's exceptions: statuses, trailers, and the transport's own words made plain."""

from __future__ import annotations

from copy import copy
from typing import Any, Final

import grpc
import grpc.aio

from waymaker.client.errors import (
    NOT_APPLIED,
    UNKNOWN,
    ConnectionLostError,
    DeadlineExceededError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    UsageError,
    WaymakerError,
    from_status,
)
from waymaker.wire.protocol import CODE_TRAILER, OUTCOME_TRAILER
from waymaker_proto import pipeline_pb2 as pl

FINAL: Final = (UnauthenticatedError, PermissionDeniedError, UnimplementedError, UsageError)
"""Ends of a session that trying again does not mend: every waiting caller receives them."""
CLOSED: Final = "the connection was closed"


def error_of(refused: pl.Refused) -> WaymakerError:
    """Return the exception of a refusal inside a frame."""
    return from_status(refused.status, refused.message, refused.outcome, refused.code)


def status_error(code: grpc.StatusCode, details: str, trailers: grpc.aio.Metadata | None) -> WaymakerError:
    """Return the exception of a gRPC status with its trailers."""
    pairs = {key: value for key, value in trailers or () if isinstance(value, str)}
    status = code.value[0]
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        outcome = pairs.get(OUTCOME_TRAILER)
        # Without the server's word on it, the text is the transport's, which knows of streams and deadlines only.
        return DeadlineExceededError(details if outcome else "no answer in time", outcome=outcome or UNKNOWN)
    return from_status(status, details or code.value[1], pairs.get(OUTCOME_TRAILER, ""), pairs.get(CODE_TRAILER, ""))


def call_error(failure: grpc.aio.AioRpcError) -> WaymakerError:
    """Return the exception of a call outside the session."""
    return status_error(failure.code(), failure.details() or "", failure.trailing_metadata())


async def end_of_session(call: Any, target: str) -> WaymakerError:
    """Return why a session ended."""
    details = await call.details() or ""
    return _of_session(status_error(await call.code(), details, await call.trailing_metadata()), details, target)


def ended_with(refused: pl.Refused, target: str) -> WaymakerError:
    """Return why a session of the native link ended."""
    if not refused.status:
        return ConnectionLostError(f"{target} ended the session", outcome=UNKNOWN)
    return _of_session(error_of(refused), refused.message, target)


def _of_session(error: WaymakerError, details: str, target: str) -> WaymakerError:
    if isinstance(error, UnavailableError):
        return UnavailableError(f"{target}: {_plainly(details)}", outcome=error.outcome)
    if isinstance(error, UnimplementedError):
        return UnimplementedError(f"{target} does not speak the pipeline: is it a Waymaker server? ({details})")
    return error


def of_a_read(error: WaymakerError) -> WaymakerError:
    """Return the end of a call that changes nothing as one without an outcome: nothing may have happened."""
    if error.outcome != UNKNOWN:
        return error
    told = copy(error)
    told.outcome = None
    return told


def unsent(error: WaymakerError) -> WaymakerError:
    """Return the end of a connection for work that never left: nothing was changed."""
    told = copy(error)
    told.outcome = NOT_APPLIED
    told.__traceback__ = None
    return told


def _plainly(details: str) -> str:
    """Return the transport's account of a failed connection, without its inner workings."""
    for sign, meaning in (
        ("Connection refused", "cannot reach it: connection refused, nobody listens there"),
        ("DNS resolution failed", "cannot reach it: no such host"),
        ("Ssl handshake failed", "cannot reach it: the TLS handshake failed; check tls, ca and server_name"),
        ("Timeout occurred", "cannot reach it: no answer to the connection"),
        ("Socket closed", CLOSED),
    ):
        if sign.lower() in details.lower():
            return meaning
    return details or "no connection"

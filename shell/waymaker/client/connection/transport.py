"""The ends of calls outside the session, as the client's exceptions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import grpc.aio

from waymaker.client.connection.failures import call_error, of_a_read
from waymaker.client.errors import UNKNOWN, ConnectionLostError, WaymakerError


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

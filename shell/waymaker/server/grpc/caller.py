"""The caller's end of one call: gRPC's context, with one exception for a caller that has left.

A caller may cancel, lose its connection or run out of time at any moment, and gRPC then raises what it happens to raise at the
operation in progress: a failed batch, a finished call, a stopped server. None of that is a bug, and no caller is left.
All of it becomes the cancellation that handlers already know, so that nothing else is ever taken for a failure of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")


class Caller:
    """A call's context whose operations raise `CancelledError` once the caller has left."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF`."""
        return await _reaching(self._context.read())

    async def write(self, message: Any) -> None:
        """Send a message; returns once gRPC has taken it over."""
        await _reaching(self._context.write(message))

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Send the headers before there is a message."""
        await _reaching(self._context.send_initial_metadata(metadata))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the call with a status. Always raises."""
        await _reaching(self._context.abort(code, details, trailing_metadata))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


async def _reaching(operation: Awaitable[T]) -> T:
    try:
        return await operation
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        raise asyncio.CancelledError("the caller is gone") from None

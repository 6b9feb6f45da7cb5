"""The calls of a client that an object store is made of, and what each of them may take."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc.aio
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto

from waymaker.client.checked import Timeout
from waymaker.client.connection.work import check_result
from waymaker.client.errors import DataLossError, DeadlineExceededError
from waymaker.wire.protocol import STREAMS_SERVICE
from waymaker_proto import pipeline_pb2 as pl

Response = TypeVar("Response", bound=Proto)
PATH: Final = f"/{STREAMS_SERVICE}/"
REVISION_METADATA: Final = "wmkr-revision"


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls, each with its timeout as an argument.

    `call` and `answers` go through the session, `call_alone` does not; `channel` waits for a connection and returns it.
    `seconds` makes a timeout that was left out the client's own, and `deadline` a moment of it. `backoff_s` is the pause before
    what was lost is tried again; None: it never is.
    """

    call: Callable[..., Awaitable[tuple[Any, pl.CallResult]]]
    answers: Callable[..., AsyncIterator[tuple[Any, pl.CallResult]]]
    call_alone: Callable[..., Awaitable[bytes]]
    channel: Callable[[Timeout], Awaitable[Any]]
    deadline: Callable[[Timeout], float | None]
    seconds: Callable[[Timeout], float | None]
    metadata: tuple[tuple[str, str], ...]
    backoff_s: float | None

    async def unary(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout, revision: int = 0, *, changes: bool = False
    ) -> Response:  # fmt: skip
        """Call outside the session, for what is too large for a frame of it; return the good response."""
        beside = self.with_revision(revision)
        sent = request.SerializeToString()
        data = await self.call_alone(PATH + method, sent, self.deadline(timeout), beside, changes=changes)
        try:
            response = kind.FromString(data)
        except DecodeError as error:
            raise DataLossError(f"the server's answer to {method} cannot be read") from error
        check_result(response)
        return response

    def with_revision(self, revision: int) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call that insists on a revision (0: on none)."""
        return (*self.metadata, (REVISION_METADATA, str(revision))) if revision else self.metadata


@contextlib.asynccontextmanager
async def within(seconds: float | None, problem: str, outcome: str | None) -> AsyncIterator[None]:
    """Bound one step of a transfer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceededError(problem, outcome=outcome) from None


async def raise_end(call: Any) -> None:
    """Raise the status with which a call ended that gave no answer."""
    raise grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), details=await call.details()
    )

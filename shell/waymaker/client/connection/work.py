"""Work: what waits to be sent, or was sent and waits for its answer.

Every piece has exactly one end: an answer, or an exception. A connection calls `fill` when there is room for it, then one of
`answer`, `fail`, or, where the connection was lost in between, `lost`, which decides the question that matters: may it be
sent again? Work that has not left yet may gather more of the same, so that what one loop turn asks for travels together.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message as Proto

from waymaker.client.connection.failures import of_a_read
from waymaker.client.connection.topics import topic_of
from waymaker.client.errors import (
    NOT_APPLIED,
    UNKNOWN,
    DeadlineExceededError,
    WaymakerError,
    from_result,
)

if TYPE_CHECKING:
    from waymaker.client.connection.connection import Connection
    from waymaker.client.connection.numbering import Numbering
    from waymaker_proto import pipeline_pb2 as pl

CALL_OVERHEAD_BYTES = 64


class Work:
    """One answerable item of a frame. `size` is about its bytes in a frame; `deadline` is in the loop's time."""

    __slots__ = ("id", "size", "deadline", "sent", "losses", "hops", "producer", "home")

    def __init__(self, size: int = 0, deadline: float | None = None) -> None:
        self.id = 0
        self.size = size
        self.deadline = deadline
        self.sent = False
        self.losses = 0
        self.hops = 0
        """Refusals by members that sent this elsewhere, or could not serve it."""
        self.home: Connection | None = None
        """The connection that carries this, or did last."""
        self.producer: Numbering | None = None
        """The client as a producer, where it sends publishes again."""

    reports = False
    """True if the server hears whether the answer reached its caller."""

    @property
    def is_awaited(self) -> bool:
        """Return True if a caller still waits for the answer."""
        return True

    @property
    def may_have_happened(self) -> bool:
        """Return True if the server may have done this, whatever is known of its last sending."""
        return self.sent

    @property
    def topic(self) -> str:
        """Return the name of the stream that this is about, for finding the member that serves it; empty for none or all."""
        return ""

    @property
    def lane(self) -> str:
        """Return the stream whose messages this numbers; empty where it numbers none."""
        return ""

    @property
    def messages(self) -> int:
        """Return the number of messages to be published: it is bounded in a frame."""
        return 0

    def fill(self, frame: pl.Frame) -> bool:
        """Add this to a frame; return False where nothing is left to be sent (every caller has left)."""
        raise NotImplementedError

    def takes_part(self, reply: Any) -> bool:
        """Take a part of an answer that comes in parts; return True if others are to follow."""
        return False

    def refusal_in(self, reply: Any) -> pl.Refused | None:
        """Return the refusal that the answer is; None where it is none."""
        refused: pl.Refused | None = reply.refused if reply.HasField("refused") else None
        return refused

    def answer(self, reply: Any) -> None:
        """Take the server's answer, of this kind's message and not refused."""
        raise NotImplementedError

    def fail(self, error: WaymakerError) -> None:
        """End in an exception."""
        raise NotImplementedError

    def lost(self, error: WaymakerError) -> bool:
        """Decide what becomes of an unknown outcome: True to send this again, False where it has ended with the error."""
        raise NotImplementedError

    def put_back(self) -> None:
        """Return to the queue: this was not sent, was not done, or is to be sent again."""
        self.sent = False

    def expire(self, now: float, absence: str = "") -> bool:
        """End what waited too long; return True where nothing is left waiting. Set the next `deadline` otherwise.

        `absence` says why nothing could be sent, where there is no connection.
        """
        if self.deadline is None or self.deadline > now:
            return False
        self.fail(timed_out(self.may_have_happened, absence))
        return True


def timed_out(sent: bool, absence: str = "") -> DeadlineExceededError:
    why = f": {absence}" if absence else ""
    if sent:
        return DeadlineExceededError(f"no answer in time; the request had been sent{why}", outcome=UNKNOWN)
    return DeadlineExceededError(f"not sent in time, and nothing was changed{why}", outcome=NOT_APPLIED)


class CallWork(Work):
    """One call of the contract. `repeatable` calls change nothing and survive a lost connection by being sent again."""

    __slots__ = ("method", "request", "after", "limit", "repeatable", "future", "reports", "inactive_ms", "_topic")

    def __init__(
        self, method: str, request: Proto, repeatable: bool, future: asyncio.Future[pl.CallResult],
        deadline: float | None, after: str = "", limit: int = 0, reports: bool = False, inactive_ms: int = 0,
    ) -> None:  # fmt: skip
        self.method = method
        self._topic = topic_of(method, request)
        self.request = request.SerializeToString()
        self.after = after
        self.limit = limit
        self.repeatable = repeatable
        self.future = future
        self.reports = reports
        self.inactive_ms = inactive_ms
        super().__init__(len(self.request) + len(after) + CALL_OVERHEAD_BYTES, deadline)

    @property
    def topic(self) -> str:
        return self._topic

    def fill(self, frame: pl.Frame) -> bool:
        if self.future.done():
            return False
        frame.calls.add(
            id=self.id,
            method=self.method,
            request=self.request,
            after=self.after,
            limit=self.limit,
            reports=self.reports,
            inactive_ms=self.inactive_ms,
        )
        return True

    @property
    def is_awaited(self) -> bool:
        return not self.future.done()

    def answer(self, reply: pl.CallResult) -> None:
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: WaymakerError) -> None:
        if not self.future.done():
            self.future.set_exception(of_a_read(error) if self.repeatable else error)

    def lost(self, error: WaymakerError) -> bool:
        if self.repeatable and not self.future.done():
            return True
        self.fail(error)
        return False


def check_result(response: Any) -> None:
    """Raise the exception of a contract's answer that is not `ok`."""
    if not response.success or response.result_code not in {"ok", ""}:
        raise from_result(response.result_code, response.message, getattr(response, "revision", 0))

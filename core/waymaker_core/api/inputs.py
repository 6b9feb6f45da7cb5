"""Everything that can happen to a node. The mirror of `effects`: each docstring names its counterpart there.

A tick is a step without inputs: `Node.step` always looks at its timers.
"""

from __future__ import annotations

from collections.abc import Sequence

from waymaker_core.api.requests import Messages, Request
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.types import JobId, Principal, Token


class Call:
    """A client asks. Answered by exactly one `Reply`, or for subscriptions and watches by `Deliver`/`Event` and one `End`."""

    __slots__ = ("token", "principal", "request")

    def __init__(self, token: Token, principal: Principal, request: Request) -> None:
        self.token = token
        self.principal = principal
        self.request = request


class Cancel:
    """A client no longer waits. Ends a subscription or watch without an `End`; what was admitted goes on.

    Deliveries to this token that nobody reported are given back. Comes also for a `Fetch` whose answer found nobody.
    """

    __slots__ = ("token",)

    def __init__(self, token: Token) -> None:
        self.token = token


class Report:
    """How far messages reached the program: of a subscription, or of a `Fetch` by the token of its call.

    `count`: of the messages of this token, in the order delivered, so many were dealt with, from the first on. `back`:
    stretches of places in that order, from 1, among those newly counted, that did not reach it and never will. A delivery
    counts as an attempt only where it is reported; what is not, when the token is cancelled, was none and is due at once.
    """

    __slots__ = ("token", "count", "back")

    def __init__(self, token: Token, count: int, back: Sequence[tuple[int, int]] = ()) -> None:
        self.token = token
        self.count = count
        self.back = back


class Credit:
    """A subscriber or watcher has room for this many more messages and bytes; allows `Deliver` and `Event`."""

    __slots__ = ("token", "messages", "bytes")

    def __init__(self, token: Token, messages: int, bytes_: int) -> None:
        self.token = token
        self.messages = messages
        self.bytes = bytes_


class JobDone:
    """A `Job` is done; `results` has one entry an operation, as `disk` says."""

    __slots__ = ("id", "results")

    def __init__(self, id_: JobId, results: list[object]) -> None:
        self.id = id_
        self.results = results


class JobFailed:
    """A `Job` stopped at a failed operation; the ones before it were performed."""

    __slots__ = ("id", "failure")

    def __init__(self, id_: JobId, failure: DiskFailure) -> None:
        self.id = id_
        self.failure = failure


class Unreadable:
    """Messages of a `Reply` or `Deliver` could not be read. Nothing of that effect was sent: the core answers anew.

    `unsent`: the messages of that effect, and of those for the same token that were held back behind it and dropped.
    """

    __slots__ = ("token", "failure", "unsent")

    def __init__(self, token: Token, failure: DiskFailure, unsent: Sequence[Messages]) -> None:
        self.token = token
        self.failure = failure
        self.unsent = unsent


class Drain:
    """Shut down: admit nothing new, end subscriptions (`End` with `server_shutdown`), sync what is admitted, `Halt`."""

    __slots__ = ()


Input = Call | Cancel | Report | Credit | JobDone | JobFailed | Unreadable | Drain

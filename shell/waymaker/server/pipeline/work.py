"""The work of a session that is under way: the load of its frames, the fragments it sends, and the credit of its subscriptions.

A subscription passes on to the core no more credit than a slice, filled up again only by what has been sent, so that no
generosity of a client's credit makes the server hold more. It never sends by itself: its session does.
"""

from __future__ import annotations

from typing import Final, Protocol

from waymaker.server.node_runner import NodeRunner
from waymaker.storage.store import Bodies
from waymaker.wire import frames
from waymaker_core.api.effects import End, Event
from waymaker_core.api.requests import Messages
from waymaker_core.model.types import Token

SLICE_MESSAGES: Final = 4_096
SLICE_BYTES_MIN: Final = 64 << 10
_CREDIT_MAX: Final = 1 << 40


class Carrier(Protocol):
    """The session of a subscription."""

    runner: NodeRunner

    @property
    def slice_bytes(self) -> int:
        """Return the bytes of one subscription that may be in flight from the core to the transport."""
        ...

    def send(self, item: Outgoing) -> None:
        """Queue a fragment."""
        ...

    def subscription_ended(self, subscription: SessionSubscription, end: End) -> None:
        """Forget a subscription that has ended in the core."""
        ...


class Load:
    """A frame's work and what it costs, until the last of it is answered and sent."""

    __slots__ = ("cost_bytes", "items")

    def __init__(self, cost_bytes: int, items: int) -> None:
        self.cost_bytes = cost_bytes
        self.items = items


class Outgoing:
    """A fragment to be sent, and what its sending frees. `items`: those of its load that it answers."""

    __slots__ = ("data", "load", "subscription", "messages", "bytes", "fetched", "items")

    def __init__(
        self, data: bytes, load: Load | None = None, subscription: SessionSubscription | None = None, messages: int = 0,
        bytes_: int = 0, fetched: Messages | None = None, items: int = 1,
    ) -> None:  # fmt: skip
        self.data = data
        self.load = load
        self.subscription = subscription
        self.messages = messages
        self.bytes = bytes_
        self.fetched = fetched
        self.items = items


class SessionSubscription:
    """A subscription of a session: the node runner's channel, and the account of its credit."""

    def __init__(self, session: Carrier, id_: int, reports: bool) -> None:
        self.id = id_
        self.token: Token | None = None
        self.reports = reports
        self._written = 0
        self._session = session
        self._client_messages = 0
        self._client_bytes = 0
        self._outstanding_messages = 0
        self._outstanding_bytes = 0

    def grant(self, messages: int, bytes_: int) -> None:
        """Take more credit from the client."""
        self._client_messages = min(self._client_messages + messages, _CREDIT_MAX)
        self._client_bytes = min(self._client_bytes + bytes_, _CREDIT_MAX)
        self._replenish_credit()

    def sent(self, messages: int, bytes_: int) -> None:
        """Note what the transport has taken over, and replenish credit."""
        self._outstanding_messages -= messages
        self._outstanding_bytes -= bytes_
        if not self.reports and self.token is not None:
            self._written += messages
            self._session.runner.report(self.token, self._written)
        self._replenish_credit()

    def handed_out(self, count: int, back: list[tuple[int, int]]) -> None:
        """Pass on how far the client has dealt with messages."""
        if self.reports and self.token is not None:
            self._session.runner.report(self.token, count, back)

    def _replenish_credit(self) -> None:
        """Pass credit on to the core, at most a slice, and no less than a minimum grant."""
        slice_bytes = self._session.slice_bytes
        # Each grant costs the node a step, so none is made below half a slice, unless it is all that the client gave.
        messages = min(self._client_messages, SLICE_MESSAGES - self._outstanding_messages)
        bytes_ = min(self._client_bytes, slice_bytes - self._outstanding_bytes)
        if (
            messages < min(self._client_messages, SLICE_MESSAGES // 2)
            and bytes_ < min(self._client_bytes, slice_bytes // 2)
        ):  # fmt: skip
            return
        messages, bytes_ = max(messages, 0), max(bytes_, 0)
        if self.token is None or not (messages or bytes_):
            return
        self._client_messages -= messages
        self._client_bytes -= bytes_
        self._outstanding_messages += messages
        self._outstanding_bytes += bytes_
        self._session.runner.credit(self.token, messages, bytes_)

    # ---- the node runner's channel

    def deliver(self, messages: Messages, bodies: Bodies) -> None:
        """Send a delivery of the node runner."""
        data = frames.delivery(self.id, messages, bodies)
        # The core counts something for each message; the client's credit is about bodies alone.
        self._client_bytes += messages.byte_count - sum(map(len, bodies))
        self._session.send(Outgoing(data, None, self, messages.count, messages.byte_count))

    def event(self, event: Event) -> None:
        """Refuse an event: watches do not run over sessions."""
        raise AssertionError("an event for a subscription")

    def ended(self, end: End) -> None:
        """Send the end of the subscription."""
        self._session.subscription_ended(self, end)

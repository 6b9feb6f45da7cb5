"""Held calls: those to a stream in a planned move. They wait for its end, so that most callers notice nothing of it.

How much may wait is bounded; beyond it a call is refused, and its caller tries again. Calls that are followed by credit are not
held: the node would not know what the credit is for.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.api.inputs import Call
from waymaker_core.api.kv_requests import KvWatch
from waymaker_core.api.requests import Subscribe
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.model.types import Token
from waymaker_core.node.parking import parked_bytes

FOLLOWED: Final = (Subscribe, KvWatch)


class HeldCalls:
    """The held calls of all streams, each stream's in the order in which they came."""

    def __init__(self, settings: MemberSettings) -> None:
        self._settings = settings
        self._held: dict[int, dict[Token, Call]] = {}
        self._count = self._bytes = 0

    def hold_call(self, stream_id: int, call: Call) -> bool:
        """Let a call wait; return False if it may not."""
        size = parked_bytes(call)
        if isinstance(call.request, FOLLOWED) or self._count >= self._settings.held_calls_max:
            return False
        if self._bytes + size > self._settings.held_bytes_max:
            return False
        self._held.setdefault(stream_id, {})[call.token] = call
        self._count += 1
        self._bytes += size
        return True

    def withdraw(self, token: Token) -> None:
        """Drop a call that its client gave up: it was not begun."""
        for calls in self._held.values():
            if token in calls:
                self._forget(calls.pop(token))
                return

    def take_calls(self, stream_id: int) -> list[Call]:
        """Return the calls to a stream, whose move has ended."""
        calls = list(self._held.pop(stream_id, {}).values())
        for call in calls:
            self._forget(call)
        return calls

    def _forget(self, call: Call) -> None:
        self._count -= 1
        self._bytes -= parked_bytes(call)

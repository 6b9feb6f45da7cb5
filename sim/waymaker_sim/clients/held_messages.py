"""Held messages: taken by a reader of replicated logs, and waiting in the node for a confirmation that it leads.

Another reader of their group does not get them meanwhile, and rightly so.
"""

from __future__ import annotations

from waymaker_core.model.types import Token
from waymaker_sim.machine.process import Process

SUBSCRIBED = Token(0)
"""The holder of what was taken for a subscription."""


class HeldMessages:
    """The last time at which each message was held, by stream, consumer, sequence, and the fetch that holds it."""

    def __init__(self) -> None:
        self._last_ns: dict[tuple[str, str, int], dict[Token, int]] = {}

    def forget(self) -> None:
        """Forget what a process held that has stopped."""
        self._last_ns.clear()

    def stepped(self, process: Process) -> None:
        """Note what is held after a step."""
        if process.node is None:
            return
        now_ns = process.events.now_ns
        for stream, consumers, messages in process.node.held_deliveries():
            holder = SUBSCRIBED if messages.fetched is None else messages.fetched
            for seq in (seq for run in messages.runs for seq in run.sequences()):
                for consumer in consumers:
                    self._last_ns.setdefault((stream, consumer, seq), {})[holder] = now_ns

    def held_by_another(self, stream: str, consumer: str, seq: int, token: Token, since_ns: int) -> bool:
        """Return True if a message was held at this time or later, and not for the fetch of this token."""
        holders = self._last_ns.get((stream, consumer, seq), {})
        return any(last_ns >= since_ns for holder, last_ns in holders.items() if holder != token)

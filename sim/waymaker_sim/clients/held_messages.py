"""Held messages: taken by a reader of replicated logs, and waiting in the node for a confirmation that it leads.

Another reader of their group does not get them meanwhile, and rightly so.
"""

from __future__ import annotations

from collections.abc import Iterator

from waymaker_core.model.types import Token
from waymaker_core.node.node import HeldDelivery, Node
from waymaker_sim.machine.process import Process

SUBSCRIBED = Token(0)
"""The holder of what was taken for a subscription."""
STILL_HELD_NS = 1 << 62


class HeldMessages:
    """The time until which each message was held, by stream, consumer, sequence, and the fetch that held it."""

    def __init__(self) -> None:
        self._until_ns: dict[tuple[str, str, int], dict[Token, int]] = {}
        self._held: dict[int, dict[int, HeldDelivery]] = {}
        """By machine: deliveries held after its last step, by the identity of their messages."""

    def forget(self) -> None:
        """Forget what a process held that has stopped."""
        self._until_ns.clear()
        self._held.clear()

    def stepped(self, process: Process, node: Node | None) -> None:
        """Note which deliveries a process's node holds since this step, and which no more."""
        if node is None:
            return
        held = {id(each.messages): each for each in node.held_deliveries()}
        before, self._held[process.number] = self._held.get(process.number, {}), held
        for key, each in before.items():
            if key not in held:
                self._note(each, process.events.now_ns)
        for key, each in held.items():
            if key not in before:
                self._note(each, STILL_HELD_NS)

    def _note(self, held: HeldDelivery, until_ns: int) -> None:
        holder = SUBSCRIBED if held.messages.fetched is None else held.messages.fetched
        for key in _keys(held):
            self._until_ns.setdefault(key, {})[holder] = until_ns

    def held_by_another(self, stream: str, consumer: str, seq: int, token: Token, since_ns: int) -> bool:
        """Return True if a message was held after this time, and not for the fetch of this token."""
        holders = self._until_ns.get((stream, consumer, seq), {})
        return any(until_ns > since_ns for holder, until_ns in holders.items() if holder != token)


def _keys(held: HeldDelivery) -> Iterator[tuple[str, str, int]]:
    for run in held.messages.runs:
        for seq in run.sequences():
            for consumer in held.consumers:
                yield held.stream, consumer, seq

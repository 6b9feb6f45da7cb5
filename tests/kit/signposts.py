"""Servers for simulated machines that send calls elsewhere: one that answers by a script, and a node that has some streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.kit.majority_register import Elsewhere, FromPeer
from waymaker_core.api.effects import Reply
from waymaker_core.api.inputs import Call, Cancel
from waymaker_core.model.disk_ops import ListDir
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import Now
from waymaker_core.node import Node, NodeConfig, open_node
from waymaker_sim.machine.process import Opener, Recovery


class Sign(NamedTuple):
    """The machine that a call is sent to, and the epoch in which it serves."""

    machine: int
    epoch: int = 1


Script = Callable[[int, Any], Answer | Refusal | Sign | None]
"""Returns what a machine says to a request; None: nothing, ever."""


class Scripted:
    """A server that answers by a script, at once."""

    def __init__(self, machine: int, script: Script) -> None:
        self.machine = machine
        self.script = script
        self.cancelled = 0
        self.heard: list[FromPeer] = []

    def step(self, now: Now, inputs: Sequence[Any]) -> list[Any]:
        """Answer each call."""
        effects: list[Any] = []
        for item in inputs:
            if isinstance(item, Call):
                said = self.script(self.machine, item.request)
                if isinstance(said, Sign):
                    effects.append(Elsewhere(item.token, said.machine, said.epoch))
                elif said is not None:
                    effects.append(Reply(item.token, said))
            elif isinstance(item, FromPeer):
                self.heard.append(item)
            else:
                assert isinstance(item, Cancel)
                self.cancelled += 1
        return effects

    def next_deadline(self) -> int | None:
        """Return None: it never acts by itself."""
        return None


def opener_by(script: Script) -> Opener:
    """Return how machines open servers with this script."""

    def opener(config: NodeConfig, now: Now) -> Recovery:
        yield ListDir("")
        return Scripted(config.node_id, script)

    return opener


OwnerOf = Callable[[str], int]
"""Returns the machine that has a stream."""


class SignpostedNode:
    """A node that has some of the streams, and sends calls about others to the machines that have them."""

    def __init__(self, node: Node, machine: int, owner_of: OwnerOf) -> None:
        self.node = node
        self.machine = machine
        self.owner_of = owner_of

    def step(self, now: Now, inputs: Sequence[Any]) -> list[Any]:
        """Step the node with all inputs but the calls that belong elsewhere."""
        signs: list[Any] = []
        own: list[Any] = []
        for item in inputs:
            owner = self._owner(item.request) if isinstance(item, Call) else self.machine
            if owner == self.machine:
                own.append(item)
            else:
                signs.append(Elsewhere(item.token, owner, 1))
        return [*signs, *self.node.step(now, own)]

    def _owner(self, request: Any) -> int:
        config = getattr(request, "config", None)
        return self.owner_of(getattr(request, "stream", "") or getattr(config, "name", ""))

    def next_deadline(self) -> int | None:
        """Return the node's deadline."""
        return self.node.next_deadline()


def opener_with(owner_of: OwnerOf) -> Opener:
    """Return how machines open nodes that have the streams which this function gives them."""

    def opener(config: NodeConfig, now: Now) -> Recovery:
        node = yield from open_node(config, now)
        return SignpostedNode(node, config.node_id, owner_of)

    return opener

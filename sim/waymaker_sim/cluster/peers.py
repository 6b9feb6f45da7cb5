"""Peers: the values that pass between a server and the other machines, and their words in a digest.

A protocol has kinds of its own for them. The machines know their fields alone: `to`, `lane` and `data` of an effect for a peer,
`token`, `node_id` and `epoch` of a redirect. The lane has a name that is one of `Lane`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from zlib import crc32

from waymaker_core.model.types import Now
from waymaker_sim.cluster.links import Lane
from waymaker_sim.kernel.digest import Digest, describe_effect, describe_input
from waymaker_sim.machine.callers import Caller


@dataclass(frozen=True, slots=True)
class PeerKinds:
    """The kinds of one protocol: what goes to a peer, what comes from one, and what redirects a caller."""

    to_peer: type[Any]
    from_peer: type[Any]
    """Made of the sender's number and the bytes."""
    elsewhere: type[Any]

    def add_step(self, digest: Digest, machine: int, now: Now, inputs: Sequence[Any], effects: Sequence[Any]) -> None:
        """Add one step of a machine to a digest."""
        received = "; ".join(map(self._describe_input, inputs))
        emitted = "; ".join(map(self._describe_effect, effects))
        digest.add(f"{now.mono_ns} {now.wall_ms} machine {machine}: {received} => {emitted}")

    def _describe_input(self, item: Any) -> str:
        if isinstance(item, self.from_peer):
            return f"from {item.sender} {describe_bytes(item.data)}"
        return describe_input(item)

    def _describe_effect(self, effect: Any) -> str:
        if isinstance(effect, self.to_peer):
            return f"to {effect.to} {lane_of(effect).name} {describe_bytes(effect.data)}"
        if isinstance(effect, self.elsewhere):
            return f"elsewhere {effect.token} {effect.node_id} {effect.epoch}"
        return describe_effect(effect)


class Redirectable(Caller, Protocol):
    """A caller that may be sent to another machine, which is its last notification."""

    def redirected(self, machine: int, epoch: int) -> None:
        """Receive the machine that serves the call, in this epoch."""


class NoPeer:
    """The kind of what a server without peers sends and receives: there is none."""


ALONE = PeerKinds(NoPeer, NoPeer, NoPeer)
"""The kinds of servers that know no peers."""


def lane_of(effect: Any) -> Lane:
    """Return the lane of an effect for a peer."""
    return Lane[effect.lane.name]


def describe_bytes(data: bytes) -> str:
    """Describe bytes by their number and checksum."""
    return f"{len(data)} {crc32(data):08x}"

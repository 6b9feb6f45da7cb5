"""Claims of a stream, as the catalog holds them: who leads in which epoch, and on which replicas."""

from __future__ import annotations

from typing import NamedTuple


class Seat(NamedTuple):
    """The place of one replica in a set: its node, and the number of the directory that counts; 0 for any."""

    node: int
    directory: int

    def admits(self, given: Seat) -> bool:
        """Return True if a replica that names its node and directory has this place."""
        return given.node == self.node and self.directory in (0, given.directory)


class Claim(NamedTuple):
    """A claim: its epoch is the position of its record in the catalog's log. `replicas` are in ascending order of nodes."""

    epoch: int
    primary: int
    replicas: tuple[Seat, ...]

    @property
    def majority(self) -> int:
        """Return how many replicas decide."""
        return len(self.replicas) // 2 + 1

    def has_seat(self, seat: Seat) -> bool:
        """Return True for a replica of the set, in the directory that counts."""
        return seat in self.replicas or any(each.admits(seat) for each in self.replicas)

    def has_node(self, node: int) -> bool:
        """Return True for a node with a replica of the set."""
        return node in [each.node for each in self.replicas]

    def next_to(self, node: int) -> int:
        """Return the node of the set that follows on another one of it, around the set."""
        nodes = [each.node for each in self.replicas]
        return next((each for each in nodes if each > node), nodes[0])


class Conf(NamedTuple):
    """The newest claim of a stream, and the one that was opened last. A new stream's first set counts as opened in epoch 0."""

    newest: Claim
    opened: Claim

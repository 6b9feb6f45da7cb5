"""The fault atlas: the machines that hold a good durable copy of what is committed, by stream.

It forbids each fault that would leave some stream without a majority of good copies. So a loss that is seen later is a fault of
the protocol, never of the plan. An atlas with one machine that has the only copies forbids every such fault.

A copy is known by the epoch in which its whole log was verified, and by its last durable position; the greater copy holds all
that any smaller one may have committed. What a majority holds counts as committed before its primary says so: acks may be on
their way. A copy that was lost counts again once its machine reports it anew; a damaged one only when it was mended.

A machine whose journal is torn comes to doubt its copies, though it lost nothing that was synced. Doubt is resolved by a
majority of copies without doubt, or by all. A copy whose directory was lost never comes back: so the atlas forbids to tear
another one, where too few without doubt would be left.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple


class Copy(NamedTuple):
    """The end of one durable copy of a log, or of what is committed of it; the greater one has all that the smaller has."""

    epoch: int
    position: int


EMPTY = Copy(0, 0)


class StreamCopies:
    """The copies of one stream on the machines of its replica set."""

    __slots__ = ("replicas", "copies", "damaged", "replaced", "committed", "unraised")

    def __init__(self, replicas: Sequence[int]) -> None:
        self.replicas = tuple(replicas)
        self.copies: dict[int, Copy] = {}
        self.damaged: dict[int, None] = {}
        """Machines whose copy has been damaged and not been mended."""
        self.replaced: dict[int, None] = {}
        """Machines that lost their directory, and have no copy in the new one yet that counts."""
        self.committed = EMPTY
        self.unraised = True
        """True if copies or replicas have changed since the majority was last looked at."""

    def majority(self) -> int:
        """Return how many copies are a majority."""
        return len(self.replicas) // 2 + 1

    def raise_committed(self) -> None:
        """Count what a majority holds as committed."""
        held = [self.copies.get(machine, EMPTY) for machine in self.replicas]
        for epoch in {copy.epoch for copy in held}:
            positions = sorted((copy.position for copy in held if copy.epoch == epoch), reverse=True)
            if len(positions) >= self.majority():
                self.committed = max(self.committed, Copy(epoch, positions[self.majority() - 1]))

    def good(self) -> list[int]:
        """Return the replicas whose copy has all that is committed."""
        return [
            machine
            for machine in self.replicas
            if machine not in self.damaged and self.copies.get(machine, EMPTY) >= self.committed
        ]

    def needs_certain(self, machine: int) -> bool:
        """Return True if the stream stops for good once a machine doubts its copy: a directory is lost, and few are certain."""
        certain = [each for each in self.replicas if each != machine and self.copies.get(each, EMPTY) != EMPTY]
        return len(certain) < self.majority() and any(each in self.replaced for each in self.replicas)


class Atlas:
    """Copies by stream. Streams have any names, which their reporter chooses."""

    def __init__(self) -> None:
        self._streams: dict[Hashable, StreamCopies] = {}
        self._lost: dict[int, None] = {}
        """Machines that lost copies and have not reported since they started again."""

    # ------------------------------------------------------------ reports

    def place(self, stream: Hashable, replicas: Sequence[int]) -> bool:
        """Note the replica set of a stream; a change keeps what is known of its copies. Return True if it is another one."""
        known = self._streams.get(stream)
        if known is None:
            self._streams[stream] = StreamCopies(replicas)
        elif known.replicas != tuple(replicas):
            known.replicas, known.unraised = tuple(replicas), True
        else:
            return False
        return True

    def forget(self, stream: Hashable) -> None:
        """Forget a stream that was deleted."""
        self._streams.pop(stream, None)

    def report(self, machine: int, stream: Hashable, copy: Copy, committed: Copy = EMPTY) -> None:
        """Note the durable end of a machine's copy, and what it knows to be committed."""
        copies = self._streams[stream]
        if machine not in self._lost and copies.copies.get(machine) != copy:
            copies.copies[machine], copies.unraised = copy, True
            if copy != EMPTY:
                copies.replaced.pop(machine, None)
        if committed > copies.committed:
            copies.committed = committed
        if copies.unraised:
            copies.raise_committed()
            copies.unraised = False

    def lost(self, machine: int) -> None:
        """Note that a machine lost all its copies, or their ends: none counts before it is reported after a start."""
        self._lost[machine] = None
        for copies in self._streams.values():
            copies.copies.pop(machine, None)

    def replaced(self, machine: int) -> None:
        """Note that a machine lost its whole directory, and all damage with it."""
        self.lost(machine)
        for copies in self._streams.values():
            copies.damaged.pop(machine, None)
            copies.replaced[machine] = None

    def started(self, machine: int) -> None:
        """Note that a machine has started: what it reports from now on is what its disk holds."""
        self._lost.pop(machine, None)

    def damage(self, machine: int, streams: Iterable[Hashable] | None = None) -> None:
        """Note that copies on a machine are damaged: those of some streams, or all of them."""
        for stream in self._streams if streams is None else streams:
            self._streams[stream].damaged[machine] = None

    def mended(self, machine: int, stream: Hashable) -> None:
        """Note that a damaged copy is whole again."""
        self._streams[stream].damaged.pop(machine, None)

    # ------------------------------------------------------------ questions

    def streams(self) -> list[Hashable]:
        """Return the streams that are known."""
        return list(self._streams)

    def good(self, stream: Hashable) -> list[int]:
        """Return the machines that hold a good durable copy of what is committed."""
        return self._streams[stream].good()

    def committed(self, stream: Hashable) -> Copy:
        """Return the end of what may be committed."""
        return self._streams[stream].committed

    def permits(self, machine: int, streams: Iterable[Hashable] | None = None) -> bool:
        """Return True if a machine may lose its copies of some streams, or of all. An atlas without reports permits nothing.

        Acks of the lost copy may be on their way, or be counted later. So a majority has to hold all that it holds, too.
        """
        if not self._streams:
            return False
        for stream in self._streams if streams is None else streams:
            copies = self._streams[stream]
            least = max(copies.committed, copies.copies.get(machine, EMPTY))
            left = [each for each in copies.good() if each != machine and copies.copies.get(each, EMPTY) >= least]
            if machine in copies.replicas and len(left) < copies.majority():
                return False
        return True

    def permits_tear(self, machine: int) -> bool:
        """Return True if a machine may find its journal torn, and doubt its copies."""
        return not any(
            machine in copies.replicas and machine not in copies.replaced and copies.needs_certain(machine)
            for copies in self._streams.values()
        )

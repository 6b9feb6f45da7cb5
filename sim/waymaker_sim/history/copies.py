"""Copies: streams that were restored from an archive under another name, and what they must hold.

No client publishes to a copy or consumes from it, so that it stays equal to the archive: whole, or absent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from waymaker_core.consumer.snapshot import to_groups
from waymaker_core.model.config import ConsumerConfig, Retention
from waymaker_core.storage.archive import Head
from waymaker_sim.kernel.checks import listed, require
from waymaker_sim.machine.process import ReceivedMessage


@dataclass(frozen=True, slots=True)
class Position:
    """A consumer's position in an archive."""

    config: ConsumerConfig
    floor: int
    dropped: int
    idle: bool
    """True if nothing was pending: then the position does not change until a client fetches."""


@dataclass(slots=True)
class Archive:
    """A stream as it was exported: its head, and its messages."""

    head: Head
    messages: list[ReceivedMessage] = field(default_factory=list)

    def positions(self) -> dict[str, Position]:
        """Return the position of every consumer of the archive by name."""
        found: dict[str, Position] = {}
        if self.head.consumers is not None:
            for group in to_groups(self.head.consumers):
                idle = not group.pending.total and not group.skipped
                for member in group.members.values():
                    found[member.config.name] = Position(member.config, group.floor, group.dropped, idle)
        return found

    def is_static(self) -> bool:
        """Return True if the messages of a copy never change: no age, no interest, no dead letters of pending
        deliveries."""
        config = self.head.config
        return not config.max_age_ms and config.retention is not Retention.INTEREST and not self.may_write()

    def may_write(self) -> bool:
        """Return True if a copy may write dead letters, of deliveries that were pending."""
        return any(each.config.dead_letter_subject and not each.idle for each in self.positions().values())


@dataclass(slots=True)
class Copy:
    """One copy, as far as it is known."""

    name: str
    archive: Archive
    stream_id: int = 0
    may_exist: bool = False
    """True if its completion was sent, and its deletion not confirmed."""
    must_exist: bool = False
    """True if its completion was confirmed, and its deletion not sent."""

    def check_figures(self, config: object, last_seq: int, count: int, byte_count: int) -> None:
        """Check the figures of its info."""
        archive, head = self.archive, self.archive.head
        wanted = replace(head.config, name=self.name)
        require(config == wanted, "archives", f"{self.name} has {config}, its archive {wanted}")
        ends = last_seq >= head.last_seq if archive.may_write() else last_seq == head.last_seq
        require(ends, "archives", f"{self.name} ends at {last_seq}, its archive at {head.last_seq}")
        if archive.is_static():
            whole = len(archive.messages)
            require(count == whole, "archives", f"{self.name} has {count} messages, its archive {whole}")
            if whole == head.count:
                require(
                    byte_count == head.byte_count, "archives", f"{self.name}: {byte_count} bytes of {head.byte_count}"
                )

    def check_messages(self, got: list[ReceivedMessage], from_seq: int = 1, *, whole: bool) -> None:
        """Check the messages from a sequence on, up to the last of them or, if `whole`, all."""
        wanted = {message.seq: message for message in self.archive.messages}
        for message in got:
            same = wanted.get(message.seq)
            what = f"{self.name} seq {message.seq}"
            if same is None and self.archive.may_write() and message.seq > self.archive.head.last_seq:
                continue
            require(same is not None and message[:2] == same[:2], "archives", f"{what} is {message}, was {same}")
            require(same is not None and message.body == same.body, "archives", f"{what} has other bytes")
        if self.archive.is_static():
            end = 1 << 62 if whole or not got else got[-1].seq
            there = {message.seq for message in got}
            missing = [seq for seq in wanted if from_seq <= seq <= end and seq not in there]
            require(not missing, "archives", f"{self.name} lacks {listed(missing[:20])} of its archive")

    def check_consumers(self, found: Iterable[tuple[ConsumerConfig, int, int]]) -> None:
        """Check configuration, floor and count of dropped messages of every consumer."""
        there = {config.name: (config, floor, dropped) for config, floor, dropped in found}
        positions = self.archive.positions()
        require(
            there.keys() == positions.keys(), "archives", f"{self.name} has {listed(there)}, not {listed(positions)}"
        )
        for name, position in positions.items():
            config, floor, dropped = there[name]
            what = f"{self.name}/{name} stands at {floor}, {dropped} dropped; {position}"
            require(config == position.config, "archives", f"{what}: {config}")
            require(floor >= position.floor and dropped >= position.dropped, "archives", what)
            if position.idle:
                require((floor, dropped) == (position.floor, position.dropped), "archives", what)

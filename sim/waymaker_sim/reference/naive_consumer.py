"""Consumers of the naive broker, with their pending deliveries."""

from __future__ import annotations

from dataclasses import dataclass, field

from waymaker_core.model.config import ConsumerConfig

MS = 1_000_000


@dataclass(slots=True)
class Pending:
    """One delivery without an answer."""

    count: int
    due_ns: int
    member: str
    claimed: bool = True
    """True while it has the claim against other groups of a work queue: until a nak or the deadline."""


@dataclass(slots=True)
class DeliveredMessage:
    """One delivered message."""

    seq: int
    time_ms: int
    count: int
    body: bytes


@dataclass(slots=True)
class NaiveGroup:
    """The state that the members of one queue group share; a consumer without group is alone in its own."""

    start: int
    considered: int
    max_deliver: int
    pending: dict[int, Pending] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    floor: int = 0
    dropped: int = 0
    last_delivered: int = 0
    uncertain_to: int = 0
    """Deliveries up to here may be forgotten: the broker was restarted since, and an ack of one counts all the same."""
    members: list[str] = field(default_factory=list)


@dataclass(slots=True)
class NaiveConsumer:
    """One consumer: its configuration and the group it belongs to."""

    config: ConsumerConfig
    created_ms: int
    group: NaiveGroup


def matches(pattern: str, subject: str) -> bool:
    """Return True if a literal subject fits a pattern; the empty pattern fits all."""
    if not pattern:
        return True
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > index
        if index >= len(tokens) or token not in ("*", tokens[index]):
            return False
    return len(wanted) == len(tokens)


def needed_by(consumer: NaiveConsumer, seq: int, subject: str) -> bool:
    """Return True if interest retention must keep a message for this consumer."""
    group = consumer.group
    return seq >= group.start and seq not in group.done and matches(consumer.config.filter_subject, subject)

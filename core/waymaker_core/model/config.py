"""Configuration of streams and consumers as the core sees it: plain values, no transport's classes.

Zero means "no bound" or "the default", as in the contract. Validation and defaults are in `stream.config` and
`consumer.config`; what is stored and compared is always a configuration after defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Retention(Enum):
    """The reason for which a stream deletes messages."""

    LIMITS = 1
    WORK_QUEUE = 2
    INTEREST = 3


class DeliveryPolicy(Enum):
    """The first message of a new consumer; values are the contract's."""

    ALL = 0
    LAST = 1
    BY_START_SEQ = 2
    BY_START_TIME = 3


class OnDrop(Enum):
    """The way on after messages of a source that were pruned before they were copied; values are the contract's."""

    HALT = 0
    SKIP_TO_FIRST_AVAILABLE = 1


class SubjectTransform(NamedTuple):
    """A rule that makes the subject of a copy from the subject of its original (`sources.transform`)."""

    source_pattern: str
    destination: str


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One stream that another one copies from; it never changes. `start_time_ms` is reserved, and must be 0."""

    source_stream: str
    filter_subject: str = ""
    start_seq: int = 0
    start_time_ms: int = 0
    subject_transform: SubjectTransform | None = None
    max_initial_backfill: int = 0
    on_drop: OnDrop = OnDrop.HALT
    dlq_stream: str = ""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """One stream's settings. Only the limits, `strict_limits` and `max_msg_bytes` may change after creation.

    `service_settings`: those of the service that owns a reserved stream, in bytes that only it reads; no client sets them.
    """

    name: str
    subjects_filter: tuple[str, ...] = ()
    retention: Retention = Retention.LIMITS
    max_age_ms: int = 0
    max_msgs: int = 0
    max_bytes: int = 0
    strict_limits: bool = False
    block_size: int = 0
    max_msg_bytes: int = 0
    ephemeral: bool = False
    max_msgs_per_subject: int = 0
    service_settings: bytes = b""
    sources: tuple[SourceConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """One consumer's settings; they never change."""

    name: str
    filter_subject: str = ""
    policy: DeliveryPolicy = DeliveryPolicy.ALL
    start_seq: int = 0
    start_time_ms: int = 0
    ack_wait_ms: int = 0
    max_deliver: int = 0
    deliver_group: str = ""
    dead_letter_subject: str = ""
    inactive_ms: int = 0
    """The server deletes a consumer that no client used for this long; 0: never."""

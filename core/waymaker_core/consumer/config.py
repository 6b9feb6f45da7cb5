"""Settings of a consumer: defaults, bounds, and what the members of a queue group must agree on."""

from __future__ import annotations

from dataclasses import replace

from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, StreamConfig
from waymaker_core.model.limits import SEQ_MAX, Limits
from waymaker_core.model.names import check_name, reserved_prefix
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError
from waymaker_core.model.subjects import SubjectFilter, is_pattern, subject_fault

MAX_DELIVER_MAX = (1 << 32) - 1
"""The greatest number that the contract's field can carry."""
TIME_MS_MAX = (1 << 63) - 1


def validate(config: ConsumerConfig, stream: StreamConfig, limits: Limits) -> ConsumerConfig:
    """Return the configuration after defaults, which is stored and compared. CodeError (`invalid_config`)."""
    check_name(config.name, "a consumer", limits)
    if reserved_prefix(stream.name) == "queue:":
        raise _bad("a queue is popped, it has no consumers")
    if config.filter_subject and not is_pattern(config.filter_subject, limits):
        raise _bad(f"filter {config.filter_subject[:80]!r} is not a subject pattern")
    if not 0 <= config.ack_wait_ms <= limits.ack_wait_max_ms:
        raise _bad(f"ack_wait_ms {config.ack_wait_ms} is out of range; at most {limits.ack_wait_max_ms}")
    if not 0 <= config.max_deliver <= MAX_DELIVER_MAX:
        raise _bad(f"max_deliver {config.max_deliver} is out of range; at most {MAX_DELIVER_MAX}")
    if config.inactive_ms and not limits.inactive_min_ms <= config.inactive_ms <= limits.inactive_max_ms:
        raise _bad(
            f"inactive_ms {config.inactive_ms} is out of range: it lies between {limits.inactive_min_ms} and "
            f"{limits.inactive_max_ms}, or is 0 for a consumer that is never deleted by itself"
        )
    _check_start(config)
    _check_group(config.deliver_group, limits)
    _check_dead_letters(config.dead_letter_subject, stream, limits)
    return replace(
        config,
        start_seq=config.start_seq if config.policy is DeliveryPolicy.BY_START_SEQ else 0,
        start_time_ms=config.start_time_ms if config.policy is DeliveryPolicy.BY_START_TIME else 0,
        ack_wait_ms=config.ack_wait_ms or limits.ack_wait_default_ms,
        max_deliver=config.max_deliver or limits.max_deliver_default,
    )


def _bad(message: str) -> CodeError:
    return CodeError(INVALID_CONFIG, message)


def _check_start(config: ConsumerConfig) -> None:
    if config.policy is DeliveryPolicy.BY_START_SEQ and not 1 <= config.start_seq <= SEQ_MAX:
        raise _bad(f"start_seq {config.start_seq} is no sequence: they go from 1 to {SEQ_MAX}")
    if config.policy is DeliveryPolicy.BY_START_TIME and not -TIME_MS_MAX <= config.start_time_ms <= TIME_MS_MAX:
        raise _bad(f"start_time_ms {config.start_time_ms} is out of range")


def _check_group(group: str, limits: Limits) -> None:
    if len(group.encode("utf-8", "surrogatepass")) > limits.name_bytes_max:
        raise _bad(f"deliver_group is longer than {limits.name_bytes_max} bytes")
    if not group.isprintable():
        raise _bad(f"deliver_group {group[:80]!r} holds control characters")


def _check_dead_letters(subject: str, stream: StreamConfig, limits: Limits) -> None:
    if not subject:
        return
    if fault := subject_fault(subject, limits):
        raise _bad(f"dead_letter_subject {subject[:80]!r} is not a subject: {fault}")
    if reserved_prefix(stream.name):
        raise _bad(f"dead letters cannot be written into {stream.name!r}: only its service writes there")
    if not SubjectFilter(stream.subjects_filter).accepts(subject):
        raise _bad(f"the stream does not accept dead_letter_subject {subject!r}: add a pattern for it to the stream")


def check_letters_stay(config: ConsumerConfig, stream: StreamConfig) -> None:
    """Refuse (`invalid_config`) a new consumer whose dead letters would push each other out."""
    if config.dead_letter_subject and stream.max_msgs_per_subject == 1:
        raise _bad(
            f"the stream keeps one message at each subject, so that of all dead letters at {config.dead_letter_subject!r} "
            "only the last would stay; use a stream with a higher max_msgs_per_subject, or none"
        )


def check_agreement(config: ConsumerConfig, member: ConsumerConfig) -> None:
    """Refuse (`invalid_config`) a member that would not share all but its name with another one of its group."""
    for field in (
        "filter_subject",
        "policy",
        "start_seq",
        "start_time_ms",
        "ack_wait_ms",
        "max_deliver",
        "dead_letter_subject",
    ):
        mine, theirs = getattr(config, field), getattr(member, field)
        if mine != theirs:
            raise _bad(
                f"members of queue group {config.deliver_group!r} must agree in {field}: {member.name!r} has {theirs!r}"
            )


LISTED_FIGURES_BYTES = 128
"""Bytes that a consumer's figures and field tags take in a list, at their longest."""


def _listed_bytes(config: ConsumerConfig) -> int:
    """Return about how many bytes a consumer takes in a list: its texts, and its figures at their longest."""
    texts = (config.name, config.filter_subject, config.deliver_group, config.dead_letter_subject)
    return LISTED_FIGURES_BYTES + sum(len(text.encode()) for text in texts)

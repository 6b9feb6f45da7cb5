"""Settings of a stream: what a client may ask for, the defaults, and what may change later.

What is stored is always a configuration after defaults, so that two are the same exactly when they compare equal.
"""

from __future__ import annotations

from dataclasses import replace

from waymaker_core.api.requests import UpdateStream
from waymaker_core.model.config import Retention, StreamConfig
from waymaker_core.model.limits import MIB, SEQ_MAX, Limits
from waymaker_core.model.names import check_name, reserved_prefix
from waymaker_core.model.result_codes import IMMUTABLE_FIELD, INVALID_CONFIG, CodeError
from waymaker_core.model.subjects import covers, first_overlap, is_pattern
from waymaker_core.model.tokens import escape

OBJECT_CHUNK_BYTES = 1 * MIB
"""Default size of an object's chunk: an object bucket must be able to store one."""
KV_HISTORY = 64
"""Revisions of a key that a bucket keeps, unless it says otherwise."""

_BUCKET_SUBJECTS = {"obj:": ("objm.>", "objc.>", "obj_chunk.>")}


def validate(config: StreamConfig, limits: Limits) -> StreamConfig:
    """Return the configuration with its defaults filled in. CodeError (`invalid_config`)."""
    check_name(config.name, "a stream", limits)
    _check_numbers(config, limits)
    _check_filter(config, limits)
    if config.retention is not Retention.LIMITS and (
        config.max_age_ms or config.max_msgs or config.max_bytes or config.strict_limits
    ):
        raise _bad("limits of age, count and bytes belong to limits retention only")
    _check_reserved(config, limits)
    history = config.max_msgs_per_subject or (KV_HISTORY if reserved_prefix(config.name) == "kv:" else 0)
    block_size = config.block_size or limits.block_size_default
    return replace(config, block_size=block_size, max_msgs_per_subject=history)


def updated(config: StreamConfig, update: UpdateStream, limits: Limits) -> StreamConfig:
    """Return the configuration after an update. CodeError (`immutable_field`, `invalid_config`)."""
    if config.retention is not Retention.LIMITS and (
        update.max_age_ms or update.max_msgs or update.max_bytes or update.strict_limits
    ):
        raise CodeError(
            IMMUTABLE_FIELD,
            f"a stream with {config.retention.name.lower()} retention has no limits of age, count or bytes",
        )
    changed = replace(
        config,
        max_age_ms=config.max_age_ms if update.max_age_ms is None else update.max_age_ms,
        max_msgs=config.max_msgs if update.max_msgs is None else update.max_msgs,
        max_bytes=config.max_bytes if update.max_bytes is None else update.max_bytes,
        max_msg_bytes=config.max_msg_bytes if update.max_msg_bytes is None else update.max_msg_bytes,
        strict_limits=config.strict_limits if update.strict_limits is None else update.strict_limits,
    )
    return validate(changed, limits)


def _check_numbers(config: StreamConfig, limits: Limits) -> None:
    bounds = {
        "max_age_ms": config.max_age_ms,
        "max_msgs": config.max_msgs,
        "max_bytes": config.max_bytes,
        "max_msg_bytes": config.max_msg_bytes,
        "max_msgs_per_subject": config.max_msgs_per_subject,
    }
    for name, value in bounds.items():
        if not 0 <= value <= SEQ_MAX:
            raise _bad(f"{name} = {value}; it must lie between 0 (no bound) and {SEQ_MAX}")
    if not 0 <= config.block_size <= limits.block_size_max:
        raise _bad(f"block_size = {config.block_size}; it must lie between 1 and {limits.block_size_max}, or be 0")


def _check_filter(config: StreamConfig, limits: Limits) -> None:
    if len(config.subjects_filter) > limits.subjects_filter_max:
        raise _bad(f"{len(config.subjects_filter)} subject patterns; at most {limits.subjects_filter_max} are allowed")
    for pattern in config.subjects_filter:
        if not is_pattern(pattern, limits):
            raise _bad(f"{pattern[:80]!r} is not a subject pattern")
    clash = first_overlap(list(config.subjects_filter))
    if clash is not None:
        raise _bad(f"the subject patterns {clash[0]!r} and {clash[1]!r} overlap")


def _check_reserved(config: StreamConfig, limits: Limits) -> None:
    """Refuse settings that would let a service's live state be dropped, or its messages be refused."""
    prefix = reserved_prefix(config.name)
    if not prefix:
        return
    check_name(config.name[len(prefix) :], f"what {prefix!r} begins", limits)
    if config.retention is not Retention.LIMITS:
        raise _bad(f"a {prefix!r} stream keeps its messages until its service removes them: limits retention only")
    if config.max_age_ms or config.max_msgs or config.max_bytes:
        raise _bad(f"a limit of age, count or bytes could drop live state of a {prefix!r} stream")
    if config.max_msgs_per_subject and prefix != "kv:":
        raise _bad(f"max_msgs_per_subject could drop live state of a {prefix!r} stream")
    if prefix == "obj:" and 0 < config.max_msg_bytes < OBJECT_CHUNK_BYTES:
        raise _bad(
            f"max_msg_bytes = {config.max_msg_bytes} is less than an object's chunk ({OBJECT_CHUNK_BYTES} bytes)"
        )
    needed = _BUCKET_SUBJECTS.get(prefix, (">",))
    if prefix == "kv:":
        needed = (f"{escape(config.name[len(prefix) :])}.>",)
    if config.subjects_filter and not all(
        any(covers(pattern, subject) for pattern in config.subjects_filter) for subject in needed
    ):
        raise _bad(
            f"the subject patterns of a {prefix!r} stream must accept what its service writes: {', '.join(needed)}"
        )


def _bad(message: str) -> CodeError:
    return CodeError(INVALID_CONFIG, message)

"""Settings of streams and consumers as callers give them, converted to the values that are sent.

Responsible for every setting of `create_stream`, `update_stream` and `create_consumer`: which names there are, what each may
hold, and how the start of a consumer follows from its settings. It never sends, and it never drops what was given: a setting
that would have no effect is refused. Keywords and configuration objects go through the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, Final, Literal, NoReturn, TypedDict

from waymaker.client.checked import (
    UINT32_MAX,
    UNLIMITED,
    Milliseconds,
    Moment,
    Unlimited,
    Whole,
    flag,
    milliseconds,
    moment_ms,
    text,
    whole,
    word,
)
from waymaker.client.errors import UsageError, WrongTypeError
from waymaker_core.model.config import (
    ConsumerConfig,
    DeliveryPolicy,
    OnDrop,
    Retention,
    SourceConfig,
    StreamConfig,
    SubjectTransform,
)

RetentionWord = Literal["limits", "work_queue", "work-queue", "workqueue", "interest"]
OnDropWord = Literal["halt", "skip", "skip_to_first_available"]
PolicyWord = Literal["all", "last", "new", "by_start_seq", "by_start_time"]

MAX_DELIVER_UNLIMITED: Final = UINT32_MAX
"""The number that `max_deliver="unlimited"` is stored as: more attempts than a message can get."""


class StreamUpdateSettings(TypedDict, total=False):
    """Settings that may change while a stream exists. None leaves a setting alone; 0 and "unlimited" lift a bound."""

    max_age_ms: Milliseconds | Unlimited | None
    max_msgs: Whole | Unlimited | None
    max_bytes: Whole | Unlimited | None
    max_msg_bytes: Whole | Unlimited | None
    strict_limits: bool | None


class StreamSettings(StreamUpdateSettings, total=False):
    """Settings of a new stream. None leaves one at its default."""

    name: str
    subjects_filter: str | Iterable[str] | None
    retention: Retention | RetentionWord | None
    block_size: Whole | None
    ephemeral: bool | None
    max_msgs_per_subject: Whole | Unlimited | None
    sources: Iterable[SourceConfig | str | SourceSettings] | None


class SourceSettings(TypedDict, total=False):
    """Settings of one source of a new stream. None leaves one at its default."""

    source_stream: str
    filter_subject: str | None
    start_seq: Whole | None
    subject_transform: SubjectTransform | tuple[str, str] | None
    max_initial_backfill: Whole | None
    on_drop: OnDrop | OnDropWord | None
    dlq_stream: str | None


class ConsumerSettings(TypedDict, total=False):
    """Settings of a new consumer. None leaves one at its default."""

    name: str
    filter_subject: str | None
    policy: DeliveryPolicy | PolicyWord | None
    start_seq: Whole | None
    start_time_ms: Moment | None
    ack_wait_ms: Milliseconds | None
    max_deliver: Whole | Unlimited | None
    deliver_group: str | None
    dead_letter_subject: str | None
    inactive_ms: Milliseconds | None


# ------------------------------------------------------------------------------------------- values

_RETENTIONS: Final = {
    "limits": Retention.LIMITS,
    "work_queue": Retention.WORK_QUEUE,
    "workqueue": Retention.WORK_QUEUE,
    "interest": Retention.INTEREST,
}
_POLICIES: Final = {
    "all": DeliveryPolicy.ALL,
    "last": DeliveryPolicy.LAST,
    "by_start_seq": DeliveryPolicy.BY_START_SEQ,
    "by_start_sequence": DeliveryPolicy.BY_START_SEQ,
    "by_start_time": DeliveryPolicy.BY_START_TIME,
}
_NEW: Final = "new"

Convert = Callable[[str, Any], object]


def _bound(convert: Callable[[str, Any], int], name: str, value: object) -> int:
    """Convert a bound of a stream: 0 and "unlimited" are none."""
    if isinstance(value, str):
        if value.strip().lower() == UNLIMITED:
            return 0
        raise WrongTypeError(f"{name} is a number or {UNLIMITED!r}, not {value!r}")
    return _counted(convert, name, value)


def _counted(convert: Callable[[str, Any], int], name: str, value: object) -> int:
    """Convert a number, and name the word for "no bound" where -1 was given for it."""
    if value == -1 and not isinstance(value, bool):
        raise UsageError(f"{name} = -1; write {UNLIMITED!r} for no bound")
    return convert(name, value)


def _attempts(name: str, value: object) -> int:
    """Convert a number of deliveries; 0 is the server's default."""
    if isinstance(value, str) and value.strip().lower() == UNLIMITED:
        return MAX_DELIVER_UNLIMITED
    if isinstance(value, str):
        raise WrongTypeError(f"{name} is a number or {UNLIMITED!r}, not {value!r}")
    return _counted(partial(whole, most=MAX_DELIVER_UNLIMITED), name, value)


def _patterns(name: str, value: object) -> tuple[str, ...]:
    """Convert subject patterns: several, or a single one as a string."""
    if isinstance(value, str):
        if "," in value:
            raise UsageError(f"{name} = {value!r}: give several patterns as a list of strings")
        return (text(name, value),)
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        raise WrongTypeError(f"{name} is a list of subject patterns, not {value!r}")
    return tuple(text(f"a pattern of {name}", pattern) for pattern in value)


def _policy(name: str, value: object) -> object:
    """Convert a start policy; "new" stays a word, for the server has no value for it."""
    if isinstance(value, str) and value.strip().lower() == _NEW:
        return _NEW
    try:
        return word(name, value, DeliveryPolicy, _POLICIES)
    except UsageError as error:
        raise type(error)(error.message.replace("'last'", "'last', 'new'")) from None


def _transform(name: str, value: object) -> SubjectTransform:
    """Convert a pair of a pattern and a destination."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise WrongTypeError(f"{name} is a pair (source pattern, destination), not {value!r}")
    return SubjectTransform(text("the pattern of a transform", value[0]), text("its destination", value[1]))


def sources(name: str, value: object) -> tuple[SourceConfig, ...]:
    """Convert sources: each a `SourceConfig`, the settings of one by name, or the name of a stream alone."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise WrongTypeError(f"{name} is a list of sources, not {value!r}")
    return tuple(_one_source(each) for each in value)


def _one_source(value: object) -> SourceConfig:
    given: dict[str, object]
    if isinstance(value, SourceConfig):
        given = {field.name: getattr(value, field.name) for field in fields(SourceConfig)}
    elif isinstance(value, Mapping):
        given = dict(value)
    elif isinstance(value, str):
        given = {"source_stream": value}
    else:
        raise WrongTypeError(f"a source is a SourceConfig, its settings, or the name of a stream, not {value!r}")
    converted = _by_name("a source", given, _SOURCE)
    if not converted.get("source_stream"):
        raise UsageError(f"a source needs source_stream, the name of the stream to copy from: {value!r}")
    return SourceConfig(**converted)


_ON_DROP: Final = {
    "halt": OnDrop.HALT,
    "skip": OnDrop.SKIP_TO_FIRST_AVAILABLE,
    "skip_to_first_available": OnDrop.SKIP_TO_FIRST_AVAILABLE,
}
_SOURCE: Final[dict[str, Convert]] = {
    "source_stream": text,
    "filter_subject": text,
    "start_seq": whole,
    "start_time_ms": whole,
    "subject_transform": _transform,
    "max_initial_backfill": whole,
    "on_drop": lambda name, value: word(name, value, OnDrop, _ON_DROP),
    "dlq_stream": text,
}
_UPDATE: Final[dict[str, Convert]] = {
    "max_age_ms": partial(_bound, milliseconds),
    "max_msgs": partial(_bound, whole),
    "max_bytes": partial(_bound, whole),
    "max_msg_bytes": partial(_bound, whole),
    "strict_limits": flag,
}
_STREAM: Final[dict[str, Convert]] = _UPDATE | {
    "name": text,
    "subjects_filter": _patterns,
    "retention": lambda name, value: word(name, value, Retention, _RETENTIONS),
    "block_size": whole,
    "ephemeral": flag,
    "max_msgs_per_subject": partial(_bound, whole),
    "sources": sources,
}
_CONSUMER: Final[dict[str, Convert]] = {
    "name": text,
    "filter_subject": text,
    "policy": _policy,
    "start_seq": whole,
    "start_time_ms": moment_ms,
    "ack_wait_ms": milliseconds,
    "max_deliver": _attempts,
    "deliver_group": text,
    "dead_letter_subject": text,
    "inactive_ms": milliseconds,
}
_STARTS: Final = ("policy", "start_seq", "start_time_ms")
_ZERO_MEANS_NOTHING: Final = {
    "start_seq": "sequences start at 1",
    "ack_wait_ms": "leave it out for the server's default",
    "inactive_ms": "leave it out for a consumer that is never deleted by itself",
    "max_deliver": f"leave it out for the server's default, or write {UNLIMITED!r}",
}
"""Settings where 0 stands for one that was left out: said by keyword it may be meant as "none", and is refused."""
_ELSEWHERE: Final = {
    "max_message_size": "max_msg_bytes",
    "max_msg_size": "max_msg_bytes",
    "storage": "ephemeral",
    "deliver_policy": "policy",
    "delivery_policy": "policy",
    "opt_start_seq": "start_seq",
    "opt_start_time": "start_time_ms",
    "since": "start_time_ms",
    "inactive_after": "inactive_ms",
    "inactive_threshold": "inactive_ms",
    "queue": "deliver_group",
    "queue_group": "deliver_group",
    "group": "deliver_group",
    "durable": "name",
    "durable_name": "name",
}
"""Names of other systems that are too far from ours to be found by likeness."""

# ------------------------------------------------------------------------------------ configurations


def stream_config(config: StreamConfig | str, given: Mapping[str, object]) -> StreamConfig:
    """Return the configuration of a new stream, from a name or a configuration and settings by keyword."""
    values = _converted("a stream", StreamConfig, config, given, _STREAM)
    made = StreamConfig(**values)
    if made.retention is not Retention.LIMITS:
        bounds = [name for name in ("max_age_ms", "max_msgs", "max_bytes", "strict_limits") if getattr(made, name)]
        if bounds:
            raise UsageError(f"{bounds[0]} needs retention LIMITS, not {made.retention.name}")
    return made


def consumer_config(config: ConsumerConfig | str, given: Mapping[str, object]) -> tuple[ConsumerConfig, bool]:
    """Return the configuration of a new consumer; True where it is to begin with the next message and lacks its sequence."""
    named = {name for name, value in given.items() if value is not None}
    if isinstance(config, ConsumerConfig) and named & set(_STARTS):
        # A start by keyword takes the place of the whole start of the configuration.
        config = replace(config, policy=DeliveryPolicy.ALL, start_seq=0, start_time_ms=0)
    values = _converted("a consumer", ConsumerConfig, config, given, _CONSUMER)
    for name, right in _ZERO_MEANS_NOTHING.items():
        if name in named and not values[name]:
            raise UsageError(f"{name} = 0; {right}")
    policy = values.pop("policy", None)
    if "policy" not in named and policy is DeliveryPolicy.ALL:
        policy = None  # in a configuration object that is also the value of a policy left out
    timed = "start_time_ms" in named or bool(values.get("start_time_ms"))
    start, new = _start(policy, values.get("start_seq", 0), timed, "policy" in named)
    return ConsumerConfig(**values, policy=start), new


def is_older(config: ConsumerConfig, there: ConsumerConfig) -> bool:
    """Return True if a consumer that exists differs from a new one in its first sequence alone, and begins before it."""
    same = replace(
        config,
        start_seq=there.start_seq,
        ack_wait_ms=config.ack_wait_ms or there.ack_wait_ms,
        max_deliver=config.max_deliver or there.max_deliver,
    )
    return there.start_seq <= config.start_seq and same == there


def stream_update(given: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings that an update changes; UsageError for one that is fixed."""
    for name in given:
        if name in _STREAM and name not in _UPDATE:
            raise UsageError(f"{name} is fixed for the life of a stream; an update changes {', '.join(_UPDATE)}")
    return _by_name("an update", given, _UPDATE)


def refuse_unknown(what: str, name: str, known: Iterable[str]) -> NoReturn:
    """Raise UsageError for a setting that does not exist, with the one that was probably meant."""
    import difflib

    names = list(known)
    near = [_ELSEWHERE[name]] if _ELSEWHERE.get(name) in names else difflib.get_close_matches(name, names, 1, 0.5)
    right = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    raise UsageError(f"no such setting of {what}: {name}; {right}")


def _converted(
    what: str, kind: type[StreamConfig | ConsumerConfig], config: object, given: Mapping[str, object],
    table: Mapping[str, Convert],
) -> dict[str, Any]:  # fmt: skip
    if isinstance(config, kind):
        # A setting that no client can give is refused by its name, unless it holds nothing.
        values = {field.name: getattr(config, field.name) for field in fields(kind)}
        base: dict[str, object] = {name: value for name, value in values.items() if name in table or value}
    elif isinstance(config, str):
        if given.get("name") is not None:
            raise UsageError(f"two names for {what}: {config!r} and {given['name']!r}")
        base = {"name": config}
    else:
        raise WrongTypeError(f"{what} is made from a name or a {kind.__name__}, not from {config!r}")
    named = {name: value for name, value in given.items() if value is not None or name not in table}
    return _by_name(what, base | named, table)


def _by_name(what: str, given: Mapping[str, object], table: Mapping[str, Convert]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in given.items():
        convert = table.get(name)
        if convert is None:
            refuse_unknown(what, name, table)
        if value is not None:
            out[name] = convert(name, value)
    return out


def _start(policy: object, seq: int, timed: bool, stated: bool) -> tuple[DeliveryPolicy, bool]:
    """Return where a consumer begins. A start implies its policy; a policy without its start, or with another's, is refused."""
    if seq and timed:
        raise UsageError("start_seq and start_time_ms exclude one another")
    implied = DeliveryPolicy.BY_START_SEQ if seq else DeliveryPolicy.BY_START_TIME if timed else None
    if policy is None:
        return implied or DeliveryPolicy.ALL, False
    if implied is not None and policy is not implied:
        said = policy.name.lower() if isinstance(policy, DeliveryPolicy) else policy
        raise UsageError(f"{'start_seq' if seq else 'start_time_ms'} has no effect with policy {said!r}; leave one out")
    if policy == _NEW:
        return DeliveryPolicy.BY_START_SEQ, True
    assert isinstance(policy, DeliveryPolicy)
    if policy is DeliveryPolicy.BY_START_SEQ and not seq:
        raise UsageError("policy 'by_start_seq' needs start_seq, the sequence to begin with")
    if policy is DeliveryPolicy.BY_START_TIME and stated and not timed:
        raise UsageError("policy 'by_start_time' needs start_time_ms, the moment to begin with")
    return policy, False

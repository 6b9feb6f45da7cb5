"""Settings of every call: what a server stores is what was meant, or the call is refused by the setting's name.

The tables at the top are the oracle: for each kind of setting, the values that have one meaning, and that meaning. Every odd
value is tried with every setting; what a table does not list must be refused.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

import waymaker
from tests.kit.real_server import RealServer
from waymaker.client import settings
from waymaker.client.connecting import connect
from waymaker.client.options import MoreOptions, Options
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, Retention, SourceConfig, StreamConfig


class Two(IntEnum):
    TWO = 2


REFUSED = object()
MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
ODD: list[Any] = [
    0, 1, 2, 3, -1, -5, 5_000, (1 << 31), (1 << 63) - 1, 1 << 63, 1 << 64, 2.0, 1.5, 1e6, float("nan"), float("inf"), True,
    False, "", "0", "5", "7d", "limits", "LIMITS", "workqueue", "work_queue", "work-queue", "Work Queue", "interest", "last",
    "new", "all", "by_start_seq", "by_start_time", "unlimited", "UNLIMITED", "infinite", "true", "a", "a.>", "a,b", b"a", None,
    [], ["a"], ("a.>", "b.*"), ["a", 5], {"a": 1}, object(), Two.TWO, Retention.LIMITS, Retention.WORK_QUEUE,
    DeliveryPolicy.ALL, DeliveryPolicy.LAST, timedelta(seconds=2), timedelta(microseconds=500), timedelta(days=-1),
    MOMENT, MOMENT.replace(tzinfo=None),
]  # fmt: skip


def whole(value: Any, least: int, most: int) -> Any:
    return value if type(value) is int and least <= value <= most else REFUSED


def meant(kind: str, value: Any) -> Any:
    """The value that the setting has to have, or REFUSED."""
    most = (1 << 63) - 1
    match kind:
        case "bound" | "bound_ms":
            if isinstance(value, str) and value.lower() == "unlimited":
                return 0
            if kind == "bound_ms" and value == timedelta(seconds=2):
                return 2_000
            return whole(value, 0, most)
        case "block":
            return REFUSED if whole(value, 0, 1_000_000) is REFUSED else value or 100_000
        case "wait_ms":
            if value == timedelta(seconds=2):
                return 2_000
            return whole(value, 1, 7 * 24 * 3_600_000)
        case "inactive_ms":
            return 2_000 if value == timedelta(seconds=2) else whole(value, 1_000, 365 * 24 * 3_600_000)
        case "attempts":
            unlimited = isinstance(value, str) and value.lower() == "unlimited"
            return (1 << 32) - 1 if unlimited else whole(value, 1, (1 << 32) - 1)
        case "seq":
            return whole(value, 1, most)
        case "time_ms":
            return int(MOMENT.timestamp() * 1000) if value == MOMENT else whole(value, 0, most)
        case "flag":
            return value if isinstance(value, bool) else REFUSED
        case "patterns":
            good: list[Any] = [[], ["a"], ("a.>", "b.*")]
            if isinstance(value, str):
                return REFUSED if value in ("", "a,b") or " " in value else (value,)
            return tuple(value) if any(value is other or value == other for other in good) else REFUSED
        case "sources":
            return tuple(map(SourceConfig, value)) if isinstance(value, list) and value in ([], ["a"]) else REFUSED
        case "retention":
            words = {"limits": 1, "workqueue": 2, "work_queue": 2, "work-queue": 2, "work queue": 2, "interest": 3}
            if isinstance(value, Retention):
                return value
            return Retention(words[value.lower()]) if isinstance(value, str) and value.lower() in words else REFUSED
        case "policy":
            if isinstance(value, DeliveryPolicy):
                return value
            lone = {"all": DeliveryPolicy.ALL, "last": DeliveryPolicy.LAST, "new": DeliveryPolicy.BY_START_SEQ}
            return lone.get(value, REFUSED) if isinstance(value, str) else REFUSED
        case "filter":
            return value if isinstance(value, str) and value != "Work Queue" else REFUSED
        case "group":
            return value if isinstance(value, str) else REFUSED
    raise AssertionError(kind)


STREAM = {
    "subjects_filter": "patterns", "retention": "retention", "max_age_ms": "bound_ms", "max_msgs": "bound",
    "max_bytes": "bound", "strict_limits": "flag", "block_size": "block", "max_msg_bytes": "bound", "ephemeral": "flag",
    "max_msgs_per_subject": "bound", "sources": "sources",
}  # fmt: skip
CONSUMER = {
    "filter_subject": "filter", "policy": "policy", "start_seq": "seq", "start_time_ms": "time_ms", "ack_wait_ms": "wait_ms",
    "max_deliver": "attempts", "deliver_group": "group", "inactive_ms": "inactive_ms",
}  # fmt: skip
names = map("n{}".format, itertools.count())


@pytest.fixture
async def wm(server: RealServer) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(server.address) as client:
        yield client


def judge(setting: str, value: Any, wanted: Any, stored: Any, error: Exception | None) -> None:
    if wanted is REFUSED:
        assert error is not None, f"{setting}={value!r} was stored as {stored!r}"
        assert isinstance(error, waymaker.UsageError) or error.code == "invalid_config"  # type: ignore[attr-defined]
        known = {"subjects_filter": "pattern", "filter_subject": "filter", "sources": "source"}
        assert setting in str(error) or known.get(setting, setting) in str(error), str(error)
        if isinstance(value, bool | float | bytes | dict) or type(value) is object:
            assert isinstance(error, TypeError | ValueError)
    else:
        assert error is None, f"{setting}={value!r}: {error}"
        assert (type(stored), stored) == (type(wanted), wanted)


@pytest.mark.parametrize("setting", STREAM)
async def test_a_stream_has_what_was_meant_or_is_refused_by_name(wm: waymaker.Client, setting: str) -> None:
    default = getattr(StreamConfig("x", block_size=100_000), setting)
    for value in ODD:
        name, error, stored = next(names), None, None
        try:
            await wm.create_stream(name, **{setting: value})
            stored = getattr((await wm.stream_info(name)).config, setting)
            await wm.delete_stream(name)
        except waymaker.WaymakerError as failure:
            error = failure
        wanted = default if value is None else meant(STREAM[setting], value)
        if setting == "strict_limits" and value is True:
            wanted = True
        judge(setting, value, wanted, stored, error)


@pytest.mark.parametrize("setting", CONSUMER)
async def test_a_consumer_has_what_was_meant_or_is_refused_by_name(wm: waymaker.Client, setting: str) -> None:
    stream = next(names)
    await wm.create_stream(stream)
    await wm.publish(stream, "a", b"")
    default = getattr(ConsumerConfig("x", ack_wait_ms=30_000, max_deliver=5), setting)
    for value in ODD:
        name, error, config = next(names), None, None
        try:
            await wm.create_consumer(stream, name, **{setting: value})
            config = (await wm.consumer_info(stream, name)).config
        except waymaker.WaymakerError as failure:
            error = failure
        wanted = default if value is None else meant(CONSUMER[setting], value)
        judge(setting, value, wanted, getattr(config, setting, None), error)
        if config is not None and setting in ("start_seq", "start_time_ms") and value is not None:
            assert config.policy is getattr(DeliveryPolicy, "BY_" + setting.removesuffix("_ms").upper())
        if value == "new" and setting == "policy":
            assert config is not None
            assert config.start_seq == 2


@pytest.mark.parametrize("setting", ["max_age_ms", "max_msgs", "max_bytes", "max_msg_bytes", "strict_limits"])
async def test_an_update_stores_what_was_meant_or_is_refused_by_name(wm: waymaker.Client, setting: str) -> None:
    stream = next(names)
    first: Any = {setting: True if setting == "strict_limits" else 77}
    await wm.create_stream(stream, **first)
    for value in ODD:
        before = getattr((await wm.stream_info(stream)).config, setting)
        error = None
        try:
            await wm.preview_update(stream, **{setting: value})
            await wm.update_stream(stream, **{setting: value})
        except waymaker.WaymakerError as failure:
            error = failure
        wanted = before if value is None else meant(STREAM[setting], value)
        judge(setting, value, wanted, getattr((await wm.stream_info(stream)).config, setting), error)


def test_every_setting_of_the_configurations_is_tried_and_typed() -> None:
    stream, consumer = ({field.name for field in fields(kind)} for kind in (StreamConfig, ConsumerConfig))
    # The settings of a service are its own: no client gives them.
    stream.remove("service_settings")
    assert set(STREAM) | {"name"} == stream == set(settings.StreamSettings.__annotations__) == set(settings._STREAM)
    tried = set(CONSUMER) | {"name", "dead_letter_subject"}
    assert tried == consumer == set(settings.ConsumerSettings.__annotations__) == set(settings._CONSUMER)
    named = {"target", "token", "tls", "timeout"}
    assert {field.name for field in fields(Options)} == named | set(MoreOptions.__annotations__)


async def test_configuration_objects_are_held_to_the_same(wm: waymaker.Client) -> None:
    loose: Any = StreamConfig
    with pytest.raises(waymaker.UsageError, match="retention is one of 'limits', 'work_queue', 'interest'"):
        await wm.create_stream(loose("o", retention=2))
    await wm.create_stream(loose("o", retention="limits", subjects_filter="web.>"))
    config = (await wm.stream_info("o")).config
    assert (config.retention, config.subjects_filter) == (Retention.LIMITS, ("web.>",))
    await wm.create_consumer("o", ConsumerConfig("c", start_seq=5))
    assert (await wm.consumer_info("o", "c")).config.policy is DeliveryPolicy.BY_START_SEQ
    await wm.create_consumer("o", (await wm.consumer_info("o", "c")).config, name="d", policy="last")
    assert (await wm.consumer_info("o", "d")).config.policy is DeliveryPolicy.LAST


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"policy": "last", "start_seq": 5}, "start_seq has no effect with policy 'last'"),
        ({"policy": "new", "start_seq": 5}, "start_seq has no effect with policy 'new'"),
        ({"policy": "all", "start_time_ms": 5}, "start_time_ms has no effect with policy 'all'"),
        ({"policy": "by_start_seq"}, "needs start_seq"),
        ({"policy": "by_start_time"}, "needs start_time_ms"),
        ({"policy": "by_start_time", "start_seq": 5}, "start_seq has no effect"),
        ({"start_seq": 5, "start_time_ms": 5}, "exclude one another"),
        ({"max_deliver": 0}, "leave it out for the server's default, or write 'unlimited'"),
        ({"max_deliver": -1}, "write 'unlimited'"),
        ({"policy": "newest"}, "'last', 'new'"),
        ({"deliver_policy": "last"}, "did you mean policy"),
        ({"opt_start_seq": 1}, "did you mean start_seq"),
        ({"queue_group": "x"}, "did you mean deliver_group"),
        ({"max_attempts": None}, "no such setting"),
        ({"name": "other"}, "two names"),
    ],
)
async def test_contradictions_of_a_consumer_are_refused_before_anything_is_sent(
    wm: waymaker.Client, given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(waymaker.UsageError, match=problem):
        await wm.create_consumer("nowhere", "c", **given)


async def test_what_an_update_cannot_change_is_said(wm: waymaker.Client) -> None:
    with pytest.raises(waymaker.UsageError, match="retention is fixed"):
        await wm.update_stream("nowhere", retention="limits")  # type: ignore[call-arg]
    with pytest.raises(waymaker.UsageError, match="did you mean max_age_ms"):
        await wm.update_stream("nowhere", max_age=5)  # type: ignore[call-arg]


async def test_a_consumer_of_new_messages_can_be_made_again(wm: waymaker.Client) -> None:
    await wm.create_stream("fresh")
    await wm.publish("fresh", "a", b"old")
    await wm.create_consumer("fresh", "c", policy="new")
    seq = await wm.publish("fresh", "a", b"young")
    await wm.create_consumer("fresh", "c", policy="new")
    assert [m.seq for m in await wm.fetch("fresh", "c")] == [seq]
    with pytest.raises(waymaker.AlreadyExistsError):
        await wm.create_consumer("fresh", "c", policy="new", max_deliver=9)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"timeout": "5"}, "timeout is a number of seconds"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"reconnect": "no"}, "reconnect is True or False"),
        ({"window_bytes": 0}, "window_bytes"),
        ({"window_bytes": 1.5}, "window_bytes"),
        ({"tls": "yes"}, "tls is True"),
        ({"token": b"x"}, "token must be a string"),
        ({"conect_timeout": 5}, "did you mean connect_timeout"),
        ({"name": "me"}, "no such setting of a connection"),
    ],
)
def test_options_of_a_connection_are_checked_by_name(given: dict[str, Any], problem: str) -> None:
    for make in (connect, waymaker.connect_sync):
        with pytest.raises(waymaker.UsageError, match=problem):
            make("127.0.0.1:1", **given)
    assert connect(timeout=timedelta(seconds=3), connect_timeout=2).options.timeout == 3.0


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda wm: wm.fetch("s", "c", "5"), "batch_size is a whole number, not '5'"),
        (lambda wm: wm.fetch("s", "c", True), "batch_size is a whole number"),
        (lambda wm: wm.fetch("s", "c", 1.0), "batch_size is a whole number"),
        (lambda wm: wm.get("s", "a", timeout="1"), "timeout is a number of seconds"),
        (lambda wm: wm.stream_info(b"s"), "name must be a string"),
        (lambda wm: wm.subjects("s", None), "prefix must be a string"),
        (lambda wm: wm.restore([], None), "name must be a string"),
        (lambda wm: anext(wm.scan("s", "a", limit=-1)), "limit = -1"),
        (lambda wm: anext(wm.scan("s", "a", from_seq="x")), "from_seq is a whole number"),
        (lambda wm: anext(wm.backup(5)), "stream must be a string"),
        (lambda wm: wm.publish("s", "a", b"", headers="x: y"), "headers are a mapping or pairs"),
        (lambda wm: wm.publish("s", "a", b"", headers=[("x",)]), "a header is a pair of strings"),
        (lambda wm: wm.publish("s", "a", b"", headers={"x": 1}), "header 'x': the value must be a string"),
        (lambda wm: wm.publish("s", "a", b"", ts_ms=-1), "ts_ms = -1"),
        (lambda wm: wm.publish("s", "a", b"", ts_ms="now"), "ts_ms is milliseconds since 1970"),
        (lambda wm: wm.publish("s", "a", b"", expected_last_seq=-1), "expected_last_seq = -1"),
        (lambda wm: wm.publish("s", "a", b"", expected_last_seq=True), "expected_last_seq is a whole number"),
    ],
)
async def test_arguments_of_other_calls_are_refused_by_name(wm: waymaker.Client, call: Any, problem: str) -> None:
    with pytest.raises(waymaker.UsageError, match=problem):
        await call(wm)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"prefetch": 0}, "prefetch = 0"), ({"prefetch": "5"}, "prefetch is a whole number"),
        ({"prefetch_bytes": 0}, "prefetch_bytes"), ({"limit": 0}, "limit = 0"), ({"batch_size": -1}, "batch_size = -1"),
        ({"stop_when_empty": 1}, "stop_when_empty is True or False"),
    ],
)  # fmt: skip
async def test_arguments_of_a_subscription_are_refused_by_name(
    wm: waymaker.Client, given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(waymaker.UsageError, match=problem):
        wm.subscribe("s", "c", **given)


def test_the_synchronous_twin_takes_and_refuses_the_same(server: RealServer, tmp_path: Path) -> None:
    with waymaker.connect_sync(server.address) as wm:
        with pytest.raises(waymaker.UsageError, match="did you mean max_msgs"):
            wm.create_stream("twin", max_messages=5)  # type: ignore[call-arg]
        wm.create_stream("twin", retention="work-queue", subjects_filter=["a"])
        assert wm.stream_info("twin").config.retention is Retention.WORK_QUEUE
        wm.create_consumer("twin", "c", max_deliver="unlimited")
        wm.publish("twin", "a", b"")
        message = wm.fetch("twin", "c")[0]
        with pytest.raises(waymaker.UsageError, match="delay"):
            message.nak(-1)

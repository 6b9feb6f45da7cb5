"""Every other call: management, reads, lists, watching, archives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import waymaker
from tests.kit.client_fake_server import FakeServer, FakeStream, Session, until
from waymaker.client import errors
from waymaker.client.connection.work import CallWork
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.usefixtures("transport")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        yield fake


@pytest.fixture
async def wm(server: FakeServer) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(server.target, timeout=5.0) as client:
        yield client


# ------------------------------------------------------------------------------------------ streams


CONFIGS = [
    waymaker.StreamConfig("a"),
    waymaker.StreamConfig(
        "b", subjects_filter=("x.>", "y"), max_age_ms=1, max_msgs=2, max_bytes=3, strict_limits=True, block_size=4,
        max_msg_bytes=5, ephemeral=True, max_msgs_per_subject=6,
    ),
    waymaker.StreamConfig("c", retention=waymaker.Retention.WORK_QUEUE),
    waymaker.StreamConfig("d", retention=waymaker.Retention.INTEREST, max_msg_bytes=9),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
async def test_a_streams_settings_survive_the_way_there_and_back(
    wm: waymaker.Client, config: waymaker.StreamConfig
) -> None:
    await wm.create_stream(config)
    assert (await wm.stream_info(config.name)).config == config


async def test_a_stream_can_be_made_from_a_name_and_settings(server: FakeServer, wm: waymaker.Client) -> None:
    await wm.create_stream("s", subjects_filter=("a",), max_msgs=5)
    assert (await wm.stream_info("s")).config.max_msgs == 5
    await wm.create_stream(waymaker.StreamConfig("base", max_msgs=5), name="other")
    assert set(server.streams) == {"s", "other"}
    with pytest.raises(waymaker.UsageError, match="no such setting"):
        await wm.create_stream("t", max_messages=5)  # type: ignore[call-arg]
    with pytest.raises(waymaker.UsageError, match="WORK_QUEUE"):
        await wm.create_stream("t", retention=waymaker.Retention.WORK_QUEUE, max_msgs=1)


async def test_result_codes_are_exceptions(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    with pytest.raises(waymaker.AlreadyExistsError) as exists:
        await wm.create_stream("s")
    assert (exists.value.code, exists.value.outcome) == ("already_exists", waymaker.NOT_APPLIED)
    await wm.delete_stream("s")
    with pytest.raises(waymaker.NoSuchStreamError):
        await wm.delete_stream("s")
    with pytest.raises(waymaker.NoSuchStreamError):
        await wm.stream_info("s")


@pytest.mark.parametrize("code", sorted(errors.RESULT_CODES))
def test_every_result_code_has_one_class(code: str) -> None:
    error = errors.from_result(code, "text")
    assert type(error) is errors.RESULT_CODES[code]
    assert (error.code, error.message) == (code, "text")
    assert type(getattr(waymaker, type(error).__name__)) is type


def test_every_code_of_the_core_has_a_class() -> None:
    from waymaker_core.model import result_codes as outcomes

    codes = {value for name, value in vars(outcomes).items() if name.isupper() and isinstance(value, str)} - {"ok"}
    assert codes <= set(errors.RESULT_CODES)
    assert {status.value for status in outcomes.Status} <= set(errors.STATUSES)


def test_an_unknown_code_is_still_a_result() -> None:
    error = errors.from_result("brand_new", "text")
    assert type(error) is errors.ResultCodeError
    assert error.code == "brand_new"


def test_a_code_in_the_trailers_decides_the_class() -> None:
    error = errors.from_status(5, "text", "not-applied", "no_such_consumer")
    assert type(error) is errors.NoSuchConsumerError
    assert error.outcome == "not-applied"


async def test_an_update_can_be_seen_before_it_is_made(server: FakeServer, wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    await wm.publish_many("s", [b"x"] * 10, subject="a")
    preview = await wm.preview_update("s", max_msgs=4)
    assert (preview.pruned, preview.config.max_msgs) == (6, 4)
    assert (await wm.stream_info("s")).config.max_msgs == 0
    assert (await wm.update_stream("s", max_msgs=4)).pruned == 6
    assert (await wm.stream_info("s")).config.max_msgs == 4
    with pytest.raises(waymaker.NoSuchStreamError):
        await wm.preview_update("nowhere", max_msgs=1)


async def test_only_named_settings_are_sent(server: FakeServer, wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    await wm.update_stream("s", max_age_ms=0, strict_limits=False)
    request = pb.UpdateStreamRequest.FromString(server.frames[-1].calls[0].request)
    assert [field.name for field, _ in request.ListFields()] == ["name", "max_age_ms", "strict_limits"]


async def test_lists_page_by_themselves(server: FakeServer, wm: waymaker.Client) -> None:
    for n in range(10):
        server.streams[f"s{n}"] = FakeStream(pb.StreamConfigPb(name=f"s{n}"))
    assert await wm.list_streams() == [f"s{n}" for n in range(10)]
    assert len([c for f in server.frames for c in f.calls]) == 4
    for n in range(7):
        await wm.create_consumer("s0", f"c{n}")
        await wm.publish("s0", f"p.{n}")
    assert [info.name for info in await wm.list_consumers("s0")] == [f"c{n}" for n in range(7)]
    assert await wm.subjects("s0") == [f"p.{n}" for n in range(7)]
    assert await wm.subjects("s0", "p.3") == ["p.3"]


# ---------------------------------------------------------------------------------------- consumers


async def test_a_consumers_settings_survive_the_way_there_and_back(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    config = waymaker.ConsumerConfig(
        "c", filter_subject="a.*", policy=waymaker.DeliveryPolicy.BY_START_SEQ, start_seq=3, ack_wait_ms=5,
        max_deliver=6, deliver_group="g", dead_letter_subject="dead",
    )  # fmt: skip
    await wm.create_consumer("s", config)
    assert (await wm.consumer_info("s", "c")).config == config
    await wm.create_consumer("s", "t", policy=waymaker.DeliveryPolicy.BY_START_TIME, start_time_ms=9)
    assert (await wm.consumer_info("s", "t")).config.start_time_ms == 9
    await wm.delete_consumer("s", "c")
    with pytest.raises(waymaker.NoSuchConsumerError):
        await wm.consumer_info("s", "c")
    with pytest.raises(waymaker.NoSuchConsumerError):
        await wm.delete_consumer("s", "c")


# -------------------------------------------------------------------------------------------- reads


async def test_get_gives_the_newest_or_none(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    assert await wm.get("s", "a") is None
    await wm.publish("s", "a", b"old")
    await wm.publish("s", "a", b"new")
    latest = await wm.get("s", "a")
    assert latest is not None
    assert (latest.seq, latest.payload) == (2, b"new")
    with pytest.raises(waymaker.NoSuchStreamError):
        await wm.get("nowhere", "a")


async def test_a_scan_pages_to_the_end_or_to_its_limit(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    for n in range(10):
        await wm.publish("s", "a" if n % 2 else "b", str(n).encode())
    assert [m.payload async for m in wm.scan("s", "a")] == [b"1", b"3", b"5", b"7", b"9"]
    assert [m.seq async for m in wm.scan("s", "a", from_seq=5, limit=2)] == [6, 8]
    assert [m async for m in wm.scan("s", "c")] == []
    assert [m async for m in wm.scan("s", "a", limit=0)] == []


async def test_a_read_is_asked_again_after_a_lost_connection_and_a_change_is_not(
    server: FakeServer, wm: waymaker.Client
) -> None:
    await wm.create_stream("s")

    def break_once(session: Session, frame: pl.Frame) -> bool:
        if not frame.calls:
            return False
        server.on_frame = None
        session.break_off()
        return True

    server.on_frame = break_once
    assert await wm.list_streams() == ["s"]
    server.on_frame = break_once
    with pytest.raises(waymaker.ConnectionLostError) as caught:
        await wm.delete_stream("s")
    assert caught.value.outcome == waymaker.UNKNOWN
    assert "s" in server.streams


async def test_a_call_keeps_its_deadline(server: FakeServer, wm: waymaker.Client) -> None:
    server.on_frame = lambda _, frame: bool(frame.calls)
    with pytest.raises(waymaker.DeadlineExceededError) as caught:
        await wm.list_streams(timeout=0.05)
    assert caught.value.outcome is None, "a read changes nothing"


async def test_calls_of_many_tasks_travel_in_one_frame(server: FakeServer, wm: waymaker.Client, transport: str) -> None:
    await wm.create_stream("s")
    before = len(server.frames)
    await asyncio.gather(*(wm.stream_info("s") for _ in range(100)))
    # Over the native link the first call is alone when it is made, and leaves at once.
    assert len(server.frames) == before + (2 if transport == "link" else 1)


async def test_a_request_larger_than_a_frame_is_refused_here(server: FakeServer) -> None:
    server.welcome.frame_bytes_max = 10_000
    async with waymaker.connect(server.target) as wm:
        with pytest.raises(waymaker.ResourceExhaustedError, match="at most 10000"):
            await wm.create_stream("s", subjects_filter=("x" * 20_000,))
        await wm.create_stream("s")


@pytest.mark.parametrize(
    "call",
    [
        lambda wm: wm.create_stream("s", max_msgs=-1),
        lambda wm: wm.create_stream("s", subjects_filter=5),
        lambda wm: wm.create_stream("s", max_msg_bytes=1 << 64),
        lambda wm: wm.create_consumer("s", "c", ack_wait_ms="soon"),
        lambda wm: wm.update_stream("s", max_age_ms=-5),
        lambda wm: wm.stream_info("\ud800"),
        lambda wm: wm.fetch("s", "c", -1),
        lambda wm: wm.fetch("s", None),
        lambda wm: wm.get("s", 5),
    ],
)
async def test_what_no_request_can_hold_is_the_callers_mistake(
    server: FakeServer, wm: waymaker.Client, call: Callable[[waymaker.Client], Awaitable[object]]
) -> None:
    before = len(server.frames)
    with pytest.raises(waymaker.UsageError):
        await call(wm)
    assert len(server.frames) == before


async def test_what_cannot_be_encoded_does_not_take_its_frame_along(server: FakeServer, wm: waymaker.Client) -> None:
    class Poison(CallWork):
        def fill(self, frame: pl.Frame) -> bool:
            frame.calls.add(id=self.id, method="half")
            raise ValueError("no such encoding")

    await wm.create_stream("s")
    await wm.create_consumer("s", "c")
    subscription = wm.subscribe("s", "c")
    receiving = asyncio.ensure_future(subscription.next())
    before = asyncio.ensure_future(wm.publish("s", "a", b"before"))
    await asyncio.sleep(0)
    future: asyncio.Future[pl.CallResult] = asyncio.get_running_loop().create_future()
    wm._connection.submit(Poison("ListStreams", pb.ListStreamsRequest(), True, future, None))
    after = asyncio.ensure_future(wm.list_streams())
    with pytest.raises(waymaker.UsageError, match="no such encoding"):
        await future
    assert await before == 1
    assert await after == ["s"]
    assert (await receiving).payload == b"before"
    assert "half" not in [call.method for frame in server.frames for call in frame.calls]


async def test_an_unknown_call_is_unimplemented(wm: waymaker.Client) -> None:
    with pytest.raises(waymaker.UnimplementedError):
        await wm._call("Levitate", pb.ListStreamsRequest(), pb.ListStreamsResponse, 1.0)


# ----------------------------------------------------------------------------------------- operators


async def test_server_info_is_told(wm: waymaker.Client) -> None:
    info = await wm.server_info()
    assert (info.version, info.sync, info.quarantined) == ("fake", "always", ())
    assert wm.server_version == "fake"


async def test_a_watch_tells_of_changes_and_of_a_lost_connection(server: FakeServer, wm: waymaker.Client) -> None:
    events: list[waymaker.WatchEvent] = []

    async def watch() -> None:
        async for event in wm.watch():
            events.append(event)

    task = asyncio.ensure_future(watch())
    await until(lambda: server.watchers)
    server.watchers[0].put_nowait(
        pb.WatchEvent(
            type=pb.WATCH_CONSUMER_CREATED, ts_ms=5, consumer=pb.ConsumerWatchDetail(stream="s", consumer="c")
        )
    )
    server.watchers[0].put_nowait(
        pb.WatchEvent(type=pb.WATCH_STREAM_DELETED, ts_ms=6, lagged_count=9, stream=pb.StreamWatchDetail(name="s"))
    )
    await until(lambda: len(events) == 2)
    assert events[0] == waymaker.WatchEvent(waymaker.WatchKind.CONSUMER_CREATED, "s", "c", 5, 0)
    assert events[1].lagged == 9
    port = server.port
    await server.stop()
    await server.start(port)
    await until(lambda: len(server.watchers) == 2)
    server.watchers[1].put_nowait(
        pb.WatchEvent(type=pb.WATCH_STREAM_CREATED, ts_ms=7, stream=pb.StreamWatchDetail(name="t"))
    )
    await until(lambda: len(events) == 4)
    assert events[2].kind is waymaker.WatchKind.RESUMED
    assert events[3].stream == "t"
    task.cancel()


async def test_a_backup_is_complete_or_an_exception(server: FakeServer, wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    summaries: list[waymaker.BackupSummary] = []
    data = b"".join([piece async for piece in wm.backup("s", summaries.append)])
    assert data == b"".join(server.archive)
    assert summaries == [waymaker.BackupSummary(len(data), 2, 2)]
    for total in (-1, 5):
        server.archive_total = total
        with pytest.raises(waymaker.TransferCorruptedError):
            _ = [piece async for piece in wm.backup("s")]
    with pytest.raises(waymaker.NoSuchStreamError):
        _ = [piece async for piece in wm.backup("nowhere")]


async def test_a_restore_sends_everything(server: FakeServer, wm: waymaker.Client) -> None:
    archive = [bytes(1_000_000), b"end"]
    result = await wm.restore(archive, name="copy")
    assert (result.name, result.messages, result.last_seq) == ("copy", 2, 2)
    assert server.restored == b"".join(archive)

    async def later() -> AsyncIterator[bytes]:
        yield b"x"

    assert (await wm.restore(later())).name == "archived"
    await wm.create_stream("taken")
    with pytest.raises(waymaker.AlreadyExistsError):
        await wm.restore([bytes(10_000_000)], name="taken")


def test_importing_the_package_is_cheap_and_everything_named_exists() -> None:
    import subprocess
    import sys

    code = (
        "import sys, waymaker; assert 'grpc' not in sys.modules and 'google.protobuf' not in sys.modules\n"
        "assert all(getattr(waymaker, name) is not None for name in waymaker.__all__)\n"
        "import os; assert 'event_engine_client' in os.environ['GRPC_EXPERIMENTS']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = waymaker.nothing_of_the_kind

"""The real node on a disk that fills up, lies or refuses to sync: what clients are told, and what goes on working."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from tests.kit.real_server import RealServer, free_port
from tests.shell.server.process.test_server_process import ADMIN, ask, create, publish, running, scan
from waymaker.server.config import Address, ServerConfig
from waymaker.server.server import Listeners, Server
from waymaker.storage.files import Files
from waymaker.storage.store import FileStore
from waymaker_core.model.disk_ops import CreateFile, DiskFailure, DiskOp, FailureKind, Write
from waymaker_core.model.limits import Limits
from waymaker_core.model.types import Now
from waymaker_core.node import NodeConfig, open_node
from waymaker_proto import admin_pb2
from waymaker_proto import waymaker_streams_pb2 as pb

SMALL = Limits(segment_bytes=256 << 10, checkpoint_journal_bytes=512 << 10, disk_retry_ms=20)


class Room:
    """Whether there is any on the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        perform: Callable[[Files, DiskOp], object] = Files.perform

        def limited(files: Files, op: DiskOp) -> object:
            grows = isinstance(op, CreateFile) or (isinstance(op, Write) and not op.path.startswith("journal/"))
            if self.full and grows:
                raise DiskFailure(FailureKind.NO_SPACE, op.path, 0, "no space left on device")  # type: ignore[union-attr]
            return perform(files, op)

        monkeypatch.setattr(Files, "perform", limited)


@asynccontextmanager
async def real_node(directory: Path) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    config = ServerConfig(data_dir=directory, listen=Address("127.0.0.1", 0), limits=SMALL)
    store = FileStore(directory)
    settings = NodeConfig(identity=bytes(range(16)), limits=SMALL)
    node = store.drive(open_node(settings, Now(time.monotonic_ns(), time.time_ns() // 1_000_000)))
    server = Server(config, Listeners(config), node, store, None, "test")
    await server.start()
    async with grpc.aio.insecure_channel(str(server.listeners.address)) as channel:
        try:
            yield server, channel
        finally:
            await server.drain(5)
            store.close()


async def call(channel: grpc.aio.Channel, method: str, request: Any, response: Any) -> Any:
    unary: Any = channel.unary_unary(f"/waymaker.streams.WaymakerStreamsService/{method}")
    return response.FromString(await unary(request.SerializeToString(), timeout=20))


@pytest.mark.slow
async def test_a_full_disk_refuses_publishes_serves_the_rest_and_recovers_with_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(monkeypatch)
    message = pb.PublishRequest(stream="s", subject="a", payload=bytes(8_000))
    async with real_node(tmp_path / "d") as (server, channel):
        config = pb.StreamConfigPb(name="s")
        assert (
            await call(channel, "CreateStream", pb.CreateStreamRequest(config=config), pb.CreateStreamResponse)
        ).success
        request = pb.CreateConsumerRequest(stream="s", config=pb.ConsumerConfigPb(name="c"))
        await call(channel, "CreateConsumer", request, pb.CreateConsumerResponse)
        room.full = True
        confirmed = 0
        error: grpc.aio.AioRpcError | None = None
        while error is None and confirmed < 1_000:
            try:
                confirmed = (await call(channel, "Publish", message, pb.PublishResponse)).seq
            except grpc.aio.AioRpcError as refused:
                error = refused
        assert error is not None
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("wmkr-outcome", "not-applied") in [tuple(item) for item in error.trailing_metadata() or ()]
        assert confirmed > 0

        fetched = await call(
            channel, "Fetch", pb.FetchRequest(stream="s", consumer="c", batch_size=10), pb.FetchResponse
        )
        assert [m.seq for m in fetched.messages] == list(range(1, 11))
        for seq in range(1, 11):
            assert (
                await call(channel, "Ack", pb.AckRequest(stream="s", consumer="c", seq=seq), pb.AckResponse)
            ).success
        info = await call(
            channel, "GetConsumerInfo", pb.GetConsumerInfoRequest(stream="s", consumer="c"), pb.GetConsumerInfoResponse
        )
        assert info.consumer.ack_floor == 10
        assert b"waymaker_disk_full 1.0" in server.metrics.text()

        room.full = False
        deadline = time.monotonic() + 10
        seq = 0
        while not seq:
            assert time.monotonic() < deadline, "there is room again"
            try:
                seq = (await call(channel, "Publish", message, pb.PublishResponse)).seq
            except grpc.aio.AioRpcError as refused:
                assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert seq == confirmed + 1
        # The segment that took the publish is made before the checkpoint that runs meanwhile ends; the gauge waits for both.
        while b"waymaker_disk_full 0.0" not in server.metrics.text():
            assert time.monotonic() < deadline, "the disk has room"
            await asyncio.sleep(0.01)


FAILING_SYNC = """
import asyncio
import errno, os, signal, sys
sync, broken = os.fdatasync, []
signal.signal(signal.SIGUSR1, lambda *_: broken.append(1))
def fdatasync(fd):
    if broken:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    sync(fd)
os.fdatasync = fdatasync
from waymaker.cli import main
sys.exit(main(sys.argv[1:]))
"""


FEW_DESCRIPTORS = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
os.execv(sys.argv[1], sys.argv[1:])
"""
SMALL_MESSAGES = """message_bytes_max = 65536
header_bytes_max = 4096
record_bytes_max = 65536
flush_bytes_max = 131072
publish_batch_bytes_max = 131072
"""


def publish_for_ever(channel: grpc.Channel) -> None:
    while True:
        publish(channel, "s", b"unknown")


@pytest.mark.process
def test_a_failed_sync_ends_the_process_and_its_caller_knows_nothing(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", FAILING_SYNC, "serve", "--data-dir", str(tmp_path / "d"), "--listen", address]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
            create(channel, "s")
            publish(channel, "s", b"kept")
            process.send_signal(signal.SIGUSR1)
            with pytest.raises(grpc.RpcError) as caught:
                publish_for_ever(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "not-applied" not in str(caught.value.trailing_metadata())
        assert process.wait(20) == 3
        assert process.stderr is not None
        assert "node_halted" in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
    server = RealServer(tmp_path / "d")
    server.start()
    try:
        with grpc.insecure_channel(server.address) as channel:
            assert scan(channel, "s")[0].payload == b"kept"
    finally:
        server.close()


@pytest.mark.process
def test_damage_of_one_stream_is_named_and_the_others_are_served(tmp_path: Path) -> None:
    with running(tmp_path / "d") as server:
        with grpc.insecure_channel(server.address) as channel:
            for name in ("hurt", "sound"):
                create(channel, name)
            for n in range(20):
                publish(channel, "hurt", b"precious-%03d" % n)
                publish(channel, "sound", b"plain-%03d" % n)
        server.kill()
        segment = next(
            path for path in sorted((tmp_path / "d" / "journal").iterdir()) if b"precious-005" in path.read_bytes()
        )
        data = bytearray(segment.read_bytes())
        data[data.index(b"precious-005") + 3] ^= 0x10
        segment.write_bytes(data)

        server.start()
        with grpc.insecure_channel(server.address) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                scan(channel, "hurt")
            assert caught.value.code() is grpc.StatusCode.DATA_LOSS
            assert segment.name in (caught.value.details() or "")
            assert len(scan(channel, "sound")) == 20
            assert publish(channel, "sound", b"more") == 21
            info = ask(channel, ADMIN + "ServerInfo", admin_pb2.ServerInfoRequest(), admin_pb2.ServerInfoResponse)
            assert list(info.quarantined) == ["hurt"]
            deleted = ask(channel, "DeleteStream", pb.DeleteStreamRequest(name="hurt"), pb.DeleteStreamResponse)
            assert deleted.success
            create(channel, "hurt")
            assert publish(channel, "hurt", b"anew") == 1
        assert server.terminate() == 0


@pytest.mark.slow
async def test_a_journal_that_cannot_grow_for_another_reason_is_not_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_file, read_only = os.open, False

    def refusing(path: str, flags: int, *rest: int, **more: int) -> int:
        if read_only and flags & os.O_CREAT and flags & os.O_TRUNC:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return create_file(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)
    message = pb.PublishRequest(stream="s", subject="a", payload=bytes(8_000))
    async with real_node(tmp_path / "d") as (_, channel):
        config = pb.StreamConfigPb(name="s")
        await call(channel, "CreateStream", pb.CreateStreamRequest(config=config), pb.CreateStreamResponse)
        read_only = True

        async def publish_for_ever() -> None:
            while True:
                await call(channel, "Publish", message, pb.PublishResponse)

        with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
            await publish_for_ever()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the file system is read-only" in (caught.value.details() or "")
        assert "full" not in (caught.value.details() or "")
        events = {line["event"] for line in logs}
        assert "disk_not_writable" in events
        assert "disk_full" not in events
        read_only = False
        deadline = time.monotonic() + 10
        while True:
            try:
                await call(channel, "Publish", message, pb.PublishResponse)
                break
            except grpc.aio.AioRpcError:
                assert time.monotonic() < deadline


# ---------------------------------------------------------------- a directory that goes


def take_directory_away(data: Path) -> None:
    # At one moment: a server that meets a half-removed directory halts for the first file that is missing.
    move_directory_away(data)
    moved, deadline = data.with_name("moved"), time.monotonic() + 20
    while moved.exists():
        # Until it notices, the server may still make files in the directory that it opened.
        assert time.monotonic() < deadline
        shutil.rmtree(moved, ignore_errors=True)


def move_directory_away(data: Path) -> None:
    data.rename(data.with_name("moved"))


def replace_directory(data: Path) -> None:
    move_directory_away(data)
    deadline = time.monotonic() + 20
    while True:
        try:
            shutil.copytree(data.with_name("moved"), data, ignore=shutil.ignore_patterns("*.sock"))
            return
        except OSError:
            # The server still works in the directory that it opened: a file went while it was copied.
            assert time.monotonic() < deadline
            shutil.rmtree(data, ignore_errors=True)


def remove_lock(data: Path) -> None:
    (data / "LOCK").unlink()


def remove_journal(data: Path) -> None:
    shutil.rmtree(data / "journal")


COMMITS_LOOK = """
import sys
from waymaker.server import run
run._WATCH_S = 3_600.0
from waymaker.cli import main
sys.exit(main(sys.argv[4:]))
"""
"""A server that looks after its directory at commits alone: its watch would now and then come first."""


@pytest.mark.process
@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (take_directory_away, "while it was served"),
        (move_directory_away, "while it was served"),
        (replace_directory, "replaced by another"),
        (remove_lock, "was removed while its directory was served"),
        (remove_journal, "removed or replaced by somebody else"),
    ],
)
def test_a_server_whose_directory_goes_confirms_nothing_more_and_says_why(
    tmp_path: Path, harm: Callable[[Path], None], words: str, busy: bool
) -> None:
    if harm is remove_journal and not busy:
        pytest.skip("noticed at the next commit")
    with running(tmp_path / "d", inside=[sys.executable, "-c", COMMITS_LOOK] if busy else []) as server:
        process = server._process
        assert process is not None
        with grpc.insecure_channel(server.address) as channel:
            create(channel, "s")
            publish(channel, "s", b"kept")
            harm(tmp_path / "d")
            if busy:
                with pytest.raises(grpc.RpcError) as caught:
                    publish(channel, "s", b"into nothing")
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert "not-applied" not in str(caught.value.trailing_metadata()), "it was admitted"
        assert process.wait(20) == 3
        server._process = None
        halted = json.loads(next(line for line in server.log_tail(200).splitlines() if "node_halted" in line))
        assert words in halted["reason"]
        if harm in {take_directory_away, move_directory_away}:
            assert not (tmp_path / "d").exists(), "it is not made anew"


@pytest.mark.process
@pytest.mark.parametrize("before", [30, 31, 32])
def test_a_directory_put_in_the_place_of_the_served_one_gets_no_file(tmp_path: Path, before: int) -> None:
    """One of three publishes begins the next segment, so one of the three servers opens a file just then."""
    config = "[limits]\nsegment_bytes = 65536\ncheckpoint_journal_bytes = 131072\n"
    with running(tmp_path / "d", config=config) as server:
        process = server._process
        assert process is not None
        with grpc.insecure_channel(server.address) as channel:
            create(channel, "s")
            for _ in range(before):
                publish(channel, "s", bytes(20_000))
            move_directory_away(tmp_path / "d")
            (tmp_path / "d").mkdir()
            with pytest.raises(grpc.RpcError):
                publish(channel, "s", b"into nothing")
        assert process.wait(10) == 3
        server._process = None
        assert "replaced by another" in server.log_tail(200)
    assert list((tmp_path / "d").iterdir()) == []
    with running(tmp_path / "moved", config=config) as server, grpc.insecure_channel(server.address) as channel:
        assert len(scan(channel, "s")) >= before


@pytest.mark.process
def test_a_second_server_is_refused_though_the_lock_file_was_removed(tmp_path: Path) -> None:
    with running(tmp_path / "d") as first:
        first_process = first._process
        assert first_process is not None
        first_process.send_signal(signal.SIGSTOP)  # so that it cannot notice
        (tmp_path / "d" / "LOCK").unlink()
        second = RealServer(tmp_path / "d")
        code, text = second.start_in_vain()
        assert code == 1
        assert "is in use by another process" in text
        assert not (tmp_path / "d" / "LOCK").exists()
        first_process.send_signal(signal.SIGCONT)


@pytest.mark.process
def test_connections_that_use_up_the_descriptors_cost_no_confirmed_write(tmp_path: Path) -> None:
    config = "[limits]\nsegment_bytes = 262144\ncheckpoint_journal_bytes = 524288\n" + SMALL_MESSAGES
    few = [sys.executable, "-c", FEW_DESCRIPTORS]
    server = RealServer(tmp_path / "d", config=config, inside=few)
    server.start()
    crowd: list[socket.socket] = []
    try:
        with grpc.insecure_channel(server.address) as channel:
            create(channel, "s", block_size=20)
            publish(channel, "s", b"before")
            for _ in range(200):
                connection = socket.socket()
                connection.setblocking(False)
                connection.connect_ex(("127.0.0.1", server.port))
                crowd.append(connection)
            time.sleep(0.5)
            for n in range(150):
                assert publish(channel, "s", b"%06d" % n + bytes(20_000)) == n + 2
            for connection in crowd:
                connection.close()
            assert publish(channel, "s", b"after") == 152
        with grpc.insecure_channel(server.address) as channel:
            assert len(scan(channel, "s")) == 152
        assert server.terminate() == 0
    finally:
        for connection in crowd:
            connection.close()
        server.close()

"""The server as a process: credentials, archives, signals, kills, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest

from tests.kit.real_server import RealServer, free_port
from tests.kit.waiting import wait_for
from waymaker.server.auth.tokens import new_token
from waymaker_proto import admin_pb2, pipeline_pb2
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.process

STREAMS = "/waymaker.streams.WaymakerStreamsService/"
ADMIN = "/waymaker.admin.WaymakerAdminService/"
SESSION = "/waymaker.pipeline.WaymakerPipelineService/Session"


@contextmanager
def running(directory: Path, *arguments: str, config: str = "", inside: Sequence[str] = ()) -> Iterator[RealServer]:
    server = RealServer(directory, *arguments, config=config, inside=inside)
    server.start()
    try:
        yield server
    finally:
        server.close()


def ask(channel: grpc.Channel, method: str, request: Any, response: Any, **options: Any) -> Any:
    path = method if method.startswith("/") else STREAMS + method
    return channel.unary_unary(path, type(request).SerializeToString, response.FromString)(
        request, timeout=20, **options
    )


def create(channel: grpc.Channel, name: str, **settings: Any) -> None:
    config = pb.StreamConfigPb(name=name, **settings)
    response = ask(channel, "CreateStream", pb.CreateStreamRequest(config=config), pb.CreateStreamResponse)
    assert response.result_code == "ok", response


def publish(channel: grpc.Channel, stream: str, payload: bytes, **options: Any) -> int:
    request = pb.PublishRequest(stream=stream, subject="a.b", payload=payload)
    response = ask(channel, "Publish", request, pb.PublishResponse, **options)
    assert response.result_code == "ok", response
    return int(response.seq)


def scan(channel: grpc.Channel, stream: str) -> list[pb.MessagePb]:
    found: list[pb.MessagePb] = []
    while True:
        request = pb.ScanExactAtSubjectRequest(stream=stream, subject="a.b", from_seq=found[-1].seq + 1 if found else 0)
        page = ask(channel, "ScanExactAtSubject", request, pb.ScanExactAtSubjectResponse)
        assert page.success, page
        if not page.messages:
            return found
        found.extend(page.messages)


def test_what_was_confirmed_outlives_a_kill_and_an_orderly_stop(tmp_path: Path) -> None:
    with running(tmp_path / "d") as server:
        with grpc.insecure_channel(server.address) as channel:
            create(channel, "s")
            seqs = [publish(channel, "s", b"%d" % n) for n in range(50)]
        server.kill()
        server.start()
        with grpc.insecure_channel(server.address) as channel:
            seqs += [publish(channel, "s", b"%d" % n) for n in range(50, 60)]
        assert server.terminate() == 0
        server.start()
        with grpc.insecure_channel(server.address) as channel:
            found = scan(channel, "s")
        assert [m.seq for m in found] == seqs == list(range(1, 61))
        assert [m.payload for m in found] == [b"%d" % n for n in range(60)]


def test_a_stop_under_load_answers_or_refuses_everybody_and_forgets_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "d") as server:
        with grpc.insecure_channel(server.address) as channel:
            create(channel, "s")
        confirmed: list[int] = []
        others: list[grpc.RpcError] = []

        def write(number: int) -> None:
            with grpc.insecure_channel(server.address) as channel:
                while True:
                    try:
                        confirmed.append(publish(channel, "s", b"%d" % number))
                    except grpc.RpcError as error:
                        others.append(error)
                        return

        writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for writer in writers:
            writer.start()
        wait_for(lambda: len(confirmed) > 50)
        assert server.terminate() == 0
        for writer in writers:
            writer.join()
        assert {error.code() for error in others} == {grpc.StatusCode.UNAVAILABLE}
        assert all("not-applied" in str(error.trailing_metadata()) for error in others)
        assert len(others) == 8
        server.start()
        with grpc.insecure_channel(server.address) as channel:
            stored = {message.seq for message in scan(channel, "s")}
        assert set(confirmed) <= stored
        assert len(confirmed) == len(set(confirmed))


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "d", "--grace-ms", "60000") as server:
        process = server._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)  # so that both are there before the server looks at either
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(process.pid, number)
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(10) in {-signal.SIGTERM, -signal.SIGINT}
        server._process = None


def test_a_grace_period_that_ends_first_cuts_what_is_left(tmp_path: Path) -> None:
    with running(tmp_path / "d", "--grace-ms", "0") as server:
        started = time.monotonic()
        assert server.terminate() in {0, 1}
        assert time.monotonic() - started < 5


def test_health_and_readiness_fall_while_the_server_goes(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path / "d", "--metrics-listen", f"127.0.0.1:{port}") as server:
        base = f"http://127.0.0.1:{port}"
        wait_for(lambda: ready(base + "/readyz"))
        with grpc.insecure_channel(server.address) as channel:
            create(channel, "s")
            publish(channel, "s", b"x")
        text = urlopen(base + "/metrics").read().decode()
        assert "waymaker_published_messages_total 1.0" in text
        assert 'waymaker_stream_messages{stream="s"} 1.0' in text
        count = next(line for line in text.splitlines() if line.startswith("waymaker_sync_seconds_count"))
        assert float(count.split()[1]) > 0
        assert server.terminate() == 0
        assert '"drained"' in server.log_tail()


def ready(url: str) -> bool:
    try:
        return bool(urlopen(url).status == 200)
    except HTTPError as error:
        assert error.code == 503
        return False


# ---------------------------------------------------------------- archives


def backup(channel: grpc.Channel, stream: str) -> tuple[bytes, admin_pb2.ArchiveSummary]:
    call = channel.unary_stream(
        ADMIN + "Backup", admin_pb2.BackupRequest.SerializeToString, admin_pb2.ArchiveChunk.FromString
    )
    chunks = list(call(admin_pb2.BackupRequest(stream=stream), timeout=30))
    assert [chunk.WhichOneof("body") for chunk in chunks] == ["data"] * (len(chunks) - 1) + ["summary"]
    return b"".join(chunk.data for chunk in chunks[:-1]), chunks[-1].summary


def restore(channel: grpc.Channel, name: str, archive: bytes, piece: int = 1000) -> admin_pb2.RestoreResponse:
    def frames() -> Iterator[admin_pb2.RestoreFrame]:
        yield admin_pb2.RestoreFrame(start=admin_pb2.RestoreStart(name=name))
        for at in range(0, len(archive), piece):
            yield admin_pb2.RestoreFrame(data=archive[at : at + piece])

    call = channel.stream_unary(
        ADMIN + "Restore", admin_pb2.RestoreFrame.SerializeToString, admin_pb2.RestoreResponse.FromString
    )
    return call(frames(), timeout=30)


def names(channel: grpc.Channel) -> list[str]:
    return list(ask(channel, "ListStreams", pb.ListStreamsRequest(), pb.ListStreamsResponse).names)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    with running(tmp_path_factory.mktemp("served") / "d") as server, grpc.insecure_channel(server.address) as channel:
        yield channel


def test_a_stream_comes_back_from_its_archive_message_by_message(served: grpc.Channel) -> None:
    create(served, "origin", subjects_filter=["a.>"], block_size=100)
    headers = [pb.MessageHeader(key="k", value="v")]
    for n in range(1_000):
        request = pb.PublishRequest(stream="origin", subject="a.b", payload=b"%d" % n, headers=headers, ts_ms=1_000 + n)
        ask(served, "Publish", request, pb.PublishResponse)
    consumer = pb.CreateConsumerRequest(stream="origin", config=pb.ConsumerConfigPb(name="c", ack_wait_ms=1_000))
    ask(served, "CreateConsumer", consumer, pb.CreateConsumerResponse)
    ask(served, "Fetch", pb.FetchRequest(stream="origin", consumer="c", batch_size=5), pb.FetchResponse)
    for seq in (1, 2, 3):
        ask(served, "Ack", pb.AckRequest(stream="origin", consumer="c", seq=seq), pb.AckResponse)

    archive, summary = backup(served, "origin")
    assert (summary.messages, summary.last_seq, summary.total_bytes) == (1_000, 1_000, len(archive))
    response = restore(served, "copy", archive)
    assert (response.result_code, response.name, response.messages, response.last_seq) == ("ok", "copy", 1_000, 1_000)

    assert scan(served, "copy") == scan(served, "origin")
    infos = [
        ask(served, "GetStreamInfo", pb.GetStreamInfoRequest(name=name), pb.GetStreamInfoResponse)
        for name in ("origin", "copy")
    ]
    assert infos[0].stats == infos[1].stats
    assert infos[1].config.name == "copy"
    assert infos[1].config.subjects_filter == ["a.>"]
    consumers = [
        ask(served, "ListConsumers", pb.ListConsumersRequest(stream=name), pb.ListConsumersResponse).consumers[0]
        for name in ("origin", "copy")
    ]
    assert consumers[0].config == consumers[1].config
    assert consumers[0].ack_floor == consumers[1].ack_floor == 3
    assert publish(served, "copy", b"more") == 1_001


def test_a_damaged_or_short_archive_leaves_no_stream_behind(served: grpc.Channel) -> None:
    create(served, "fragile")
    for n in range(100):
        publish(served, "fragile", b"%d" % n)
    archive, _ = backup(served, "fragile")
    flipped = bytearray(archive)
    flipped[len(archive) // 2] ^= 1
    for broken in (bytes(flipped), archive[:-1], archive[: len(archive) // 2], b"", b"not an archive at all" * 10):
        response = restore(served, "mended", broken)
        assert (response.success, response.result_code) == (False, "transfer_corrupted"), len(broken)
    assert "mended" not in names(served)
    assert restore(served, "mended", archive).success
    assert restore(served, "mended", archive).result_code == "already_exists"
    assert restore(served, "bad.name", archive).result_code == "invalid_config"


def test_an_upload_that_breaks_off_gives_its_name_up(served: grpc.Channel) -> None:
    create(served, "whole")
    for n in range(50):
        publish(served, "whole", bytes(1000) + b"%d" % n)
    archive, _ = backup(served, "whole")
    half = threading.Event()

    def frames() -> Iterator[admin_pb2.RestoreFrame]:
        yield admin_pb2.RestoreFrame(start=admin_pb2.RestoreStart(name="half"))
        yield admin_pb2.RestoreFrame(data=archive[:-10])
        half.wait(10)

    call = served.stream_unary(
        ADMIN + "Restore", admin_pb2.RestoreFrame.SerializeToString, admin_pb2.RestoreResponse.FromString
    ).future(frames())
    time.sleep(0.3)
    call.cancel()
    half.set()
    wait_for(lambda: restore(served, "half", archive).success)
    assert len(scan(served, "half")) == 50


def test_a_backup_of_nothing_and_a_restore_out_of_order_are_refused(served: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        backup(served, "nowhere")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "key='wmkr-code', value='no_such_stream'" in str(caught.value.trailing_metadata())
    call: Any = served.stream_unary(ADMIN + "Restore", admin_pb2.RestoreFrame.SerializeToString, None)
    start, data = admin_pb2.RestoreFrame(start=admin_pb2.RestoreStart()), admin_pb2.RestoreFrame(data=b"x")
    for frames in ([data], [start, start], [admin_pb2.RestoreFrame()]):
        with pytest.raises(grpc.RpcError) as caught:
            call(iter(frames), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_preview_says_what_an_update_would_prune_and_prunes_nothing(served: grpc.Channel) -> None:
    create(served, "preview")
    for n in range(20):
        publish(served, "preview", b"%d" % n)
    request = pb.UpdateStreamRequest(name="preview", max_msgs=5)
    response = ask(served, ADMIN + "PreviewUpdate", request, pb.UpdateStreamResponse)
    assert (response.success, response.pruned, response.config.retention.limits.max_msgs) == (True, 15, 5)
    assert len(scan(served, "preview")) == 20
    info = ask(served, "GetStreamInfo", pb.GetStreamInfoRequest(name="preview"), pb.GetStreamInfoResponse)
    assert not info.config.retention.limits.HasField("max_msgs")
    assert ask(served, "UpdateStream", request, pb.UpdateStreamResponse).pruned == 15
    assert len(scan(served, "preview")) == 5


def test_a_session_publishes_delivers_and_acknowledges_through_the_real_node(served: grpc.Channel) -> None:
    create(served, "pipe")
    request = pb.CreateConsumerRequest(stream="pipe", config=pb.ConsumerConfigPb(name="c"))
    ask(served, "CreateConsumer", request, pb.CreateConsumerResponse)
    outbox: list[pipeline_pb2.Frame] = []
    ready, over = threading.Semaphore(0), threading.Event()

    def frames() -> Iterator[pipeline_pb2.Frame]:
        while True:
            ready.acquire()
            if over.is_set() and not outbox:
                return
            yield outbox.pop(0)

    def send(frame: pipeline_pb2.Frame) -> None:
        outbox.append(frame)
        ready.release()

    call = served.stream_stream(SESSION, pipeline_pb2.Frame.SerializeToString, pipeline_pb2.Frame.FromString)(
        frames(), timeout=30
    )
    payloads = [b"%d" % n for n in range(5_000)]
    batch = pipeline_pb2.PublishBatch(id=1, stream="pipe", subjects=["a.b"], payloads=payloads)
    subscribe = pipeline_pb2.Subscribe(
        id=1, stream="pipe", consumer="c", credit_messages=1_000, credit_bytes=1 << 20
    )  # fmt: skip
    send(pipeline_pb2.Frame(hello=pipeline_pb2.Hello(version=1), publishes=[batch], subscribes=[subscribe]))
    got: list[bytes] = []
    acked = 0
    ack_id = 2
    while acked < len(payloads):
        frame = next(call)
        for published in frame.published:
            assert (published.result_code, published.first_seq, published.count) == ("ok", 1, 5_000)
        for delivery in frame.deliveries:
            for run in delivery.runs:
                at = 0
                for length in run.lengths:
                    got.append(pb.MessagePb.FromString(run.bodies[at : at + length]).payload)
                    at += length
                span = pipeline_pb2.SeqRange(first=run.first_seq, last=run.first_seq + len(run.lengths) - 1)
                ack = pipeline_pb2.AckBatch(
                    id=ack_id, stream="pipe", consumer="c", kind=pipeline_pb2.ACK, ranges=[span]
                )
                credit = pipeline_pb2.Credit(subscription=1, messages=len(run.lengths), bytes=len(run.bodies))
                ack_id += 1
                acked += len(run.lengths)
                send(pipeline_pb2.Frame(acks=[ack], credits=[credit]))
    assert got == payloads
    over.set()
    ready.release()
    assert all(not frame.deliveries for frame in call)
    info = ask(
        served, "GetConsumerInfo", pb.GetConsumerInfoRequest(stream="pipe", consumer="c"), pb.GetConsumerInfoResponse
    )
    assert info.consumer.ack_floor == 5_000


def test_server_info_names_the_directory_for_its_whole_life(tmp_path: Path) -> None:
    with running(tmp_path / "d", "--sync", "interval") as server:
        identities = []
        for _ in range(2):
            with grpc.insecure_channel(server.address) as channel:
                info = ask(channel, ADMIN + "ServerInfo", admin_pb2.ServerInfoRequest(), admin_pb2.ServerInfoResponse)
                identities.append(info.directory_id)
                assert info.sync == "interval"
            server.terminate()
            server.start()
        assert identities[0] == identities[1]
        assert len(bytes.fromhex(identities[0])) == 16
        assert '"sync_relaxed"' in server.log_tail()


# ---------------------------------------------------------------- credentials


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    try:
        subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return key, cert


def test_tls_and_tokens_let_in_who_has_both(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    (alice, alice_line), (bob, bob_line) = new_token("alice"), new_token("bob")
    tokens = tmp_path / "tokens"
    tokens.write_text(alice_line + "\n")
    with running(
        tmp_path / "d", "--tls-cert", str(cert), "--tls-key", str(key), "--tokens", str(tokens)
    ) as server:  # fmt: skip
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
            create_as(channel, "s", alice)
            for token in (bob, "", alice + "x"):
                assert code_of(lambda t=token: create_as(channel, "t", t)) is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[misc]
            watch = watch_as(channel, alice)
            tokens.write_text(bob_line + "\n")
            os.kill(server.pid, signal.SIGHUP)
            wait_for(lambda: "tokens_reloaded" in server.log_tail())
            assert code_of(lambda: next(watch)) is grpc.StatusCode.UNAUTHENTICATED, "its token is not good any more"
            watch = watch_as(channel, bob)
            create_as(channel, "t", bob)
            assert code_of(lambda: create_as(channel, "u", alice)) is grpc.StatusCode.UNAUTHENTICATED
            tokens.write_text("nonsense\n")
            os.kill(server.pid, signal.SIGHUP)
            wait_for(lambda: "tokens_not_reloaded" in server.log_tail())
            create_as(channel, "u", bob)
            assert next(watch), "a file that cannot be used changes nothing"
            watch.cancel()
        with grpc.insecure_channel(server.address) as channel:
            assert code_of(lambda: create_as(channel, "v", bob)) is grpc.StatusCode.UNAVAILABLE
        assert alice not in server.log_tail(1_000)
        assert bob not in server.log_tail(1_000)
        plain = ssl.create_default_context(cafile=str(cert))
        assert plain.verify_mode is ssl.CERT_REQUIRED


def create_as(channel: grpc.Channel, name: str, token: str) -> None:
    request = pb.CreateStreamRequest(config=pb.StreamConfigPb(name=name))
    metadata = (("authorization", f"Bearer {token}"),)
    response = ask(channel, "CreateStream", request, pb.CreateStreamResponse, metadata=metadata)
    assert response.success, response


def watch_as(channel: grpc.Channel, token: str) -> Any:
    call: Any = channel.unary_stream("/waymaker.streams.WaymakerStreamsService/WatchStreams")
    watch = call(b"", metadata=(("authorization", f"Bearer {token}"),))
    create_as(channel, f"seen-by-{token[-8:]}", token)
    next(watch)
    return watch


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


# ---------------------------------------------------------------- starts in vain


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--listen", "0.0.0.0:0"), "--insecure-listen-anywhere"),
        (("--tokens", "/nowhere/tokens"), "/nowhere/tokens"),
        (("--tls-cert", "/nowhere/c", "--tls-key", "/nowhere/k"), "/nowhere"),
        (("--grace-ms", "soon"), "grace_ms"),
        (("--limit", "fetch_max=0"), "fetch_max"),
        (("--config", "/nowhere/waymaker.toml"), "/nowhere/waymaker.toml"),
    ],
)
def test_a_start_that_cannot_be_says_why_in_one_place(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    server = RealServer(tmp_path / "d", *arguments)
    code, printed = server.start_in_vain()
    assert code in {1, 2}
    assert said in printed
    assert "Traceback" not in printed


def test_a_server_beside_a_kubernetes_service_of_its_name_starts_and_names_the_variables(tmp_path: Path) -> None:
    described = ["env", "WAYMAKER_PORT=tcp://10.0.0.1:7411", "WAYMAKER_SERVICE_HOST=10.0.0.1"]
    server = RealServer(tmp_path / "d", inside=described)
    try:
        server.start()
        lines = [line for line in server.log_tail().splitlines() if "environment_variables_ignored" in line]
        assert len(lines) == 1
        assert "WAYMAKER_PORT" in lines[0]
        assert "WAYMAKER_SERVICE_HOST" in lines[0]
    finally:
        server.close()


def test_an_unknown_setting_in_the_file_is_refused_by_name(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "d", config="snyc = 'always'\n")
    code, printed = server.start_in_vain()
    assert code == 2
    assert "snyc" in printed
    assert "did you mean sync?" in printed


def test_a_directory_that_is_not_ours_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code, printed = RealServer(tmp_path / "file").start_in_vain()
    assert code != 0
    assert "Traceback" not in printed
    foreign = tmp_path / "foreign"
    (foreign / "journal").mkdir(parents=True)
    (foreign / "journal" / "0000000000000001.seg").write_bytes(b"x" * 100)
    code, printed = RealServer(foreign).start_in_vain()
    assert code != 0
    assert "MANIFEST" in printed or "manifest" in printed
    assert (foreign / "journal" / "0000000000000001.seg").read_bytes() == b"x" * 100


def test_the_module_that_makes_tokens_runs_by_itself() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "waymaker.server.auth.tokens", "alice"], check=True, capture_output=True, text=True
    )
    assert found.stdout.splitlines()[1].startswith("alice sha256:")

"""Objects on the wire, as any client may speak: order of frames, hashes, revisions, and callers that leave or read slowly."""

from __future__ import annotations

import hashlib
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from tests.kit.real_server import RealServer, free_port
from tests.kit.wire_client import SERVICE, TIMEOUT_S, WireClient

MIB = 1 << 20


@pytest.fixture
def bucket(client: WireClient) -> Iterator[str]:
    client.call("CreateStream", config={"name": "obj:w"})
    yield "w"
    client.call("DeleteStream", name="obj:w")


def upload(client: WireClient, frames: Iterable[Any], timeout: float = TIMEOUT_S) -> Any:
    """Send frames; return the response."""
    method = client._methods["PutObjectStream"]
    frame_class = message_factory.GetMessageClass(method.input_type)
    call: Any = client.channel.stream_unary(
        f"/{SERVICE}/PutObjectStream", lambda message: message.SerializeToString(),
        message_factory.GetMessageClass(method.output_type).FromString,
    )  # fmt: skip
    return call((frame_class(**frame) for frame in frames), timeout=timeout)


def start(name: str = "x", **fields: Any) -> dict[str, Any]:
    return {"start": {"bucket": "w", "name": name, **fields}}


def test_frames_are_the_chunks(client: WireClient, bucket: str) -> None:
    frames = [
        start(chunk_size=99, headers=[{"key": "k", "value": "v"}]),
        {"data": b"ab"},
        {"data": b"cde"},
        {"finish": True},
    ]
    done = upload(client, frames)
    assert (done.success, done.result_code) == (True, "ok")
    assert (done.info.total_bytes, done.info.chunk_count, done.info.chunk_size) == (5, 2, 99)
    assert done.info.sha256 == hashlib.sha256(b"abcde").hexdigest()
    got = list(client.stream("GetObjectStream", bucket="w", name="x"))
    assert [(frame.HasField("info"), frame.data, frame.done) for frame in got] == [
        (True, b"", False), (False, b"ab", False), (False, b"cde", False), (False, b"", True),
    ]  # fmt: skip
    assert got[0].info == done.info
    whole = client.call("GetObject", bucket="w", name="x")
    assert (whole.payload, whole.info) == (b"abcde", done.info)
    part = client.call("GetObjectRange", bucket="w", name="x", offset=1, len=3)
    assert (part.payload, part.actual_offset, part.info) == (b"bcd", 1, done.info)
    behind = client.call("GetObjectRange", bucket="w", name="x", offset=7, len=3)
    assert (behind.result_code, behind.payload) == ("ok", b"")


@pytest.mark.parametrize(
    "frames",
    [
        [], [{"data": b"a"}], [{"finish": True}], [start(), {"data": b"a"}], [start(), start(), {"finish": True}],
        [start(sha256="xy"), {"finish": True}], [start("n" * 1_100), {"finish": True}],
        [start(headers=[{"key": "wmkv.ttl", "value": "1"}]), {"finish": True}],
    ],
)  # fmt: skip
def test_frames_in_another_order_store_nothing(client: WireClient, bucket: str, frames: list[dict[str, Any]]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        upload(client, frames)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not client.call("ListObjects", bucket="w", include_deleted=True).entries


def test_a_payload_that_is_not_what_was_promised_is_not_seen(client: WireClient, bucket: str) -> None:
    wrong = hashlib.sha256(b"other").hexdigest()
    assert client.call("PutObject", bucket="w", name="x", payload=b"a", sha256=wrong).result_code == "sha_mismatch"
    done = upload(client, [start(sha256=wrong), {"data": b"a"}, {"finish": True}])
    assert (done.success, done.result_code) == (False, "sha_mismatch")
    assert not client.call("ListObjects", bucket="w", include_deleted=True).entries
    right = hashlib.sha256(b"a").hexdigest().upper()
    assert client.call("PutObject", bucket="w", name="x", payload=b"a", sha256=right).result_code == "ok"


def test_codes_and_statuses(client: WireClient, bucket: str) -> None:
    assert client.call("PutObject", bucket="none", name="x").result_code == "no_such_bucket"
    assert client.call("PutObject", bucket="a/b", name="x").result_code == "no_such_bucket"
    assert client.call("GetObject", bucket="w", name="x").result_code == "no_such_object"
    with pytest.raises(grpc.RpcError) as caught:
        list(client.stream("GetObjectStream", bucket="w", name="x"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    first = client.call("PutObject", bucket="w", name="x", payload=b"1").info.metadata_seq
    client.call("PutObject", bucket="w", name="x", payload=b"2")
    pinned = [("wmkr-revision", str(first))]
    assert client.call("GetObjectRange", metadata=pinned, bucket="w", name="x").result_code == "incomplete"
    for fields in ({"payload": bytes(16 * MIB + 1)}, {"payload": bytes(20_000), "chunk_size": 1}):
        with pytest.raises(grpc.RpcError) as caught:
            client.call("PutObject", bucket="w", name="big", **fields)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError) as caught:
        client.call("GetObjectRange", metadata=[("wmkr-revision", "x")], bucket="w", name="x")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_lists_page(client: WireClient, bucket: str) -> None:
    for number in range(5):
        client.call("PutObject", bucket="w", name=f"p/{number}", payload=b"1")
        client.call("PutObject", bucket="w", name="r", payload=b"%d" % number)
    found: list[str] = []
    after = ""
    while True:
        metadata = [("wmkr-limit", "2"), *([("wmkr-after", after)] if after else [])]
        page, beside = client.with_trailers("ListObjects", metadata, bucket="w", name_prefix="p/")
        found += [entry.name for entry in page.entries]
        after = beside.get("wmkr-next", "")
        if not after:
            break
    assert found == [f"p/{number}" for number in range(5)]
    page, beside = client.with_trailers("ListObjectRevisions", None, bucket="w", name="r", limit=2)
    assert len(page.revisions) == 2
    rest = client.call("ListObjectRevisions", metadata=[("wmkr-after", beside["wmkr-next"])], bucket="w", name="r")
    assert len(rest.revisions) == 3


def test_a_caller_that_leaves_ends_its_upload_and_its_reading(tmp_path: Path) -> None:
    port = free_port()
    server = RealServer(tmp_path / "data", "--metrics-listen", f"127.0.0.1:{port}")
    server.start()
    client = WireClient(server.address)
    try:
        client.call("CreateStream", config={"name": "obj:w"})
        client.call("PutObject", bucket="w", name="old", payload=bytes(8 * MIB))
        go_on = threading.Event()

        def frames() -> Iterator[dict[str, Any]]:
            yield start()
            yield {"data": bytes(MIB)}
            go_on.wait(TIMEOUT_S)

        with pytest.raises(grpc.RpcError) as caught:
            upload(client, frames(), timeout=1.0)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        go_on.set()
        reading = client.stream("GetObjectStream", bucket="w", name="old")
        next(reading)
        reading.cancel()
        deadline = time.monotonic() + TIMEOUT_S
        while open_objects(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert open_objects(port) == 0
        assert [entry.name for entry in client.call("ListObjects", bucket="w").entries] == ["old"]
    finally:
        client.close()
        server.close()


def open_objects(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return int(float(next(line for line in text.splitlines() if line.startswith("waymaker_open_objects")).split()[-1]))


def test_a_slow_reader_keeps_its_version_and_costs_a_window(
    server: RealServer, client: WireClient, bucket: str
) -> None:
    payload = b"".join(bytes([number]) * MIB for number in range(48))
    chunks = [{"data": payload[at : at + MIB]} for at in range(0, len(payload), MIB)]
    done = upload(client, [start(), *chunks, {"finish": True}])
    assert done.result_code == "ok"
    readings = [client.stream("GetObjectStream", bucket="w", name="x") for _ in range(6)]
    for reading in readings:
        assert next(reading).HasField("info")
    client.call("PutObject", bucket="w", name="x", payload=b"new")
    time.sleep(0.5)
    before = resident_mib(server)
    time.sleep(1.0)
    assert resident_mib(server) < before + 20
    found = b"".join(frame.data for frame in readings[0])
    assert found == payload
    for reading in readings[1:]:
        reading.cancel()


def resident_mib(server: RealServer) -> int:
    text = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) >> 10

"""A real file system that runs full under the real server: writes are refused in words, the rest goes on.

The server runs in a mount namespace of its own, on a memory file system of a few megabytes. Where the system does not
allow that, the simulated disk is the only witness and these tests are skipped.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.kit.real_server import RealServer
from tests.kit.wire_client import WireClient, trailers

DISK_MIB = 6
CONFIG = """
log_level = "error"
[limits]
segment_bytes = 262144
checkpoint_journal_bytes = 524288
message_bytes_max = 65536
header_bytes_max = 4096
record_bytes_max = 65536
flush_bytes_max = 131072
publish_batch_bytes_max = 131072
disk_retry_ms = 50
"""


def mounted(folder: Path) -> list[str]:
    """A command that runs its arguments with a small file system mounted on the folder."""
    script = f'mount -t tmpfs -o size={DISK_MIB}m tmpfs {folder} && exec "$@"'
    return ["unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash"]


def can_mount(folder: Path) -> bool:
    try:
        return subprocess.run([*mounted(folder), "true"], capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    if not can_mount(data_dir):
        pytest.skip("no mount namespaces here")
    running = RealServer(data_dir, config=CONFIG, inside=mounted(data_dir))
    running.start()
    yield running
    running.close()


def publish_until_refused(client: WireClient, stream: str) -> tuple[list[int], grpc.RpcError]:
    """Sequences that were confirmed, and how the disk's end was told."""
    confirmed: list[int] = []
    for number in range(2_000):
        try:
            answer = client.call("Publish", stream=stream, subject="a", payload=b"%06d" % number + b"x" * 20_000)
        except grpc.RpcError as refusal:
            return confirmed, refusal
        assert answer.success, answer
        confirmed.append(answer.seq)
    raise AssertionError("the disk never ran full")


def publish_when_there_is_room(client: WireClient, stream: str, within_s: float = 20) -> int:
    deadline = time.monotonic() + within_s
    while True:
        try:
            answer = client.call("Publish", stream=stream, subject="b", payload=b"again")
        except grpc.RpcError as still_full:
            assert still_full.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, still_full.details()
            assert time.monotonic() < deadline, still_full.details()
            time.sleep(0.1)
        else:
            seq: int = answer.seq
            return seq


@pytest.mark.slow
@pytest.mark.process
def test_a_full_disk_refuses_publishes_and_serves_the_rest(client: WireClient) -> None:
    for name in ("kept", "spare"):
        assert client.call("CreateStream", config={"name": name, "block_size": 20}).success
    assert client.call("CreateConsumer", stream="kept", config={"name": "c", "max_deliver": 100}).success
    for _ in range(60):
        assert client.call("Publish", stream="spare", subject="a", payload=b"x" * 20_000).success
    confirmed, refusal = publish_until_refused(client, "kept")
    assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, refusal.details()
    assert trailers(refusal)["wmkr-outcome"] == "not-applied"
    assert any(word in str(refusal.details()) for word in ("disk", "space", "room")), refusal.details()

    # Reads, deliveries and acknowledgements go on.
    found = client.call("ScanExactAtSubject", stream="kept", subject="a", limit=1)
    assert [message.seq for message in found.messages] == [1]
    fetched = client.call("Fetch", stream="kept", consumer="c", batch_size=20).messages
    assert [message.seq for message in fetched] == confirmed[:20]
    for message in fetched:
        assert client.call("Ack", stream="kept", consumer="c", seq=message.seq).success
    assert client.call("GetConsumerInfo", stream="kept", consumer="c").consumer.ack_floor == fetched[-1].seq

    # What makes room is let through, and then there is room.
    assert client.call("DeleteStream", name="spare").success
    assert publish_when_there_is_room(client, "kept") == confirmed[-1] + 1
    assert client.call("GetStreamInfo", name="kept").stats.msg_count == len(confirmed) + 1

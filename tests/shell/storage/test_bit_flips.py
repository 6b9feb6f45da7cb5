"""One bit flips somewhere in a stopped server's files: what was stored is served right, or named as damaged, never otherwise.

The directory is filled once and stopped in order; each flip is made in a copy. Bits are flipped where something is written,
in the journal, in blocks, tails, checkpoints and the manifest. The server may refuse to start and name the file; or it
serves, and then every message of every stream is what it was, or its stream answers DATA_LOSS.
"""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import grpc
import pytest

from tests.kit.real_server import RealServer
from tests.kit.wire_client import WireClient

FLIPS = 8
STREAMS = ("one", "two", "three")
MESSAGES = 150
CONFIG = """
log_level = "error"
[limits]
segment_bytes = 65536
checkpoint_journal_bytes = 131072
message_bytes_max = 16384
header_bytes_max = 4096
record_bytes_max = 16384
flush_bytes_max = 32768
publish_batch_bytes_max = 32768
"""


def payload(stream: str, number: int) -> bytes:
    return f"{stream} {number} ".encode() + random.Random(f"{stream}{number}").randbytes(600)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with blocks, tails, checkpoints and a journal, stopped in order."""
    folder = tmp_path_factory.mktemp("flips") / "data"
    server = RealServer(folder, config=CONFIG)
    server.start()
    client = WireClient(server.address)
    try:
        for stream in STREAMS:
            assert client.call("CreateStream", config={"name": stream, "block_size": 40}).success
        for number in range(MESSAGES):
            for stream in STREAMS:
                answer = client.call("Publish", stream=stream, subject="a", payload=payload(stream, number))
                assert answer.seq == number + 1
        assert server.terminate() == 0
    finally:
        client.close()
        server.close()
    return folder


def flip(folder: Path, chance: random.Random) -> tuple[str, int]:
    """Flips one bit of one byte that is not zero, in a file chosen evenly; where."""
    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "LOCK" and path.stat().st_size
    ]
    by_kind: dict[str, list[Path]] = {}
    for path in files:
        if any(path.read_bytes()):
            by_kind.setdefault(path.parent.name, []).append(path)
    path = chance.choice(by_kind[chance.choice(sorted(by_kind))])
    content = bytearray(path.read_bytes())
    offset = chance.choice([at for at, byte in enumerate(content) if byte])
    content[offset] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return path.relative_to(folder).as_posix(), offset


def read_back(client: WireClient, stream: str) -> list[bytes] | None:
    """Every message of a stream, or None where it is declared damaged."""
    found: list[bytes] = []
    try:
        while True:
            page = client.call("ScanExactAtSubject", stream=stream, subject="a", from_seq=len(found) + 1, limit=50)
            assert page.success, page
            if not page.messages:
                return found
            found += [message.payload for message in page.messages]
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.DATA_LOSS, f"{error.code()}: {error.details()}"
        # The damage is named: a file of the directory, and where in it.
        assert re.search(r"(journal|blocks|tails|checkpoints)/\S+", error.details() or ""), error.details()
        return None


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("number", range(FLIPS))
def test_a_flipped_bit_is_never_served_and_never_passed_over(filled: Path, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "data"
    shutil.copytree(filled, folder)
    path, offset = flip(folder, random.Random(number))
    server = RealServer(folder, config=CONFIG)
    try:
        code, said = server.start_or_give_up()
        if code is not None:
            assert code != 0
            assert path in said, f"a bit of {path} at {offset} was flipped; the server said {said}"
            assert "Traceback" not in said
            return
        client = WireClient(server.address)
        for stream in STREAMS:
            found = read_back(client, stream)
            expected = [payload(stream, message) for message in range(MESSAGES)]
            assert found is None or found == expected, f"a bit of {path} at {offset} was flipped"
        client.close()
    finally:
        server.close()

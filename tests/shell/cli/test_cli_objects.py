"""`waymaker obj`: in from files and standard input, out to files and standard output, and every list."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

from tests.kit.real_server import RealServer

PAYLOAD = Random(660_100).randbytes(2_500_000)


def obj(server: RealServer, *words: str, data: bytes = b"", code: int = 0) -> bytes:
    command = [sys.executable, "-m", "waymaker.cli", "obj", *words, "--server", server.address]
    done = subprocess.run(command, input=data, capture_output=True, timeout=60)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout


def test_objects_go_in_and_come_out(server: RealServer, tmp_path: Path) -> None:
    source, target = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(PAYLOAD)
    obj(server, "put", "none", str(source), code=4)
    obj(server, "put", "cli", str(source), "--create", "--header", "kind=test")
    obj(server, "get", "cli", "source.bin", str(target))
    assert target.read_bytes() == PAYLOAD
    obj(server, "get", "cli", "source.bin", str(target), code=2)
    assert obj(server, "get", "cli", "source.bin") == PAYLOAD
    assert obj(server, "get", "cli", "source.bin", "--range", "5:7") == PAYLOAD[5:12]
    assert obj(server, "get", "cli", "source.bin", "--range", "2499990") == PAYLOAD[-10:]
    obj(server, "get", "cli", "source.bin", "--range", "x", code=2)
    obj(server, "put", "cli", "-", "--name", "a/b", "--dedupe", data=b"from a pipe")
    assert obj(server, "ls", "cli") == b"a/b\t11\nsource.bin\t2500000\n"
    info = json.loads(obj(server, "info", "cli", "source.bin", "--json"))
    assert (info["total_bytes"], info["headers"], info["deduped"]) == (2_500_000, [["kind", "test"]], False)
    obj(server, "rm", "cli", "a/b")
    assert obj(server, "ls", "cli", "a", "--deleted") == b"a/b\t11\tyes\n".replace(b"11", b"0")
    listed = obj(server, "revisions", "cli", "a/b", "--json").splitlines()
    assert [json.loads(line)["deleted"] for line in listed] == [False, True]
    obj(server, "get", "cli", "a/b", code=4)

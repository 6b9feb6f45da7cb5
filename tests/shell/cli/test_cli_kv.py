"""`waymaker kv` against a real server."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.kit.real_server import LAUNCH, RealServer

pytestmark = pytest.mark.process


def test_a_bucket_from_its_making_to_its_end(server: RealServer) -> None:
    def run(*arguments: str, input_: bytes = b"", code: int = 0) -> bytes:
        command = [sys.executable, "-c", LAUNCH, "kv", *arguments, "--server", server.address]
        done = subprocess.run(command, input=input_, capture_output=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout

    run("get", "cfg", "a", code=4)
    run("add", "cfg", "--history", "3", "--max-value-size", "1KiB")
    assert run("put", "cfg", "a.b", "one") == b"1\n"
    assert run("put", "cfg", "a.b", input_=b"two\xff") == b"2\n"
    assert run("get", "cfg", "a.b") == b"two\xff"
    assert json.loads(run("get", "cfg", "a.b", "--json"))["value_base64"] == "dHdv/w=="
    run("put", "cfg", "a.b", "x", "--create", code=5)
    assert run("put", "cfg", "a.b", "three", "--revision", "2", "--ttl", "1h") == b"3\n"
    assert run("touch", "cfg", "a.b") == b"3\n"
    assert run("put", "cfg", "c", "4") == b"4\n"
    assert json.loads(run("rm", "cfg", "c", "--json")) == {"key": "c", "revision": 5}
    assert run("ls", "cfg") == b"a.b\n"
    assert run("ls", "cfg", "--all") == b"a.b\nc\n"
    lines = run("history", "cfg", "c").splitlines()
    assert [line.split(b"\t")[1:] for line in lines] == [[b"4", b"c", b"4"], [b"5", b"c", b"(deleted)"]]
    run("put", "cfg", "bad..key", "x", code=5)
    watch = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, "kv", "watch", "cfg", "a.*", "--json", "--server", server.address],
        stdout=subprocess.PIPE,
    )
    try:
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["value"] == "three"
        run("rm", "cfg", "a.b")
        assert json.loads(watch.stdout.readline())["deleted"] is True
    finally:
        watch.terminate()
        watch.wait()
    run("del", "cfg", code=2)
    run("del", "cfg", "--yes")
    run("ls", "cfg", code=4)

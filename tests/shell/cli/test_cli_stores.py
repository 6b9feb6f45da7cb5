"""The groups `hash`, `set`, `queue` and `sketch` against a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.real_server import LAUNCH, RealServer

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    own = RealServer(Path(tmp_path_factory.mktemp("stores")) / "data")
    own.start()
    yield own
    own.close()


def run(server: RealServer, *arguments: str, given: bytes = b"", code: int = 0) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, *arguments, "--server", server.address],
        input=given,
        capture_output=True,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stdout


def test_a_hash_a_set_and_a_queue_are_kept(server: RealServer) -> None:
    run(server, "hash", "create", "users", "--max-bytes", "1000000")
    assert run(server, "hash", "set", "users", "ada", "name", "Ada", "--json") == b'{"revision":1}\n'
    assert run(server, "hash", "get", "users", "ada", "name") == b"Ada"
    assert run(server, "hash", "get", "users", "ada") == b"name\tAda\n"
    assert b"no field" not in run(server, "hash", "get", "users", "ada", "born", code=4)
    run(server, "hash", "rm", "users", "ada", "name")
    assert run(server, "hash", "len", "users", "ada", "--json") == b'{"fields":0}\n'
    run(server, "hash", "delete", "users")
    run(server, "set", "create", "tags")
    assert run(server, "set", "add", "tags", "red", "--json", given=b"apple\nrose\napple\n") == b'{"added":2}\n'
    assert run(server, "set", "members", "tags", "red") == b"apple\nrose\n"
    assert run(server, "set", "has", "tags", "red", "sky", "--json") == b'{"is_member":false}\n'
    run(server, "set", "rm", "tags", "red", "rose")
    assert run(server, "set", "len", "tags", "red", "--json") == b'{"members":1}\n'
    run(server, "set", "delete", "tags")
    run(server, "queue", "create", "jobs", "--max-messages", "10")
    run(server, "queue", "push", "jobs", given=b"one\ntwo\nthree\n")
    assert run(server, "queue", "peek", "jobs") == b"one\ntwo\nthree\n"
    assert run(server, "queue", "pop", "jobs", "-n", "2") == b"one\ntwo\n"
    assert run(server, "queue", "len", "jobs", "--json") == b'{"values":1}\n'
    run(server, "queue", "delete", "jobs")


def test_sketches_are_asked(server: RealServer) -> None:
    run(server, "sketch", "create", "words", "top-k", "--k", "3")
    run(server, "sketch", "add", "words", "to", "be", "or", "not", "to", "be", "to")
    assert run(server, "sketch", "ask", "words", "top").splitlines()[0] == b"to\t3"
    assert run(server, "sketch", "ask", "words", "counts", "be") == b"be\t2\n"
    run(server, "sketch", "create", "times", "t-digest")
    run(server, "sketch", "add", "times", given=b"1\n2\n3\n")
    assert run(server, "sketch", "ask", "times", "quantiles", "1") == b"1\t3.0\n"
    assert b'"kind":"t_digest"' in run(server, "sketch", "info", "times", "--json")
    run(server, "sketch", "add", "times", "x", code=2)
    run(server, "sketch", "delete", "words")

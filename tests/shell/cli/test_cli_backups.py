"""`backup --all`, `restore` of a directory, as an operator and a cron job meet them: processes, codes, signals, full disks."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import waymaker
from tests.kit.real_server import LAUNCH, RealServer
from tests.kit.waiting import wait_for
from waymaker.cli import exits

pytestmark = pytest.mark.process
COMMAND = [sys.executable, "-c", LAUNCH]
DISK_MIB = 4
Run = Callable[..., subprocess.CompletedProcess[str]]


def surroundings(server: RealServer) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAYMAKER_")}
    return kept | {"WAYMAKER_SERVER": server.address}


@pytest.fixture
def run(server: RealServer, tmp_path: Path) -> Run:
    def go(*arguments: str, inside: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*inside, *COMMAND, *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path,
            env=surroundings(server),
        )  # fmt: skip

    return go


@pytest.fixture
def streams(wm: waymaker.SyncClient) -> waymaker.SyncClient:
    for name in ("a", "b", "c"):
        wm.create_stream(name)
        wm.publish_many(name, [("x", b"message")] * 50)
        wm.create_consumer(name, "reader")
    return wm


def test_a_server_goes_into_a_directory_and_comes_back(streams: waymaker.SyncClient, run: Run, tmp_path: Path) -> None:
    ran = run("backup", "--all", "bk", "--json")
    assert ran.returncode == exits.OK, ran.stderr
    *archives, whole = map(json.loads, ran.stdout.splitlines())
    assert sorted(each["stream"] for each in archives) == ["a", "b", "c"]
    assert (whole["streams"], whole["messages"], whole["created"]) == (3, 150, [])
    listed = (tmp_path / "bk" / "backup.jsonl").read_text().splitlines()[1:-1]
    assert sorted(map(json.dumps, archives)) == sorted(json.dumps(json.loads(line)) for line in listed)
    for line in map(json.loads, listed):
        told = subprocess.run(["sha256sum", tmp_path / "bk" / line["file"]], capture_output=True, text=True, check=True)
        assert told.stdout.split()[0] == line["sha256"], "the archives can be verified without this program"
    assert run("check", "bk").returncode == exits.OK

    ran = run("restore", "bk", "--all")
    assert ran.returncode == exits.REFUSED
    assert "a, b, c" in ran.stderr
    assert "waymaker restore bk --skip-existing" in ran.stderr
    streams.delete_stream("b")
    ran = run("restore", "bk", "--skip-existing", "--json")
    assert ran.returncode == exits.OK
    assert [json.loads(line) for line in ran.stdout.splitlines()] == [
        {"stream": "b", "messages": 50, "last_seq": 50},
        {"directory": "bk", "streams": 1, "messages": 50, "skipped": ["a", "c"]},
    ]
    ran = run("restore", "bk", "c", "--name", "d")
    assert (ran.returncode, ran.stdout) == (exits.OK, "")
    assert "1 stream(s), 50 message(s) restored from bk" in ran.stderr
    assert streams.list_streams() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("backup", "--all", "bk"), exits.USAGE, "bk holds a backup"),
        (("backup", "--all", "x", "nowhere"), exits.NOT_FOUND, "no stream named nowhere"),
        (("backup", "--all", "no/x"), exits.NOT_FOUND, "no/x: no such file or directory"),
        (("backup", "--all", "-"), exits.USAGE, "'-' is for one stream"),
        (("backup", "--all"), exits.USAGE, "Missing argument"),
        (("backup", "a"), exits.USAGE, "give STREAM and FILE, or --all and DIRECTORY"),
        (("backup", "a", "x", "--skip-damaged"), exits.USAGE, "give STREAM and FILE, or --all and DIRECTORY"),
        (("backup", "a", "b", "x"), exits.USAGE, "give STREAM and FILE, or --all and DIRECTORY"),
        (("restore", "bk", "a", "--all"), exits.USAGE, "leave it out to restore those named"),
        (("restore", "bk", "--name", "x"), exits.USAGE, "a new name is for one stream alone"),
        (("restore", "bk", "nowhere"), exits.NOT_FOUND, "the backup has no stream nowhere"),
        (("restore", "bk/backup.jsonl", "a"), exits.USAGE, "is no directory"),
        (("restore", "empty"), exits.USAGE, "empty holds no backup"),
        (("restore", "half"), exits.DAMAGED, "was not completed"),
        (("check", "half"), exits.DAMAGED, ""),
        (("check", "empty"), exits.NOT_FOUND, "holds no Waymaker data"),
    ],
)  # fmt: skip
def test_a_refusal_has_its_code_and_says_what_would_be_right(
    streams: waymaker.SyncClient, run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, problem: str
) -> None:
    assert run("backup", "--all", "bk").returncode == exits.OK
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "000001-0123abcd.wmka").write_bytes(b"")
    ran = run(*arguments)
    assert (ran.returncode, problem in ran.stderr) == (code, True), ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "x").exists()
    assert streams.list_streams() == ["a", "b", "c"]


def test_a_server_that_is_not_there_leaves_no_directory(streams: waymaker.SyncClient, run: Run, tmp_path: Path) -> None:
    ran = run("backup", "--all", "bk", "--server", "127.0.0.1:1")
    assert ran.returncode == exits.UNAVAILABLE
    assert not (tmp_path / "bk").exists()


# ------------------------------------------------------------------------------- what breaks it off


def begun(server: RealServer, tmp_path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a backup into `bk` and return once its first archives grow."""
    process = subprocess.Popen(
        [*COMMAND, "backup", "--all", "bk", *arguments], cwd=tmp_path, env=surroundings(server),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip

    def grows() -> bool:
        found = list((tmp_path / "bk").glob("*.wmka")) if (tmp_path / "bk").exists() else []
        return process.poll() is not None or any(each.stat().st_size > 0 for each in found)

    wait_for(grows)
    assert process.poll() is None, "the backup ended before it could be broken off"
    return process


@pytest.fixture
def large(wm: waymaker.SyncClient) -> waymaker.SyncClient:
    for name in ("a", "b", "c"):
        wm.create_stream(name)
        for _ in range(6):
            wm.publish_many(name, [("x", bytes(100_000))] * 100)
    return wm


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, exits.INTERRUPTED), (signal.SIGTERM, exits.TERMINATED)])
def test_a_signal_ends_a_backup_with_nothing_left(
    large: waymaker.SyncClient, server: RealServer, run: Run, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = begun(server, tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in err) == (code, False), err
    assert not (tmp_path / "bk").exists()


def test_a_killed_backup_is_never_taken_for_one_and_force_begins_anew(
    large: waymaker.SyncClient, server: RealServer, run: Run, tmp_path: Path
) -> None:
    process = begun(server, tmp_path)
    process.kill()
    process.communicate(timeout=30)
    left = sorted((tmp_path / "bk").iterdir())
    assert left and not (tmp_path / "bk" / "backup.jsonl").exists()
    assert run("check", "bk").returncode == exits.DAMAGED
    ran = run("restore", "bk", "--prefix", "r_")
    assert (ran.returncode, "was not completed" in ran.stderr) == (exits.DAMAGED, True)
    ran = run("backup", "--all", "bk")
    assert (ran.returncode, "an interrupted backup" in ran.stderr) == (exits.USAGE, True)
    ran = run("backup", "--all", "bk", "--force")
    assert ran.returncode == exits.OK, ran.stderr
    assert run("check", "bk").returncode == exits.OK
    assert not set(left) & set((tmp_path / "bk").iterdir())


def test_a_full_disk_at_the_target_ends_the_backup_with_nothing_left(
    large: waymaker.SyncClient, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "mnt").mkdir()
    script = f'mount -t tmpfs -o size={DISK_MIB}m tmpfs mnt && "$@"; code=$?; ls -a mnt >listed; exit $code'
    inside = ("unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash")
    if subprocess.run([*inside, "true"], cwd=tmp_path, capture_output=True, timeout=20, check=False).returncode:
        pytest.skip("no mount namespaces here")
    ran = run("backup", "--all", "mnt/bk", inside=inside)
    assert ran.returncode == exits.FAILED
    assert "No space left on device" in ran.stderr
    assert "mnt/bk/0000" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert (tmp_path / "listed").read_text().split() == [".", ".."]


def test_a_restore_that_ctrl_c_ends_is_finished_by_another(
    large: waymaker.SyncClient, server: RealServer, run: Run, tmp_path: Path
) -> None:
    assert run("backup", "--all", "bk").returncode == exits.OK
    for name in "abc":
        large.delete_stream(name)
    process = subprocess.Popen(
        [*COMMAND, "restore", "bk"], cwd=tmp_path, env=surroundings(server), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for(lambda: process.poll() is not None or large.server_info().streams > 0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (exits.INTERRUPTED, exits.OK), err
    for name in large.list_streams():
        assert large.stream_info(name).msg_count == 600
    ran = run("restore", "bk", "--skip-existing")
    assert ran.returncode == exits.OK, ran.stderr
    assert {name: large.stream_info(name).msg_count for name in large.list_streams()} == dict.fromkeys("abc", 600)


# ------------------------------------------------------------------------------------------ damage


def test_damaged_streams_end_the_backup_unless_they_are_left_out(tmp_path: Path) -> None:
    own = RealServer(tmp_path / "data", "--limit", "checkpoint_journal_bytes=65536", "--limit", "segment_bytes=65536",
                     "--limit", "record_bytes_max=16384", "--limit", "flush_bytes_max=32768")  # fmt: skip
    own.start()
    try:
        with waymaker.connect_sync(own.address, timeout=20.0) as wm:
            for name in ("good", "torn"):
                wm.create_stream(name, block_size=20)
                wm.publish_many(name, [("x", name.encode() * 500)] * 200)
        assert own.terminate() == 0
        hit = 0
        for file in (tmp_path / "data").rglob("*"):
            if file.is_file() and (at := file.read_bytes().find(b"torn" * 100)) >= 0:
                content = bytearray(file.read_bytes())
                content[at] ^= 1
                file.write_bytes(content)
                hit += 1
        assert hit
        own.start()

        def go(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path,
                                  env=surroundings(own))  # fmt: skip

        for _ in range(2):  # found while it is copied, and known before
            ran = go("backup", "--all", "bk")
            assert ran.returncode == exits.DAMAGED
            assert "torn" in ran.stderr
            assert "--skip-damaged copies the others" in ran.stderr
            assert not (tmp_path / "bk").exists()
        ran = go("backup", "--all", "bk", "--skip-damaged")
        assert ran.returncode == exits.DAMAGED
        assert "damaged and not in the backup: torn" in ran.stderr
        ran = go("check", "bk")
        assert ran.returncode == exits.OK
        assert "stream torn was damaged and is not in this backup (harmless)" in ran.stdout
    finally:
        own.close()


@pytest.mark.parametrize(
    ("line", "offered"),
    [("backup a", "plain,a"), ("backup a x", "file,x"), ("backup --all x", "file,x"), ("backup --all x a", "plain,a")],
)
def test_streams_are_completed_where_they_stand_and_files_elsewhere(
    streams: waymaker.SyncClient, server: RealServer, line: str, offered: str
) -> None:
    words = {
        "COMP_WORDS": f"waymaker {line}",
        "COMP_CWORD": str(len(line.split())),
        "_WAYMAKER_COMPLETE": "bash_complete",
    }
    script = "import sys; sys.argv = ['waymaker']; " + LAUNCH
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
                         env=surroundings(server) | words)  # fmt: skip
    assert ran.stdout.split() == [offered], ran.stderr


def test_progress_is_shown_on_a_terminal_alone(
    streams: waymaker.SyncClient, server: RealServer, run: Run, tmp_path: Path
) -> None:
    main, secondary = pty.openpty()
    try:
        process = subprocess.run([*COMMAND, "backup", "--all", "bk"], cwd=tmp_path, stdin=secondary, stderr=secondary,
                                 stdout=subprocess.DEVNULL, timeout=60, env=surroundings(server) | {"TERM": "xterm"},
                                 check=False)  # fmt: skip
        shown = os.read(main, 65_536)
    finally:
        os.close(main)
        os.close(secondary)
    assert process.returncode == exits.OK
    assert b"\x1b[" in shown and b"bk" in shown
    ran = run("backup", "--all", "bk2")
    assert ran.stderr == "3 stream(s), 150 message(s), " + ran.stderr.split("message(s), ")[1]
    assert "\x1b" not in ran.stderr

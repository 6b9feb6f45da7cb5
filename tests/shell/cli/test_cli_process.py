"""The command line as people and scripts meet it: real processes, a real server, signals, pipes and terminals."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.real_server import LAUNCH, RealServer, free_port
from tests.kit.waiting import wait_for
from waymaker.cli import exits

pytestmark = pytest.mark.process
COMMAND = [sys.executable, "-c", LAUNCH]


def surroundings(server: RealServer | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAYMAKER_")}
    return kept | ({"WAYMAKER_SERVER": server.address} if server else {})


@pytest.fixture
def run(server: RealServer, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def go(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], input=text, capture_output=True, text=True, timeout=60, cwd=tmp_path,
            env=surroundings(server),
        )  # fmt: skip

    return go


@pytest.fixture
def stream(run: Callable[..., subprocess.CompletedProcess[str]], request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"s{abs(hash(request.node.name)) % 10**8}"
    assert run("stream", "add", name).returncode == 0
    assert run("consumer", "add", name, "c").returncode == 0
    yield name
    run("stream", "rm", name, "--yes")


def test_the_list_of_commands_imports_nothing_that_a_command_needs() -> None:
    script = (
        "import sys; from waymaker.cli import main; main(['--help']);"
        "heavy = {'grpc', 'google.protobuf', 'asyncio', 'waymaker_core', 'waymaker_sim.world.run', 'multiprocessing', 'rich'};"
        "print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""
    assert "  sim " in done.stdout


@pytest.mark.parametrize(
    "arguments", [("stream", "ls"), ("stream", "info", "STREAM"), ("pub", "STREAM", "a", "x"), ("fetch", "STREAM", "c")]
)
def test_a_command_imports_the_client_and_nothing_of_the_server(
    server: RealServer, stream: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Plain output needs no rich, the client no more of the core than settings, and a call that goes well no diagnosis."""
    words = [stream if word == "STREAM" else word for word in arguments]
    script = (
        f"import sys; from waymaker.cli import main; code = main({[*words, '--server', server.address]!r});"
        "parts = ('waymaker_sim', 'waymaker_core', 'waymaker.server', 'waymaker.storage', 'rich', 'structlog',"
        " 'multiprocessing', 'waymaker.client.sync', 'waymaker.client.archive', 'waymaker.client.connection.diagnosis',"
        " 'waymaker.client.tls.certificates');"
        "found = [each for each in sys.modules if each in parts or each.startswith(tuple(part + '.' for part in parts))];"
        "print(code, *sorted(found), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path,
        env=surroundings(server),
    )  # fmt: skip
    assert done.stderr.strip().splitlines()[-1] == "0 waymaker_core waymaker_core.model waymaker_core.model.config", (
        done.stderr
    )


Run = Callable[..., subprocess.CompletedProcess[str]]


@contextlib.contextmanager
def started(server: RealServer, *arguments: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=surroundings(server), **options
    )  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def floor(run: Run, stream: str) -> int:
    floor = json.loads(run("consumer", "info", stream, "c", "--json").stdout)["ack_floor"]
    assert isinstance(floor, int)
    return floor


# --------------------------------------------------------------------------------------- round trips


def test_a_file_goes_in_and_comes_out_the_same(run: Run, stream: str, tmp_path: Path) -> None:
    lines = [
        json.dumps({"id": n, "kind": "even" if n % 2 == 0 else "odd", "name": f"häuschen {n}"}) for n in range(5_000)
    ]
    (tmp_path / "events.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
    published = run("pub", stream, "event.{kind}", "--ndjson", "--file", "events.ndjson")
    assert (published.returncode, published.stdout) == (0, "5000\n")
    read = run("sub", stream, "c", "--stop-when-empty", "--raw")
    assert read.returncode == 0
    assert read.stdout.splitlines() == lines
    assert floor(run, stream) == 5_000
    assert run("subjects", stream).stdout == "event.even\nevent.odd\n"
    assert run("get", stream, "event.odd").stdout == lines[-1]


def test_backup_restore_and_the_pipe_between_them(run: Run, stream: str, server: RealServer, tmp_path: Path) -> None:
    run("pub", stream, "a", "--lines", text="".join(f"{n}\n" for n in range(1_000)))
    assert run("backup", stream, "s.wma").returncode == 0
    restored = run("restore", "s.wma", "--name", "restored", "--json")
    assert json.loads(restored.stdout) == {"stream": "restored", "messages": 1_000, "last_seq": 1_000}
    assert run("sub", "restored", "-e", "--raw").stdout.split() == [str(n) for n in range(1_000)]
    assert run("stream", "rm", "restored", "-y").returncode == 0
    (tmp_path / "s.wma").write_bytes((tmp_path / "s.wma").read_bytes()[:-5])
    broken = run("restore", "s.wma", "--name", "restored")
    assert broken.returncode == exits.DAMAGED
    assert run("stream", "info", "restored").returncode == exits.NOT_FOUND


def test_an_oversized_message_names_whose_bound_it_is_and_what_lifts_it(run: Run, stream: str, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(17 << 20))
    for setting, file, problem, hint in (
        ("", "big", "message_bytes_max is 16777216", "limits.message_bytes_max"),
        ("max-msg-bytes", "small", "max_msg_bytes is 5", f"waymaker stream edit {stream} --max-msg-bytes SIZE"),
        ("max-bytes", "small", "max_bytes of the whole stream is 5", f"waymaker stream edit {stream} --max-bytes SIZE"),
    ):
        (tmp_path / "small").write_bytes(b"x" * 20)
        if setting:
            assert run("stream", "edit", stream, f"--{setting}", "5", "-y").returncode == 0
        ran = run("pub", stream, "a", "--file", file)
        assert ran.returncode == exits.REFUSED
        assert problem in ran.stderr
        assert hint in ran.stderr
        if setting:
            assert run("stream", "edit", stream, f"--{setting}", "unlimited").returncode == 0
    assert run("pub", stream, "a", "--file", "small").returncode == 0


def test_an_edit_previews_exactly_what_it_then_prunes(run: Run, stream: str) -> None:
    run("pub", stream, "a", "--lines", text="x\n" * 300)
    assert "250 message(s) would be removed" in run("stream", "edit", stream, "--max-msgs", "50", "--dry-run").stderr
    done = json.loads(run("stream", "edit", stream, "--max-msgs", "50", "--yes", "--json").stdout)
    assert done["pruned"] == 250


# ------------------------------------------------------------------------------------ signals and pipes


def test_ctrl_c_ends_sub_quietly_with_everything_printed_acknowledged(
    server: RealServer, run: Run, stream: str
) -> None:
    run("pub", stream, "a", "--lines", text="".join(f"{n}\n" for n in range(100)))
    with started(server, "sub", stream, "c", "--raw") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        printed = [process.stdout.readline() for _ in range(100)]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == exits.INTERRUPTED
        assert process.stderr.read() == b""
    assert [int(line) for line in printed] == list(range(100))
    wait_for(lambda: floor(run, stream) == 100)


def test_sigterm_ends_sub_in_order_and_removes_its_temporary_consumer(
    server: RealServer, run: Run, stream: str
) -> None:
    run("pub", stream, "a", "x")
    with started(server, "sub", stream, "--raw") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"x\n"
        assert len(run("consumer", "ls", stream).stdout.splitlines()) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == exits.TERMINATED
    assert len(run("consumer", "ls", stream).stdout.splitlines()) == 1


def test_a_reader_that_goes_away_ends_sub_without_a_word(server: RealServer, run: Run, stream: str) -> None:
    run("pub", stream, "a", "--lines", text="some payload\n" * 50_000)
    with started(server, "sub", stream, "c", "--raw") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == exits.BROKEN_PIPE
        assert process.stderr.read() == b""
    assert floor(run, stream) < 50_000


def test_sub_outlives_its_server_and_says_so(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "data")
    server.start()
    try:
        environment = surroundings(server)

        def go(*arguments: str) -> None:
            subprocess.run([*COMMAND, *arguments], env=environment, check=True, capture_output=True)

        go("stream", "add", "s")
        go("consumer", "add", "s", "c")
        go("pub", "s", "a", "before")
        with started(server, "sub", "s", "c", "--raw") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"before\n"
            server.kill()
            assert b"connection lost" in process.stderr.readline()
            server.start()
            assert b"again" in process.stderr.readline()
            go("pub", "s", "a", "after")
            assert process.stdout.readline() == b"after\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == exits.INTERRUPTED
    finally:
        server.close()


def test_pub_sends_lines_as_they_come(server: RealServer, run: Run, stream: str) -> None:
    with started(server, "pub", stream, "a", "--lines", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for n in range(3):
            process.stdin.write(b"line\n")
            process.stdin.flush()
            wait_for(lambda n=n: json.loads(run("stream", "info", stream, "--json").stdout)["messages"] == n + 1)  # type: ignore[misc]
        process.stdin.close()
        assert process.wait(10) == 0
        assert process.stdout.read() == b"3\n"


def unread(process: subprocess.Popen[bytes]) -> int:
    """Return how many bytes of its input the process has not read yet."""
    assert process.stdin is not None
    count = array.array("i", [0])
    fcntl.ioctl(process.stdin, termios.FIONREAD, count)
    return count[0]


def test_ctrl_c_ends_a_pub_that_waits_for_input(server: RealServer, stream: str) -> None:
    with started(server, "pub", stream, "a", "--lines", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"line\n")
        process.stdin.flush()
        wait_for(lambda: not unread(process))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == exits.INTERRUPTED


def test_watch_prints_events_as_json(server: RealServer, run: Run) -> None:
    with started(server, "watch", "--json") as process:
        assert process.stdout is not None
        lines: list[bytes] = []
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, b"")))  # type: ignore[union-attr]
        reader.start()
        deadline = time.monotonic() + 20
        while len(lines) < 2:
            assert time.monotonic() < deadline
            run("stream", "add", "watched")
            run("stream", "rm", "watched", "-y")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == exits.INTERRUPTED
        reader.join(10)
    events = [json.loads(line) for line in lines]
    assert {event["event"] for event in events} == {"stream_created", "stream_deleted"}
    assert {event["stream"] for event in events} == {"watched"}


# -------------------------------------------------------------------------------------------- terminals


def on_a_terminal(
    server: RealServer,
    *arguments: str,
    answer: bytes = b"",
    cwd: Path | None = None,
    signals: signal.Signals | None = None,
) -> tuple[int, bytes]:
    """Runs a command with a terminal on all three descriptors; types `answer`, or signals, at the first question mark."""
    parent, child = pty.openpty()
    environment = surroundings(server) | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
        cwd=cwd,
        start_new_session=True,
    )
    os.close(child)
    shown = b""
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            ready, _, _ = select.select([parent], [], [], 0.1)
            if ready:
                try:
                    piece = os.read(parent, 65_536)
                except OSError:
                    break
                if not piece:
                    break
                shown += piece
            if answer and b"?" in shown:
                os.write(parent, answer)
                answer = b""
            if signals and b"?" in shown:
                time.sleep(0.2)  # the question is printed a moment before it is waited for
                process.send_signal(signals)
                signals = None
        return process.wait(10), shown
    finally:
        os.close(parent)
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_terminal_gets_tables(server: RealServer, run: Run, stream: str) -> None:
    run("pub", stream, "a", "--lines", text="x\n" * 1_500)
    code, shown = on_a_terminal(server, "stream", "ls", "-l")
    assert code == 0
    assert b"last seq" in shown
    assert b"1,500" in shown


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, exits.INTERRUPTED), (signal.SIGTERM, exits.TERMINATED)], ids=["ctrl-c", "term"]
)
def test_the_first_signal_ends_a_question_and_changes_nothing(
    server: RealServer, run: Run, stream: str, sent: signal.Signals, code: int
) -> None:
    run("pub", stream, "a", "x")
    for command in (("stream", "rm", stream), ("stream", "edit", stream, "--max-age", "1ms")):
        ended, shown = on_a_terminal(server, *command, signals=sent)
        assert ended == code
        assert b"Traceback" not in shown
    assert json.loads(run("stream", "info", stream, "--json").stdout)["messages"] == 1


CLOSED = [
    (("stream", "ls"), 0), (("stream", "info", "STREAM"), 0), (("subjects", "STREAM"), 0), (("--help",), 0),
    (("version",), 0), (("pub", "STREAM", "a", "y"), 0), (("get", "STREAM", "a"), exits.BROKEN_PIPE),
    (("sub", "STREAM", "-e"), exits.BROKEN_PIPE), (("fetch", "STREAM", "c"), exits.BROKEN_PIPE),
    (("backup", "STREAM", "-"), exits.BROKEN_PIPE), (("stream", "info", "nowhere"), exits.NOT_FOUND),
    (("stream", "rm", "STREAM"), exits.USAGE), (("pub", "STREAM", "a"), exits.USAGE), (("restore", "-"), exits.USAGE),
]  # fmt: skip


def test_every_command_survives_closed_standard_streams(server: RealServer, run: Run, stream: str) -> None:
    run("pub", stream, "a", "x")
    run("consumer", "add", stream, "c")
    for command, code in CLOSED:
        arguments = [part.replace("STREAM", stream) for part in command]
        silent = shlex.join([*COMMAND, *arguments]) + " <&- >&- 2>&-"
        told = silent.removesuffix(" 2>&-")
        assert subprocess.run(["sh", "-c", silent], env=surroundings(server), timeout=60).returncode == code, command
        if code not in (0, exits.BROKEN_PIPE):
            ran = subprocess.run(["sh", "-c", told], env=surroundings(server), timeout=60, capture_output=True)
            assert ran.returncode == code, command
            assert b"error: " in ran.stderr and b"Traceback" not in ran.stderr, command
    assert json.loads(run("stream", "info", stream, "--json").stdout)["messages"] == 2
    assert floor(run, stream) == 0, "what nobody could read is not acknowledged"


def test_a_question_can_be_answered_on_a_terminal(server: RealServer, run: Run, stream: str) -> None:
    run("pub", stream, "a", "--lines", text="x\n" * 20)
    code, shown = on_a_terminal(server, "stream", "edit", stream, "--max-msgs", "5", answer=b"n\n")
    assert code == exits.FAILED
    assert b"Remove 15 message(s)" in shown
    assert json.loads(run("stream", "info", stream, "--json").stdout)["messages"] == 20
    code, _ = on_a_terminal(server, "stream", "edit", stream, "--max-msgs", "5", answer=b"y\n")
    assert code == 0
    assert json.loads(run("stream", "info", stream, "--json").stdout)["messages"] == 5


def test_a_file_is_published_with_a_bar(server: RealServer, run: Run, stream: str, tmp_path: Path) -> None:
    (tmp_path / "big").write_text("a line of some length\n" * 200_000)
    code, shown = on_a_terminal(server, "pub", stream, "a", "--lines", "--file", "big", cwd=tmp_path)
    assert code == 0
    assert b"MB" in shown
    assert b"200,000 message(s) stored" in shown
    assert shown.rstrip().endswith(b"200000")


# ---------------------------------------------------------------------------------------------- servers


def test_dev_says_where_it_is_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [*COMMAND, "dev", "--listen", address], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=surroundings(),
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = b""
        while b"Ctrl-C" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        assert address.encode() in said
        assert str(tmp_path / "waymaker-data").encode() in said
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_serve_can_announce_itself_to_a_program(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "serve", "--data-dir", "d", "--listen", "127.0.0.1:0", "--json"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=surroundings(),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["pid"] == process.pid
        listed = subprocess.run(
            [*COMMAND, "stream", "ls", "--server", told["address"]], env=surroundings(), capture_output=True
        )
        assert listed.returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_taken_directory_and_a_taken_port_are_said_with_their_holder(server: RealServer, tmp_path: Path) -> None:
    second = subprocess.run(
        [*COMMAND, "serve", "--data-dir", str(server.data_dir), "--listen", "127.0.0.1:0"],
        env=surroundings(), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert second.returncode == exits.FAILED
    assert str(server.pid) in second.stderr
    assert "Traceback" not in second.stderr
    third = subprocess.run(
        [*COMMAND, "serve", "--data-dir", str(tmp_path / "other"), "--listen", server.address],
        env=surroundings(), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert third.returncode == exits.FAILED
    assert server.address in third.stderr
    assert "Traceback" not in third.stderr


# ----------------------------------------------------------------------------------------------- check


def check(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "check", str(directory), *arguments], env=surroundings(), capture_output=True, text=True, timeout=60
    )


def test_check_finds_nothing_in_good_data_and_names_a_flipped_bit(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "data")
    server.start()
    try:
        running = check(server.data_dir)
        assert running.returncode == exits.UNAVAILABLE
        assert str(server.pid) in running.stderr
        environment = surroundings(server)
        subprocess.run([*COMMAND, "stream", "add", "s"], env=environment, check=True, capture_output=True)
        lines = "".join(f"message number {n}\n" for n in range(2_000))
        subprocess.run(
            [*COMMAND, "pub", "s", "a", "--lines"],
            input=lines,
            text=True,
            env=environment,
            check=True,
            capture_output=True,
        )
        assert server.terminate() == 0
    finally:
        server.close()
    good = check(server.data_dir, "--json")
    assert good.returncode == 0, good
    summary = json.loads(good.stdout.splitlines()[-1])
    assert not summary["damaged"]
    assert summary["messages"] >= 2_000
    assert summary["format"] == 2
    assert "format 2, " in check(server.data_dir).stderr
    holder = next(
        path
        for path in sorted(server.data_dir.rglob("*"))
        if path.is_file() and b"message number 1234" in path.read_bytes()
    )
    data = bytearray(holder.read_bytes())
    data[data.index(b"message number 1234") + 3] ^= 4
    holder.write_bytes(data)
    bad = check(server.data_dir)
    assert bad.returncode == exits.DAMAGED, bad
    assert str(holder.relative_to(server.data_dir)) in bad.stdout
    told = [json.loads(line) for line in check(server.data_dir, "--json").stdout.splitlines()]
    assert told[-1]["damaged"]
    assert any(finding.get("path") == str(holder.relative_to(server.data_dir)) for finding in told)


def test_check_of_what_is_no_data_directory(tmp_path: Path) -> None:
    assert check(tmp_path / "nowhere").returncode == exits.NOT_FOUND
    empty = check(tmp_path)
    assert empty.returncode == exits.NOT_FOUND
    assert "--data-dir" in empty.stderr
    assert list(tmp_path.iterdir()) == [], "nothing was made there"


def test_a_second_ctrl_c_ends_a_command_whatever_it_waits_for(tmp_path: Path) -> None:
    """The first one waits for a server that answers no more, the second one does not."""
    hung = RealServer(tmp_path / "d")
    hung.start()
    try:
        for arguments in (("stream", "add", "s"), ("consumer", "add", "s", "c"), ("pub", "s", "a", "x")):
            subprocess.run([*COMMAND, *arguments], env=surroundings(hung), check=True, capture_output=True, timeout=60)
        with started(hung, "sub", "s", "c", "--timeout", "60") as process:
            assert process.stdout is not None
            assert b"x" in process.stdout.readline()
            os.kill(hung.pid, signal.SIGSTOP)
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert process.poll() is None, "it waits for its acknowledgement"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == -signal.SIGINT
    finally:
        os.kill(hung.pid, signal.SIGCONT)
        hung.close()


def test_a_second_ctrl_c_ends_a_command_that_nobody_reads(stream: str, server: RealServer, run: Run) -> None:
    assert run("pub", stream, "a", "--lines", text="x" * 1_000 + "\n" + ("y" * 1_000 + "\n") * 2_000).returncode == 0
    with started(server, "sub", stream, "c") as process:
        assert process.stdout is not None
        assert process.stdout.read(100)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) in {-signal.SIGINT, exits.INTERRUPTED}

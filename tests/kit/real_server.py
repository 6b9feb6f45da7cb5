"""The real server as a child process: started, asked, killed and started again on the same directory.

Responsible for the process alone. It never reaches into the server's modules: what a test learns, it learns through
the port, the exit code and what the process printed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

LAUNCH = "import sys; from waymaker.cli import main; sys.exit(main())"
START_S_MAX = 60.0
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""The first bytes of a client: the protocol's preface and an empty settings frame."""


PORTS = range(20_000, 32_000)
"""Ports below those that systems give to clients, and to a bind to port 0."""
_claims: dict[int, TextIO] = {}


def free_port() -> int:
    """Return a port on which no process listens, and which no other test receives while this process runs.

    A server is started on it later, and again after each stop: until then the port must remain free.
    """
    folder = Path(tempfile.gettempdir()) / f"waymaker-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if port not in _claims and (claim := _claimed(folder / str(port))) is not None:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                _claims[port] = claim
                return port
            claim.close()
    raise AssertionError("every port of the tests is in use")


def _claimed(path: Path) -> TextIO | None:
    """Return the locked file of a port, or None where another process holds it. The lock ends with the process."""
    claim = path.open("a")
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        claim.close()
        return None
    return claim


def answers(port: int, *, tls: bool = False) -> bool:
    """Return True if a server answers there. One that holds the port and still opens its data does not."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            if tls:
                with _unverified().wrap_socket(connection):
                    return True
            connection.sendall(HTTP2_GREETING)
            return len(connection.recv(9)) > 0
    except OSError:
        return False


def _unverified() -> ssl.SSLContext:
    """Make a context that accepts every certificate: only the handshake matters here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


class ServerFailed(AssertionError):
    """The server did not come up, or went down by itself; carries what it printed last, and its exit code if it ended."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class RealServer:
    """One data directory and the process that serves it, if one runs."""

    def __init__(self, data_dir: Path, *arguments: str, config: str = "", inside: Sequence[str] = ()) -> None:
        """Prepare a server. ``inside``: a command that runs its arguments in its place, in surroundings of its own."""
        self.data_dir = data_dir
        self.port = free_port()
        self.starts = 0
        self._log = data_dir.with_name(data_dir.name + ".log")
        self._inside = list(inside)
        self._arguments = list(arguments)
        if config:
            config_file = data_dir.with_name(data_dir.name + ".toml")
            config_file.write_text(config)
            self._arguments += ["--config", str(config_file)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> None:
        """Start the process and return once it answers."""
        self._launch()
        self._await_port()

    def start_or_give_up(self) -> tuple[int | None, str]:
        """Start the process; return None once it listens, else its exit code, and what it printed."""
        printed_before = self._log.stat().st_size if self._log.exists() else 0
        code = None
        try:
            self.start()
        except ServerFailed as failed:
            code = failed.code
            if code is None:
                raise
        return code, self._log.read_bytes()[printed_before:].decode(errors="replace")

    def start_in_vain(self, within_s: float = 30.0) -> tuple[int, str]:
        """Start a process that is expected to give up; return its exit code and what it printed."""
        printed_before = self._log.stat().st_size if self._log.exists() else 0
        self._launch()
        assert self._process is not None
        process, self._process = self._process, None
        try:
            code = process.wait(within_s)
        except subprocess.TimeoutExpired as expired:
            process.kill()
            process.wait()
            raise ServerFailed(f"it did not give up within {within_s} s:\n{self.log_tail()}") from expired
        return code, self._log.read_bytes()[printed_before:].decode(errors="replace")

    def _launch(self) -> None:
        assert self._process is None, "the server runs already"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WAYMAKER_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._inside,
                    *(sys.executable, "-c", LAUNCH, "serve"),
                    *("--data-dir", str(self.data_dir), "--listen", self.address),
                    # Beside the port may lie another test's.
                    *(() if "--link-listen" in self._arguments else ("--link-listen", "127.0.0.1:0")),
                    *self._arguments,
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        self.starts += 1

    def kill(self) -> None:
        """Kill the process (SIGKILL): no warning, no farewell."""
        self._end(signal.SIGKILL)

    def terminate(self, within_s: float = 30.0) -> int:
        """Stop the process (SIGTERM); return the exit code of an orderly stop."""
        return self._end(signal.SIGTERM, within_s)

    def close(self) -> None:
        """End a test: leave no process behind, whatever happened."""
        if self._process is not None:
            self.kill()

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:]) if self._log.exists() else ""

    def _end(self, with_signal: signal.Signals, within_s: float = 30.0) -> int:
        assert self._process is not None, "the server does not run"
        process, self._process = self._process, None
        if process.poll() is not None and with_signal is signal.SIGKILL:
            raise ServerFailed(f"the server ended by itself with {process.returncode}:\n{self.log_tail()}")
        process.send_signal(with_signal)
        try:
            return process.wait(within_s)
        except subprocess.TimeoutExpired as expired:
            process.kill()
            process.wait()
            raise ServerFailed(f"no end within {within_s} s of {with_signal.name}:\n{self.log_tail()}") from expired

    def _await_port(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                code, self._process = self._process.returncode, None
                raise ServerFailed(f"the server ended with {code} before it answered:\n{self.log_tail()}", code)
            if answers(self.port, tls="--tls-cert" in self._arguments):
                return
            time.sleep(0.02)
        self.close()
        raise ServerFailed(f"the server did not answer within {START_S_MAX} s:\n{self.log_tail()}")

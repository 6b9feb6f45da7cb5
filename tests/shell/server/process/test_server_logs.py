"""Logs that cannot be written: they cost lines and nothing else, in the process and in its parts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.kit.real_server import LAUNCH, answers, free_port
from tests.kit.waiting import wait_for
from tests.shell.server.process.test_server_process import create, publish, scan
from waymaker.server.logs import LogWriter, lost


@contextlib.contextmanager
def serving(
    directory: Path, *arguments: str, without_stderr: bool = False, **streams: Any
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    command = [sys.executable, "-c", LAUNCH, "serve", "--data-dir", str(directory), "--listen", f"127.0.0.1:{port}"]
    if without_stderr:
        # The shell closes it: Python code between fork and exec must not run beside gRPC's threads.
        command = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    process: Any = subprocess.Popen(
        [*command, "--log-level", "debug", *arguments], **{"stdout": subprocess.DEVNULL} | streams
    )
    try:
        wait_for(lambda: process.poll() is not None or answers(port), 30)
        assert process.poll() is None, process.returncode
        yield process, f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def blocked_pipe() -> tuple[int, int]:
    """A pipe without room, and its reading end, which nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    return writing, reading


def work_and_stop(process: subprocess.Popen[bytes], address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        create(channel, "s")
        for n in range(20):
            assert publish(channel, "s", b"%d" % n) == n + 1
        process.send_signal(signal.SIGHUP)
        assert len(scan(channel, "s")) == 20
    process.send_signal(signal.SIGTERM)
    return process.wait(20)


@pytest.mark.process
@pytest.mark.parametrize("kind", ["closed pipe", "full device", "pipe that nobody reads", "closed"])
def test_a_log_that_cannot_be_written_changes_no_answer_and_no_exit_code(tmp_path: Path, kind: str) -> None:
    reading = -1
    if kind == "closed pipe":
        stderr = closed_pipe()
    elif kind == "full device":
        stderr = os.open("/dev/full", os.O_WRONLY)
    elif kind == "closed":
        stderr = os.open(os.devnull, os.O_WRONLY)
    else:
        stderr, reading = blocked_pipe()
    try:
        with serving(tmp_path / "d", stderr=stderr, without_stderr=kind == "closed") as (process, address):
            assert work_and_stop(process, address) == 0
    finally:
        os.close(stderr)
        if reading >= 0:
            os.close(reading)


@pytest.mark.process
def test_an_announcement_that_nobody_reads_does_not_stop_the_server(tmp_path: Path) -> None:
    stdout = closed_pipe()
    try:
        with serving(tmp_path / "d", "--json", stdout=stdout, stderr=subprocess.DEVNULL) as (process, address):
            assert work_and_stop(process, address) == 0
    finally:
        os.close(stdout)


def test_lines_that_a_slow_reader_leaves_behind_are_bounded_and_counted() -> None:
    writing, reading = blocked_pipe()
    with open(writing, "w") as stream:
        before, writer = lost.lines, LogWriter(stream)
        started = time.monotonic()
        for _ in range(10_000):
            writer.write("y" * 1_023 + "\n")
        assert time.monotonic() - started < 5
        assert 10_000 - (lost.lines - before) <= (4 << 20) // 1_024
        writer.wait_until_written(0.05)
        os.set_blocking(reading, False)
        tail = b""
        deadline = time.monotonic() + 10
        while not tail.endswith(b"y\n") and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                tail = os.read(reading, 1 << 16)
        assert tail.endswith(b"y\n"), "once somebody reads, it goes on"
        while writer._waiting_bytes and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 1 << 20)
        assert writer._waiting_bytes == 0
    os.close(reading)

"""Clients and the process around them: forks, threads, other event loops, and the end of the program.

Each program runs as a process of its own against a fake server here, for a fork in the process of the tests would copy its
threads' locks.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.client_fake_server import FakeServer, FakeStream, threaded_server
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

BEGINNING = """
import asyncio, gc, os, signal, sys, threading, time
import waymaker
target = sys.argv[1]

def threads():
    return sum(thread.name == "waymaker-sync" for thread in threading.enumerate())

def in_child(work, end=sys.exit):
    \"\"\"What `work` says in a forked child, which ends within 10 s as any program does, or by `end`.\"\"\"
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        signal.alarm(10)
        began = time.monotonic()
        try:
            print("child:", work())
        except waymaker.WaymakerError as error:
            print("child:", error.code, error)
        print("child in time:", time.monotonic() - began < 5)
        gc.collect()
        sys.stdout.flush()
        end()
    print("child's end:", os.waitpid(pid, 0)[1])

def fresh():
    with waymaker.connect_sync(target, timeout=5) as client:
        return client.list_streams()
"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with threaded_server() as fake:
        fake.streams["s"] = FakeStream(pb.StreamConfigPb(name="s"))
        yield fake


def program(server: FakeServer, tmp_path: Path, text: str) -> str:
    """Runs a program to its end, which has to be good, and returns what it printed."""
    script = tmp_path / "program.py"
    script.write_text(BEGINNING + textwrap.dedent(text))
    command = [sys.executable, "-W", "always::ResourceWarning", str(script), server.target]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def test_a_child_forked_beside_an_open_client_is_told_so_and_leaves_its_parent_alone(
    server: FakeServer, tmp_path: Path
) -> None:
    printed = program(
        server,
        tmp_path,
        """
        with waymaker.connect_sync(target, timeout=5) as client:
            client.publish("s", "a", b"x")
            client.create_consumer("s", "c")
            message = client.fetch("s", "c")[0]

            def inherited():
                global client, message
                for use in (client.list_streams, message.ack, lambda: message.ack(wait=True), lambda: next(client.watch())):
                    try:
                        use()
                    except waymaker.ForkedError:
                        continue
                    return f"{use} went through"
                client.close()
                del client, message
                return "refused"

            in_child(fresh)
            in_child(inherited)
            print("parent:", client.list_streams())
        in_child(fresh)
        """,
    )
    assert "child: forked this process was forked while its parent had a client open" in printed
    assert "'spawn'" in printed
    assert "child: refused" in printed
    assert "parent: ['s']" in printed
    assert "child: ['s']" in printed, "forked after the client was closed, it can open its own"
    assert printed.count("child in time: True") == printed.count("child's end: 0") == 3
    assert len(server.sessions) == 2, "the parent's, which no child disturbed, and that of the last child"


def test_worker_processes_of_every_start_method_get_a_client_or_a_clear_error(
    server: FakeServer, tmp_path: Path
) -> None:
    printed = program(
        server,
        tmp_path,
        """
        import multiprocessing

        def job(target):
            try:
                with waymaker.connect_sync(target, timeout=5) as client:
                    return str(client.list_streams())
            except waymaker.WaymakerError as error:
                return error.code

        def workers(method):
            with multiprocessing.get_context(method).Pool(2) as pool:
                return pool.map_async(job, [target] * 4).get(40)

        if __name__ == "__main__":
            print("fork before:", workers("fork"))
            with waymaker.connect_sync(target, timeout=5) as client:
                client.list_streams()
                print("fork beside:", workers("fork"))
                print("spawn beside:", workers("spawn"))
                client.list_streams()
            print("fork after:", workers("fork"))
        """,
    )
    assert printed.splitlines() == [
        f"fork before: {['''['s']'''] * 4}",
        f"fork beside: {['forked'] * 4}",
        f"spawn beside: {['''['s']'''] * 4}",
        f"fork after: {['''['s']'''] * 4}",
    ]


def test_a_child_forked_beside_an_asynchronous_client_is_told_so(server: FakeServer, tmp_path: Path) -> None:
    printed = program(
        server,
        tmp_path,
        """
        async def main():
            async with waymaker.connect(target, timeout=5) as client:
                async def again():
                    async with waymaker.connect(target, timeout=5) as other:
                        return await other.list_streams()

                async def inherited():
                    await client.list_streams()

                # Unwinding would close the loop, which the child shares with its parent in the kernel.
                at_once = lambda: os._exit(0)
                in_child(lambda: asyncio.run(again()), at_once)
                in_child(lambda: asyncio.run(inherited()), at_once)
                print("parent:", await client.list_streams())

        asyncio.run(main())
        """,
    )
    assert printed.count("child: forked") == 2
    assert "parent: ['s']" in printed
    assert len(server.sessions) == 1


def test_all_synchronous_clients_share_one_thread_which_ends_with_the_last(server: FakeServer, tmp_path: Path) -> None:
    printed = program(
        server,
        tmp_path,
        """
        from concurrent.futures import ThreadPoolExecutor

        first = waymaker.connect_sync(target, timeout=5)
        print("made", threads())
        with first, waymaker.connect_sync(target, timeout=5) as second, ThreadPoolExecutor(8) as pool:
            print("open", threads())
            seqs = list(pool.map(lambda n: (first, second)[n % 2].publish("s", "a", b"x"), range(2_000)))
            print("stored", len(set(seqs)))
            first.close()
            print("one left", threads(), second.list_streams())
        print("closed", threads())
        print("again", fresh(), threads())
        """,
    )
    assert printed.splitlines() == ["made 0", "open 1", "stored 2000", "one left 1 ['s']", "closed 0", "again ['s'] 0"]


def test_a_synchronous_client_works_inside_a_running_loop(server: FakeServer, tmp_path: Path) -> None:
    printed = program(
        server,
        tmp_path,
        """
        async def notebook():
            with waymaker.connect_sync(target, timeout=5) as client:
                print(client.publish("s", "a", b"x"), [m.seq for m in client.scan("s", "a")])
            print(fresh())

        asyncio.run(notebook())
        """,
    )
    assert printed.splitlines() == ["1 [1]", "['s']"]


def test_a_client_left_open_confirms_its_acknowledgements_at_the_end_of_the_program(
    server: FakeServer, tmp_path: Path
) -> None:
    program(
        server,
        tmp_path,
        """
        client = waymaker.connect_sync(target, timeout=5).__enter__()
        client.publish_many("s", [b"x"] * 3, subject="a")
        client.create_consumer("s", "c")
        for message in client.subscribe("s", "c", stop_when_empty=True):
            message.ack()
        """,
    )
    assert server.streams["s"].consumers["c"].acked == [(pl.ACK, seq) for seq in (1, 2, 3)]


def test_what_callers_give_is_run_on_their_own_thread(server: FakeServer, tmp_path: Path) -> None:
    """A stream may be restored from the backup that another client is making, and a callback may call."""
    printed = program(
        server,
        tmp_path,
        """
        with waymaker.connect_sync(target, timeout=5) as one, waymaker.connect_sync(target, timeout=5) as other:
            told = lambda summary: print(summary.messages, one.list_streams())
            print(other.restore(one.backup("s", told), name="copy").name)

            def broken():
                yield b"half"
                raise ZeroDivisionError

            try:
                other.restore(broken(), name="half")
            except ZeroDivisionError:
                print(other.list_streams())

            async def on_the_loop():
                return one.list_streams()

            try:
                one._wait(on_the_loop())
            except waymaker.UsageError as error:
                print(error)
        """,
    )
    assert printed.splitlines() == [
        "2 ['s']",
        "copy",
        "['s']",
        "called on the synchronous clients' own thread, which cannot wait for itself",
    ]
    assert server.restored.startswith(b"".join(server.archive))


def test_clients_on_two_loops_are_warned_of(server: FakeServer, tmp_path: Path) -> None:
    printed = program(
        server,
        tmp_path,
        """
        import logging
        logging.basicConfig(stream=sys.stdout, format="%(message)s")

        async def main():
            async with waymaker.connect(target, timeout=5), waymaker.connect(target, timeout=5):
                print("one loop")
                await asyncio.to_thread(fresh)

        asyncio.run(main())
        """,
    )
    lines = printed.splitlines()
    assert lines[0] == "one loop"
    assert "two event loops" in lines[1]

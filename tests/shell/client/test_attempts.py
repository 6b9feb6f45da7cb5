"""What counts as an attempt: a delivery that reached the program, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import grpc
import pytest

import waymaker
from tests.kit.real_server import RealServer
from tests.kit.wire_client import WireClient


def make(wm: waymaker.SyncClient, count: int, **settings: object) -> None:
    """A stream with messages, and a consumer whose dead letters stay in the stream."""
    wm.create_stream("s", subjects_filter=("a", "dead"))
    made = {"filter_subject": "a", "dead_letter_subject": "dead", "ack_wait_ms": 60_000, "max_deliver": 5}
    wm.create_consumer("s", "c", **(made | settings))  # type: ignore[arg-type]
    wm.publish_many("s", [b"%d" % n for n in range(count)], subject="a")


def dead(wm: waymaker.SyncClient) -> list[bytes]:
    return [message.payload for message in wm.scan("s", "dead")]


def rest(wm: waymaker.SyncClient) -> list[tuple[int, int]]:
    """Sequence and delivery count of all that is delivered now."""
    found = []
    while messages := wm.fetch("s", "c", 1_000):
        found += [(message.seq, message.deliver_count) for message in messages]
    return sorted(found)


def test_orderly_closes_give_up_nothing(server: RealServer, wm: waymaker.SyncClient) -> None:
    make(wm, 100)
    for _ in range(6):
        with waymaker.connect_sync(server.address) as other, other.subscribe("s", "c") as subscription:
            subscription.next(5.0)
    assert dead(wm) == []
    got = rest(wm)
    assert [seq for seq, _ in got] == list(range(2, 101)) or [seq for seq, _ in got] == list(range(7, 101))
    assert {count for _, count in got} == {1}


PROGRAM = """
    import asyncio, os, sys
    import waymaker

    async def main():
        async with waymaker.connect(sys.argv[1]) as wm:
            async for message in wm.subscribe("s", "c"):
                if message.payload == b"30":
                    os._exit(1)
                await message.ack()

    asyncio.run(main())
"""


def test_crashes_on_one_message_give_up_that_one(server: RealServer, wm: waymaker.SyncClient, tmp_path: Path) -> None:
    make(wm, 100, ack_wait_ms=1_000)
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    for _ in range(5):
        assert subprocess.run([sys.executable, program, server.address], timeout=60, check=False).returncode == 1
        time.sleep(1.2)  # what was reported of the poisonous one waits for its answer
    deadline = time.monotonic() + 10
    while not dead(wm) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert dead(wm) == [b"30"]
    assert rest(wm) == [(seq, 1) for seq in range(32, 101)]


def test_a_reader_that_stands_still_holds_little_and_loses_nothing(server: RealServer, wm: waymaker.SyncClient) -> None:
    make(wm, 4_000, ack_wait_ms=1_000, max_deliver=2)
    raw = WireClient(server.address)
    call = raw.stream("Subscribe", stream="s", consumer="c", batch_size=1)
    assert next(call).message.seq == 1
    time.sleep(0.3)
    taken = 0
    while messages := wm.fetch("s", "c", 500):
        for message in messages:
            message.ack()
        messages[-1].ack(wait=True)
        taken += len(messages)
    assert taken >= 4_000 - 128, "so many are not kept from others"
    time.sleep(5)
    assert dead(wm) == [], "of what waits in the transport nothing was seen"
    call.cancel()
    raw.close()


def test_a_subscription_of_small_batches_goes_on_as_it_is_answered(server: RealServer, wm: waymaker.SyncClient) -> None:
    make(wm, 150)
    raw = WireClient(server.address)
    seqs = []
    for event in raw.stream("Subscribe", stream="s", consumer="c", batch_size=1, stop_when_empty=True):
        if event.HasField("message"):
            seqs.append(event.message.seq)
            raw.call("Ack", stream="s", consumer="c", seq=event.message.seq)
    assert seqs == list(range(1, 151))
    raw.close()


def test_fetches_that_time_out_at_the_client_take_nothing(server: RealServer, wm: waymaker.SyncClient) -> None:
    make(wm, 200)
    raw = WireClient(server.address)
    request = raw.request("Fetch", stream="s", consumer="c", batch_size=16)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for _ in range(4):
            with pytest.raises(grpc.RpcError):
                raw._unary("Fetch")(request, timeout=0.1)
        for _ in range(4):
            with pytest.raises(waymaker.DeadlineExceededError):
                wm.fetch("s", "c", 16, timeout=0.1)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    time.sleep(0.5)
    assert rest(wm) == [(seq, 1) for seq in range(1, 201)]
    raw.close()


async def test_a_fetch_that_keeps_timing_out_drops_nothing_unseen(server: RealServer, wm: waymaker.SyncClient) -> None:
    make(wm, 10, ack_wait_ms=200, max_deliver=1)
    async with waymaker.connect(server.address) as client:
        for _ in range(10):
            task = asyncio.ensure_future(client.fetch("s", "c", 10))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    async with waymaker.connect(server.address) as client:
        assert [(m.seq, m.deliver_count) for m in await client.fetch("s", "c", 100)] == [(n, 1) for n in range(1, 11)]


def test_what_a_killed_server_had_sent_and_nobody_reported_counts_for_nothing(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "data")
    server.start()
    try:
        with waymaker.connect_sync(server.address) as wm:
            make(wm, 50, max_deliver=2)
        for _ in range(4):
            with waymaker.connect_sync(server.address) as wm:
                first = wm.subscribe("s", "c").next(10.0)
                assert first is not None
                first.ack(wait=True)  # with it the server logs what is out
                server.kill()
            server.start()
        with waymaker.connect_sync(server.address) as wm:
            assert dead(wm) == []
            assert rest(wm) == [(seq, 1) for seq in range(5, 51)]
    finally:
        server.close()


async def test_slow_work_with_a_short_wait_runs_each_message_once(server: RealServer, wm: waymaker.SyncClient) -> None:
    make(wm, 250, ack_wait_ms=1_000)
    runs: list[int] = []
    async with waymaker.connect(server.address) as client:
        async for message in client.subscribe("s", "c", stop_when_empty=True):
            runs.append(message.seq)
            await asyncio.sleep(0.02)
            message.ack()
    assert sorted(set(runs)) == list(range(1, 251))
    assert len(runs) <= 255

"""Consumers that outlive their clients no longer than they were made for: over the wire, in the client, from the CLI."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import grpc
import pytest

import waymaker
from tests.kit.real_server import RealServer
from tests.kit.waiting import wait_for
from waymaker.cli.commands import receive
from waymaker_proto import waymaker_streams_pb2 as pb
from waymaker_proto import waymaker_streams_pb2_grpc as pb_grpc


def test_a_killed_tail_leaves_nothing_behind_and_the_interest_stream_lets_go(
    server: RealServer, wm: waymaker.SyncClient
) -> None:
    wm.create_stream("s", retention="interest")
    program = (
        "import sys; from waymaker.cli.commands import receive; receive.TEMPORARY_MS = 1_500;"
        "from waymaker.cli import main; sys.argv = ['waymaker', *sys.argv[1:]]; main()"
    )
    command = [sys.executable, "-c", program, "sub", "s", "--no-ack", "--server", server.address]
    tail = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: len(wm.list_consumers("s")) == 1)
        assert wm.list_consumers("s")[0].config.inactive_ms == 1_500
        wm.publish_many("s", [b"x"] * 5, subject="a")
        time.sleep(3.0)
        assert len(wm.list_consumers("s")) == 1, "a tail that runs keeps its consumer"
        assert wm.stream_info("s").msg_count == 5
    finally:
        os.kill(tail.pid, signal.SIGKILL)
        tail.communicate()
    wait_for(lambda: not wm.list_consumers("s"))
    wait_for(lambda: wm.stream_info("s").msg_count == 0)


def test_the_temporary_consumers_of_the_cli_outlive_a_kill_by_a_minute() -> None:
    assert receive.TEMPORARY_MS == 60_000


def test_the_client_tells_the_timeout_and_the_server_keeps_to_it(wm: waymaker.SyncClient) -> None:
    wm.create_stream("s")
    wm.create_consumer("s", "brief", inactive_ms=1_000)
    wm.create_consumer("s", "long", inactive_ms=3_600_000, policy="new")
    wm.create_consumer("s", "long", inactive_ms=3_600_000, policy="new")
    wm.create_consumer("s", "ever")
    assert wm.consumer_info("s", "long").config.inactive_ms == 3_600_000
    assert wm.consumer_info("s", "ever").config.inactive_ms == 0
    assert [info.config.inactive_ms for info in wm.list_consumers("s")][-2:] == [0, 3_600_000]
    wait_for(lambda: [info.name for info in wm.list_consumers("s")] == ["ever", "long"])
    with pytest.raises(waymaker.WaymakerError, match="exists with another"):
        wm.create_consumer("s", "long", inactive_ms=3_600_001)


def test_a_new_consumer_made_again_with_another_timeout_is_another(wm: waymaker.SyncClient) -> None:
    wm.create_stream("s")
    wm.create_consumer("s", "c", policy="new")
    wm.publish("s", "a", b"x")
    wm.create_consumer("s", "c", policy="new")
    with pytest.raises(waymaker.WaymakerError, match="exists with another"):
        wm.create_consumer("s", "c", policy="new", inactive_ms=5_000)


@pytest.mark.parametrize("value", [0, -1, 999, 1 << 62, "5m"])
def test_a_timeout_out_of_range_is_refused(wm: waymaker.SyncClient, value: object) -> None:
    wm.create_stream("s")
    with pytest.raises((waymaker.WaymakerError, TypeError), match="inactive_ms"):
        wm.create_consumer("s", "c", inactive_ms=value)  # type: ignore[arg-type]
    assert wm.list_consumers("s") == []


def test_other_systems_name_is_answered_with_ours(wm: waymaker.SyncClient) -> None:
    with pytest.raises(waymaker.WaymakerError, match="did you mean inactive_ms"):
        wm.create_consumer("s", "c", inactive_threshold=5_000)  # type: ignore[call-arg]


def test_metadata_of_the_contracts_call_carries_it(server: RealServer, wm: waymaker.SyncClient) -> None:
    wm.create_stream("s")

    async def create(inactive: str) -> pb.CreateConsumerResponse:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = pb_grpc.WaymakerStreamsServiceStub(channel)
            request = pb.CreateConsumerRequest(stream="s", config=pb.ConsumerConfigPb(name="c"))
            response: pb.CreateConsumerResponse = await stub.CreateConsumer(
                request, metadata=(("wmkr-inactive-ms", inactive),)
            )
            return response

    assert asyncio.run(create("999")).result_code == "invalid_config"
    with pytest.raises(grpc.aio.AioRpcError, match="wmkr-inactive-ms must be a whole number"):
        asyncio.run(create("soon"))
    assert asyncio.run(create("2000")).success
    assert wm.consumer_info("s", "c").config.inactive_ms == 2_000
    wait_for(lambda: wm.list_consumers("s") == [])

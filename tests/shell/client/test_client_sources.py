"""Sources through the client and the command line, against a real server, killed in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from click.testing import CliRunner

import waymaker
from tests.kit.real_server import RealServer
from waymaker.cli import main

pytestmark = [pytest.mark.process, pytest.mark.slow]


def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(400):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def cli(server: RealServer, *arguments: str) -> tuple[int, str]:
    with CliRunner().isolation(env={"WAYMAKER_SERVER": server.address}) as (out, err, _):
        code = main(arguments)
        return code, out.getvalue().decode() + err.getvalue().decode()


def test_a_stream_copies_through_a_kill_of_the_server(server: RealServer, wm: waymaker.SyncClient) -> None:
    wm.create_stream("orders")
    wm.create_stream(
        "audit", sources=[{"source_stream": "orders", "subject_transform": (">", "audit.>"), "on_drop": "skip"}]
    )
    wm.publish_many("orders", [("eu.new", b"%d" % number) for number in range(2_000)])
    server.kill()
    server.start()
    with waymaker.connect_sync(server.address, timeout=20.0) as client:
        client.publish("orders", "eu.new", b"last")
        eventually(lambda: client.stream_info("audit").last_seq == 2_001)
        info = client.stream_info("audit")
        source, status = info.config.sources[0], info.sources[0]
        assert source.subject_transform == waymaker.SubjectTransform(">", "audit.>")
        assert source.on_drop is waymaker.OnDrop.SKIP_TO_FIRST_AVAILABLE
        assert (status.stream, status.source_stream, status.last_sourced_seq) == ("audit", "orders", 2_001)
        assert client.stream_sources() == [status]
        copies = list(client.scan("audit", "audit.eu.new"))
        assert [copy.payload for copy in copies] == [*(b"%d" % number for number in range(2_000)), b"last"]
        assert dict(copies[9].header_pairs)["waymaker-source-seq"] == "10"


def test_the_command_line_makes_and_shows_sources(server: RealServer, wm: waymaker.SyncClient) -> None:
    wm.create_stream("orders")
    wm.publish("orders", "eu.new", b"1")
    code, text = cli(
        server, "stream", "add", "audit", "--source", "orders,filter=eu.>,transform=eu.>:europe.>", "--source", "gone"
    )
    assert code == 0, text
    eventually(lambda: wm.stream_info("audit").last_seq == 1)
    code, text = cli(server, "stream", "info", "audit")
    assert code == 0
    assert "orders,filter=eu.>,transform=eu.>:europe.>" in text
    assert "source orders: copied up to sequence 1" in text
    assert "source gone: copied up to sequence 0" in text and "does not exist" in text
    code, text = cli(server, "stream", "sources", "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["stream"], row["source"], row["last_sourced_seq"]) for row in rows] == [
        ("audit", "orders", 1),
        ("audit", "gone", 0),
    ]
    code, text = cli(server, "stream", "add", "orders2", "--source", "orders2")
    assert code != 0 and "its own source" in text
    code, text = cli(server, "stream", "add", "x", "--source", "a,transform=b")
    assert code == 2 and "PATTERN:DESTINATION" in text


@pytest.mark.parametrize(
    ("sources", "problem"),
    [
        ("orders", "a list of sources"),
        ([5], "a SourceConfig"),
        ([{"filter_subject": "a"}], "needs source_stream"),
        ([{"source_stream": "a", "filter": "b"}], "filter_subject"),
        ([{"source_stream": "a", "subject_transform": "a"}], "a pair"),
        ([{"source_stream": "a", "on_drop": "stop"}], "on_drop"),
        ([{"source_stream": "a", "start_seq": -1}], "start_seq"),
    ],
)
def test_what_is_no_source_is_refused_before_it_is_sent(wm: waymaker.SyncClient, sources: object, problem: str) -> None:
    with pytest.raises(waymaker.UsageError, match=problem):
        wm.create_stream("s", sources=sources)  # type: ignore[arg-type]

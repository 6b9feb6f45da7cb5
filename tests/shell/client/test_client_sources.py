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


def test_a_sketch_counts_a_stream_through_a_kill_of_the_server(server: RealServer, wm: waymaker.SyncClient) -> None:
    wm.create_stream("orders")
    amounts, customers = wm.sketch("amounts"), wm.sketch("customers")
    amounts.create_t_digest(sources=["orders"])
    customers.create_top_k(5, sources=[{"source_stream": "orders", "filter_subject": "eu.*.new"}], item=2)
    wm.publish_many("orders", [(f"eu.c{number % 9}.new", b"%d.5" % number) for number in range(2_000)])
    server.kill()
    server.start()
    with waymaker.connect_sync(server.address, timeout=20.0) as client:
        amounts, customers = client.sketch("amounts"), client.sketch("customers")
        client.publish("orders", "us.c1.new", b"free")
        eventually(lambda: customers.info().sources[0].last_sourced_seq == 2_001)
        eventually(lambda: amounts.info().sources[0].last_sourced_seq == 2_001)
        assert amounts.quantiles(0.0, 1.0) == [0.5, 1999.5]
        info = amounts.info()
        assert (info.added, info.skipped, info.item) == (2_000, 1, "payload")
        assert "message 2001 is not counted: its payload 'free'" in info.sources[0].last_error
        assert [each.value for each in customers.top(2)] == [b"c0", b"c1"]
        assert customers.top(1)[0].times == 223
        assert (customers.info().item, customers.info().added, customers.info().skipped) == (2, 2_000, 0)
        assert {each.stream for each in client.stream_sources()} == {"sketch:amounts", "sketch:customers"}


def test_settings_of_a_sketch_that_cannot_be_meant_are_refused(wm: waymaker.SyncClient) -> None:
    sketch = wm.sketch("odd")
    with pytest.raises(waymaker.InvalidConfigError, match="name sources, or no item"):
        sketch.create_hyperloglog(item="payload")
    with pytest.raises(waymaker.InvalidConfigError, match="item is payload or token"):
        sketch.create_t_digest(sources=["orders"], item="subject")
    with pytest.raises(waymaker.UsageError, match="the number of a token"):
        sketch.create_hyperloglog(sources=["orders"], item="headers")  # type: ignore[arg-type]
    with pytest.raises(waymaker.UsageError, match="item"):
        sketch.create_hyperloglog(sources=["orders"], item=0)
    with pytest.raises(waymaker.UsageError, match="sourcs"):
        sketch.create_hyperloglog(sourcs=["orders"])  # type: ignore[call-arg]


def test_the_command_line_makes_and_shows_sketches_of_streams(server: RealServer, wm: waymaker.SyncClient) -> None:
    wm.create_stream("orders")
    wm.publish_many("orders", [("eu.ada", b"1"), ("eu.bob", b"2"), ("eu.ada", b"3"), ("us", b"4")])
    code, text = cli(server, "sketch", "create", "who", "count-min", "--source", "orders", "--item", "token:2")
    assert code == 0, text
    eventually(lambda: wm.sketch("who").info().sources[0].last_sourced_seq == 4)
    assert cli(server, "sketch", "ask", "who", "counts", "ada")[1].split() == ["ada", "2"]
    found = json.loads(cli(server, "sketch", "info", "who", "--json")[1])
    assert (found["item"], found["added"], found["skipped"]) == ("token:2", 3, 1)
    assert found["sources"][0]["last_sourced_seq"] == 4
    text = cli(server, "sketch", "info", "who")[1]
    assert "source orders: added up to sequence 4; source 'orders': message 4 is not counted" in text
    code, text = cli(server, "sketch", "create", "odd", "bloom", "--source", "orders", "--item", "token")
    assert code == 2 and "write subject, payload or token:N" in text

"""What operators see: probes, metrics, logs, and a page of documentation that tells the truth."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from tests.kit.server_fakes import Fixture, serving
from waymaker.server.auth import tokens
from waymaker.server.config import Address, ServerConfig
from waymaker.server.grpc.listener import StartError
from waymaker.server.http.metrics import (
    CONSUMER_METRICS,
    NODE_METRICS,
    SERVICE_METRICS,
    SHELL_METRICS,
    STREAM_METRICS,
    reference,
)
from waymaker.server.logs import configure_logs
from waymaker.server.server import Listeners
from waymaker_core.api.requests import ConsumerInfo
from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_core.node.service_figures import ServiceFigures
from waymaker_core.node.stats import NodeStats
from waymaker_proto import pipeline_pb2 as pipe
from waymaker_proto import waymaker_streams_pb2 as pb

DOCS = Path(__file__).resolve().parents[4] / "docs" / "operations.md"
ANYWHERE = Address("127.0.0.1", 0)
INFO = ConsumerInfo(ConsumerConfig('c"\n'), 1, 0, 0, 0, 3, 5, 8)


async def get(s: Fixture, path: str) -> tuple[int, str]:
    operators = s.server.listeners.operators
    assert operators is not None
    reader, writer = await asyncio.open_connection(*operators.address)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    data = await reader.read()
    writer.close()
    head, _, text = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), text.decode()


async def test_probes_follow_the_life_of_the_server() -> None:
    async with serving(metrics_listen=ANYWHERE) as s:
        assert await get(s, "/livez") == (200, "ok\n")
        assert await get(s, "/readyz") == (200, "ok\n")
        assert (await get(s, "/other"))[0] == 404
        s.server.listeners.condition.not_ready = "draining"
        assert await get(s, "/readyz") == (503, "draining\n")
        assert (await get(s, "/livez"))[0] == 200
        s.server.listeners.condition.not_alive = "the node has stopped"
        assert (await get(s, "/livez"))[0] == 503


def test_a_server_loads_an_http_server_only_where_it_has_such_a_listener() -> None:
    script = "import sys, waymaker.server.run; print(*({'uvicorn', 'starlette', 'anyio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


async def test_every_metric_of_the_tables_is_served_under_its_name() -> None:
    async with serving(metrics_listen=ANYWHERE) as s:
        s.node.consumer_figures = lambda: iter([("s", INFO)])
        s.node.streams["s"], s.node.configs["s"] = [], StreamConfig("s")
        await s.stub("Publish")(pb.PublishRequest(stream="s", subject="a").SerializeToString())
        await asyncio.sleep(0.02)
        _, text = await get(s, "/metrics")
        for described in (*NODE_METRICS, *SERVICE_METRICS, *STREAM_METRICS, *CONSUMER_METRICS, *SHELL_METRICS):
            ending = {"counter": "_total", "histogram": "_bucket", "summary": "_count"}.get(described.kind, "")
            assert any(
                line.startswith((f"{described.name}{ending} ", f"{described.name}{ending}{{"))
                for line in text.splitlines()
            ), described.name
        assert 'waymaker_stream_last_seq{stream="s"} 1.0' in text
        assert 'waymaker_consumer_lag{consumer="c\\"\\n",stream="s"} 8.0' in text
        assert 'waymaker_calls_total{method="Publish",status="OK"} 1.0' in text
        assert "process_resident_memory_bytes" in text


def test_every_figure_of_the_services_is_a_metric() -> None:
    assert {described.attribute for described in SERVICE_METRICS} == set(ServiceFigures.__slots__)


def test_every_figure_of_the_node_is_a_metric() -> None:
    told = {described.attribute for described in NODE_METRICS}
    apart = {"syncs", "sync_ns_total", "sync_buckets", "checkpoint_ns_last", "recovered_orphans"}
    assert told | apart == set(NodeStats.__slots__)


async def test_syncs_are_a_histogram_in_seconds() -> None:
    async with serving(metrics_listen=ANYWHERE) as s:
        s.node.stats.count_sync(150_000)
        s.node.stats.count_sync(10_000_000_000)
        _, text = await get(s, "/metrics")
        assert 'waymaker_sync_seconds_bucket{le="0.0001"} 0.0' in text
        assert 'waymaker_sync_seconds_bucket{le="0.0002"} 1.0' in text
        assert 'waymaker_sync_seconds_bucket{le="+Inf"} 2.0' in text
        assert "waymaker_sync_seconds_sum 10.00015" in text


async def test_calls_of_sessions_are_counted_like_others() -> None:
    async with serving(metrics_listen=ANYWHERE) as s:
        path = "/waymaker.pipeline.WaymakerPipelineService/Session"
        call = s.channel.stream_stream(path, pipe.Frame.SerializeToString, None)()
        batch = pipe.PublishBatch(id=1, stream="none", subjects=["a"], payloads=[b"x"])
        await call.write(
            pipe.Frame(hello=pipe.Hello(version=1), publishes=[batch], calls=[pipe.Call(id=2, method="ListStreams")])
        )
        await call.read()
        await call.read()
        _, text = await get(s, "/metrics")
        assert 'waymaker_calls_total{method="Session.Publish",status="OK"} 1.0' in text
        assert 'waymaker_calls_total{method="ListStreams",status="OK"} 1.0' in text
        assert "waymaker_sessions 1.0" in text


async def test_a_scrape_leaves_out_what_is_too_much_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waymaker.server.http.metrics.SERIES_MAX", 2)
    async with serving(metrics_listen=ANYWHERE) as s:
        s.node.streams.update({name: [] for name in "abcde"})
        s.node.stats.streams = 5
        _, text = await get(s, "/metrics")
        assert text.count("waymaker_stream_messages{") == 2
        assert "waymaker_series_omitted 3.0" in text


async def test_an_address_in_use_is_refused_and_says_what_to_do() -> None:
    async with serving(metrics_listen=ANYWHERE) as s:
        operators = s.server.listeners.operators
        assert operators is not None
        with pytest.raises(StartError, match="address already in use"):
            Listeners(changed(s, listen=s.server.listeners.address))
        with pytest.raises(StartError, match="metrics"):
            Listeners(changed(s, metrics_listen=operators.address))


def changed(s: Fixture, **changes: Address) -> ServerConfig:
    return dataclasses.replace(s.server.config, **changes)  # type: ignore[arg-type]


def test_logs_are_one_json_object_a_line_with_the_libraries_among_them() -> None:
    out = io.StringIO()
    try:
        configure_logs("json", "info", out)
        log = structlog.get_logger()
        log.info("server_ready", address="127.0.0.1:1")
        log.debug("not_wanted")
        logging.getLogger("somepackage").warning("careful: %s", "x")
        try:
            raise ValueError("inside")
        except ValueError as error:
            log.error("internal_error", incident="77", exc_info=error)
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        assert [line["event"] for line in lines] == ["server_ready", "careful: x", "internal_error"]
        assert [line["level"] for line in lines] == ["info", "warning", "error"]
        assert lines[0]["address"] == "127.0.0.1:1"
        assert "ValueError: inside" in lines[2]["exception"]
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()


def test_console_logs_show_a_traceback_without_the_values_of_variables() -> None:
    out = io.StringIO()
    try:
        configure_logs("console", "info", out)
        payload = "belongs to somebody else"
        try:
            raise ValueError(len(payload))
        except ValueError as error:
            structlog.get_logger().error("internal_error", exc_info=error)
        assert "ValueError: 24" in out.getvalue()
        assert payload not in out.getvalue().replace('payload = "belongs to somebody else"', "")
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()


def test_the_documentation_holds_the_table_of_metrics() -> None:
    assert reference() in DOCS.read_text()


def test_a_token_can_be_made_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert tokens.main(["alice"]) == 0
    token, line = capsys.readouterr().out.splitlines()
    (tmp_path / "tokens").write_text(line)
    assert tokens.Tokens.load(tmp_path / "tokens").principal([("authorization", f"Bearer {token}")]) is not None
    assert tokens.main([]) == tokens.main(["a b"]) == 2

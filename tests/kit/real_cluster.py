"""Real servers as members of one cluster, each a child process, and a client that knows which outcomes are unknown.

Responsible for the processes and for plain calls over gRPC: a call that a member does not serve goes to the next one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from tests.kit.cut_links import CutLinks
from tests.kit.real_server import RealServer, free_port
from tests.kit.wire_client import trailers
from waymaker_proto import waymaker_streams_pb2 as pb
from waymaker_proto.admin_pb2 import ClusterStatusRequest, ClusterStatusResponse
from waymaker_proto.admin_pb2_grpc import WaymakerAdminServiceStub
from waymaker_proto.waymaker_streams_pb2_grpc import WaymakerStreamsServiceStub

CALL_S = 2.0
OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]  # fmt: skip


class Unknown(Exception):
    """The outcome of a call is not known."""


class RealCluster:
    """Some members below one folder. `with_links`: they reach each other through links that can be cut."""

    def __init__(self, folder: Path, *arguments: str, count: int = 3, with_links: bool = False) -> None:
        ports = {node: free_port() for node in range(1, count + 1)}
        self.links = CutLinks(ports) if with_links else None
        self.servers: dict[int, RealServer] = {}
        self.metrics = {node: free_port() for node in ports}
        for node in ports:
            members = ",".join(f"{other}=127.0.0.1:{self._port(ports, node, other)}" for other in ports)
            self.servers[node] = RealServer(
                folder / str(node), "--node-id", str(node), "--cluster", members,
                "--metrics-listen", f"127.0.0.1:{self.metrics[node]}", *arguments,
            )  # fmt: skip
        self._channels = {
            node: grpc.insecure_channel(server.address, options=OPTIONS) for node, server in self.servers.items()
        }

    def _port(self, ports: dict[int, int], node: int, other: int) -> int:
        return ports[other] if self.links is None or node == other else self.links.ports[node, other]

    # ------------------------------------------------------------ processes

    def start(self) -> None:
        """Start all members, and return once each knows a leader."""
        for server in self.servers.values():
            server.start()
        for node in self.servers:
            self.await_ready(node)

    def kill(self, node: int) -> None:
        """Kill a member (SIGKILL)."""
        self.servers[node].kill()

    def pause(self, node: int) -> None:
        """Stop a member's process without ending it."""
        os.kill(self.servers[node].pid, signal.SIGSTOP)

    def resume(self, node: int) -> None:
        """Let a paused member go on."""
        os.kill(self.servers[node].pid, signal.SIGCONT)

    def close(self) -> None:
        """End a test: leave nothing behind."""
        for channel in self._channels.values():
            channel.close()
        for server in self.servers.values():
            with contextlib.suppress(AssertionError):
                server.close()
        if self.links is not None:
            self.links.close()

    def logs(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"--- {node}\n{server.log_tail()}" for node, server in self.servers.items())

    # ------------------------------------------------------------ questions

    def probe(self, node: int, page: str) -> tuple[int, str]:
        """Return status and text of a page for operators."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics[node]}{page}", timeout=CALL_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def await_ready(self, node: int, within_s: float = 20.0) -> None:
        """Return once a member knows a leader."""
        self.eventually(lambda: self.probe(node, "/readyz")[0] == 200, f"member {node} knows no leader", within_s)

    def eventually(self, is_true: Callable[[], bool], complaint: str, within_s: float = 20.0) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + within_s
        while not is_true():
            assert time.monotonic() < deadline, f"{complaint}\n{self.logs()}"
            time.sleep(0.05)

    def status(self, node: int) -> ClusterStatusResponse:
        """Return what a member says of the cluster."""
        return WaymakerAdminServiceStub(self._channels[node]).ClusterStatus(ClusterStatusRequest(), timeout=CALL_S)

    def client(self) -> Client:
        """Return a client of its own, for one thread."""
        return Client(self)


class Client:
    """A client that knows all members. A call that one does not serve goes to the next one."""

    def __init__(self, cluster: RealCluster) -> None:
        self._cluster = cluster
        self._channels = {
            node: grpc.insecure_channel(server.address, options=OPTIONS) for node, server in cluster.servers.items()
        }
        self._first = 1

    def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            channel.close()

    def call(self, rpc: str, request: Any, within_s: float = 20.0) -> Any:
        """Call until a member serves it. Raises `Unknown` where a call may have happened."""
        deadline = time.monotonic() + within_s
        said = ""
        while time.monotonic() < deadline:
            node = self._first
            try:
                return getattr(WaymakerStreamsServiceStub(self._channels[node]), rpc)(request, timeout=CALL_S)
            except grpc.RpcError as error:
                said = f"{node}: {error.code()} {error.details()}"
                self._first = node % len(self._channels) + 1
                if not _is_not_applied(error):
                    raise Unknown(said) from None
            time.sleep(0.02)
        raise AssertionError(f"no member serves {rpc} within {within_s} s; last {said}\n{self._cluster.logs()}")

    def create(self, name: str) -> None:
        """Create a stream; one that may be there already is there."""
        request = pb.CreateStreamRequest(config=pb.StreamConfigPb(name=name, subjects_filter=[f"{name}.>"]))
        for _ in range(100):
            time.sleep(0.02)
            with contextlib.suppress(Unknown):
                answer = self.call("CreateStream", request)
                assert answer.result_code in ("ok", "already_exists"), answer
                return
        raise AssertionError(f"no member creates {name}\n{self._cluster.logs()}")

    def read(self, name: str, within_s: float = 60.0) -> list[tuple[int, bytes]]:
        """Return sequence and payload of every message."""
        found: list[tuple[int, bytes]] = []
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            start = found[-1][0] + 1 if found else 1
            request = pb.ScanExactAtSubjectRequest(stream=name, subject=f"{name}.a", from_seq=start)
            try:
                answer = self.call("ScanExactAtSubject", request, within_s)
            except Unknown:
                time.sleep(0.02)
                continue
            assert answer.result_code == "ok", answer
            if not answer.messages:
                return found
            found += [(each.seq, each.payload) for each in answer.messages]
        raise AssertionError(f"{name} cannot be read\n{self._cluster.logs()}")


def _is_not_applied(error: grpc.RpcError) -> bool:
    return trailers(error).get("wmkr-outcome") == "not-applied"


class Publisher:
    """A client that publishes to one stream, and what it knows of each message."""

    def __init__(self, cluster: RealCluster, stream: str) -> None:
        self._cluster = cluster
        self.client = cluster.client()
        self.stream = stream
        self._sent = 0
        self.confirmed: dict[int, bytes] = {}
        self.doubtful: set[bytes] = set()

    def publish(self, within_s: float = 20.0) -> bool:
        """Publish one message; return False where its outcome is not known."""
        self._sent += 1
        payload = b"%d" % self._sent
        request = pb.PublishRequest(stream=self.stream, subject=f"{self.stream}.a", payload=payload)
        try:
            answer = self.client.call("Publish", request, within_s)
        except Unknown:
            self.doubtful.add(payload)
            return False
        assert answer.result_code == "ok", answer
        assert answer.seq not in self.confirmed, f"sequence {answer.seq} is given twice"
        self.confirmed[answer.seq] = payload
        return True

    def publish_one(self, within_s: float = 20.0) -> None:
        """Publish until one message is confirmed."""
        deadline = time.monotonic() + within_s
        while not self.publish(within_s):
            assert time.monotonic() < deadline, f"nothing is confirmed\n{self._cluster.logs()}"
            time.sleep(0.02)

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def check(self) -> None:
        """Compare what is there with what was confirmed: each once, where its answer said, and in order."""
        found = self.client.read(self.stream)
        by_seq = dict(found)
        assert {seq: by_seq.get(seq) for seq in self.confirmed} == self.confirmed
        assert [seq for seq, _ in found] == sorted(by_seq)
        twice = [payload for payload, count in Counter(payload for _, payload in found).items() if count > 1]
        assert not twice, f"{twice} are there more than once"
        extra = {payload for _, payload in found} - set(self.confirmed.values()) - self.doubtful
        assert not extra, f"{extra} were refused, or never sent"

"""Helpers of tests of ill-meaning clients: they reach the server, read its refusals and measure its memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.kit.real_server import RealServer
from tests.kit.wire_client import exposes_internals
from tests.shell.server.process.test_server_process import STREAMS, publish
from waymaker_core.model.message_codec import varint

GROWTH_MIB_MAX = 130
"""Bytes that one hostile request may make the process hold at most, for a moment: its own a few times over."""
SERVED_S_MAX = 5.0
MIB = 1 << 20


def channel_to(server: RealServer) -> grpc.Channel:
    """Open a connection of its own, which may send anything."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(server.address, options)


def resident_mib(server: RealServer) -> int:
    return _status_mib(server, "VmRSS")


def _status_mib(server: RealServer, name: str) -> int:
    text = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(name)).split()[1]) // 1024


@contextmanager
def unharmed_within(server: RealServer, growth_mib_max: int = GROWTH_MIB_MAX) -> Iterator[None]:
    """Require that the peak of memory stays within the bound, whatever happens inside, and that the next client is served."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    before = resident_mib(server)
    yield
    with channel_to(server) as channel:
        started = time.monotonic()
        assert publish(channel, "s", b"still here") > 0
        assert time.monotonic() - started < SERVED_S_MAX
    grown = _status_mib(server, "VmHWM") - before
    assert grown < growth_mib_max, f"{grown} MiB more than before"


def refused(server: RealServer, method: str, data: bytes, **options: Any) -> grpc.StatusCode:
    """Return the refusal of a request that must not succeed; it never says what a bug would say."""
    path = method if method.startswith("/") else STREAMS + method
    with channel_to(server) as channel:
        call: Any = channel.unary_unary(path)
        with pytest.raises(grpc.RpcError) as caught:
            call(data, timeout=30, **options)
        details = caught.value.details() or ""
        assert not exposes_internals(details), details
        code: grpc.StatusCode = caught.value.code()
        assert code is not grpc.StatusCode.UNKNOWN
        return code


def field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content

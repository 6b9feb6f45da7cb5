"""Servers and clients that tests of the shell share: one real server a module, and each test's own client of it.

A module that needs another server or client makes a fixture of the same name.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import waymaker
from tests.kit.real_server import RealServer
from tests.kit.wire_client import WireClient


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server for the tests of one module, none of which ends it."""
    own = RealServer(tmp_path_factory.mktemp("server") / "data")
    own.start()
    yield own
    own.close()


@pytest.fixture
def wm(server: RealServer) -> Iterator[waymaker.SyncClient]:
    """The synchronous client of a server without streams."""
    with waymaker.connect_sync(server.address, timeout=20.0) as client:
        for name in client.list_streams():
            client.delete_stream(name)
        yield client


@pytest.fixture
def client(server: RealServer) -> Iterator[WireClient]:
    """A foreign client, made from the published contract alone."""
    wire = WireClient(server.address)
    yield wire
    wire.close()

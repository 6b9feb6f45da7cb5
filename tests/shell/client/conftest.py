"""The transports of the client's tests: a module that asks for `transport` runs over gRPC and over the native link."""

from __future__ import annotations

import pytest

from tests.kit.fake_link import FakeLink


@pytest.fixture(params=["grpc", "link"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the fake servers of a test offer the native link, or not."""
    monkeypatch.setattr(FakeLink, "offered", request.param == "link")
    return str(request.param)

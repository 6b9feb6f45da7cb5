"""Pins, overrides and figures of nodes through a real server, which is a cluster of one."""

from __future__ import annotations

import json

import pytest

import waymaker
from tests.kit.real_server import RealServer
from waymaker.cli.root import run


def test_a_single_server_stores_pins_and_knows_no_override(server: RealServer, wm: waymaker.SyncClient) -> None:
    wm.create_stream("s")
    wm.publish("s", "a", b"x")
    wm.pin_stream("s")
    info = wm.stream_info("s")
    assert info.pinned and info.ring_owner == wm.server_info().node_id and info.claimant == 0
    wm.clear_authority("s")
    wm.clear_authority("no such stream")
    assert wm.authority_overrides() == []
    found = wm.cluster_streams()
    (row,) = found.nodes
    assert (row.status, row.streams, row.msg_count, found.skew_count) == ("ok", 1, 1, 0)
    server.terminate()
    server.start()
    assert wm.stream_info("s").pinned
    wm.unpin_stream("s")
    assert not wm.stream_info("s").pinned
    with pytest.raises(waymaker.NoSuchStreamError):
        wm.pin_stream("x")


def test_the_command_line_pins_and_lists(
    server: RealServer, wm: waymaker.SyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    wm.create_stream("s")
    for arguments in (["pin", "s"], ["authority"], ["nodes"], ["return", "s"], ["info", "s"], ["unpin", "s"]):
        assert run(["stream", *arguments, "--server", server.address, "--json"]) == 0, capsys.readouterr().err
        said = capsys.readouterr().out
        if arguments[0] == "info":
            assert json.loads(said)["pinned"] is True
    assert not wm.stream_info("s").pinned

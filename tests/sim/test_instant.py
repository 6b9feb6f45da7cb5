"""A node on a disk without time: it comes to rest, however long that takes, and one that never does is noticed."""

from __future__ import annotations

import pytest

from tests.kit.node_kit import publish, stream_config
from waymaker_core.api.requests import CreateStream, GetStreamInfo
from waymaker_core.model.config import SourceConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.types import Now
from waymaker_core.node import NodeConfig
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine import instant
from waymaker_sim.machine.disk import DiskFaults, SimDisk
from waymaker_sim.machine.instant import InstantNode

MESSAGES = 40


def node_with_a_source() -> InstantNode:
    """Make a node with a stream that others can copy."""
    disk = SimDisk(DiskFaults(), Tape(1).track("disk"))
    config = NodeConfig(1, bytes(16), Limits())
    node = InstantNode(config, disk, Now(1_000_000_000, 1_700_000_000_000))
    node.ask(CreateStream(stream_config("from")))
    for number in range(MESSAGES):
        node.ask(publish("from", ("a", b"%d" % number)))
    return node


def test_copies_may_take_more_steps_than_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    node = node_with_a_source()
    monkeypatch.setattr(instant, "ROUNDS_MAX", 3)
    node.ask(CreateStream(stream_config("to", sources=(SourceConfig("from"),))))
    answer, _ = node.ask(GetStreamInfo("to"))
    assert answer.value.stats.msg_count == MESSAGES  # type: ignore[union-attr]


def test_a_node_that_never_comes_to_rest_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    node = node_with_a_source()
    monkeypatch.setattr(node.node, "next_deadline", lambda: node.now.mono_ns)
    with pytest.raises(AssertionError, match="never comes to rest"):
        node.tick()

"""Rest of a cluster: nothing expires between two looks that are compared, and what copies may grow but lose nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import publish, stream_config
from waymaker_core.api.requests import CreateStream
from waymaker_core.model.config import SourceConfig, StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import plain_body
from waymaker_core.model.types import Now
from waymaker_core.node import NodeConfig
from waymaker_core.node.sourcing.sourcing import Sourcing
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.disk import DiskFaults, SimDisk
from waymaker_sim.machine.instant import InstantNode
from waymaker_sim.machine.observations import Seen, SeenStream, differences, losses, observe
from waymaker_sim.machine.process import ReceivedMessage
from waymaker_sim.members.convergence import observe_alone
from waymaker_sim.members.expiries import AGED_WITHIN_MS, CALM_MS, wait_ms

WALL_MS = 1_700_000_000_000
AGE_MS = 5_000
CONFIG = NodeConfig(1, bytes(16), Limits())
SOURCES = (SourceConfig("from", dlq_stream="letters"),)


def seen_with(config: StreamConfig, *bodies: bytes, time_ms: int = WALL_MS) -> SeenStream:
    messages = [ReceivedMessage(seq, time_ms, 0, body) for seq, body in enumerate(bodies, 1)]
    return SeenStream(config, (1, len(bodies), len(bodies), sum(map(len, bodies))), 1, WALL_MS, messages, ["a"])


# ---------------------------------------------------------------- ages


@pytest.mark.parametrize(
    ("left_ms", "waits_ms"),
    [
        (1, 1 + AGED_WITHIN_MS),
        (CALM_MS - 1, CALM_MS - 1 + AGED_WITHIN_MS),
        (CALM_MS, 0),
        (-1, AGED_WITHIN_MS - 1),
        (-AGED_WITHIN_MS, 0),
    ],
)
def test_rest_goes_on_while_a_message_expires_soon_or_may_just_have(left_ms: int, waits_ms: int) -> None:
    """The second case is a time that a clock gave which was ahead by more than the age."""
    stream = seen_with(stream_config("s", max_age_ms=AGE_MS), b"", time_ms=WALL_MS + left_ms - AGE_MS)
    assert wait_ms({"s": stream, "damaged": "by rot"}, WALL_MS) == waits_ms
    assert wait_ms({"s": replace(stream, config=stream_config("s"))}, WALL_MS) == 0


def test_no_message_expires_in_the_calm() -> None:
    """What a wait ends with loses nothing as long as restarts are compared."""
    node = InstantNode(CONFIG, SimDisk(DiskFaults(), Tape(1).track("disk")), Now(1_000_000_000, WALL_MS))
    node.ask(CreateStream(stream_config("s", max_age_ms=AGE_MS, strict_limits=True)))
    for ahead_ms in (0, 9_000, 30_000, 90_000):
        node.now = Now(node.now.mono_ns, WALL_MS + ahead_ms)
        node.ask(publish("s", ("a", b"")))
    node.now = Now(node.now.mono_ns, WALL_MS)
    while waits_ms := wait_ms(observe(node), node.now.wall_ms):
        tick_after(node, waits_ms)
    before = observe(node)
    assert WALL_MS + 30_000 + AGE_MS < node.now.wall_ms < WALL_MS + 90_000, "the last one expires after the restarts"
    assert [each.seq for each in before["s"].messages] == [4]  # type: ignore[union-attr]
    tick_after(node, CALM_MS - 1)
    assert not losses(before, observe(node))


def tick_after(node: InstantNode, ms: int) -> None:
    node.now = Now(node.now.mono_ns + ms * 1_000_000, node.now.wall_ms + ms)
    node.tick()


# ---------------------------------------------------------------- streams that copy


def body(text: bytes) -> bytes:
    return plain_body("a", text)


def test_what_copies_may_grow_and_lose_nothing() -> None:
    copies = seen_with(stream_config("to", sources=SOURCES), body(b"1"), body(b"2"))
    letters = seen_with(stream_config("letters"), body(b"1"))
    other = seen_with(stream_config("from"), body(b"1"))
    before: Seen = {"to": copies, "letters": letters, "from": other}

    def after(**changed: SeenStream) -> str:
        return losses(before, {**before, **changed})

    assert not after(to=seen_with(copies.config, body(b"1"), body(b"2"), body(b"3")))
    assert not after(letters=seen_with(letters.config, body(b"1"), body(b"3")))
    assert "to.messages" in after(to=seen_with(copies.config, body(b"1")))
    assert "to.messages" in after(to=seen_with(copies.config, body(b"1"), body(b"x"), body(b"3")))
    assert "to.stream_id" in after(to=replace(copies, stream_id=2))
    assert "letters.messages" in after(letters=seen_with(letters.config))
    assert "from.messages" in after(**{"from": seen_with(other.config, body(b"1"), body(b"2"))})


def copied_disk(monkeypatch: pytest.MonkeyPatch, copied: int) -> SimDisk:
    """Make a disk with three messages of a source, of which some are not copied yet."""
    disk = SimDisk(DiskFaults(), Tape(1).track("disk"))
    node = InstantNode(CONFIG, disk, Now(1_000_000_000, WALL_MS))
    node.ask(CreateStream(stream_config("from")))
    node.ask(CreateStream(stream_config("to", sources=SOURCES)))
    for number in range(3):
        with monkeypatch.context() as patch:
            if number >= copied:
                patch.setattr(Sourcing, "has_ready", lambda self: False)
            node.ask(publish("from", ("a", b"%d" % number)))
    return disk


def test_a_replica_is_compared_without_what_its_node_copies_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = copied_disk(monkeypatch, 2)
    found = observe(InstantNode(CONFIG, disk.copy(Tape(1).track("copy")), Now(1, WALL_MS)))
    assert count_in(found) == 3, "a node alone goes on copying"
    alone = observe_alone(InstantNode(CONFIG, disk, Now(1, WALL_MS)))
    assert count_in(alone) == 2
    fewer = observe_alone(InstantNode(CONFIG, copied_disk(monkeypatch, 1), Now(1, WALL_MS)))
    assert "to.messages" in differences(alone, fewer), "a replica that lacks a copy is found out"


def count_in(seen: Seen) -> int:
    stream = seen["to"]
    assert isinstance(stream, SeenStream) and stream.stats[2] == len(stream.messages)
    return stream.stats[2]

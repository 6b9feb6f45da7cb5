"""What was confirmed is there after a restart of any kind, and what was acknowledged stays so."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from tests.kit.node_kit import SMALL, Server
from waymaker_core.api import requests as rq

SHORT = replace(SMALL, segment_bytes=8192, checkpoint_journal_bytes=8192)


def test_published_fetched_and_acked_survives_a_kill() -> None:
    server = Server()
    server.create("s")
    server.consumer("s", "c")
    assert server.publish("s", b"one", b"two", b"three").first_seq == 1
    assert server.fetch() == [(1, 1, b"one"), (2, 1, b"two"), (3, 1, b"three")]
    server.ack(1, 3)
    server.kill()
    assert server.all() == [(1, 0, b"one"), (2, 0, b"two"), (3, 0, b"three")]
    server.pass_ms(31_000)
    assert [seq for seq, _, _ in server.fetch()] == [2]
    assert server.publish("s", b"four").first_seq == 4


def test_no_id_is_drawn_twice_though_only_a_stream_tells_of_it() -> None:
    server = Server(SHORT)
    server.create("s")
    server.publish("s", *[bytes(300)] * 40)
    server.consumer("s", "one")
    server.kill()
    checkpoints = server.node.stats.checkpoints
    while server.node.stats.checkpoints == checkpoints:
        server.publish("s", *[bytes(300)] * 10)
    server.kill()
    server.consumer("s", "two")
    assert server.info("s", "one").consumer_id < server.info("s", "two").consumer_id


@given(st.lists(st.sampled_from(["s", "t", "u", "delete", "write", "kill"]), max_size=12))
@example(["s", "t", "s", "write", "kill", "t"])
@example(["u", "t", "s", "write", "kill", "s", "t"])
@example(["write", "s", "delete", "kill", "write"])
def test_no_id_is_drawn_twice_whichever_stream_tells_of_the_last(steps: list[str]) -> None:
    """Streams are restored in an order of their own: the last one to tell need not be the one with the greatest id."""
    server = Server(SHORT)
    for name in ("s", "t", "u"):
        server.create(name)
    drawn: list[int] = []
    there: dict[int, tuple[str, str]] = {}
    for number, step in enumerate([*steps, "kill", "s"]):
        if step == "kill":
            server.kill()
        elif step == "write":
            checkpoints = server.node.stats.checkpoints
            while server.node.stats.checkpoints == checkpoints:
                server.publish("u", *[bytes(300)] * 10)
        elif step == "delete":
            if there:
                server.ok(rq.DeleteConsumer(*there.popitem()[1]))
        else:
            server.consumer(step, f"c{number}")
            drawn.append(server.info(step, f"c{number}").consumer_id)
            there[drawn[-1]] = step, f"c{number}"
    assert drawn == sorted(set(drawn)), "ids only grow"
    kept = [info.consumer_id for name in ("s", "t", "u") for info in server.consumers(name)]
    assert sorted(kept) == sorted(there)


def test_what_was_delivered_is_logged_with_the_next_ack() -> None:
    server = Server()
    server.create("s")
    server.consumer("s", "c", ack_wait_ms=30_000, max_deliver=2)
    server.consumer("s", "other", ack_wait_ms=30_000)
    server.publish("s", b"one", b"two", b"three")
    assert len(server.fetch()) == len(server.fetch("s", "other")) == 3
    server.ack(1)
    server.kill()
    assert server.fetch() == [], "the delivery keeps its wait"
    server.pass_ms(30_001)
    assert server.fetch() == [(2, 2, b"two"), (3, 2, b"three")], "and its count"
    server.ack(2)
    server.kill()
    server.pass_ms(30_001)
    server.pass_ms(1_000)
    assert server.fetch() == [] and server.info().redelivered_dropped == 1, "so that the last attempt was the last"

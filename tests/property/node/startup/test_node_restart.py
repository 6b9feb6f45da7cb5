"""What was confirmed is there after a restart of any kind, and what was acknowledged stays so."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from tests.kit.node_kit import SMALL, Server
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Call
from waymaker_core.model.result_codes import Answer
from waymaker_core.model.types import ANYONE, Token
from waymaker_core.node.maintenance import invariants

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


@given(
    st.lists(st.sampled_from(["s", "t", "u", "delete", "write", "kill", "power", "restart", "anew"]), max_size=12),
    st.sampled_from([0, 1_000]),
)
@example(["s", "t", "s", "write", "kill", "t"], 0)
@example(["u", "t", "s", "write", "kill", "s", "t"], 0)
@example(["write", "s", "delete", "kill", "write"], 0)
@example(["s", "delete", "write", "kill", "s", "delete", "power"], 1_000)
@example(["s", "anew", "s"], 0)
@example(["s", "delete", "power"], 1_000)
@example(["s", "delete", "kill", "power"], 1_000)
@example(["s", "delete", "t", "power"], 1_000)
def test_no_id_of_a_consumer_is_given_twice_within_a_stream(steps: list[str], sync_interval_ms: int) -> None:
    server = Server(SHORT, sync_interval_ms=sync_interval_ms)
    for name in ("s", "t", "u"):
        server.create(name)
    given_in: dict[str, list[int]] = {"s": [], "t": [], "u": []}
    there: list[tuple[str, str, int]] = []
    unsynced: list[tuple[str, str, int]] = []
    """Deletions that no sync has followed: with the interval, a loss of power may take them back."""
    words: list[str] = []
    for number, step in enumerate([*steps, "kill", "s"]):
        if step in {"kill", "power", "restart"}:
            {"kill": server.kill, "power": server.lose_power, "restart": server.restart}[step]()
            if step == "power" and sync_interval_ms:
                there += [entry for entry in unsynced if entry in consumers_of(server)]
            unsynced = []
        elif step == "write":
            checkpoints = server.node.stats.checkpoints
            while server.node.stats.checkpoints == checkpoints:
                server.publish("u", *[bytes(300)] * 10)
        elif step == "delete":
            if there:
                unsynced.append(there.pop())
                server.ok(rq.DeleteConsumer(*unsynced[-1][:2]))
        elif step == "anew":
            server.ok(rq.DeleteStream("s"))
            server.create("s")
            given_in["s"] = []
            there = [entry for entry in there if entry[0] != "s"]
            unsynced = []
        else:
            name = f"c{number}"
            server.consumer(step, name)
            unsynced = []  # a creation does not wait for the interval, and what stands before it is synced with it
            there.append((step, name, server.info(step, name).consumer_id))
            given_in[step].append(there[-1][2])
            words.append(incarnation(server, step, name))
        node_check(server)
    for ids in given_in.values():
        assert ids == sorted(set(ids)), "ids only grow"
    assert sorted(consumers_of(server)) == sorted(there)
    assert len(set(words)) == len(words)


def consumers_of(server: Server) -> list[tuple[str, str, int]]:
    """Return the consumers that are there: stream, name, id."""
    return [(name, info.config.name, info.consumer_id) for name in ("s", "t", "u") for info in server.consumers(name)]


def incarnation(server: Server, stream: str, consumer: str) -> str:
    """Return the word of a consumer's incarnation, as an empty fetch says it."""
    token = server.token()
    server.step(Call(Token(token), ANYONE, rq.Fetch(stream, consumer, 1)))
    answer = server.replies[token]
    assert isinstance(answer, Answer) and isinstance(answer.value, rq.Messages)
    return answer.value.incarnation


def node_check(server: Server) -> None:
    """Assert all that a node can see of itself."""
    invariants.check(server.node._state)


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

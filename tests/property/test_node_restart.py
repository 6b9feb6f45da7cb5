"""What was confirmed is there after a restart of any kind, and what was acknowledged stays so."""

from __future__ import annotations

from dataclasses import replace

from tests.property.node_kit import SMALL, Server


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
    server = Server(replace(SMALL, segment_bytes=8192, checkpoint_journal_bytes=8192))
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

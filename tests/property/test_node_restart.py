"""What was confirmed is there after a restart of any kind, and what was acknowledged stays so."""

from __future__ import annotations

from tests.property.node_kit import Server


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

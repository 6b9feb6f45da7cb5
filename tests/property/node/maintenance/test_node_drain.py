"""Drain: what was admitted is answered and kept, what comes later is refused, and the next start knows it all."""

from __future__ import annotations

from tests.kit.node_kit import Server, publish
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Drain
from waymaker_core.api.requests import AckKind


def test_a_drain_commits_what_was_admitted_and_refuses_the_rest() -> None:
    server = Server()
    server.create("s")
    server.consumer("s", "c")
    token = server.subscribe("s", "c", messages=10)
    server.publish("s", b"zero")
    server.pass_ms(2_000)
    with Play(server) as play:
        play.tell((100, publish("s", ("a", b"one"))))
        play.expect("job 1 JOURNAL write journal, syncfile journal")
        play.tell((101, publish("s", ("a", b"two"))))
        play.step(Drain())
        play.expect(f"end {token} server_shutdown")
        play.tell((102, publish("s", ("a", b"three"))), (103, rq.Subscribe("s", "c")))
        play.expect("""
            reply 102 refused UNAVAILABLE not-applied
            end 103  refused UNAVAILABLE not-applied
        """)
        play.done(1)
        play.expect("""
            reply 100 ok published 2..2
            job 2 JOURNAL write journal, syncfile journal
        """)
        play.done(2)
        play.expect("""
            reply 101 ok published 3..3
            job 3 JOURNAL write journal, syncfile journal
        """)
        play.done(3)
        play.expect("job 4 JOURNAL write journal, syncfile journal")
        play.done(4)
        play.expect("halt clean")
    server.open()
    assert len(server.all()) == 3


def test_after_a_drain_deliveries_are_known() -> None:
    server = Server()
    server.create("s")
    server.consumer("s", "c", ack_wait_ms=60_000)
    server.publish("s", b"one", b"two")
    server.fetch(batch=1)
    server.ack(1, kind=AckKind.NAK)
    server.fetch(batch=1)
    server.restart()
    assert server.fetch() == [(2, 1, b"two")], "the first is out, and not due again yet"
    server.pass_ms(60_001)
    assert server.fetch() == [(1, 3, b"one"), (2, 2, b"two")]


def test_an_idle_node_drains_at_once_and_twice_is_once() -> None:
    server = Server()
    server.pass_ms(5_000)
    assert server.drain().clean
    assert server.node.step(server.now(), [Drain()]) == []
    assert server.node.next_deadline() is None


def test_a_drain_with_interval_sync_syncs_everything() -> None:
    server = Server(sync_interval_ms=1_000_000)
    server.create("s")
    server.publish("s", b"one", b"two")
    assert server.drain().clean
    server.lose_power()
    assert [payload for _, _, payload in server.all()] == [b"one", b"two"]

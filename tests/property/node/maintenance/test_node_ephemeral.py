"""Ephemeral streams: messages in memory only, settings on disk, a new life with every start."""

from __future__ import annotations

from dataclasses import replace

from tests.kit.node_kit import SMALL, Server, publish
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.requests import AckKind
from waymaker_core.model.result_codes import Refusal, Status


def info(server: Server) -> rq.StreamInfo:
    value = server.ok(rq.GetStreamInfo("s"))
    assert isinstance(value, rq.StreamInfo)
    return value


def test_no_message_reaches_the_disk_and_a_restart_begins_a_new_life() -> None:
    server = Server()
    server.create("s", ephemeral=True, max_msgs=50)
    server.consumer("s", "c")
    server.publish("s", b"never written", b"nor this")
    assert server.fetch() == [(1, 1, b"never written"), (2, 1, b"nor this")]
    server.ack(1)
    first = info(server)
    assert first.notice == ""
    on_disk = b"".join(bytes(inode.content) for path, inode in server.disk.names.items() if path[:6] != "memory")
    assert b"never written" not in on_disk
    for _ in range(2):
        server.kill()
        again = info(server)
        assert again.stream_id > first.stream_id
        assert again.config == first.config
        assert again.notice
        assert server.all() == []
        assert again.stats.last_seq == 0
        assert server.publish("s", b"x").first_seq == 1
        first = again


def test_the_memory_of_all_ephemeral_streams_is_bounded_and_comes_back() -> None:
    server = Server(replace(SMALL, ephemeral_bytes_max=5_000))
    server.create("s", ephemeral=True, block_size=10, max_msgs=1_000)
    refused = 0
    for _ in range(10):
        answer = server.call(publish("s", ("a", bytes(1_000))))
        if isinstance(answer, Refusal):
            assert answer.status is Status.RESOURCE_EXHAUSTED
            refused += 1
    assert refused == 6
    server.ok(rq.DeleteStream("s"))
    assert server.node.stats.ephemeral_bytes == 0
    assert [path for path in server.disk.names if path.startswith("memory/")] == []
    server.create("s", ephemeral=True, block_size=2, max_msgs=2)
    for _ in range(30):
        server.publish("s", bytes(1_000))
    assert len(server.all()) in {2, 3}
    assert server.node.stats.ephemeral_bytes < 5_000


def test_work_queues_and_dead_letters_live_in_memory_too() -> None:
    server = Server()
    server.create("s", ephemeral=True, retention="WORK_QUEUE")
    server.consumer("s", "c", max_deliver=1, ack_wait_ms=500, dead_letter_subject="dlq", filter_subject="a")
    server.publish("s", b"one", b"two")
    server.fetch()
    server.ack(1)
    server.pass_ms(600)
    assert server.all() == [(3, 0, b"two")]


def test_checkpoints_pass_ephemeral_streams_over() -> None:
    server = Server(replace(SMALL, checkpoint_journal_bytes=8_192, segment_bytes=8_192))
    server.create("s", ephemeral=True)
    server.create("t")
    for _ in range(100):
        server.publish("s", bytes(200))
        server.publish("t", bytes(200))
    assert server.node.stats.checkpoints > 0
    assert len(server.all()) == 100
    server.kill()
    assert server.all() == []
    assert len(server.all("t")) == 100


def test_a_file_in_memory_is_never_used_again_nor_given_up_while_written() -> None:
    server = Server()
    server.create("s", ephemeral=True, retention="WORK_QUEUE", block_size=100)
    server.consumer("s", "c")
    server.publish("s", b"one")
    server.fetch()
    with Play(server) as play:
        play.tell((100, rq.Ack("s", "c", AckKind.ACK, [1])), (101, publish("s", ("a", b"two"))))
        play.expect("job 1 JOURNAL write memory")
        play.done(1)
        play.expect("""
            reply 100 ok
            reply 101 ok published 2..2
        """)
    assert server.fetch() == [(2, 1, b"two")]
    server.ack(2)
    server.publish("s", b"three")
    assert server.fetch() == [(3, 1, b"three")]


def test_a_start_without_any_room_serves_what_needs_none() -> None:
    server = Server(replace(SMALL, segment_bytes=4096, checkpoint_journal_bytes=1 << 30))
    server.create("kept")
    server.publish("kept", b"stays")
    server.create("s", ephemeral=True)
    server.disk.space = sum(len(inode.content) for inode in server.disk.names.values())
    for _ in range(1_000):
        server.kill()
        assert server.all("kept") == [(1, 0, b"stays")]
        if server.node.quarantined():
            break
    answer = server.call(rq.GetStreamInfo("s"))
    assert isinstance(answer, Refusal)
    assert "the disk is full" in answer.message
    server.disk.space = None
    server.kill()
    assert info(server).notice
    assert server.publish("s", b"again").first_seq == 1

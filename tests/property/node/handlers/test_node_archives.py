"""A stream taken out and put back: the same messages, the same consumers, or nothing at all."""

from __future__ import annotations

from tests.kit.node_kit import Server
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Effect, Job
from waymaker_core.api.inputs import Input
from waymaker_core.api.requests import AckKind, ImportBatch, Messages
from waymaker_core.model.disk_ops import CopyChunks, ReadChunk
from waymaker_core.model.message_codec import decode_body
from waymaker_core.model.result_codes import Answer
from waymaker_core.storage.archive import Head


def source() -> Server:
    server = Server()
    server.create("s", max_msgs=6, strict_limits=True)
    server.consumer("s", "c", ack_wait_ms=5_000)
    server.consumer("s", "d")
    for number in range(8):
        server.publish("s", b"message %d" % number, subject=f"a.{number % 2}")
    server.fetch(batch=4)
    server.ack(3, 5)
    server.ack(4, kind=AckKind.TERM)
    return server


def export(server: Server, name: str = "s") -> tuple[Head, list[ImportBatch]]:
    head = server.ok(rq.ExportStream(name))
    assert isinstance(head, Head)
    batches: list[ImportBatch] = []
    after = head.first_seq
    while after <= head.last_seq:
        answer = server.call(rq.ReadRange(name, after, 4))
        assert isinstance(answer, Answer)
        assert isinstance(answer.value, Messages)
        seqs, times, subjects, sizes, lengths, body = [], [], [], [], [], b""
        for run in answer.value.runs:
            chunk = server.disk.perform(ReadChunk(run.chunk))
            assert isinstance(chunk, bytes)
            bodies, at = run.bodies_in(chunk), 0
            for seq, time_ms, length in zip(run.sequences(), run.times_ms, run.lengths, strict=True):
                one = bodies[at : at + length]
                subject, _, payload = decode_body(one)
                seqs.append(seq)
                times.append(time_ms)
                subjects.append(subject)
                sizes.append(len(payload))
                lengths.append(length)
                body += one
                at += length
        if not seqs:
            break
        batches.append(ImportBatch(0, seqs, times, subjects, sizes, lengths, body))
        after = seqs[-1] + 1
    return head, batches


def put_back(server: Server, name: str, head: Head, batches: list[ImportBatch], commit: bool = True) -> None:
    stream_id = server.ok(rq.ImportBegin(name, head))
    assert isinstance(stream_id, int)
    for batch in batches:
        batch.stream_id = stream_id
        server.ok(batch)
    server.ok(rq.ImportEnd(stream_id, commit))


def test_a_restored_stream_is_the_same_stream_under_another_name() -> None:
    server = source()
    head, batches = export(server)
    put_back(server, "copy", head, batches)
    assert server.all("copy") == server.all("s")
    before, after = server.stats("s"), server.stats("copy")
    assert (after.first_seq, after.last_seq, after.msg_count, after.bytes) == (
        before.first_seq, before.last_seq, before.msg_count, before.bytes,
    )  # fmt: skip
    for name in "cd":
        assert server.info("copy", name).ack_floor == server.info("s", name).ack_floor
    server.kill()
    assert server.all("copy") == server.all("s")
    server.pass_ms(6_000)
    assert server.fetch("copy", "c") == server.fetch("s", "c")
    assert server.publish("copy", b"next").first_seq == 9


def test_a_restored_consumer_gets_what_was_pending_beyond_its_logged_scan() -> None:
    server = Server()
    server.create("s")
    server.consumer("s", "c")
    server.publish("s", b"one", b"two")
    server.fetch("s", "c", 2)
    server.ack(2, kind=AckKind.IN_PROGRESS)
    server.kill()
    put_back(server, "copy", *export(server))
    server.pass_ms(60_000)
    assert sorted(seq for seq, _, _ in server.fetch("copy", "c", 5)) == [1, 2]


def test_a_restore_serves_nobody_before_its_end() -> None:
    server = source()
    head, batches = export(server)
    stream_id = server.ok(rq.ImportBegin("copy", head))
    assert isinstance(stream_id, int)
    for request in (rq.GetStreamInfo("copy"), rq.ReadLatest("copy", "a.0"), rq.DeleteStream("copy")):
        answer = server.call(request)
        assert isinstance(answer, Answer)
        assert answer.code == "no_such_stream"
    answer = server.call(rq.ImportBegin("copy", head))
    assert isinstance(answer, Answer)
    assert answer.code == "already_exists"
    page = server.ok(rq.ListStreams())
    assert isinstance(page, rq.Page)
    assert page.entries == ["s"]
    server.ok(rq.ImportEnd(stream_id, False))
    put_back(server, "copy", head, batches)
    assert len(server.all("copy")) == 6


def test_a_restore_that_a_crash_interrupts_leaves_nothing() -> None:
    server = source()
    head, batches = export(server)
    stream_id = server.ok(rq.ImportBegin("copy", head))
    assert isinstance(stream_id, int)
    batches[0].stream_id = stream_id
    server.ok(batches[0])
    server.kill()
    answer = server.call(rq.ImportEnd(stream_id, True))
    assert isinstance(answer, Answer)
    assert answer.code == "no_such_stream"
    server.create("copy")
    assert server.all("copy") == []


def test_a_restore_to_a_name_in_use_changes_nothing() -> None:
    server = source()
    head, _ = export(server)
    answer = server.call(rq.ImportBegin("s", head))
    assert isinstance(answer, Answer)
    assert answer.code == "already_exists"
    assert len(server.all()) == 6


def test_a_restored_stream_without_messages_keeps_its_last_sequence_through_restarts_and_checkpoints() -> None:
    server = Server()
    server.create("s")
    for number in range(3):
        server.publish("s", b"message %d" % number)
    server.ok(rq.UpdateStream("s", max_age_ms=1_000))
    server.pass_ms(5_000)
    head, batches = export(server)
    assert (head.last_seq, batches) == (3, [])
    put_back(server, "copy", head, batches)
    server.kill()
    server.create("busy")
    checkpoints = server.node.stats.checkpoints
    while server.node.stats.checkpoints == checkpoints:
        server.publish("busy", b"." * 1_000)
    server.kill()
    assert server.stats("copy").last_seq == 3
    assert server.publish("copy", b"next").first_seq == 4


def test_a_stream_restored_while_a_checkpoint_runs_keeps_its_last_sequence() -> None:
    server = Server()
    server.create("s")
    server.create("busy")
    server.publish("s", b"gone")
    server.ok(rq.UpdateStream("s", max_age_ms=1_000))
    server.pass_ms(5_000)
    head, batches = export(server)
    assert (head.last_seq, batches) == (1, [])
    checkpoints, perform = server.node.stats.checkpoints, server.perform
    waiting: list[Job] = []

    def holding_back(effect: Effect) -> list[Input]:
        if isinstance(effect, Job) and any(isinstance(op, CopyChunks) for op in effect.ops):
            waiting.append(effect)
            return []
        return perform(effect)

    server.perform = holding_back  # type: ignore[method-assign]
    while not waiting:
        server.publish("busy", b"." * 1_000)
    put_back(server, "copy", head, batches)
    server.perform = perform  # type: ignore[method-assign]
    server.step(*(server.do(job) for job in waiting))
    assert server.node.stats.checkpoints == checkpoints + 1
    server.kill()
    assert server.stats("copy").last_seq == 1
    assert server.publish("copy", b"next").first_seq == 2

"""Objects in the core: whole or not at all, never collected while they are in use, and nothing left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import SMALL
from tests.kit.object_kit import BUCKET, Store, bucket, chunks_of
from tests.kit.store_disk import Crash
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Lead, StepDown
from waymaker_core.api.object_requests import (
    BeginUpload,
    FindObject,
    FinishUpload,
    HoldBucket,
    ListObjectRevisions,
    ListObjects,
    OpenObject,
    ReadChunks,
)
from waymaker_core.model.limits import KIB
from waymaker_core.model.records import LayerRecord
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import Token
from waymaker_core.objects.decisions import decide_chunks, decide_finish
from waymaker_core.objects.metadata import decode_metadata
from waymaker_core.stream.blocks.need_blocks import NeedBlocks

GRACE_MS = 3_600_000
TOMBSTONE_MS = 24 * 3_600_000
TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)


def sweep(store: Store, ms: int = GRACE_MS) -> None:
    store.server.pass_ms(ms + 1)
    store.server.node.check()


def code(store: Store, request: rq.Request) -> str:
    answer = store.server.call(request)
    return answer.code if isinstance(answer, Answer) else answer.status.name


# ---------------------------------------------------------------- whole or not at all


def test_an_object_is_what_was_put() -> None:
    store = bucket()
    revision = store.put("a/b c", b"one", b"two", b"3")
    reading, metadata = store.open("a/b c")
    assert store.read(reading, metadata) == [b"one", b"two", b"3"]
    assert (metadata.chunks.count, metadata.chunks.total_bytes, metadata.deleted) == (3, 7, False)
    assert store.names() == ["a/b c"]
    assert revision == 4
    store.put("empty")
    assert store.get("empty") == []
    store.server.node.check()


def test_an_upload_is_not_seen_before_its_end() -> None:
    store = bucket()
    upload = store.begin("x")
    store.server.ok(chunks_of(upload, "x", 0, [b"1", b"2"]))
    assert store.names(include_deleted=True) == []
    assert code(store, OpenObject(BUCKET, "x")) == "no_such_object"
    store.finish(upload, b"12", 2)
    assert store.get("x") == [b"1", b"2"]


def test_a_hole_in_an_upload_is_refused_not_filled() -> None:
    store = bucket()
    upload = store.begin("x")
    answer = store.server.call(chunks_of(upload, "x", 1, [b"2"]))
    assert isinstance(answer, Refusal) and answer.status is Status.ABORTED
    store.server.ok(chunks_of(upload, "x", 0, [b"1"]))
    answer = store.finish(upload, b"12", 2)
    assert isinstance(answer, Refusal) and answer.status is Status.ABORTED
    assert store.names() == []


def test_of_two_uploads_of_one_name_the_last_to_end_wins() -> None:
    store = bucket()
    first, second = store.begin("x"), store.begin("x")
    store.server.ok(chunks_of(first, "x", 0, [b"f1"]))
    store.server.ok(chunks_of(second, "x", 0, [b"s1"]))
    store.server.ok(chunks_of(first, "x", 1, [b"f2"]))
    store.finish(second, b"s1", 1)
    assert store.get("x") == [b"s1"]
    store.finish(first, b"f1f2", 2)
    assert store.get("x") == [b"f1", b"f2"]


@pytest.mark.parametrize("dedupe", [False, True])
def test_a_crash_at_any_operation_leaves_the_old_object_or_the_new_one(dedupe: bool) -> None:
    for crash_at in range(1, 40):
        store = bucket(limits=TINY)
        store.put("x", b"old1", b"same", dedupe=dedupe)
        store.server.disk.crash_in = crash_at
        try:
            store.put("x", b"new1", b"same", b"new3", dedupe=dedupe)
            over = True
        except Crash:
            over = False
        store.server.disk.crash_in = None
        store.server.lose_power()
        assert store.get("x") in ([b"old1", b"same"], [b"new1", b"same", b"new3"])
        sweep(store)
        assert store.layer.state.loose == {}
        assert store.get("x") in ([b"old1", b"same"], [b"new1", b"same", b"new3"])
        if over:
            assert crash_at > 1
            return
    raise AssertionError("every put crashed")


@pytest.mark.parametrize("how", ["kill", "lose_power", "restart", "checkpoint"])
def test_objects_come_back_after_a_restart(how: str) -> None:
    store = bucket(limits=TINY)
    store.put("x", b"1", b"2")
    store.put("x", b"3")
    store.put("shared", b"3", b"4", dedupe=True)
    store.put("gone", b"5")
    store.delete("gone")
    upload = store.begin("half")
    store.server.ok(chunks_of(upload, "half", 0, [b"6"]))
    if how == "checkpoint":
        store.server.create("busy")
        before = store.server.node.stats.checkpoints
        while store.server.node.stats.checkpoints == before:
            store.server.publish("busy", bytes(500))
        store.server.kill()
    else:
        getattr(store.server, how)()
    assert store.get("x") == [b"3"]
    assert store.get("shared") == [b"3", b"4"]
    assert store.names(include_deleted=True) == ["gone", "shared", "x"]
    store.server.node.check()
    answer = store.finish(upload, b"6", 1)
    assert isinstance(answer, Refusal) and answer.status is Status.ABORTED
    sweep(store)
    assert store.layer.state.loose == {}


# ---------------------------------------------------------------- collection


def test_replaced_deleted_and_abandoned_chunks_go_after_the_grace_period() -> None:
    store = bucket()
    store.put("x", b"1", b"2")
    store.put("x", b"3")
    store.put("y", b"4")
    store.delete("y")
    upload = store.begin("z")
    store.server.ok(chunks_of(upload, "z", 0, [b"5"]))
    store.close(upload)
    assert len(store.layer.state.loose) == 4
    store.server.pass_ms(GRACE_MS - 10)
    assert len(store.layer.state.loose) == 4
    sweep(store, 20)
    assert store.layer.state.loose == {}
    assert store.server.stats(BUCKET).msg_count == 1 + 2 + 2  # a chunk, and the metadata of x and of y
    sweep(store, TOMBSTONE_MS)
    assert store.names(include_deleted=True) == ["x"]
    assert store.server.stats(BUCKET).msg_count == 1 + 2


def test_a_running_upload_keeps_its_chunks_however_long_it_lasts() -> None:
    store = bucket()
    upload = store.begin("x", dedupe=True)
    store.server.ok(chunks_of(upload, "x", 0, [b"1"], dedupe=True))
    sweep(store, 3 * GRACE_MS)
    store.server.ok(chunks_of(upload, "x", 1, [b"2", b"1"], dedupe=True))
    sweep(store, 3 * GRACE_MS)
    store.finish(upload, b"121", 3)
    sweep(store)
    assert store.get("x") == [b"1", b"2", b"1"]
    store.close(upload)
    assert store.server.stats(BUCKET).msg_count == 3


def test_a_chunk_that_waits_for_its_collection_is_used_again() -> None:
    store = bucket()
    store.put("x", b"1", dedupe=True)
    store.delete("x")
    store.server.pass_ms(GRACE_MS - 10)
    upload = store.begin("y", dedupe=True)
    assert store.server.ok(chunks_of(upload, "y", 0, [b"1"], dedupe=True)) == 0  # nothing new was stored
    sweep(store)
    assert isinstance(store.finish(upload, b"1", 1), Answer)
    store.close(upload)
    sweep(store)
    assert store.get("y") == [b"1"]


def test_a_chunk_whose_collection_is_decided_is_stored_again() -> None:
    store = bucket()
    store.put("x", b"1", dedupe=True)
    store.delete("x")
    sweep(store, GRACE_MS - 10)
    upload = store.begin("y", dedupe=True)
    server = store.server
    server.wall_ms += 20
    server.mono_ns += 20_000_000
    decision = store.layer.decide_due(server.now())
    assert decision is not None and isinstance(decision.record, LayerRecord) and list(decision.record.drop_seqs)
    request = chunks_of(upload, "y", 0, [b"1"], dedupe=True)
    again = decide_chunks(store.layer._stream, store.layer, request, server.now())
    assert isinstance(again.record, LayerRecord) and again.value == 1


def test_a_name_that_is_stored_again_is_not_ended_by_a_sweep_decided_behind_it() -> None:
    store = bucket()
    store.put("x", b"1")
    store.delete("x")
    upload = store.begin("x")
    store.server.ok(chunks_of(upload, "x", 0, [b"2"]))
    sweep(store, TOMBSTONE_MS - 10)
    server, layer = store.server, store.layer
    server.wall_ms += 20
    server.mono_ns += 20_000_000
    finish = FinishUpload(BUCKET, upload, 1, 0, bytes(32), b"")
    put = decide_finish(layer._stream, layer, finish, server.now())
    swept = layer.decide_due(server.now())
    assert swept is None
    assert layer.next_due(server.now()) is None
    assert put.record is not None and layer.has_staged()


def test_a_shared_chunk_stays_until_the_last_object_is_gone() -> None:
    store = bucket()
    store.put("x", b"1", b"2", dedupe=True)
    store.put("y", b"2", b"2", dedupe=True)
    assert store.server.stats(BUCKET).msg_count == 4
    store.delete("x")
    sweep(store)
    assert store.get("y") == [b"2", b"2"]
    store.delete("y")
    sweep(store, TOMBSTONE_MS)
    assert store.server.stats(BUCKET).msg_count == 0


def test_a_reading_keeps_its_version() -> None:
    store = bucket()
    store.put("x", b"1", b"2", dedupe=True)
    reading, metadata = store.open("x")
    also, _ = store.open("x")
    store.put("x", b"3")
    sweep(store, 2 * GRACE_MS)
    assert store.read(reading, metadata) == [b"1", b"2"]
    store.close(reading)
    sweep(store, 2 * GRACE_MS)
    assert store.read(also, metadata) == [b"1", b"2"]
    store.close(also)
    sweep(store, 2 * GRACE_MS)
    assert store.layer.state.loose == {}
    answer = store.server.call(ReadChunks(BUCKET, also, [(1, 2)]))
    assert isinstance(answer, Refusal) and answer.status is Status.ABORTED


def test_nothing_is_collected_while_an_archive_is_made() -> None:
    store = bucket()
    store.put("x", b"1")
    store.put("x", b"2")
    token = Token(store.server.ask(HoldBucket(BUCKET)))
    sweep(store, 2 * GRACE_MS)
    assert len(store.layer.state.loose) == 1
    store.close(token)
    sweep(store)
    assert store.layer.state.loose == {}


def test_an_object_keeps_the_metadata_of_its_latest_revisions() -> None:
    store = bucket(limits=replace(SMALL, object_revisions_max=3))
    revisions = [store.put("x", b"%d" % number) for number in range(6)]
    store.server.node.check()
    listed = store.server.messages(ListObjectRevisions(BUCKET, "x"))
    assert [seq for seq, _, _ in listed] == revisions[-3:]
    later = store.server.messages(ListObjectRevisions(BUCKET, "x", revisions[-2], 1))
    assert [seq for seq, _, _ in later] == [revisions[-2]]


def test_a_store_on_a_replica_that_leads_no_longer_forgets_uploads_and_readings() -> None:
    store = bucket(replicated=True)
    store.put("x", b"1")
    reading, _ = store.open("x")
    upload = store.begin("y")
    store.server.ok(chunks_of(upload, "y", 0, [b"2"]))
    log = store.server.log_id(BUCKET)
    store.server.step(StepDown(log))
    store.server.step(Lead(log))
    for request in (ReadChunks(BUCKET, reading, [(1, 1)]), chunks_of(upload, "y", 1, [b"3"])):
        answer = store.server.call(request)
        assert isinstance(answer, Refusal) and answer.status is Status.ABORTED
    store.close(reading)
    store.close(upload)
    sweep(store)
    assert store.layer.state.loose == {}
    assert store.get("x") == [b"1"]


# ---------------------------------------------------------------- names, lists, deletions


def test_names_that_look_alike_never_meet() -> None:
    store = bucket()
    names = ["", "%", "%25", "a.b", "a%2Eb", "a", "a b", "*", ">", "ä", "a\n"]
    for name in names:
        store.put(name, name.encode() + b"!")
    assert store.names() == sorted(names)
    for name in names:
        assert store.get(name) == [name.encode() + b"!"]
    assert store.names("a") == sorted(name for name in names if name.startswith("a"))
    assert store.names("%") == ["%", "%25"]


def test_a_list_comes_in_pages() -> None:
    store = bucket()
    for number in range(7):
        store.put(f"x{number}", b"1")
    store.delete("x3")
    after, found = "", []
    while True:
        page = store.server.ok(ListObjects(BUCKET, "x", False, after, 2))
        assert isinstance(page, rq.Page)
        found += [entry.name for entry in page.entries]
        after = page.next_after
        if not after:
            break
    assert found == ["x0", "x1", "x2", "x4", "x5", "x6"]


def test_a_deletion_is_a_tombstone_and_may_be_repeated() -> None:
    store = bucket()
    assert store.delete("never") == 0
    store.put("x", b"1")
    tombstone = store.delete("x")
    assert store.delete("x") == tombstone > 0
    assert code(store, OpenObject(BUCKET, "x")) == "no_such_object"
    answer = store.server.call(FindObject(BUCKET, "x"))
    assert isinstance(answer, Answer) and (answer.code, answer.value) == ("ok", None)
    assert code(store, FindObject(BUCKET, "never")) == "no_such_object"
    listed = store.server.messages(ListObjectRevisions(BUCKET, "x"))
    assert [decode_metadata(payload).deleted for _, _, payload in listed] == [False, True]
    store.put("x", b"2")
    assert store.get("x") == [b"2"]


def test_a_reader_may_insist_on_a_revision() -> None:
    store = bucket()
    old = store.put("x", b"1")
    reading, _ = store.open("x", old)
    store.close(reading)
    store.put("x", b"2")
    assert code(store, OpenObject(BUCKET, "x", old)) == "incomplete"


def test_a_bucket_that_is_not_there_is_no_such_bucket() -> None:
    store = bucket()
    store.server.create("plain")
    assert code(store, BeginUpload("obj:other", "x", False)) == "no_such_bucket"
    assert code(store, BeginUpload("plain", "x", False)) == "no_such_bucket"
    assert code(store, ListObjects("obj:other")) == "no_such_bucket"
    assert code(store, BeginUpload(BUCKET, "x" * 2000, False)) == "INVALID_ARGUMENT"


# ---------------------------------------------------------------- bounds


def test_an_object_has_bounds() -> None:
    limits = replace(SMALL, object_chunks_max=3, object_uploads_max=2, object_readings_max=1, object_map_bytes_max=100)
    store = bucket(limits=limits)
    store.put("x", b"1")
    reading, _ = store.open("x")
    assert code(store, OpenObject(BUCKET, "x")) == "RESOURCE_EXHAUSTED"
    store.close(reading)
    upload = store.begin("y")
    store.begin("z")
    assert code(store, BeginUpload(BUCKET, "w", False)) == "RESOURCE_EXHAUSTED"
    assert code(store, chunks_of(upload, "y", 0, [b"1"] * 4)) == "RESOURCE_EXHAUSTED"
    assert code(store, chunks_of(upload, "y", 0, [b""])) == "RESOURCE_EXHAUSTED"
    store.server.ok(chunks_of(upload, "y", 0, [b"1", b"22"]))


@pytest.mark.parametrize("dedupe", [False, True])
def test_a_full_disk_ends_an_upload_and_leaves_the_old_object(dedupe: bool) -> None:
    store = bucket(limits=TINY)
    store.put("x", b"old", dedupe=dedupe)
    upload = store.begin("x", dedupe=dedupe)
    store.server.disk.space = 0
    answer: Answer | Refusal = Answer("ok")
    sent = 0
    while isinstance(answer, Answer):
        answer = store.server.call(chunks_of(upload, "x", sent, [b"%d" % sent * 300], dedupe=dedupe))
        sent += isinstance(answer, Answer)
        assert sent < 1_000
    assert answer.status is Status.RESOURCE_EXHAUSTED
    assert store.get("x") == [b"old"]
    store.delete("x")  # what is kept in reserve lets it through
    store.server.disk.space = None
    store.close(upload)
    sweep(store, TOMBSTONE_MS)
    assert store.server.stats(BUCKET).msg_count == 0
    store.put("x", b"new", dedupe=dedupe)
    assert store.get("x") == [b"new"]


# ---------------------------------------------------------------- archives


def test_an_archive_brings_the_objects_back() -> None:
    store = bucket()
    store.put("x", b"1", b"2")
    store.put("x", b"3", b"4")
    store.put("s1", b"5", b"5", dedupe=True)
    store.put("s2", b"5", dedupe=True)
    store.put("gone", b"6")
    store.delete("gone")
    head = store.server.ok(rq.ExportStream(BUCKET))
    copy = restore(store, head)
    assert copy.get("x") == [b"3", b"4"]
    assert copy.names(include_deleted=True) == ["gone", "s1", "s2", "x"]
    copy.delete("s1")
    sweep(copy, TOMBSTONE_MS)
    assert copy.get("s2") == [b"5"]
    assert copy.layer.state.loose == {}


def restore(store: Store, head: object) -> Store:
    """Restore the bucket under another name, from its head and its messages."""
    server = store.server
    stream_id = server.ok(rq.ImportBegin("obj:copy", head))
    assert isinstance(stream_id, int)
    seqs, times, subjects, sizes, lengths, bodies = [], [], [], [], [], []
    token = server.ask(rq.ReadRange(BUCKET, 1, 1_000))
    answer = server.replies[token]
    assert isinstance(answer, Answer) and isinstance(answer.value, rq.Messages)
    for run in answer.value.runs:
        data, at = run.bodies_in(server._chunk(run.chunk)), 0
        for seq, time_ms, length in zip(run.sequences(), run.times_ms, run.lengths, strict=True):
            body = data[at : at + length]
            at += length
            size = body[1]
            seqs.append(seq)
            times.append(time_ms)
            subjects.append(body[2 : 2 + size].decode())
            sizes.append(length)
            lengths.append(length)
            bodies.append(body)
    server.ok(rq.ImportBatch(stream_id, seqs, times, subjects, sizes, lengths, b"".join(bodies)))
    server.ok(rq.ImportEnd(stream_id, commit=True))
    server.node.check()
    return Store(server, "obj:copy")


def test_a_sweep_without_space_goes_on_as_soon_as_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    store = bucket()
    store.put("x", b"1", b"2")
    store.delete("x")
    group_commit = store.server.node._group_commit
    with monkeypatch.context() as full:
        full.setattr(group_commit, "has_room_for", lambda log, bound, ordinary: False)
        sweep(store)
        assert store.server.stats(BUCKET).msg_count == 4
    group_commit.note_capacity()
    store.server.step()
    assert store.server.stats(BUCKET).msg_count == 2, "no pause has to end first"


def test_a_sweep_that_needs_a_block_collects_all_that_is_due_when_it_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits from the future end together with the one of the past between them, however often the sweep is attempted."""
    store = bucket()
    server, layer = store.server, store.layer
    server.pass_ms(1)
    for index, ahead_ms in enumerate((GRACE_MS * 100, 0, GRACE_MS * 100)):
        server.wall_ms += ahead_ms
        upload = store.begin("x")
        server.ok(chunks_of(upload, "x", 0, [bytes([index])]))
        store.close(upload)
        server.wall_ms -= ahead_ms
    before, middle, behind = layer.state.loose.values()
    assert middle <= server.wall_ms < min(before, behind)
    assert layer.next_due(server.now()) == server.mono_ns + GRACE_MS * 1_000_000
    server.mono_ns += GRACE_MS * 1_000_000
    server.wall_ms += GRACE_MS

    def need(*_: object) -> None:
        raise NeedBlocks([0])

    with monkeypatch.context() as absent:
        absent.setattr("waymaker_core.objects.layer.decide_draft", need)
        with pytest.raises(NeedBlocks):
            layer.decide_due(server.now())
    server.mono_ns += 3_000_000
    decision = layer.decide_due(server.now())
    assert decision is not None and isinstance(decision.record, LayerRecord)
    assert list(decision.record.drop_seqs) == list(layer.state.loose)

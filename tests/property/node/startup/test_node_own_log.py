"""A stream's settings and the end of its restore are records of its own log: no other log is needed to know them."""

from __future__ import annotations

from dataclasses import replace

import cbor2
import pytest

from tests.kit.node_kit import SMALL, Server, consumer_config, publish, stream_config
from tests.kit.store_disk import Crash
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Call
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.records import ImportEnded, SettingsRecord, StreamOpened, StreamUpdated
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import ANYONE, CATALOG, Now, StreamId, Token
from waymaker_core.node.checkpoint.snapshots import encode_catalog
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.storage.archive import Head
from waymaker_core.storage.checkpoint.writer import encode_state
from waymaker_core.stream.snapshot import encode_snapshot
from waymaker_core.stream.stream import Stream

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)
STOPS = ["kill", "lose_power", "restart", "checkpoint", "checkpoint between"]


def settings(server: Server, name: str) -> StreamConfig:
    info = server.ok(rq.GetStreamInfo(name))
    assert isinstance(info, rq.StreamInfo)
    return info.config


def checkpoint(server: Server) -> None:
    """Publish to another stream until a checkpoint is done."""
    if code(server.call(rq.GetStreamInfo("busy"))) != "ok":
        server.create("busy")
    done = server.node.stats.checkpoints
    while server.node.stats.checkpoints == done:
        server.publish("busy", bytes(500))


def stop(server: Server, how: str) -> None:
    if how.startswith("checkpoint"):
        checkpoint(server)
        server.kill()
    else:
        getattr(server, how)()


def code(answer: Answer | Refusal) -> str:
    assert isinstance(answer, Answer), answer
    return answer.code


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("how", STOPS)
@pytest.mark.parametrize("sync_interval_ms", [0, 1_000])
def test_new_settings_survive_every_stop(how: str, sync_interval_ms: int) -> None:
    server = Server(TINY, sync_interval_ms=sync_interval_ms)
    server.create("s", max_msgs=50)
    server.publish("s", *[b"x"] * 20)
    server.ok(rq.UpdateStream("s", max_msgs=9))
    if how == "checkpoint between":
        checkpoint(server)
    server.ok(rq.UpdateStream("s", max_bytes=900))
    for _ in range(3):
        stop(server, how)
        assert (settings(server, "s").max_msgs, settings(server, "s").max_bytes) == (9, 900)
        assert [seq for seq, _, _ in server.all("s")][-1] == 20
        assert len(server.all("s")) == 9


def test_an_update_writes_nothing_to_the_catalog_s_log() -> None:
    server = Server()
    server.create("s", max_msgs=50)
    catalog = server.node._state.catalog_log
    before = catalog.end
    server.ok(rq.UpdateStream("s", max_msgs=9))
    assert catalog.end == before
    (replica,) = server.node._state.replicas.values()
    assert (replica.stream.config.max_msgs, replica.entry.config.max_msgs) == (9, 50)


@pytest.mark.parametrize("how", ["kill", "lose_power", "restart", "checkpoint"])
def test_an_ephemeral_stream_begins_anew_with_its_newest_settings(how: str) -> None:
    server = Server(TINY)
    server.create("s", ephemeral=True, max_msgs=50)
    server.publish("s", *[b"x"] * 20)
    server.ok(rq.UpdateStream("s", max_msgs=9))
    assert len(server.all("s")) == 9
    for _ in range(3):
        stop(server, how)
        assert settings(server, "s").max_msgs == 9
        assert server.all("s") == []


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_an_update_is_done_or_not_done_wherever_a_crash_interrupts_it(power: bool) -> None:
    for crash_in in range(40):
        server = Server(TINY)
        server.create("s", max_msgs=50)
        server.publish("s", *[b"x"] * 20)
        server.disk.crash_in = crash_in
        try:
            server.ok(rq.UpdateStream("s", max_msgs=9))
            confirmed = True
        except Crash:
            confirmed = False
        server.disk.crash_in = None
        if power:
            server.lose_power()
        else:
            server.kill()
        bound, count = settings(server, "s").max_msgs, len(server.all("s"))
        assert bound == 9 or not confirmed
        assert (bound, count) == (9, 9) or (bound == 50 and count in {20, 9})
        if confirmed:
            return
    raise AssertionError("it never ends")


# ---------------------------------------------------------------- directories of before


def catalog_of(config: StreamConfig, *, importing: bool = False, opened_at: int = 0, next_id: int = 1) -> bytes:
    catalog = Catalog(Limits())
    record = catalog.decide_create("", config, 5, importing=importing or opened_at > 0)
    catalog.apply(record)
    if opened_at:
        catalog.apply(StreamOpened(record.stream_id, opened_at))
    catalog.next_id = max(catalog.next_id, next_id)
    return encode_catalog(catalog)


def state_of(config: StreamConfig, version: int, *, importing: bool = False) -> bytes:
    """Return the state of an empty stream, as of a version of its snapshot."""
    stream = Stream(StreamId(1), config, 5, Limits())
    stream.importing = importing
    values = list(encode_snapshot(stream))  # type: ignore[call-overload]
    if version < 4:
        values = [1, *values[1:11]]
    consumers = Consumers(stream, Limits()).snapshot(Now(0, 0))
    return encode_state([values, consumers if version >= 4 else [3, []]])


def restored(restoring: Restoring) -> Stream:
    return restoring.finish_restore()[StreamId(1)].stream


OLD, NEW = (stream_config("s", max_msgs=bound, block_size=100) for bound in (50, 9))


@pytest.mark.parametrize(("version", "kept"), [(3, NEW), (4, OLD)])
def test_the_catalog_s_entry_holds_only_where_the_snapshot_is_of_before(version: int, kept: StreamConfig) -> None:
    restoring = Restoring(Limits())
    restoring.snapshot(CATALOG, 2, catalog_of(NEW))
    restoring.snapshot(1, 0, state_of(OLD, version))
    assert restored(restoring).config == kept


@pytest.mark.parametrize("version", [3, 4])
def test_an_update_of_before_in_the_catalog_s_log_counts_unless_the_stream_s_own_is_newer(version: int) -> None:
    restoring = Restoring(Limits())
    restoring.snapshot(CATALOG, 1, catalog_of(OLD))
    restoring.snapshot(1, 0, state_of(OLD, version))
    restoring.exists(1)
    list(restoring.files())
    restoring.record(CATALOG, 2, StreamUpdated(1, NEW), None)
    assert restoring.replicas[StreamId(1)].stream.config == (NEW if version == 3 else OLD)
    newest = replace(NEW, max_msgs=3)
    restoring.record(1, 1, SettingsRecord(newest), None)
    restoring.record(CATALOG, 3, StreamUpdated(1, NEW), None)
    assert restored(restoring).config == newest


@pytest.mark.parametrize(("version", "first"), [(3, 40), (4, 1)])
def test_ids_of_consumers_go_on_behind_those_that_the_catalog_drew_before(version: int, first: int) -> None:
    restoring = Restoring(Limits())
    restoring.snapshot(CATALOG, 1, catalog_of(OLD, next_id=40))
    restoring.snapshot(1, 0, state_of(OLD, version))
    replica = restoring.finish_restore()[StreamId(1)]
    for name, expected in (("c", first), ("d", first + 1)):
        record = replica.consumers.decide_create(consumer_config(name), 5).record
        assert record is not None and record.consumer_id == expected
    assert restoring.catalog.next_id == 40, "they are none of the catalog's"


def test_a_restore_of_before_that_ended_in_the_catalog_s_snapshot_has_ended() -> None:
    restoring = Restoring(Limits())
    restoring.snapshot(CATALOG, 3, catalog_of(OLD, opened_at=7))
    restoring.snapshot(1, 0, state_of(OLD, 3))
    stream = restored(restoring)
    assert (stream.importing, stream.last_seq) == (False, 7)


def test_a_restore_of_before_that_ended_in_the_catalog_s_log_has_ended() -> None:
    restoring = Restoring(Limits())
    restoring.snapshot(CATALOG, 1, catalog_of(OLD, importing=True))
    restoring.snapshot(1, 0, state_of(OLD, 3))
    restoring.record(CATALOG, 2, StreamOpened(1, 7), None)
    stream = restored(restoring)
    assert (stream.importing, stream.last_seq) == (False, 7)


@pytest.mark.parametrize("known", [False, True])
def test_the_stream_s_own_state_says_whether_its_restore_ended_whatever_the_catalog_says(known: bool) -> None:
    restoring = Restoring(Limits())
    restoring.snapshot(CATALOG, 1, catalog_of(OLD, importing=not known))
    restoring.snapshot(1, 0, state_of(OLD, 4, importing=known))
    assert restored(restoring).importing == known
    assert restoring.catalog.entries[StreamId(1)].importing == known
    if known:
        restoring.record(1, 1, ImportEnded(7), None)
        assert (restored(restoring).importing, restored(restoring).last_seq) == (False, 7)
        assert not restoring.catalog.entries[StreamId(1)].importing


def test_a_snapshot_says_of_a_restore_no_more_than_yes_or_no() -> None:
    restoring = Restoring(Limits())
    restoring.snapshot(CATALOG, 1, catalog_of(OLD))
    stream, consumers = cbor2.loads(state_of(OLD, 4))
    restoring.snapshot(1, 0, encode_state([[*stream[:-1], 1], consumers]))
    with pytest.raises(ValueError, match="neither being imported nor open"):
        restored(restoring)


# ---------------------------------------------------------------- restores


def archived(config: StreamConfig = OLD) -> Head:
    """Return the head of an archive without messages whose stream had seven, and two consumers."""
    server = Server()
    server.create("s")
    server.consumer("s", "c")
    server.consumer("s", "d")
    head = server.ok(rq.ExportStream("s"))
    assert isinstance(head, Head)
    return Head(config, 5, 8, 7, 0, 0, head.consumers)


def begun(server: Server, head: Head) -> int:
    stream_id = server.ok(rq.ImportBegin("copy", head))
    assert isinstance(stream_id, int)
    server.ok(rq.ImportBatch(stream_id, [5], [6], ["a"], [8], [13], publish("s", ("a", b"imported")).body))
    return stream_id


@pytest.mark.parametrize("how", STOPS)
@pytest.mark.parametrize("sync_interval_ms", [0, 1_000])
def test_a_restored_stream_survives_every_stop(how: str, sync_interval_ms: int) -> None:
    server = Server(TINY, sync_interval_ms=sync_interval_ms)
    stream_id = begun(server, archived())
    catalog = server.node._state.catalog_log
    before = catalog.end
    if how == "checkpoint between":
        checkpoint(server)
        before = catalog.end
    server.ok(rq.ImportEnd(stream_id, True))
    assert catalog.end == before, "its end is no record of the catalog"
    for _ in range(3):
        stop(server, how)
        assert server.stats("copy").last_seq == 7
        assert server.all("copy") == [(5, 0, b"imported")]
        assert [info.config.name for info in server.consumers("copy")] == ["c", "d"]
    assert server.publish("copy", b"next").first_seq == 8


@pytest.mark.parametrize("how", ["kill", "restart", "checkpoint"])
def test_a_restored_ephemeral_stream_begins_anew_and_an_unfinished_one_is_deleted(how: str) -> None:
    server = Server(TINY)
    stream_id = begun(server, archived(stream_config("s", ephemeral=True)))
    server.ok(rq.ImportEnd(stream_id, True))
    assert server.all("copy") == [(5, 0, b"imported")]
    for _ in range(2):
        stop(server, how)
        assert server.all("copy") == [] and settings(server, "copy").ephemeral
    server.ok(rq.DeleteStream("copy"))
    begun(server, archived(stream_config("s", ephemeral=True)))
    stop(server, how)
    assert code(server.call(rq.GetStreamInfo("copy"))) == "no_such_stream"


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_a_restore_is_there_whole_or_not_at_all_wherever_a_crash_interrupts_its_end(power: bool) -> None:
    head = archived()
    for crash_in in range(40):
        server = Server(TINY)
        stream_id = begun(server, head)
        server.disk.crash_in = crash_in
        try:
            server.ok(rq.ImportEnd(stream_id, True))
            confirmed = True
        except Crash:
            confirmed = False
        server.disk.crash_in = None
        if power:
            server.lose_power()
        else:
            server.kill()
        there = code(server.call(rq.GetStreamInfo("copy"))) == "ok"
        assert there or not confirmed
        if there:
            assert server.stats("copy").last_seq == 7
            assert [info.config.name for info in server.consumers("copy")] == ["c", "d"]
        else:
            server.create("copy")
        if confirmed:
            return
    raise AssertionError("it never ends")


def test_a_restore_ends_once_and_takes_nothing_behind_its_end() -> None:
    server = Server()
    stream_id = begun(server, archived())
    requests: list[rq.Request] = [
        rq.ImportEnd(stream_id, True),
        rq.ImportEnd(stream_id, True),
        rq.ImportBatch(stream_id, [6], [6], ["a"], [8], [13], publish("s", ("a", b"imported")).body),
        rq.ImportEnd(stream_id, False),
    ]
    tokens = [Token(server.token()) for _ in requests]
    server.step(*[Call(token, ANYONE, request) for token, request in zip(tokens, requests, strict=True)])
    assert [code(server.replies[token]) for token in tokens] == ["ok", *["no_such_stream"] * 3]
    assert server.all("copy") == [(5, 0, b"imported")]


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_damaged_stream_is_deleted_by_a_start_only_if_its_restore_had_not_ended(
    ended: bool, checkpointed: bool
) -> None:
    """Damage hides the record of the end from the stream, not from the start. Streams come first in a checkpoint."""
    server = Server(TINY)
    stream_id = begun(server, archived())
    if ended:
        server.ok(rq.ImportEnd(stream_id, True))
    if checkpointed:
        checkpoint(server)
    else:
        server.create("other")
        server.pass_ms(2_000)
    path, at = (
        _place_of(server, "checkpoints/", b"\x64copy") if checkpointed else _place_of(server, "journal/", b"imported")
    )
    server.disk.flip(path, 8 * at + 3)
    server.kill()
    answer = server.call(rq.GetStreamInfo("copy"))
    if ended:
        assert isinstance(answer, Refusal) and "quarantined" in answer.message
        server.ok(rq.DeleteStream("copy"))
    else:
        assert code(answer) == "no_such_stream"
    server.create("copy")


def _place_of(server: Server, folder: str, needle: bytes) -> tuple[str, int]:
    """Return where some bytes stand first in the newest file of a folder that has them."""
    for path in sorted(server.disk.names, reverse=True):
        at = server.disk.names[path].content.find(needle)
        if path.startswith(folder) and at >= 0:
            return path, at
    raise AssertionError("not on disk")

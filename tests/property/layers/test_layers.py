"""What every layer stands on: one record for messages, deletions and facts; the same state live, restarted and restored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import SMALL, Server
from tests.kit.store_disk import Crash
from tests.kit.tally_layer import KIND, decide, replica_of, tallies, tally_of
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Lead, StepDown
from waymaker_core.layers.layer_set import LayerSet
from waymaker_core.model.limits import KIB
from waymaker_core.model.records import LayerRecord
from waymaker_core.model.result_codes import Refusal, Status
from waymaker_core.node.checkpoint.snapshots import decode_stream, encode_stream
from waymaker_core.node.services import make_layers
from waymaker_core.storage.archive import Head
from waymaker_core.storage.checkpoint.writer import encode_state
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)
NAME = "hash:s"


def server_with(**settings: object) -> Server:
    server = Server(layers=tallies, **settings)  # type: ignore[arg-type]
    server.create(NAME)
    return server


def payloads(server: Server, name: str = NAME) -> list[bytes]:
    return [payload for _, _, payload in server.all(name)]


# ---------------------------------------------------------------- live and again


@pytest.mark.parametrize("how", ["kill", "lose_power", "restart", "checkpoint"])
def test_messages_deletions_and_facts_come_back_together(how: str) -> None:
    server = server_with(limits=TINY)
    decide(server, "a", 3, b"one", b"two")
    decide(server, "b", 4)
    server.step()
    decide(server, "a", 7, b"three", drops=[1])
    server.step()
    if how == "checkpoint":
        server.create("busy")
        while not server.node.stats.checkpoints:
            server.publish("busy", bytes(500))
        server.kill()
    else:
        getattr(server, how)()
    assert payloads(server) == [b"two", b"three"]
    assert tally_of(server).sums == {"a": 7, "b": 4}
    assert tally_of(server).seen == 3
    server.node.check()


def test_a_crash_at_any_operation_leaves_a_record_whole_or_not_at_all() -> None:
    for crash_in in range(40):
        server = server_with()
        decide(server, "a", 1, b"old")
        server.step()
        decide(server, "a", 2, b"new", drops=[1])
        server.disk.crash_in = crash_in
        try:
            server.step()
            over = True
        except Crash:
            over = False
        server.disk.crash_in = None
        server.lose_power()
        state = (tally_of(server).sums["a"], payloads(server))
        assert state == (2, [b"new"]) or (state == (1, [b"old"]) and not over)
        server.node.check()
        if over:
            assert crash_in > 1
            return
    raise AssertionError("the record never became durable")


def test_a_decision_sees_those_before_it_and_a_reader_does_not() -> None:
    server = server_with()
    decide(server, "a", 5)
    assert tally_of(server).sum_of("a") == 5
    assert tally_of(server).sums == {}
    decide(server, "a", 6)
    assert tally_of(server).sum_of("a") == 6
    server.step()
    assert tally_of(server).sums == {"a": 6}
    assert not tally_of(server).has_staged()


def test_what_only_a_leader_staged_is_forgotten_when_it_steps_down() -> None:
    server = server_with(replicated=True)
    decide(server, "a", 1)
    server.step()
    server.starve(NAME)
    decide(server, "a", 2, b"waits")
    server.step()
    assert tally_of(server).sum_of("a") == 2
    server.step(StepDown(server.log_id(NAME)))
    assert tally_of(server).sum_of("a") == 1
    server.feed()
    assert tally_of(server).sums == {"a": 2}
    server.step(Lead(server.log_id(NAME)))
    server.node.check()


def test_what_falls_due_is_decided_where_the_replica_leads() -> None:
    server = server_with(replicated=True)
    log = server.log_id(NAME)
    server.step(StepDown(log))
    replica_of(server).layers.by_kind[KIND].sums["a"] = 100  # type: ignore[attr-defined]
    server.pass_ms(10_000)
    assert payloads_seen(server) == 0
    server.step(Lead(log))
    assert tally_of(server).sums == {"a": 0}
    assert payloads(server) == [b"full"]


def payloads_seen(server: Server) -> int:
    return tally_of(server).seen


def test_many_due_decisions_share_no_step_with_too_much_else() -> None:
    server = server_with()
    for number in range(30):
        decide(server, f"n{number}", 100)
    server.step()
    assert set(tally_of(server).sums.values()) == {0}
    assert len(payloads(server)) == 30


# ---------------------------------------------------------------- ephemeral, interval sync


def test_an_ephemeral_stream_has_a_layer_that_a_restart_empties() -> None:
    server = Server(layers=tallies)
    server.create(NAME, ephemeral=True)
    decide(server, "a", 3, b"one")
    server.step()
    assert payloads(server) == [b"one"]
    server.kill()
    assert (tally_of(server).sums, payloads(server)) == ({}, [])


def test_with_interval_sync_no_sequence_of_a_layer_is_used_twice() -> None:
    server = server_with(sync_interval_ms=1_000)
    decide(server, "a", 1, b"one")
    server.step()
    server.lose_power()
    decide(server, "a", 1, b"two")
    server.step()
    assert [seq for seq, _, _ in server.all(NAME)][-1] > 1


# ---------------------------------------------------------------- archives


def archive(server: Server) -> Head:
    head = server.ok(rq.ExportStream(NAME))
    assert isinstance(head, Head)
    return head


def imported(head: Head) -> Server | Refusal:
    target = Server(layers=tallies)
    stream_id = target.ok(rq.ImportBegin(NAME, head))
    assert isinstance(stream_id, int)
    answer = target.call(rq.ImportEnd(stream_id, True))
    return answer if isinstance(answer, Refusal) else target


def test_an_archive_carries_layers() -> None:
    server = server_with()
    decide(server, "a", 3)
    decide(server, "b", 9)
    server.step()
    target = imported(archive(server))
    assert isinstance(target, Server)
    assert tally_of(target).sums == {"a": 3, "b": 9}
    target.kill()
    assert tally_of(target).sums == {"a": 3, "b": 9}


@pytest.mark.parametrize("layers", [[[KIND, "sums"]], [[9, []]], [[1, []]], [3], [[KIND]], [[KIND, [1, ["a"], [], 0]]]])
def test_an_archive_with_layers_that_make_no_sense_is_refused(layers: list[object]) -> None:
    answer = imported(replace(archive(server_with()), layers=layers))
    assert isinstance(answer, Refusal)
    assert answer.status is Status.INVALID_ARGUMENT


# ---------------------------------------------------------------- snapshots


def test_a_stream_without_layers_has_the_snapshot_it_always_had() -> None:
    server = Server(layers=make_layers)
    server.create("s")
    meta = encode_stream(replica_of(server, "s"), server.now())
    assert decode_stream(meta).layers == []
    assert encode_state(list(decode_stream(meta)[:2])) == meta


def test_facts_of_a_layer_that_a_stream_has_not_are_refused() -> None:
    layers = LayerSet()
    with pytest.raises(CorruptRecord, match="does not have"):
        layers.apply(LayerRecord(None, facts=[(KIND, b"x")]))
    with pytest.raises(UnknownVersion):
        layers.apply(LayerRecord(None, facts=[(77, b"x")]))
    with pytest.raises(CorruptRecord, match="two layers"):
        layers.restore([[KIND, 1], [KIND, 1]])


def test_a_record_that_its_layer_cannot_take_quarantines_its_stream_and_no_other() -> None:
    server = server_with()
    server.create("t")
    server.publish("t", b"x")
    decide(server, "a", 3)
    server.step()
    server.config = replace(server.config, layers=lambda stream: [])
    server.kill()
    assert server.node.quarantined() == [NAME]
    assert payloads(server, "t") == [b"x"]

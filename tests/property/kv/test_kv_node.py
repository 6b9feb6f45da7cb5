"""A bucket in a node: changes and their conditions, times to live, tombstones, bounds, watches; through every kind of stop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.kv_kit import Bucket, Change, failed, write_request
from tests.kit.node_kit import SMALL, Server
from tests.kit.store_disk import Crash
from waymaker_core.api import kv_requests as kv
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Call, Credit, Lead, StepDown
from waymaker_core.api.kv_requests import KvOp
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import KIB
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import ANYONE, Token
from waymaker_core.storage.archive import Head

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)
DAY_MS = 24 * 3_600_000
STOPS = ["kill", "lose_power", "restart"]


# ---------------------------------------------------------------- changes


def test_the_changes_of_a_key_and_what_is_read() -> None:
    bucket = Bucket()
    assert bucket.get("a") == {}
    assert bucket.put("a", b"one") == 1
    assert bucket.get("a", "x") == {"a": (1, b"one")}
    assert bucket.put("a", b"two") == 2
    assert bucket.update("a", b"three", 2) == 3
    assert (failed(bucket.update("a", b"four", 2)).code, failed(bucket.update("a", b"", 2)).revision) == (
        "wrong_revision",
        3,
    )
    assert failed(bucket.create("a")).revision == 3
    assert bucket.delete("a") == 4
    assert bucket.get("a") == {}
    assert bucket.delete("a") == 4, "what has no live value is not deleted again"
    assert bucket.delete("never") == 0
    assert failed(bucket.update("a", b"", 3)).revision == 4
    assert bucket.create("a", b"again") == 5
    assert bucket.history("a") == [(1, b"one"), (2, b"two"), (3, b"three"), (4, b""), (5, b"again")]
    assert bucket.history("a", 4) == [(4, b""), (5, b"again")]


def test_an_update_of_revision_0_acts_as_a_create() -> None:
    bucket = Bucket()
    assert bucket.update("a", b"one", 0) == 1
    assert failed(bucket.update("a", b"two", 0)).revision == 1
    bucket.delete("a")
    assert bucket.update("a", b"two", 0) == 3


def test_changes_of_one_request_see_those_before_them() -> None:
    bucket = Bucket()
    out = bucket.write(
        Change(KvOp.CREATE, "a", b"1"), Change(KvOp.CREATE, "a", b"2"), Change(KvOp.UPDATE, "a", b"3", 1),
        Change(KvOp.DELETE, "a"), Change(KvOp.CREATE, "a", b"4"), Change(KvOp.TOUCH, "a", ttl_ms=500),
        Change(KvOp.PUT, "b", b"5"), Change(KvOp.PUT, "bad..key", b""),
    )  # fmt: skip
    assert [out[place] for place in (0, 2, 3, 4, 5, 6)] == [1, 2, 3, 4, 4, 5]
    assert failed(out[1]).revision == 1
    assert failed(out[7]).code == "invalid_key"
    assert bucket.get("a", "b") == {"a": (4, b"4"), "b": (5, b"5")}
    bucket.server.pass_ms(499)
    assert bucket.get("a") == {"a": (4, b"4")}
    bucket.server.pass_ms(1)
    assert bucket.get("a") == {}


def test_a_bucket_is_made_and_deleted_and_its_missing_is_told() -> None:
    bucket = Bucket()
    assert code(bucket.server.call(kv.KvCreateBucket("b"))) == "already_exists"
    assert code(bucket.server.call(kv.KvCreateBucket("b c"))) == "invalid_config"
    assert code(bucket.server.call(kv.KvCreateBucket("c", max_bytes=-1))) == "invalid_config"
    assert code(bucket.server.call(kv.KvGet("missing", ["a"]))) == "no_such_bucket"
    assert code(bucket.server.call(rq.GetStreamInfo("kv:b"))) == "ok"
    bucket.server.ok(kv.KvDeleteBucket("b"))
    assert code(bucket.server.call(write_request("b", Change(KvOp.PUT, "a")))) == "no_such_bucket"
    bucket.server.ok(kv.KvCreateBucket("50%"))
    assert Bucket(bucket.server, "100%").put("a") == 1


def code(answer: Answer | Refusal) -> str:
    assert isinstance(answer, Answer), answer
    return answer.code


def test_a_bucket_may_be_made_as_a_stream_with_another_history() -> None:
    server = Server()
    server.create("kv:few", max_msgs_per_subject=2)
    server.create("kv:many")
    info = server.ok(rq.GetStreamInfo("kv:many"))
    assert isinstance(info, rq.StreamInfo)
    assert info.config.max_msgs_per_subject == 64
    bucket = Bucket(server)
    bucket.name = "few"
    for value in (b"1", b"2", b"3"):
        bucket.put("a", value)
    assert bucket.history("a") == [(2, b"2"), (3, b"3")]


# ---------------------------------------------------------------- times to live


def test_the_end_of_a_time_to_live_is_a_tombstone_and_no_older_value_comes_back() -> None:
    bucket = Bucket()
    bucket.put("a", b"old")
    bucket.put("a", b"new", ttl_ms=1_000)
    watch = bucket.watch()
    bucket.server.pass_ms(999)
    assert bucket.get("a") == {"a": (2, b"new")}
    bucket.server.pass_ms(1)
    assert bucket.get("a") == {}
    assert bucket.seen(watch) == [(2, b"new"), (3, b"")]
    assert bucket.listed() == [("a", 3, True)]
    assert bucket.layer.ttls == {}


def test_put_sets_the_time_to_live_anew_and_touch_changes_it() -> None:
    bucket = Bucket()
    bucket.put("a", b"1", ttl_ms=1_000)
    bucket.put("a", b"2")
    bucket.put("b", b"1", ttl_ms=1_000)
    assert bucket.touch("b", 3_000) == 3
    bucket.put("c", b"1", ttl_ms=1_000)
    assert bucket.touch("c", 0) == 4
    bucket.put("d", b"1")
    bucket.touch("d", 500)
    bucket.server.pass_ms(2_000)
    assert bucket.get("a", "b", "c", "d") == {"a": (2, b"2"), "b": (3, b"1"), "c": (4, b"1")}
    bucket.server.pass_ms(1_000)
    assert bucket.get("a", "b", "c") == {"a": (2, b"2"), "c": (4, b"1")}
    assert failed(bucket.touch("b", 1_000)).code == "wrong_revision"
    assert failed(bucket.touch("never", 1_000)).revision == 0


@pytest.mark.parametrize("how", STOPS)
def test_a_time_to_live_that_ended_while_the_node_was_down_ends_at_its_start(how: str) -> None:
    bucket = Bucket()
    bucket.put("a", b"1", ttl_ms=5_000)
    bucket.put("b", b"1", ttl_ms=50_000)
    bucket.server.wall_ms += 10_000
    getattr(bucket.server, how)()
    assert bucket.listed() == [("a", 3, True), ("b", 2, False)]
    assert bucket.get("a", "b") == {"b": (2, b"1")}
    bucket.server.pass_ms(40_000)
    assert bucket.get("b") == {}


def test_a_wall_clock_that_goes_back_makes_no_life_longer_than_its_whole_time() -> None:
    bucket = Bucket()
    bucket.put("a", b"1", ttl_ms=5_000)
    bucket.server.wall_ms -= 3_600_000
    bucket.server.pass_ms(5_000)
    assert bucket.get("a") == {}
    bucket.put("b", b"1", ttl_ms=5_000)
    bucket.server.wall_ms -= 3_600_000
    bucket.server.kill()
    bucket.server.pass_ms(5_000)
    assert bucket.get("b") == {}


def test_an_overdue_value_is_not_compared_with_nor_read_before_its_tombstone() -> None:
    for request in (
        Change(KvOp.UPDATE, "a", b"2", 1),
        Change(KvOp.CREATE, "a", b"2"),
        Change(KvOp.TOUCH, "a", ttl_ms=9),
    ):
        bucket = Bucket()
        bucket.put("a", b"1", ttl_ms=1_000)
        # The clock passes the end, and the call is in the very step that notices it.
        bucket.server.mono_ns += 1_000 * 1_000_000
        bucket.server.wall_ms += 1_000
        outcome = bucket.write(request)[0]
        if request.op is KvOp.CREATE:
            assert outcome == 3
        else:
            assert failed(outcome).revision == 2
    bucket = Bucket()
    bucket.put("a", b"1", ttl_ms=1_000)
    bucket.server.mono_ns += 1_000 * 1_000_000
    assert bucket.get("a") == {}
    assert bucket.history("a") == [(1, b"1"), (2, b"")]


def test_the_longest_life_of_a_bucket_bounds_every_value() -> None:
    bucket = Bucket(max_age_ms=1_000)
    bucket.put("a", b"1")
    bucket.put("b", b"1", ttl_ms=5_000)
    bucket.put("c", b"1", ttl_ms=400)
    bucket.server.pass_ms(400)
    assert list(bucket.get("a", "b", "c")) == ["a", "b"]
    bucket.server.pass_ms(600)
    assert bucket.get("a", "b", "c") == {}


def test_many_ends_at_one_moment_become_few_records() -> None:
    bucket = Bucket()
    for start in range(0, 3_000, 500):
        bucket.write(*[Change(KvOp.PUT, f"k.{number}", b"v", 0, 10_000) for number in range(start, start + 500)])
    committed = bucket.server.node.stats.records_committed
    bucket.server.pass_ms(10_000)
    assert bucket.server.node.stats.records_committed - committed <= 8
    assert all(deleted for _, _, deleted in bucket.listed())
    assert bucket.layer.ttls == {}


# ---------------------------------------------------------------- tombstones


def test_a_tombstone_goes_with_all_that_it_hides_after_its_time() -> None:
    bucket = Bucket()
    bucket.put("a", b"1")
    bucket.put("b", b"1", ttl_ms=1_000)
    bucket.delete("a")
    bucket.server.pass_ms(DAY_MS)
    assert bucket.listed() == [("b", 4, True)]
    bucket.put("c")
    bucket.server.kill()
    bucket.server.pass_ms(1_000)
    assert bucket.listed() == [("c", 5, False)]
    assert bucket.server.stats("kv:b").msg_count == 1
    assert bucket.history("a") == []
    assert bucket.create("a", b"new") == 6


def test_a_key_that_lives_again_keeps_its_history() -> None:
    bucket = Bucket(tombstone_ms=1_000)
    bucket.put("a", b"1")
    bucket.delete("a")
    bucket.put("a", b"2")
    bucket.server.pass_ms(5_000)
    assert bucket.history("a") == [(1, b"1"), (2, b""), (3, b"2")]


# ---------------------------------------------------------------- bounds


def test_a_full_bucket_refuses_and_evicts_no_live_key() -> None:
    bucket = Bucket(max_messages=3, history=2)
    for key in "abc":
        bucket.put(key, b"1")
    refused = failed(bucket.put("d"))
    assert refused.status is Status.RESOURCE_EXHAUSTED
    assert failed(bucket.put("a", b"2")).status is Status.RESOURCE_EXHAUSTED
    assert [key for key, _, _ in bucket.listed()] == ["a", "b", "c"]
    assert bucket.delete("a") == 4, "an end takes its key's revisions along, and makes room"
    assert bucket.history("a") == [(4, b"")]
    assert failed(bucket.put("d")).status is Status.RESOURCE_EXHAUSTED
    bucket.server.pass_ms(DAY_MS)
    assert bucket.put("d") == 5


def test_a_bound_of_bytes_counts_what_the_history_pushes_out() -> None:
    size = 100 + len("b.a")
    bucket = Bucket(max_bytes=2 * size, history=2)
    assert bucket.put("a", bytes(100)) == 1
    assert bucket.put("a", bytes(100)) == 2
    assert bucket.put("a", bytes(100)) == 3, "the first revision went"
    assert failed(bucket.put("b", b"")).status is Status.RESOURCE_EXHAUSTED
    outcomes = bucket.write(*[Change(KvOp.PUT, "a", bytes(100))] * 5)
    assert outcomes == [4, 5, 6, 7, 8]
    assert bucket.server.stats("kv:b").bytes == 2 * size


def test_a_value_over_the_bound_is_refused_by_itself() -> None:
    bucket = Bucket(max_value_size=3)
    out = bucket.write(Change(KvOp.PUT, "a", b"123"), Change(KvOp.PUT, "b", b"1234"))
    assert out[0] == 1
    assert failed(out[1]).status is Status.RESOURCE_EXHAUSTED


# ---------------------------------------------------------------- keys


def test_keys_are_listed_page_by_page_in_order() -> None:
    bucket = Bucket()
    names = sorted(f"k.{number % 7}-{number}" for number in range(50))
    bucket.write(*[Change(KvOp.PUT, name) for name in reversed(names)])
    found: list[str] = []
    while page := bucket.listed(found[-1] if found else "", 7):
        found += [key for key, _, _ in page]
    assert found == names


@pytest.mark.parametrize("key", ["", ".", "a.", "a..b", "a*", ">", "a b", "ä", "a\n", "k" * 1_024])
def test_a_key_that_cannot_be_is_told(key: str) -> None:
    bucket = Bucket()
    assert failed(bucket.put(key)).code == "invalid_key"
    assert failed(bucket.delete(key)).status is Status.INVALID_ARGUMENT
    for request in (kv.KvGet("b", [key]), kv.KvHistory("b", key)):
        assert bucket.refusal(request).status is Status.INVALID_ARGUMENT


# ---------------------------------------------------------------- watches


def test_a_watch_brings_live_values_and_then_every_change() -> None:
    bucket = Bucket()
    for key in "abc":
        bucket.put(key, key.encode())
    bucket.put("a", b"a2")
    bucket.delete("b")
    watch, of_a = bucket.watch(), bucket.watch("a")
    assert bucket.seen(watch) == [(3, b"c"), (4, b"a2")]
    bucket.put("b", b"b2")
    bucket.delete("c")
    assert bucket.seen(watch) == [(3, b"c"), (4, b"a2"), (6, b"b2"), (7, b"")]
    assert bucket.seen(of_a) == [(4, b"a2")]


def test_a_watch_without_credit_waits_and_misses_nothing() -> None:
    bucket = Bucket()
    for number in range(20):
        bucket.put(f"k.{number}", b"%d" % number)
    watch = bucket.watch("k.*", 5)
    assert len(bucket.seen(watch)) == 5
    bucket.put("k.3", b"again")
    bucket.put("k.9", b"again")
    bucket.delete("k.15")
    bucket.server.step(Credit(Token(watch), 1_000, 1 << 20))
    seqs = [seq for seq, _ in bucket.seen(watch)]
    assert seqs == [seq for seq in range(1, 21) if seq not in (10, 16)] + [21, 22, 23]


def test_a_watch_ends_with_its_bucket_and_with_the_leading() -> None:
    bucket = Bucket(Server(replicated=True))
    watch = bucket.watch()
    log = bucket.server.log_id("kv:b")
    bucket.server.step(StepDown(log))
    assert bucket.server.ends[watch].reason == "moved"
    bucket.server.step(Lead(log))
    watch = bucket.watch()
    bucket.server.ok(kv.KvDeleteBucket("b"))
    assert bucket.server.ends[watch].reason == "stream_deleted"
    token = bucket.server.token()
    bucket.server.step(Call(Token(token), ANYONE, kv.KvWatch("b")))
    refusal = bucket.server.ends[token].refusal
    assert refusal is not None
    assert (refusal.status, refusal.code) == (Status.NOT_FOUND, "no_such_bucket")


def test_a_watch_that_goes_on_behind_a_revision_misses_no_end() -> None:
    bucket = Bucket()
    for key in "abc":
        bucket.put(key, key.encode())
    bucket.delete("b")
    token = bucket.server.token()
    bucket.server.step(Call(Token(token), ANYONE, kv.KvWatch("b", "", 2)), Credit(Token(token), 100, 1 << 20))
    assert bucket.seen(token) == [(3, b"c"), (4, b"")]
    bucket.put("a", b"a2")
    assert bucket.seen(token)[-1] == (5, b"a2")


# ---------------------------------------------------------------- stops and archives


@pytest.mark.parametrize("how", [*STOPS, "checkpoint"])
def test_a_bucket_is_the_same_after_every_kind_of_stop(how: str) -> None:
    bucket = Bucket(limits=TINY)
    for number in range(40):
        bucket.put(f"k.{number % 7}", b"%d" % number * 20, ttl_ms=100_000 if number % 3 == 0 else 0)
    bucket.delete("k.2")
    bucket.put("k.3", b"short", ttl_ms=200)
    bucket.server.pass_ms(300)
    keys = [f"k.{number}" for number in range(7)]
    before = bucket.get(*keys), bucket.listed(), set(bucket.layer.ttls), bucket.layer.tombstones
    if how == "checkpoint":
        bucket.server.create("busy")
        while bucket.server.node.stats.checkpoints < 2:
            bucket.server.publish("busy", bytes(500))
        bucket.server.kill()
    else:
        getattr(bucket.server, how)()
    assert (bucket.get(*keys), bucket.listed(), set(bucket.layer.ttls), bucket.layer.tombstones) == before
    bucket.server.node.check()
    bucket.server.pass_ms(100_000)
    assert set(bucket.layer.ttls) == set()


def test_a_crash_at_any_operation_leaves_an_end_whole_or_not_at_all() -> None:
    for crash_in in range(60):
        bucket = Bucket()
        bucket.put("a", b"1")
        bucket.put("a", b"2", ttl_ms=1_000)
        bucket.server.disk.crash_in = crash_in
        try:
            bucket.server.pass_ms(1_000)
            over = True
        except Crash:
            over = False
        bucket.server.disk.crash_in = None
        bucket.server.lose_power()
        assert bucket.get("a") == {}, "after the start it is overdue, if it had not ended before"
        assert bucket.history("a") == [(1, b"1"), (2, b"2"), (3, b"")]
        if over:
            return
    raise AssertionError("the end never became durable")


def test_an_archive_brings_a_bucket_back_with_its_ends() -> None:
    bucket = Bucket(max_messages=100, tombstone_ms=50_000)
    bucket.put("a", b"1")
    bucket.put("b", b"1", ttl_ms=5_000)
    bucket.put("c", b"1", ttl_ms=60_000)
    bucket.delete("a")
    head = bucket.server.ok(rq.ExportStream("kv:b"))
    assert isinstance(head, Head)
    target = Server()
    stream_id = target.ok(rq.ImportBegin("kv:b", head))
    assert isinstance(stream_id, int)
    copy_messages(bucket.server, target, stream_id)
    target.wall_ms += 10_000
    target.ok(rq.ImportEnd(stream_id, True))
    restored = Bucket.__new__(Bucket)
    restored.server, restored.name = target, "b"
    assert restored.listed() == [("a", 4, True), ("b", 5, True), ("c", 3, False)]
    target.pass_ms(50_000)
    assert restored.get("c") == {}
    assert restored.layer.settings.max_messages == 100


@pytest.mark.parametrize(
    ("name", "original", "settings"),
    [("kv:b", "kv:a", b""), ("kv:b", "s", b""), ("s", "kv:b", b""), ("kv:b", "kv:b", b"x"), ("kv:b", "kv:b", b"\x81\x01"),
     ("kv:b", "kv:b", b"\x85\x01\x20\x00\x00\x00"), ("kv:b", "kv:b", b"\x85\x02\x00\x00\x00\x00")],
)  # fmt: skip
def test_an_archive_of_another_bucket_or_with_foreign_settings_is_refused(
    name: str, original: str, settings: bytes
) -> None:
    config = StreamConfig(original, block_size=10, max_msgs_per_subject=64, service_settings=settings)
    answer = Server().call(rq.ImportBegin(name, Head(config, 0, 1, 0, 0, 0, None)))
    assert code(answer) == "invalid_config"


@pytest.mark.parametrize(
    "snapshot",
    [None, [], [1], [2, [], []], [1, ["b.a", b"\x01" + bytes(7), bytes(8)], ["", b"", b"", b""]], [1, ["b.a"], []],
     [1, ["", b"", b""], ["b.a\0b.a", bytes(16), bytes(16), bytes(16)]]],
)  # fmt: skip
def test_a_layer_out_of_an_archive_that_makes_no_sense_is_refused(snapshot: object) -> None:
    server = Server()
    config = StreamConfig("kv:b", block_size=10, max_msgs_per_subject=64)
    head = Head(config, 0, 1, 0, 0, 0, None, [[2, snapshot]])
    stream_id = server.ok(rq.ImportBegin("kv:b", head))
    assert isinstance(stream_id, int)
    answer = server.call(rq.ImportEnd(stream_id, True))
    assert isinstance(answer, Refusal)
    assert answer.status is Status.INVALID_ARGUMENT


def copy_messages(source: Server, target: Server, stream_id: int) -> None:
    token = source.ask(rq.ReadRange("kv:b", 1, 100))
    answer = source.replies[token]
    assert isinstance(answer, Answer) and isinstance(answer.value, rq.Messages)
    for run in answer.value.runs:
        body = run.bodies_in(source._chunk(run.chunk))
        at, subjects = 0, []
        for length in run.lengths:
            subjects.append(body[at + 2 : at + 2 + body[at + 1]].decode())
            at += length
        sizes = [0] * len(subjects)
        target.ok(
            rq.ImportBatch(
                stream_id, list(run.sequences()), list(run.times_ms), subjects, sizes, list(run.lengths), body
            )
        )


def test_an_ephemeral_bucket_is_empty_after_a_restart() -> None:
    bucket = Bucket(ephemeral=True)
    bucket.put("a", b"1", ttl_ms=1_000)
    bucket.put("b", b"1")
    bucket.server.pass_ms(1_000)
    assert bucket.get("a", "b") == {"b": (2, b"1")}
    bucket.server.kill()
    assert bucket.listed() == []
    assert bucket.put("a") == 1


def test_a_leader_that_steps_down_takes_its_decisions_back() -> None:
    bucket = Bucket(Server(replicated=True))
    bucket.put("a", b"1", ttl_ms=1_000)
    log = bucket.server.log_id("kv:b")
    bucket.server.starve("kv:b")
    bucket.server.ask(write_request("b", Change(KvOp.TOUCH, "a", ttl_ms=50_000)))
    bucket.server.step(StepDown(log))
    assert not bucket.layer.has_staged()
    bucket.server.feed()
    bucket.server.step(Lead(log))
    bucket.server.pass_ms(1_000)
    assert bucket.get("a") == {"a": (1, b"1")}, "the touch was committed all the same"
    bucket.server.pass_ms(50_000)
    assert bucket.get("a") == {}
    bucket.server.node.check()

"""Collections on a node: at most once, bounds that refuse, crashes at any operation, archives, other leaders, lost files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit import collections_play as play
from tests.kit.node_kit import SMALL, Server
from tests.kit.store_disk import Crash
from waymaker_core.api import collection_requests as cq
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Call, Lead, StepDown
from waymaker_core.collections.entries import Entries
from waymaker_core.collections.queue import Queue
from waymaker_core.collections.settings import StoreSettings
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import DiskFailure, FailureKind
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status
from waymaker_core.model.types import ANYONE, Token
from waymaker_core.storage.archive import Head

QUEUE, HASH = "queue:q", "hash:h"


def server_with(name: str, limits: Limits = SMALL, block_size: int = 0, **bounds: int) -> Server:
    server = Server(limits)
    settings = StoreSettings(**bounds).encode()
    server.ok(rq.CreateStream(StreamConfig(name, block_size=block_size, service_settings=settings)))
    return server


def refusal(server: Server, request: rq.Request) -> Refusal:
    answer = server.call(request)
    assert isinstance(answer, Refusal), answer
    return answer


# ---------------------------------------------------------------- queues


def test_takes_that_are_decided_together_never_give_one_value_twice() -> None:
    server = server_with(QUEUE, block_size=3)
    tokens = [server.token() for _ in range(8)]
    calls = [Call(Token(token), ANYONE, cq.PopValues(QUEUE, 2)) for token in tokens]
    pushes = [
        Call(Token(server.token()), ANYONE, play.push_request(QUEUE, bytes([n]), bytes([n + 1]))) for n in (0, 2, 4)
    ]
    server.step(pushes[0], calls[0], pushes[1], calls[1], calls[2], pushes[2], *calls[3:])
    given = [[payload for _, _, payload in server.bodies[token]] for token in tokens]
    assert given[:4] == [[b"\x00", b"\x01"], [b"\x02", b"\x03"], [], [b"\x04", b"\x05"]]
    assert given[4:] == [[]] * 4
    server.node.check()


def test_a_value_is_given_at_most_once_through_a_crash_at_any_operation() -> None:
    for crash_in in range(60):
        server = server_with(QUEUE, block_size=2)
        play.push(server, QUEUE, *[bytes([n]) for n in range(5)])
        given = play.pop(server, QUEUE, 2)
        server.disk.crash_in = crash_in
        before = set(server.replies)
        try:
            token = server.ask(cq.PopValues(QUEUE, 1))
            crashed = False
        except Crash:
            token, crashed = max(server.replies), True
        if token in server.bodies and token not in before:
            given += [payload for _, _, payload in server.bodies[token]]
        server.disk.crash_in = None
        server.lose_power()
        left = play.pop(server, QUEUE, 10)
        assert len(set(given + left)) == len(given + left), "a value was given twice"
        assert left in ([b"\x02", b"\x03", b"\x04"], [b"\x03", b"\x04"])
        server.node.check()
        if not crashed:
            assert given == [b"\x00", b"\x01", b"\x02"]
            assert left == [b"\x03", b"\x04"]
            return
    raise AssertionError("the take never became durable")


def test_an_answer_waits_for_the_majority_and_a_deposed_node_gives_nothing() -> None:
    server = Server(replicated=True)
    server.create(QUEUE)
    play.push(server, QUEUE, b"a", b"b")
    server.starve(QUEUE)
    token = server.ask(cq.PopValues(QUEUE, 1))
    assert token not in server.replies
    log = server.log_id(QUEUE)
    server.step(StepDown(log))
    answer = server.replies[token]
    assert isinstance(answer, Refusal)
    assert answer.outcome is Outcome.UNKNOWN
    server.feed()
    server.step(Lead(log))
    assert play.pop(server, QUEUE, 5) == [b"b"]
    server.node.check()


def test_values_are_kept_until_their_answer_has_left_and_deleted_then() -> None:
    server = server_with(QUEUE, block_size=2)
    play.push(server, QUEUE, b"a", b"b", b"c", b"d", b"e")
    queue = play.layer_of(server, QUEUE)
    assert isinstance(queue, Queue)
    queue.answering[Token(-1)] = 3  # an answer that has not left
    assert play.pop(server, QUEUE, 4) == [b"a", b"b", b"c", b"d"]
    server.pass_ms(2_000)
    assert [payload for _, _, payload in server.all(QUEUE)] == [b"c", b"d", b"e"]
    queue.answered(Token(-1))
    assert play.pop(server, QUEUE) == [b"e"]
    server.pass_ms(2_000)
    assert server.all(QUEUE) == []
    assert server.stats(QUEUE).msg_count == 0
    server.node.check()


def test_a_queue_that_is_full_refuses_and_counts_what_was_taken_as_gone() -> None:
    server = server_with(QUEUE, max_values=3)
    play.push(server, QUEUE, b"1", b"2")
    assert refusal(server, play.push_request(QUEUE, b"3", b"4")).status is Status.RESOURCE_EXHAUSTED
    assert play.peek(server, QUEUE) == [b"1", b"2"]
    play.pop(server, QUEUE)
    play.push(server, QUEUE, b"3", b"4")
    server = server_with(QUEUE, max_bytes=10)
    play.push(server, QUEUE, bytes(8))
    assert "max_bytes" in refusal(server, play.push_request(QUEUE, b"3")).message
    play.pop(server, QUEUE)
    play.push(server, QUEUE, b"3")
    assert play.queue_length(server, QUEUE) == 1


def test_a_take_of_many_stops_at_an_answers_bytes_and_gives_one_at_least() -> None:
    server = server_with(QUEUE, replace(SMALL, page_bytes_max=100))
    play.push(server, QUEUE, bytes(300), bytes(30), bytes(31), bytes(32))
    assert [len(value) for value in play.pop(server, QUEUE, 10)] == [300]
    assert [len(value) for value in play.pop(server, QUEUE, 10)] == [30]
    assert refusal(server, cq.PopValues(QUEUE, 0)).status is Status.INVALID_ARGUMENT
    assert refusal(server, cq.PopValues(QUEUE, 10_001)).status is Status.INVALID_ARGUMENT


def test_a_take_whose_values_cannot_be_read_says_that_it_may_have_happened() -> None:
    server = server_with(QUEUE)
    play.push(server, QUEUE, b"a", b"b")
    server.broken = DiskFailure(FailureKind.CORRUPT, "journal/x", 1, "checksum", 0)
    answer = server.call(cq.PopValues(QUEUE, 1))
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.outcome) == (Status.DATA_LOSS, Outcome.UNKNOWN)


def test_a_take_whose_index_cannot_be_read_keeps_nothing_back() -> None:
    server = server_with(QUEUE, block_size=2)
    play.push(server, QUEUE, b"a", b"b", b"c")
    queue = play.layer_of(server, QUEUE)
    assert isinstance(queue, Queue)
    replica = next(each for each in server.node._state.replicas.values() if each.name == QUEUE)
    given = server.node._calls._handlers[cq.PopValues].__self__  # type: ignore[attr-defined]
    queue.answering[Token(-1)] = 1
    given._lost(replica.leading, Token(-1), DiskFailure(FailureKind.IO, "blocks/x", 1, "broken", 0))
    assert not queue.answering
    assert play.pop(server, QUEUE, 3) == [b"a", b"b", b"c"]


# ---------------------------------------------------------------- entries


def test_entries_that_are_decided_together_see_each_other() -> None:
    server = server_with(HASH)
    first, second = server.token(), server.token()
    third, fourth = server.token(), server.token()
    names = [cq.RemoveEntries(HASH, play.put_request(HASH, "k", {"f": b""}).subjects)] * 2
    server.step(
        Call(Token(first), ANYONE, play.put_request(HASH, "k", {"f": b"one"})),
        Call(Token(second), ANYONE, play.put_request(HASH, "k", {"f": b"two", "g": b"x"})),
        Call(Token(third), ANYONE, names[0]),
        Call(Token(fourth), ANYONE, names[1]),
    )
    values = [answer.value for token in (third, fourth) if isinstance(answer := server.replies[token], Answer)]
    assert values == [1, 0]
    assert play.get(server, HASH, "k", ["f", "g"]) == [None, b"x"]
    assert server.stats(HASH).msg_count == 1
    server.node.check()


def test_a_member_is_added_once_and_its_place_stays() -> None:
    server = server_with("set:s")
    request = play.put_request("set:s", "k", {"a": b"", "b": b""}, only_absent=True)
    assert server.ok(request) == [1, 2]
    again = play.put_request("set:s", "k", {"c": b"", "a": b""}, only_absent=True)
    assert server.ok(again) == [3, 0]
    assert server.ok(again) == [0, 0]


def test_a_store_that_is_full_refuses_and_lets_entries_be_replaced() -> None:
    server = server_with(HASH, max_bytes=40)
    play.put(server, HASH, "k", {"a": bytes(20)})
    assert "max_bytes" in refusal(server, play.put_request(HASH, "k", {"b": bytes(20)})).message
    play.put(server, HASH, "k", {"a": bytes(30)})
    assert play.get(server, HASH, "k", ["a", "b"]) == [bytes(30), None]
    play.remove(server, HASH, "k", "a")
    play.put(server, HASH, "k", {"b": bytes(20)})
    server.node.check()


def test_no_two_pairs_of_key_and_field_are_one_entry() -> None:
    server = server_with(HASH)
    pairs = [
        ("a", "b.c"),
        ("a.b", "c"),
        ("", "a"),
        ("a", ""),
        ("", ""),
        ("%", ""),
        ("a b", "c"),
        ("a", "b c"),
        ("%2E", "."),
    ]
    for number, (key, field) in enumerate(pairs):
        play.put(server, HASH, key, {field: bytes([number])})
    for number, (key, field) in enumerate(pairs):
        assert play.get(server, HASH, key, [field]) == [bytes([number])]
    assert server.stats(HASH).msg_count == len(pairs)
    assert sorted(play.fields(server, HASH, "a")) == ["", "b c", "b.c"]


def test_a_list_that_is_too_long_for_one_answer_is_refused_or_paged() -> None:
    server = server_with(HASH, replace(SMALL, page_entries_max=5))
    values = {f"f{number:02}": bytes([number]) for number in range(12)}
    play.put(server, HASH, "k", values)
    head = play.names.fields_head("k", play.LIMITS)
    assert refusal(server, cq.ListEntries(HASH, head)).status is Status.RESOURCE_EXHAUSTED
    assert refusal(server, cq.ReadEntries(HASH, head)).status is Status.RESOURCE_EXHAUSTED
    assert play.fields(server, HASH, "k", 5) == list(values)
    assert list(play.all_of(server, HASH, "k", 5).values()) == list(values.values())


@pytest.mark.parametrize("store", [HASH, QUEUE])
def test_an_archive_brings_a_store_back_with_what_was_taken_or_removed(store: str) -> None:
    server = server_with(store, block_size=4, max_bytes=1_000)
    if store == QUEUE:
        play.push(server, store, *[bytes([n]) for n in range(10)])
        assert len(play.pop(server, store, 6)) == 6
    else:
        play.put(server, store, "k", {str(n): bytes([n]) for n in range(10)})
        play.remove(server, store, "k", "3", "4")
        play.put(server, store, "k", {"5": b"new"})
    head = server.ok(rq.ExportStream(store))
    assert isinstance(head, Head)
    messages = server.all(store)
    token = server.ask(rq.ReadRange(store, 1, 1_000))
    answer = server.replies[token]
    assert isinstance(answer, Answer) and isinstance(answer.value, rq.Messages)
    bodies = [
        body[at : at + size]
        for run in answer.value.runs
        for body in [run.bodies_in(server._chunk(run.chunk))]
        for at, size in zip(_starts(run.lengths), run.lengths, strict=True)
    ]
    copy = store + "2"
    id_ = server.ok(rq.ImportBegin(copy, head))
    assert isinstance(id_, int)
    subjects = [play.decode_body(body)[0] for body in bodies]
    sizes = [len(play.decode_body(body)[2]) for body in bodies]
    server.ok(
        rq.ImportBatch(
            id_,
            [seq for seq, _, _ in messages],
            [1] * len(messages),
            subjects,
            sizes,
            list(map(len, bodies)),
            b"".join(bodies),
        )
    )
    server.ok(rq.ImportEnd(id_, True))
    for each in (False, True):
        server.node.check()
        if store == QUEUE:
            assert play.peek(server, copy) == [bytes([n]) for n in range(6, 10)]
            assert play.queue_length(server, copy) == 4
        else:
            assert play.length(server, copy, "k") == 8
            assert play.get(server, copy, "k", ["3", "5"]) == [None, b"new"]
        if not each:
            server.kill()
    assert play.layer_of(server, copy).settings.max_bytes == 1_000


def _starts(lengths: object) -> list[int]:
    starts, at = [], 0
    for length in lengths:  # type: ignore[attr-defined]
        starts.append(at)
        at += length
    return starts


def test_a_checkpoint_holds_the_index_and_frees_the_journal() -> None:
    server = server_with(HASH, replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB), block_size=16)
    for number in range(200):
        play.put(server, HASH, "k", {str(number % 30): bytes([number]) * 100})
    play.remove(server, HASH, "k", "7")
    assert server.node.stats.checkpoints > 1
    server.kill()
    layer = play.layer_of(server, HASH)
    assert isinstance(layer, Entries)
    assert layer.counts == {"f.k.": 29}
    assert play.get(server, HASH, "k", ["7", "19"]) == [None, bytes([199]) * 100]
    server.node.check()


@pytest.mark.parametrize(
    "request_", [cq.CountEntries(QUEUE, "f.k."), cq.PopValues(HASH, 1), cq.CountEntries("s", "f.")]
)
def test_a_call_to_a_stream_of_another_kind_finds_no_store(request_: rq.Request) -> None:
    server = server_with(QUEUE)
    server.create(HASH)
    server.create("s")
    answer = server.call(request_)
    assert isinstance(answer, Answer)
    assert answer.code == "no_such_stream"

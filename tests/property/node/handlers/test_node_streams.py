"""Streams as clients manage them: names, lives, settings, lists, watchers."""

from __future__ import annotations

from tests.kit.node_kit import SMALL, Server, publish, stream_config
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import EventKind
from waymaker_core.api.inputs import Call, Cancel, Credit
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import ANYONE, Principal, Token


def code(answer: object) -> str:
    assert isinstance(answer, Answer), answer
    return answer.code


def test_a_second_stream_of_one_name_changes_nothing() -> None:
    server = Server()
    server.create("s", max_msgs=5)
    assert code(server.call(rq.CreateStream(stream_config("s")))) == "already_exists"
    info = server.ok(rq.GetStreamInfo("s"))
    assert isinstance(info, rq.StreamInfo)
    assert info.config.max_msgs == 5


def test_racing_creations_and_deletions_have_one_winner_each() -> None:
    server = Server()
    tokens = [Token(server.token()) for _ in range(5)]
    requests: list[rq.Request] = [
        rq.CreateStream(stream_config("s")),
        rq.CreateStream(stream_config("s")),
        rq.DeleteStream("s"),
        rq.DeleteStream("s"),
        rq.CreateStream(stream_config("s")),
    ]
    server.step(*[Call(token, ANYONE, request) for token, request in zip(tokens, requests, strict=True)])
    # What is decided is not committed yet, so the deletions find no stream; the second creation already loses.
    assert [code(server.replies[token]) for token in tokens] == [
        "ok", "already_exists", "no_such_stream", "no_such_stream", "already_exists",
    ]  # fmt: skip
    tokens = [Token(server.token()) for _ in range(4)]
    requests = [
        rq.DeleteStream("s"),
        rq.DeleteStream("s"),
        publish("s", ("a", b"x")),
        rq.CreateStream(stream_config("s", max_msgs=7)),
    ]
    server.step(*[Call(token, ANYONE, request) for token, request in zip(tokens, requests, strict=True)])
    assert [code(server.replies[token]) for token in tokens] == ["ok", "no_such_stream", "no_such_stream", "ok"]
    assert server.stats().last_seq == 0


def test_a_name_created_anew_is_another_stream() -> None:
    server = Server()
    server.create("s")
    server.publish("s", b"old")
    first = server.ok(rq.GetStreamInfo("s"))
    server.ok(rq.DeleteStream("s"))
    server.create("s")
    second = server.ok(rq.GetStreamInfo("s"))
    assert isinstance(first, rq.StreamInfo)
    assert isinstance(second, rq.StreamInfo)
    assert second.stream_id > first.stream_id
    assert server.all() == []
    assert server.publish("s", b"new").first_seq == 1
    server.kill()
    assert server.all() == [(1, 0, b"new")]
    third = server.ok(rq.GetStreamInfo("s"))
    assert isinstance(third, rq.StreamInfo)
    assert third.stream_id == second.stream_id


def test_ids_of_streams_are_not_used_again_after_restarts() -> None:
    server = Server()
    streams: list[int] = []
    for round_ in range(4):
        server.create("s")
        consumers: list[int] = []
        for _ in range(2):
            server.consumer("s", "c")
            consumers.append(server.info().consumer_id)
            server.ok(rq.DeleteConsumer("s", "c"))
            server.restart() if round_ % 2 else server.kill()
        assert consumers == [1, 2], "each stream counts its own"
        info = server.ok(rq.GetStreamInfo("s"))
        assert isinstance(info, rq.StreamInfo)
        streams.append(info.stream_id)
        server.ok(rq.DeleteStream("s"))
        server.restart() if round_ % 2 else server.kill()
    assert streams == sorted(set(streams))


def test_lists_are_sorted_and_paged_and_never_cut() -> None:
    server = Server()
    names = [f"n{i:02}" for i in range(11)]
    for name in reversed(names):
        server.create(name)
    page = server.ok(rq.ListStreams())
    assert isinstance(page, rq.Page)
    assert (page.entries, page.next_after) == (names, "")
    found: list[object] = []
    after = ""
    while True:
        page = server.ok(rq.ListStreams(after, 4))
        assert isinstance(page, rq.Page)
        found += page.entries
        after = page.next_after
        if not after:
            break
    assert found == names


def test_a_list_over_the_limit_says_how_to_page() -> None:
    from dataclasses import replace

    server = Server(replace(SMALL, page_entries_max=3))
    for i in range(4):
        server.create(f"n{i}")
    answer = server.call(rq.ListStreams())
    assert isinstance(answer, Refusal)
    assert answer.status is Status.RESOURCE_EXHAUSTED
    assert "wmkr-limit" in answer.message


def test_an_update_prunes_within_the_call_and_a_dry_run_only_says_so() -> None:
    server = Server()
    server.create("s", block_size=10)
    server.publish("s", *[bytes([i]) for i in range(20)])
    wanted = stream_config("s", block_size=10, max_msgs=3)
    assert server.ok(rq.UpdateStream("s", max_msgs=3, dry_run=True)) == (wanted, 17)
    assert server.stats().msg_count == 20
    assert server.ok(rq.UpdateStream("s", max_msgs=3)) == (wanted, 17)
    assert server.stats().msg_count == 3
    server.kill()
    assert [seq for seq, _, _ in server.all()] == [18, 19, 20]
    info = server.ok(rq.GetStreamInfo("s"))
    assert isinstance(info, rq.StreamInfo)
    assert info.config.max_msgs == 3


def test_two_updates_under_way_build_on_each_other() -> None:
    server = Server()
    server.create("s")
    tokens = [Token(server.token()), Token(server.token())]
    requests: list[rq.Request] = [rq.UpdateStream("s", max_msgs=9), rq.UpdateStream("s", max_bytes=900)]
    server.step(*[Call(token, ANYONE, request) for token, request in zip(tokens, requests, strict=True)])
    info = server.ok(rq.GetStreamInfo("s"))
    assert isinstance(info, rq.StreamInfo)
    assert (info.config.max_msgs, info.config.max_bytes) == (9, 900)
    server.ok(rq.UpdateStream("s", max_msgs=0))
    info = server.ok(rq.GetStreamInfo("s"))
    assert isinstance(info, rq.StreamInfo)
    assert (info.config.max_msgs, info.config.max_bytes) == (0, 900)


def test_watchers_hear_of_everything_committed_and_of_what_they_missed() -> None:
    from dataclasses import replace

    server = Server(replace(SMALL, watch_events_max=3))
    fast, slow = Token(server.token()), Token(server.token())
    server.step(Call(fast, ANYONE, rq.WatchStreams()), Call(slow, ANYONE, rq.WatchStreams()))
    server.step(Credit(fast, 100, 0))
    server.create("s")
    server.consumer("s", "c")
    server.ok(rq.UpdateStream("s", max_msgs=1))
    server.ok(rq.DeleteConsumer("s", "c"))
    server.ok(rq.DeleteStream("s"))
    heard = [(event.kind, event.stream, event.consumer, event.lagged) for event in server.events]
    everything = [
        (EventKind.STREAM_CREATED, "s", "", 0),
        (EventKind.CONSUMER_CREATED, "s", "c", 0),
        (EventKind.STREAM_UPDATED, "s", "", 0),
        (EventKind.CONSUMER_DELETED, "s", "c", 0),
        (EventKind.STREAM_DELETED, "s", "", 0),
    ]
    assert heard == everything
    server.events.clear()
    server.step(Credit(slow, 2, 0))
    heard = [(event.kind, event.stream, event.consumer, event.lagged) for event in server.events]
    assert heard == [(EventKind.STREAM_UPDATED, "s", "", 2), everything[3]]
    server.events.clear()
    server.step(Cancel(slow), Credit(slow, 5, 0))
    assert server.events == []
    server.drain()
    assert {token: end.reason for token, end in server.ends.items()} == {fast: "server_shutdown"}


def test_accounts_that_do_not_exist_are_refused_whatever_they_ask() -> None:
    server = Server()
    server.create("s")
    token = Token(server.token())
    server.step(Call(token, Principal("other", "me"), rq.DeleteStream("s")))
    answer = server.replies[token]
    assert isinstance(answer, Refusal)
    assert answer.status is Status.PERMISSION_DENIED
    assert server.stats().msg_count == 0

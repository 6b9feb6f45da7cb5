"""Reads and lists through the node: pages that together are the whole, whatever cut them, and subjects that cannot exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.node_kit import SMALL, Server, consumer_config
from waymaker_core.api import requests as rq
from waymaker_core.model.result_codes import OK, Answer, Refusal, Status

OVERHEAD = 33


def page_of(server: Server, request: rq.Request) -> rq.Messages:
    value = server.ok(request)
    assert isinstance(value, rq.Messages)
    return value


def walk(server: Server, ask: Callable[[int], rq.Request]) -> list[list[int]]:
    """Sequences of every page, by the cursor that each page names."""
    pages: list[list[int]] = []
    from_seq = 0
    while True:
        page = page_of(server, ask(from_seq))
        pages.append([seq for run in page.runs for seq in run.sequences()])
        if not page.next_seq:
            return pages
        assert page.next_seq > pages[-1][-1]
        from_seq = page.next_seq


@given(
    sizes=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 120)), max_size=30),
    page_bytes=st.integers(1, 600),
    limit=st.integers(1, 8),
    block_size=st.integers(1, 9),
)
def test_pages_of_messages_are_the_whole_whatever_cuts_them(
    sizes: list[tuple[str, int]], page_bytes: int, limit: int, block_size: int
) -> None:
    server = Server(replace(SMALL, page_bytes_max=page_bytes))
    server.create("s", block_size=block_size)
    at: dict[str, list[int]] = {"a": [], "b": []}
    lengths: dict[int, int] = {}
    for subject, size in sizes:
        seq = server.publish("s", b"x" * size, subject=subject).first_seq
        at[subject].append(seq)
        lengths[seq] = len(server.messages(rq.ReadLatest("s", subject))[0][2])
    everything = sorted(at["a"] + at["b"])
    for wanted, ask in (
        (at["a"], lambda seq: rq.ScanSubject("s", "a", seq, limit)),
        (everything, lambda seq: rq.ReadRange("s", seq, limit)),
    ):
        pages = walk(server, ask)
        assert [seq for page in pages for seq in page] == wanted
        for page in pages:
            assert len(page) <= limit
            assert len(page) <= 1 or sum(lengths[seq] + OVERHEAD for seq in page) <= page_bytes


def test_the_last_page_names_no_further_one_even_where_it_is_full() -> None:
    server = Server()
    server.create("s")
    server.publish("s", b"1", b"2", b"3")
    server.publish("s", b"other", subject="b")
    assert page_of(server, rq.ScanSubject("s", "a", 0, 2)).next_seq == 3
    assert page_of(server, rq.ScanSubject("s", "a", 0, 3)).next_seq == 0
    assert page_of(server, rq.ScanSubject("s", "a", 3, 1)).next_seq == 0
    assert page_of(server, rq.ReadRange("s", 0, 3)).next_seq == 4
    assert page_of(server, rq.ReadRange("s", 0, 4)).next_seq == 0


def test_a_message_that_is_gone_does_not_announce_a_page() -> None:
    server = Server()
    server.create("s", retention="WORK_QUEUE")
    server.consumer("s", "c")
    server.publish("s", b"1", b"2", b"3")
    assert [seq for seq, _, _ in server.fetch("s", "c")] == [1, 2, 3]
    server.ack(3)
    assert page_of(server, rq.ScanSubject("s", "a", 0, 2)).next_seq == 0
    server.ack(2)
    assert page_of(server, rq.ScanSubject("s", "a", 0, 1)).next_seq == 0


def entries(server: Server, ask: Callable[[str], rq.Request]) -> list[list[str]]:
    pages: list[list[str]] = []
    after = ""
    while True:
        page = server.ok(ask(after))
        assert isinstance(page, rq.Page)
        pages.append([e.config.name if isinstance(e, rq.ConsumerInfo) else str(e) for e in page.entries])
        if not page.next_after:
            return pages
        after = page.next_after


def test_lists_are_cut_by_their_bytes_and_say_so() -> None:
    server = Server(replace(SMALL, page_bytes_max=1_000))
    names = [f"{n:02}" + "x" * 200 for n in range(9)]
    for name in names:
        server.create(name)
        server.consumer(names[0], name)
        server.publish(names[0], b"", subject=name)
    for ask in (
        lambda after: rq.ListStreams(after, 100),
        lambda after: rq.ListConsumers(names[0], after, 100),
        lambda after: rq.ListSubjects(names[0], "", after, 100),
    ):
        pages = entries(server, ask)
        assert [name for page in pages for name in page] == names
        assert all(1 <= len(page) <= 4 for page in pages)
        whole = ask("")
        assert isinstance(whole, rq.ListStreams | rq.ListConsumers | rq.ListSubjects)
        whole.limit = 0
        answer = server.call(whole)
        assert isinstance(answer, Refusal)
        assert answer.status is Status.RESOURCE_EXHAUSTED
        assert "wmkr-limit" in answer.message


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("", "it is empty"),
        ("a..b", "empty token"),
        (".a", "empty token"),
        ("a.", "empty token"),
        ("a.*", "wildcard"),
        (">", "wildcard"),
        ("a*b", "wildcard"),
        ("a b", "white space"),
        ("a\x00", "control characters"),
        ("x" * 1_025, "1025 bytes of UTF-8; at most 1024"),
        ("ü" * 513, "1026 bytes of UTF-8; at most 1024"),
    ],
)
def test_a_read_at_a_subject_that_cannot_exist_says_what_is_wrong(subject: str, why: str) -> None:
    server = Server()
    server.create("s")
    for request in (rq.ReadLatest("s", subject), rq.ScanSubject("s", subject)):
        answer = server.call(request)
        assert isinstance(answer, Refusal)
        assert answer.status is Status.INVALID_ARGUMENT
        assert why in answer.message
    published = server.publish("s", b"", subject=subject)
    assert published.failures is not None
    assert published.failures[0][0] == "subject_rejected"
    assert why in published.failures[0][1]


@pytest.mark.parametrize("subject", ["a", "x" * 1_024, "ü" * 512, "a.b.c", "$x", "a-b"])
def test_a_subject_that_can_exist_and_holds_nothing_is_ok(subject: str) -> None:
    server = Server()
    server.create("s")
    assert page_of(server, rq.ReadLatest("s", subject)).count == 0
    assert page_of(server, rq.ScanSubject("s", subject)).count == 0


@pytest.mark.parametrize("start_seq", [0, 1 << 63, (1 << 64) - 1])
def test_a_start_that_is_no_sequence_is_told_the_range(start_seq: int) -> None:
    server = Server()
    server.create("s")
    answer = server.call(rq.CreateConsumer("s", consumer_config("c", policy="BY_START_SEQ", start_seq=start_seq)))
    assert isinstance(answer, Answer)
    assert answer.code == "invalid_config"
    assert f"start_seq {start_seq} is no sequence: they go from 1 to 9223372036854775807" in answer.message
    answer = server.call(rq.CreateConsumer("s", consumer_config("c", policy="BY_START_SEQ", start_seq=(1 << 63) - 1)))
    assert isinstance(answer, Answer)
    assert answer.code == OK

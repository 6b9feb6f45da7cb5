"""Searching indexes in slices: what one step looks at is bounded, others are served in between, and nothing is lost by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import SMALL, Server, publish
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Call, Input
from waymaker_core.model.types import ANYONE, Token

BLOCK = 40
BLOCKS = 30
SHARE = 100


def restarted(subjects_a_block: int = BLOCK, retention: str = "LIMITS", **limits: int) -> Server:
    """A node that starts on sealed blocks, none of whose indexes is loaded."""
    server = Server(replace(SMALL, search_entries_max=SHARE, **limits))
    server.create("s", block_size=BLOCK, retention=retention)
    server.create("other")
    for block in range(BLOCKS):
        names = [f"a.{n}.{'even' if n % 2 else 'odd'}" for n in range(subjects_a_block)]
        server.ok(publish("s", *[(names[n % subjects_a_block], b"%d" % block) for n in range(BLOCK)]))
    server.publish("s", b"rare", subject="b.rare")
    server.restart()
    return server


def watched(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What every step spends on indexes, as it goes."""
    spent: list[int] = []
    work = server.node._state.work
    renewed, spend = type(work).renew, type(work).spend

    def renew(self: object, share: int) -> None:
        spent.append(0)
        renewed(work, share)

    def spending(self: object, entries: int) -> None:
        spent[-1] += entries
        spend(work, entries)

    monkeypatch.setattr(type(work), "renew", renew)
    monkeypatch.setattr(type(work), "spend", spending)
    return spent


@pytest.mark.parametrize("pattern", ["*.*.even", "a.*.even", "a.7.even", "a.>", "b.>", "b.rare", "c.none"])
def test_a_step_looks_at_no_more_than_its_share_and_one_block(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = restarted()
    server.consumer("s", "c", filter_subject=pattern)
    spent = watched(server, monkeypatch)
    found = server.fetch("s", "c", 10_000)
    even = {"*.*.even": 600, "a.*.even": 600, "a.7.even": 30, "a.>": 1200, "b.>": 1, "b.rare": 1, "c.none": 0}
    assert len(found) == even[pattern]
    assert [seq for seq, _, _ in found] == sorted({seq for seq, _, _ in found})
    assert max(spent) <= SHARE + 2 * BLOCK + 1


def test_another_client_is_answered_while_a_search_goes_on() -> None:
    server = restarted()
    server.consumer("s", "c", filter_subject="*.*.none")
    token = server.token()
    inputs: list[Input] = [Call(Token(token), ANYONE, rq.Fetch("s", "c", 10))]
    steps = 0
    while token not in server.replies:
        other = server.token()
        inputs.append(Call(Token(other), ANYONE, rq.GetStreamInfo("other")))
        effects = server.node.step(server.now(), inputs)
        inputs = [answer for effect in effects for answer in server.perform(effect)]
        assert other in server.replies, "a look at another stream waits for no search"
        steps += 1
    assert steps >= BLOCKS * BLOCK // (SHARE + 2 * BLOCK)
    assert server.bodies[token] == []


def test_a_search_that_others_disturb_comes_to_its_end() -> None:
    server = restarted(index_cache_bytes=1)
    patterns = [f"*.{n}.*" for n in range(40)]
    for pattern in patterns:
        server.consumer("s", pattern.replace("*", "x").replace(".", "-"), filter_subject=pattern)
    tokens = [server.token() for _ in patterns]
    names = [pattern.replace("*", "x").replace(".", "-") for pattern in patterns]
    server.step(*[Call(Token(t), ANYONE, rq.Fetch("s", n, 100)) for t, n in zip(tokens, names, strict=True)])
    assert [len(server.bodies[token]) for token in tokens] == [BLOCKS] * len(patterns)


OF_BLOCK = [block * BLOCK + 8 for block in range(BLOCKS)]
"""The messages at `a.7.even`, one in each block."""


def work_queue() -> Server:
    """A work queue that two groups share, both with one message in each block."""
    server = restarted(index_cache_bytes=1, retention="WORK_QUEUE")
    for name in ("c", "d"):
        server.consumer("s", name, filter_subject="a.7.even")
    return server


def test_a_group_of_a_work_queue_searches_no_further_than_it_delivers() -> None:
    server = work_queue()
    stats = server.node.stats
    for turn in range(3):
        loads = stats.index_loads
        found = server.fetch("s", "c", 5)
        assert [seq for seq, _, _ in found] == OF_BLOCK[5 * turn : 5 * turn + 5]
        # One block for each message, and the one in which the fetch before came to its end.
        assert stats.index_loads - loads == 5 + (turn > 0)
        server.ack(*[seq for seq, _, _ in found])


def test_a_group_of_a_work_queue_searches_past_what_another_holds_in_pieces_that_grow() -> None:
    server = work_queue()
    server.fetch("s", "c", 5)
    loads = server.node.stats.index_loads
    assert [seq for seq, _, _ in server.fetch("s", "d", 5)] == OF_BLOCK[5:10]
    assert 10 <= server.node.stats.index_loads - loads <= 5 + 10 + 1
    server.fetch("s", "c", 10)
    loads = server.node.stats.index_loads
    assert [seq for seq, _, _ in server.fetch("s", "d", 20)] == OF_BLOCK[20:]
    assert server.node.stats.index_loads - loads <= BLOCKS


def test_a_search_in_many_slices_holds_each_block_once() -> None:
    server = restarted(index_cache_bytes=1)
    server.consumer("s", "c", filter_subject="*.*.none")
    indexes = server.node._indexes
    token = server.token()
    inputs: list[Input] = [Call(Token(token), ANYONE, rq.Fetch("s", "c", 10))]
    most = 0
    while token not in server.replies:
        effects = server.node.step(server.now(), inputs)
        inputs = [answer for effect in effects for answer in server.perform(effect)]
        assert set(indexes._held.values()) <= {1}, "for one asker"
        most = max(most, len(indexes._held))
    assert most == BLOCKS + 1
    assert indexes._held == {}


def test_one_long_scan_leaves_alone_what_is_used_all_the_time() -> None:
    server = restarted(index_cache_bytes=24 << 10)
    stats = server.node.stats
    for _ in range(3):
        server.messages(rq.ScanSubject("s", "a.3.even", 0, 2))
    before = stats.index_loads
    server.messages(rq.ReadRange("s", 10 * BLOCK + 1, 10_000))
    assert stats.index_evictions > 0
    loads = stats.index_loads
    assert loads - before >= 10, "the scan needs more blocks than the cache holds"
    server.messages(rq.ScanSubject("s", "a.3.even", 0, 2))
    assert stats.index_loads == loads

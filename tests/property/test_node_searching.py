"""Searching indexes in slices: what one step looks at is bounded, others are served in between, and nothing is lost by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.property.node_kit import SMALL, Server, publish
from waymaker_core import requests as rq
from waymaker_core.inputs import Call, Input
from waymaker_core.types import ANYONE, Token

BLOCK = 40
BLOCKS = 30
SHARE = 100


def restarted(subjects_a_block: int = BLOCK, **limits: int) -> Server:
    """A node that starts on sealed blocks, none of whose indexes is loaded."""
    server = Server(replace(SMALL, search_entries_max=SHARE, **limits))
    server.create("s", block_size=BLOCK)
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

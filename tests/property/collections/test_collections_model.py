"""Collections on a node beside dict, set and deque: the same after every call, crash, restart and checkpoint."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.kit import collections_play as play
from tests.kit.node_kit import SMALL, Server
from waymaker_core.model.limits import KIB

TINY = replace(SMALL, segment_bytes=16 * KIB, checkpoint_journal_bytes=16 * KIB)
KEYS = st.sampled_from(["a", "a.b", "", "%", "a b"])
FIELDS = st.sampled_from(["c", "b.c", "", "*", ">", "ä", "%2E", "long" * 20])
VALUES = st.binary(max_size=400)


class Collections(RuleBasedStateMachine):
    """Calls in any order, and what a dict and a deque would say."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server(TINY)
        self.hashes: dict[tuple[str, str], bytes] = {}
        self.values: deque[bytes] = deque()
        self.given: list[int] = []

    @initialize(block_size=st.sampled_from([1, 3, 64]))
    def begin(self, block_size: int) -> None:
        self.server.create("hash:h", block_size=block_size)
        self.server.create("queue:q", block_size=block_size)

    @rule(key=KEYS, values=st.dictionaries(FIELDS, VALUES, min_size=1, max_size=5))
    def put(self, key: str, values: dict[str, bytes]) -> None:
        play.put(self.server, "hash:h", key, values)
        self.hashes |= {(key, field): value for field, value in values.items()}

    @rule(key=KEYS, fields=st.lists(FIELDS, min_size=1, max_size=5, unique=True))
    def remove(self, key: str, fields: list[str]) -> None:
        removed = play.remove(self.server, "hash:h", key, *fields)
        assert removed == sum(self.hashes.pop((key, field), None) is not None for field in fields)

    @rule(key=KEYS, fields=st.lists(FIELDS, min_size=1, max_size=8))
    def get(self, key: str, fields: list[str]) -> None:
        found = play.get(self.server, "hash:h", key, fields)
        assert found == [self.hashes.get((key, field)) for field in fields]

    @rule(key=KEYS, limit=st.sampled_from([0, 1, 3]))
    def look(self, key: str, limit: int) -> None:
        mine = {field: value for (each, field), value in self.hashes.items() if each == key}
        assert sorted(play.fields(self.server, "hash:h", key, limit)) == sorted(mine)
        assert sorted(play.all_of(self.server, "hash:h", key, limit).values()) == sorted(mine.values())
        assert play.length(self.server, "hash:h", key) == len(mine)

    @rule(values=st.lists(VALUES, min_size=1, max_size=8))
    def push(self, values: list[bytes]) -> None:
        play.push(self.server, "queue:q", *values)
        self.values.extend(values)

    @rule(limit=st.integers(1, 10))
    def pop(self, limit: int) -> None:
        wanted = [self.values.popleft() for _ in range(min(limit, len(self.values)))]
        assert play.pop(self.server, "queue:q", limit) == wanted

    @rule()
    def peek(self) -> None:
        assert play.peek(self.server, "queue:q") == list(self.values)

    @rule(how=st.sampled_from(["kill", "lose_power", "restart"]))
    def stop(self, how: str) -> None:
        getattr(self.server, how)()

    @rule(ms=st.sampled_from([10, 1_000, 60_000]))
    def wait(self, ms: int) -> None:
        self.server.pass_ms(ms)

    @invariant()
    def is_sound(self) -> None:
        if "queue:q" in [figures.name for figures in self.server.node.log_figures()]:
            self.server.node.check()
            assert play.queue_length(self.server, "queue:q") == len(self.values)


Collections.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCollections = Collections.TestCase

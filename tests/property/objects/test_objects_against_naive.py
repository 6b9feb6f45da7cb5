"""The object store beside a naive one: after every call both say the same, through restarts and long waits."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.kit.node_kit import SMALL
from tests.kit.object_kit import BUCKET, Store, bucket, chunks_of
from waymaker_core.api.object_requests import ListObjectRevisions
from waymaker_core.model.limits import KIB
from waymaker_core.model.types import Token
from waymaker_core.objects.metadata import decode_metadata
from waymaker_sim.reference.naive_objects import NaiveObjects

NAMES = ("a", "a.b", "b", "", "%")
CHUNKS = (b"1", b"22", b"333" * 50, b"4444")
LIMITS = replace(
    SMALL, segment_bytes=16 * KIB, checkpoint_journal_bytes=16 * KIB, object_revisions_max=3, object_grace_ms=50,
    object_tombstone_ms=200,
)  # fmt: skip


class Both:
    """A bucket and its naive twin, with uploads and readings under way."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.store = bucket(limits=LIMITS)
        self.naive = NaiveObjects(LIMITS.object_revisions_max, LIMITS.object_grace_ms, LIMITS.object_tombstone_ms)
        self.shared: dict[str, bool] = {}
        self.uploads: list[tuple[Token, str, bool, list[bytes]]] = []
        self.readings: list[tuple[Token, object, list[bytes]]] = []

    @property
    def now_ms(self) -> int:
        return self.store.server.wall_ms

    def step(self) -> None:
        """Make one call on both, and compare."""
        random = self.random
        kind = random.choice(
            ("put", "put", "begin", "send", "send", "finish", "open", "read", "delete", "wait", "stop", "drop")
        )
        getattr(self, kind)()
        self.naive.sweep(self.now_ms)
        self.compare()

    def put(self) -> None:
        name, dedupe = self.random.choice(NAMES), self.random.random() < 0.5
        chunks = self.random.choices(CHUNKS, k=self.random.randrange(4))
        self.store.put(name, *chunks, dedupe=dedupe)
        self.naive.put(name, chunks, self.now_ms)
        self.shared[name] = dedupe

    def begin(self) -> None:
        name, dedupe = self.random.choice(NAMES), self.random.random() < 0.5
        self.uploads.append((self.store.begin(name, dedupe=dedupe), name, dedupe, []))

    def send(self) -> None:
        if self.uploads:
            token, name, dedupe, sent = self.random.choice(self.uploads)
            more = self.random.choices(CHUNKS, k=1 + self.random.randrange(3))
            self.store.server.ok(chunks_of(token, name, len(sent), more, dedupe=dedupe))
            sent += more

    def finish(self) -> None:
        if self.uploads:
            token, name, dedupe, sent = self.uploads.pop(self.random.randrange(len(self.uploads)))
            self.store.finish(token, b"".join(sent), len(sent))
            self.store.close(token)
            self.naive.put(name, sent, self.now_ms)
            self.shared[name] = dedupe

    def drop(self) -> None:
        if self.uploads:
            self.store.close(self.uploads.pop(self.random.randrange(len(self.uploads)))[0])

    def open(self) -> None:
        name = self.random.choice(NAMES)
        chunks = self.naive.get(name)
        if chunks is not None:
            token, metadata = self.store.open(name)
            self.readings.append((token, metadata, chunks))

    def read(self) -> None:
        if self.readings:
            token, metadata, chunks = self.readings.pop(self.random.randrange(len(self.readings)))
            assert self.store.read(token, metadata) == chunks  # type: ignore[arg-type]
            self.store.close(token)

    def delete(self) -> None:
        name = self.random.choice(NAMES)
        before = self.naive.versions.get(name)
        assert bool(self.store.delete(name)) == bool(before)
        self.naive.delete(name, self.now_ms)

    def wait(self) -> None:
        self.store.server.pass_ms(self.random.choice((1, 20, 49, 51, 199, 201)))

    def stop(self) -> None:
        if self.random.random() < 0.3:
            getattr(self.store.server, self.random.choice(("kill", "lose_power", "restart")))()
            self.uploads.clear()
            self.readings.clear()

    def compare(self) -> None:
        """Require that both say the same, and that the node's own invariants hold."""
        store, naive = self.store, self.naive
        assert store.names() == naive.names("", include_deleted=False)
        assert store.names("a", include_deleted=True) == naive.names("a", include_deleted=True)
        name = self.random.choice(NAMES)
        chunks = naive.get(name)
        if chunks is not None:
            assert store.get(name) == chunks
        revisions = store.server.messages(ListObjectRevisions(BUCKET, name))
        assert [decode_metadata(payload).deleted for _, _, payload in revisions] == naive.revisions(name)
        store.server.node.check()

    def rest(self) -> None:
        """End all that is under way, and require that nothing is left of it."""
        for token in [*(each[0] for each in self.uploads), *(each[0] for each in self.readings)]:
            self.store.close(token)
        self.store.server.pass_ms(LIMITS.object_tombstone_ms + LIMITS.object_grace_ms)
        self.naive.sweep(self.now_ms)
        self.compare()
        assert self.store.server.stats(BUCKET).msg_count == self.naive.messages_at_rest(self.shared)


@pytest.mark.parametrize("seed", range(660_401, 660_407))
def test_the_store_does_what_a_naive_one_does(seed: int) -> None:
    both = Both(seed)
    for _ in range(120):
        both.step()
    both.rest()
    assert isinstance(both.store, Store)

"""The figures of the services: each operation is counted once, by its outcome, and sums follow what is there."""

from __future__ import annotations

from tests.kit.kv_kit import Bucket, Change
from tests.kit.node_kit import SMALL, Server
from waymaker_core.api.collection_requests import (
    GetEntries,
    HasEntries,
    ListEntries,
    PopValues,
    PushValues,
    PutEntries,
    RemoveEntries,
)
from waymaker_core.api.kv_requests import KvDeleteBucket, KvOp
from waymaker_core.api.requests import CreateStream
from waymaker_core.api.sketch_requests import AddToSketch, GetSketchSnapshot, MergeIntoSketch, QuerySketch, Question
from waymaker_core.collections.subjects import field_subject, fields_head
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.message_codec import payload_field, subject_field
from waymaker_core.node.service_figures import ServiceFigures

HYPERLOGLOG = b"hyperloglog.4"


def test_changes_of_keys_are_counted_by_their_outcome() -> None:
    bucket = Bucket()
    stats = bucket.server.node.stats
    bucket.write(
        Change(KvOp.PUT, "a"), Change(KvOp.CREATE, "b"), Change(KvOp.CREATE, "b"), Change(KvOp.UPDATE, "a", b"", 9)
    )
    bucket.write(
        Change(KvOp.DELETE, "a"), Change(KvOp.DELETE, "a"), Change(KvOp.TOUCH, "b", ttl_ms=5), Change(KvOp.PUT, "c d")
    )
    assert (stats.kv_puts, stats.kv_conflicts, stats.kv_deletes, stats.kv_touches) == (2, 2, 1, 1)
    bucket.get("a", "b", "c")
    assert stats.kv_gets == 3


def test_ends_of_values_are_counted_once_whoever_notices() -> None:
    bucket = Bucket()
    server, stats = bucket.server, bucket.server.node.stats
    bucket.write(*(Change(KvOp.PUT, key, ttl_ms=50) for key in ("by.itself", "read", "changed")))
    server.mono_ns += 60_000_000  # the timer has not fired yet
    bucket.get("read")
    bucket.put("changed")
    server.pass_ms(10)
    assert [(key, deleted) for key, _, deleted in bucket.listed()] == [
        ("by.itself", True),
        ("changed", False),
        ("read", True),
    ]
    assert stats.kv_expired == 3


def test_watches_are_counted_while_they_are_open() -> None:
    bucket = Bucket()
    bucket.watch()
    assert bucket.server.node.stats.kv_watches == 1
    bucket.server.ok(KvDeleteBucket("b"))
    bucket.server.step()
    assert bucket.server.node.stats.kv_watches == 0


def entry(name: str) -> tuple[str, bytes]:
    subject = field_subject("h", name, SMALL)
    return subject, subject_field(subject) + payload_field(b"v")


def test_entries_and_values_of_stores_are_counted() -> None:
    server = Server(SMALL)
    stats = server.node.stats
    server.ok(CreateStream(StreamConfig("hash:h")))
    server.ok(CreateStream(StreamConfig("queue:q")))
    subjects, bodies = map(list, zip(*map(entry, "abc"), strict=True))
    server.ok(PutEntries("hash:h", subjects, [1] * 3, bodies))
    server.ok(PutEntries("hash:h", subjects[:1], [1], bodies[:1], only_absent=True))
    server.ok(RemoveEntries("hash:h", [subjects[0], entry("x")[0]]))
    assert (stats.entries_put, stats.entries_removed) == (3, 1)
    server.ok(GetEntries("hash:h", subjects[1:]))
    server.ok(HasEntries("hash:h", subjects))
    server.ok(ListEntries("hash:h", fields_head("h", SMALL)))
    assert stats.entries_read == 7
    server.ok(PushValues("queue:q", [1] * 3, [subject_field("q") + payload_field(b"v")] * 3))
    server.ok(PopValues("queue:q", 2))
    assert (stats.queue_pushed, stats.queue_popped) == (3, 2)
    figures = server.node.service_figures()
    assert figures == ServiceFigures(stores=1, entries=2, queues=1, queue_values=1)


def test_sketches_are_counted() -> None:
    server = Server(SMALL)
    stats = server.node.stats
    for name in ("sketch:s", "sketch:t"):
        server.ok(CreateStream(StreamConfig(name, service_settings=HYPERLOGLOG)))
    server.ok(AddToSketch("sketch:s", [b"a", b"b", b"a"]))
    snapshot = server.ok(GetSketchSnapshot("sketch:s"))
    assert isinstance(snapshot, bytes)
    server.ok(MergeIntoSketch("sketch:t", snapshot))
    server.ok(QuerySketch("sketch:t", Question.DISTINCT))
    assert (stats.sketch_values_added, stats.sketch_merges, stats.sketch_queries) == (3, 1, 1)
    figures = server.node.service_figures()
    assert (figures.sketches, figures.kv_buckets) == (2, 0)
    assert 32 <= figures.sketch_bytes < 10_000


def test_sums_follow_what_is_there() -> None:
    bucket = Bucket()
    bucket.put("a")
    bucket.put("b")
    assert bucket.server.node.service_figures() == ServiceFigures(kv_buckets=1, kv_keys=2)
    bucket.server.ok(KvDeleteBucket("b"))
    assert bucket.server.node.service_figures() == ServiceFigures()

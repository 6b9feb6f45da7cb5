"""The conversation with buckets of keys, hashes, sets and queues: each answer is compared with that of a naive service."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from waymaker_core.api import collection_requests as cq
from waymaker_core.api import kv_requests as kv
from waymaker_core.api.kv_requests import KvOp
from waymaker_core.api.requests import CreateStream, DeleteStream, EntryMessages, Messages, Page
from waymaker_core.collections.subjects import VALUES, field_subject, fields_head, member_subject, members_head
from waymaker_core.kv.bodies import read_body, value_body
from waymaker_core.kv.keys import key_subject
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import KIB
from waymaker_core.model.message_codec import decode_body, payload_field, subject_field
from waymaker_core.model.result_codes import Answer, Status
from waymaker_sim.compare.conversation import Conversation
from waymaker_sim.compare.pair import PAIR_LIMITS
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage
from waymaker_sim.reference.naive_collections import NaiveEntries, NaiveQueue
from waymaker_sim.reference.naive_kv import NaiveBucket, NaiveChange, NaiveOutcome

LIMITS: Final = replace(
    PAIR_LIMITS, page_bytes_max=64 * KIB, segment_bytes=512 * KIB, checkpoint_journal_bytes=32 * KIB
)
"""Segments have room for what is due at once: where they have none, ends of values wait for it."""
BUCKETS: Final = ("b", "c")
KEYS: Final = ("a", "a.b", "a.c-d", "b/=_", "z.0")
ODD_KEYS: Final = ("", "a..b", ".a", "a.", "a b", "a.*", ">", "é")
STORES: Final = ("hash:h", "set:s")
QUEUE: Final = "queue:q"
NAMES: Final = ("x", "y", "a.b", "é *", "")


class ServiceCalls(Conversation):
    """Draws calls, sends them to the node and to the naive services, and compares."""

    def __init__(self, track: Track) -> None:
        super().__init__(track, LIMITS)
        self.buckets: dict[str, NaiveBucket] = {}
        self.stores: dict[str, NaiveEntries] = {}
        self.queue: NaiveQueue | None = None
        self._number = 0
        self._acts += [
            (30, self.change_keys),
            (10, self.get_keys),
            (5, self.list_keys),
            (6, self.read_history),
            (3, self.make_bucket),
            (1, self.delete_bucket),
            (12, self.put_entries),
            (6, self.remove_entries),
            (8, self.read_entries),
            (6, self.push),
            (6, self.pop),
            (3, self.peek),
            (2, self.make_store),
            (1, self.delete_store),
            (8, self.pass_time),
            (2, self.restart),
        ]

    def _value(self) -> bytes:
        self._number += 1
        return b"%d" % self._number + b"." * self.track.pick("more", (0, 0, 3, 20))

    # ------------------------------------------------------------ keys

    def make_bucket(self) -> None:
        """Make a bucket of random settings."""
        track, name = self.track, self.track.pick("bucket", BUCKETS)
        bucket = NaiveBucket(
            name,
            history=track.pick("history", (0, 1, 3, 64)),
            max_messages=track.pick("messages", (0, 0, 0, 2, 5)),
            max_bytes=track.pick("bytes", (0, 0, 0, 20, 60)),
            max_value_size=track.pick("value size", (0, 0, 8)),
            max_age_ms=track.pick("age", (0, 0, 1_500)),
            tombstone_ms=track.pick("tombstone", (60_000, 2_000, 300)),
        )
        request = kv.KvCreateBucket(
            name, bucket.max_bytes, bucket.max_messages, bucket.max_value_size, bucket.max_age_ms, False,
            bucket.history, bucket.tombstone_ms,
        )  # fmt: skip
        if self._ask(request, name in self.buckets, outcomes.ALREADY_EXISTS) is not None:
            self.buckets[name] = bucket

    def delete_bucket(self) -> None:
        """Delete a bucket."""
        name = self.track.pick("bucket", BUCKETS)
        self._ask(kv.KvDeleteBucket(name), name not in self.buckets, outcomes.NO_SUCH_BUCKET)
        self.buckets.pop(name, None)

    def _key(self) -> str:
        return self.track.pick("key", ODD_KEYS if self.track.draw("odd key", 30) == 29 else KEYS)

    def change_keys(self) -> None:
        """Change one key, or some in one request."""
        track, name = self.track, self.track.pick("bucket", BUCKETS)
        bucket = self.buckets.get(name)
        count = track.pick("changes", (1, 1, 1, 2, 4))
        changes = [self._change(bucket) for _ in range(count)]
        bodies = [
            b"" if change.op in ("delete", "touch") else value_body(key_subject(name, change.key), change.value)
            for change in changes
        ]
        request = kv.KvWrite(
            name, [KvOp[change.op.upper()] for change in changes], [change.key for change in changes],
            [change.expected for change in changes], [change.ttl_ms for change in changes],
            [len(change.value) for change in changes], list(map(len, bodies)), b"".join(bodies),
        )  # fmt: skip
        found = self._ask(request, bucket is None, outcomes.NO_SUCH_BUCKET)
        if bucket is not None and found is not None:
            written = found[0].value
            assert isinstance(written, kv.KvWritten)
            real = [
                NaiveOutcome(revision, _refused(written.failures.get(index)))
                for index, revision in enumerate(written.revisions)
            ]
            self._same(changes, bucket.write(changes, self.now.wall_ms), real)

    def _change(self, bucket: NaiveBucket | None) -> NaiveChange:
        track = self.track
        op = track.weighted("op", ((5, "put"), (3, "update"), (2, "create"), (3, "delete"), (2, "touch")))
        key = self._key()
        newest = bucket.newest(key) if bucket is not None else None
        expected = 0
        if op == "update":
            expected = (newest.seq if newest else 0) if track.draw("right", 3) else track.draw("expected", 30)
        ttl_ms = 0 if op == "delete" else track.pick("ttl", (0, 0, 50, 700, 3_000))
        return NaiveChange(op, key, b"" if op in ("delete", "touch") else self._value(), expected, ttl_ms)

    def get_keys(self) -> None:
        """Read some keys."""
        name = self.track.pick("bucket", BUCKETS)
        bucket, keys = self.buckets.get(name), list(dict.fromkeys(self.track.pick("key", KEYS) for _ in range(3)))
        found = self._ask(kv.KvGet(name, keys), bucket is None, outcomes.NO_SUCH_BUCKET)
        if bucket is not None and found is not None:
            values = {message.seq: read_body(message.body)[1] for message in found[1]}
            assert isinstance(found[0].value, Messages) and found[0].value.of_keys is not None
            real = [(seq, values[seq]) if seq else None for seq in found[0].value.of_keys]
            self._same(keys, [bucket.get(key) for key in keys], real)

    def list_keys(self) -> None:
        """List keys, a page at most."""
        name = self.track.pick("bucket", BUCKETS)
        bucket, after, limit = (
            self.buckets.get(name),
            self.track.pick("after", ("", "a", "b")),
            self.track.pick("limit", (1, 3, 6)),
        )
        found = self._ask(kv.KvKeys(name, after, limit), bucket is None, outcomes.NO_SUCH_BUCKET)
        if bucket is not None and found is not None:
            assert isinstance(found[0].value, Page)
            real = [(each.key, each.revision, each.deleted) for each in found[0].value.entries]
            self._same(("keys", after, limit), bucket.list_keys(after, limit), real)

    def read_history(self) -> None:
        """Read the revisions of a key."""
        name, key = self.track.pick("bucket", BUCKETS), self.track.pick("key", KEYS)
        bucket, first, limit = self.buckets.get(name), self.track.draw("from", 40), self.track.pick("limit", (1, 3, 6))
        found = self._ask(kv.KvHistory(name, key, first, limit), bucket is None, outcomes.NO_SUCH_BUCKET)
        if bucket is not None and found is not None:
            real = [(message.seq, read_body(message.body)[1]) for message in found[1]]
            self._same(("history", key, first, limit), bucket.history_of(key, first, limit), real)

    # ------------------------------------------------------------ stores

    def make_store(self) -> None:
        """Make a store or the queue."""
        name = self.track.pick("store", (*STORES, QUEUE))
        there = name in self.stores or (name == QUEUE and self.queue is not None)
        if self._ask(CreateStream(StreamConfig(name)), there, outcomes.ALREADY_EXISTS) is None:
            return
        if name == QUEUE:
            self.queue = NaiveQueue()
        else:
            self.stores[name] = NaiveEntries()

    def delete_store(self) -> None:
        """Delete a store or the queue."""
        name = self.track.pick("store", (*STORES, QUEUE))
        there = name in self.stores or (name == QUEUE and self.queue is not None)
        self._ask(DeleteStream(name), not there, outcomes.NO_SUCH_STREAM)
        self.stores.pop(name, None)
        self.queue = None if name == QUEUE else self.queue

    def _names(self, store: str, count: int) -> list[str]:
        make = field_subject if store.startswith("hash:") else member_subject
        key = self.track.pick("collection", NAMES[:2])
        return list(dict.fromkeys(make(key, self.track.pick("name", NAMES), LIMITS) for _ in range(count)))

    def put_entries(self) -> None:
        """Set fields, or add members."""
        track, name = self.track, self.track.pick("store", STORES)
        store, subjects = self.stores.get(name), self._names(name, self.track.pick("entries", (1, 1, 3)))
        values = {subject: self._value() if name.startswith("hash:") else b"" for subject in subjects}
        only_absent = name.startswith("set:") or track.draw("only absent", 3) == 2
        bodies = [subject_field(subject) + payload_field(value) for subject, value in values.items()]
        request = cq.PutEntries(name, subjects, list(map(len, values.values())), bodies, only_absent)
        found = self._ask(request, store is None, outcomes.NO_SUCH_STREAM)
        if store is not None and found is not None:
            self._same(("put", values, only_absent), store.put(values, only_absent=only_absent), found[0].value)

    def remove_entries(self) -> None:
        """Remove entries."""
        name = self.track.pick("store", STORES)
        store, subjects = self.stores.get(name), self._names(name, 2)
        found = self._ask(cq.RemoveEntries(name, subjects), store is None, outcomes.NO_SUCH_STREAM)
        if store is not None and found is not None:
            self._same(("remove", subjects), store.remove(subjects), found[0].value)

    def read_entries(self) -> None:
        """Look entries up, list them, or count them."""
        track, name = self.track, self.track.pick("store", STORES)
        store, subjects = self.stores.get(name), self._names(name, 3)
        head = (fields_head if name.startswith("hash:") else members_head)(NAMES[0], LIMITS)
        limit = track.pick("limit", (1, 3, 6))
        match track.pick("look", ("get", "has", "list", "read", "count")):
            case "get":
                found = self._ask(cq.GetEntries(name, subjects), store is None, outcomes.NO_SUCH_STREAM)
                if store is not None and found is not None:
                    self._same(("get", subjects), store.get(subjects), _entries(*found))
            case "has":
                found = self._ask(cq.HasEntries(name, subjects), store is None, outcomes.NO_SUCH_STREAM)
                if store is not None and found is not None:
                    self._same(("has", subjects), [each is not None for each in store.get(subjects)], found[0].value)
            case "list":
                found = self._ask(cq.ListEntries(name, head, "", limit), store is None, outcomes.NO_SUCH_STREAM)
                if store is not None and found is not None:
                    assert isinstance(found[0].value, Page)
                    self._same(("list", head, limit), store.page(head, "", limit), found[0].value.entries)
            case "read":
                found = self._ask(cq.ReadEntries(name, head, "", limit), store is None, outcomes.NO_SUCH_STREAM)
                if store is not None and found is not None:
                    self._same(("read", head, limit), store.get(store.page(head, "", limit)), _entries(*found))
            case _:
                found = self._ask(cq.CountEntries(name, head), store is None, outcomes.NO_SUCH_STREAM)
                if store is not None and found is not None:
                    self._same(("count", head), store.count(head), found[0].value)

    def push(self) -> None:
        """Push values."""
        queue, values = self.queue, [self._value() for _ in range(self.track.pick("values", (1, 2, 5)))]
        bodies = [subject_field(VALUES) + payload_field(value) for value in values]
        request = cq.PushValues(QUEUE, list(map(len, values)), bodies)
        found = self._ask(request, queue is None, outcomes.NO_SUCH_STREAM)
        if queue is not None and found is not None:
            self._same(("push", values), queue.push(values), found[0].value)

    def pop(self) -> None:
        """Take values."""
        queue, limit = self.queue, self.track.pick("limit", (1, 1, 3, 6))
        found = self._ask(cq.PopValues(QUEUE, limit), queue is None, outcomes.NO_SUCH_STREAM)
        if queue is not None and found is not None:
            self._same(("pop", limit), queue.pop(limit), _values(found[1]))

    def peek(self) -> None:
        """Look at values, and count them."""
        queue, first, limit = self.queue, self.track.draw("from", 60), self.track.pick("limit", (1, 3, 6))
        found = self._ask(cq.PeekValues(QUEUE, first, limit), queue is None, outcomes.NO_SUCH_STREAM)
        if queue is not None and found is not None:
            self._same(("peek", first, limit), queue.peek(first, limit), _values(found[1]))
        counted = self._ask(cq.CountValues(QUEUE), queue is None, outcomes.NO_SUCH_STREAM)
        if queue is not None and counted is not None:
            self._same("length", len(queue.values), counted[0].value)

    # ------------------------------------------------------------ time

    def sweep(self) -> None:
        """End values whose time is over."""
        for bucket in self.buckets.values():
            bucket.sweep(self.now.wall_ms)


def _refused(failure: kv.KvFailure | None) -> str:
    """Return what a change was refused with, in the words of the naive bucket."""
    if failure is None:
        return ""
    match failure.status:
        case Status.RESOURCE_EXHAUSTED:
            return "large" if failure.message.startswith("a value of") else "full"
        case Status.INVALID_ARGUMENT:
            return "malformed"
    return failure.code


def _values(got: list[ReceivedMessage]) -> list[tuple[int, bytes]]:
    return [(message.seq, decode_body(message.body)[2]) for message in got]


def _entries(answer: Answer, got: list[ReceivedMessage]) -> list[tuple[int, bytes] | None]:
    """Return sequence and value of each entry that was asked for."""
    assert isinstance(answer.value, EntryMessages)
    values = dict(_values(got))
    return [(seq, values[seq]) if seq else None for seq in answer.value.wanted]

"""A node with a bucket, for tests: changes and reads of keys in one line each."""

from __future__ import annotations

from typing import NamedTuple

from tests.kit.node_kit import SMALL, Server
from waymaker_core.api import kv_requests as kv
from waymaker_core.api.inputs import Call, Credit
from waymaker_core.api.kv_requests import KvFailure, KvOp, KvWritten
from waymaker_core.api.requests import Page
from waymaker_core.kv.bodies import value_body
from waymaker_core.kv.keys import key_subject
from waymaker_core.kv.layer import KvLayer
from waymaker_core.layers.layer import KV
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import ANYONE, StreamId, Token


class Change(NamedTuple):
    """One change of one key."""

    op: KvOp
    key: str
    value: bytes = b""
    expected: int = 0
    ttl_ms: int = 0


def write_request(bucket: str, *changes: Change) -> kv.KvWrite:
    bodies = [
        b"" if change.op in (KvOp.DELETE, KvOp.TOUCH) else value_body(key_subject(bucket, change.key), change.value)
        for change in changes
    ]
    return kv.KvWrite(
        bucket, [each.op for each in changes], [each.key for each in changes], [each.expected for each in changes],
        [each.ttl_ms for each in changes], [len(each.value) for each in changes], list(map(len, bodies)), b"".join(bodies),
    )  # fmt: skip


class Bucket:
    """A bucket of a node. A change returns its revision, or its `KvFailure`."""

    def __init__(self, server: Server | None = None, name: str = "b", limits: Limits = SMALL, **settings: int) -> None:
        self.server = server or Server(limits)
        self.name = name
        self.server.ok(kv.KvCreateBucket(name, **settings))  # type: ignore[arg-type]

    @classmethod
    def of(cls, server: Server, name: str) -> Bucket:
        """Return a bucket that is there already."""
        bucket = cls.__new__(cls)
        bucket.server, bucket.name = server, name
        return bucket

    # ------------------------------------------------------------ changes

    def write(self, *changes: Change) -> list[int | KvFailure]:
        written = self.server.ok(write_request(self.name, *changes))
        assert isinstance(written, KvWritten)
        return [written.failures.get(index, revision) for index, revision in enumerate(written.revisions)]

    def put(self, key: str, value: bytes = b"v", ttl_ms: int = 0) -> int | KvFailure:
        return self.write(Change(KvOp.PUT, key, value, 0, ttl_ms))[0]

    def create(self, key: str, value: bytes = b"v", ttl_ms: int = 0) -> int | KvFailure:
        return self.write(Change(KvOp.CREATE, key, value, 0, ttl_ms))[0]

    def update(self, key: str, value: bytes, expected: int, ttl_ms: int = 0) -> int | KvFailure:
        return self.write(Change(KvOp.UPDATE, key, value, expected, ttl_ms))[0]

    def delete(self, key: str) -> int | KvFailure:
        return self.write(Change(KvOp.DELETE, key))[0]

    def touch(self, key: str, ttl_ms: int) -> int | KvFailure:
        return self.write(Change(KvOp.TOUCH, key, ttl_ms=ttl_ms))[0]

    # ------------------------------------------------------------ reads

    def get(self, *keys: str) -> dict[str, tuple[int, bytes]]:
        """Return revision and value of the keys that have one."""
        token = self.server.ask(kv.KvGet(self.name, list(keys)))
        answer = self.server.replies[token]
        assert isinstance(answer, Answer), answer
        of_keys = answer.value.of_keys  # type: ignore[attr-defined]
        values = {seq: payload for seq, _, payload in self.server.bodies[token]}
        return {key: (seq, values[seq]) for key, seq in zip(keys, of_keys, strict=True) if seq}

    def listed(self, after: str = "", limit: int = 0) -> list[tuple[str, int, bool]]:
        page = self.server.ok(kv.KvKeys(self.name, after, limit))
        assert isinstance(page, Page)
        return [(each.key, each.revision, each.deleted) for each in page.entries]

    def history(self, key: str, from_revision: int = 0, limit: int = 0) -> list[tuple[int, bytes]]:
        found = self.server.messages(kv.KvHistory(self.name, key, from_revision, limit))
        return [(seq, payload) for seq, _, payload in found]

    def watch(self, pattern: str = "", messages: int = 1_000, bytes_: int = 1 << 20) -> int:
        token = self.server.token()
        request = Call(Token(token), ANYONE, kv.KvWatch(self.name, pattern))
        self.server.step(request, Credit(Token(token), messages, bytes_))
        return token

    def seen(self, token: int) -> list[tuple[int, bytes]]:
        """Return revision and value of what a watch was sent."""
        return [(seq, payload) for seq, _, payload in self.server.delivered.get(token, [])]

    def refusal(self, request: kv.KvRequest) -> Refusal:
        answer = self.server.call(request)
        assert isinstance(answer, Refusal), answer
        return answer

    @property
    def layer(self) -> KvLayer:
        replica = self.server.node._state.replicas[StreamId(self.server.log_id("kv:" + self.name))]
        layer = replica.layers.by_kind[KV]
        assert isinstance(layer, KvLayer)
        return layer


def failed(outcome: int | KvFailure) -> KvFailure:
    assert isinstance(outcome, KvFailure), outcome
    return outcome

"""Collections on a node of the tests: requests from keys and values, and answers in the words of dict, set and deque."""

from __future__ import annotations

from collections.abc import Sequence

from tests.kit.node_kit import Server
from waymaker_core.api import collection_requests as cq
from waymaker_core.api import requests as rq
from waymaker_core.collections import subjects as names
from waymaker_core.collections.entries import Entries
from waymaker_core.collections.queue import Queue
from waymaker_core.layers.layer import COLLECTIONS
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import decode_body, encode_body
from waymaker_core.model.result_codes import Answer

__all__ = ["decode_body", "names"]
LIMITS = Limits()


def layer_of(server: Server, name: str) -> Entries | Queue:
    """Return the layer of a store."""
    state = server.node._state
    replica = next(each for each in state.replicas.values() if each.name == name)
    layer = replica.layers.by_kind[COLLECTIONS]
    assert isinstance(layer, Entries | Queue)
    return layer


def put_request(store: str, key: str, values: dict[str, bytes], *, only_absent: bool = False) -> cq.PutEntries:
    """Make the request to set fields of a hash."""
    subjects = [names.field_subject(key, field, LIMITS) for field in values]
    bodies = [encode_body(each, (), value, LIMITS)[0] for each, value in zip(subjects, values.values(), strict=True)]
    return cq.PutEntries(store, subjects, list(map(len, values.values())), bodies, only_absent)


def put(server: Server, store: str, key: str, values: dict[str, bytes]) -> list[int]:
    found = server.ok(put_request(store, key, values))
    assert isinstance(found, list)
    return found


def remove(server: Server, store: str, key: str, *fields: str) -> int:
    found = server.ok(cq.RemoveEntries(store, [names.field_subject(key, field, LIMITS) for field in fields]))
    assert isinstance(found, int)
    return found


def get(server: Server, store: str, key: str, fields: Sequence[str]) -> list[bytes | None]:
    token = server.ask(cq.GetEntries(store, [names.field_subject(key, field, LIMITS) for field in fields]))
    answer = server.replies[token]
    assert isinstance(answer, Answer) and isinstance(answer.value, rq.EntryMessages), answer
    by_seq = {seq: payload for seq, _, payload in server.bodies[token]}
    return [by_seq[seq] if seq else None for seq in answer.value.wanted]


def fields(server: Server, store: str, key: str, limit: int = 0) -> list[str]:
    """Return the fields of a hash, page by page where there is a limit."""
    found: list[str] = []
    after = ""
    while True:
        page = server.ok(cq.ListEntries(store, names.fields_head(key, LIMITS), after, limit))
        assert isinstance(page, rq.Page)
        found += map(names.entry_of, page.entries)
        after = page.next_after
        if not after:
            return found


def all_of(server: Server, store: str, key: str, limit: int = 0) -> dict[int, bytes]:
    """Return the values of a hash by sequence, page by page where there is a limit."""
    found: dict[int, bytes] = {}
    after = ""
    while True:
        token = server.ask(cq.ReadEntries(store, names.fields_head(key, LIMITS), after, limit))
        answer = server.replies[token]
        assert isinstance(answer, Answer) and isinstance(answer.value, rq.EntryMessages), answer
        found |= {seq: payload for seq, _, payload in server.bodies[token]}
        after = answer.value.next_after
        if not after:
            return found


def length(server: Server, store: str, key: str) -> int:
    found = server.ok(cq.CountEntries(store, names.fields_head(key, LIMITS)))
    assert isinstance(found, int)
    return found


def push_request(queue: str, *values: bytes) -> cq.PushValues:
    bodies = [encode_body(names.VALUES, (), value, LIMITS)[0] for value in values]
    return cq.PushValues(queue, list(map(len, values)), bodies)


def push(server: Server, queue: str, *values: bytes) -> int:
    found = server.ok(push_request(queue, *values))
    assert isinstance(found, int)
    return found


def pop(server: Server, queue: str, limit: int = 1) -> list[bytes]:
    return [payload for _, _, payload in server.messages(cq.PopValues(queue, limit))]


def peek(server: Server, queue: str, from_seq: int = 0, limit: int = 0) -> list[bytes]:
    return [payload for _, _, payload in server.messages(cq.PeekValues(queue, from_seq, limit))]


def queue_length(server: Server, queue: str) -> int:
    found = server.ok(cq.CountValues(queue))
    assert isinstance(found, int)
    return found

"""The stores of the synchronous client: the same objects, whose calls wait for their asynchronous namesakes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, Unpack

from waymaker.client.checked import UNSET, Timeout, Whole
from waymaker.client.stores.hashes import Hash, HashStore
from waymaker.client.stores.queues import Queue
from waymaker.client.stores.sets import Members, SetStore
from waymaker.client.stores.sketches import Candidate, Sketch, SketchInfo, SketchSettings

T = TypeVar("T")


class Waiter(Protocol):
    """A synchronous client as its stores use it."""

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T: ...

    def _iterate(self, iterator: AsyncIterator[T]) -> Iterator[T]: ...


class SyncHashStore:
    """A `HashStore` for synchronous code; `store["key"]` is one hash."""

    def __init__(self, waiter: Waiter, store: HashStore) -> None:
        self._waiter = waiter
        self._store = store

    def __getitem__(self, key: str) -> SyncHash:
        return SyncHash(self._waiter, self._store[key])

    def create(self, *, max_bytes: Whole = 0, ephemeral: bool = False, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._store.create(max_bytes=max_bytes, ephemeral=ephemeral, timeout=timeout))

    def delete(self, *, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._store.delete(timeout=timeout))


class SyncHash:
    """A `Hash` for synchronous code."""

    def __init__(self, waiter: Waiter, hash_: Hash) -> None:
        self._waiter = waiter
        self._hash = hash_

    def set(self, field: str, value: bytes, *, timeout: Timeout = UNSET) -> int:
        return self._waiter._wait(self._hash.set(field, value, timeout=timeout))

    def update(self, fields: Mapping[str, bytes], *, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._hash.update(fields, timeout=timeout))

    def get(self, field: str, default: T | None = None, *, timeout: Timeout = UNSET) -> bytes | T | None:
        return self._waiter._wait(self._hash.get(field, default, timeout=timeout))

    def get_many(self, fields: Iterable[str], *, timeout: Timeout = UNSET) -> dict[str, bytes]:
        return self._waiter._wait(self._hash.get_many(fields, timeout=timeout))

    def delete(self, *fields: str, timeout: Timeout = UNSET) -> int:
        return self._waiter._wait(self._hash.delete(*fields, timeout=timeout))

    def clear(self, *, timeout: Timeout = UNSET) -> int:
        return self._waiter._wait(self._hash.clear(timeout=timeout))

    def keys(self, *, timeout: Timeout = UNSET) -> Iterator[str]:
        return self._waiter._iterate(self._hash.keys(timeout=timeout))

    def items(self, *, timeout: Timeout = UNSET) -> Iterator[tuple[str, bytes]]:
        return self._waiter._iterate(self._hash.items(timeout=timeout))

    def copy(self, *, timeout: Timeout = UNSET) -> dict[str, bytes]:
        return self._waiter._wait(self._hash.copy(timeout=timeout))

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __contains__(self, field: str) -> bool:
        return self._waiter._wait(self._hash.contains(field))

    def __len__(self) -> int:
        return self._waiter._wait(self._hash.len())


class SyncSetStore:
    """A `SetStore` for synchronous code; `store["key"]` is one set."""

    def __init__(self, waiter: Waiter, store: SetStore) -> None:
        self._waiter = waiter
        self._store = store

    def __getitem__(self, key: str) -> SyncMembers:
        return SyncMembers(self._waiter, self._store[key])

    def create(self, *, max_bytes: Whole = 0, ephemeral: bool = False, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._store.create(max_bytes=max_bytes, ephemeral=ephemeral, timeout=timeout))

    def delete(self, *, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._store.delete(timeout=timeout))


class SyncMembers:
    """A set of a store for synchronous code."""

    def __init__(self, waiter: Waiter, members: Members) -> None:
        self._waiter = waiter
        self._members = members

    def add(self, member: str, *, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._members.add(member, timeout=timeout))

    def update(self, members: Iterable[str], *, timeout: Timeout = UNSET) -> int:
        return self._waiter._wait(self._members.update(members, timeout=timeout))

    def discard(self, *members: str, timeout: Timeout = UNSET) -> int:
        return self._waiter._wait(self._members.discard(*members, timeout=timeout))

    def remove(self, member: str, *, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._members.remove(member, timeout=timeout))

    def clear(self, *, timeout: Timeout = UNSET) -> int:
        return self._waiter._wait(self._members.clear(timeout=timeout))

    def copy(self, *, timeout: Timeout = UNSET) -> set[str]:
        return self._waiter._wait(self._members.copy(timeout=timeout))

    def __iter__(self) -> Iterator[str]:
        return self._waiter._iterate(self._members.members())

    def __contains__(self, member: str) -> bool:
        return self._waiter._wait(self._members.contains(member))

    def __len__(self) -> int:
        return self._waiter._wait(self._members.len())


class SyncQueue:
    """A `Queue` for synchronous code."""

    def __init__(self, waiter: Waiter, queue: Queue) -> None:
        self._waiter = waiter
        self._queue = queue

    def create(
        self, *, max_bytes: Whole = 0, max_messages: Whole = 0, ephemeral: bool = False, timeout: Timeout = UNSET
    ) -> None:
        self._waiter._wait(
            self._queue.create(max_bytes=max_bytes, max_messages=max_messages, ephemeral=ephemeral, timeout=timeout)
        )

    def delete(self, *, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._queue.delete(timeout=timeout))

    def append(self, value: bytes, *, timeout: Timeout = UNSET) -> int:
        return self._waiter._wait(self._queue.append(value, timeout=timeout))

    def extend(self, values: Iterable[bytes], *, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._queue.extend(values, timeout=timeout))

    def popleft(self, *, timeout: Timeout = UNSET) -> bytes:
        return self._waiter._wait(self._queue.popleft(timeout=timeout))

    def take(self, limit: Whole, *, timeout: Timeout = UNSET) -> list[bytes]:
        return self._waiter._wait(self._queue.take(limit, timeout=timeout))

    def peek(self, limit: Whole = 1, *, timeout: Timeout = UNSET) -> list[bytes]:
        return self._waiter._wait(self._queue.peek(limit, timeout=timeout))

    def __iter__(self) -> Iterator[bytes]:
        return self._waiter._iterate(self._queue.values())

    def __len__(self) -> int:
        return self._waiter._wait(self._queue.len())


class SyncSketch:
    """A `Sketch` for synchronous code. `create_*` are those of `Sketch`."""

    def __init__(self, waiter: Waiter, sketch: Sketch) -> None:
        self._waiter = waiter
        self._sketch = sketch

    def create_bloom(self, capacity: Whole, error: float = 0.01, **settings: Unpack[SketchSettings]) -> None:
        self._waiter._wait(self._sketch.create_bloom(capacity, error, **settings))

    def create_hyperloglog(self, precision: Whole = 14, **settings: Unpack[SketchSettings]) -> None:
        self._waiter._wait(self._sketch.create_hyperloglog(precision, **settings))

    def create_count_min(self, error: float = 0.001, failure: float = 0.01, **settings: Unpack[SketchSettings]) -> None:
        self._waiter._wait(self._sketch.create_count_min(error, failure, **settings))

    def create_top_k(
        self, k: Whole, error: float = 0.001, failure: float = 0.01, **settings: Unpack[SketchSettings]
    ) -> None:  # fmt: skip
        self._waiter._wait(self._sketch.create_top_k(k, error, failure, **settings))

    def create_t_digest(self, compression: Whole = 100, **settings: Unpack[SketchSettings]) -> None:
        self._waiter._wait(self._sketch.create_t_digest(compression, **settings))

    def delete(self, *, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._sketch.delete(timeout=timeout))

    def add(self, values: Iterable[bytes | str | float], *, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._sketch.add(values, timeout=timeout))

    def merge(self, snapshot: bytes, *, timeout: Timeout = UNSET) -> None:
        self._waiter._wait(self._sketch.merge(snapshot, timeout=timeout))

    def snapshot(self, *, timeout: Timeout = UNSET) -> bytes:
        return self._waiter._wait(self._sketch.snapshot(timeout=timeout))

    def contains(self, *values: bytes | str, timeout: Timeout = UNSET) -> list[bool]:
        return self._waiter._wait(self._sketch.contains(*values, timeout=timeout))

    def distinct(self, *, timeout: Timeout = UNSET) -> float:
        return self._waiter._wait(self._sketch.distinct(timeout=timeout))

    def counts(self, *values: bytes | str, timeout: Timeout = UNSET) -> list[int]:
        return self._waiter._wait(self._sketch.counts(*values, timeout=timeout))

    def top(self, limit: Whole = 0, *, timeout: Timeout = UNSET) -> list[Candidate]:
        return self._waiter._wait(self._sketch.top(limit, timeout=timeout))

    def quantiles(self, *shares: float, timeout: Timeout = UNSET) -> list[float]:
        return self._waiter._wait(self._sketch.quantiles(*shares, timeout=timeout))

    def ranks(self, *numbers: float, timeout: Timeout = UNSET) -> list[float]:
        return self._waiter._wait(self._sketch.ranks(*numbers, timeout=timeout))

    def info(self, *, timeout: Timeout = UNSET) -> SketchInfo:
        return self._waiter._wait(self._sketch.info(timeout=timeout))

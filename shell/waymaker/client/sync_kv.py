"""The synchronous twin of a bucket: the same calls, over the client that lives on the loop's thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

from waymaker.client.checked import UNSET, Seconds, Timeout, Whole
from waymaker.client.kv import KeyValue, KvEntry

T = TypeVar("T")


class Waits(Protocol):
    """The synchronous client, as far as a bucket needs it."""

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T: ...

    def _iterate(self, iterator: AsyncIterator[T]) -> Iterator[T]: ...


class SyncKeyValue:
    """The keys of one bucket, for synchronous code; arguments and results are those of `KeyValue`."""

    def __init__(self, client: Waits, bucket: KeyValue) -> None:
        self._client = client
        self._bucket = bucket

    @property
    def bucket(self) -> str:
        return self._bucket.bucket

    def put(
        self, key: str, value: bytes | str, *, ttl: Seconds | None = None, timeout: Timeout = UNSET
    ) -> int:  # fmt: skip
        """Set a key whatever it holds; return its revision."""
        return self._client._wait(self._bucket.put(key, value, ttl=ttl, timeout=timeout))

    def create(
        self, key: str, value: bytes | str, *, ttl: Seconds | None = None, timeout: Timeout = UNSET
    ) -> int:  # fmt: skip
        """Set a key that has no value."""
        return self._client._wait(self._bucket.create(key, value, ttl=ttl, timeout=timeout))

    def update(
        self, key: str, value: bytes | str, revision: Whole, *, ttl: Seconds | None = None, timeout: Timeout = UNSET
    ) -> int:  # fmt: skip
        """Set a key that still has this revision."""
        return self._client._wait(self._bucket.update(key, value, revision, ttl=ttl, timeout=timeout))

    def delete(self, key: str, *, timeout: Timeout = UNSET) -> int:
        """Put a tombstone in a key's place; return its revision."""
        return self._client._wait(self._bucket.delete(key, timeout=timeout))

    def touch(self, key: str, ttl: Seconds | None, *, timeout: Timeout = UNSET) -> int:
        """Set the time to live of a live key anew; return its revision."""
        return self._client._wait(self._bucket.touch(key, ttl, timeout=timeout))

    def get(self, key: str, *, timeout: Timeout = UNSET) -> KvEntry | None:
        """Return a key's value with its revision; None where it has none."""
        return self._client._wait(self._bucket.get(key, timeout=timeout))

    def keys(self, *, deleted: bool = False, timeout: Timeout = UNSET) -> Iterator[str]:
        """Yield the keys that have a value, sorted; with `deleted` those of tombstones too."""
        return self._client._iterate(self._bucket.keys(deleted=deleted, timeout=timeout))

    def history(self, key: str, *, from_revision: int = 0, timeout: Timeout = UNSET) -> list[KvEntry]:
        """Return the revisions of a key that are kept, oldest first."""
        return self._client._wait(self._bucket.history(key, from_revision=from_revision, timeout=timeout))

    def watch(self, key: str = "") -> Iterator[KvEntry]:
        """Yield the live values that a key or a pattern selects, then every change as it happens."""
        return self._client._iterate(self._bucket.watch(key))

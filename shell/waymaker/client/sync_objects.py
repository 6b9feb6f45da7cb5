"""The synchronous twin of an object store: the same calls, over the client that lives on the loop's thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from functools import partial
from os import PathLike
from typing import Any, BinaryIO, Protocol, TypeVar

from waymaker.client.checked import UNSET, Timeout, Whole
from waymaker.client.objects.store import CHUNK_BYTES, ObjectStore
from waymaker.client.objects.upload import check_source
from waymaker.client.values import Headers, ObjectEntry, ObjectInfo, ObjectRevision

T = TypeVar("T")
Source = bytes | bytearray | memoryview | PathLike[str] | BinaryIO | Iterable[bytes]
"""The payload of an object."""


class Waits(Protocol):
    """The synchronous client, as far as a store needs it."""

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T: ...

    def _iterate(self, iterator: AsyncIterator[T]) -> Iterator[T]: ...

    def _send(
        self, source: Iterable[bytes], sending: Callable[[AsyncIterator[bytes]], Coroutine[Any, Any, T]]
    ) -> T: ...


class SyncObjectStore:
    """The objects of one bucket, for synchronous code; arguments and results are those of `ObjectStore`."""

    def __init__(self, client: Waits, store: ObjectStore) -> None:
        self._client = client
        self._store = store

    @property
    def bucket(self) -> str:
        return self._store.bucket

    def put(
        self, name: str, source: Source, *, headers: Headers | None = None, chunk_size: Whole = CHUNK_BYTES,
        dedupe: bool = False, on_bytes: Callable[[int], None] | None = None, timeout: Timeout = UNSET,
    ) -> ObjectInfo:  # fmt: skip
        """Store an object; an iterable is read on the caller's thread."""
        options = partial(
            self._store.put,
            name,
            headers=headers,
            chunk_size=chunk_size,
            dedupe=dedupe,
            on_bytes=on_bytes,
            timeout=timeout,
        )
        if isinstance(source, bytes | bytearray | memoryview | PathLike) or hasattr(source, "read"):
            return self._client._wait(options(source))
        check_source(source)
        return self._client._send(source, options)

    def delete(self, name: str, *, timeout: Timeout = UNSET) -> int:
        return self._client._wait(self._store.delete(name, timeout=timeout))

    def get(self, name: str, *, timeout: Timeout = UNSET) -> bytes:
        return self._client._wait(self._store.get(name, timeout=timeout))

    def read(self, name: str, *, timeout: Timeout = UNSET) -> Iterator[bytes]:
        return self._client._iterate(self._store.read(name, timeout=timeout))

    def get_file(
        self, name: str, path: str | PathLike[str], *, on_bytes: Callable[[int], None] | None = None,
        timeout: Timeout = UNSET,
    ) -> ObjectInfo:  # fmt: skip
        return self._client._wait(self._store.get_file(name, path, on_bytes=on_bytes, timeout=timeout))

    def get_range(
        self, name: str, offset: Whole = 0, length: Whole = 0, *, revision: Whole = 0, timeout: Timeout = UNSET
    ) -> bytes:
        return self._client._wait(self._store.get_range(name, offset, length, revision=revision, timeout=timeout))

    def info(self, name: str, *, timeout: Timeout = UNSET) -> ObjectInfo:
        return self._client._wait(self._store.info(name, timeout=timeout))

    def revisions(self, name: str, *, timeout: Timeout = UNSET) -> list[ObjectRevision]:
        return self._client._wait(self._store.revisions(name, timeout=timeout))

    def list(self, prefix: str = "", *, include_deleted: bool = False, timeout: Timeout = UNSET) -> list[ObjectEntry]:
        return self._client._wait(self._store.list(prefix, include_deleted=include_deleted, timeout=timeout))

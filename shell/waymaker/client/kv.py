"""A key-value bucket: keys with values, revisions, times to live, histories and watches.

What many tasks ask in one turn of the loop travels together. Reads are repeated by themselves after a lost connection; changes
are not, unless nothing had been sent yet. A watch goes on behind the last revision that it saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypedDict, TypeVar

from google.protobuf.message import Message as Proto

from waymaker.client import contract
from waymaker.client.checked import UNSET, Milliseconds, Seconds, Timeout, Whole, milliseconds, seconds, whole
from waymaker.client.connection.transport import ends_told
from waymaker.client.errors import (
    ConnectionLostError,
    UnavailableError,
    UsageError,
    WaymakerError,
    WrongTypeError,
)
from waymaker.client.key_batches import Found
from waymaker.wire.protocol import KV_SERVICE
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

Response = TypeVar("Response", bound=Proto)
PATH: Final = f"/{KV_SERVICE}/"
U64_MAX: Final = (1 << 64) - 1
HISTORY_PAGE: Final = 1_000
AFTER_METADATA: Final = "wmkr-after"
MAX_MESSAGES_METADATA: Final = "wmkr-max-messages"
HISTORY_METADATA: Final = "wmkr-history"


@dataclass(frozen=True, slots=True)
class KvEntry:
    """A revision of a key; `value` is None where it is a tombstone: the key was deleted, or its time to live ended."""

    key: str
    value: bytes | None
    revision: int
    ts_ms: int

    @property
    def deleted(self) -> bool:
        return self.value is None


@dataclass(frozen=True, slots=True)
class KvCalls:
    """The calls of a client that a bucket is made of. `backoff_s` is the pause before a lost watch goes on; None: never.

    `add` queues a call about one key, and `deadline` is the moment in the loop's time at which a timeout ends.
    """

    add: Callable[..., asyncio.Future[Any]]
    deadline: Callable[[Timeout], float | None]
    call: Callable[..., Awaitable[tuple[Any, pl.CallResult]]]
    answers: Callable[..., AsyncIterator[tuple[Any, pl.CallResult]]]
    channel: Callable[[Timeout], Awaitable[Any]]
    metadata: tuple[tuple[str, str], ...]
    backoff_s: float | None


class KeyValue:
    """A bucket of a client, made by `client.kv(bucket)`. `timeout` is that of the client's calls."""

    def __init__(self, calls: KvCalls, bucket: str) -> None:
        self._calls = calls
        self.bucket = bucket

    # ------------------------------------------------------------ changes

    async def put(
        self, key: str, value: bytes | str, *, ttl: Seconds | None = None, timeout: Timeout = UNSET
    ) -> int:  # fmt: skip
        """Set a key whatever it holds; return its revision. After `ttl` seconds a tombstone takes its place."""
        return await self._change(pl.KEY_PUT, key, timeout, _value(value), ttl_ms=_ttl_ms(ttl))

    async def create(
        self, key: str, value: bytes | str, *, ttl: Seconds | None = None, timeout: Timeout = UNSET
    ) -> int:  # fmt: skip
        """Set a key that has no value; WrongRevisionError, with the present revision, where it has one."""
        return await self._change(pl.KEY_CREATE, key, timeout, _value(value), ttl_ms=_ttl_ms(ttl))

    async def update(
        self, key: str, value: bytes | str, revision: Whole, *, ttl: Seconds | None = None, timeout: Timeout = UNSET
    ) -> int:  # fmt: skip
        """Set a key that still has this revision (0: that has no value); else WrongRevisionError with the present one."""
        expected = whole("expected_revision", revision, most=U64_MAX)
        return await self._change(pl.KEY_UPDATE, key, timeout, _value(value), expected, _ttl_ms(ttl))

    async def delete(self, key: str, *, timeout: Timeout = UNSET) -> int:
        """Put a tombstone in a key's place; return its revision. A key without a value keeps the revision it has."""
        return await self._change(pl.KEY_DELETE, key, timeout)

    async def touch(self, key: str, ttl: Seconds | None, *, timeout: Timeout = UNSET) -> int:
        """Set the time to live of a live key anew (None: for ever); return its revision, which stays."""
        return await self._change(pl.KEY_TOUCH, key, timeout, ttl_ms=_ttl_ms(ttl))

    def _change(
        self,
        call: pl.KeyCall.ValueType,
        key: str,
        timeout: Timeout,
        value: bytes = b"",
        expected: int = 0,
        ttl_ms: int = 0,
    ) -> asyncio.Future[int]:
        calls = self._calls
        return calls.add(self.bucket, call, key, value, expected, ttl_ms, calls.deadline(timeout))

    # ------------------------------------------------------------ reads

    async def get(self, key: str, *, timeout: Timeout = UNSET) -> KvEntry | None:
        """Return a key's value with its revision; None where it has none."""
        calls = self._calls
        found: Found = await calls.add(self.bucket, pl.KEY_GET, key, b"", 0, 0, calls.deadline(timeout))
        return KvEntry(key, *found) if found.revision else None

    async def keys(self, *, deleted: bool = False, timeout: Timeout = UNSET) -> AsyncIterator[str]:
        """Yield the keys that have a value, sorted; with `deleted` those of tombstones too. `timeout` bounds all of it."""
        request = contract.request(pb.KvKeysRequest, bucket=self.bucket)
        async for response, _ in self._calls.answers("Keys", request, pb.KvKeysResponse, timeout):
            for entry in response.entries:
                if deleted or not entry.deleted:
                    yield entry.key

    async def history(
        self, key: str, *, from_revision: int = 0, timeout: Timeout = UNSET
    ) -> list[KvEntry]:  # fmt: skip
        """Return the revisions of a key that are kept, oldest first, tombstones included. `timeout` bounds each page."""
        found: list[KvEntry] = []
        while True:
            request = contract.request(
                pb.KvHistoryRequest, bucket=self.bucket, key=key, from_revision=from_revision, limit=HISTORY_PAGE
            )
            response, result = await self._calls.call("History", request, pb.KvHistoryResponse, timeout)
            found += [
                KvEntry(key, None if each.deleted else each.value, each.revision, each.ts_ms)
                for each in response.entries
            ]
            if not result.next:
                return found
            from_revision = int(result.next)

    async def watch(self, key: str = "") -> AsyncIterator[KvEntry]:
        """Yield the live values that a key or a pattern of keys selects, then every change as it happens.

        A lost connection is renewed by itself, and nothing that the bucket still keeps is left out or told twice. It raises
        when the bucket is deleted.
        """
        request = contract.request(pb.KvWatchRequest, bucket=self.bucket, key=key)
        after = -1
        while True:
            channel = await self._calls.channel(UNSET if after < 0 else None)
            metadata = self._calls.metadata
            if after >= 0:
                metadata = (*metadata, (AFTER_METADATA, str(after)))
            open_call: Any = channel.unary_stream(PATH + "Watch", response_deserializer=pb.KvWatchEvent.FromString)
            call = open_call(request.SerializeToString(), metadata=metadata)
            try:
                with ends_told():
                    async for event in call:
                        entry = _entry(event)
                        after = entry.revision
                        yield entry
                error: WaymakerError = ConnectionLostError("the server ended the watch")
            except WaymakerError as end:
                error = end
            finally:
                call.cancel()
            if not isinstance(error, UnavailableError) or self._calls.backoff_s is None:
                raise error
            await asyncio.sleep(self._calls.backoff_s)


class BucketSettings(TypedDict, total=False):
    """Settings of a new bucket; 0 is no bound. A full bucket refuses, and evicts no live key."""

    max_bytes: Whole
    max_messages: Whole
    max_value_size: Whole
    max_age_ms: Milliseconds
    history: Whole
    ephemeral: bool


def bucket_request(bucket: str, settings: BucketSettings) -> tuple[pb.KvCreateBucketRequest, list[tuple[str, str]]]:
    """Return the request that makes a bucket, and the metadata beside it."""
    unknown = set(settings) - set(BucketSettings.__annotations__)
    if unknown:
        raise UsageError(f"a bucket has no setting {min(unknown)!r}")
    request = contract.request(
        pb.KvCreateBucketRequest, bucket=bucket, max_bytes=settings.get("max_bytes", 0),
        max_value_size=settings.get("max_value_size", 0),
        max_age_ms=milliseconds("max_age_ms", settings.get("max_age_ms", 0)),
        ephemeral=settings.get("ephemeral", False),
    )  # fmt: skip
    beside = [
        (metadata, str(whole(name, settings.get(name, 0))))
        for name, metadata in (("max_messages", MAX_MESSAGES_METADATA), ("history", HISTORY_METADATA))
        if name in settings
    ]
    return request, beside


def _entry(event: pb.KvWatchEvent) -> KvEntry:
    if event.WhichOneof("event") == "delete":
        return KvEntry(event.delete.key, None, event.delete.revision, event.delete.ts_ms)
    return KvEntry(event.put.key, event.put.value, event.put.revision, event.put.ts_ms)


def _value(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise WrongTypeError(f"a value is bytes or a string, not {type(value).__name__}")


def _ttl_ms(ttl: Seconds | None) -> int:
    """Return a time to live in milliseconds; one that is shorter than a millisecond is one."""
    if ttl is None:
        return 0
    return whole("ttl", max(1, round(seconds("ttl", ttl, zero=False) * 1_000)), most=U64_MAX)

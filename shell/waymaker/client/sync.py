"""The synchronous twin: the same calls for scripts, over a client that lives on the loop that all of them share.

Every method waits for its asynchronous namesake; arguments, results and exceptions are the same. Iterables given to
`publish_many` and `restore` are read on the caller's thread, so a slow one never holds up the connection, and callbacks run
there too. Acknowledgements are queued
without waiting, as in the other client. A client may be used from several threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from waymaker.client.checked import NAK_DELAY_S_MAX, UNSET, Moment, Seconds, Timeout, Whole, seconds
from waymaker.client.client import Client
from waymaker.client.connection.process import inherited
from waymaker.client.consumer.delivery import Message
from waymaker.client.consumer.subscription import Subscription
from waymaker.client.errors import ClosedError, WaymakerError
from waymaker.client.loop_thread import LOOK_S, LoopThread
from waymaker.client.options import Options
from waymaker.client.producer.flow import check_source
from waymaker.client.producer.publishing import BATCH_BYTES_TARGET, Many
from waymaker.client.producer.results import PublishResults
from waymaker.client.settings import ConsumerSettings, StreamSettings, StreamUpdateSettings
from waymaker.client.values import (
    AuthorityOverride,
    BackupSummary,
    ClusterStreams,
    ConsumerInfo,
    Headers,
    RestoreReport,
    RestoreResult,
    ServerInfo,
    SourceStatus,
    StreamInfo,
    StreamUpdate,
    WatchEvent,
)
from waymaker_core.model.config import ConsumerConfig, StreamConfig

if TYPE_CHECKING:
    from waymaker.backups.index import ArchiveEntry, BackupIndex
    from waymaker.client.kv import BucketSettings
    from waymaker.client.sync_kv import SyncKeyValue
    from waymaker.client.sync_objects import SyncObjectStore
    from waymaker.client.sync_stores import SyncHashStore, SyncQueue, SyncSetStore, SyncSketch

T = TypeVar("T")
PART_MESSAGES = 16_384
"""Messages handed over to the loop's thread at a time."""
PART_BYTES = 16 * BATCH_BYTES_TARGET
PARTS_IN_FLIGHT_MAX = 2
PIECES_WAITING = 4


class SyncClient:
    """A connection to one server for synchronous code. Made by `waymaker.connect_sync`; use it with `with`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._client = Client(options)
        self._thread: LoopThread | None = None
        self._closed = False

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise ClosedError("this client is open already, or was closed; make another one")
        self._thread = LoopThread.acquire(self)
        try:
            self._wait(self._client.__aenter__())
        except BaseException:
            self._closed = True
            self._thread.release(self)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout: float | None = 5.0) -> None:
        """Confirm acknowledgements in flight, then end the connection. A forked child's copy is only forgotten."""
        if self._thread is None or self._closed:
            return
        self._closed = True
        if self._thread.is_inherited:
            return
        try:
            self._thread.wait(self._client.close(timeout))
        finally:
            self._thread.release(self)

    def _opened(self) -> LoopThread:
        if self._thread is None or self._closed:
            raise ClosedError("the client is not open; use `with`" if self._thread is None else "the client is closed")
        return self._thread

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        try:
            thread = self._opened()
        except ClosedError:
            coroutine.close()
            raise
        return thread.submit(coroutine)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            thread = self._opened()
        except ClosedError:
            coroutine.close()
            raise
        return thread.wait(coroutine)

    def _iterate(self, iterator: AsyncIterator[T]) -> Iterator[T]:
        async def step() -> tuple[bool, T | None]:
            try:
                return True, await iterator.__anext__()
            except StopAsyncIteration:
                return False, None

        try:
            while True:
                more, item = self._wait(step())
                if not more:
                    return
                yield item  # type: ignore[misc]
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None and self._thread is not None and self._thread.runs:
                ending = self._thread.submit(close())
                if not self._thread.is_current:  # a forgotten iterator is collected on any thread
                    self._thread.result(ending)

    @property
    def server_version(self) -> str:
        return self._client.server_version

    # ---------------------------------------------------------------------------------------- messages

    def publish(
        self, stream: str, subject: str, payload: bytes = b"", *, headers: Headers | None = None, ts_ms: Moment = 0,
        expected_last_seq: Whole | None = None, timeout: Timeout = UNSET,
    ) -> int:  # fmt: skip
        return self._wait(
            self._client.publish(
                stream,
                subject,
                payload,
                headers=headers,
                ts_ms=ts_ms,
                expected_last_seq=expected_last_seq,
                timeout=timeout,
            )
        )

    def publish_many(
        self, stream: str, messages: Iterable[Many], *, subject: str | None = None, timeout: Timeout = UNSET,
        on_progress: Callable[[int], None] | None = None,
    ) -> PublishResults:  # fmt: skip
        """Publish as the asynchronous client does; parts of the iterable are sent one after the other, in order."""
        check_source(messages)
        results = PublishResults()
        under_way: deque[concurrent.futures.Future[PublishResults]] = deque()
        previous: concurrent.futures.Future[PublishResults] | None = None

        async def send(part: list[Many], before: concurrent.futures.Future[PublishResults] | None) -> PublishResults:
            if before is not None:
                # Order: a part begins once the one before it has been answered; a failure ends all that follow.
                await asyncio.wrap_future(before)
            return await self._client._publish_part(stream, part, subject, timeout, None, begun=before is not None)

        def settle() -> None:
            done = under_way.popleft()
            try:
                part = done.result()
            except WaymakerError as error:
                if isinstance(error.results, PublishResults):
                    results.extend(error.results)
                error.results = results
                raise
            results.extend(part)
            if on_progress is not None:
                on_progress(len(part))

        try:
            for part in _parts(messages):
                previous = self._submit(send(part, previous))
                under_way.append(previous)
                while len(under_way) >= PARTS_IN_FLIGHT_MAX:
                    settle()
            while under_way:
                settle()
        finally:
            for future in under_way:
                future.cancel()
        return results

    def fetch(self, stream: str, consumer: str, batch_size: int = 0, *, timeout: Timeout = UNSET) -> list[SyncMessage]:
        messages = self._wait(self._client.fetch(stream, consumer, batch_size, timeout=timeout))
        return [SyncMessage.of(message, self) for message in messages]

    def subscribe(
        self, stream: str, consumer: str, *, prefetch: int = 512, prefetch_bytes: int = 8 << 20, batch_size: int = 0,
        stop_when_empty: bool = False, limit: int | None = None,
    ) -> SyncSubscription:  # fmt: skip
        """Subscribe to a consumer: `for message in client.subscribe(...)`."""

        async def make() -> Subscription:
            return self._client.subscribe(
                stream, consumer, prefetch=prefetch, prefetch_bytes=prefetch_bytes, batch_size=batch_size,
                stop_when_empty=stop_when_empty,
                limit=limit,
            )  # fmt: skip

        return SyncSubscription(self, self._wait(make()))

    def get(self, stream: str, subject: str, *, timeout: Timeout = UNSET) -> Message | None:
        return self._wait(self._client.get(stream, subject, timeout=timeout))

    def scan(
        self, stream: str, subject: str, *, from_seq: int = 0, limit: int | None = None, timeout: Timeout = UNSET
    ) -> Iterator[Message]:
        return self._iterate(self._client.scan(stream, subject, from_seq=from_seq, limit=limit, timeout=timeout))

    def subjects(self, stream: str, prefix: str = "", *, timeout: Timeout = UNSET) -> list[str]:
        return self._wait(self._client.subjects(stream, prefix, timeout=timeout))

    # ----------------------------------------------------------------------------------------- streams

    def create_stream(
        self, config: StreamConfig | str, *, timeout: Timeout = UNSET, **settings: Unpack[StreamSettings]
    ) -> None:
        self._wait(self._client.create_stream(config, timeout=timeout, **settings))

    def delete_stream(self, name: str, *, timeout: Timeout = UNSET) -> None:
        self._wait(self._client.delete_stream(name, timeout=timeout))

    def stream_info(self, name: str, *, timeout: Timeout = UNSET) -> StreamInfo:
        return self._wait(self._client.stream_info(name, timeout=timeout))

    def list_streams(self, *, timeout: Timeout = UNSET) -> list[str]:
        return self._wait(self._client.list_streams(timeout=timeout))

    def pin_stream(self, name: str, *, timeout: Timeout = UNSET) -> None:
        """Keep a stream where it is."""
        self._wait(self._client.pin_stream(name, timeout=timeout))

    def unpin_stream(self, name: str, *, timeout: Timeout = UNSET) -> None:
        """Let the sweep move a stream again."""
        self._wait(self._client.unpin_stream(name, timeout=timeout))

    def clear_authority(self, name: str, *, timeout: Timeout = UNSET) -> None:
        """Let a stream return to the node that consistent hashing names."""
        self._wait(self._client.clear_authority(name, timeout=timeout))

    def authority_overrides(self, *, timeout: Timeout = UNSET) -> list[AuthorityOverride]:
        """Return the streams that are led by another node than consistent hashing names."""
        return self._wait(self._client.authority_overrides(timeout=timeout))

    def cluster_streams(self, *, timeout: Timeout = UNSET) -> ClusterStreams:
        """Return what each node of the cluster leads."""
        return self._wait(self._client.cluster_streams(timeout=timeout))

    def stream_sources(self, *, timeout: Timeout = UNSET) -> list[SourceStatus]:
        return self._wait(self._client.stream_sources(timeout=timeout))

    def update_stream(
        self, name: str, *, timeout: Timeout = UNSET, **settings: Unpack[StreamUpdateSettings]
    ) -> StreamUpdate:
        return self._wait(self._client.update_stream(name, timeout=timeout, **settings))

    def preview_update(
        self, name: str, *, timeout: Timeout = UNSET, **settings: Unpack[StreamUpdateSettings]
    ) -> StreamUpdate:
        return self._wait(self._client.preview_update(name, timeout=timeout, **settings))

    # --------------------------------------------------------------------------------------- consumers

    def create_consumer(
        self, stream: str, config: ConsumerConfig | str, *, timeout: Timeout = UNSET,
        **settings: Unpack[ConsumerSettings],
    ) -> None:  # fmt: skip
        self._wait(self._client.create_consumer(stream, config, timeout=timeout, **settings))

    def delete_consumer(self, stream: str, consumer: str, *, timeout: Timeout = UNSET) -> None:
        self._wait(self._client.delete_consumer(stream, consumer, timeout=timeout))

    def consumer_info(self, stream: str, consumer: str, *, timeout: Timeout = UNSET) -> ConsumerInfo:
        return self._wait(self._client.consumer_info(stream, consumer, timeout=timeout))

    def list_consumers(self, stream: str, *, timeout: Timeout = UNSET) -> list[ConsumerInfo]:
        return self._wait(self._client.list_consumers(stream, timeout=timeout))

    # ---------------------------------------------------------------------------------------- key-value

    def kv(
        self, bucket: str, *, create: bool = False, timeout: Timeout = UNSET, **settings: Unpack[BucketSettings]
    ) -> SyncKeyValue:
        """Return a key-value bucket; with `create` it is made where there is none."""
        from waymaker.client.sync_kv import SyncKeyValue

        return SyncKeyValue(self, self._wait(self._client.kv(bucket, create=create, timeout=timeout, **settings)))

    def delete_bucket(self, bucket: str, *, timeout: Timeout = UNSET) -> None:
        """Delete a key-value bucket with all its keys."""
        self._wait(self._client.delete_bucket(bucket, timeout=timeout))

    # ------------------------------------------------------------------------- collections and sketches

    def hash_store(self, name: str) -> SyncHashStore:
        from waymaker.client.sync_stores import SyncHashStore

        return SyncHashStore(self, self._client.hash_store(name))

    def set_store(self, name: str) -> SyncSetStore:
        from waymaker.client.sync_stores import SyncSetStore

        return SyncSetStore(self, self._client.set_store(name))

    def queue(self, name: str) -> SyncQueue:
        from waymaker.client.sync_stores import SyncQueue

        return SyncQueue(self, self._client.queue(name))

    def sketch(self, name: str) -> SyncSketch:
        from waymaker.client.sync_stores import SyncSketch

        return SyncSketch(self, self._client.sketch(name))

    # ------------------------------------------------------------------------------------------ objects

    def objects(self, bucket: str, *, create: bool = False, timeout: Timeout = UNSET) -> SyncObjectStore:
        """Return the object store of a bucket."""
        from waymaker.client.sync_objects import SyncObjectStore

        return SyncObjectStore(self, self._wait(self._client.objects(bucket, create=create, timeout=timeout)))

    # ---------------------------------------------------------------------------------------- operators

    def server_info(self, *, timeout: Timeout = UNSET) -> ServerInfo:
        return self._wait(self._client.server_info(timeout=timeout))

    def watch(self) -> Iterator[WatchEvent]:
        return self._iterate(self._client.watch())

    def backup(
        self, stream: str, on_summary: Callable[[BackupSummary], None] | None = None, *, timeout: Timeout = UNSET
    ) -> Iterator[bytes]:
        told: list[BackupSummary] = []
        yield from self._iterate(self._client.backup(stream, told.append, timeout=timeout))
        if on_summary is not None:
            for summary in told:
                on_summary(summary)

    def restore(self, archive: Iterable[bytes], name: str = "", *, timeout: Timeout = UNSET) -> RestoreResult:
        """Restore as the asynchronous client does; the archive is read on the caller's thread."""
        return self._send(archive, lambda arriving: self._client.restore(arriving, name, timeout=timeout))

    def _send(self, source: Iterable[bytes], sending: Callable[[AsyncIterator[bytes]], Coroutine[Any, Any, T]]) -> T:
        """Run a call that sends pieces, which are read on the caller's thread."""
        thread = self._opened()
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=PIECES_WAITING)

        async def arriving() -> AsyncIterator[bytes]:
            while (piece := await pieces.get()) is not None:
                yield piece

        sent = thread.submit(sending(arriving()))
        try:
            for piece in chain[bytes | None](source, (None,)):
                handing_over = thread.submit(pieces.put(piece))
                under_way: list[concurrent.futures.Future[Any]] = [handing_over, sent]
                concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED)
                if sent.done():  # the server may judge before it has seen everything
                    handing_over.cancel()
                    break
        except BaseException:
            sent.cancel()
            raise
        return thread.result(sent)

    def backup_all(
        self, directory: str | PathLike[str], streams: Iterable[str] = (), *, force: bool = False,
        skip_damaged: bool = False, on_archive: Callable[[ArchiveEntry], None] | None = None,
        on_bytes: Callable[[int], None] | None = None, timeout: Timeout = UNSET,
    ) -> BackupIndex:  # fmt: skip
        names, callbacks = list(streams), _Callbacks()
        return callbacks.run(self._opened(), self._client.backup_all(
            directory, names, force=force, skip_damaged=skip_damaged, on_archive=callbacks.here(on_archive),
            on_bytes=callbacks.here(on_bytes), timeout=timeout,
        ))  # fmt: skip

    def restore_all(
        self, directory: str | PathLike[str], streams: Iterable[str] = (), *, skip_existing: bool = False,
        name: str = "", prefix: str = "", on_stream: Callable[[RestoreResult], None] | None = None,
        on_bytes: Callable[[int], None] | None = None, timeout: Timeout = UNSET,
    ) -> RestoreReport:  # fmt: skip
        names, callbacks = list(streams), _Callbacks()
        return callbacks.run(self._opened(), self._client.restore_all(
            directory, names, skip_existing=skip_existing, name=name, prefix=prefix,
            on_stream=callbacks.here(on_stream), on_bytes=callbacks.here(on_bytes), timeout=timeout,
        ))  # fmt: skip

    def acknowledge(self, say: Callable[[], Any]) -> None:
        """Run a queued acknowledgement on the loop's thread, without waiting for it."""
        thread = self._opened()
        if thread.is_inherited:
            raise inherited()
        thread.loop.call_soon_threadsafe(say)


class _Callbacks:
    """Calls back from the loop's thread, which the caller's thread makes while it waits."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def here(self, callback: Callable[[T], None] | None) -> Callable[[T], None] | None:
        """Return what the loop's thread calls in place of a callback."""
        return None if callback is None else lambda value: self._calls.put(partial(callback, value))

    def run(self, thread: LoopThread, work: Coroutine[Any, Any, T]) -> T:
        """Run a call to its end; it is cancelled where a callback raises."""
        future = thread.submit(work)
        future.add_done_callback(lambda _: self._calls.put(None))
        try:
            while thread.runs:
                try:
                    call = self._calls.get(timeout=LOOK_S)
                except queue.Empty:
                    continue
                if call is None:
                    break
                call()
        except BaseException:
            future.cancel()
            raise
        return thread.result(future)


class SyncMessage(Message):
    """A delivered message for synchronous code. `wait=True` returns once the acknowledgement is on disk."""

    __slots__ = ("_client",)
    _client: SyncClient

    @classmethod
    def of(cls, message: Message, client: SyncClient) -> SyncMessage:
        made = cls(
            message.seq, message.ts_ms, message.deliver_count, message._body, message._acker, message._incarnation
        )  # fmt: skip
        made._client = client
        return made

    def ack(self, wait: bool = False) -> None:  # type: ignore[override]
        self._tell(super().ack, wait)

    def term(self, wait: bool = False) -> None:  # type: ignore[override]
        self._tell(super().term, wait)

    def nak(self, delay: Seconds = 0.0, wait: bool = False) -> None:  # type: ignore[override]
        nak = super().nak
        checked = seconds("delay", delay, most=NAK_DELAY_S_MAX)  # here, where the caller sees the refusal
        self._tell(lambda: nak(checked), wait)

    def in_progress(self, wait: bool = False) -> None:  # type: ignore[override]
        self._tell(super().in_progress, wait)

    def _tell(self, say: Callable[[], Any], wait: bool) -> None:
        if not wait:
            self._client.acknowledge(say)
            return

        async def confirmed() -> None:
            await say()

        self._client._wait(confirmed())


class SyncSubscription:
    """Iterate over it: `for message in subscription`. Use `with`, or `close`, to leave it early."""

    def __init__(self, client: SyncClient, subscription: Subscription) -> None:
        self._client = client
        self._subscription = subscription
        self._messages: deque[Message] = deque()

    @property
    def reason(self) -> str:
        return self._subscription.reason

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SyncMessage:
        message = self.next(None)
        if message is None:
            raise StopIteration
        return message

    def next(self, timeout: float | None) -> SyncMessage | None:
        """Return the next message; None at the end, TimeoutError where none came within `timeout` seconds."""
        if not self._messages:
            self._messages.extend(self._client._wait(self._some(timeout)))
            if not self._messages:
                return None
        self._subscription.given()
        return SyncMessage.of(self._messages.popleft(), self._client)

    async def _some(self, timeout: float | None) -> list[Message]:
        async with asyncio.timeout(timeout):
            try:
                return await self._subscription.some()
            except StopAsyncIteration:
                return []

    def close(self) -> None:
        """End it; messages that were not taken return to the consumer."""
        self._messages.clear()
        self._client._wait(self._subscription.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parts(messages: Iterable[Many]) -> Iterator[list[Many]]:
    """Cut an iterable by number and by bytes."""
    if isinstance(messages, list):
        yield from _sliced(messages)
        return
    source = iter(messages)
    while True:
        part: list[Many] = []
        size = 0
        for item in islice(source, PART_MESSAGES):
            part.append(item)
            size += _size(item)
            if size >= PART_BYTES:
                break
        if not part:
            return
        yield part


def _sliced(messages: Sequence[Many]) -> Iterator[list[Many]]:
    for at in range(0, len(messages), PART_MESSAGES):
        yield list(messages[at : at + PART_MESSAGES])


def _size(item: object) -> int:
    """Return about the bytes of an item; 0 for one that will be refused."""
    payload = item[1] if isinstance(item, tuple) and len(item) > 1 else getattr(item, "payload", item)
    return len(payload) if isinstance(payload, bytes | bytearray | memoryview) else 0

"""The client: every call of the server as a method, and the rules that hold for all of them.

- `timeout` is in seconds and bounds the whole call, waiting for a connection included; left out, the client's own holds, and
  None waits for ever.
- A call that did not end in `ok` raises; `WaymakerError.outcome` says whether a change may have happened all the same.
- Reads are repeated by themselves after a lost connection, and publishes too: their numbers let the server store them once.
  Other changes are not, unless nothing had been sent yet, or the server said that nothing happened.
- Lists page by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto

from waymaker.client import contract
from waymaker.client.buckets import Buckets
from waymaker.client.checked import UINT32_MAX, UNSET, Moment, Timeout, Unset, Whole, flag, seconds, text, whole
from waymaker.client.connection.members import Members
from waymaker.client.connection.single_calls import call_alone
from waymaker.client.connection.transport import ends_told
from waymaker.client.connection.work import CallWork, check_result
from waymaker.client.consumer.delivery import Acker, Message
from waymaker.client.consumer.subscription import Subscription
from waymaker.client.errors import (
    NOT_APPLIED,
    AlreadyExistsError,
    ConnectionLostError,
    DataLossError,
    NoSuchBucketError,
    NoSuchStreamError,
    UnavailableError,
    WaymakerError,
)
from waymaker.client.options import Options
from waymaker.client.producer.flow import Flow, cut
from waymaker.client.producer.publishing import Many, Publisher
from waymaker.client.producer.results import PublishResults
from waymaker.client.settings import (
    ConsumerSettings,
    StreamSettings,
    StreamUpdateSettings,
    consumer_config,
    is_older,
    stream_config,
    stream_update,
)
from waymaker.client.stores.handles import Handles
from waymaker.client.values import (
    BackupSummary,
    ConsumerInfo,
    Headers,
    RestoreReport,
    RestoreResult,
    ServerInfo,
    SourceStatus,
    StreamInfo,
    StreamUpdate,
    WatchEvent,
    WatchKind,
)
from waymaker.wire import configs
from waymaker.wire.protocol import ADMIN_SERVICE, STREAMS_SERVICE
from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_proto import admin_pb2 as admin
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

if TYPE_CHECKING:
    from waymaker.backups.index import ArchiveEntry, BackupIndex
    from waymaker.client.backups import Calls
    from waymaker.client.objects.store import ObjectStore

Response = TypeVar("Response", bound=Proto)

ADMIN: Final = f"/{ADMIN_SERVICE}/"
STREAMS: Final = f"/{STREAMS_SERVICE}/"
PAGE_ENTRIES: Final = 1_000
SCAN_PAGE: Final = 1_000


class Client(Handles, Buckets):
    """A connection to one server. Made by `waymaker.connect`; use it with `async with`, in one event loop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._connection = Members(options)
        self._publisher = Publisher(self._connection)
        self._ackers: dict[tuple[str, str], Acker] = {}
        self._subscriptions: set[Subscription] = set()

    async def __aenter__(self) -> Self:
        await self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, timeout: float | None = 5.0) -> None:
        """Confirm acknowledgements in flight, then end the connection. What else is waiting fails."""
        try:
            if not (self._connection.ended or self._connection.is_inherited):
                async with asyncio.timeout(timeout):
                    for subscription in list(self._subscriptions):
                        await subscription.close(timeout)
                    for acker in self._ackers.values():
                        await acker.flush(timeout)
        except TimeoutError:
            pass
        finally:
            await self._connection.close()

    @property
    def server_version(self) -> str:
        """Return the version of the server, as it said when the session began."""
        return self._connection.welcome.server

    # ---------------------------------------------------------------------------------------- messages

    async def publish(
        self, stream: str, subject: str, payload: bytes = b"", *, headers: Headers | None = None, ts_ms: Moment = 0,
        expected_last_seq: Whole | None = None, timeout: Timeout = UNSET,
    ) -> int:  # fmt: skip
        """Store one message and return its sequence, once it is on disk.

        What many tasks publish in one turn of the loop travels together. With `expected_last_seq`, the message is stored
        only if that is the last sequence at the subject (0: nothing yet), else WrongRevisionError holds the actual one.
        """
        deadline = self._deadline(timeout)
        return await self._publisher.add(stream, subject, payload, headers, ts_ms, expected_last_seq, deadline)

    async def publish_many(
        self, stream: str, messages: Iterable[Many] | AsyncIterable[Many], *, subject: str | None = None,
        timeout: Timeout = UNSET, on_progress: Callable[[int], None] | None = None,
    ) -> PublishResults:  # fmt: skip
        """Store messages in the order given, in batches, several in flight at a time; return one outcome a message.

        `messages` are payloads (with `subject`), tuples `(subject, payload[, headers])` or `Outgoing`. `timeout` bounds each
        batch. A message that is refused by itself, here or by the server, is an exception in the results and the others go
        on. Where a whole batch fails, nothing more is taken: the exception is raised, and its `results` tell of every
        message taken until then. `on_progress` is told how many messages were answered, as answers arrive.
        """
        return await self._publish_part(stream, messages, subject, timeout, on_progress, begun=False)

    async def _publish_part(
        self, stream: str, messages: Iterable[Many] | AsyncIterable[Many], subject: str | None, timeout: Timeout,
        on_progress: Callable[[int], None] | None, begun: bool,
    ) -> PublishResults:  # fmt: skip
        """Publish all of `publish_many`'s messages or a part; `begun`: parts were published before."""
        text("stream", stream)
        if subject is not None:
            text("subject", subject)
        flow = Flow(self._connection, on_progress)
        source = cut(self._connection, stream, messages, subject, lambda: self._deadline(timeout), begun)
        try:
            async for part in source:
                await flow.add(part)
        except WaymakerError as error:
            await flow.settle()
            flow.fail(error)
        except Exception:
            # The source failed. What it gave before that is on its way, and stays.
            await flow.settle()
            raise
        except BaseException:
            flow.abandon()
            raise
        await flow.settle()
        if flow.error is not None:
            flow.error.results = flow.results
            raise flow.error
        return flow.results

    async def fetch(
        self, stream: str, consumer: str, batch_size: int = 0, *, timeout: Timeout = UNSET
    ) -> list[Message]:
        """Fetch what a consumer has to deliver now, due redeliveries first; empty where there is nothing. 0: 16 messages."""
        request = contract.request(pb.FetchRequest, stream=stream, consumer=consumer, batch_size=batch_size)
        acker = self._acker(stream, consumer)
        while True:
            work = self._begin("Fetch", request, timeout, repeatable=False, reports=True)
            response, result = await self._answer(work, pb.FetchResponse)
            if not response.messages or work.home is None or await work.home.flushed():
                word = result.incarnation
                return [Message(m.seq, m.ts_ms, m.deliver_count, m, acker, word) for m in response.messages]
            if not self.options.reconnect:
                raise ConnectionLostError("the connection was lost; the messages go back", outcome=NOT_APPLIED)

    def subscribe(
        self, stream: str, consumer: str, *, prefetch: int = 512, prefetch_bytes: int = 8 << 20, batch_size: int = 0,
        stop_when_empty: bool = False, limit: int | None = None,
    ) -> Subscription:  # fmt: skip
        """Subscribe to a consumer: `async for message in client.subscribe(...)`.

        At most `prefetch` messages wait on this side, and no more than can be worked on before half their `ack_wait` is over.
        It ends by itself after `limit` messages, and no more than those are taken from the consumer. Leave it early with
        `await subscription.close()`, or use `async with`.
        """
        self._subscriptions = {other for other in self._subscriptions if not other.reason}
        subscription = Subscription(
            self._connection,
            self._acker(stream, consumer),
            prefetch=whole("prefetch", prefetch, 1),
            prefetch_bytes=whole("prefetch_bytes", prefetch_bytes, 1),
            batch_size=whole("batch_size", batch_size, most=UINT32_MAX),
            stop_when_empty=flag("stop_when_empty", stop_when_empty),
            limit=None if limit is None else whole("limit", limit, 1),
        )
        self._subscriptions.add(subscription)
        return subscription

    async def get(self, stream: str, subject: str, *, timeout: Timeout = UNSET) -> Message | None:
        """Return the newest message at a subject; None where there is none."""
        request = contract.request(pb.ReadLatestAtSubjectRequest, stream=stream, subject=subject)
        response, _ = await self._call("ReadLatestAtSubject", request, pb.ReadLatestAtSubjectResponse, timeout)
        return _read(response.latest) if response.HasField("latest") else None

    async def scan(
        self, stream: str, subject: str, *, from_seq: int = 0, limit: int | None = None, timeout: Timeout = UNSET
    ) -> AsyncIterator[Message]:
        """Yield the messages at one subject in order; `limit` None: all. `timeout` bounds each page."""
        limit = None if limit is None else whole("limit", limit)
        while limit is None or limit > 0:
            page = SCAN_PAGE if limit is None else min(limit, SCAN_PAGE)
            request = contract.request(
                pb.ScanExactAtSubjectRequest, stream=stream, subject=subject, from_seq=from_seq, limit=page
            )
            response, _ = await self._call("ScanExactAtSubject", request, pb.ScanExactAtSubjectResponse, timeout)
            for message in response.messages:
                yield _read(message)
            # A page may be short because of its bytes, so only an empty one is the end.
            if not response.messages:
                return
            from_seq = response.messages[-1].seq + 1
            if limit is not None:
                limit -= len(response.messages)

    async def subjects(self, stream: str, prefix: str = "", *, timeout: Timeout = UNSET) -> list[str]:
        """Yield subjects with live messages that start with `prefix`, sorted."""
        request = contract.request(pb.ListSubjectsByPrefixRequest, stream=stream, prefix=prefix)
        out: list[str] = []
        async for response in self._service_pages(
            "ListSubjectsByPrefix", request, pb.ListSubjectsByPrefixResponse, timeout
        ):
            out.extend(response.subjects)
        return out

    # ----------------------------------------------------------------------------------------- streams

    async def create_stream(
        self, config: StreamConfig | str, *, timeout: Timeout = UNSET, **settings: Unpack[StreamSettings]
    ) -> None:
        """Make a stream from a `StreamConfig`, or from a name and settings by keyword."""
        made = stream_config(config, settings)
        request = contract.request(pb.CreateStreamRequest, config=configs.stream_config_pb(made))
        await self._call("CreateStream", request, pb.CreateStreamResponse, timeout, repeatable=False)

    async def delete_stream(self, name: str, *, timeout: Timeout = UNSET) -> None:
        """Delete a stream with its messages and consumers."""
        request = contract.request(pb.DeleteStreamRequest, name=name)
        await self._call("DeleteStream", request, pb.DeleteStreamResponse, timeout, repeatable=False)

    async def stream_info(self, name: str, *, timeout: Timeout = UNSET) -> StreamInfo:
        request = contract.request(pb.GetStreamInfoRequest, name=name)
        response, _ = await self._call("GetStreamInfo", request, pb.GetStreamInfoResponse, timeout)
        return contract.stream_info(response)

    async def list_streams(self, *, timeout: Timeout = UNSET) -> list[str]:
        """Return the names of all streams, sorted."""
        out: list[str] = []
        async for response in self._service_pages(
            "ListStreams", pb.ListStreamsRequest(), pb.ListStreamsResponse, timeout
        ):
            out.extend(response.names)
        return out

    async def stream_sources(self, *, timeout: Timeout = UNSET) -> list[SourceStatus]:
        """Return how far each source of each stream has come, by the name of the stream that copies."""
        out: list[SourceStatus] = []
        request = pb.GetStreamSourcesRequest()
        async for response in self._service_pages("GetStreamSources", request, pb.GetStreamSourcesResponse, timeout):
            out.extend(contract.source_status(entry.sourcing_stream, entry) for entry in response.entries)
        return out

    async def update_stream(
        self, name: str, *, timeout: Timeout = UNSET, **settings: Unpack[StreamUpdateSettings]
    ) -> StreamUpdate:
        """Change settings; None leaves one alone, 0 clears a bound. The call prunes what the new bounds exclude."""
        request = contract.request(pb.UpdateStreamRequest, name=name, **stream_update(settings))
        response, _ = await self._call("UpdateStream", request, pb.UpdateStreamResponse, timeout, repeatable=False)
        return StreamUpdate(configs.stream_config(response.config), response.pruned)

    async def preview_update(
        self, name: str, *, timeout: Timeout = UNSET, **settings: Unpack[StreamUpdateSettings]
    ) -> StreamUpdate:
        """Return what `update_stream` would do; nothing changes."""
        request = contract.request(pb.UpdateStreamRequest, name=name, **stream_update(settings))
        response = await self._unary(ADMIN + "PreviewUpdate", request, pb.UpdateStreamResponse, timeout)
        check_result(response)
        return StreamUpdate(configs.stream_config(response.config), response.pruned)

    # --------------------------------------------------------------------------------------- consumers

    async def create_consumer(
        self, stream: str, config: ConsumerConfig | str, *, timeout: Timeout = UNSET,
        **settings: Unpack[ConsumerSettings],
    ) -> None:  # fmt: skip
        """Make a consumer from a `ConsumerConfig`, or from a name and settings by keyword. The same again is fine.

        With `policy="new"` it begins behind the stream's last message, as it is when the call begins. With `inactive_ms`
        the server deletes it once no client used it for so long.
        """
        made, new = consumer_config(config, settings)
        text("stream", stream)
        if new:
            made = replace(made, start_seq=(await self.stream_info(stream, timeout=timeout)).last_seq + 1)
        request = contract.request(pb.CreateConsumerRequest, stream=stream, config=configs.consumer_config_pb(made))
        try:
            await self._call(
                "CreateConsumer",
                request,
                pb.CreateConsumerResponse,
                timeout,
                repeatable=False,
                inactive_ms=made.inactive_ms,
            )
        except AlreadyExistsError:
            if not new or not await self._is_the_same_but_older(stream, made, timeout):
                raise

    async def _is_the_same_but_older(self, stream: str, config: ConsumerConfig, timeout: Timeout) -> bool:
        """Return True if a consumer made with policy "new" before differs in its first sequence alone."""
        return is_older(config, (await self.consumer_info(stream, config.name, timeout=timeout)).config)

    async def delete_consumer(self, stream: str, consumer: str, *, timeout: Timeout = UNSET) -> None:
        request = contract.request(pb.DeleteConsumerRequest, stream=stream, consumer=consumer)
        await self._call("DeleteConsumer", request, pb.DeleteConsumerResponse, timeout, repeatable=False)

    async def consumer_info(self, stream: str, consumer: str, *, timeout: Timeout = UNSET) -> ConsumerInfo:
        request = contract.request(pb.GetConsumerInfoRequest, stream=stream, consumer=consumer)
        response, result = await self._call("GetConsumerInfo", request, pb.GetConsumerInfoResponse, timeout)
        return contract.consumer_infos([response.consumer], result.inactive_ms)[0]

    async def list_consumers(self, stream: str, *, timeout: Timeout = UNSET) -> list[ConsumerInfo]:
        """Return all consumers of a stream, by name."""
        out: list[ConsumerInfo] = []
        request = contract.request(pb.ListConsumersRequest, stream=stream)
        async for response, result in self._answers("ListConsumers", request, pb.ListConsumersResponse, timeout):
            out.extend(contract.consumer_infos(response.consumers, result.inactive_ms))
        return out

    # ------------------------------------------------------------------------------------------ objects

    async def objects(self, bucket: str, *, create: bool = False, timeout: Timeout = UNSET) -> ObjectStore:
        """Return the object store of a bucket, the stream `obj:BUCKET`; with `create` it is made where there is none."""
        from waymaker.client.objects.calls import Calls
        from waymaker.client.objects.store import ObjectStore

        stream = "obj:" + text("bucket", bucket)
        try:
            await self.stream_info(stream, timeout=timeout)
        except NoSuchStreamError:
            if not create:
                raise NoSuchBucketError(f"there is no bucket {bucket!r}") from None
            with contextlib.suppress(AlreadyExistsError):
                await self.create_stream(stream, timeout=timeout)
        options = self.options
        calls = Calls(
            self._call, self._answers, partial(call_alone, self._connection), self._channel, self._deadline, self._seconds,
            tuple(options.metadata or ()), options.backoff_first if options.reconnect else None,
        )  # fmt: skip
        return ObjectStore(calls, bucket)

    async def _channel(self, timeout: Timeout) -> Any:
        """Wait for a connection; return its channel."""
        await self._connection.connected(self._deadline(timeout))
        return self._connection.channel

    # ---------------------------------------------------------------------------------------- operators

    async def server_info(self, *, timeout: Timeout = UNSET) -> ServerInfo:
        response = await self._unary(ADMIN + "ServerInfo", admin.ServerInfoRequest(), admin.ServerInfoResponse, timeout)
        return contract.server_info(response)

    async def watch(self) -> AsyncIterator[WatchEvent]:
        """Yield creations, deletions and updates of streams and consumers on this server, as they happen.

        A lost connection is renewed and told of by an event of kind RESUMED: list again what must not be missed. The client's
        timeout bounds the wait for a connection to begin with; events may be as far apart as they are.
        """
        await self._connection.connected(self._deadline(UNSET))
        while True:
            await self._connection.connected()
            open_call: Any = self._connection.channel.unary_stream(
                STREAMS + "WatchStreams", response_deserializer=pb.WatchEvent.FromString
            )
            call = open_call(pb.WatchStreamsRequest().SerializeToString(), metadata=self.options.metadata)
            try:
                with ends_told():
                    async for event in call:
                        yield contract.watch_event(event)
                error: WaymakerError = ConnectionLostError("the server ended the watch")
            except WaymakerError as end:
                error = end
            finally:
                call.cancel()
            if not (isinstance(error, UnavailableError) and self.options.reconnect):
                raise error
            await asyncio.sleep(self.options.backoff_first)
            await self._connection.connected()
            yield WatchEvent(WatchKind.RESUMED, "", "", 0, 0)

    async def backup(
        self, stream: str, on_summary: Callable[[BackupSummary], None] | None = None, *, timeout: Timeout = UNSET
    ) -> AsyncIterator[bytes]:
        """Yield a stream as an archive, in pieces. It is complete only when the iteration ends without an exception.

        `timeout` bounds the wait for each piece.
        """
        from waymaker.client.archive import read_backup

        text("stream", stream)
        await self._connection.connected(self._deadline(timeout))
        open_call: Any = self._connection.channel.unary_stream(
            ADMIN + "Backup", response_deserializer=admin.ArchiveChunk.FromString
        )
        call = open_call(admin.BackupRequest(stream=stream).SerializeToString(), metadata=self.options.metadata)
        try:
            with ends_told():
                async for data in read_backup(call, on_summary, self._seconds(timeout)):
                    yield data
        finally:
            call.cancel()

    async def restore(
        self, archive: Iterable[bytes] | AsyncIterable[bytes], name: str = "", *, timeout: Timeout = UNSET
    ) -> RestoreResult:
        """Make a stream from an archive, under its own name or another. It is served once all of it is verified.

        `timeout` bounds the taking of each piece by the server, and the wait for its word in the end, where a large archive is
        given more.
        """
        from waymaker.client.archive import send_archive

        text("name", name)
        await self._connection.connected(self._deadline(timeout))
        call: Any = self._connection.channel.stream_stream(ADMIN + "Restore")(metadata=self.options.metadata)
        try:
            with ends_told(changes=True):
                response = await send_archive(call, archive, name, self._seconds(timeout))
        finally:
            call.cancel()
        check_result(response)
        return contract.restore_result(response)

    async def backup_all(
        self, directory: str | PathLike[str], streams: Iterable[str] = (), *, force: bool = False,
        skip_damaged: bool = False, on_archive: Callable[[ArchiveEntry], None] | None = None,
        on_bytes: Callable[[int], None] | None = None, timeout: Timeout = UNSET,
    ) -> BackupIndex:  # fmt: skip
        """Copy all streams, or those named, into a new directory, each as it is at one moment of its own.

        The directory holds a backup once this returns, and nothing of it where this raises. `force` replaces the backup in it;
        `skip_damaged` leaves out streams that the server does not serve. `timeout` bounds the wait for each answer and piece.
        """
        from waymaker.client.backups import Backup

        names = [text("streams", name) for name in streams]
        flags = flag("force", force), flag("skip_damaged", skip_damaged)
        return await Backup(self._backup_calls(timeout), on_archive, on_bytes, flags[1]).run(
            Path(directory), names, flags[0]
        )

    async def restore_all(
        self, directory: str | PathLike[str], streams: Iterable[str] = (), *, skip_existing: bool = False,
        name: str = "", prefix: str = "", on_stream: Callable[[RestoreResult], None] | None = None,
        on_bytes: Callable[[int], None] | None = None, timeout: Timeout = UNSET,
    ) -> RestoreReport:  # fmt: skip
        """Make streams from a backup: all of them, or those named. `name` names one anew, `prefix` all.

        Where a name is taken, nothing is changed, unless `skip_existing` leaves those out. Each stream appears whole or
        not at all; what was restored before a failure stays. `timeout` is that of `restore`.
        """
        from waymaker.client.backups import Restore

        names = [text("streams", each) for each in streams]
        restore = Restore(self._backup_calls(timeout), on_stream, on_bytes, flag("skip_existing", skip_existing))
        return await restore.run(Path(directory), names, text("name", name), text("prefix", prefix))

    # ------------------------------------------------------------------------------------------ within

    def _backup_calls(self, timeout: Timeout) -> Calls:
        from waymaker.client.backups import Calls

        return Calls(
            partial(self.server_info, timeout=timeout), partial(self.list_streams, timeout=timeout),
            partial(self.backup, timeout=timeout), partial(self.restore, timeout=timeout),
        )  # fmt: skip

    def _deadline(self, timeout: Timeout) -> float | None:
        seconds = self._seconds(timeout)
        return None if seconds is None else asyncio.get_running_loop().time() + seconds

    def _seconds(self, timeout: Timeout) -> float | None:
        if timeout is None or isinstance(timeout, Unset):
            return None if timeout is None else self.options.timeout
        return seconds("timeout", timeout)

    def _acker(self, stream: str, consumer: str) -> Acker:
        text("stream", stream)
        text("consumer", consumer)
        acker = self._ackers.get((stream, consumer))
        if acker is None:
            if len(self._ackers) >= 1_024:
                self._ackers = {key: other for key, other in self._ackers.items() if not other.idle}
            acker = self._ackers[stream, consumer] = Acker(self._connection, stream, consumer)
        return acker

    async def _call(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout, *, repeatable: bool = True,
        after: str = "", limit: int = 0, reports: bool = False, inactive_ms: int = 0,
    ) -> tuple[Response, pl.CallResult]:  # fmt: skip
        """Call the contract through the session; return its checked response, and what came beside it."""
        return await self._answer(
            self._begin(method, request, timeout, repeatable, after, limit, reports, inactive_ms), kind
        )

    def _begin(
        self, method: str, request: Proto, timeout: Timeout, repeatable: bool, after: str = "", limit: int = 0,
        reports: bool = False, inactive_ms: int = 0,
    ) -> CallWork:  # fmt: skip
        future: asyncio.Future[pl.CallResult] = asyncio.get_running_loop().create_future()
        deadline = self._deadline(timeout)
        work = CallWork(method, request, repeatable, future, deadline, after, limit, reports, inactive_ms)
        self._connection.submit(work)
        self._connection.send_alone()
        return work

    async def _answer(self, work: CallWork, kind: type[Response]) -> tuple[Response, pl.CallResult]:
        result = await work.future
        try:
            response = kind.FromString(result.response)
        except DecodeError as error:
            raise DataLossError(f"the server's answer to {work.method} cannot be read") from error
        if hasattr(response, "result_code"):
            check_result(response)
        return response, result

    async def _call_service(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout, *, repeatable: bool = True,
    ) -> Response:  # fmt: skip
        """Call a service for one of its objects; see `stores.calling.Caller`."""
        response, _ = await self._call(method, request, kind, timeout, repeatable=repeatable)
        return response

    async def _service_pages(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout
    ) -> AsyncIterator[Response]:
        """Yield the pages of a list, of a service or the contract; `timeout` bounds all of them together."""
        async for response, _ in self._answers(method, request, kind, timeout):
            yield response

    async def _answers(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout
    ) -> AsyncIterator[tuple[Response, pl.CallResult]]:
        """Yield the same, with what came beside each page."""
        after = ""
        deadline = self._deadline(timeout)
        while True:
            left = None if deadline is None else max(deadline - asyncio.get_running_loop().time(), 0.0)
            response, result = await self._call(method, request, kind, left, after=after, limit=PAGE_ENTRIES)
            yield response, result
            if not result.next or result.next == after:
                return
            after = result.next

    async def _unary(
        self, path: str, request: Proto, kind: type[Response], timeout: Timeout, beside: Sequence[tuple[str, str]] = ()
    ) -> Response:
        """Call outside the session, with metadata `beside`; return the response."""
        metadata = (*(self.options.metadata or ()), *beside)
        data = request.SerializeToString()
        return kind.FromString(await call_alone(self._connection, path, data, self._deadline(timeout), metadata))


def _read(message: pb.MessagePb) -> Message:
    return Message(message.seq, message.ts_ms, 0, message, None)

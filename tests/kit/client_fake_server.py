"""A small server for the client's tests: the pipeline over real gRPC, streams and consumers as plain lists.

It is as simple as it can be and does what it is told to do wrong: hold answers back, end a session at a chosen moment,
refuse. Its own behaviour is no statement about the real server, which has tests of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, Self

import grpc
import grpc.aio

from tests.kit.fake_link import FakeLink
from waymaker_proto import admin_pb2 as admin
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what another task brings about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (conditions are of all kinds, few of them have an event)
            await asyncio.sleep(0.005)


class FakeStream:
    """Messages by sequence, and for each consumer where it stands."""

    def __init__(self, config: pb.StreamConfigPb) -> None:
        self.config = config
        self.messages: list[tuple[str, list[tuple[str, str]], bytes, int]] = []
        self.consumers: dict[str, FakeConsumer] = {}

    def last_at(self, subject: str) -> int:
        return max((seq for seq, m in enumerate(self.messages, 1) if m[0] == subject), default=0)

    def body(self, seq: int) -> bytes:
        subject, headers, payload, _ = self.messages[seq - 1]
        wire = pb.MessagePb(subject=subject, payload=payload)
        for key, value in headers:
            wire.headers.add(key=key, value=value)
        return wire.SerializeToString()


class FakeConsumer:
    def __init__(self, config: pb.ConsumerConfigPb) -> None:
        self.config = config
        self.next_seq = 1
        self.counts: dict[int, int] = {}
        self.again: list[int] = []
        self.returned: list[int] = []
        self.acked: list[tuple[int, int]] = []
        """(kind, sequence) in the order of arrival."""


class Session:
    """One client's session at the server."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.out: asyncio.Queue[pl.Frame | tuple[grpc.StatusCode, str] | None] = asyncio.Queue()
        self.subscriptions: dict[int, pl.Subscribe] = {}
        self.credit: dict[int, list[int]] = {}
        self.sent: dict[int, list[int]] = {}
        self.dealt: dict[int, int] = {}

    def send(self, frame: pl.Frame) -> None:
        self.out.put_nowait(frame)

    def break_off(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, outcome: str = "") -> None:
        self.out.put_nowait((code, outcome))

    def stop_in_order(self) -> None:
        """Stop as a server that drains: what it has not answered by now did not happen."""
        self.send(pl.Frame(closing=pl.Closing(reason="server_shutdown")))
        self.break_off(outcome="not-applied")


class FakeServer:
    """`on_frame(session, frame)` may return True: the frame is then not handled."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.credentials = credentials
        self.streams: dict[str, FakeStream] = {}
        self.frames: list[pl.Frame] = []
        self.sessions: list[Session] = []
        self.metadata: list[dict[str, Any]] = []
        self.on_frame: Callable[[Session, pl.Frame], bool | None] | None = None
        self.welcome = pl.Welcome(
            version=1, server="fake", window_bytes=4 << 20, frame_bytes_max=18 << 20, publish_batch_max=65_536,
            ack_batch_max=65_536, message_bytes_max=16 << 20, subscriptions_max=1_000,
        )  # fmt: skip
        self.cluster_status = admin.ClusterStatusResponse(node_id=1)
        self.hung = False
        """Takes everything and answers nothing."""
        self.hang_calls = False
        """The same for calls outside the session."""
        self.refuse_sessions: grpc.StatusCode | None = None
        self.watchers: list[asyncio.Queue[pb.WatchEvent | None]] = []
        self.archive = [b"head", b"x" * 1000, b"tail"]
        self.archive_total: int | None = None
        self.restored = b""
        self.port = 0
        self.link_id = b""
        self._server: grpc.aio.Server | None = None
        self._link: FakeLink | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ]
        )
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        address = f"127.0.0.1:{port}"
        if self.credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self.credentials)
        if FakeLink.offered and self.credentials is None:
            self._link = FakeLink(self)
            await self._link.start()
        await self._server.start()

    @property
    def link_port(self) -> int:
        return self._link.port if self._link is not None else 0

    async def stop(self) -> None:
        if self._link is not None:
            self._link.stop()
            self._link = None
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # ---------------------------------------------------------------------------------------- handlers

    async def session(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self.metadata.append(dict(context.invocation_metadata() or ()))
        if self.refuse_sessions is not None:
            await context.abort(self.refuse_sessions, "refused by the test")
        async for data in self.frames_of(requests, context):
            yield data

    async def frames_of(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Serve a session over whatever carries it; `context.abort` raises, and ends it with a status."""
        session = Session(self)
        self.sessions.append(session)

        async def read() -> None:
            async for data in requests:
                frame = pl.Frame.FromString(data)
                self.frames.append(frame)
                if self.hung:
                    continue
                if frame.HasField("hello"):
                    session.send(pl.Frame(welcome=self.welcome))
                if self.on_frame is not None and self.on_frame(session, frame):
                    continue
                self.handle(session, frame)
            session.out.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while True:
                item = await session.out.get()
                if item is None:
                    return
                if isinstance(item, tuple):
                    code, outcome = item
                    await context.abort(code, "broken off by the test", (("wmkr-outcome", outcome),) if outcome else ())
                assert isinstance(item, pl.Frame)
                yield item.SerializeToString()
        finally:
            reader.cancel()
            for id_ in list(session.subscriptions):
                self.leave(session, id_)

    def handle(self, session: Session, frame: pl.Frame) -> None:
        answer = pl.Frame()
        for call in frame.calls:
            self.call(call, answer)
        for batch in frame.publishes:
            answer.published.append(self.publish(batch))
        for ack in frame.acks:
            answer.acked.append(self.ack(ack))
        for subscribe in frame.subscribes:
            session.subscriptions[subscribe.id] = subscribe
            session.credit[subscribe.id] = [subscribe.credit_messages, subscribe.credit_bytes]
            session.sent[subscribe.id], session.dealt[subscribe.id] = [], 0
        for credit in frame.credits:
            if credit.subscription in session.credit:
                session.credit[credit.subscription][0] += credit.messages
                session.credit[credit.subscription][1] += credit.bytes
                session.dealt[credit.subscription] = max(session.dealt[credit.subscription], credit.handed_out)
                for span in credit.handed_back:
                    back = session.sent[credit.subscription][span.first - 1 : span.last]
                    self.give_back(session.subscriptions[credit.subscription], back)
        for id_ in frame.unsubscribes:
            self.leave(session, id_)
        if answer.ByteSize():
            session.send(answer)
        for other in self.sessions:
            other_frame = pl.Frame()
            self.deliver(other, other_frame)
            if other_frame.ByteSize():
                other.send(other_frame)

    def leave(self, session: Session, id_: int) -> None:
        """End a subscription: what was not reported is returned, uncounted."""
        subscribe = session.subscriptions.pop(id_, None)
        if subscribe is not None:
            self.give_back(subscribe, session.sent[id_][session.dealt[id_] :])

    def give_back(self, subscribe: pl.Subscribe, seqs: Iterable[int]) -> None:
        consumer = self.streams[subscribe.stream].consumers.get(subscribe.consumer)
        for seq in seqs if consumer is not None else ():
            assert consumer is not None
            consumer.again.append(seq)
            consumer.counts[seq] -= 1
            consumer.returned.append(seq)

    def publish(self, batch: pl.PublishBatch) -> pl.Published:
        stream = self.streams.get(batch.stream)
        if stream is None:
            return pl.Published(id=batch.id, result_code="no_such_stream", message=f"no stream {batch.stream!r}")
        reply = pl.Published(id=batch.id, result_code="ok", first_seq=len(stream.messages) + 1)
        headers = {at.index: [(h.key, h.value) for h in at.headers] for at in batch.headers}
        for index, payload in enumerate(batch.payloads):
            subject = batch.subjects[batch.subject_index[index] if batch.subject_index else 0]
            if subject.startswith("bad"):
                reply.failures.add(index=index, result_code="subject_rejected", message="not here")
                continue
            expected = batch.expected_last_seq[index] if batch.expected_last_seq else -1
            if expected >= 0 and stream.last_at(subject) != expected:
                reply.failures.add(
                    index=index, result_code="wrong_revision", message="moved", seq=stream.last_at(subject)
                )
                continue
            ts_ms = batch.ts_ms[index] if batch.ts_ms else 0
            stream.messages.append((subject, headers.get(index, []), payload, ts_ms or 1_000))
            reply.count += 1
        return reply

    def ack(self, ack: pl.AckBatch) -> pl.Acked:
        stream = self.streams.get(ack.stream)
        if stream is None:
            return pl.Acked(id=ack.id, result_code="no_such_stream", message="gone")
        consumer = stream.consumers.get(ack.consumer)
        if consumer is None:
            return pl.Acked(id=ack.id, result_code="no_such_consumer", message="gone")
        seqs = [*ack.seqs, *(seq for r in ack.ranges for seq in range(r.first, r.last + 1))]
        consumer.acked.extend((ack.kind, seq) for seq in seqs)
        if ack.kind == pl.NAK and not ack.delay_ms:
            consumer.again.extend(seqs)
        return pl.Acked(id=ack.id, result_code="ok")

    def take(self, stream: FakeStream, consumer: FakeConsumer, most: int) -> list[int]:
        seqs = sorted(consumer.again)[:most]
        consumer.again = [seq for seq in consumer.again if seq not in seqs]
        while len(seqs) < most and consumer.next_seq <= len(stream.messages):
            seqs.append(consumer.next_seq)
            consumer.next_seq += 1
        for seq in seqs:
            consumer.counts[seq] = consumer.counts.get(seq, 0) + 1
        return seqs

    def deliver(self, session: Session, frame: pl.Frame) -> None:
        for id_, subscribe in list(session.subscriptions.items()):
            stream = self.streams.get(subscribe.stream)
            consumer = stream.consumers.get(subscribe.consumer) if stream else None
            if stream is None or consumer is None:
                code = "no_such_consumer" if stream else "no_such_stream"
                frame.ended.add(subscription=id_, refused=pl.Refused(status=5, message="not there", code=code))
                del session.subscriptions[id_]
                continue
            credit = session.credit[id_]
            seqs = self.take(stream, consumer, min(credit[0], 100))
            batch = frame.deliveries.add(subscription=id_) if seqs else None
            for seq in seqs:
                assert batch is not None
                last = batch.runs[-1] if batch.runs else None
                count = consumer.counts[seq]
                if last is None or last.first_seq + len(last.lengths) != seq or last.deliver_count != count:
                    last = batch.runs.add(first_seq=seq, deliver_count=count)
                body = stream.body(seq)
                last.ts_ms.append(stream.messages[seq - 1][3])
                last.lengths.append(len(body))
                last.bodies += body
                credit[0] -= 1
                credit[1] -= len(body)
                session.sent[id_].append(seq)
            if batch is not None:
                batch.ack_wait_ms = consumer.config.ack_wait_ms
            unreported = subscribe.reports and session.dealt[id_] < len(session.sent[id_])
            if not seqs and credit[0] > 0 and subscribe.stop_when_empty and not unreported:
                frame.ended.add(subscription=id_, reason="empty")
                del session.subscriptions[id_]
            elif seqs and subscribe.stop_when_empty and credit[0] > 0:
                self.deliver(session, frame)

    def call(self, call: pl.Call, answer: pl.Frame) -> None:
        handler = getattr(self, f"rpc_{call.method}", None)
        result = answer.results.add(id=call.id)
        if handler is None:
            result.refused.status = 12
            result.refused.message = f"{call.method} is not here"
            return
        response = handler(call, result)
        result.response = response.SerializeToString()

    def rpc_CreateStream(self, call: pl.Call, _: pl.CallResult) -> Any:  # noqa: N802
        request = pb.CreateStreamRequest.FromString(call.request)
        if request.config.name in self.streams:
            return pb.CreateStreamResponse(result_code="already_exists", message="there is one")
        self.streams[request.config.name] = FakeStream(request.config)
        return pb.CreateStreamResponse(success=True, result_code="ok")

    def rpc_DeleteStream(self, call: pl.Call, _: pl.CallResult) -> Any:  # noqa: N802
        request = pb.DeleteStreamRequest.FromString(call.request)
        if self.streams.pop(request.name, None) is None:
            return pb.DeleteStreamResponse(result_code="no_such_stream", message="none")
        return pb.DeleteStreamResponse(success=True, result_code="ok")

    def rpc_GetStreamInfo(self, call: pl.Call, _: pl.CallResult) -> Any:  # noqa: N802
        stream = self.streams.get(pb.GetStreamInfoRequest.FromString(call.request).name)
        if stream is None:
            return pb.GetStreamInfoResponse(result_code="no_such_stream", message="no such stream")
        count = len(stream.messages)
        stats = pb.StreamStatsPb(last_seq=count, msg_count=count, bytes=10 * count, block_count=1)
        return pb.GetStreamInfoResponse(success=True, result_code="ok", config=stream.config, stats=stats)

    def rpc_ListStreams(self, call: pl.Call, result: pl.CallResult) -> Any:  # noqa: N802
        return pb.ListStreamsResponse(names=self.page(sorted(self.streams), call, result))

    def page(self, names: list[str], call: pl.Call, result: pl.CallResult) -> list[str]:
        left = [name for name in names if name > call.after]
        page = left[: min(call.limit or 10_000, 3)]
        if len(page) < len(left):
            result.next = page[-1]
        return page

    def rpc_UpdateStream(self, call: pl.Call, _: pl.CallResult) -> Any:  # noqa: N802
        request = pb.UpdateStreamRequest.FromString(call.request)
        return self.update(request)

    def update(self, request: pb.UpdateStreamRequest, dry: bool = False) -> pb.UpdateStreamResponse:
        stream = self.streams.get(request.name)
        if stream is None:
            return pb.UpdateStreamResponse(result_code="no_such_stream", message="none")
        config = pb.StreamConfigPb()
        config.CopyFrom(stream.config)
        if request.HasField("max_msgs"):
            config.retention.limits.max_msgs = request.max_msgs
        pruned = max(len(stream.messages) - request.max_msgs, 0) if request.max_msgs else 0
        if not dry:
            stream.config = config
        return pb.UpdateStreamResponse(success=True, result_code="ok", config=config, pruned=pruned)

    def rpc_CreateConsumer(self, call: pl.Call, _: pl.CallResult) -> Any:  # noqa: N802
        request = pb.CreateConsumerRequest.FromString(call.request)
        stream = self.streams.get(request.stream)
        if stream is None:
            return pb.CreateConsumerResponse(result_code="no_such_stream", message="none")
        stream.consumers[request.config.name] = FakeConsumer(request.config)
        return pb.CreateConsumerResponse(success=True, result_code="ok")

    def rpc_DeleteConsumer(self, call: pl.Call, _: pl.CallResult) -> Any:  # noqa: N802
        request = pb.DeleteConsumerRequest.FromString(call.request)
        if self.streams[request.stream].consumers.pop(request.consumer, None) is None:
            return pb.DeleteConsumerResponse(result_code="no_such_consumer", message="none")
        return pb.DeleteConsumerResponse(success=True, result_code="ok")

    def rpc_ListConsumers(self, call: pl.Call, result: pl.CallResult) -> Any:  # noqa: N802
        request = pb.ListConsumersRequest.FromString(call.request)
        consumers = self.streams[request.stream].consumers
        names = self.page(sorted(consumers), call, result)
        states = [pb.ConsumerStatePb(config=consumers[name].config) for name in names]
        return pb.ListConsumersResponse(success=True, result_code="ok", consumers=states)

    def rpc_GetConsumerInfo(self, call: pl.Call, _: pl.CallResult) -> Any:  # noqa: N802
        request = pb.GetConsumerInfoRequest.FromString(call.request)
        stream = self.streams.get(request.stream)
        consumer = stream.consumers.get(request.consumer) if stream else None
        if consumer is None:
            return pb.GetConsumerInfoResponse(result_code="no_such_consumer", message="none")
        state = pb.ConsumerStatePb(config=consumer.config, last_delivered=consumer.next_seq - 1)
        return pb.GetConsumerInfoResponse(success=True, result_code="ok", consumer=state)

    def rpc_Fetch(self, call: pl.Call, _: pl.CallResult) -> Any:  # noqa: N802
        request = pb.FetchRequest.FromString(call.request)
        stream = self.streams[request.stream]
        consumer = stream.consumers[request.consumer]
        response = pb.FetchResponse(success=True, result_code="ok")
        for seq in self.take(stream, consumer, request.batch_size or 16):
            message = pb.MessagePb.FromString(stream.body(seq))
            message.seq, message.ts_ms, message.deliver_count = seq, stream.messages[seq - 1][3], consumer.counts[seq]
            response.messages.append(message)
        return response

    def rpc_ReadLatestAtSubject(self, call: pl.Call, _: pl.CallResult) -> Any:  # noqa: N802
        request = pb.ReadLatestAtSubjectRequest.FromString(call.request)
        stream = self.streams.get(request.stream)
        if stream is None:
            return pb.ReadLatestAtSubjectResponse(result_code="no_such_stream", message="none")
        response = pb.ReadLatestAtSubjectResponse(success=True, result_code="ok")
        if seq := stream.last_at(request.subject):
            response.latest.MergeFromString(stream.body(seq))
            response.latest.seq = seq
        return response

    def rpc_ScanExactAtSubject(self, call: pl.Call, _: pl.CallResult) -> Any:  # noqa: N802
        request = pb.ScanExactAtSubjectRequest.FromString(call.request)
        stream = self.streams[request.stream]
        response = pb.ScanExactAtSubjectResponse(success=True, result_code="ok")
        seqs = [seq for seq, m in enumerate(stream.messages, 1) if m[0] == request.subject and seq >= request.from_seq]
        for seq in seqs[: min(request.limit, 3)]:
            message = response.messages.add()
            message.MergeFromString(stream.body(seq))
            message.seq = seq
        return response

    def rpc_ListSubjectsByPrefix(self, call: pl.Call, result: pl.CallResult) -> Any:  # noqa: N802
        request = pb.ListSubjectsByPrefixRequest.FromString(call.request)
        subjects = sorted({m[0] for m in self.streams[request.stream].messages if m[0].startswith(request.prefix)})
        page = self.page(subjects, call, result)
        return pb.ListSubjectsByPrefixResponse(success=True, result_code="ok", subjects=page)


@contextlib.contextmanager
def threaded_server(credentials: grpc.ServerCredentials | None = None) -> Iterator[FakeServer]:
    """Run a fake server on a thread of its own, for synchronous tests."""
    loop = _lasting_loop()
    fake = FakeServer(credentials)
    asyncio.run_coroutine_threadsafe(fake.start(), loop).result()
    try:
        yield fake
    finally:
        asyncio.run_coroutine_threadsafe(fake.stop(), loop).result()


@functools.cache
def _lasting_loop() -> asyncio.AbstractEventLoop:
    """Return the one loop of all of them, never closed.

    gRPC has one poller a process, and one socket by which it wakes all loops: an event for one may be held up by another that
    read the wake-up, or by one that was closed.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def run_beside(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the loop of the fake servers, as `asyncio.run` does."""
    return asyncio.run_coroutine_threadsafe(work, _lasting_loop()).result()


class _Handlers(grpc.GenericRpcHandler):
    """Routes by path; the session in bytes, the rest in messages."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server

    def service(self, details: Any) -> Any:
        name = details.method.rsplit("/", 1)[1]
        if name == "Session":
            return grpc.stream_stream_rpc_method_handler(self.server.session)
        handler = getattr(self, name, None)
        if handler is not None and (self.server.hung or self.server.hang_calls):
            return grpc.stream_stream_rpc_method_handler(self.never)
        return None if handler is None else handler()

    async def never(self, requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        await asyncio.get_running_loop().create_future()
        yield b""

    def ServerInfo(self) -> Any:  # noqa: N802
        async def answer(_: bytes, __: Any) -> bytes:
            info = admin.ServerInfoResponse(version="fake", node_id=1, sync="always")
            if self.server.link_port:
                info.link_port, info.link_id = self.server.link_port, self.server.link_id
            return info.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)

    def ClusterStatus(self) -> Any:  # noqa: N802
        async def answer(_: bytes, __: Any) -> bytes:
            return self.server.cluster_status.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)

    def PreviewUpdate(self) -> Any:  # noqa: N802
        async def answer(request: bytes, _: Any) -> bytes:
            return self.server.update(pb.UpdateStreamRequest.FromString(request), dry=True).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)

    def WatchStreams(self) -> Any:  # noqa: N802
        async def answer(_: bytes, __: Any) -> AsyncIterator[bytes]:
            events: asyncio.Queue[pb.WatchEvent | None] = asyncio.Queue()
            self.server.watchers.append(events)
            while (event := await events.get()) is not None:
                yield event.SerializeToString()

        return grpc.unary_stream_rpc_method_handler(answer)

    def Backup(self) -> Any:  # noqa: N802
        async def answer(request: bytes, context: Any) -> AsyncIterator[bytes]:
            if admin.BackupRequest.FromString(request).stream not in self.server.streams:
                context.set_trailing_metadata((("wmkr-code", "no_such_stream"),))
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such stream")
            for data in self.server.archive:
                yield admin.ArchiveChunk(data=data).SerializeToString()
            total = (
                sum(map(len, self.server.archive)) if self.server.archive_total is None else self.server.archive_total
            )
            if total >= 0:
                summary = admin.ArchiveSummary(total_bytes=total, messages=2, last_seq=2)
                yield admin.ArchiveChunk(summary=summary).SerializeToString()

        return grpc.unary_stream_rpc_method_handler(answer)

    def Restore(self) -> Any:  # noqa: N802
        async def answer(requests: AsyncIterator[bytes], _: Any) -> bytes:
            name = ""
            async for data in requests:
                frame = admin.RestoreFrame.FromString(data)
                if frame.WhichOneof("body") == "start":
                    name = frame.start.name
                    if name in self.server.streams:
                        return admin.RestoreResponse(result_code="already_exists", message="taken").SerializeToString()
                else:
                    self.server.restored += frame.data
            return admin.RestoreResponse(
                success=True, result_code="ok", name=name or "archived", messages=2, last_seq=2
            ).SerializeToString()

        return grpc.stream_unary_rpc_method_handler(answer)


def publishing_frames(server: FakeServer) -> list[pl.Frame]:
    return [frame for frame in server.frames if frame.publishes]


def break_once(server: FakeServer, apply: bool) -> None:
    """End the session at the next frame with publishes, with the publishes stored or not, but never answered."""

    def on_frame(session: Session, frame: pl.Frame) -> bool:
        if not frame.publishes:
            return False
        server.on_frame = None
        if apply:
            for batch in frame.publishes:
                server.publish(batch)
        session.break_off()
        return True

    server.on_frame = on_frame

"""A node and a disk small enough to be read, so that the server can be tested for what the server does.

The node keeps messages in lists and answers at once, or when it is told to; the disk keeps bodies in a dictionary and can be
made to read slowly or badly.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from waymaker.server.auth.tokens import Tokens
from waymaker.server.config import Address, ServerConfig
from waymaker.server.server import Listeners, Members, Server
from waymaker.storage.store import Bodies, JobResult
from waymaker_core.api import requests as rq
from waymaker_core.api.authorize import stream_of
from waymaker_core.api.effects import Deliver, Effect, End, Event, EventKind, Halt, Job, Lane, Reply
from waymaker_core.api.inputs import Call, Cancel, Credit, Drain, Input, JobDone, JobFailed, Unreadable
from waymaker_core.cluster.effects import Elsewhere
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import Chunk, DiskFailure, SyncFile
from waymaker_core.model.result_codes import (
    ALREADY_EXISTS,
    INVALID_CONFIG,
    NO_SUCH_CONSUMER,
    NO_SUCH_STREAM,
    OK,
    Answer,
    Outcome,
    Refusal,
    Status,
)
from waymaker_core.model.types import JobId, Now, Token
from waymaker_core.node.service_figures import ServiceFigures
from waymaker_core.node.stats import NodeStats

OVERHEAD_BYTES = 33
"""Bytes that the core counts for a delivered message beside its body."""


class FakeDisk:
    """Bodies by path. `cold` makes every read go the long way; `broken` makes it fail."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.cold = False
        self.broken: DiskFailure | None = None
        self.held: list[Callable[[], None]] | None = None
        self.jobs: list[Job] = []
        self.sync_s = 0.0
        self.kept: dict[str, int] = {}
        """Files held for messages that are read later."""

    def submit(self, job: Job, done: Callable[[Job, JobResult], None]) -> None:
        self.jobs.append(job)
        results: JobResult = [None] * len(job.ops)
        asyncio.get_running_loop().call_soon(done, job, results)

    def run(self, job: Job) -> JobResult:
        self.jobs.append(job)
        return [None] * len(job.ops)

    def cached_bodies(self, messages: rq.Messages) -> Bodies | None:
        return None if self.cold else self._read(messages)

    def read_bodies(self, messages: rq.Messages, done: Callable[[Bodies | DiskFailure], None]) -> None:
        def read() -> None:
            done(self.broken if self.broken is not None else self._read(messages))

        if self.held is not None:
            self.held.append(read)
        else:
            asyncio.get_running_loop().call_soon(read)

    def hold(self, messages: rq.Messages) -> Callable[[], None]:
        paths = [run.chunk.path for run in messages.runs]
        for path in paths:
            self.kept[path] = self.kept.get(path, 0) + 1

        def let_go() -> None:
            for path in paths:
                self.kept[path] -= 1
                if not self.kept[path]:
                    del self.kept[path]

        return let_go

    def problem(self) -> str:
        return ""

    def _read(self, messages: rq.Messages) -> Bodies:
        return [run.bodies_in(self.bodies[run.chunk.path]) for run in messages.runs]


class _Subscription:
    def __init__(self, stream: str, consumer: str, stop_when_empty: bool) -> None:
        self.stream = stream
        self.consumer = consumer
        self.stop_when_empty = stop_when_empty
        self.messages = 0
        self.bytes = 0
        self.next = 0


class FakeNode:
    """Streams as lists of bodies; consumers as names. `mute` keeps answers back; `answers` overrides them by type."""

    def __init__(self, disk: FakeDisk) -> None:
        self.stats = NodeStats()
        self.directory_id = "00ff"
        self.disk = disk
        self.streams: dict[str, list[bytes]] = {}
        self.configs: dict[str, StreamConfig] = {}
        self.consumers: dict[tuple[str, str], int] = {}
        self.calls: list[Call] = []
        self.cancelled: list[Token] = []
        self.unreadable: list[Unreadable] = []
        self.subscriptions: dict[Token, _Subscription] = {}
        self.watchers: list[Token] = []
        self.answers: dict[type[Any], Callable[[Call], Answer | Refusal]] = {}
        self.mute = False
        self.held: list[Effect | Elsewhere] = []
        self.fail: Exception | None = None
        self.drain_at_once = True
        self.elsewhere: dict[str, int] = {}
        """The member that serves a stream; "": calls about none."""
        self.steps = 0
        self._paths = 0

    def next_deadline(self) -> int | None:
        return None

    def step(self, now: Now, inputs: list[Input]) -> list[Effect | Elsewhere]:
        self.steps += 1
        if self.fail is not None:
            raise self.fail
        effects: list[Effect | Elsewhere] = []
        for item in inputs:
            if isinstance(item, Call):
                self.calls.append(item)
                if (place := self.elsewhere.get(stream_of(item.request))) is not None:
                    effects.append(Elsewhere(item.token, place, 7))
                else:
                    self._call(item, effects, now)
            elif isinstance(item, Credit):
                subscription = self.subscriptions.get(item.token)
                if subscription is not None:
                    subscription.messages += item.messages
                    subscription.bytes += item.bytes
            elif isinstance(item, Cancel):
                self.cancelled.append(item.token)
                self.subscriptions.pop(item.token, None)
            elif isinstance(item, Unreadable):
                self.unreadable.append(item)
                refusal = Refusal(Status.DATA_LOSS, f"{item.failure.path} is damaged", None)
                known = self.subscriptions.pop(item.token, None) is not None
                effects.append(End(item.token, "", refusal) if known else Reply(item.token, refusal))
            elif isinstance(item, Drain):
                self._drain(effects)
        self._deliver(effects)
        if self.mute:
            self.held += effects
            return []
        return effects

    def release(self) -> list[Effect | Elsewhere]:
        """Release what was kept back."""
        self.mute = False
        held, self.held = self.held, []
        return held

    def _call(self, call: Call, effects: list[Effect | Elsewhere], now: Now) -> None:
        request = call.request
        if isinstance(request, rq.Subscribe):
            if request.stream not in self.streams:
                refusal = Refusal(Status.NOT_FOUND, "no such stream", Outcome.NOT_APPLIED, NO_SUCH_STREAM)
                effects.append(End(call.token, "", refusal))
                return
            self.subscriptions[call.token] = _Subscription(request.stream, request.consumer, request.stop_when_empty)
            return
        if isinstance(request, rq.WatchStreams):
            self.watchers.append(call.token)
            return
        override = self.answers.get(type(request))
        answer = override(call) if override is not None else self._answer(request)
        effects.append(Reply(call.token, answer))
        if isinstance(request, rq.CreateStream) and isinstance(answer, Answer) and answer.code == OK:
            effects += [
                Event(token, EventKind.STREAM_CREATED, request.config.name, "", now.wall_ms, 0)
                for token in self.watchers
            ]

    def _answer(self, request: rq.Request) -> Answer | Refusal:
        match request:
            case rq.CreateStream(config=config):
                if not config.name:
                    return Answer(INVALID_CONFIG, "a stream needs a name")
                if config.name in self.streams:
                    return Answer(ALREADY_EXISTS, "it exists")
                self.streams[config.name] = []
                self.configs[config.name] = config
                return Answer(OK)
            case rq.ListStreams():
                return Answer(OK, "", rq.Page(list[object](sorted(self.streams)), "ü %" if request.limit else ""))
            case rq.Publish(stream=stream):
                if stream not in self.streams:
                    return Answer(NO_SUCH_STREAM, "no such stream")
                bodies = self.streams[stream]
                first, at = len(bodies) + 1, 0
                for length in request.lengths:
                    bodies.append(request.body[at : at + length])
                    at += length
                return Answer(OK, "", rq.Published(first, len(request.lengths), None))
            case rq.GetStreamInfo(name=name):
                if name not in self.streams:
                    return Answer(NO_SUCH_STREAM, "no such stream")
                count = len(self.streams[name])
                stats = rq.StreamStats(1, count, count, 0, 1, 0)
                return Answer(OK, "", rq.StreamInfo(self.configs[name], stats, 7, 0, ""))
            case rq.CreateConsumer(stream=stream):
                if stream not in self.streams:
                    return Answer(NO_SUCH_STREAM, "no such stream")
                self.consumers[stream, request.config.name] = 0
                return Answer(OK)
            case rq.Fetch(stream=stream, consumer=consumer):
                if (stream, consumer) not in self.consumers:
                    return Answer(NO_SUCH_CONSUMER, "no such consumer")
                start = self.consumers[stream, consumer]
                return Answer(OK, "", self.messages(stream, start, request.batch_size or 16))
            case rq.ScanSubject(stream=stream):
                return Answer(OK, "", self.messages(stream, 0, 1000))
            case _:
                return Answer(OK)

    def messages(self, stream: str, start: int, count: int) -> rq.Messages:
        """Return the bodies of a stream by reference."""
        bodies = self.streams[stream][start : start + count]
        if not bodies:
            return rq.Messages([], 0, 0)
        self._paths += 1
        path = f"fake/{self._paths}"
        self.disk.bodies[path] = b"".join(bodies)
        chunk = Chunk(path, 0, len(self.disk.bodies[path]), 0)
        lengths = array("I", map(len, bodies))
        run = rq.Run(chunk, 0, lengths, start + 1, array("q", [1_000 + start + n for n in range(len(bodies))]), 1)
        return rq.Messages([run], len(bodies), chunk.length + OVERHEAD_BYTES * len(bodies))

    def _deliver(self, effects: list[Effect | Elsewhere]) -> None:
        for token, subscription in list(self.subscriptions.items()):
            while subscription.messages > 0 and subscription.bytes > 0:
                count = min(subscription.messages, 16)
                messages = self.messages(subscription.stream, subscription.next, count)
                if not messages.count:
                    break
                subscription.next += messages.count
                subscription.messages -= messages.count
                subscription.bytes -= messages.byte_count
                effects.append(Deliver(token, messages))
            if subscription.stop_when_empty and subscription.next == len(self.streams[subscription.stream]):
                effects.append(End(token, "empty"))
                del self.subscriptions[token]

    def _drain(self, effects: list[Effect | Elsewhere]) -> None:
        for token in self.subscriptions:
            effects.append(End(token, "server_shutdown"))
        for token in self.watchers:
            effects.append(End(token, "server_shutdown"))
        self.subscriptions.clear()
        if self.drain_at_once:
            effects.append(Halt("drained", clean=True))

    def quarantined(self) -> list[str]:
        return ["damaged"]

    def stream_figures(self) -> Iterator[tuple[str, rq.StreamStats]]:
        for name, bodies in sorted(self.streams.items()):
            yield name, rq.StreamStats(1, len(bodies), len(bodies), sum(map(len, bodies)), 1, 0)

    def source_figures(self) -> Iterator[rq.SourceStatus]:
        return iter(())

    def service_figures(self) -> ServiceFigures:
        return ServiceFigures(kv_buckets=1)

    def consumer_figures(self) -> Iterator[tuple[str, rq.ConsumerInfo]]:
        yield from ()


class Fixture:
    """A server around the fakes, and a channel to it."""

    def __init__(self, server: Server, node: FakeNode, disk: FakeDisk, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.node = node
        self.disk = disk
        self.channel = channel

    def stub(self, method: str, service: str = "waymaker.streams.WaymakerStreamsService") -> Any:
        """Return a unary call that takes and gives bytes."""
        return self.channel.unary_unary(f"/{service}/{method}")


def fake_config(**settings: Any) -> ServerConfig:
    """Make a configuration that listens wherever there is room."""
    settings.setdefault("listen", Address("127.0.0.1", 0))
    return ServerConfig(data_dir=Path("unused"), **settings)


@asynccontextmanager
async def serving(  # type: ignore[no-untyped-def]
    tokens: Tokens | None = None, members: Members | None = None, **settings: Any
):
    """Run a server in this event loop for the length of a block."""
    config = fake_config(**settings)
    disk = FakeDisk()
    node = FakeNode(disk)
    server = Server(config, Listeners(config), node, disk, tokens, "1.2.3", members)
    await server.start()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(str(server.listeners.address), options) as channel:
        try:
            yield Fixture(server, node, disk, channel)
        finally:
            await server.close(0)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Durable:
    """Answers a call once a journal job of its own is done."""

    def __init__(self) -> None:
        self.waiting: dict[JobId, list[Token]] = {}
        self.gathered: list[Token] = []
        self.failures: list[DiskFailure] = []
        self.deadline: int | None = None
        self.ticks = 0
        self._next = 1

    def next_deadline(self) -> int | None:
        return self.deadline

    def step(self, now: Now, inputs: list[Input]) -> list[Effect]:
        if not inputs:
            self.ticks += 1
            self.deadline = None
        effects: list[Effect] = []
        for item in inputs:
            if isinstance(item, Call):
                self.gathered.append(item.token)
            elif isinstance(item, JobDone):
                effects += [Reply(token, Answer(OK)) for token in self.waiting.pop(item.id)]
            elif isinstance(item, JobFailed):
                self.failures.append(item.failure)
                effects.append(Halt("the sync failed", clean=False))
        if self.gathered and not self.waiting:
            self.waiting[JobId(self._next)] = self.gathered
            effects.append(Job(JobId(self._next), Lane.JOURNAL, [SyncFile("journal/1.seg")]))
            self.gathered = []
            self._next += 1
        return effects


class SlowDisk(FakeDisk):
    """Performs submitted jobs when it is told to, and counts the ones done inline."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[tuple[Job, Callable[[Job, JobResult], None]]] = []
        self.inline = 0
        self.result: JobResult = [None]

    def submit(self, job: Job, done: Callable[[Job, JobResult], None]) -> None:
        self.pending.append((job, done))

    def run(self, job: Job) -> JobResult:
        self.inline += 1
        return self.result

    def finish(self) -> None:
        pending, self.pending = self.pending, []
        for job, done in pending:
            done(job, self.result)

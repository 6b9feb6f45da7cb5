"""A node for tests: an executor over a disk in memory, a clock turned by hand, and everything that came out.

`Server` performs every job at once; `Play` (in `node_play`) leaves that to the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.kit.store_disk import MemoryDisk
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import (
    Confirm,
    Declined,
    Deliver,
    Effect,
    End,
    Event,
    Halt,
    Job,
    Kept,
    Log,
    Replicate,
    Reply,
)
from waymaker_core.api.inputs import (
    Call,
    Confirmed,
    Credit,
    Drain,
    Input,
    JobDone,
    JobFailed,
    Replicated,
    Report,
    Unreadable,
)
from waymaker_core.api.requests import AckKind, Messages, Published, Request
from waymaker_core.layers.layer import LayerFactory
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, Retention, StreamConfig
from waymaker_core.model.disk_ops import Chunk, Delete, DiskFailure, OpResult, ReadChunk, Write
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.message_codec import decode_body, encode_body
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import ANYONE, Now, Token
from waymaker_core.node import Node, NodeConfig, open_node
from waymaker_core.node.services import make_layers

SMALL = Limits(
    segment_bytes=64 * KIB, checkpoint_journal_bytes=32 * KIB, index_cache_bytes=4 * KIB, block_bytes_max=16 * KIB
)
"""Limits under which segments roll and checkpoints run after a few hundred messages."""
SECOND = 1_000_000_000


def publish(stream: str, *messages: tuple[str, bytes], expected: Sequence[int] | None = None) -> rq.Publish:
    """Make a publish of (subject, payload) pairs."""
    bodies, sizes = [], []
    for subject, payload in messages:
        body, size = encode_body(subject, (), payload, Limits())
        bodies.append(body)
        sizes.append(size)
    return rq.Publish(
        stream,
        [subject for subject, _ in messages],
        sizes,
        [len(body) for body in bodies],
        b"".join(bodies),
        expected=list(expected) if expected is not None else None,
    )


class Server:
    """A node and its disk, driven until nothing is left to do."""

    def __init__(
        self,
        limits: Limits = SMALL,
        disk: MemoryDisk | None = None,
        sync_interval_ms: int = 0,
        seed: int = 0,
        *,
        replicated: bool = False,
        layers: LayerFactory = make_layers,
    ) -> None:
        self.disk = disk if disk is not None else MemoryDisk()
        self.config = NodeConfig(1, bytes(range(16)), limits, sync_interval_ms, replicated, layers=layers)
        self.mono_ns = 0
        self.wall_ms = 1_700_000_000_000
        self.random = Random(seed)
        self._token = 0
        self.node: Node
        self.reports = True
        """True if everything that leaves reaches its program at once."""
        self.broken: DiskFailure | None = None
        """The failure of every read of messages at the moment."""
        self.starving: list[int] = []
        """Ids of the logs without a majority, where logs are replicated; all others have one at once."""
        self.open()

    # ------------------------------------------------------------ life

    def open(self) -> None:
        self.replies: dict[int, Answer | Refusal] = {}
        self.bodies: dict[int, list[tuple[int, int, bytes]]] = {}
        self.ends: dict[int, End] = {}
        self.delivered: dict[int, list[tuple[int, int, bytes]]] = {}
        self.events: list[Event] = []
        self.logs: list[Log] = []
        self.halted: Halt | None = None
        self.deleted: set[str] = set()
        self.kept: list[int] = []
        """Numbers of what was asked to be kept and is durable, in order."""
        self.declined: dict[int, Declined] = {}
        self.withheld: list[Confirm | Replicate] = []
        """Effects whose majorities are not there, in order."""
        self.asked: list[Confirm | Replicate] = []
        """All effects since the start that ask a majority."""
        self.node = self.disk.drive(open_node(self.config, self.now()))
        self.step()

    def kill(self) -> None:
        """Kill the process and start it again."""
        self.disk.kill()
        self._forget_memory()
        self.open()

    def lose_power(self) -> None:
        """Cut the power: nothing that was not synced is sure to be there."""
        self.disk.lose_power(self.random)
        self._forget_memory()
        self.open()

    def drain(self) -> Halt:
        self.step(Drain())
        assert self.halted is not None
        return self.halted

    def restart(self) -> None:
        """Stop in order and start again."""
        assert self.drain().clean
        self._forget_memory()
        self.open()

    def _forget_memory(self) -> None:
        for path in [path for path in self.disk.names if path.startswith("memory/")]:
            del self.disk.names[path]

    # ------------------------------------------------------------ time and steps

    def now(self) -> Now:
        return Now(self.mono_ns, self.wall_ms)

    def pass_ms(self, ms: int) -> None:
        """Let time pass, in steps no longer than the node's own deadlines."""
        end_ns = self.mono_ns + ms * 1_000_000
        while self.mono_ns < end_ns:
            due = self.node.next_deadline()
            at = end_ns if due is None else max(self.mono_ns + 1_000_000, min(due, end_ns))
            self.wall_ms += (at - self.mono_ns) // 1_000_000
            self.mono_ns = at
            self.step()

    def step(self, *inputs: Input) -> None:
        """Step once, then until no job is left and no work is left over."""
        waiting: list[Input] = list(inputs)
        for _ in range(10_000):
            effects = self.node.step(self.now(), waiting)
            waiting = [answer for effect in effects for answer in self.perform(effect)]
            due = self.node.next_deadline()
            if not waiting and (due is None or due > self.mono_ns):
                return
        raise AssertionError("the node does not come to rest")

    def perform(self, effect: Effect) -> list[Input]:
        """Perform an effect at once, as an executor does."""
        match effect:
            case Job():
                return [self.do(effect)]
            case Reply():
                if isinstance(effect.answer, Answer) and isinstance(effect.answer.value, Messages):
                    try:
                        self.bodies[effect.token] = self.read(effect.answer.value)
                    except DiskFailure as failure:
                        return [Unreadable(effect.token, failure, [effect.answer.value])]
                assert effect.token not in self.replies, "two replies to one call"
                self.replies[effect.token] = effect.answer
                if isinstance(effect.answer, Answer) and isinstance(effect.answer.value, Messages) and self.reports:
                    return [Report(effect.token, effect.answer.value.count)]
            case Deliver():
                try:
                    self.delivered.setdefault(effect.token, []).extend(self.read(effect.messages))
                except DiskFailure as failure:
                    return [Unreadable(effect.token, failure, [effect.messages])]
                if self.reports:
                    return [Report(effect.token, len(self.delivered[effect.token]))]
            case Confirm() | Replicate():
                self.asked.append(effect)
                if effect.stream_id not in self.starving:
                    return [_confirmation(effect)]
                self.withheld.append(effect)
            case Kept():
                self.kept.append(effect.ask)
            case Declined():
                self.declined[effect.ask] = effect
            case Event():
                self.events.append(effect)
            case End():
                assert effect.token not in self.ends
                self.ends[effect.token] = effect
            case Log():
                self.logs.append(effect)
            case Halt():
                self.halted = effect
        return []

    def do(self, job: Job) -> Input:
        """Perform one job."""
        results: list[OpResult] = []
        for index, op in enumerate(job.ops):
            if isinstance(op, Delete):
                self.deleted.add(op.path)
            elif isinstance(op, Write) and op.path.startswith("memory/"):
                assert op.path not in self.deleted, "a path that was given up is not used again"
            try:
                results.append(self.disk.perform(op))
            except DiskFailure as failure:
                failure.op_index = index
                return JobFailed(job.id, failure)
        return JobDone(job.id, results)

    def read(self, messages: Messages) -> list[tuple[int, int, bytes]]:
        """Return (sequence, delivery count, payload) of each message."""
        found: list[tuple[int, int, bytes]] = []
        for run in messages.runs:
            data, at = run.bodies_in(self._chunk(run.chunk)), 0
            for seq, length in zip(run.sequences(), run.lengths, strict=True):
                _, _, payload = decode_body(data[at : at + length])
                found.append((seq, run.deliver_count, payload))
                at += length
        assert len(found) == messages.count
        return found

    def _chunk(self, chunk: Chunk) -> bytes:
        if self.broken is not None:
            raise self.broken
        data = self.disk.perform(ReadChunk(chunk))
        assert isinstance(data, bytes)
        return data

    # ------------------------------------------------------------ majorities

    def log_id(self, name: str) -> int:
        """Return the id of a stream's log; of the catalog's, if the name is empty."""
        return next(figures.stream_id for figures in self.node.log_figures() if figures.name == name)

    def starve(self, *names: str) -> None:
        """Take their majorities away from these streams; from the catalog, if a name is empty."""
        self.starving += [self.log_id(name) for name in names]

    def feed(self) -> None:
        """Give every log its majority back, which answers what it was asked meanwhile."""
        withheld, self.withheld, self.starving = self.withheld, [], []
        self.step(*map(_confirmation, withheld))

    # ------------------------------------------------------------ calls

    def ask(self, request: Request) -> int:
        """Ask without waiting for the answer; return the token of the call."""
        token = self.token()
        self.step(Call(Token(token), ANYONE, request))
        return token

    def token(self) -> int:
        self._token += 1
        return self._token

    def call(self, request: Request) -> Answer | Refusal:
        """Ask, and wait for the answer."""
        return self.replies[self.ask(request)]

    def ok(self, request: Request) -> object:
        """Ask for something that must succeed; its value."""
        answer = self.call(request)
        assert isinstance(answer, Answer), answer
        assert answer.code == "ok", answer
        return answer.value

    def messages(self, request: Request) -> list[tuple[int, int, bytes]]:
        """Ask for messages."""
        token = self.ask(request)
        assert token in self.bodies, self.replies.get(token)
        return self.bodies[token]

    def subscribe(
        self, stream: str, consumer: str, batch: int = 16, *, stop_when_empty: bool = False, messages: int = 0,
        byte_count: int = 1 << 30,
    ) -> int:  # fmt: skip
        """Begin a subscription with some credit; its token."""
        token = self.token()
        request = rq.Subscribe(stream, consumer, batch, stop_when_empty)
        inputs: list[Input] = [Call(Token(token), ANYONE, request)]
        if messages:
            inputs.append(Credit(Token(token), messages, byte_count))
        self.step(*inputs)
        return token

    def create(self, name: str = "s", **settings: object) -> None:
        self.ok(rq.CreateStream(stream_config(name, **settings)))

    def consumer(self, stream: str = "s", name: str = "c", **settings: object) -> None:
        self.ok(rq.CreateConsumer(stream, consumer_config(name, **settings)))

    def publish(self, stream: str, *payloads: bytes, subject: str = "a") -> Published:
        value = self.ok(publish(stream, *[(subject, payload) for payload in payloads]))
        assert isinstance(value, Published)
        return value

    def fetch(self, stream: str = "s", consumer: str = "c", batch: int = 0) -> list[tuple[int, int, bytes]]:
        return self.messages(rq.Fetch(stream, consumer, batch))

    def ack(
        self, *seqs: int, stream: str = "s", consumer: str = "c", kind: AckKind = AckKind.ACK, delay: int = 0
    ) -> None:
        self.ok(rq.Ack(stream, consumer, kind, list(seqs), delay))

    def stats(self, stream: str = "s") -> rq.StreamStats:
        value = self.ok(rq.GetStreamInfo(stream))
        assert isinstance(value, rq.StreamInfo)
        return value.stats

    def info(self, stream: str = "s", consumer: str = "c") -> rq.ConsumerInfo:
        value = self.ok(rq.GetConsumerInfo(stream, consumer))
        assert isinstance(value, rq.ConsumerInfo)
        return value

    def consumers(self, stream: str = "s") -> list[rq.ConsumerInfo]:
        """Return every consumer of a stream."""
        page = self.ok(rq.ListConsumers(stream))
        assert isinstance(page, rq.Page)
        return [info for info in page.entries if isinstance(info, rq.ConsumerInfo)]

    def all(self, stream: str = "s") -> list[tuple[int, int, bytes]]:
        """Return every live message."""
        found: list[tuple[int, int, bytes]] = []
        while True:
            after = found[-1][0] + 1 if found else 1
            some = self.messages(rq.ReadRange(stream, after, 1_000))
            if not some:
                return found
            found += some


def _confirmation(effect: Confirm | Replicate) -> Input:
    if isinstance(effect, Confirm):
        return Confirmed(effect.stream_id, effect.question)
    return Replicated(effect.stream_id, effect.position)


def stream_config(name: str, **settings: object) -> StreamConfig:
    """Make settings by keyword; `retention` by name."""
    retention = Retention[str(settings.pop("retention", "LIMITS"))]
    return StreamConfig(name, retention=retention, **settings)  # type: ignore[arg-type]


def consumer_config(name: str, **settings: object) -> ConsumerConfig:
    """Make settings by keyword; `policy` by name."""
    policy = DeliveryPolicy[str(settings.pop("policy", "ALL"))]
    return ConsumerConfig(name, policy=policy, **settings)  # type: ignore[arg-type]

"""A node on a disk without time: every job is done at once, one call at a time.

It examines a disk without a world around it, and compares answers one by one with the naive broker.
"""

from __future__ import annotations

from waymaker_core.api.effects import (
    Confirm,
    Deliver,
    Effect,
    End,
    Event,
    Halt,
    Job,
    Replicate,
    Reply,
    SnapshotPiece,
    TransferEnded,
)
from waymaker_core.api.inputs import (
    Call,
    Cancel,
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
from waymaker_core.api.requests import Messages, Request
from waymaker_core.model.disk_ops import DiskFailure, OpResult, ReadChunk
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import ANYONE, Now, StreamId, Token
from waymaker_core.node import Node, NodeConfig, open_node
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.disk_steps import drive
from waymaker_sim.kernel.checks import violated
from waymaker_sim.machine.disk import SimDisk
from waymaker_sim.machine.observations import Asker
from waymaker_sim.machine.process import ReceivedMessage

ROUNDS_MAX = 10_000
"""Steps at one instant after which a node never comes to rest, if none of its streams copies from another."""
ROUNDS_A_COPY = 100
"""Steps that a copied message may take: each can be a batch of its own, with the indexes that it loads."""
MS = 1_000_000


def open_at_once(config: NodeConfig, disk: SimDisk, now: Now) -> Node:
    """Recover a disk. Raises what recovery raises."""
    return drive(open_node(config, now), disk.perform)


def read_messages(disk: SimDisk, messages: Messages) -> list[ReceivedMessage]:
    """Return the bodies of messages, chunk by chunk. Raises `DiskFailure`."""
    got: list[ReceivedMessage] = []
    for run in messages.runs:
        data = disk.perform(ReadChunk(run.chunk))
        assert isinstance(data, bytes)
        data, at = run.bodies_in(data), 0
        for seq, length, time_ms in zip(run.sequences(), run.lengths, run.times_ms, strict=True):
            got.append(ReceivedMessage(seq, time_ms, run.deliver_count, data[at : at + length]))
            at += length
    assert len(got) == messages.count, f"{messages.count} messages announced, {len(got)} in the runs"
    return got


class InstantNode(Asker):
    """A node whose effects take no time. Its owner sets `now`."""

    def __init__(self, config: NodeConfig, disk: SimDisk, now: Now) -> None:
        self.disk = disk
        self.now = now
        self.node = open_at_once(config, disk, now)
        self.halted: Halt | None = None
        self.delivered: dict[Token, list[ReceivedMessage]] = {}
        self.ended: dict[Token, End] = {}
        self.events: dict[Token, list[Event]] = {}
        self.transferred: list[SnapshotPiece | TransferEnded] = []
        """Pieces and ends of transfers, until their driver takes them."""
        self._replies: dict[Token, tuple[Answer | Refusal, list[ReceivedMessage] | None]] = {}
        self._next_token = 1
        self._reached: dict[Token, int] = {}
        """Messages sent to each subscription: all of them reach their program at once."""
        if config.replicated:
            self.settle([])  # it leads once its majority has confirmed what it recovered

    def replica(self, stream_id: StreamId) -> StreamReplica:
        """Return a stream of this node, by its id."""
        return self.node._state.replicas[stream_id]

    def replicas(self) -> list[StreamReplica]:
        """Return all streams of this node."""
        return list(self.node._state.replicas.values())

    def ask(self, request: Request) -> tuple[Answer | Refusal, list[ReceivedMessage] | None]:
        """Make one call at one instant, until it is answered and the node has no more work."""
        token = self.begin(request)
        if token not in self._replies:
            violated("answered", f"{type(request).__name__} was not answered at rest; halted: {self.halted!r}")
        return self._replies.pop(token)

    def take_reply(self, token: Token) -> Answer | Refusal | None:
        """Return the answer to a call that began nothing; None if there is none."""
        answer, _ = self._replies.pop(token, (None, None))
        return answer

    @property
    def last_token(self) -> Token:
        """Return the token of the last call."""
        return Token(self._next_token - 1)

    def begin(self, request: Request) -> Token:
        """Call without waiting for an answer: for subscriptions."""
        token = Token(self._next_token)
        self._next_token += 1
        self.settle([Call(token, ANYONE, request)])
        return token

    def credit(self, token: Token, messages: int, byte_count: int) -> None:
        """Grant a subscription's credit."""
        self.settle([Credit(token, messages, byte_count)])

    def cancel(self, token: Token) -> None:
        """Cancel a subscription."""
        self.settle([Cancel(token)])

    def drain(self) -> None:
        """Shut down."""
        self.settle([Drain()])

    def tick(self) -> None:
        """Run what is due now."""
        self.settle([])

    def settle(self, inputs: list[Input]) -> None:
        """Step until no job is in flight and nothing is due."""
        rounds = 0
        while rounds < ROUNDS_MAX or rounds < self._rounds_max():
            rounds += 1
            inputs = self._perform(self.node.step(self.now, inputs))
            if self.halted is not None:
                return
            deadline = self.node.next_deadline()
            if not inputs and (deadline is None or deadline > self.now.mono_ns):
                return
        raise AssertionError("the node never comes to rest")

    def _rounds_max(self) -> int:
        streams = [replica.stream for replica in self.replicas()]
        copying = sum(bool(stream.config.sources) for stream in streams)
        return ROUNDS_MAX + ROUNDS_A_COPY * copying * sum(stream.count for stream in streams)

    def _perform(self, effects: list[Effect]) -> list[Input]:
        back: list[Input] = []
        for effect in effects:
            match effect:
                case Job():
                    back.append(self._run(effect))
                case Reply():
                    self._reply(effect, back)
                case Deliver():
                    try:
                        got = read_messages(self.disk, effect.messages)
                    except DiskFailure as failure:
                        back.append(Unreadable(effect.token, failure, [effect.messages]))
                    else:
                        self.delivered.setdefault(effect.token, []).extend(got)
                        self._reached[effect.token] = self._reached.get(effect.token, 0) + len(got)
                        back.append(Report(effect.token, self._reached[effect.token]))
                case Replicate():
                    back.append(Replicated(effect.stream_id, effect.position))
                case Confirm():
                    back.append(Confirmed(effect.stream_id, effect.question))
                case End():
                    self.ended[effect.token] = effect
                case Event():
                    self.events.setdefault(effect.token, []).append(effect)
                case SnapshotPiece() | TransferEnded():
                    self.transferred.append(effect)
                case Halt():
                    self.halted = effect
                    return []
                case _:
                    pass
        return back

    def _run(self, job: Job) -> JobDone | JobFailed:
        results: list[OpResult] = []
        try:
            for op in job.ops:
                results.append(self.disk.perform(op))
        except DiskFailure as failure:
            failure.op_index = len(results)
            return JobFailed(job.id, failure)
        return JobDone(job.id, results)

    def _reply(self, effect: Reply, back: list[Input]) -> None:
        got: list[ReceivedMessage] | None = None
        if isinstance(effect.answer, Answer) and isinstance(effect.answer.value, Messages):
            try:
                got = read_messages(self.disk, effect.answer.value)
            except DiskFailure as failure:
                back.append(Unreadable(effect.token, failure, [effect.answer.value]))
                return
            if effect.answer.value.fetched is not None:
                back.append(Report(effect.token, len(got)))
        assert effect.token not in self._replies, f"token {effect.token} was answered twice"
        self._replies[effect.token] = (effect.answer, got)

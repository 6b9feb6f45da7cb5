"""The scene: which streams and consumers there are as far as clients can tell, and how a client asks a question.

Each name has a version that is odd while a creation or deletion of it is on its way or its outcome is unknown. A call
belongs to a life for certain only if the version was even and the same when it was asked and when it was answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from waymaker_core.api.effects import End, Event
from waymaker_core.api.requests import (
    Ack,
    CreateConsumer,
    CreateStream,
    DeleteConsumer,
    DeleteStream,
    ExportStream,
    Fetch,
    GetConsumerInfo,
    GetStreamInfo,
    ImportBatch,
    ImportBegin,
    ImportEnd,
    ListConsumers,
    ListStreams,
    ListSubjects,
    Publish,
    ReadLatest,
    ReadRange,
    Request,
    ScanSubject,
    Subscribe,
    UpdateStream,
    WatchStreams,
)
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import Token
from waymaker_sim.history.copies import Copy
from waymaker_sim.history.history import Group, History, StreamIncarnation
from waymaker_sim.history.quarantines import Quarantines
from waymaker_sim.kernel.checks import violated
from waymaker_sim.kernel.events import Events
from waymaker_sim.machine.process import Process, ReceivedMessage, StepId

_STREAM = (outcomes.OK, outcomes.NO_SUCH_STREAM)
_CONSUMER = (*_STREAM, outcomes.NO_SUCH_CONSUMER)
ALLOWED_CODES: dict[type, tuple[str, ...]] = {
    CreateStream: (outcomes.OK, outcomes.ALREADY_EXISTS, outcomes.INVALID_CONFIG),
    DeleteStream: _STREAM,
    UpdateStream: (*_STREAM, outcomes.INVALID_CONFIG, outcomes.IMMUTABLE_FIELD),
    GetStreamInfo: _STREAM,
    ListStreams: (outcomes.OK,),
    Publish: _STREAM,
    CreateConsumer: (*_STREAM, outcomes.ALREADY_EXISTS, outcomes.INVALID_CONFIG),
    DeleteConsumer: _CONSUMER,
    GetConsumerInfo: _CONSUMER,
    ListConsumers: _STREAM,
    Fetch: _CONSUMER,
    Ack: _CONSUMER,
    ReadLatest: _STREAM,
    ListSubjects: _STREAM,
    ScanSubject: _STREAM,
    ReadRange: _STREAM,
    Subscribe: (),
    WatchStreams: (),
    ExportStream: _STREAM,
    ImportBegin: (outcomes.OK, outcomes.ALREADY_EXISTS, outcomes.INVALID_CONFIG),
    ImportBatch: _STREAM,
    ImportEnd: _STREAM,
}

OnReply = Callable[["Ask", Answer | Refusal, list[ReceivedMessage] | None, StepId], None]


@dataclass(slots=True, eq=False)
class ConsumerName:
    """A consumer's name inside one life of a stream."""

    name: str
    group: Group | None = None
    version: int = 0
    doubt: Callable[[bool], None] | None = None
    """Where an outcome is unknown: what to do once it is known whether the consumer exists."""
    gone_ns: int = -1
    """When its end was known; this object never means anything again."""

    def steady(self) -> bool:
        """Whether it is known which life the name means."""
        return self.version % 2 == 0 and self.gone_ns < 0


@dataclass(slots=True, eq=False)
class StreamName:
    """A stream's name."""

    name: str
    incarnation: StreamIncarnation | None = None
    version: int = 0
    doubt: Callable[[bool], None] | None = None
    consumers: dict[str, ConsumerName] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    """When the end of each consumer name of this life was known last."""
    seen_ns: int = 0

    def forget(self, name: str, now_ns: int) -> None:
        """A consumer is gone."""
        consumer = self.consumers.pop(name, None)
        if consumer is not None:
            consumer.gone_ns = self.gone[name] = now_ns

    def renew(self, incarnation: StreamIncarnation | None, now_ns: int) -> None:
        """Another life begins under this name, or none."""
        for name in list(self.consumers):
            self.forget(name, now_ns)
        self.gone = {}
        self.incarnation = incarnation

    def steady(self) -> bool:
        """Whether it is known which life the name means."""
        return self.version % 2 == 0


class Handed(NamedTuple):
    """A message that reached a program: of which group, when it is due again, and how many abrupt stops there had been."""

    group: Group | None
    message: ReceivedMessage
    due_ns: int
    stops: int


class Ask:
    """One call and what it needs to be judged: when it was asked, and of which lives."""

    __slots__ = (
        "view", "request", "on_reply", "on_lost", "asked_ns", "token", "stream", "consumer", "_versions",
    )  # fmt: skip

    def __init__(
        self, view: ClientView, request: Request, on_reply: OnReply, on_lost: Callable[[], None],
        stream: StreamName | None, consumer: ConsumerName | None,
    ) -> None:  # fmt: skip
        self.view = view
        self.request = request
        self.on_reply = on_reply
        self.on_lost = on_lost
        self.asked_ns = view.events.now_ns
        self.token: Token | None = None
        self.stream = stream
        self.consumer = consumer
        self._versions = self._now()

    def _now(self) -> tuple[int, int]:
        return (self.stream.version if self.stream else 0), (self.consumer.version if self.consumer else 0)

    def steady(self) -> bool:
        """Whether stream and consumer were the same lives from the asking until now."""
        return (
            self._versions == self._now()
            and (self.stream is None or self.stream.steady())
            and (self.consumer is None or self.consumer.steady())
        )

    def incarnation(self) -> StreamIncarnation | None:
        """The life of the stream that was asked, where that is certain."""
        return self.stream.incarnation if self.stream is not None and self.steady() else None

    def group(self) -> Group | None:
        """The consumer group that was asked, where that is certain."""
        return self.consumer.group if self.consumer is not None and self.steady() else None

    def cancel(self) -> None:
        """Give up waiting; the outcome stays unknown."""
        if self.token is not None:
            self.view.process.cancel(self.token)
        self.on_lost()

    # ------------------------------------------------------------ as a caller

    def replied(self, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        self.view.check_answer(self.request, answer)
        self.on_reply(self, answer, got, step_id)

    def delivered(self, got: list[ReceivedMessage], step_id: StepId) -> None:
        violated("answer allowed", f"{type(self.request).__name__} was sent deliveries")

    def told(self, event: Event) -> None:
        violated("answer allowed", f"{type(self.request).__name__} was sent events")

    def ended(self, end: End) -> None:
        violated("answer allowed", f"{type(self.request).__name__} was ended like a subscription")

    def lost(self) -> None:
        self.on_lost()


class ClientView:
    """What all clients of a run share."""

    def __init__(self, events: Events, process: Process, history: History, names: list[str]) -> None:
        self.events = events
        self.process = process
        self.history = history
        self.streams = {name: StreamName(name) for name in names}
        self.copies: dict[str, Copy] = {}
        """Streams that were put back from archives, or were to be."""
        self.consumer_ids: dict[tuple[int, int], ConsumerName] = {}
        """Whom an id named first; of ephemeral streams' consumers with the life of the process."""
        self.handed: dict[Token, list[Handed]] = {}
        """What reached programs, in the order delivered, by the token of its call: until the node hears of it."""
        self.incarnations: dict[str, ConsumerName] = {}
        """Whom the word of an incarnation named first."""
        self.faulty = True
        """Whether things still go wrong."""
        self.read_errors = False
        self.drops_at_once = False
        """Whether what is given up is surely dropped when a client hears of it."""
        self.waiting: dict[Ask, int] = {}
        """Subscriptions that have credit, and since when."""
        self.looks_at_ages = False
        """Whether readers like to look where the oldest message of a stream with an age is."""
        self.disturbed_ns = 0
        """Until when the clock or the room on the disk were other than usual, as far as is known."""
        self.slow_reads = False
        """Whether reads may take much longer than the usual."""
        self.asked = 0
        self.confirmed = 0
        self.marks: dict[str, int] = {}
        self.quarantines = Quarantines(self.mark)
        self.settle: Callable[[Callable[[], None], Callable[[], None]], None] = lambda settled, lost: settled()
        """Calls the first once what was just confirmed is durable, or the second if it may have got lost before."""

    def known(self, name: str) -> bool:
        """Whether somebody gave a stream this name once."""
        return name in self.streams or name in self.copies

    def may_exist(self, name: str) -> bool:
        """Whether a stream of this name may be heard of."""
        return name in self.streams or (name in self.copies and self.copies[name].may_exist)

    def hand_out(self, token: Token, group: Group | None, message: ReceivedMessage, due_ns: int) -> None:
        """A message reaches the program; the node is about to hear of it."""
        if group is not None:
            group.incarnation.hand_out(group, message)
        self.handed.setdefault(token, []).append(Handed(group, message, due_ns, self.history.abrupt_stops))

    def reported(self, token: Token) -> None:
        """The node hears how far a call's messages reached the program: what still waits then is counted for certain."""
        for handed in self.handed.pop(token, []):
            group = handed.group
            if group is not None and handed.due_ns > self.events.now_ns and handed.stops == self.history.abrupt_stops:
                group.incarnation.count(group, handed.message)

    def named(self, incarnation: str, consumer: ConsumerName) -> None:
        """Deliveries of a consumer that is known for certain carried this word."""
        owner = self.incarnations.setdefault(incarnation, consumer)
        if owner is not consumer:
            violated("lives apart", f"incarnation {incarnation} of {owner.name} names another {consumer.name} too")

    def is_foreign(self, incarnation: str, consumer: ConsumerName) -> bool:
        """Whether a word is certain to name another consumer than this one."""
        return incarnation in self.incarnations and self.incarnations[incarnation] is not consumer

    def process_gone(self) -> None:
        """Ephemeral streams end with the process, consumers and all, and begin anew under their configuration."""
        for stream in self.streams.values():
            incarnation = stream.incarnation
            if incarnation is None or not incarnation.config.ephemeral:
                continue
            incarnation.end()
            stream.version += 2
            anew = self.history.begin_incarnation(stream.name, incarnation.config)
            anew.configs = list(incarnation.configs)
            stream.renew(anew, self.events.now_ns)

    def mark(self, name: str) -> None:
        """Something interesting happened (a `sometimes` mark)."""
        self.marks[name] = self.marks.get(name, 0) + 1

    def ask(
        self,
        request: Request,
        on_reply: OnReply,
        on_lost: Callable[[], None],
        stream: StreamName | None = None,
        consumer: ConsumerName | None = None,
    ) -> Ask | None:
        """Send a call; None where nobody listens, and then nothing happens."""
        ask = Ask(self, request, on_reply, on_lost, stream, consumer)
        ask.token = self.process.call(request, ask)
        if ask.token is None:
            return None
        if isinstance(request, DeleteStream):
            self.quarantines.may_go(request.name)
        self.asked += 1
        return ask

    def check_answer(self, request: Request, answer: Answer | Refusal) -> None:
        """Whether this request may be answered so at all."""
        kind = type(request)
        if isinstance(answer, Answer):
            if answer.code not in ALLOWED_CODES[kind]:
                violated("answer allowed", f"{kind.__name__} ended with {answer!r}")
            return
        self.check_refusal(kind.__name__, answer)

    def check_refusal(self, what: str, refusal: Refusal) -> None:
        """Whether this refusal has a reason in this world. Every request of these clients is well formed."""
        self.mark(f"refused {refusal.status.name}")
        if "disk is full" in refusal.message:
            self.mark("refused: the disk is full")
        match refusal.status:
            case Status.RESOURCE_EXHAUSTED | Status.UNAVAILABLE:
                return
            case Status.DATA_LOSS if self.process.disk.rotten:
                return
            case Status.DATA_LOSS if self.read_errors and "quarantined" not in refusal.message:
                # A read that failed once is no damage: the next one may succeed.
                return
            case _:
                violated("answer allowed", f"{what} was refused with {refusal!r}")

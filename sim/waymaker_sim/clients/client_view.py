"""The client view: which streams and consumers exist as far as clients can know, and how a client makes a call.

Each name has a version that is odd while a creation or deletion of it is in flight or its outcome is unknown. A call
belongs to an incarnation for certain only if the version was even and the same at the call and at the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from waymaker_core.api.collection_requests import COLLECTION_CHANGES, COLLECTION_READS
from waymaker_core.api.effects import End, Event
from waymaker_core.api.kv_requests import KvCreateBucket, KvDeleteBucket, KvGet, KvHistory, KvKeys, KvWrite
from waymaker_core.api.object_requests import (
    BeginUpload,
    DeleteObject,
    FindObject,
    FinishUpload,
    ListObjectRevisions,
    ListObjects,
    OpenObject,
    ReadChunks,
    UploadChunks,
)
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
from waymaker_core.api.sketch_requests import SKETCH_CHANGES, SKETCH_READS
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status
from waymaker_core.model.types import Token
from waymaker_sim.clients.held_messages import HeldMessages
from waymaker_sim.history.copies import Copy
from waymaker_sim.history.copying import CopyingName
from waymaker_sim.history.groups import FOREVER_NS, PendingDelivery
from waymaker_sim.history.history import Group, History, StreamIncarnation
from waymaker_sim.history.quarantines import Quarantines
from waymaker_sim.kernel.checks import violated
from waymaker_sim.kernel.events import Events
from waymaker_sim.machine.access import Access
from waymaker_sim.machine.process import Process, ReceivedMessage, StepId

_STREAM = (outcomes.OK, outcomes.NO_SUCH_STREAM)
_BUCKET = (outcomes.OK,)
"""A bucket that exists is never deleted in these worlds."""
_KEYS = (outcomes.OK, outcomes.NO_SUCH_BUCKET)
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
    BeginUpload: _BUCKET,
    UploadChunks: _BUCKET,
    FinishUpload: _BUCKET,
    DeleteObject: _BUCKET,
    OpenObject: (*_BUCKET, outcomes.NO_SUCH_OBJECT),
    ReadChunks: (*_BUCKET, outcomes.INCOMPLETE),
    FindObject: (*_BUCKET, outcomes.NO_SUCH_OBJECT),
    ListObjects: _BUCKET,
    ListObjectRevisions: _BUCKET,
    **dict.fromkeys((*COLLECTION_CHANGES, *COLLECTION_READS, *SKETCH_CHANGES, *SKETCH_READS), (outcomes.OK,)),
    KvCreateBucket: (outcomes.OK, outcomes.ALREADY_EXISTS, outcomes.INVALID_CONFIG),
    KvDeleteBucket: _KEYS,
    KvWrite: _KEYS,
    KvGet: _KEYS,
    KvKeys: _KEYS,
    KvHistory: _KEYS,
}

_OF_TOKENS = ("UploadChunks", "FinishUpload", "ReadChunks")
"""Calls about what another call has begun, which may be over by now; their client knows if it may."""

OnReply = Callable[["Ask", Answer | Refusal, list[ReceivedMessage] | None, StepId], None]


@dataclass(slots=True, eq=False)
class ConsumerName:
    """A consumer's name inside one incarnation of a stream."""

    name: str
    group: Group | None = None
    version: int = 0
    doubt: Callable[[bool], None] | None = None
    """Called, where an outcome is unknown, once it is known if the consumer exists."""
    again: Request | None = None
    """The last change of it."""
    deleted_ns: int = -1
    """Time when its deletion was known; this object is never used again."""

    def steady(self) -> bool:
        """Return True if it is known which incarnation the name means."""
        return self.version % 2 == 0 and self.deleted_ns < 0


@dataclass(slots=True, eq=False)
class StreamName:
    """A stream's name, with the incarnation that it means."""

    name: str
    incarnation: StreamIncarnation | None = None
    version: int = 0
    doubt: Callable[[bool], None] | None = None
    again: Request | None = None
    """The last change of it."""
    consumers: dict[str, ConsumerName] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    """Time when the deletion of each consumer name of this incarnation was last known."""
    seen_ns: int = 0

    def forget(self, name: str, now_ns: int) -> None:
        """Note that a consumer is deleted."""
        consumer = self.consumers.pop(name, None)
        if consumer is not None:
            consumer.deleted_ns = self.deleted[name] = now_ns

    def renew(self, incarnation: StreamIncarnation | None, now_ns: int) -> None:
        """Note that another incarnation has this name, or none."""
        for name in list(self.consumers):
            self.forget(name, now_ns)
        self.deleted = {}
        self.incarnation = incarnation

    def steady(self) -> bool:
        """Return True if it is known which incarnation the name means."""
        return self.version % 2 == 0


class Reached(NamedTuple):
    """A message that reached a program: its group, its redelivery deadline, and the number of abrupt stops before it.

    `place`: how many messages its subscription had dealt with then, itself included. `unsure`: its delivery, which is surely
    pending once the report has arrived.
    """

    group: Group | None
    message: ReceivedMessage
    due_ns: int
    stops: int
    place: int = 0
    unsure: PendingDelivery | None = None


@dataclass(slots=True, eq=False)
class Ask:
    """One call and the facts to check its answer: when it was made, and to which incarnations."""

    view: ClientView
    request: Request
    on_reply: OnReply
    on_lost: Callable[[], None]
    stream: StreamName | None
    consumer: ConsumerName | None
    token: Token | None = field(default=None, init=False)
    asked_ns: int = field(init=False)
    _versions: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        """Note the time of the call and the versions of the names."""
        self.asked_ns = self.view.events.now_ns
        self._versions = self._now()

    def _now(self) -> tuple[int, int]:
        return (self.stream.version if self.stream else 0), (self.consumer.version if self.consumer else 0)

    def steady(self) -> bool:
        """Return True if stream and consumer are the same incarnations as at the call."""
        return (
            self._versions == self._now()
            and (self.stream is None or self.stream.steady())
            and (self.consumer is None or self.consumer.steady())
        )

    def incarnation(self) -> StreamIncarnation | None:
        """Return the incarnation of the stream that was called, if it is certain."""
        return self.stream.incarnation if self.stream is not None and self.steady() else None

    def group(self) -> Group | None:
        """Return the consumer group that was called, if it is certain."""
        return self.consumer.group if self.consumer is not None and self.steady() else None

    def cancel(self) -> None:
        """Cancel the call; its outcome stays unknown."""
        if self.token is not None:
            self.view.access.cancel(self.token)
        self.lost()

    def is_overtaken(self) -> bool:
        """Return True if it was made for what a name meant then, and the name means something else by now."""
        stream, consumer = self._versions
        if self.consumer is not None and consumer % 2 == 0 and self.consumer.deleted_ns >= 0:
            return True
        return self.stream is not None and stream % 2 == 0 and self.stream.version != stream

    def names(self, consumer: str) -> bool:
        """Return True if it is about a consumer of this name."""
        return self.consumer is not None and self.consumer.name == consumer

    # ------------------------------------------------------------ as a caller

    def replied(self, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        self.view.open_asks.pop(self, None)
        self.view.check_answer(self.request, answer)
        self.on_reply(self, answer, got, step_id)

    def delivered(self, got: list[ReceivedMessage], step_id: StepId) -> None:
        violated("answer allowed", f"{type(self.request).__name__} was sent deliveries")

    def notified(self, event: Event) -> None:
        violated("answer allowed", f"{type(self.request).__name__} was sent events")

    def ended(self, end: End) -> None:
        violated("answer allowed", f"{type(self.request).__name__} was ended like a subscription")

    def lost(self) -> None:
        self.view.open_asks.pop(self, None)
        self.on_lost()


class ClientView:
    """The state that all clients of a run share."""

    def __init__(self, events: Events, access: Access, history: History, names: list[str]) -> None:
        self.events = events
        self.access = access
        self.history = history
        self.rate_ppm = 0
        """Millionths by which a clock of a machine may be quicker or slower than virtual time."""
        self.streams = {name: StreamName(name) for name in names}
        self.copies: dict[str, Copy] = {}
        """Streams that were restored from archives, or that a restore has begun."""
        self.others: list[str] = []
        """Streams of clients that check what is in them themselves."""
        self.copying: dict[str, CopyingName] = {}
        """Streams that copy from others, and those that receive what cannot be copied."""
        self.consumer_ids: dict[tuple[str, int, int, int], ConsumerName] = {}
        """The consumer that an id named first, by its stream and the stream's incarnation; of ephemeral ones by process
        run too."""
        self.reached: dict[Token, list[Reached]] = {}
        """Messages that reached programs, in the order of delivery, by the token of their call, until the node
        receives the report."""
        self.incarnations: dict[str, ConsumerName] = {}
        """The consumer that an incarnation word named first."""
        self.faulty = True
        """True while faults still happen."""
        self.read_errors = False
        self.drops_at_once = False
        """True if an exhausted message is surely dropped when a client gets the answer."""
        self.waiting: dict[Ask, int] = {}
        """Subscriptions that have credit, and the time since when."""
        self.held = HeldMessages()
        """Deliveries that wait, or waited, for a confirmation."""
        self.looks_at_ages = False
        """True if readers prefer to read where the oldest message of a stream with an age is."""
        self.disturbed_ns = 0
        """Time until which the clock or the free space were unusual, as far as is known."""
        self.slow_reads = False
        """True if reads may take much longer than usual."""
        self.asked = 0
        self.confirmed = 0
        self.open_asks: dict[Ask, None] = {}
        """Calls without an answer."""
        self.marks: dict[str, int] = {}
        self.quarantines = Quarantines(self.mark)
        self.settle: Callable[[Callable[[], None], Callable[[], None]], None] = lambda settled, lost: settled()
        """Calls the first function once what was just confirmed is durable, or the second if it may have got lost
        before."""

    @property
    def process(self) -> Process:
        """Return the only process, for clients that need one: they have no place in a cluster."""
        assert isinstance(self.access, Process)
        return self.access

    def is_awaited(self, stream: StreamName, consumer: str = "") -> bool:
        """Return True while a call may arrive late that was meant for an earlier incarnation of a stream, or of a consumer."""
        return self.access.moves and any(
            each.stream is stream and each.is_overtaken() and (not consumer or each.names(consumer))
            for each in self.open_asks
        )

    def known(self, name: str) -> bool:
        """Return True if a client gave a stream this name once."""
        return name in self.streams or name in self.copies or name in self.others or name in self.copying

    def may_exist(self, name: str) -> bool:
        """Return True if a stream of this name may exist."""
        if name in self.copying:
            return self.copying[name].may_exist
        return name in self.streams or name in self.others or (name in self.copies and self.copies[name].may_exist)

    def reached_program(
        self,
        token: Token,
        group: Group | None,
        message: ReceivedMessage,
        *,
        counts: bool = True,
        place: int = 0,
        unsure: PendingDelivery | None = None,
    ) -> None:
        """Note that a message reached the program; its report to the node follows. `counts`: it counts if it is in time.

        The wait begins when the node takes the message: with a delivery that waited for a confirmation, before it left.
        """
        due_ns = -1
        if group is not None:
            group.incarnation.reached_program(group, message)
            due_ns = message.taken_ns + group.wait_least_ns if counts else -1
        reached = Reached(group, message, due_ns, self.history.abrupt_stops, place, unsure)
        self.reached.setdefault(token, []).append(reached)

    def reported(self, token: Token, count: int = FOREVER_NS) -> None:
        """Note that the node received the reports of a call, the last of them about so many messages: deliveries that still
        wait then certainly count as attempts."""
        all_reached = self.reached.pop(token, [])
        if later := [each for each in all_reached if each.place > count]:
            self.reached[token] = later
        for reached in all_reached:
            if reached.place > count:
                continue
            if reached.unsure is not None:
                reached.unsure.in_doubt = False
            group = reached.group
            if group is not None and reached.due_ns > self.events.now_ns and reached.stops == self.history.abrupt_stops:
                group.incarnation.count(group, reached.message)

    def named(self, incarnation: str, consumer: ConsumerName) -> None:
        """Note that deliveries of a certain consumer carried this incarnation word."""
        owner = self.incarnations.setdefault(incarnation, consumer)
        if owner is not consumer:
            violated("lives apart", f"incarnation {incarnation} of {owner.name} names another {consumer.name} too")

    def is_foreign(self, incarnation: str, consumer: ConsumerName) -> bool:
        """Return True if an incarnation word certainly names another consumer than this one."""
        return incarnation in self.incarnations and self.incarnations[incarnation] is not consumer

    def process_stopped(self) -> None:
        """Note that the process stopped: ephemeral streams lose messages and consumers, and keep their
        configuration."""
        self.held.forget()
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
        """Count a coverage mark."""
        self.marks[name] = self.marks.get(name, 0) + 1

    def ask(
        self,
        request: Request,
        on_reply: OnReply,
        on_lost: Callable[[], None],
        stream: StreamName | None = None,
        consumer: ConsumerName | None = None,
    ) -> Ask | None:
        """Send a call; None, without any effect, if the process is down."""
        ask = Ask(self, request, on_reply, on_lost, stream, consumer)
        self.open_asks[ask] = None
        ask.token = self.access.call(request, ask)
        if ask.token is None:
            del self.open_asks[ask]
            return None
        if isinstance(request, DeleteStream):
            self.quarantines.may_go(request.name)
        self.asked += 1
        return ask

    def check_answer(self, request: Request, answer: Answer | Refusal) -> None:
        """Require that the contract allows this answer to this request."""
        kind = type(request)
        if isinstance(answer, Answer):
            if answer.code not in ALLOWED_CODES[kind]:
                violated("answer allowed", f"{kind.__name__} ended with {answer!r}")
            return
        self.check_refusal(kind.__name__, answer)

    def check_refusal(self, what: str, refusal: Refusal) -> None:
        """Require a reason in this world for this refusal. Every request of these clients is well formed."""
        self.mark(f"refused {refusal.status.name}")
        if "disk is full" in refusal.message:
            self.mark("refused: the disk is full")
        match refusal.status:
            case Status.RESOURCE_EXHAUSTED | Status.UNAVAILABLE:
                return
            case Status.ABORTED if self.access.config.replicated and refusal.outcome is Outcome.UNKNOWN:
                self.mark("deleted before a majority had it")
            case Status.ABORTED if what in _OF_TOKENS and refusal.outcome is Outcome.NOT_APPLIED:
                self.mark("upload or reading over")
            case Status.DATA_LOSS if self.access.is_rotten():
                return
            case Status.DATA_LOSS if self.read_errors and "quarantined" not in refusal.message:
                # A read that failed once is no damage: the next one may succeed.
                return
            case _:
                violated("answer allowed", f"{what} was refused with {refusal!r}")

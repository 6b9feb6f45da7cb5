"""The real node and the naive broker side by side: both get every request, and every answer must be the same.

Time does not pass during a request. After it, `settle` advances time so that retention, expiry and dead letters are
done on both sides, and nothing is compared while it is in flight. The wall clock changes only by `set_clock`.
"""

from __future__ import annotations

from dataclasses import dataclass

from waymaker_core.api.requests import (
    ConsumerInfo,
    GetConsumerInfo,
    GetStreamInfo,
    ListConsumers,
    Messages,
    Page,
    Published,
    ReadRange,
    Request,
    StreamInfo,
    StreamStats,
    Subscribe,
)
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import Retention
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.message_codec import decode_body
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import Now, Token
from waymaker_core.node import NodeConfig
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.disk import DiskFaults, SimDisk
from waymaker_sim.machine.instant import InstantNode
from waymaker_sim.machine.process import ReceivedMessage
from waymaker_sim.reference.naive import NaiveBroker
from waymaker_sim.reference.naive_consumer import DeliveredMessage
from waymaker_sim.reference.naive_delivery import deliver, eligible, unfinished, unseen
from waymaker_sim.reference.naive_stream import DeadLetter, NaiveStream

MS = 1_000_000
CREDIT_BYTES = 1 << 30

PAIR_LIMITS = Limits(
    block_size_default=20,
    segment_bytes=64 * KIB,
    checkpoint_journal_bytes=128 * KIB,
    record_messages_max=8,
    record_bytes_max=4 * KIB,
    flush_bytes_max=16 * KIB,
    index_cache_bytes=8 * KIB,
    clock_ahead_max_ms=2_000,
    retention_interval_ms=1,
    ack_wait_default_ms=1_000,
    max_deliver_default=3,
    pending_max=40,
    page_entries_max=6,
    page_bytes_max=600,
)


class Disagreement(AssertionError):
    """An error: node and naive broker gave different answers, so one of them is wrong."""


@dataclass(slots=True)
class Open:
    """One subscription on both sides."""

    stream: str
    consumer: str
    credit: int
    stop_when_empty: bool
    incarnation: NaiveStream


class Pair:
    """Both brokers. Every method raises `Disagreement` where they differ."""

    def __init__(self, track: Track, limits: Limits = PAIR_LIMITS) -> None:
        self.limits = limits
        self.track = track
        self.disk = SimDisk(DiskFaults(), track)
        self.config = NodeConfig(1, bytes(16), limits)
        self.now = Now(1_000_000_000, 1_700_000_000_000)
        self.naive = NaiveBroker(limits)
        self.node = InstantNode(self.config, self.disk, self.now)
        self.open: dict[Token, Open] = {}
        self.compared = 0

    # ------------------------------------------------------------ asking both

    def ask(self, request: Request) -> Answer | Refusal:
        """Call both and compare; returns the naive broker's answer."""
        answer, got = self.node.ask(request)
        if isinstance(answer, Answer) and isinstance(request, GetConsumerInfo | ListConsumers):
            self._adopt_floors(request.stream, answer.value)
        wanted = self.naive.call(request, self.now)
        self.compared += 1
        found = disagreement(wanted, answer, got)
        if found:
            raise Disagreement(f"{describe(request)}: {found}")
        self._happened()
        self.settle()
        return wanted

    def _happened(self) -> None:
        """Apply the effects of the last request. A delivery may have left before or after a dead letter was stored."""
        self._deliveries(before_letters=True)
        self._place_letters()
        self._adopt_pruning(at_rest=False)
        self._deliveries()

    def _adopt_pruning(self, at_rest: bool) -> None:
        """Copy block-aligned pruning from the node, if it is within bounds."""
        for name in sorted(self.naive.streams):
            stream = self.naive.streams[name]
            if stream.is_loose():
                self._adopt_limits(name, stream, at_rest)
            elif stream.config.retention is Retention.INTEREST and self._count(name) != len(stream.messages):
                there = self._seqs(name, stream)
                kept = set(stream.messages) - stream.without_interest()
                if not kept <= there <= set(stream.messages):
                    raise Disagreement(
                        f"{name} keeps {sorted(there)} of {sorted(stream.messages)}, wanted: {sorted(kept)}"
                    )
                stream.keep_only(there)

    def _adopt_limits(self, name: str, stream: NaiveStream, at_rest: bool) -> None:
        """Require that block-aligned limits keep what exact ones would, and at rest less than one block more."""
        if self._count(name) == len(stream.messages) and not at_rest:
            return
        exact = stream.exactly_kept(self.now.wall_ms)
        there = self._seqs(name, stream)
        if not exact - stream.excused <= there <= set(stream.messages) or (
            at_rest and len(there - exact) >= stream.config.block_size
        ):
            raise Disagreement(f"{name} keeps {sorted(there)} of {sorted(stream.messages)}, exactly: {sorted(exact)}")
        stream.keep_only(there)

    def _count(self, name: str) -> int:
        info, _ = self.node.ask(GetStreamInfo(name))
        if not isinstance(info, Answer) or not isinstance(info.value, StreamInfo):
            raise Disagreement(f"{name}: {info!r}")
        return info.value.stats.msg_count

    def _seqs(self, name: str, stream: NaiveStream) -> set[int]:
        """Return the sequences that the node holds, without dead letters that the naive broker has not placed yet."""
        return {message.seq for message in self._read_from(name, 1) if message.seq <= stream.last_seq}

    def _adopt_floors(self, name: str, value: object) -> None:
        """Copy the position of an idle consumer from the node, between its last message and the next that matches."""
        stream = self.naive.streams.get(name)
        for info in value.entries if isinstance(value, Page) else [value]:
            if stream is None or not isinstance(info, ConsumerInfo) or info.config.name not in stream.consumers:
                continue
            consumer = stream.consumers[info.config.name]
            if not unfinished(stream, consumer):
                ahead = unseen(stream, consumer.group, consumer.config.filter_subject)
                furthest = ahead[0].seq - 1 if ahead else max(stream.last_seq, consumer.group.start - 1)
                if consumer.group.considered <= info.ack_floor <= furthest:
                    consumer.group.considered = info.ack_floor

    def settle(self) -> None:
        """Let retention and expiry happen."""
        self.pass_time(0)

    def pass_time(self, wall_ms: int) -> None:
        """Advance both clocks, one after the other: what expires and what ages in one instant may do so in any order."""
        owed = {name: (stream, stream.without_interest()) for name, stream in self.naive.streams.items()}
        if wall_ms:
            self._move(wall_ms * MS, 0)
        moment_ns = (self.limits.retention_interval_ms + 1) * MS
        self._move(moment_ns, wall_ms)
        self._move(moment_ns, 0)
        self._move(moment_ns, 0)
        self._adopt_pruning(at_rest=True)
        for name, (stream, going) in owed.items():
            late = going & set(stream.messages)
            if late and self.naive.streams.get(name) is stream:
                raise Disagreement(
                    f"{name} still holds {sorted(late)}, in which nobody has had an interest for a while"
                )

    def set_clock(self, delta_ms: int) -> None:
        """Set the wall clock, and nothing else."""
        self._move(0, delta_ms)
        self.settle()

    def _move(self, mono_ns: int, wall_ms: int) -> None:
        self.now = Now(self.now.mono_ns + mono_ns, self.now.wall_ms + wall_ms)
        self.node.now = self.now
        self.node.tick()
        self.naive.sweep(self.now)
        self._happened()

    # ------------------------------------------------------------ dead letters

    def _place_letters(self) -> None:
        """Place the dead letters that the naive broker owes in the order in which the node stored them."""
        for _ in range(100):
            owing = [self.naive.streams[name] for name in sorted(self.naive.streams) if self.naive.streams[name].owed]
            if not owing:
                return
            for stream in owing:
                self._place(stream)
        raise Disagreement("dead letters without end")

    def _place(self, stream: NaiveStream) -> None:
        name = stream.config.name
        before = stream.last_seq
        got = self._read_from(name, before + 1)
        info, _ = self.node.ask(GetStreamInfo(name))
        if not isinstance(info, Answer) or not isinstance(info.value, StreamInfo):
            raise Disagreement(f"{name}: {info!r}")
        last = info.value.stats.last_seq
        if last != before + len(stream.owed):
            raise Disagreement(f"{name}: {len(stream.owed)} letters owed, {last - before} stored")
        there = {message.seq: message for message in got}
        matched = {seq: self._match(stream, message) for seq, message in there.items()}
        rest = [letter for letter in stream.owed if not any(letter is found for found in matched.values())]
        for seq in range(before + 1, last + 1):
            if seq in there:
                stream.place(matched[seq], there[seq].body, there[seq].time_ms)
            else:  # pushed out again by the later ones
                letter = rest.pop(0)
                stream.place(letter, letter.body, self.now.wall_ms)

    def _read_from(self, name: str, seq: int) -> list[ReceivedMessage]:
        found: list[ReceivedMessage] = []
        while True:
            answer, got = self.node.ask(ReadRange(name, seq, self.limits.page_entries_max))
            if got is None:
                raise Disagreement(f"{name}: {answer!r}")
            if not got:
                return found
            found += got
            seq = got[-1].seq + 1

    @staticmethod
    def _match(stream: NaiveStream, message: ReceivedMessage) -> DeadLetter:
        subject, headers, payload = decode_body(message.body)
        added = dict(reversed(headers))
        for letter in stream.owed:
            wanted_subject, wanted_headers, wanted_payload = decode_body(letter.body)
            wanted = dict(reversed(wanted_headers))
            if all(added.get(key) == value for key, value in wanted.items()):
                named = added.get("x-waymaker-dlq-consumer") in letter.members and "x-waymaker-dlq-reason" in added
                if named and (subject, payload) == (wanted_subject, wanted_payload):
                    return letter
        raise Disagreement(f"{stream.config.name} seq {message.seq} is no letter that is owed: {headers}")

    # ------------------------------------------------------------ subscriptions

    def subscribe(self, request: Subscribe, credit: int) -> None:
        """Open a subscription on the node; the naive broker checks its deliveries."""
        token = self.node.begin(request)
        stream = self.naive.streams.get(request.stream)
        if stream is None or request.consumer not in stream.consumers:
            wanted = outcomes.NO_SUCH_STREAM if stream is None else outcomes.NO_SUCH_CONSUMER
            end = self.node.ended.pop(token, None)
            if end is None or end.refusal is None or end.refusal.code != wanted:
                raise Disagreement(f"a subscription to nothing ended with {end!r}")
            return
        self.open[token] = Open(request.stream, request.consumer, credit, request.stop_when_empty, stream)
        self.node.credit(token, credit, CREDIT_BYTES)
        self._happened()
        self.settle()

    def grant_credit(self, token: Token, credit: int) -> None:
        """Grant more credit."""
        if token in self.open:
            self.open[token].credit += credit
            self.node.credit(token, credit, CREDIT_BYTES)
            self._happened()
            self.settle()

    def hang_up(self, token: Token) -> None:
        """End a subscription."""
        if self.open.pop(token, None) is not None:
            self.node.cancel(token)
            self.settle()

    def _deliveries(self, before_letters: bool = False) -> None:
        """Require that each delivery was due, and that each due message with credit was delivered."""
        for token in sorted(self.open):
            got = self.node.delivered.pop(token, [])
            left = self._check_deliveries(self.open[token], got, before_letters)
            if left:
                self.node.delivered[token] = left
        if not before_letters:
            for token in sorted(self.open):
                self._complete(token, self.open[token])

    def _check_deliveries(
        self, opened: Open, got: list[ReceivedMessage], before_letters: bool
    ) -> list[ReceivedMessage]:
        """Check deliveries in order; with `before_letters` as many as are due, and the rest is returned."""
        stream = opened.incarnation
        consumer = stream.consumers.get(opened.consumer)
        for index, message in enumerate(got):
            if consumer is None:
                raise Disagreement(f"seq {message.seq} was delivered to {opened.consumer}, which is gone")
            due = eligible(stream, consumer, self.now.mono_ns, self.limits.pending_max)
            if message.seq not in due:
                if before_letters:
                    return got[index:]
                raise Disagreement(f"seq {message.seq} was delivered to {opened.consumer}; due are {due[:20]}")
            wanted = deliver(stream, consumer, message.seq, self.now.mono_ns)
            if _delivered(wanted) != plain(message):
                raise Disagreement(f"{opened.consumer} was delivered {message}, wanted {wanted}")
            opened.credit -= 1
            self.compared += 1
        if opened.credit < 0:
            raise Disagreement(f"{opened.consumer} was sent {-opened.credit} messages more than it has room for")
        return []

    def _complete(self, token: Token, opened: Open) -> None:
        stream = opened.incarnation
        end = self.node.ended.pop(token, None)
        reason = self._reason(opened)
        if end is not None:
            del self.open[token]
            if end.reason != reason:
                raise Disagreement(f"a subscription of {opened.consumer} ended with {end.reason!r}, wanted {reason!r}")
            return
        if reason:
            raise Disagreement(f"a subscription of {opened.consumer} should have ended: {reason}")
        consumer = stream.consumers[opened.consumer]
        due = eligible(stream, consumer, self.now.mono_ns, self.limits.pending_max)
        if opened.credit > 0 and not due and len(consumer.group.pending) < self.limits.pending_max:
            consumer.group.considered = max(consumer.group.considered, stream.last_seq)
        if opened.credit > 0 and due:
            raise Disagreement(f"{opened.consumer} has room for {opened.credit} and was not sent {due[:20]}")

    def _reason(self, opened: Open) -> str:
        """Return the reason why a subscription must have ended, if it must."""
        stream = opened.incarnation
        if self.naive.streams.get(opened.stream) is not stream:
            return "stream_deleted"
        consumer = stream.consumers.get(opened.consumer)
        if consumer is None:
            return "consumer_deleted"
        if opened.stop_when_empty and opened.credit > 0:
            if not eligible(stream, consumer, self.now.mono_ns, self.limits.pending_max):
                return "empty"
        return ""

    # ------------------------------------------------------------ restarts

    def may_restart(self) -> bool:
        """Return True if a restart changes nothing that a client sees: nothing is pending, and nothing is only in
        memory."""
        streams = self.naive.streams.values()
        return not any(group.pending for stream in streams for group in stream.groups()) and not any(
            stream.config.ephemeral for stream in streams
        )

    def restart(self, clean: bool) -> None:
        """Stop the node, cleanly or not, and start it again on its disk."""
        if clean:
            self.node.drain()
            if self.node.halted is None or not self.node.halted.clean:
                raise Disagreement(f"a drained node says {self.node.halted!r}")
        for stream in self.naive.streams.values():
            for group in stream.groups():
                group.considered = group.floor  # deliveries that no client received may be forgotten
                if not clean:
                    group.uncertain_to = stream.last_seq
        self.disk.kill()
        self.open.clear()
        self.node = InstantNode(self.config, self.disk, self.now)
        self.settle()


# ------------------------------------------------------------ comparing


def disagreement(wanted: Answer | Refusal, answer: Answer | Refusal, got: list[ReceivedMessage] | None) -> str:
    """Return the difference of two answers; empty if they agree."""
    if isinstance(wanted, Refusal) or isinstance(answer, Refusal):
        if isinstance(wanted, Refusal) and isinstance(answer, Refusal) and wanted.status is answer.status:
            return ""
        return f"wanted {wanted!r}, got {answer!r}"
    if wanted.code != answer.code:
        return f"wanted {wanted!r}, got {answer!r}"
    if wanted.code != outcomes.OK:
        return ""
    value: object = answer.value if got is None else got
    if isinstance(answer.value, Messages) and isinstance(wanted.value, tuple):
        value = (got, answer.value.next_seq)
    expected, real = plain(wanted.value), plain(value)
    return "" if expected == real else f"wanted {expected}, got {real}"


def plain(value: object) -> object:
    """Return a value reduced to what both sides must agree in."""
    match value:
        case Published():
            failures = {index: (code, seq) for index, (code, _, seq) in (value.failures or {}).items()}
            return (value.first_seq if value.count else 0, value.count, failures)
        case StreamInfo():
            return (value.config, plain(value.stats), value.created_ms)
        case StreamStats():
            return (value.first_seq, value.last_seq, value.msg_count, value.bytes, value.first_block)
        case ConsumerInfo():
            return (value.config, value.ack_floor, value.pending, value.redelivered_dropped, value.created_ms)
        case Page():
            return ([plain(entry) for entry in value.entries], bool(value.next_after))
        case DeliveredMessage():
            return _delivered(value)
        case ReceivedMessage():
            return value.seq, value.time_ms, value.delivery, value.body
        case list():
            return [plain(entry) for entry in value]
        case tuple():
            return tuple(plain(entry) for entry in value)
        case _:
            return value


def _delivered(taken: DeliveredMessage) -> tuple[int, int, int, bytes]:
    return taken.seq, taken.time_ms, taken.count, taken.body


def describe(request: Request) -> str:
    """Describe a request for people."""
    fields = {name: getattr(request, name) for name in type(request).__match_args__}
    fields.pop("body", None)
    return f"{type(request).__name__} {fields}"

"""The naive broker: streams as dictionaries, every rule a loop, everything in memory and done at once.

The reference for the real node. Written from the documented semantics alone; it shares the value classes with the core
and nothing else. It never crashes, never waits, never forgets. Where the semantics leave a choice (when interest is
checked, how much block-aligned limits keep beyond the exact ones, the order in which dead letters of one moment are
stored), it copies the real node's choice after checking that it is allowed: see `pair`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

from waymaker_core.api.requests import (
    Ack,
    AckKind,
    CreateConsumer,
    CreateStream,
    DeleteConsumer,
    DeleteStream,
    Fetch,
    GetConsumerInfo,
    GetStreamInfo,
    ListConsumers,
    ListStreams,
    ListSubjects,
    Publish,
    Published,
    ReadLatest,
    ReadRange,
    Request,
    ScanSubject,
    StreamStats,
    UpdateStream,
)
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, Retention
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import Now
from waymaker_sim.reference import naive_delivery
from waymaker_sim.reference.naive_consumer import MS, DeliveredMessage, NaiveConsumer, NaiveGroup, matches
from waymaker_sim.reference.naive_names import good_filter, good_name, good_pattern, good_subject
from waymaker_sim.reference.naive_stream import NaiveMessage, NaiveStream

MESSAGE_OVERHEAD_BYTES = 33
"""Bytes that a page counts for a message besides its stored body."""
RESERVED = ("obj:", "kv:", "hash:", "set:", "queue:", "sketch:")


class NaiveBroker:
    """All streams; `call` answers a request at once, `sweep` applies the effects of time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.streams: dict[str, NaiveStream] = {}
        self._calls: dict[type, Callable[..., Answer | Refusal]] = {
            CreateStream: self._create_stream,
            DeleteStream: self._delete_stream,
            UpdateStream: self._update_stream,
            GetStreamInfo: self._stream_info,
            ListStreams: self._list_streams,
            Publish: self._publish,
            CreateConsumer: self._create_consumer,
            DeleteConsumer: self._delete_consumer,
            GetConsumerInfo: self._consumer_info,
            ListConsumers: self._list_consumers,
            Fetch: self._fetch,
            Ack: self._ack,
            ReadLatest: self._read_latest,
            ListSubjects: self._list_subjects,
            ScanSubject: self._scan_subject,
            ReadRange: self._read_range,
        }

    def call(self, request: Request, now: Now) -> Answer | Refusal:
        """Answer a request; deliveries and reads have lists of `DeliveredMessage` as their value."""
        return self._calls[type(request)](request, now)

    def sweep(self, now: Now) -> None:
        """Apply the effects of time: age, and the expiry of last attempts. Dead letters are owed afterwards, see
        `place`."""
        for name in sorted(self.streams):
            stream = self.streams[name]
            if not stream.is_loose():
                stream.expire(now.wall_ms)
            elif stream.config.max_age_ms and stream.messages:
                stream.check_clock(now.wall_ms)
            for consumer in self._one_a_group(stream):
                for seq in sorted(consumer.group.pending):
                    pending = consumer.group.pending.get(seq)
                    if pending and pending.due_ns <= now.mono_ns and pending.count >= consumer.config.max_deliver:
                        stream.drop_exhausted(stream.consumers[pending.member], seq)

    @staticmethod
    def _one_a_group(stream: NaiveStream) -> list[NaiveConsumer]:
        return [stream.consumers[group.members[0]] for group in stream.groups()]

    # ------------------------------------------------------------ streams

    def _create_stream(self, request: CreateStream, now: Now) -> Answer:
        config = request.config
        if not good_name(config.name, self.limits) or not good_filter(config.subjects_filter, self.limits):
            return Answer(outcomes.INVALID_CONFIG)
        if config.block_size > self.limits.block_size_max:
            return Answer(outcomes.INVALID_CONFIG)
        if config.name in self.streams:
            return Answer(outcomes.ALREADY_EXISTS)
        settled = replace(config, block_size=config.block_size or self.limits.block_size_default)
        self.streams[config.name] = NaiveStream(settled, now.wall_ms, self.limits.clock_ahead_max_ms)
        return Answer(outcomes.OK)

    def _delete_stream(self, request: DeleteStream, now: Now) -> Answer:
        if self.streams.pop(request.name, None) is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        return Answer(outcomes.OK)

    def _update_stream(self, request: UpdateStream, now: Now) -> Answer:
        stream = self.streams.get(request.name)
        if stream is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        if request.dry_run:
            stream = deepcopy(stream)
        config = stream.config
        asked = (request.max_age_ms, request.max_msgs, request.max_bytes)
        if any(asked) and config.retention is not Retention.LIMITS:
            return Answer(outcomes.IMMUTABLE_FIELD)
        stream.config = replace(
            config,
            max_age_ms=_settled(request.max_age_ms, config.max_age_ms),
            max_msgs=_settled(request.max_msgs, config.max_msgs),
            max_bytes=_settled(request.max_bytes, config.max_bytes),
            max_msg_bytes=_settled(request.max_msg_bytes, config.max_msg_bytes),
            strict_limits=config.strict_limits if request.strict_limits is None else request.strict_limits,
        )
        before = len(stream.messages)
        stream.expire(now.wall_ms)
        stream.prune()
        return Answer(outcomes.OK, "", (stream.config, before - len(stream.messages)))

    def _stream_info(self, request: GetStreamInfo, now: Now) -> Answer:
        stream = self.streams.get(request.name)
        if stream is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        blocks = sorted({stream.block_of(seq) for seq in stream.messages})
        stats = StreamStats(
            stream.first_seq(), stream.last_seq, len(stream.messages), stream.byte_count(),
            len(blocks), blocks[0] if blocks else 0,
        )  # fmt: skip
        return Answer(outcomes.OK, "", (stream.config, stats, stream.created_ms))

    def _list_streams(self, request: ListStreams, now: Now) -> Answer | Refusal:
        return self._page([(name, name) for name in sorted(self.streams)], request.after, request.limit)

    def _page(self, named: list[tuple[str, object]], after: str, limit: int) -> Answer | Refusal:
        rest = [(name, entry) for name, entry in named if name > after]
        most = self.limits.page_entries_max
        if not limit and len(rest) > most:
            return Refusal(Status.RESOURCE_EXHAUSTED, "too long")
        page = rest[: min(limit or most, most)]
        return Answer(outcomes.OK, "", ([entry for _, entry in page], len(page) < len(rest)))

    # ------------------------------------------------------------ publishing

    def _publish(self, request: Publish, now: Now) -> Answer | Refusal:
        stream = self.streams.get(request.stream)
        if stream is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        if any(time_ms < 0 for time_ms in request.times_ms or ()):
            return Refusal(Status.INVALID_ARGUMENT, "negative time")
        failures: dict[int, tuple[str, str, int]] = {}
        first, count, at = stream.last_seq + 1, 0, 0
        for index, subject in enumerate(request.subjects):
            body = request.body[at : at + request.lengths[index]]
            at += request.lengths[index]
            failure = self._refuses(stream, request, index)
            if failure is not None:
                failures[index] = failure
                continue
            asked_ms = request.times_ms[index] if request.times_ms else 0
            size = request.sizes[index] + len(subject.encode())
            stream.append(subject, body, size, asked_ms or stream.step_id(now.wall_ms))
            count += 1
        return Answer(outcomes.OK, "", Published(first, count, failures))

    def _refuses(self, stream: NaiveStream, request: Publish, index: int) -> tuple[str, str, int] | None:
        subject, size, config = request.subjects[index], request.sizes[index], stream.config
        if config.name.startswith(RESERVED) and not request.service:
            return outcomes.SUBJECT_REJECTED, "", 0
        if not good_subject(subject, self.limits) or not stream.accepts(subject):
            return outcomes.SUBJECT_REJECTED, "", 0
        if config.max_msg_bytes and size > config.max_msg_bytes:
            return outcomes.OVERSIZE, "", 0
        if config.max_bytes and size + len(subject.encode()) > config.max_bytes:
            return outcomes.OVERSIZE, "", 0
        expected = request.expected[index] if request.expected else -1
        if expected >= 0:
            there = stream.at_subject(subject)
            last = there[-1].seq if there else 0
            if last != expected:
                return outcomes.WRONG_REVISION, "", last
        return None

    # ------------------------------------------------------------ consumers

    def _create_consumer(self, request: CreateConsumer, now: Now) -> Answer:
        stream = self.streams.get(request.stream)
        if stream is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        asked = request.config
        config = replace(
            asked,
            ack_wait_ms=asked.ack_wait_ms or self.limits.ack_wait_default_ms,
            max_deliver=asked.max_deliver or self.limits.max_deliver_default,
        )
        if not self._good_consumer(stream, config):
            return Answer(outcomes.INVALID_CONFIG)
        known = stream.consumers.get(config.name)
        if known is not None:
            return Answer(outcomes.OK if known.config == config else outcomes.ALREADY_EXISTS)
        if not self._letters_stay(stream, config):
            return Answer(outcomes.INVALID_CONFIG)
        group = self._group_of(stream, config)
        if group is None:
            start = self._start(stream, config)
            group = NaiveGroup(start, start - 1, config.max_deliver, floor=start - 1)
        elif replace(stream.consumers[group.members[0]].config, name=config.name) != config:
            return Answer(outcomes.INVALID_CONFIG)
        group.members.append(config.name)
        stream.consumers[config.name] = NaiveConsumer(config, now.wall_ms, group)
        return Answer(outcomes.OK)

    def _good_consumer(self, stream: NaiveStream, config: ConsumerConfig) -> bool:
        if not good_name(config.name, self.limits):
            return False
        if config.filter_subject and not good_pattern(config.filter_subject, self.limits):
            return False
        if config.policy is DeliveryPolicy.BY_START_SEQ and config.start_seq == 0:
            return False
        letters = config.dead_letter_subject
        return not letters or (good_subject(letters, self.limits) and stream.accepts(letters))

    @staticmethod
    def _letters_stay(stream: NaiveStream, config: ConsumerConfig) -> bool:
        """Return True if more than one dead letter has space at its subject."""
        return not config.dead_letter_subject or stream.config.max_msgs_per_subject != 1

    @staticmethod
    def _group_of(stream: NaiveStream, config: ConsumerConfig) -> NaiveGroup | None:
        for consumer in stream.consumers.values():
            if config.deliver_group and consumer.config.deliver_group == config.deliver_group:
                return consumer.group
        return None

    @staticmethod
    def _start(stream: NaiveStream, config: ConsumerConfig) -> int:
        nxt = stream.last_seq + 1
        matching = [m for m in stream.live() if matches(config.filter_subject, m.subject)]
        match config.policy:
            case DeliveryPolicy.ALL:
                return stream.first_seq()
            case DeliveryPolicy.LAST:
                return matching[-1].seq if matching else nxt
            case DeliveryPolicy.BY_START_SEQ:
                return max(config.start_seq, stream.first_seq())
            case DeliveryPolicy.BY_START_TIME:
                return next((m.seq for m in stream.live() if m.time_ms >= config.start_time_ms), nxt)

    def _delete_consumer(self, request: DeleteConsumer, now: Now) -> Answer:
        found = self._find(request.stream, request.consumer)
        if isinstance(found, Answer):
            return found
        stream, consumer = found
        group = consumer.group
        group.members.remove(request.consumer)
        del stream.consumers[request.consumer]
        left = [seq for seq in sorted(group.pending) if group.pending[seq].member == request.consumer]
        for seq in left if group.members else []:
            pending = group.pending[seq]
            pending.due_ns = min(pending.due_ns, now.mono_ns)
            pending.member = group.members[0]
            pending.claimed = False
            if pending.count >= consumer.config.max_deliver:
                stream.drop_exhausted(stream.consumers[pending.member], seq)
        return Answer(outcomes.OK)

    def _find(self, stream_name: str, consumer_name: str) -> Answer | tuple[NaiveStream, NaiveConsumer]:
        stream = self.streams.get(stream_name)
        if stream is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        consumer = stream.consumers.get(consumer_name)
        return Answer(outcomes.NO_SUCH_CONSUMER) if consumer is None else (stream, consumer)

    def _consumer_info(self, request: GetConsumerInfo, now: Now) -> Answer:
        found = self._find(request.stream, request.consumer)
        if isinstance(found, Answer):
            return found
        return Answer(outcomes.OK, "", self.figures(*found))

    @staticmethod
    def figures(stream: NaiveStream, consumer: NaiveConsumer) -> tuple[ConsumerConfig, int, int, int, int]:
        """Return configuration, floor, pending, dropped and creation time of a consumer."""
        floor = naive_delivery.floor_of(stream, consumer)
        group = consumer.group
        return consumer.config, floor, len(group.pending), group.dropped, consumer.created_ms

    def _list_consumers(self, request: ListConsumers, now: Now) -> Answer | Refusal:
        stream = self.streams.get(request.stream)
        if stream is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        named: list[tuple[str, object]] = [
            (name, self.figures(stream, stream.consumers[name])) for name in sorted(stream.consumers)
        ]
        return self._page(named, request.after, request.limit)

    # ------------------------------------------------------------ delivering

    def _fetch(self, request: Fetch, now: Now) -> Answer:
        found = self._find(request.stream, request.consumer)
        if isinstance(found, Answer):
            return found
        wanted = request.batch_size or self.limits.fetch_default
        byte_max, pending_max = self.limits.fetch_bytes_max, self.limits.pending_max
        return Answer(outcomes.OK, "", naive_delivery.take(*found, wanted, byte_max, now.mono_ns, pending_max))

    def _ack(self, request: Ack, now: Now) -> Answer:
        found = self._find(request.stream, request.consumer)
        if isinstance(found, Answer):
            return found
        stream, consumer = found
        for seq in request.seqs:
            if seq in consumer.group.pending:
                self._answer_delivery(stream, consumer, seq, request, now)
            elif request.kind in (AckKind.ACK, AckKind.TERM) and seq <= consumer.group.uncertain_to:
                self._answer_forgotten(stream, consumer, seq, request.kind)
        return Answer(outcomes.OK)

    @staticmethod
    def _answer_forgotten(stream: NaiveStream, consumer: NaiveConsumer, seq: int, kind: AckKind) -> None:
        ahead = naive_delivery.unseen(stream, consumer.group, consumer.config.filter_subject)
        if any(message.seq == seq for message in ahead):
            consumer.group.done.add(seq)
            if kind is AckKind.ACK and stream.is_work_queue():
                stream.drop(seq)

    @staticmethod
    def _answer_delivery(stream: NaiveStream, consumer: NaiveConsumer, seq: int, request: Ack, now: Now) -> None:
        group = consumer.group
        pending = group.pending[seq]
        match request.kind:
            case AckKind.ACK | AckKind.TERM:
                del group.pending[seq]
                group.done.add(seq)
                if request.kind is AckKind.ACK and stream.is_work_queue():
                    stream.drop(seq)
            case AckKind.NAK:
                pending.member = consumer.config.name
                if pending.count >= consumer.config.max_deliver:
                    pending.due_ns, pending.claimed = min(pending.due_ns, now.mono_ns), False
                    stream.drop_exhausted(consumer, seq)
                else:
                    pending.due_ns = now.mono_ns + request.delay_ms * MS
                    pending.claimed = False
            case AckKind.IN_PROGRESS if pending.due_ns <= now.mono_ns and pending.count >= consumer.config.max_deliver:
                pass  # it is dropped from delivery, and kept since its dead letter would not stay
            case AckKind.IN_PROGRESS:
                pending.member = consumer.config.name
                pending.due_ns = now.mono_ns + consumer.config.ack_wait_ms * MS
                pending.claimed = True

    # ------------------------------------------------------------ reading

    def _messages(self, messages: list[NaiveMessage]) -> Answer:
        return Answer(outcomes.OK, "", [DeliveredMessage(m.seq, m.time_ms, 0, m.body) for m in messages])

    def _page_of(self, messages: list[NaiveMessage], limit: int) -> Answer:
        """Return the first messages that fit into a page, one at least, and the next sequence if there are more."""
        count = byte_count = 0
        for message in messages[:limit]:
            byte_count += len(message.body) + MESSAGE_OVERHEAD_BYTES
            if count and byte_count > self.limits.page_bytes_max:
                break
            count += 1
        next_seq = messages[count - 1].seq + 1 if 0 < count < len(messages) else 0
        return Answer(outcomes.OK, "", (self._messages(messages[:count]).value, next_seq))

    def _read_latest(self, request: ReadLatest, now: Now) -> Answer | Refusal:
        stream = self.streams.get(request.stream)
        if stream is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        if not good_subject(request.subject, self.limits):
            return Refusal(Status.INVALID_ARGUMENT, "no subject")
        return self._messages(stream.at_subject(request.subject)[-1:])

    def _scan_subject(self, request: ScanSubject, now: Now) -> Answer | Refusal:
        if request.limit > self.limits.page_entries_max:
            return Refusal(Status.INVALID_ARGUMENT, "too many at once")
        stream = self.streams.get(request.stream)
        if stream is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        if not good_subject(request.subject, self.limits):
            return Refusal(Status.INVALID_ARGUMENT, "no subject")
        found = [m for m in stream.at_subject(request.subject) if m.seq >= request.from_seq]
        return self._page_of(found, request.limit or self.limits.scan_default)

    def _read_range(self, request: ReadRange, now: Now) -> Answer | Refusal:
        if request.limit > self.limits.page_entries_max:
            return Refusal(Status.INVALID_ARGUMENT, "too many at once")
        stream = self.streams.get(request.stream)
        if stream is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        return self._page_of([m for m in stream.live() if m.seq >= request.from_seq], request.limit)

    def _list_subjects(self, request: ListSubjects, now: Now) -> Answer | Refusal:
        stream = self.streams.get(request.stream)
        if stream is None:
            return Answer(outcomes.NO_SUCH_STREAM)
        subjects = sorted({m.subject for m in stream.live() if m.subject.startswith(request.prefix)})
        return self._page([(subject, subject) for subject in subjects], request.after, request.limit)


def _settled(asked: int | None, present: int) -> int:
    return present if asked is None else asked

"""Clients that publish, and clients that read: one message or a batch, conditional or not, and every kind of read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from waymaker_core.api.requests import (
    ConsumerInfo,
    GetConsumerInfo,
    GetStreamInfo,
    ListConsumers,
    ListStreams,
    ListSubjects,
    Messages,
    Page,
    Publish,
    Published,
    ReadLatest,
    ReadRange,
    ScanSubject,
    StreamInfo,
    StreamStats,
)
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import DeliveryPolicy
from waymaker_core.model.message_codec import header_field, payload_field, subject_field
from waymaker_core.model.result_codes import Answer, Outcome, Refusal
from waymaker_sim.clients.client_view import Ask, ClientView, StreamName
from waymaker_sim.clients.delivery_liveness import check_ages, check_dropped
from waymaker_sim.clients.producer import Producer
from waymaker_sim.history.history import Attempt, LatestRead, StreamIncarnation
from waymaker_sim.history.subjects import STRAYS, SUBJECTS, accepts
from waymaker_sim.kernel.checks import listed, require, violated
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId
from waymaker_sim.machine.swarm import Plan

ROUND_BYTES = 50
"""Message sizes are multiples of this where bytes are bounded, as the bounds are: some message fits to the byte."""
ENOUGH = 4_000
"""Messages after which a world is large enough: from then on little is added."""


@dataclass(slots=True, eq=False)
class Refused:
    """A conditional publish that was refused, with the sequence that the server named."""

    incarnation: StreamIncarnation
    subject: str
    expected: int
    actual: int
    asked_ns: int
    answered_ns: int


class Publisher:
    """Publishes repeatedly; several calls of one publisher may be in flight."""

    def __init__(self, view: ClientView, track: Track, plan: Plan, refusals: list[Refused]) -> None:
        self.view = view
        self.track = track
        self.selective = plan.selective
        self.refusals = refusals
        self.producer: Producer | None = None
        """Numbers its messages and sends them again, in some worlds."""
        self.confirmed = 0
        self.diligent = False
        """True: publish at every turn, so that a world in which all clients rest shows progress, too."""

    def act(self) -> None:
        """Make one call."""
        if self.producer is not None:
            self.producer.act()
        self.track.begin()
        track = self.track
        kind = track.weighted("publish", ((2, "rest"), (12, "one"), (6, "conditional"), (6, "batch"), (1, "burst")))
        if kind == "rest" and self.diligent:
            kind = "one"
        if kind == "rest" or (len(self.view.history.attempts) > ENOUGH and track.draw("late", 20)):
            return
        stream = self.view.streams[track.pick("stream", sorted(self.view.streams))]
        count = {"one": 1, "conditional": 1}.get(kind, 0) or track.between("messages", 1, 12 if kind == "batch" else 50)
        self._publish(stream, count, kind == "conditional" or (kind == "batch" and track.draw("conditions", 3) == 2))

    def _publish(self, stream: StreamName, count: int, conditional: bool) -> None:
        view = self.view
        if not view.access.serves():
            return
        incarnation = stream.incarnation if stream.steady() else None
        wall_ms = view.access.now().wall_ms
        attempts: list[Attempt] = []
        sizes: list[int] = []
        times: list[int] = []
        for _ in range(count):
            subject = self.track.pick("subject", SUBJECTS)
            if self.selective and self.track.draw("stray", 8) == 7:
                subject = self.track.pick("stray subject", STRAYS)
            expected = self._expect(incarnation, subject) if conditional else -1
            time_ms = 0
            if self.track.draw("own time", 8) == 7:
                time_ms = max(1, wall_ms - 2_000 + self.track.draw("time", 4_000))
            body, size = self._message(subject, incarnation is not None and incarnation.config.max_bytes > 0)
            sizes.append(size)
            times.append(time_ms)
            whole = size + len(subject)
            born_ms = time_ms or wall_ms
            now_ns = view.events.now_ns
            attempts.append(
                view.history.attempt(
                    stream.name, incarnation, subject, body, whole, expected, born_ms, not time_ms, now_ns
                )
            )
        request = Publish(
            stream.name, [a.subject for a in attempts], sizes, [len(a.body) for a in attempts],
            b"".join(a.body for a in attempts), times if any(times) else None,
            [a.expected for a in attempts] if conditional else None,
        )  # fmt: skip
        answered = partial(self._answered, attempts)
        if self.producer is not None:
            self.producer.send(request, attempts, stream, answered)
        else:
            view.ask(request, answered, lambda: None, stream)

    def _message(self, subject: str, in_round_sizes: bool) -> tuple[bytes, int]:
        number = len(self.view.history.attempts) + 1
        filler = self.track.magnitude("payload", 3_000 if self.track.draw("large", 6) == 5 else 100)
        payload = b"%d:" % number + b"." * filler
        fields, size = b"", len(payload)
        if self.track.draw("header", 8) == 7:
            fields, size = header_field("trace", "t1"), size + 7
        if in_round_sizes:
            more = -(size + len(subject)) % ROUND_BYTES
            payload, size = payload + b"." * more, size + more
        return subject_field(subject) + fields + payload_field(payload), size

    def _expect(self, incarnation: StreamIncarnation | None, subject: str) -> int:
        """Draw the expected sequence: mostly the likely last one, so that about half of the conditions hold."""
        guess = self.track.draw("guess", 4)
        if incarnation is None or guess == 3:
            return self.track.draw("expected", 10)
        there = [seq for seq, message in incarnation.live.items() if message.subject == subject]
        return max(there, default=0)

    def _answered(
        self,
        attempts: list[Attempt],
        ask: Ask,
        answer: Answer | Refusal,
        got: list[ReceivedMessage] | None,
        step_id: StepId,
    ) -> None:
        if isinstance(answer, Refusal):
            if answer.outcome is Outcome.NOT_APPLIED:
                for attempt in attempts:
                    self._refuse(attempt)
            return
        if answer.code != outcomes.OK:
            incarnation = ask.incarnation()
            if incarnation is not None and not incarnation.ended:
                violated("acked survives", f"{incarnation.name} exists and a publish to it says {answer!r}")
            for attempt in attempts:
                self._refuse(attempt)
            return
        value = answer.value
        assert isinstance(value, Published)
        self._placed(attempts, ask, value)

    def _placed(self, attempts: list[Attempt], ask: Ask, value: Published) -> None:
        failures = value.failures or {}
        require(value.count + len(failures) == len(attempts), "one history", f"{value.count} of {len(attempts)} placed")
        incarnation = ask.incarnation()
        seq = value.first_seq
        wall_ms = self.view.access.now().wall_ms
        for index, attempt in enumerate(attempts):
            failure = failures.get(index)
            if failure is not None:
                self._refuse(attempt)
                self._failed(attempt, failure, incarnation, ask)
                continue
            if attempt.server_timed:
                attempt.born_ms = min(attempt.born_ms, wall_ms)
            if incarnation is not None and attempt.incarnation is incarnation:
                incarnation.confirm(attempt, seq, self.view.history, self.view.events.now_ns)
            seq += 1
            self.confirmed += 1
        self.view.confirmed += value.count
        if (
            incarnation is not None
            and incarnation.config.max_bytes
            and not incarnation.unplaced
            and ask.stream is not None
        ):
            # Before another message may push more out: is everything that fits still there?
            Reader(self.view, self.track, 5).read_all(ask.stream)

    def failed_again(
        self, attempt: Attempt, failure: tuple[str, str, int], incarnation: StreamIncarnation | None, ask: Ask
    ) -> None:
        """Note that a message that was sent again is refused: no earlier sending stored it."""
        self._refuse(attempt)
        self._failed(attempt, failure, incarnation, ask)

    def _refuse(self, attempt: Attempt) -> None:
        attempt.refused = True
        require(attempt.seq == 0, "no confirmed failure", f"attempt {attempt.number} was seen at {attempt.seq}")
        attempt.place(attempt.incarnation, 0)

    def _failed(
        self, attempt: Attempt, failure: tuple[str, str, int], incarnation: StreamIncarnation | None, ask: Ask
    ) -> None:
        code, _, actual = failure
        taken = accepts(incarnation.config.subjects_filter, attempt.subject) if incarnation is not None else None
        detail = (
            f"{attempt.subject!r}, {incarnation.config.subjects_filter if incarnation is not None else '?'}: {failure}"
        )
        require(taken is None or taken == (code != outcomes.SUBJECT_REJECTED), "subjects", detail)
        if code == outcomes.WRONG_REVISION:
            require(actual != attempt.expected, "compare and set", f"{actual} was expected and is there, yet refused")
            require(attempt.expected >= 0, "compare and set", "a publish without a condition was refused for it")
            if incarnation is not None and attempt.incarnation is incarnation:
                now_ns = self.view.events.now_ns
                self.refusals.append(
                    Refused(incarnation, attempt.subject, attempt.expected, actual, ask.asked_ns, now_ns)
                )
            self.view.mark("wrong revision")
        elif code == outcomes.OVERSIZE:
            bounds = (
                (incarnation.least("max_msg_bytes"), incarnation.least("max_bytes"))
                if incarnation is not None
                else (1, 1)
            )
            require(any(0 < bound < attempt.size for bound in bounds), "answer allowed", f"{failure} of {attempt.size}")
        elif code == outcomes.SUBJECT_REJECTED:
            self.view.mark("subject rejected")
        else:
            violated("answer allowed", f"{attempt.subject} was refused with {failure}")


class Reader:
    """Reads streams and consumers in every possible way, and checks the answers."""

    def __init__(self, view: ClientView, track: Track, page: int) -> None:
        self.view = view
        self.track = track
        self.page = min(20, page)

    def act(self) -> None:
        """Make one read."""
        self.track.begin()
        track, view = self.track, self.view
        kind = track.draw("look", 9)
        stream = view.streams[track.pick("stream", sorted(view.streams))]
        name = stream.name
        match kind:
            case 1:
                ages = (
                    view.looks_at_ages and stream.incarnation is not None and stream.incarnation.config.max_age_ms > 0
                )
                oldest = ages and track.draw("the oldest", 2) == 1
                self.read_all(stream, 1 if oldest else 1 + track.draw("from", 30), self.page)
            case 2:
                view.ask(GetStreamInfo(name), self.info, _nothing, stream)
            case 3:
                subject = track.pick("subject", SUBJECTS)
                view.ask(ReadLatest(name, subject), self._latest, _nothing, stream)
            case 4:
                subject = track.pick("subject", SUBJECTS)
                request = ScanSubject(name, subject, track.draw("from", 20), track.between("limit", 1, self.page))
                view.ask(request, self._scanned, _nothing, stream)
            case 5:
                request2 = ListSubjects(name, track.pick("prefix", ("", "a", "a.", "b")), "", track.draw("limit", 4))
                view.ask(request2, self._subjects, _nothing, stream)
            case 6:
                view.ask(ListStreams("", track.draw("limit", 3)), self._streams, _nothing)
            case 7:
                if stream.consumers:
                    consumer = stream.consumers[track.pick("consumer", sorted(stream.consumers))]
                    view.ask(GetConsumerInfo(name, consumer.name), self.consumer, _nothing, stream, consumer)
            case 8:
                view.ask(ListConsumers(name, "", 0), self._consumers, _nothing, stream)
            case _:
                pass

    def read_all(self, stream: StreamName, from_seq: int = 1, limit: int = 5) -> None:
        """Read one page of everything."""
        self.view.ask(ReadRange(stream.name, from_seq, limit), self._read, _nothing, stream)

    # ------------------------------------------------------------ judging

    def _incarnation(self, ask: Ask, answer: Answer | Refusal) -> StreamIncarnation | None:
        """Return the incarnation of an `ok` answer, if it is certain."""
        incarnation = ask.incarnation()
        if isinstance(answer, Refusal):
            return None
        if answer.code == outcomes.NO_SUCH_STREAM and incarnation is not None:
            violated("acked survives", f"{incarnation.name} exists and {type(ask.request).__name__} says {answer!r}")
        return incarnation if answer.code == outcomes.OK else None

    def _see(self, incarnation: StreamIncarnation, ask: Ask, got: list[ReceivedMessage]) -> None:
        for before, after in pairwise(got):
            require(before.seq < after.seq, "in order", f"{incarnation.name}: {before.seq} before {after.seq}")
        for message in got:
            incarnation.see(self.view.history, message.seq, message.time_ms, message.body, ask.asked_ns)

    def _missing(self, incarnation: StreamIncarnation, ask: Ask, seqs: list[int]) -> None:
        access = self.view.access
        access.now()
        incarnation.missing(seqs, ask.asked_ns, self.view.events.now_ns, access.wall_max_ms, self.view.mark)

    @staticmethod
    def _end(incarnation: StreamIncarnation, answer: Answer | Refusal, got: list[ReceivedMessage]) -> int:
        """Return the sequence up to which a page is complete: its end if it says that more follows, else no bound."""
        assert isinstance(answer, Answer) and isinstance(answer.value, Messages)
        following = answer.value.next_seq
        require(
            not following or (bool(got) and following > got[-1].seq), "in order", f"a page says: go on at {following}"
        )
        return following or incarnation.last_seq + 1

    def _read(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        incarnation = self._incarnation(ask, answer)
        request = ask.request
        assert isinstance(request, ReadRange)
        if incarnation is None or got is None:
            return
        self._see(incarnation, ask, got)
        there = {message.seq for message in got}
        end = self._end(incarnation, answer, got)
        self._missing(
            incarnation, ask, [seq for seq in incarnation.live if request.from_seq <= seq < end and seq not in there]
        )
        check_ages(self.view, incarnation, got)

    def _latest(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        incarnation = self._incarnation(ask, answer)
        request = ask.request
        assert isinstance(request, ReadLatest)
        if incarnation is None or got is None:
            return
        require(len(got) <= 1, "answer allowed", "more than one latest message")
        self._see(incarnation, ask, got)
        last = got[0].seq if got else 0
        if got:
            require(
                incarnation.at[last].subject == request.subject, "filter", f"latest at {request.subject} is of another"
            )
        incarnation.latest_reads.append(LatestRead(request.subject, last, ask.asked_ns, self.view.events.now_ns))
        newer = [seq for seq, message in incarnation.live.items() if seq > last and message.subject == request.subject]
        self._missing(incarnation, ask, newer)

    def _scanned(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        incarnation = self._incarnation(ask, answer)
        request = ask.request
        assert isinstance(request, ScanSubject)
        if incarnation is None or got is None:
            return
        require(len(got) <= request.limit, "answer allowed", f"{len(got)} messages for a limit of {request.limit}")
        self._see(incarnation, ask, got)
        there = {message.seq for message in got}
        for seq in there:
            require(
                incarnation.at[seq].subject == request.subject, "filter", f"scan of {request.subject} found another"
            )
            require(seq >= request.from_seq, "filter", f"scan from {request.from_seq} found {seq}")
        end = self._end(incarnation, answer, got)
        fitting = [seq for seq, message in incarnation.live.items() if message.subject == request.subject]
        self._missing(incarnation, ask, [seq for seq in fitting if request.from_seq <= seq < end and seq not in there])

    def _subjects(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        incarnation = self._incarnation(ask, answer)
        if incarnation is None:
            return
        request = ask.request
        assert isinstance(request, ListSubjects) and isinstance(answer, Answer) and isinstance(answer.value, Page)
        entries: list[str] = answer.value.entries
        require(entries == sorted(set(entries)), "in order", f"subjects are not sorted: {listed(entries)}")
        require(
            all(e.startswith(request.prefix) for e in entries),
            "filter",
            f"{listed(entries)} do not begin {request.prefix}",
        )
        end = entries[-1] if answer.value.next_after else None
        for seq, message in list(incarnation.live.items()):
            subject = message.subject
            if subject.startswith(request.prefix) and subject not in entries and (end is None or subject < end):
                self._missing(incarnation, ask, [seq])

    def _streams(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        if isinstance(answer, Refusal):
            return
        assert isinstance(answer.value, Page)
        names: list[str] = answer.value.entries
        require(names == sorted(set(names)), "in order", f"streams are not sorted: {listed(names)}")
        require(all(self.view.known(name) for name in names), "lives apart", f"nobody created all of {listed(names)}")

    def info(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        """Check a stream's figures: they never go back, and cover what was confirmed before the call."""
        incarnation = self._incarnation(ask, answer)
        if incarnation is None:
            return
        assert isinstance(answer, Answer) and isinstance(answer.value, StreamInfo)
        info = answer.value
        self.view.history.identify(incarnation, info.stream_id)
        stats = info.stats
        self.within_bounds(incarnation, stats)
        confirmed = max((s for s, m in incarnation.live.items() if m.confirmed_ns <= ask.asked_ns), default=0)
        if stats.last_seq < confirmed:
            violated("ledger grows", f"{incarnation.name} is at {stats.last_seq} after {confirmed} was confirmed")
        stream = ask.stream
        assert stream is not None
        if ask.asked_ns >= stream.seen_ns:
            require(
                stats.first_seq >= incarnation.first_seq,
                "monotone",
                f"{incarnation.name} first {incarnation.first_seq} > {stats.first_seq}",
            )
            incarnation.first_seq = stats.first_seq
            stream.seen_ns = self.view.events.now_ns
        incarnation.last_seq = max(incarnation.last_seq, stats.last_seq)

    @staticmethod
    def within_bounds(incarnation: StreamIncarnation, stats: StreamStats) -> None:
        """Require that limits of count and bytes hold at every moment: exactly, or to less than a block too much."""
        config = incarnation.config
        if config.max_msgs:
            most = config.max_msgs + (0 if config.strict_limits else config.block_size - 1)
            require(stats.msg_count <= most, "limits hold", f"{incarnation.name}: {stats.msg_count} messages of {most}")
        if config.max_bytes and config.strict_limits:
            require(stats.bytes <= config.max_bytes, "limits hold", f"{incarnation.name}: {stats.bytes} bytes")

    def consumer(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        """Check a consumer's figures: the floor never goes back."""
        incarnation, group = self._incarnation(ask, answer), ask.group()
        if isinstance(answer, Answer) and answer.code == outcomes.NO_SUCH_CONSUMER and group is not None:
            violated("acked survives", f"consumer {group.config.name} exists and its info says {answer!r}")
        if incarnation is None or group is None:
            return
        assert isinstance(answer, Answer) and isinstance(answer.value, ConsumerInfo) and ask.consumer is not None
        # Each process run begins ephemeral streams anew.
        process_run = step_id.run if incarnation.config.ephemeral else 0
        key = (incarnation.name, incarnation.number, process_run, answer.value.consumer_id)
        owner = self.view.consumer_ids.setdefault(key, ask.consumer)
        if owner is not ask.consumer:
            violated("lives apart", f"id {answer.value.consumer_id} of {owner.name} names {ask.consumer.name} too")
        self._floor(ask, answer.value)

    def _consumers(
        self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId
    ) -> None:
        if self._incarnation(ask, answer) is None:
            return
        assert isinstance(answer, Answer) and isinstance(answer.value, Page) and ask.stream is not None
        for info in answer.value.entries:
            assert isinstance(info, ConsumerInfo)
            name = info.config.name
            if info.config.inactive_ms:
                continue
            there = name in ask.stream.consumers or ask.stream.deleted.get(name, -1) >= ask.asked_ns
            require(there, "lives apart", f"{ask.stream.name} lists {name}, which does not exist")

    def _floor(self, ask: Ask, info: ConsumerInfo) -> None:
        group = ask.group()
        assert group is not None
        what = f"{group.incarnation.name}/{group.config.name}"
        most = self.view.access.config.limits.pending_max
        if self.view.history.abrupt_stops:
            # Answers and drops that are not yet durable are undone by a crash, and those messages are pending again.
            most += group.may_come_back()
        require(info.pending <= most, "limits hold", f"{what}: {info.pending} are out, {most} may be")
        if ask.asked_ns >= group.floor_ns:
            require(info.ack_floor >= group.floor, "monotone", f"{what} floor {group.floor} went to {info.ack_floor}")
            require(info.redelivered_dropped >= group.dropped, "monotone", f"{what} dropped {group.dropped} went back")
            group.floor_ns = self.view.events.now_ns
        check_dropped(self.view, group, ask.asked_ns, info.redelivered_dropped)
        if group.config.policy is DeliveryPolicy.BY_START_TIME:
            self.view.access.now()
            passed = group.incarnation.passed_by_time(group, info.ack_floor, self.view.access.wall_max_ms)
            require(
                not passed, "floor honest", f"{what} floor {info.ack_floor} passed {listed(passed[:9])}, never answered"
            )
        group.note_figures(info.ack_floor, info.redelivered_dropped, self.view.events.now_ns)


def _nothing() -> None:
    """Do nothing: a read that got lost changes nothing."""

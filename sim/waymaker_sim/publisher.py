"""Clients that publish, and clients that look: one message or a batch, conditional or not, and every kind of read."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from waymaker_core import outcomes
from waymaker_core.configs import DeliveryPolicy
from waymaker_core.message import header_field, payload_field, subject_field
from waymaker_core.outcomes import Answer, Outcome, Refusal
from waymaker_core.requests import (
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
from waymaker_sim.checks import listed, require, violated
from waymaker_sim.ledger import Attempt, Life, Look
from waymaker_sim.process import Got, Stamp
from waymaker_sim.promptness import judge_ages, judge_given_up
from waymaker_sim.scene import Ask, Scene, StreamName
from waymaker_sim.subjects import STRAYS, SUBJECTS, accepts
from waymaker_sim.swarm import Plan
from waymaker_sim.tape import Track

ROUND_BYTES = 50
"""Where bytes are bounded sizes are multiples of it, as bounds are: some message fits to the byte."""
ENOUGH = 4_000
"""Messages after which a world is large enough: from then on little is added."""


class Refused:
    """A conditional publish that lost: what the server said was there."""

    __slots__ = ("life", "subject", "expected", "actual", "asked_ns", "answered_ns")

    def __init__(self, life: Life, subject: str, expected: int, actual: int, asked_ns: int, answered_ns: int) -> None:
        self.life = life
        self.subject = subject
        self.expected = expected
        self.actual = actual
        self.asked_ns = asked_ns
        self.answered_ns = answered_ns


class Publisher:
    """Publishes on and on; several calls of one publisher may be under way."""

    def __init__(self, scene: Scene, track: Track, plan: Plan, refusals: list[Refused]) -> None:
        self.scene = scene
        self.track = track
        self.selective = plan.selective
        self.refusals = refusals
        self.confirmed = 0
        self.diligent = False
        """Whether to publish at every turn, so that a world in which everybody rests shows progress, too."""

    def act(self) -> None:
        """One call."""
        self.track.begin()
        track = self.track
        kind = track.weighted("publish", ((2, "rest"), (12, "one"), (6, "conditional"), (6, "batch"), (1, "burst")))
        if kind == "rest" and self.diligent:
            kind = "one"
        if kind == "rest" or (len(self.scene.ledger.attempts) > ENOUGH and track.draw("late", 20)):
            return
        stream = self.scene.streams[track.pick("stream", sorted(self.scene.streams))]
        count = {"one": 1, "conditional": 1}.get(kind, 0) or track.between("messages", 1, 12 if kind == "batch" else 50)
        self._publish(stream, count, kind == "conditional" or (kind == "batch" and track.draw("conditions", 3) == 2))

    def _publish(self, stream: StreamName, count: int, conditional: bool) -> None:
        scene = self.scene
        if scene.process.node is None:
            return
        life = stream.life if stream.steady() else None
        wall_ms = scene.process.now().wall_ms
        attempts: list[Attempt] = []
        sizes: list[int] = []
        times: list[int] = []
        for _ in range(count):
            subject = self.track.pick("subject", SUBJECTS)
            if self.selective and self.track.draw("stray", 8) == 7:
                subject = self.track.pick("stray subject", STRAYS)
            expected = self._expect(life, subject) if conditional else -1
            time_ms = 0
            if self.track.draw("own time", 8) == 7:
                time_ms = max(1, wall_ms - 2_000 + self.track.draw("time", 4_000))
            body, size = self._message(subject, life is not None and life.config.max_bytes > 0)
            sizes.append(size)
            times.append(time_ms)
            whole = size + len(subject)
            born_ms = time_ms or wall_ms
            now_ns = scene.events.now_ns
            attempts.append(
                scene.ledger.attempt(stream.name, life, subject, body, whole, expected, born_ms, not time_ms, now_ns)
            )
        request = Publish(
            stream.name, [a.subject for a in attempts], sizes, [len(a.body) for a in attempts],
            b"".join(a.body for a in attempts), times if any(times) else None,
            [a.expected for a in attempts] if conditional else None,
        )  # fmt: skip
        scene.ask(request, partial(self._answered, attempts), lambda: None, stream)

    def _message(self, subject: str, in_round_sizes: bool) -> tuple[bytes, int]:
        number = len(self.scene.ledger.attempts) + 1
        filler = self.track.magnitude("payload", 3_000 if self.track.draw("large", 6) == 5 else 100)
        payload = b"%d:" % number + b"." * filler
        fields, size = b"", len(payload)
        if self.track.draw("header", 8) == 7:
            fields, size = header_field("trace", "t1"), size + 7
        if in_round_sizes:
            more = -(size + len(subject)) % ROUND_BYTES
            payload, size = payload + b"." * more, size + more
        return subject_field(subject) + fields + payload_field(payload), size

    def _expect(self, life: Life | None, subject: str) -> int:
        """Mostly what is believed to be there, so that about half of the conditions hold."""
        guess = self.track.draw("guess", 4)
        if life is None or guess == 3:
            return self.track.draw("expected", 10)
        there = [seq for seq, message in life.live.items() if message.subject == subject]
        return max(there, default=0)

    def _answered(
        self, attempts: list[Attempt], ask: Ask, answer: Answer | Refusal, got: list[Got] | None, stamp: Stamp
    ) -> None:
        if isinstance(answer, Refusal):
            if answer.outcome is Outcome.NOT_APPLIED:
                for attempt in attempts:
                    self._refuse(attempt)
            return
        if answer.code != outcomes.OK:
            life = ask.life()
            if life is not None and not life.ended:
                violated("acked survives", f"{life.name} exists and a publish to it says {answer!r}")
            for attempt in attempts:
                self._refuse(attempt)
            return
        value = answer.value
        assert isinstance(value, Published)
        self._placed(attempts, ask, value)

    def _placed(self, attempts: list[Attempt], ask: Ask, value: Published) -> None:
        failures = value.failures or {}
        require(value.count + len(failures) == len(attempts), "one history", f"{value.count} of {len(attempts)} placed")
        life = ask.life()
        seq = value.first_seq
        wall_ms = self.scene.process.now().wall_ms
        for index, attempt in enumerate(attempts):
            failure = failures.get(index)
            if failure is not None:
                self._refuse(attempt)
                self._failed(attempt, failure, life, ask)
                continue
            if attempt.server_timed:
                attempt.born_ms = min(attempt.born_ms, wall_ms)
            if life is not None and attempt.life is life:
                life.confirm(attempt, seq, self.scene.ledger, self.scene.events.now_ns)
            seq += 1
            self.confirmed += 1
        self.scene.confirmed += value.count
        if life is not None and life.config.max_bytes and not life.unplaced and ask.stream is not None:
            # Before another message comes, for whose sake more may go: is all that fits still there?
            Reader(self.scene, self.track, 5).read_all(ask.stream)

    def _refuse(self, attempt: Attempt) -> None:
        attempt.refused = True
        require(attempt.seq == 0, "no confirmed failure", f"attempt {attempt.number} was seen at {attempt.seq}")
        attempt.place(attempt.life, 0)

    def _failed(self, attempt: Attempt, failure: tuple[str, str, int], life: Life | None, ask: Ask) -> None:
        code, _, actual = failure
        taken = accepts(life.config.subjects_filter, attempt.subject) if life is not None else None
        told = f"{attempt.subject!r}, {life.config.subjects_filter if life is not None else '?'}: {failure}"
        require(taken is None or taken == (code != outcomes.SUBJECT_REJECTED), "subjects", told)
        if code == outcomes.WRONG_REVISION:
            require(actual != attempt.expected, "compare and set", f"{actual} was expected and is there, yet refused")
            require(attempt.expected >= 0, "compare and set", "a publish without a condition was refused for it")
            if life is not None and attempt.life is life:
                now_ns = self.scene.events.now_ns
                self.refusals.append(Refused(life, attempt.subject, attempt.expected, actual, ask.asked_ns, now_ns))
            self.scene.mark("wrong revision")
        elif code == outcomes.OVERSIZE:
            bounds = (life.least("max_msg_bytes"), life.least("max_bytes")) if life is not None else (1, 1)
            require(any(0 < bound < attempt.size for bound in bounds), "answer allowed", f"{failure} of {attempt.size}")
        elif code == outcomes.SUBJECT_REJECTED:
            self.scene.mark("subject rejected")
        else:
            violated("answer allowed", f"{attempt.subject} was refused with {failure}")


class Reader:
    """Looks at streams and consumers in every way there is, and judges what it sees."""

    def __init__(self, scene: Scene, track: Track, page: int) -> None:
        self.scene = scene
        self.track = track
        self.page = min(20, page)

    def act(self) -> None:
        """One look."""
        self.track.begin()
        track, scene = self.track, self.scene
        kind = track.draw("look", 9)
        stream = scene.streams[track.pick("stream", sorted(scene.streams))]
        name = stream.name
        match kind:
            case 1:
                ages = scene.looks_at_ages and stream.life is not None and stream.life.config.max_age_ms > 0
                oldest = ages and track.draw("the oldest", 2) == 1
                self.read_all(stream, 1 if oldest else 1 + track.draw("from", 30), self.page)
            case 2:
                scene.ask(GetStreamInfo(name), self.info, _nothing, stream)
            case 3:
                subject = track.pick("subject", SUBJECTS)
                scene.ask(ReadLatest(name, subject), self._latest, _nothing, stream)
            case 4:
                subject = track.pick("subject", SUBJECTS)
                request = ScanSubject(name, subject, track.draw("from", 20), track.between("limit", 1, self.page))
                scene.ask(request, self._scanned, _nothing, stream)
            case 5:
                request2 = ListSubjects(name, track.pick("prefix", ("", "a", "a.", "b")), "", track.draw("limit", 4))
                scene.ask(request2, self._subjects, _nothing, stream)
            case 6:
                scene.ask(ListStreams("", track.draw("limit", 3)), self._streams, _nothing)
            case 7:
                if stream.consumers:
                    consumer = stream.consumers[track.pick("consumer", sorted(stream.consumers))]
                    scene.ask(GetConsumerInfo(name, consumer.name), self.consumer, _nothing, stream, consumer)
            case 8:
                scene.ask(ListConsumers(name, "", 0), self._consumers, _nothing, stream)
            case _:
                pass

    def read_all(self, stream: StreamName, from_seq: int = 1, limit: int = 5) -> None:
        """One page of everything."""
        self.scene.ask(ReadRange(stream.name, from_seq, limit), self._read, _nothing, stream)

    # ------------------------------------------------------------ judging

    def _life(self, ask: Ask, answer: Answer | Refusal) -> Life | None:
        """The life of an `ok` answer, where it is certain."""
        life = ask.life()
        if isinstance(answer, Refusal):
            return None
        if answer.code == outcomes.NO_SUCH_STREAM and life is not None:
            violated("acked survives", f"{life.name} exists and {type(ask.request).__name__} says {answer!r}")
        return life if answer.code == outcomes.OK else None

    def _see(self, life: Life, ask: Ask, got: list[Got]) -> None:
        for before, after in pairwise(got):
            require(before.seq < after.seq, "in order", f"{life.name}: {before.seq} before {after.seq}")
        for message in got:
            life.see(self.scene.ledger, message.seq, message.time_ms, message.body, ask.asked_ns)

    def _missing(self, life: Life, ask: Ask, seqs: list[int]) -> None:
        process = self.scene.process
        process.now()
        life.missing(seqs, ask.asked_ns, self.scene.events.now_ns, process.wall_max_ms, self.scene.mark)

    @staticmethod
    def _end(life: Life, answer: Answer | Refusal, got: list[Got]) -> int:
        """Return the sequence up to which a page is the whole truth: where it says that more follows, or the end."""
        assert isinstance(answer, Answer) and isinstance(answer.value, Messages)
        following = answer.value.next_seq
        require(
            not following or (bool(got) and following > got[-1].seq), "in order", f"a page says: go on at {following}"
        )
        return following or life.last_seq + 1

    def _read(self, ask: Ask, answer: Answer | Refusal, got: list[Got] | None, stamp: Stamp) -> None:
        life = self._life(ask, answer)
        request = ask.request
        assert isinstance(request, ReadRange)
        if life is None or got is None:
            return
        self._see(life, ask, got)
        there = {message.seq for message in got}
        end = self._end(life, answer, got)
        self._missing(life, ask, [seq for seq in life.live if request.from_seq <= seq < end and seq not in there])
        judge_ages(self.scene, life, got, request.from_seq)

    def _latest(self, ask: Ask, answer: Answer | Refusal, got: list[Got] | None, stamp: Stamp) -> None:
        life = self._life(ask, answer)
        request = ask.request
        assert isinstance(request, ReadLatest)
        if life is None or got is None:
            return
        require(len(got) <= 1, "answer allowed", "more than one latest message")
        self._see(life, ask, got)
        last = got[0].seq if got else 0
        if got:
            require(life.at[last].subject == request.subject, "filter", f"latest at {request.subject} is of another")
        life.looks.append(Look(request.subject, last, ask.asked_ns, self.scene.events.now_ns))
        newer = [seq for seq, message in life.live.items() if seq > last and message.subject == request.subject]
        self._missing(life, ask, newer)

    def _scanned(self, ask: Ask, answer: Answer | Refusal, got: list[Got] | None, stamp: Stamp) -> None:
        life = self._life(ask, answer)
        request = ask.request
        assert isinstance(request, ScanSubject)
        if life is None or got is None:
            return
        require(len(got) <= request.limit, "answer allowed", f"{len(got)} messages for a limit of {request.limit}")
        self._see(life, ask, got)
        there = {message.seq for message in got}
        for seq in there:
            require(life.at[seq].subject == request.subject, "filter", f"scan of {request.subject} found another")
            require(seq >= request.from_seq, "filter", f"scan from {request.from_seq} found {seq}")
        end = self._end(life, answer, got)
        fitting = [seq for seq, message in life.live.items() if message.subject == request.subject]
        self._missing(life, ask, [seq for seq in fitting if request.from_seq <= seq < end and seq not in there])

    def _subjects(self, ask: Ask, answer: Answer | Refusal, got: list[Got] | None, stamp: Stamp) -> None:
        life = self._life(ask, answer)
        if life is None:
            return
        request = ask.request
        assert isinstance(request, ListSubjects) and isinstance(answer, Answer) and isinstance(answer.value, Page)
        entries = [str(entry) for entry in answer.value.entries]
        require(entries == sorted(set(entries)), "in order", f"subjects are not sorted: {listed(entries)}")
        require(
            all(e.startswith(request.prefix) for e in entries),
            "filter",
            f"{listed(entries)} do not begin {request.prefix}",
        )
        end = entries[-1] if answer.value.next_after else None
        for seq, message in list(life.live.items()):
            subject = message.subject
            if subject.startswith(request.prefix) and subject not in entries and (end is None or subject < end):
                self._missing(life, ask, [seq])

    def _streams(self, ask: Ask, answer: Answer | Refusal, got: list[Got] | None, stamp: Stamp) -> None:
        if isinstance(answer, Refusal):
            return
        assert isinstance(answer.value, Page)
        names = [str(entry) for entry in answer.value.entries]
        require(names == sorted(set(names)), "in order", f"streams are not sorted: {listed(names)}")
        require(all(self.scene.known(name) for name in names), "lives apart", f"nobody created all of {listed(names)}")

    def info(self, ask: Ask, answer: Answer | Refusal, got: list[Got] | None, stamp: Stamp) -> None:
        """A stream's figures: they never go back, and cover what was confirmed before they were asked for."""
        life = self._life(ask, answer)
        if life is None:
            return
        assert isinstance(answer, Answer) and isinstance(answer.value, StreamInfo)
        info = answer.value
        self.scene.ledger.identify(life, info.stream_id)
        stats = info.stats
        self.within_bounds(life, stats)
        confirmed = max((s for s, m in life.live.items() if m.confirmed_ns <= ask.asked_ns), default=0)
        if stats.last_seq < confirmed:
            violated("ledger grows", f"{life.name} is at {stats.last_seq} after {confirmed} was confirmed")
        stream = ask.stream
        assert stream is not None
        if ask.asked_ns >= stream.seen_ns:
            require(
                stats.first_seq >= life.first_seq, "monotone", f"{life.name} first {life.first_seq} > {stats.first_seq}"
            )
            life.first_seq = stats.first_seq
            stream.seen_ns = self.scene.events.now_ns
        life.last_seq = max(life.last_seq, stats.last_seq)

    @staticmethod
    def within_bounds(life: Life, stats: StreamStats) -> None:
        """Limits of count and bytes hold at every moment: exactly, or to less than a block too much."""
        config = life.config
        if config.max_msgs:
            most = config.max_msgs + (0 if config.strict_limits else config.block_size - 1)
            require(stats.msg_count <= most, "limits hold", f"{life.name}: {stats.msg_count} messages of {most}")
        if config.max_bytes and config.strict_limits:
            require(stats.bytes <= config.max_bytes, "limits hold", f"{life.name}: {stats.bytes} bytes")

    def consumer(self, ask: Ask, answer: Answer | Refusal, got: list[Got] | None, stamp: Stamp) -> None:
        """A consumer's figures: the floor never goes back."""
        life, group = self._life(ask, answer), ask.group()
        if isinstance(answer, Answer) and answer.code == outcomes.NO_SUCH_CONSUMER and group is not None:
            violated("acked survives", f"consumer {group.config.name} exists and its info says {answer!r}")
        if life is None or group is None:
            return
        assert isinstance(answer, Answer) and isinstance(answer.value, ConsumerInfo) and ask.consumer is not None
        # Of what is ephemeral nothing is written down, ids included: they are used once in each life of the process.
        process_life = stamp.life if life.config.ephemeral else 0
        owner = self.scene.consumer_ids.setdefault((answer.value.consumer_id, process_life), ask.consumer)
        named_stream = answer.value.consumer_id in self.scene.ledger.stream_ids and not process_life
        if owner is not ask.consumer or named_stream:
            violated("lives apart", f"id {answer.value.consumer_id} of {owner.name} names {ask.consumer.name} too")
        self._floor(ask, answer.value)

    def _consumers(self, ask: Ask, answer: Answer | Refusal, got: list[Got] | None, stamp: Stamp) -> None:
        if self._life(ask, answer) is None:
            return
        assert isinstance(answer, Answer) and isinstance(answer.value, Page) and ask.stream is not None
        for info in answer.value.entries:
            assert isinstance(info, ConsumerInfo)
            name = info.config.name
            if info.config.inactive_ms:
                continue
            there = name in ask.stream.consumers or ask.stream.gone.get(name, -1) >= ask.asked_ns
            require(there, "lives apart", f"{ask.stream.name} lists {name}, which does not exist")

    def _floor(self, ask: Ask, info: ConsumerInfo) -> None:
        group = ask.group()
        assert group is not None
        what = f"{group.life.name}/{group.config.name}"
        most = self.scene.process.config.limits.pending_max
        if self.scene.ledger.abrupt_stops:
            # What was answered or given up and not yet durable is out again, whatever went out in its place.
            most += group.may_come_back()
        require(info.pending <= most, "limits hold", f"{what}: {info.pending} are out, {most} may be")
        if ask.asked_ns >= group.floor_ns:
            require(info.ack_floor >= group.floor, "monotone", f"{what} floor {group.floor} went to {info.ack_floor}")
            require(info.redelivered_dropped >= group.dropped, "monotone", f"{what} dropped {group.dropped} went back")
            group.floor_ns = self.scene.events.now_ns
        judge_given_up(self.scene, group, ask.asked_ns, info.redelivered_dropped)
        if group.config.policy is DeliveryPolicy.BY_START_TIME:
            self.scene.process.now()
            passed = group.life.passed_by_time(group, info.ack_floor, self.scene.process.wall_max_ms)
            require(
                not passed, "floor honest", f"{what} floor {info.ack_floor} passed {listed(passed[:9])}, never answered"
            )
        group.told(info.ack_floor, info.redelivered_dropped, self.scene.events.now_ns)


def _nothing() -> None:
    """A read that got lost changes nothing."""

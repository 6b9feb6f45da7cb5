"""The audit: at rest, with everything answered and no fault left, the whole state is read and held against the ledger.

What was allowed to be unknown while calls were under way is known now, so the rules are judged exactly here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from waymaker_core import outcomes
from waymaker_core.configs import ConsumerConfig, DeliveryPolicy, Retention, StreamConfig
from waymaker_core.outcomes import Answer, Refusal, Status
from waymaker_core.requests import (
    ConsumerInfo,
    GetStreamInfo,
    ListConsumers,
    ListStreams,
    ListSubjects,
    Page,
    ReadRange,
    Request,
    StreamInfo,
    StreamStats,
)
from waymaker_sim.checks import listed, require, violated
from waymaker_sim.events import MS
from waymaker_sim.ledger import Attempt, Group, Ledger, Letter, Life
from waymaker_sim.linear import NOTHING, Kind, Operation, Verdict, judge
from waymaker_sim.naive_consumer import matches
from waymaker_sim.process import Got
from waymaker_sim.publisher import Refused
from waymaker_sim.registers import histories, may_vanish
from waymaker_sim.scene import Scene

PAGE = 5
"""Messages read at once: no world's page is smaller."""
LATE_MS = 2_000
"""How long after its time a message that aged may still be there: many times the interval of retention."""


@dataclass(slots=True)
class SeenConsumer:
    """A consumer's durable figures."""

    config: ConsumerConfig
    floor: int
    dropped: int
    pending: int


@dataclass(slots=True)
class SeenStream:
    """Everything a client can see of a stream."""

    config: StreamConfig
    stats: tuple[int, int, int, int]
    stream_id: int
    created_ms: int
    messages: list[Got]
    subjects: list[str]
    consumers: dict[str, SeenConsumer] = field(default_factory=dict)


Seen = dict[str, SeenStream | str]
"""By name; a text where the stream is quarantined."""


class Asker:
    """Asks one question after the other. `ask` returns the answer and the messages that came with it."""

    def ask(self, request: Request) -> tuple[Answer | Refusal, list[Got] | None]:
        raise NotImplementedError


def observe(asker: Asker) -> Seen:
    """Read everything."""
    seen: Seen = {}
    for name in _names(asker):
        seen[name] = _observe_stream(asker, name)
    return seen


def _names(asker: Asker) -> list[str]:
    names: list[str] = []
    while True:
        page = _page(asker, ListStreams(names[-1] if names else "", 3))
        names += [str(entry) for entry in page.entries]
        if not page.next_after:
            return names


def _page(asker: Asker, request: Request) -> Page:
    answer, _ = asker.ask(request)
    if not isinstance(answer, Answer) or not isinstance(answer.value, Page):
        violated("progress", f"at rest {type(request).__name__} ended with {answer!r}")
    return answer.value


def _observe_stream(asker: Asker, name: str) -> SeenStream | str:
    answer, _ = asker.ask(GetStreamInfo(name))
    if isinstance(answer, Refusal):
        if answer.status is Status.DATA_LOSS:
            return answer.message
        violated("progress", f"at rest the info of {name} ended with {answer!r}")
    require(answer.code == outcomes.OK and isinstance(answer.value, StreamInfo), "progress", f"{name}: {answer!r}")
    info = answer.value
    assert isinstance(info, StreamInfo)
    messages: list[Got] = []
    while True:
        page, got = asker.ask(ReadRange(name, messages[-1].seq + 1 if messages else 1, PAGE))
        if isinstance(page, Refusal) and page.status is Status.DATA_LOSS:
            return page.message
        if got is None:
            violated("progress", f"at rest a read of {name} ended with {page!r}")
        messages += got
        if not got:
            break
    subjects = _subjects(asker, name)
    seen = SeenStream(info.config, _figures(info.stats), info.stream_id, info.created_ms, messages, subjects)
    after = ""
    while True:
        page2 = _page(asker, ListConsumers(name, after, 4))
        for entry in page2.entries:
            assert isinstance(entry, ConsumerInfo)
            seen.consumers[entry.config.name] = SeenConsumer(
                entry.config, entry.ack_floor, entry.redelivered_dropped, entry.pending
            )
        after = page2.next_after
        if not after:
            return seen


def _subjects(asker: Asker, name: str) -> list[str]:
    subjects: list[str] = []
    while True:
        page = _page(asker, ListSubjects(name, "", subjects[-1] if subjects else "", 3))
        subjects += [str(entry) for entry in page.entries]
        if not page.next_after:
            return subjects


def differences(one: Seen, other: Seen) -> str:
    """What two observations with a restart in between do not agree in, for people; empty where they agree.

    Ephemeral streams are left out: they begin anew with every start.
    """
    found: list[str] = []
    for name in sorted({*one, *other}):
        a, b = one.get(name), other.get(name)
        if isinstance(a, SeenStream) and isinstance(b, SeenStream):
            if a.config.ephemeral:
                continue
            found += [f"{name}.{what}" for what in _fields(a, b)]
        elif a != b:
            found.append(f"{name}: {type(a).__name__} and {type(b).__name__}")
    return "; ".join(found[:5])


def _fields(a: SeenStream, b: SeenStream) -> list[str]:
    found = [
        f"{name}: {getattr(a, name)} and {getattr(b, name)}"
        for name in ("config", "stats", "stream_id", "created_ms", "subjects")
        if getattr(a, name) != getattr(b, name)
    ]
    if a.messages != b.messages:
        parted = next((i for i, (x, y) in enumerate(zip(a.messages, b.messages, strict=False)) if x != y), -1)
        found.append(f"messages: {len(a.messages)} and {len(b.messages)}, first difference at {parted}")
    for name in sorted({*a.consumers, *b.consumers}):
        if a.consumers.get(name) != b.consumers.get(name):
            found.append(f"{name}: {a.consumers.get(name)} and {b.consumers.get(name)}")
    return found


def _figures(stats: StreamStats) -> tuple[int, int, int, int]:
    return stats.first_seq, stats.last_seq, stats.msg_count, stats.bytes


class Audit:
    """Judges what was seen at rest."""

    def __init__(self, scene: Scene, ledger: Ledger, refusals: list[Refused]) -> None:
        self.scene = scene
        self.ledger = ledger
        self.refusals = refusals
        self.now_ns = scene.events.now_ns

    def judge(self, seen: Seen, drained: bool) -> None:
        """Hold everything seen against the ledger. `drained`: consumers had time to reach the end."""
        for name, stream in self.scene.streams.items():
            there = seen.get(name)
            if stream.life is None:
                require(there is None, "lives apart", f"{name} does not exist and is listed")
            elif there is None:
                violated("acked survives", f"stream {name} was created and is not there")
            elif isinstance(there, str):
                require(bool(self.scene.process.disk.rotten), "recovery honest", f"{name} quarantined: {there}")
                stream.life.damaged = True
            else:
                self._stream(stream.life, there, drained)
        require(all(map(self.scene.may_exist, seen)), "lives apart", f"nobody created all of {listed(seen)}")
        self._copies(seen)
        for life in self.ledger.lives:
            if not life.damaged and not life.rolled_back:
                self._registers(life, seen)
        for refused in self.refusals:
            self._refused(refused)

    def _copies(self, seen: Seen) -> None:
        """What was put back is what its archive was."""
        for name, copy in self.scene.copies.items():
            there = seen.get(name)
            if isinstance(there, SeenStream):
                copy.judge_figures(there.config, *there.stats[1:])
                copy.judge_messages(there.messages, whole=True)
                copy.judge_consumers((each.config, each.floor, each.dropped) for each in there.consumers.values())
                self.scene.mark("copy audited")
            elif there is not None:
                require(bool(self.scene.process.disk.rotten), "recovery honest", f"{name} quarantined: {there}")
            else:
                require(not copy.must_exist, "archives", f"{name} was put back and is not there")

    def _registers(self, life: Life, seen: Seen) -> None:
        """Each subject of a life is a compare-and-set register; the audit is its last reader."""
        stream, there = self.scene.streams[life.name], seen.get(life.name)
        newest: dict[str, int] = {}
        if stream.life is life and isinstance(there, SeenStream):
            newest = {life.at[message.seq].subject: message.seq for message in there.messages}
        vanishing = may_vanish(life)
        for subject, operations in histories(life, self.refusals).items():
            if stream.life is life and isinstance(there, SeenStream):
                operations.append(Operation(Kind.READ, newest.get(subject, NOTHING), self.now_ns, self.now_ns))
            judgement = judge(operations, vanishing=vanishing)
            if judgement.verdict is Verdict.UNDECIDED:
                self.scene.mark("linearizable undecided")
            elif judgement.verdict is Verdict.VIOLATED:
                violated("linearizable", f"{life.name} (life {life.number}) at {subject}: {judgement.stuck}")
            else:
                self.scene.mark("linearizable")

    def _stream(self, life: Life, seen: SeenStream, drained: bool) -> None:
        self.ledger.identify(life, seen.stream_id)
        self._settings(life, seen)
        for message in seen.messages:
            life.see(self.ledger, message.seq, message.time_ms, message.body, self.now_ns)
        there = {message.seq for message in seen.messages}
        if seen.config.ephemeral:
            return
        self.scene.process.now()
        wall_max_ms = self.scene.process.wall_max_ms
        life.missing(
            [seq for seq in life.live if seq not in there], self.now_ns, self.now_ns, wall_max_ms, self.ledger.mark
        )
        self._figures(life, seen)
        self._times(life)
        self._sizes(life)
        self._bounds(life, seen)
        self._ages(life, seen)
        self._letters(life, seen)
        for refused in (m for m in life.at.values() if isinstance(m, Attempt) and m.expected >= 0):
            self._condition(life, refused)
        for name, consumer in seen.consumers.items():
            if consumer.config.inactive_ms:
                # Rest lasts longer than the longest timeout of these worlds.
                violated("inactive consumers go", f"{life.name} still has {name}, which nobody uses")
            group = self._group(life, name)
            if group is not None:
                self._consumer(life, seen, group, consumer, drained)
        if drained and life.config.retention is Retention.INTEREST:
            self._interest(life, seen)

    def _settings(self, life: Life, seen: SeenStream) -> None:
        """Where every outcome is known, settings are the last ones confirmed, and all consumers are there."""
        stream = self.scene.streams[life.name]
        if not stream.steady() or stream.doubt is not None:
            return
        require(seen.config == life.config, "acked survives", f"{life.name} has {seen.config}, not {life.config}")
        for name, consumer in stream.consumers.items():
            if consumer.group is None or not consumer.steady() or consumer.doubt is not None:
                continue
            there = seen.consumers.get(name)
            require(there is not None, "acked survives", f"{life.name}/{name} was created and is not there")
            wanted = replace(consumer.group.config, name=name)
            if there is not None:
                require(there.config == wanted, "acked survives", f"{life.name} has {there.config}, not {wanted}")

    def _group(self, life: Life, name: str) -> Group | None:
        stream = self.scene.streams[life.name]
        known = stream.consumers.get(name)
        require(known is not None, "lives apart", f"{life.name} lists consumer {name}, which does not exist")
        return known.group if known is not None else None

    # ------------------------------------------------------------ streams

    def _figures(self, life: Life, seen: SeenStream) -> None:
        first, last, count, byte_count = seen.stats
        what = f"{life.name}: stats {seen.stats}"
        require(count == len(seen.messages), "limits hold", f"{what}, {len(seen.messages)} messages")
        if seen.messages:
            require(first == seen.messages[0].seq, "limits hold", f"{what}, first is {seen.messages[0].seq}")
            require(last >= seen.messages[-1].seq, "limits hold", f"{what}, last is {seen.messages[-1].seq}")
        sure = ((s, m) for s, m in life.at.items() if s not in life.unsynced)
        confirmed = max((s for s, m in sure if isinstance(m, Attempt) and m.confirmed_ns >= 0), default=0)
        require(last >= max(confirmed, life.last_seq), "ledger grows", f"{what} after {confirmed}, {life.last_seq}")
        # Now it is known of publishes, too, that met a change of the stream and whose messages nobody saw.
        life.last_seq = last
        self._gaps(life, last)
        subjects = sorted({life.at[message.seq].subject for message in seen.messages})
        require(
            seen.subjects == subjects,
            "limits hold",
            f"{what}: subjects {listed(seen.subjects)}, of messages {listed(subjects)}",
        )
        sizes = [life.at[message.seq].size for message in seen.messages]
        if all(sizes):
            require(byte_count == sum(sizes), "limits hold", f"{what}, {sum(sizes)} bytes found")

    def _gaps(self, life: Life, last: int) -> None:
        """Sequences that nobody knows are those of publishes whose outcome got lost, and of dead letters that nobody saw."""
        if self.scene.process.config.sync_interval_ms:
            return
        unknown = last - sum(seq <= last for seq in life.at)
        attempts = self.ledger.attempts.values()
        lost = sum(not (each.seq or each.refused) and each.stream == life.name for each in attempts)
        what = f"{life.name} is at {last}: {unknown} sequences nobody knows, {lost} publishes whose outcome is unknown"
        require(unknown <= lost + life.owed(), "no gaps", what)

    def _times(self, life: Life) -> None:
        """The server's own times never decrease from one sequence to the next, and follow a wall clock that was corrected."""
        before, latest_ms, right_ns = 0, self._latest_ms(), self.ledger.clock_right_ns
        for seq, message in sorted(life.at.items()):
            time_ms = life.times[seq]
            if seq in life.unsynced:
                continue
            if time_ms < 0 or (isinstance(message, Attempt) and not message.server_timed):
                continue
            if isinstance(message, Attempt) and 0 <= right_ns < message.asked_ns:
                self.scene.mark("stamped behind a correction")
                what = f"{life.name} seq {seq} is of {time_ms} ms, asked for when that was at most {latest_ms} ms ahead"
                require(time_ms <= latest_ms, "server time", what)
            if before > latest_ms:
                before = 0  # of a clock that was wrong
            require(time_ms >= before, "monotone", f"{life.name} seq {seq} is of {time_ms} ms, after {before} ms")
            before = time_ms

    def _latest_ms(self) -> int:
        """The latest server time that a right clock explains."""
        process = self.scene.process
        return process.now().wall_ms + process.config.limits.clock_ahead_max_ms

    @staticmethod
    def _sizes(life: Life) -> None:
        """What is stored was small enough for some settings that were or may have been in force."""
        most = max(config.max_msg_bytes or 1 << 62 for config in life.configs)
        for seq, message in life.at.items():
            if isinstance(message, Attempt):
                size = message.size - len(message.subject)
                require(size <= most, "limits hold", f"{life.name} seq {seq} has {size} bytes, {most} are taken")

    def _bounds(self, life: Life, seen: SeenStream) -> None:
        """Strict limits hold to the message. Block by block, the first block stays as long as one message of it would.

        The block that grows stays in any case.
        """
        config, messages = seen.config, seen.messages
        count, size = len(messages), seen.stats[3]
        if not config.strict_limits and messages:
            slack = self._first_block(config, messages)
            growing = (messages[0].seq - 1) // config.block_size == (seen.stats[1] - 1) // config.block_size
            sizes = [life.at[message.seq].size for message in messages[:slack]]
            count -= slack - 1
            size = 0 if growing or not all(sizes) else size - sum(sizes[:-1])
            count = 0 if growing else count
        if config.max_msgs:
            require(count <= config.max_msgs, "limits hold", f"{life.name}: {count} messages of {config.max_msgs}")
        if config.max_bytes:
            require(size <= config.max_bytes, "limits hold", f"{life.name}: {size} bytes of {config.max_bytes}")
        if config.max_msgs_per_subject:
            found: dict[str, int] = {}
            for message in messages:
                subject = life.at[message.seq].subject
                found[subject] = found.get(subject, 0) + 1
            most = max(found.values(), default=0)
            require(most <= config.max_msgs_per_subject, "limits hold", f"{life.name}: {found}")
        if config.retention is Retention.WORK_QUEUE:
            for group in life.groups:
                for message in messages:
                    acked = message.seq in group.acked_ok and not life.may_be_dropped(group, message.seq)
                    require(not acked, "limits hold", f"{life.name} seq {message.seq} was acked by {group.config.name}")

    def _ages(self, life: Life, seen: SeenStream) -> None:
        """Nothing is there long after its age ended it, but for what stands behind an older message at its subject.

        Block by block some may stay, fewer than one block holds. What a wrong clock stamped is as old as the correction, which
        the node has noticed once all machines are up.
        """
        config, process = seen.config, self.scene.process
        if not config.max_age_ms:
            return
        cutoff = process.now().wall_ms - config.max_age_ms - LATE_MS
        healed_ms = process.now().wall_ms - (self.now_ns - self.ledger.healed_ns) // MS
        latest_ms = self._latest_ms()
        greatest: dict[str, int] = {}
        expired: list[int] = []
        for message in seen.messages:
            stored, time_ms = life.at[message.seq], message.time_ms
            subject = stored.subject
            if time_ms > latest_ms and not (isinstance(stored, Attempt) and not stored.server_timed):
                time_ms = healed_ms
                self.scene.mark("stamped by a wrong clock")
            greatest[subject] = max(greatest.get(subject, 0), time_ms)
            if greatest[subject] <= cutoff:
                expired.append(message.seq)
        most = 0 if config.strict_limits else config.block_size - 1
        require(
            len(expired) <= most,
            "limits hold",
            f"{life.name}: {listed(expired[:9])} are older than {config.max_age_ms} ms",
        )

    def _letters(self, life: Life, seen: SeenStream) -> None:
        """In a work queue a dead letter takes its original's place."""
        if life.config.retention is not Retention.WORK_QUEUE:
            return
        there = {message.seq for message in seen.messages}
        for seq, letter in life.at.items():
            if isinstance(letter, Letter) and not (life.rolled_back and seq not in there):
                what = f"{life.name}: {letter.of_seq} is there beside its letter {seq}"
                require(letter.of_seq not in there, "dead letter once", what)

    def _interest(self, life: Life, seen: SeenStream) -> None:
        """The first block goes as soon as every consumer is done with all of it."""
        if not seen.messages:
            return
        floor = min((consumer.floor for consumer in seen.consumers.values()), default=seen.stats[1])
        last = seen.messages[self._first_block(seen.config, seen.messages) - 1].seq
        require(last > floor, "limits hold", f"{life.name}: up to {last} nobody is interested, floor {floor}")

    @staticmethod
    def _first_block(config: StreamConfig, messages: list[Got]) -> int:
        """Messages in the first block, all of which may be more than the bound asks for, save one."""
        block = (messages[0].seq - 1) // config.block_size
        return sum(1 for message in messages if (message.seq - 1) // config.block_size == block)

    def _condition(self, life: Life, attempt: Attempt) -> None:
        """What a conditional publish that is stored must have found."""
        if life.config.retention is Retention.WORK_QUEUE or attempt.life is not life or not attempt.seq:
            return
        for seq, other in life.at.items():
            if seq in life.unsynced or attempt.seq in life.unsynced:
                continue
            if other.subject == attempt.subject and attempt.expected < seq < attempt.seq:
                gone = attempt.expected == 0 and seq not in life.live
                require(gone, "compare and set", f"{life.name} {attempt.seq} expected {attempt.expected}, found {seq}")

    def _refused(self, refused: Refused) -> None:
        """What a refused conditional publish was told must have been true at some moment of the call."""
        life, actual = refused.life, refused.actual
        if life.damaged or life.rolled_back or life.config.retention is Retention.WORK_QUEUE or life.config.ephemeral:
            return
        what = f"{life.name} at {refused.subject}: expected {refused.expected}, told {actual}"
        known = life.at.get(actual)
        if actual:
            require(known is None or known.subject == refused.subject, "compare and set", what)
            require(life.ended or actual <= life.last_seq, "compare and set", f"{what}, which never came to be")
        for seq, message in life.live.items():
            if seq > actual and message.subject == refused.subject and message.confirmed_ns < refused.asked_ns:
                gone = life.ended and life.may_be_gone(seq, self.scene.process.wall_max_ms)
                require(gone, "compare and set", f"{what}, but {seq} had been confirmed")

    # ------------------------------------------------------------ consumers

    def _consumer(self, life: Life, seen: SeenStream, group: Group, consumer: SeenConsumer, drained: bool) -> None:
        what = f"{life.name}/{group.config.name}"
        require(consumer.floor >= group.floor, "monotone", f"{what} floor {group.floor} went to {consumer.floor}")
        require(consumer.dropped >= group.dropped, "monotone", f"{what} dropped {group.dropped} went back")
        letters = [m for m in life.at.values() if isinstance(m, Letter) and m.group is group]
        require(len(letters) <= consumer.dropped, "dead letter once", f"{what}: {len(letters)} > {consumer.dropped}")
        owed = self._letters_owed(life, seen, group, consumer.dropped)
        if owed:
            # What is a letter already, perhaps one of its own, is given up without another one.
            most = group.config.max_deliver
            silent = sum(1 for s, m in life.at.items() if isinstance(m, Letter) and group.delivered_most(s, 0) >= most)
            found = f"{what} dropped {consumer.dropped}, of them at most {silent} letters, and wrote {len(letters)}"
            require(len(letters) + silent >= owed, "dead letter once", found)
        start = group.start_known(message.seq for message in seen.messages)
        if group.config.policy is DeliveryPolicy.BY_START_TIME and seen.messages and seen.messages[0].seq < start:
            self.scene.mark("passed over by time")
        matching = [m for m in seen.messages if matches(group.config.filter_subject, life.at[m.seq].subject)]
        for message in matching:
            seq = message.seq
            if start <= seq <= consumer.floor and seq in life.live:
                done = life.may_be_settled(group, seq)
                require(done, "floor honest", f"{what} floor {consumer.floor} passed {seq}, never answered")
        if drained and (not consumer.pending or not self._keeps(life, seen, group)):
            require(consumer.pending == 0, "progress", f"{what}: {consumer.pending} pending after all was acked")
            last = seen.stats[1]
            require(consumer.floor >= last or not matching or matching[-1].seq <= consumer.floor or
                    group.config.start_seq > last, "progress", f"{what}: floor {consumer.floor} of {last}")  # fmt: skip

    def _keeps(self, life: Life, seen: SeenStream, group: Group) -> bool:
        """Whether what a group gave up has no place for its dead letter: a stream that is too small, or no reader."""
        subject = group.config.dead_letter_subject
        read = any(matches(each.config.filter_subject, subject) for each in seen.consumers.values())
        keeps = life.may_keep(group) and (seen.config.strict_limits or not read)
        if keeps:
            self.scene.mark("kept for want of a place for its dead letter")
        return keeps

    @staticmethod
    def _letters_owed(life: Life, seen: SeenStream, group: Group, dropped: int) -> int:
        """How many dead letters of a group must have been seen by now, if none had to be spared.

        All, where nothing was ever taken away, and in a queue, where only what was delivered goes, if no delivery was
        overlooked: neither one that nobody knows whose it was, nor so many that a letter was given up unseen. Where
        their subject is capped, the last of them.
        """
        rivals = [each for each in life.groups if each.config.dead_letter_subject]
        if group not in rivals or any(isinstance(m, Letter) and m.group is None for m in life.at.values()):
            return 0
        if life.config.retention is not Retention.WORK_QUEUE:
            return dropped if seen.stats[2] == seen.stats[1] else 0
        if life.unsure or any(len(each.lost_ns) >= each.config.max_deliver for each in life.groups):
            return 0
        if life.config.max_msgs_per_subject:
            return min(1, dropped) if len(rivals) == 1 else 0
        return dropped

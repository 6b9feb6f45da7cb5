"""The history: the answers that clients got; each new answer is checked against it.

It knows only what clients can know: what was called, when, and what was answered. Outcomes that got lost stay unknown.
An unknown publish may be stored or not, but always in one place. Calls that overlap a creation or deletion of the
stream or consumer they name belong to no incarnation for certain; only rules without one are checked then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from waymaker_core.model.config import DeliveryPolicy, Retention, StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import decode_body
from waymaker_sim.history.groups import FOREVER_NS, GroupOf, PendingDelivery
from waymaker_sim.history.subjects import DLQ, _origin_of, accepts
from waymaker_sim.kernel.checks import listed, require, violated
from waymaker_sim.machine.process import ReceivedMessage, StepId
from waymaker_sim.reference.naive_consumer import matches

MS = 1_000_000
AHEAD_MS = Limits().clock_ahead_max_ms
"""Message times further ahead of a corrected clock are ignored for age."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One message that a client tried to publish. `seq` is 0 until a client has read it."""

    number: int
    stream: str
    incarnation: StreamIncarnation | None
    subject: str
    body: bytes
    size: int
    """Bytes of payload, headers and subject, as statistics count them."""
    expected: int
    born_ms: int
    """The least time that the message can have."""
    server_timed: bool
    """True if the server assigns its time."""
    asked_ns: int
    seq: int = 0
    confirmed_ns: int = -1
    refused: bool = False
    numbered: bool = False
    """True if its producer numbered it, so that it may be sent more than once."""
    counted_in: StreamIncarnation | None = None
    """The incarnation that counts it as `unplaced`: its own, or the one that most likely has it."""

    @property
    def rule(self) -> str:
        """Return the check that a second place of this message violates."""
        return "stored once" if self.numbered else "one history"

    def place(self, incarnation: StreamIncarnation | None, seq: int) -> None:
        """Note its sequence, or (0) that it was certainly not stored: it may not appear elsewhere any more."""
        if self.counted_in is not None:
            self.counted_in.unplaced -= 1
            self.counted_in = None
        self.incarnation, self.seq = incarnation, seq


@dataclass(slots=True, eq=False)
class Letter:
    """One dead letter as a client read it."""

    group: Group | None
    of_seq: int
    subject: str
    body: bytes
    size: int


@dataclass(frozen=True, slots=True)
class LatestRead:
    """A read of the latest message at a subject (0: none), with the moments of call and answer."""

    subject: str
    seq: int
    asked_ns: int
    answered_ns: int


class Group(GroupOf["StreamIncarnation"]):
    """A consumer group of one incarnation of a stream."""

    __slots__ = ()


class StreamIncarnation:
    """One incarnation of a stream, as far as it can be known."""

    def __init__(self, name: str, number: int, config: StreamConfig) -> None:
        self.name = name
        self.number = number
        self.configs = [config]
        """Every configuration that was or may have been in force."""
        self.stream_id = 0
        self.ended = False
        self.at: dict[int, Attempt | Letter] = {}
        self.live: dict[int, Attempt] = {}
        """Confirmed messages that are not known to be removed."""
        self.gone_ns: dict[int, int] = {}
        self.times: dict[int, int] = {}
        self.unplaced = 0
        """Number of attempts of unknown outcome that no client has read yet."""
        self.last_seq = 0
        self.corrected_ms = 0
        """Time of the last correction of a wall clock that was far ahead: later times stored before count as this
        one for age."""
        self.first_seq = 0
        self.groups: list[Group] = []
        self.no_consumer_until_ns = 1 << 62
        """The last moment at which there may have been no consumer (interest retention)."""
        self.damaged = False
        self.unsure = False
        """True if messages of an unknown consumer were delivered and answered."""
        self.latest_reads: list[LatestRead] = []
        self.rolled_back = False
        """True if a loss of power may have lost what was confirmed, because of interval sync."""
        self.unsynced: set[int] = set()
        """Sequences that were confirmed and may have been lost that way."""

    def end(self) -> None:
        """Note that the stream is deleted, with its consumers."""
        self.ended = True
        for group in self.groups:
            group.ended = True

    @property
    def config(self) -> StreamConfig:
        return self.configs[-1]

    def least(self, bound: str) -> int:
        """Return the tightest value that a bound ever had; 0: never bounded."""
        values = [value for config in self.configs if (value := getattr(config, bound))]
        return min(values, default=0)

    def ends_in_order(self) -> bool:
        """Return True if the newest message is always removed last: only limits of count and bytes remove any."""
        return self.config.retention is Retention.LIMITS and not self.least("max_age_ms")

    # ------------------------------------------------------------ seeing messages

    def see(self, history: History, seq: int, time_ms: int, body: bytes, since_ns: int) -> Attempt | Letter:
        """Check and note a message that was read or delivered; `since_ns` is the earliest moment of that decision."""
        known = self.at.get(seq)
        if known is not None:
            if known.body != body:
                violated("one history", f"{self.name} seq {seq} was {known.body[:60]!r} and is {body[:60]!r}")
            if self.times[seq] < 0:
                self.times[seq] = time_ms
            elif self.times[seq] != time_ms:
                violated("one history", f"{self.name} seq {seq} was of {self.times[seq]} ms and is of {time_ms} ms")
        else:
            known = self._place(history, seq, body)
            self.times[seq] = time_ms
        if self.gone_ns.get(seq, since_ns) < since_ns:
            violated("nothing returns", f"{self.name} seq {seq} was gone and is back")
        self.last_seq = max(self.last_seq, seq)
        return known

    def _place(self, history: History, seq: int, body: bytes) -> Attempt | Letter:
        attempt = history.attempts.get(body)
        if attempt is None:
            letter = self._letter(history, seq, body)
            self._check_subject(seq, letter.subject)
            self.at[seq] = letter
            return letter
        if attempt.seq:
            violated(attempt.rule, f"{self.name} seq {seq} holds attempt {attempt.number}, already at {attempt.seq}")
        if attempt.stream != self.name or (attempt.incarnation is not None and attempt.incarnation is not self):
            violated("lives apart", f"{self.name} (life {self.number}) holds a message sent to another: {body[:60]!r}")
        if attempt.refused:
            violated("no confirmed failure", f"{self.name} seq {seq} holds what was refused: {body[:60]!r}")
        self._check_subject(seq, attempt.subject)
        attempt.place(self, seq)
        self.at[seq] = attempt
        return attempt

    def _check_subject(self, seq: int, subject: str) -> None:
        patterns = self.config.subjects_filter
        if not accepts(patterns, subject):
            violated("subjects", f"{self.name} takes {listed(patterns)} and holds {subject!r} at {seq}")

    def _letter(self, history: History, seq: int, body: bytes) -> Letter:
        try:
            subject, headers, _ = decode_body(body)
        except (ValueError, UnicodeDecodeError):
            violated("bytes intact", f"{self.name} seq {seq} holds garbage: {body[:80]!r}")
        added = {key.removeprefix(DLQ): value for key, value in reversed(headers) if key.startswith(DLQ)}
        if added.get("stream") != self.name or not added.get("seq", "").isdigit():
            violated("bytes intact", f"{self.name} seq {seq} holds what nobody published: {body[:80]!r}")
        of_seq = int(added["seq"])
        letters = [g for g in self.groups if g.config.name == added.get("consumer") or g.config.deliver_group]
        fitting = [g for g in letters if g.config.dead_letter_subject == subject]
        if not fitting:
            violated("dead letter once", f"{self.name} seq {seq}: a letter of no consumer with one: {body[:80]!r}")
        group = fitting[0] if len(fitting) == 1 else None
        if group is not None:
            if of_seq in group.letters:
                violated("dead letter once", f"{self.name} seq {seq} and {group.letters[of_seq]}: both of {of_seq}")
            group.letters[of_seq] = seq
        original = self.at.get(of_seq)
        size = 0
        history.mark("dead letter written")
        if original is not None:
            self._check_copy(seq, original, body, added, group)
            size = original.size - len(original.subject.encode()) + len(subject.encode())
        return Letter(group, of_seq, subject, body, size)

    def _check_copy(
        self, seq: int, original: Attempt | Letter, body: bytes, added: dict[str, str], group: Group | None
    ) -> None:
        """Require that a dead letter is a copy of its original, and that its headers name the original."""
        what = f"{self.name} seq {seq}, the letter of {added['seq']}"
        if group is not None and isinstance(original, Letter) and original.group is group:
            violated("dead letter once", f"{what}, which is a letter of {group.config.name} itself")
        _, headers, payload = decode_body(original.body)
        _, its_headers, its_payload = decode_body(body)
        require(payload == its_payload, "bytes intact", f"{what}, holds {its_payload[:40]!r}, not {payload[:40]!r}")
        kept = [header for header in its_headers if not header[0].startswith(DLQ)]
        require(
            kept == [h for h in headers if not h[0].startswith(DLQ)], "bytes intact", f"{what}: headers {listed(kept)}"
        )
        marks = [header for header in its_headers if header[0].startswith(DLQ)]
        require(len(dict(marks)) == len(marks), "bytes intact", f"{what}: marks that pile up: {listed(marks)}")
        origin = {key: value for key, value in added.items() if key.startswith("origin-")}
        wanted = _origin_of(headers)
        require(
            origin == wanted,
            "bytes intact",
            f"{what}: comes from {listed(origin.values())}, not from {listed(wanted.values())}",
        )
        require(added.get("subject") == original.subject, "bytes intact", f"{what}: of subject {added.get('subject')}")
        if group is not None:
            count = added.get("deliver-count")
            require(count == str(group.config.max_deliver), "delivery count", f"{what}, went after {count} deliveries")

    # ------------------------------------------------------------ publishes

    def confirm(self, attempt: Attempt, seq: int, history: History, now_ns: int) -> None:
        """Note that a publish was answered `ok` with this sequence."""
        other = self.at.get(seq)
        if other is not None and other is not attempt:
            violated("one history", f"{self.name} seq {seq} was confirmed twice: {attempt.body[:60]!r}")
        if attempt.seq and attempt.seq != seq:
            violated(attempt.rule, f"attempt {attempt.number} was seen at {attempt.seq} and confirmed at {seq}")
        if other is None:
            self._check_subject(seq, attempt.subject)
            self.at[seq] = attempt
            attempt.place(self, seq)
            self.times.setdefault(seq, -1)
        attempt.confirmed_ns = now_ns
        if seq not in self.gone_ns:
            self.live[seq] = attempt
        self.last_seq = max(self.last_seq, seq)

    # ------------------------------------------------------------ whether something may be gone

    def may_be_removed(self, seq: int, wall_max_ms: int, owed: int = -1) -> bool:
        """Return True if any rule that was in force allows this message to be missing. When in doubt, return True.

        `owed`: dead letters that may exist without having been read, if known already.
        """
        owed = self.owed() if owed < 0 else owed
        match self.config.retention:
            case Retention.WORK_QUEUE:
                if any(seq in group.answered or self._may_be_a_letter(group, seq) for group in self.groups):
                    return True
            case Retention.INTEREST:
                message = self.at[seq]
                if isinstance(message, Letter) or message.asked_ns <= self.no_consumer_until_ns:
                    return True
                if all(self.may_be_done(group, seq) for group in self.groups if not (group.ended or group.leaving)):
                    return True
            case Retention.LIMITS:
                if self._over_limits(seq, wall_max_ms, owed):
                    return True
        keep = self.config.max_msgs_per_subject
        return bool(keep) and self._may_be_pushed_out(seq, keep - self.unplaced - owed)

    def _may_be_pushed_out(self, seq: int, enough: int) -> bool:
        """Return True if `enough` newer messages may have been at its subject at one time, the last of them
        included."""
        subject = self.at[seq].subject
        newer = sorted(other for other, message in self.at.items() if other > seq and message.subject == subject)
        if len(newer) < enough:
            return False
        alive: list[int] = []
        for other in newer:
            message = self.at[other]
            if isinstance(message, Attempt):
                # A message that was known to be removed before this one was sent takes no space beside it.
                asked_ns = message.asked_ns
                alive = [each for each in alive if self.gone_ns.get(each, asked_ns) >= asked_ns]
            alive.append(other)
            if len(alive) >= enough:
                return True
        return enough <= 0

    def may_keep(self, group: Group) -> bool:
        """Return True if a group may keep a message that it should drop, since the dead letter would not stay."""
        if not group.config.dead_letter_subject:
            return False
        return self.config.retention is Retention.INTEREST or self.config.strict_limits

    def owed(self) -> int:
        """Return how many dead letters may exist without having been read, at most."""
        return sum(self._owed_by(group) for group in self.groups if group.config.dead_letter_subject)

    @staticmethod
    def _owed_by(group: Group) -> int:
        last = group.config.max_deliver - len(group.lost_ns)
        if last <= 0:
            return 1 << 30
        return max(0, sum(1 for most in group.most.values() if most >= last) - len(group.letters))

    def _over_limits(self, seq: int, wall_max_ms: int, owed: int) -> bool:
        age, most, max_bytes = self.least("max_age_ms"), self.least("max_msgs"), self.least("max_bytes")
        if age:
            time_ms, message = self.times[seq], self.at[seq]
            if time_ms < 0 and isinstance(message, Attempt):
                time_ms = message.born_ms
            if 0 < self.corrected_ms < time_ms - AHEAD_MS:
                time_ms = self.corrected_ms
            if wall_max_ms - time_ms >= age:
                return True
        newer = self.last_seq - seq + max(0, self.unplaced) + owed
        if most and newer >= most:
            return True
        if max_bytes:
            size = sum(message.size for other, message in self.at.items() if other >= seq)
            return size + (max(0, self.unplaced) + owed) * 100_000 > max_bytes
        return False

    def _may_be_a_letter(self, group: Group, seq: int) -> bool:
        return bool(group.config.dead_letter_subject) and self.may_be_dropped(group, seq)

    def may_be_dropped(self, group: Group, seq: int) -> bool:
        """Return True if a group may have dropped a message, so that a later ack of it has no effect.

        A message is dropped only after its last attempt, and each lost call hides one delivery at most, of what had
        been published by then.
        """
        message = self.at.get(seq)
        asked_ns = message.asked_ns if isinstance(message, Attempt) else 0
        return seq in group.termed or group.delivered_most(seq, asked_ns) >= group.config.max_deliver

    def may_be_done(self, group: Group, seq: int) -> bool:
        """Return True if a message may be acked, termed, dropped or not matched in a group."""
        message = self.at.get(seq)
        return (
            self.may_be_settled(group, seq)
            or (message is not None and not matches(group.config.filter_subject, message.subject))
            or seq <= group.last_before
            or self._may_be_before_start(group, seq)
        )

    def _may_be_before_start(self, group: Group, seq: int) -> bool:
        """Return True if a consumer may have its start behind a message that was stored after its creation was sent."""
        message = self.at.get(seq)
        match group.config.policy:
            case DeliveryPolicy.ALL:
                return False
            case DeliveryPolicy.BY_START_SEQ:
                return seq < group.config.start_seq
            case DeliveryPolicy.BY_START_TIME if self.times.get(seq, -1) >= group.config.start_time_ms:
                return False
            case _:
                return not isinstance(message, Attempt) or message.asked_ns <= group.certain_ns

    def passed_by_time(self, group: Group, floor: int, wall_max_ms: int) -> list[int]:
        """Return the messages that a by-time consumer passed though they are late enough, exist, and were never
        answered."""
        return [
            seq
            for seq, message in self.live.items()
            if seq <= floor
            and self.times[seq] >= group.config.start_time_ms
            and matches(group.config.filter_subject, message.subject)
            and not self.may_be_settled(group, seq)
            and not self.may_be_removed(seq, wall_max_ms)
        ]

    def may_begin_by(self, group: Group, seq: int) -> bool:
        """Return True if a by-time consumer may start at this message or before.

        It starts at the first, by sequence, of the existing messages that are late enough; without one, behind the
        last.
        """
        while seq <= group.last_before and seq < group.begun_by and group.too_early < seq:
            first = group.too_early + 1
            message = self.at.get(first)
            if message is None:
                return True
            time_ms = self.times[first]
            if time_ms < 0 and isinstance(message, Attempt) and not message.server_timed:
                time_ms = message.born_ms
            if (
                self.gone_ns.get(first, group.created_ns) < group.created_ns
                or 0 <= time_ms < group.config.start_time_ms
            ):
                group.too_early = first
            elif time_ms < 0:
                return True
            else:
                group.begun_by = first
        return seq > group.last_before or seq >= group.begun_by

    def may_be_settled(self, group: Group, seq: int) -> bool:
        """Return True if a message may have been acked, termed or dropped."""
        return not group.certain or seq in group.answered or self.may_be_dropped(group, seq)

    def missing(
        self, seqs: Iterable[int], asked_ns: int, now_ns: int, wall_max_ms: int, mark: Callable[[str], None]
    ) -> None:
        """Note that these sequences were missing in a read."""
        owed = -1
        for seq in seqs:
            attempt = self.live.get(seq)
            if attempt is None or attempt.confirmed_ns > asked_ns:
                continue
            owed = self.owed() if owed < 0 else owed
            if not self.damaged and not self.may_be_removed(seq, wall_max_ms, owed):
                violated("acked survives", f"{self.name} (life {self.number}) seq {seq} was confirmed and is not there")
            del self.live[seq]
            self.gone_ns[seq] = now_ns
            mark(f"gone: {self.config.retention.name.lower()}")

    # ------------------------------------------------------------ deliveries

    def deliver(
        self,
        group: Group,
        got: list[ReceivedMessage],
        history: History,
        asked_ns: int,
        step_id: StepId,
        naks_of: int,
    ) -> None:
        """Check and note messages that a member received. `asked_ns`: the earliest moment of dispatch; `step_id`:
        the step that sent them; `naks_of`: the run whose naks may take effect on them."""
        self._check_order(got)
        config = group.config
        late = step_id.run < group.newest_run
        group.newest_run = max(group.newest_run, step_id.run)
        if group.counted_in != history.abrupt_stops:
            group.counts.clear()
            group.counted_in = history.abrupt_stops
        for message in got:
            seq = message.seq
            seen = self.see(history, seq, message.time_ms, message.body, asked_ns)
            if group.done_ns.get(seq, asked_ns) < asked_ns:
                violated("no redelivery after ack", f"{self.name}/{config.name} seq {seq}: {message.delivery}. time")
            if not matches(config.filter_subject, seen.subject):
                violated("filter", f"{self.name}/{config.name}: {seen.subject} does not match {config.filter_subject}")
            if seq < group.start_least:
                violated("filter", f"{self.name}/{config.name}: {seq} is before the start {group.start_least}")
            if config.policy is DeliveryPolicy.BY_START_TIME:
                history.mark("begun by time")
                if not self.may_begin_by(group, seq):
                    violated("filter", f"{self.name}/{config.name}: {seq} is of before {config.start_time_ms} ms")
            self._check_other_consumers(group, seq, step_id)
            self._check_put_off(history, group, seq, step_id)
            if not late:  # else a deposed leader delivered it: the newer one counts anew
                self._check_count(group, message)
            if seq in group.pending and group.pending[seq].process_run != step_id.run:
                history.mark("redelivery after a restart")
            until = message.taken_ns + group.wait_most_ns
            # A late nak or extension of an earlier delivery may have begun its wait anew.
            if message.taken_ns >= 0 and step_id.time_ns >= until and seq not in group.handing_back:
                over = f"left {(step_id.time_ns - until) // MS} ms after its wait"
                violated("left in time", f"{self.name}/{config.name} seq {seq}: delivery {message.delivery} {over}")
            naked = group.naks.get((naks_of, seq), 0) > 0
            if naked or group.handing_back.get(seq):
                self.reached_program(group, message)  # for all the node can know
            group.pending[seq] = PendingDelivery(step_id.run, message.taken_ns + group.wait_least_ns, free=naked)

    def _check_order(self, got: list[ReceivedMessage]) -> None:
        """Require at most two ascending runs, the second of which is new."""
        last, descents = 0, 0
        for message in got:
            if message.seq <= last:
                descents += 1
            if descents > 1 or (descents and message.delivery > 1):
                violated("in order", f"{self.name}: {listed(f'{m.seq} ({m.delivery}. time)' for m in got[:30])}")
            last = message.seq

    def _check_other_consumers(self, group: Group, seq: int, step_id: StepId) -> None:
        rivals = self.groups if self.config.retention is Retention.WORK_QUEUE else (group,)
        for rival in rivals:
            delivery = rival.pending.get(seq)
            if delivery is None or not delivery.is_certain() or rival.ended or delivery.process_run != step_id.run:
                continue
            if step_id.time_ns < delivery.until_ns:
                who = "itself" if rival is group else rival.config.name
                violated(
                    "one holder", f"{self.name}/{group.config.name} seq {seq} is out at {who} until {delivery.until_ns}"
                )

    def _check_put_off(self, history: History, group: Group, seq: int, step_id: StepId) -> None:
        put_off = group.put_off.pop(seq, None)
        if put_off is None or put_off.free:
            return
        until_ns = put_off.until_ns
        if put_off.process_run != step_id.run:
            if put_off.since_ns <= history.clock_set_ns and until_ns != FOREVER_NS:
                return
            history.mark("put off through a restart")
            until_ns -= MS  # the wall clock is no more exact
        history.mark("put off")
        if step_id.time_ns < until_ns:
            violated("handed back", f"{self.name}/{group.config.name} seq {seq} was put off until {put_off.until_ns}")

    def _check_count(self, group: Group, message: ReceivedMessage) -> None:
        counts = group.counts.get(message.seq, set())
        where = f"{self.name}/{group.config.name} seq {message.seq}: delivery {message.delivery}"
        require(message.delivery not in counts, "delivery count", f"{where} twice")
        require(1 <= message.delivery <= group.config.max_deliver, "delivery count", f"{where} out of range")

    @staticmethod
    def reached_program(group: Group, message: ReceivedMessage) -> None:
        """Note that a message reached the program: it may count as an attempt from now on."""
        group.most[message.seq] = max(group.most.get(message.seq, 0), message.delivery)

    @staticmethod
    def count(group: Group, message: ReceivedMessage) -> None:
        """Note that the node received a message's report in time: this attempt counts, and its number is unique."""
        group.counts.setdefault(message.seq, set()).add(message.delivery)


class History:
    """All incarnations, and every attempt by its body."""

    def __init__(self) -> None:
        self.attempts: dict[bytes, Attempt] = {}
        self.incarnations: list[StreamIncarnation] = []
        self.stream_ids: dict[int, StreamIncarnation] = {}
        self.clock_set_ns = -1
        """Time when the wall clock was last set: deadlines that outlive the process are measured by it."""
        self.clock_right_ns = -1
        """Time when a wall clock that was far ahead was last corrected."""
        self.healed_ns = -1
        """Time when all machines were up again after the last fault."""
        self.abrupt_ns = -1
        """Time when the process last stopped without having logged its pending deliveries."""
        self.orderly = False
        """True if the last stop of the process was orderly, and it led all streams until then: deliveries are logged."""
        self.abrupt_stops = 0
        """Number of stops of the process without its pending deliveries logged."""
        self.mark: Callable[[str], None] = lambda name: None
        """Called with the name of each coverage mark."""

    def begin_incarnation(self, name: str, config: StreamConfig) -> StreamIncarnation:
        """Note that a stream may exist from now on."""
        incarnation = StreamIncarnation(name, len(self.incarnations) + 1, config)
        self.incarnations.append(incarnation)
        return incarnation

    def attempt(
        self,
        stream: str,
        incarnation: StreamIncarnation | None,
        subject: str,
        body: bytes,
        size: int,
        expected: int,
        born_ms: int,
        server_timed: bool,
        asked_ns: int,
    ) -> Attempt:
        """Note that a client is about to publish."""
        number = len(self.attempts) + 1
        attempt = Attempt(number, stream, incarnation, subject, body, size, expected, born_ms, server_timed, asked_ns)
        assert body not in self.attempts, "every attempt needs a payload of its own"
        self.attempts[body] = attempt
        named = incarnation or next(
            (each for each in reversed(self.incarnations) if each.name == stream and not each.ended), None
        )
        if named is not None:
            attempt.counted_in = named
            named.unplaced += 1
        return attempt

    def identify(self, incarnation: StreamIncarnation, stream_id: int) -> None:
        """Note the id of an incarnation."""
        if incarnation.stream_id and incarnation.stream_id != stream_id:
            violated("lives apart", f"{incarnation.name} changed its id from {incarnation.stream_id} to {stream_id}")
        owner = self.stream_ids.setdefault(stream_id, incarnation)
        if owner is not incarnation:
            violated(
                "lives apart", f"id {stream_id} of {owner.name} (life {owner.number}) names {incarnation.name} too"
            )
        incarnation.stream_id = stream_id

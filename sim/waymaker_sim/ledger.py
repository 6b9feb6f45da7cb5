"""The ledger: what callers were told, and the judgement of each new thing they are told against it.

It knows only what clients can know: what was asked, when, and what came back. Outcomes that got lost stay unknown, and an
unknown publish may be there or not, but always in one place. Calls that overlap a creation or deletion of the stream or
consumer they name belong to no life for certain; only what needs no life is judged of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from waymaker_core.configs import ConsumerConfig, DeliveryPolicy, Retention, StreamConfig
from waymaker_core.message import decode_body
from waymaker_sim.checks import require, violated
from waymaker_sim.naive_consumer import matches
from waymaker_sim.process import Got, Stamp

MS = 1_000_000
DLQ = "x-waymaker-dlq-"


class Attempt:
    """One message that a client tried to publish. `seq` is 0 until it has been seen somewhere."""

    __slots__ = (
        "number", "stream", "life", "subject", "body", "size", "expected", "born_ms", "asked_ns", "seq",
        "confirmed_ns", "refused",
    )  # fmt: skip

    def __init__(
        self, number: int, stream: str, life: Life | None, subject: str, body: bytes, size: int, expected: int,
        born_ms: int, asked_ns: int,
    ) -> None:  # fmt: skip
        self.number = number
        self.stream = stream
        self.life = life
        self.subject = subject
        self.body = body
        self.size = size
        """Payload, headers and subject: what statistics count."""
        self.expected = expected
        self.born_ms = born_ms
        """The least time that the message can have."""
        self.asked_ns = asked_ns
        self.seq = 0
        self.confirmed_ns = -1
        self.refused = False


class Letter:
    """One dead letter as it was seen."""

    __slots__ = ("group", "of_seq", "subject", "body", "size")

    def __init__(self, group: Group | None, of_seq: int, subject: str, body: bytes, size: int) -> None:
        self.group = group
        self.of_seq = of_seq
        self.subject = subject
        self.body = body
        self.size = size


@dataclass(slots=True)
class Hold:
    """A delivery that is out: to whom, in which life of the process, and until when for certain."""

    process_life: int
    until_ns: int
    free: bool = False


@dataclass(slots=True, eq=False)
class Group:
    """A queue group, or a consumer without one, through its life."""

    life: Life
    config: ConsumerConfig
    created_ns: int
    last_before: int = 0
    """The stream's last sequence that was known before it was asked for."""
    members: int = 0
    certain: bool = False
    """Whether its creation was confirmed."""
    leaving: bool = False
    """Whether the deletion of its last member is on its way."""
    ended: bool = False
    answered: set[int] = field(default_factory=set)
    """Sequences for which an ack or term was sent, whatever came of it."""
    termed: set[int] = field(default_factory=set)
    """Sequences for which a term was sent."""
    acked_ok: set[int] = field(default_factory=set)
    """Deliveries whose ack was confirmed: in a work queue they are gone."""
    done_ns: dict[int, int] = field(default_factory=dict)
    """When the confirmation of an ack or term left the node."""
    holds: dict[int, Hold] = field(default_factory=dict)
    counts: dict[int, set[int]] = field(default_factory=dict)
    """Delivery counts seen in the present life of the process."""
    counted_in: int = 0
    most: dict[int, int] = field(default_factory=dict)
    blind: bool = False
    """Whether deliveries may have been lost on their way, so that counts are not all known."""
    letters: dict[int, int] = field(default_factory=dict)
    floor: int = 0
    floor_ns: int = 0
    dropped: int = 0

    @property
    def start_known(self) -> int:
        """No message from here on was before the start for certain."""
        if self.config.policy is DeliveryPolicy.ALL:
            return 1
        return max(self.last_before + 1, self.config.start_seq)

    def same(self, config: ConsumerConfig) -> bool:
        """Whether a consumer of this configuration belongs to this group."""
        return bool(config.deliver_group) and config.deliver_group == self.config.deliver_group

    def free_all(self) -> None:
        """Nothing is certain to be held any longer."""
        for hold in self.holds.values():
            hold.free = True


class Life:
    """One life of a stream, as far as it can be known."""

    def __init__(self, name: str, number: int, config: StreamConfig) -> None:
        self.name = name
        self.number = number
        self.configs = [config]
        """Every configuration that was or may have been in force."""
        self.stream_id = 0
        self.ended = False
        self.at: dict[int, Attempt | Letter] = {}
        self.live: dict[int, Attempt] = {}
        """Confirmed and not known to be gone."""
        self.gone_ns: dict[int, int] = {}
        self.times: dict[int, int] = {}
        self.unplaced = 0
        """Attempts whose outcome is unknown and which nobody has seen yet."""
        self.last_seq = 0
        self.first_seq = 0
        self.groups: list[Group] = []
        self.lonely_until_ns = 1 << 62
        """The last moment at which there may have been no consumer (interest retention)."""
        self.damaged = False

    def end(self) -> None:
        """The stream is gone, with its consumers."""
        self.ended = True
        for group in self.groups:
            group.ended = True

    @property
    def config(self) -> StreamConfig:
        return self.configs[-1]

    def least(self, bound: str) -> int:
        """The tightest value that a bound ever had; 0: never bounded."""
        values = [value for config in self.configs if (value := getattr(config, bound))]
        return min(values, default=0)

    # ------------------------------------------------------------ seeing messages

    def see(self, ledger: Ledger, seq: int, time_ms: int, body: bytes, since_ns: int) -> Attempt | Letter:
        """A message was read or delivered; `since_ns` is the earliest moment at which that was decided."""
        known = self.at.get(seq)
        if known is not None:
            if known.body != body:
                violated("one history", f"{self.name} seq {seq} was {known.body[:60]!r} and is {body[:60]!r}")
            if self.times[seq] < 0:
                self.times[seq] = time_ms
            elif self.times[seq] != time_ms:
                violated("one history", f"{self.name} seq {seq} was of {self.times[seq]} ms and is of {time_ms} ms")
        else:
            known = self._place(ledger, seq, body)
            self.times[seq] = time_ms
        if self.gone_ns.get(seq, since_ns) < since_ns:
            violated("nothing returns", f"{self.name} seq {seq} was gone and is back")
        self.last_seq = max(self.last_seq, seq)
        return known

    def _place(self, ledger: Ledger, seq: int, body: bytes) -> Attempt | Letter:
        attempt = ledger.attempts.get(body)
        if attempt is None:
            letter = self._letter(ledger, seq, body)
            self.at[seq] = letter
            return letter
        if attempt.seq:
            violated("one history", f"{self.name} seq {seq} holds attempt {attempt.number}, already at {attempt.seq}")
        if attempt.stream != self.name or (attempt.life is not None and attempt.life is not self):
            violated("lives apart", f"{self.name} (life {self.number}) holds a message sent to another: {body[:60]!r}")
        if attempt.refused:
            violated("no confirmed failure", f"{self.name} seq {seq} holds what was refused: {body[:60]!r}")
        if attempt.life is self:
            self.unplaced -= 1
        attempt.life, attempt.seq = self, seq
        self.at[seq] = attempt
        return attempt

    def _letter(self, ledger: Ledger, seq: int, body: bytes) -> Letter:
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
        if original is not None:
            size = original.size - len(original.subject.encode()) + len(subject.encode())
        return Letter(group, of_seq, subject, body, size)

    # ------------------------------------------------------------ publishes

    def confirm(self, attempt: Attempt, seq: int, ledger: Ledger, now_ns: int) -> None:
        """A publish was answered `ok` with this sequence."""
        other = self.at.get(seq)
        if other is not None and other is not attempt:
            violated("one history", f"{self.name} seq {seq} was confirmed twice: {attempt.body[:60]!r}")
        if attempt.seq and attempt.seq != seq:
            violated("one history", f"attempt {attempt.number} was seen at {attempt.seq} and confirmed at {seq}")
        if other is None:
            self.at[seq] = attempt
            self.unplaced -= 1
            attempt.seq = seq
            self.times.setdefault(seq, -1)
        attempt.confirmed_ns = now_ns
        if seq not in self.gone_ns:
            self.live[seq] = attempt
        self.last_seq = max(self.last_seq, seq)

    # ------------------------------------------------------------ whether something may be gone

    def may_be_gone(self, seq: int, wall_max_ms: int) -> bool:
        """Whether any rule that was in force allows this message not to be there. Errs on the side of yes."""
        match self.config.retention:
            case Retention.WORK_QUEUE:
                if any(seq in group.answered or self._may_be_a_letter(group, seq) for group in self.groups):
                    return True
            case Retention.INTEREST:
                message = self.at[seq]
                if isinstance(message, Letter) or message.asked_ns <= self.lonely_until_ns:
                    return True
                if all(self.may_be_done(group, seq) for group in self.groups if not group.ended):
                    return True
            case Retention.LIMITS:
                if self._over_limits(seq, wall_max_ms):
                    return True
        keep = self.config.max_msgs_per_subject
        if keep:
            subject = self.at[seq].subject
            newer = sum(1 for other, m in self.at.items() if other > seq and m.subject == subject)
            return newer + self.unplaced + self._owed() >= keep
        return False

    def _owed(self) -> int:
        """Dead letters that may be there without having been seen."""
        return sum(1 << 30 for group in self.groups if group.config.dead_letter_subject)

    def _over_limits(self, seq: int, wall_max_ms: int) -> bool:
        age, most, room = self.least("max_age_ms"), self.least("max_msgs"), self.least("max_bytes")
        if age:
            time_ms, message = self.times[seq], self.at[seq]
            if time_ms < 0 and isinstance(message, Attempt):
                time_ms = message.born_ms
            if wall_max_ms - time_ms >= age:
                return True
        newer = self.last_seq - seq + max(0, self.unplaced) + self._owed()
        if most and newer >= most:
            return True
        if room:
            size = sum(message.size for other, message in self.at.items() if other >= seq)
            return size + self.unplaced * 100_000 + self._owed() > room
        return False

    def _may_be_a_letter(self, group: Group, seq: int) -> bool:
        return bool(group.config.dead_letter_subject) and self.may_be_dropped(group, seq)

    @staticmethod
    def may_be_dropped(group: Group, seq: int) -> bool:
        """Whether a group may have given a message up, so that a later ack of it has no effect."""
        return group.blind or seq in group.termed or group.most.get(seq, 0) >= group.config.max_deliver

    def may_be_done(self, group: Group, seq: int) -> bool:
        """Whether a group may have no further interest in a message."""
        message = self.at.get(seq)
        return (
            not group.certain
            or seq in group.answered
            or self.may_be_dropped(group, seq)
            or (message is not None and not matches(group.config.filter_subject, message.subject))
            or group.config.policy.value != 0
            or seq <= group.last_before
        )

    def missing(self, seqs: Iterable[int], asked_ns: int, now_ns: int, wall_max_ms: int) -> None:
        """These sequences were not there when they were looked for."""
        for seq in seqs:
            attempt = self.live.get(seq)
            if attempt is None or attempt.confirmed_ns > asked_ns:
                continue
            if not self.damaged and not self.may_be_gone(seq, wall_max_ms):
                violated("acked survives", f"{self.name} (life {self.number}) seq {seq} was confirmed and is not there")
            del self.live[seq]
            self.gone_ns[seq] = now_ns

    # ------------------------------------------------------------ deliveries

    def deliver(
        self, group: Group, got: list[Got], ledger: Ledger, asked_ns: int, stamp: Stamp, process_life: int
    ) -> None:
        """Messages came to a member. `asked_ns`: the earliest moment of the decision; `stamp`: when they left."""
        self._check_order(got)
        config = group.config
        if group.counted_in != process_life:
            group.counts.clear()
            group.counted_in = process_life
        for message in got:
            seq = message.seq
            seen = self.see(ledger, seq, message.time_ms, message.body, asked_ns)
            if group.done_ns.get(seq, asked_ns) < asked_ns:
                violated("no redelivery after ack", f"{self.name}/{config.name} seq {seq}: {message.delivery}. time")
            if not matches(config.filter_subject, seen.subject):
                violated("filter", f"{self.name}/{config.name}: {seen.subject} does not match {config.filter_subject}")
            self._check_holders(group, seq, stamp)
            self._check_count(group, message)
            until = asked_ns + config.ack_wait_ms * MS
            group.holds[seq] = Hold(process_life, until)

    def _check_order(self, got: list[Got]) -> None:
        """Two ascending runs at most, the second of which is new."""
        last, descents = 0, 0
        for message in got:
            if message.seq <= last:
                descents += 1
            if descents > 1 or (descents and message.delivery > 1):
                violated("in order", f"{self.name}: {[(m.seq, m.delivery) for m in got][:30]}")
            last = message.seq

    def _check_holders(self, group: Group, seq: int, stamp: Stamp) -> None:
        rivals = self.groups if self.config.retention is Retention.WORK_QUEUE else (group,)
        for rival in rivals:
            hold = rival.holds.get(seq)
            if hold is None or hold.free or rival.ended or hold.process_life != stamp.life:
                continue
            if stamp.time_ns < hold.until_ns:
                who = "itself" if rival is group else rival.config.name
                violated(
                    "one holder", f"{self.name}/{group.config.name} seq {seq} is out at {who} until {hold.until_ns}"
                )

    def _check_count(self, group: Group, message: Got) -> None:
        counts = group.counts.setdefault(message.seq, set())
        where = f"{self.name}/{group.config.name} seq {message.seq}: delivery {message.delivery}"
        require(message.delivery not in counts, "delivery count", f"{where} twice")
        require(1 <= message.delivery <= group.config.max_deliver, "delivery count", f"{where} out of range")
        counts.add(message.delivery)
        group.most[message.seq] = max(group.most.get(message.seq, 0), message.delivery)


class Ledger:
    """All lives, and every attempt by its body."""

    def __init__(self) -> None:
        self.attempts: dict[bytes, Attempt] = {}
        self.lives: list[Life] = []
        self.stream_ids: dict[int, Life] = {}

    def begin_life(self, name: str, config: StreamConfig) -> Life:
        """A stream may exist from now on."""
        life = Life(name, len(self.lives) + 1, config)
        self.lives.append(life)
        return life

    def attempt(
        self, stream: str, life: Life | None, subject: str, body: bytes, size: int, expected: int, born_ms: int,
        asked_ns: int,
    ) -> Attempt:  # fmt: skip
        """A client is about to publish."""
        number = len(self.attempts) + 1
        attempt = Attempt(number, stream, life, subject, body, size, expected, born_ms, asked_ns)
        assert body not in self.attempts, "every attempt needs a payload of its own"
        self.attempts[body] = attempt
        if life is not None:
            life.unplaced += 1
        return attempt

    def identify(self, life: Life, stream_id: int) -> None:
        """A life told its id."""
        if life.stream_id and life.stream_id != stream_id:
            violated("lives apart", f"{life.name} changed its id from {life.stream_id} to {stream_id}")
        owner = self.stream_ids.setdefault(stream_id, life)
        if owner is not life:
            violated("lives apart", f"id {stream_id} of {owner.name} (life {owner.number}) names {life.name} too")
        life.stream_id = stream_id

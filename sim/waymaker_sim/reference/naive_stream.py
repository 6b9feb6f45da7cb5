"""Streams of the naive broker: messages in a dictionary, retention as loops over all of them, dead letters that are owed."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

from waymaker_core.model.config import Retention, StreamConfig
from waymaker_core.model.message_codec import decode_body, readdress
from waymaker_sim.reference.naive_consumer import NaiveConsumer, NaiveGroup, matches, needed_by


@dataclass(slots=True)
class NaiveMessage:
    """A message; `size` counts what statistics count."""

    seq: int
    subject: str
    body: bytes
    size: int
    time_ms: int


@dataclass(slots=True)
class DeadLetter:
    """A copy that is owed and not stored yet."""

    members: tuple[str, ...]
    """Consumers that the dead letter may name: the members of the queue group that dropped it."""
    seq: int
    subject: str
    body: bytes
    size: int


class NaiveStream:
    """One incarnation of a stream."""

    def __init__(self, config: StreamConfig, created_ms: int, ahead_max_ms: int) -> None:
        self.config = config
        self.created_ms = created_ms
        self.messages: dict[int, NaiveMessage] = {}
        self.last_seq = 0
        self.server_ms = 0
        self.ahead_max_ms = ahead_max_ms
        """Milliseconds that `server_ms` may be ahead of the wall clock; past it, it is corrected."""
        self.corrections: list[tuple[int, int, int]] = []
        """The corrections: last sequence, the time from then on, the time before."""
        self.consumers: dict[str, NaiveConsumer] = {}
        self.owed: list[DeadLetter] = []
        self.excused: set[int] = set()
        """Sequences that exceeded exact limits at some moment, so that block-aligned ones may have dropped them."""

    # ------------------------------------------------------------ looking

    def live(self) -> Iterator[NaiveMessage]:
        """Yield messages by sequence (they are inserted in that order and never again)."""
        return iter(self.messages.values())

    def is_work_queue(self) -> bool:
        return self.config.retention is Retention.WORK_QUEUE

    def groups(self) -> list[NaiveGroup]:
        """Return each queue group once."""
        found: list[NaiveGroup] = []
        for name in sorted(self.consumers):
            group = self.consumers[name].group
            if not any(group is other for other in found):
                found.append(group)
        return found

    def accepts(self, subject: str) -> bool:
        return not self.config.subjects_filter or any(matches(p, subject) for p in self.config.subjects_filter)

    def at_subject(self, subject: str) -> list[NaiveMessage]:
        return [message for message in self.live() if message.subject == subject]

    def byte_count(self) -> int:
        return sum(message.size for message in self.live())

    def block_of(self, seq: int) -> int:
        return (seq - 1) // self.config.block_size

    def first_seq(self) -> int:
        return min(self.messages, default=self.last_seq + 1)

    # ------------------------------------------------------------ appending and dropping

    def append(self, subject: str, body: bytes, size: int, time_ms: int) -> int:
        """Store a message and drop those that it pushes out."""
        self.last_seq += 1
        self.messages[self.last_seq] = NaiveMessage(self.last_seq, subject, body, size, time_ms)
        keep = self.config.max_msgs_per_subject
        if keep:
            for message in self.at_subject(subject)[:-keep]:
                self.drop(message.seq)
        if self.is_loose():
            self.excused.update(self.over_limits())
        else:
            self.prune()
        return self.last_seq

    def step_id(self, wall_ms: int) -> int:
        """Return the server's time for the next message: never less than before, unless that was too far ahead."""
        self.check_clock(wall_ms)
        self.server_ms = max(self.server_ms, wall_ms)
        return self.server_ms

    def check_clock(self, wall_ms: int) -> None:
        """Correct server time if it is too far ahead."""
        if self.server_ms > wall_ms + self.ahead_max_ms:
            self.corrections.append((self.last_seq, wall_ms, self.server_ms))
            self.server_ms = wall_ms

    def is_old(self, message: NaiveMessage, wall_ms: int) -> bool:
        """Return True if age alone would remove a message."""
        age_ms = self.config.max_age_ms
        for last_seq, at_ms, was_ms in self.corrections:
            if message.seq <= last_seq and at_ms + age_ms <= wall_ms < was_ms:
                return True
        return wall_ms - message.time_ms >= age_ms

    def drop(self, seq: int) -> None:
        """Drop a message, for all groups."""
        del self.messages[seq]
        for group in self.groups():
            group.pending.pop(seq, None)

    def prune(self) -> None:
        """Apply count and byte limits exactly: remove the oldest."""
        for seq in self.over_limits():
            self.drop(seq)

    def over_limits(self) -> list[int]:
        """Return the sequences that exceed exact count and byte limits now."""
        going = list(self.messages)
        total = 0
        for count, seq in enumerate(reversed(list(self.messages)), start=1):
            total += self.messages[seq].size
            if (self.config.max_msgs and count > self.config.max_msgs) or 0 < self.config.max_bytes < total:
                break
            going.pop()
        return going

    def expire(self, wall_ms: int) -> None:
        """Apply age exactly: remove expired messages, but never a newer one at a subject while an older one stays."""
        if not self.config.max_age_ms:
            return
        if self.messages:
            self.check_clock(wall_ms)
        if self.corrections and 0 <= wall_ms - self.corrections[-1][2] < self.config.max_age_ms:
            return  # messages stored since may only seem old
        staying: set[str] = set()
        for message in list(self.live()):
            if self.is_old(message, wall_ms) and message.subject not in staying:
                self.drop(message.seq)
            else:
                staying.add(message.subject)

    def is_loose(self) -> bool:
        """Return True if limits work by the block, so that pruning is known only within bounds (`keep_only`)."""
        config = self.config
        bounded = bool(config.max_age_ms or config.max_msgs or config.max_bytes)
        return config.retention is Retention.LIMITS and bounded and not config.strict_limits

    def exactly_kept(self, wall_ms: int) -> set[int]:
        """Return the sequences that exact pruning would keep now; `excused` ones may be removed long since."""
        twin = deepcopy(self)
        twin.prune()
        twin.expire(wall_ms)
        return set(twin.messages)

    def keep_only(self, seqs: set[int]) -> None:
        """Keep only the messages that block-aligned limits kept on the real node."""
        for seq in list(self.messages):
            if seq not in seqs:
                self.drop(seq)

    def _whole_blocks(self, going: list[int]) -> list[int]:
        """Return those of the given sequences that are in blocks before the first one with something to keep."""
        leaving = set(going)
        kept = [self.block_of(seq) for seq in self.messages if seq not in leaving]
        first_kept = min(kept, default=self.block_of(self.last_seq) + 1 if self.last_seq else 0)
        return [seq for seq in going if self.block_of(seq) < first_kept]

    def without_interest(self) -> set[int]:
        """Return the sequences in the front blocks that every consumer is done with (interest retention)."""
        if self.config.retention is not Retention.INTEREST:
            return set()
        done = [m.seq for m in self.live() if not any(needed_by(c, m.seq, m.subject) for c in self.consumers.values())]
        return set(self._whole_blocks(done))

    # ------------------------------------------------------------ giving up

    def drop_exhausted(self, consumer: NaiveConsumer, seq: int) -> None:
        """Drop a message after its last attempt, and owe a dead letter if there is a subject for it."""
        group = consumer.group
        subject = consumer.config.dead_letter_subject
        message = self.messages[seq]
        own = bool(subject) and self._made_by(consumer, decode_body(message.body)[1])
        size = message.size - len(message.subject.encode()) + len(subject.encode())
        if subject and not own and not self._stays(subject, size):
            return  # and is tried again
        count = group.pending.pop(seq).count
        group.done.add(seq)
        group.dropped += 1
        if not subject or own:
            return
        added = [
            ("x-waymaker-dlq-stream", self.config.name),
            ("x-waymaker-dlq-seq", str(seq)),
            ("x-waymaker-dlq-subject", message.subject),
            ("x-waymaker-dlq-deliver-count", str(count)),
        ]
        self.owed.append(
            DeadLetter(
                tuple(group.members), seq, subject, readdress(message.body, subject, added, "x-waymaker-dlq-"), size
            )
        )
        if self.is_work_queue():
            self.drop(seq)

    def _stays(self, subject: str, size: int) -> bool:
        """Return True if a dead letter is still there once it is stored."""
        config = self.config
        if config.retention is Retention.INTEREST:
            return any(matches(each.config.filter_subject, subject) for each in self.consumers.values())
        return not (config.strict_limits and 0 < config.max_bytes < size)

    def _made_by(self, consumer: NaiveConsumer, headers: list[tuple[str, str]]) -> bool:
        """Return True if the consumer, or a member of its queue group at the time, dead-lettered it before, in this
        stream."""
        marks = dict(headers)
        makers: list[list[str]] = []
        for prefix in ("x-waymaker-dlq-", "x-waymaker-dlq-origin-"):
            names = [marks.get(prefix + key, "") for key in ("stream", "consumer", "group")]
            makers.append(names)
        for point in filter(None, marks.get("x-waymaker-dlq-via", "").split(", ")):
            makers.append([*point.replace("%2C", ",").replace("%25", "%").split("/", 2), ""][:3])
        return any(
            stream == self.config.name
            and (name in consumer.group.members or (group and group == consumer.config.deliver_group))
            for stream, name, group in makers
        )

    def place(self, letter: DeadLetter, body: bytes, time_ms: int) -> int:
        """Store a copy that was owed, with the body and time that the real node gave it."""
        self.owed.remove(letter)
        return self.append(letter.subject, body, letter.size, self.step_id(time_ms))

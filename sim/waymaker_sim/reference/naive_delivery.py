"""Deliveries of the naive broker: the rules, written down with sets and loops.

Obviously right before anything else: no cursor, no index, no heap. The messages that a group may get are computed anew from
all messages each time. It shares only the value classes with the core.
"""

from __future__ import annotations

from waymaker_sim.reference.naive_consumer import MS, DeliveredMessage, NaiveConsumer, NaiveGroup, Pending, matches
from waymaker_sim.reference.naive_stream import NaiveMessage, NaiveStream


def claimed_elsewhere(stream: NaiveStream, group: NaiveGroup, seq: int, now_ns: int) -> bool:
    """Return True if another group of a work queue has the claim to this message."""
    if not stream.is_work_queue():
        return False
    for other in stream.groups():
        if other is not group and seq in other.pending:
            held = other.pending[seq]
            if held.claimed and held.due_ns > now_ns:
                return True
    return False


def due_again(stream: NaiveStream, group: NaiveGroup, now_ns: int) -> list[int]:
    """Return the deliveries to repeat now, by sequence."""
    return [
        seq
        for seq in sorted(group.pending)
        if group.pending[seq].due_ns <= now_ns
        and group.pending[seq].count < group.max_deliver
        and not claimed_elsewhere(stream, group, seq, now_ns)
    ]


def unseen(stream: NaiveStream, group: NaiveGroup, pattern: str) -> list[NaiveMessage]:
    """Return messages that were never delivered to the group, claimed ones included."""
    return [
        message
        for message in stream.live()
        if message.seq >= group.start
        and message.seq not in group.done
        and message.seq not in group.pending
        and matches(pattern, message.subject)
    ]


def eligible(stream: NaiveStream, consumer: NaiveConsumer, now_ns: int, pending_max: int) -> list[int]:
    """Return every sequence that could be delivered now, in the order of delivery: due ones first, then new ones."""
    group = consumer.group
    new = [
        message.seq
        for message in unseen(stream, group, consumer.config.filter_subject)
        if not claimed_elsewhere(stream, group, message.seq, now_ns)
    ]
    return due_again(stream, group, now_ns) + new[: max(0, pending_max - len(group.pending))]


def deliver(stream: NaiveStream, consumer: NaiveConsumer, seq: int, now_ns: int) -> DeliveredMessage:
    """Deliver one message to a consumer."""
    group = consumer.group
    before = group.pending.get(seq)
    count = before.count + 1 if before else 1
    group.pending[seq] = Pending(count, now_ns + consumer.config.ack_wait_ms * MS, consumer.config.name)
    group.considered = max(group.considered, seq)
    group.last_delivered = max(group.last_delivered, seq)
    message = stream.messages[seq]
    return DeliveredMessage(seq, message.time_ms, count, message.body)


def take(
    stream: NaiveStream, consumer: NaiveConsumer, wanted: int, byte_max: int, now_ns: int, pending_max: int
) -> list[DeliveredMessage]:
    """Deliver the messages of a fetch."""
    group = consumer.group
    candidates = eligible(stream, consumer, now_ns, pending_max)
    taken: list[DeliveredMessage] = []
    size = 0
    for seq in candidates[:wanted]:
        length = len(stream.messages[seq].body)
        if taken and size + length > byte_max:
            break
        size += length
        taken.append(deliver(stream, consumer, seq, now_ns))
    if len(taken) == len(candidates) and len(taken) < wanted and len(group.pending) < pending_max:
        group.considered = max(group.considered, stream.last_seq)
    return taken


def unfinished(stream: NaiveStream, consumer: NaiveConsumer) -> list[int]:
    """Return matching messages that hold the floor back: pending, or skipped because another group had the claim."""
    group = consumer.group
    passed = [m.seq for m in unseen(stream, group, consumer.config.filter_subject) if m.seq <= group.considered]
    return sorted([*group.pending, *passed])


def floor_of(stream: NaiveStream, consumer: NaiveConsumer) -> int:
    """Return the sequence up to which every matching message is acked, termed or dropped."""
    group = consumer.group
    waiting = unfinished(stream, consumer)
    group.floor = max(group.floor, waiting[0] - 1 if waiting else group.considered)
    return group.floor

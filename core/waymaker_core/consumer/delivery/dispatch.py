"""Dispatch: choosing what a group delivers next, in two halves, so that an index which is not resident changes nothing.

The first half looks everything up, which may raise `NeedBlocks`; the second changes everything, which cannot fail. Due
redeliveries come first, by sequence; then what was skipped and is not claimed any more; then what is new. The bytes of an
answer are bounded, but for its first message.
"""

from __future__ import annotations

from waymaker_core.api.requests import Messages, Run
from waymaker_core.consumer.group import Group
from waymaker_core.consumer.pending.states import Event
from waymaker_core.consumer.sequences import ones, positions
from waymaker_core.consumer.work_queue.claims import Claims
from waymaker_core.model.limits import U64_MAX
from waymaker_core.stream import reads
from waymaker_core.stream.answers import MESSAGE_OVERHEAD_BYTES
from waymaker_core.stream.stream import Stream

_LOOK_AHEAD_MAX = 256
"""Messages that a search is asked for at most, beyond the room, where others before them had to be skipped."""


def dispatch(
    group: Group, stream: Stream, member: int, now_ns: int, max_messages: int, byte_max: int, pending_max: int
) -> Messages | None:
    """Deliver to a member. Return None where there is nothing to deliver now. Raises `NeedBlocks` before any change."""
    held = group.claims.claimed if group.claims is not None else None
    due = group.pending.due.first(max_messages, held) if group.pending.due else []
    again: Messages | None = None
    if due:
        whole = reads.messages_at(stream, due, _next_counts(group, due))
        assert whole.count == len(due), "what left the stream is not out"
        again = within(whole, byte_max)
        bytes_left = byte_max - again.byte_count if again.count == len(due) else 0
        del due[again.count :]
    else:
        bytes_left = byte_max
    room = min(max_messages - len(due), pending_max - group.pending.total)
    fresh: Messages | None = None
    if room > 0 and bytes_left > 0:
        if held is None and not group.acked_ahead and not group.skipped:
            fresh = _dispatch_new(group, stream, member, now_ns, room, bytes_left, not due)
        else:
            fresh = _dispatch_around(group, stream, member, now_ns, room, bytes_left, not due)
    # Nothing below can fail.
    if due:
        _redeliver(group, due, member, now_ns)
    if group.claims is not None:
        count = len(due) + (fresh.count if fresh is not None else 0)
        # Until a claim ends, another dispatch would find the same claimed messages: `has_work` compares the serial.
        if count < max_messages and not _anything_free(group, group.claims):
            group.idle_serial = group.claims.serial
    return _joined(again, fresh)


def _anything_free(group: Group, claims: Claims) -> bool:
    """Return True if a message that is due or skipped has no claim on it."""
    return bool(group.pending.due.first(1, claims.claimed) or group.skipped.first(1, claims.claimed))


def _next_counts(group: Group, due: list[int]) -> list[int]:
    """Return the delivery count that each due message has once it is dispatched."""
    parts = group.pending.find_parts(due)
    counts = {batch.deliver_count: True for batch, _ in parts}
    if len(counts) == 1:
        return [parts[0][0].deliver_count + 1] * len(due)
    of_seq = {seq: batch.deliver_count + 1 for batch, mask in parts for seq in batch.seqs_of(mask)}
    return [of_seq[seq] for seq in due]


def _redeliver(group: Group, due: list[int], member: int, now_ns: int) -> None:
    parts = group.pending.happen(
        group.pending.find_parts(due),
        Event.DISPATCHED,
        now_ns + group.ack_wait_ns,
        member,
        dispatch_id=group.dispatches,
    )
    group.last_delivered = max(group.last_delivered, due[-1])
    if group.claims is not None:
        group.claims.claim(parts)


def _dispatch_new(
    group: Group, stream: Stream, member: int, now_ns: int, room: int, byte_max: int, at_least_one: bool
) -> Messages | None:
    """Dispatch messages from the cursor on, with no claims to respect."""
    selection = reads.select(stream, group.cursor, group.pattern, room, byte_max)
    ranges = selection.ranges
    if not ranges or (selection.byte_count > byte_max and not at_least_one):
        if not ranges:
            # Everything was scanned; a start beyond the end is waited for.
            group.cursor = max(group.cursor, stream.last_seq + 1)
        return None
    messages = reads.messages_in(stream, ranges, 1)
    deadline_ns = now_ns + group.ack_wait_ns
    if len(ranges) == 1:
        group.pending.add_range(ranges[0][0], ranges[0][1], member, 1, deadline_ns, group.dispatches)
    else:
        group.pending.add(_listed(ranges), member, 1, deadline_ns, group.dispatches)
    # Never beyond the end: what is published next was not scanned.
    group.cursor = min(selection.next_seq, stream.last_seq + 1)
    group.last_delivered = max(group.last_delivered, ranges[-1][1])
    return messages


def _dispatch_around(
    group: Group, stream: Stream, member: int, now_ns: int, room: int, byte_max: int, at_least_one: bool
) -> Messages | None:
    """Dispatch skipped messages without a claim, then new ones, around what is claimed or acked ahead."""
    held = group.claims.claimed if group.claims is not None else None
    back = group.skipped.first(room, held) if group.skipped else []
    chosen = list(back)
    skipped: list[int] = []
    cursor = group.cursor
    # At first no more than there is room for: what a search finds beyond it, the next delivery has to find again.
    count_max = room - len(chosen)
    while len(chosen) < room and cursor <= stream.last_seq:
        selection = reads.select(stream, cursor, group.pattern, count_max, U64_MAX)
        count_max = max(count_max, min(2 * count_max, _LOOK_AHEAD_MAX))
        for first, last in selection.ranges:
            count = last - first + 1
            wanted = ones(count) & ~group.acked_ahead.mask_of(first, count)
            blocked = held.mask_of(first, count) & wanted if held is not None else 0
            chosen.extend([first + index for index in positions(wanted & ~blocked)])
            if blocked:
                skipped.extend([first + index for index in positions(blocked)])
        cursor = min(selection.next_seq, stream.last_seq + 1)
    full = len(chosen) >= room
    del chosen[room:]
    messages: Messages | None = None
    if chosen:
        whole = reads.messages_at(stream, chosen, [1] * len(chosen))
        assert whole.count == len(chosen), "what is selected is live"
        messages = within(whole, byte_max)
        if messages.count == 1 and messages.byte_count > byte_max and not at_least_one:
            messages = Messages([], 0, 0)
        full = full or messages.count < len(chosen)
        del chosen[messages.count :]
    if full:
        # Scanned is what was chosen, and not what lies behind it.
        cursor = max(group.cursor, chosen[-1] + 1) if chosen else group.cursor
    _note_scanned(group, cursor, skipped)
    if not chosen or messages is None:
        return None
    for seq in back[: len(chosen)]:
        group.skipped.discard(seq)
    _dispatch_chosen(group, chosen, member, now_ns)
    return messages


def _note_scanned(group: Group, cursor: int, skipped: list[int]) -> None:
    """Move the cursor on, past messages that other groups have claimed."""
    group.cursor = max(group.cursor, cursor)
    for seq in skipped:
        if seq < group.cursor:
            group.skipped.add(seq)
            group.unlogged_skipped.append(seq)
            assert group.claims is not None
            group.claims.contended.add(seq)
    if group.acked_ahead:
        group.acked_ahead.drop_below(group.cursor)


def _dispatch_chosen(group: Group, chosen: list[int], member: int, now_ns: int) -> None:
    group.pending.add(chosen, member, 1, now_ns + group.ack_wait_ns, group.dispatches)
    group.last_delivered = max(group.last_delivered, chosen[-1])
    if group.claims is not None:
        group.claims.claimed.add_all(chosen)


def _listed(ranges: list[tuple[int, int]]) -> list[int]:
    seqs: list[int] = []
    for first, last in ranges:
        if first == last:
            seqs.append(first)
        else:
            seqs.extend(range(first, last + 1))
    return seqs


def _joined(again: Messages | None, fresh: Messages | None) -> Messages | None:
    if again is None:
        return fresh
    if fresh is None:
        return again
    return Messages(again.runs + fresh.runs, again.count + fresh.count, again.byte_count + fresh.byte_count)


def within(messages: Messages, byte_max: int) -> Messages:
    """Return as many of the first messages as fit into `byte_max`, but at least one."""
    if messages.byte_count <= byte_max or messages.count <= 1:
        return messages
    runs: list[Run] = []
    count = byte_count = 0
    for run in messages.runs:
        fits = 0
        for length in run.lengths:
            cost = length + MESSAGE_OVERHEAD_BYTES
            if count and byte_count + cost > byte_max:
                break
            byte_count += cost
            count += 1
            fits += 1
        if fits == len(run.lengths):
            runs.append(run)
            continue
        if fits:
            runs.append(run.head(fits))
        break
    return Messages(runs, count, byte_count)

"""The soft state of a group as records, and back: what was pending when the server stopped is pending when it starts again.

A lazy record lists what is pending and not logged yet, and then says how far the group has scanned the stream. It is
made when it is appended to the log, so everything decided before it stands before it: what a staged ack took is
not listed, and what is listed is settled only by later records. Replaying is putting what is listed, then moving the
cursor. A record that was never written loses deliveries of which only the clients know; the messages go out again.

A record of a nak or an in-progress lists what that changed and moves nothing. Deadlines are wall-clock times, for the
monotonic clock begins anew with each start of the machine.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from waymaker_core.consumer.group import Group
from waymaker_core.consumer.pending.batch import Batch, Part
from waymaker_core.consumer.pending.pending import NS_PER_MS
from waymaker_core.consumer.pending.states import State
from waymaker_core.model.records import AckRecord, DeliveredRecord, Listed, StreamRecord
from waymaker_core.model.types import Now

ENTRIES_MAX = 16_384
"""Messages that one record lists at most, about."""


def has_unlogged(group: Group) -> bool:
    """Return True if `delivered_records` would make any."""
    return (
        group.cursor != group.logged_cursor
        or group.uncertain_to != group.logged_uncertain_to
        or bool(group.unlogged_skipped)
        or group.pending.has_unlogged()
    )


def begin(group: Group, *, suspended: bool) -> None:
    """Begin to note what is not logged: nothing of what came from the log; of suspended consumers, all that they had.

    Records that listed it may have been decided and never committed.
    """
    if suspended:
        group.pending.log_anew()
        group.logged_cursor, group.logged_uncertain_to = 1, -1
        group.unlogged_skipped = group.skipped.to_list()
    else:
        group.pending.take_unlogged()
        group.logged_cursor = group.cursor
        group.unlogged_skipped = []


def delivered_records(group: Group, members: list[int], now: Now) -> list[DeliveredRecord]:
    """Return records of what is not logged yet. `members`: ids of the surviving members, at least one."""
    if not has_unlogged(group):
        return []
    listed: dict[int, Listing] = {member: Listing() for member in members}
    anyone = listed[members[0]]
    anyone.add_skipped([seq for seq in group.unlogged_skipped if seq in group.skipped])
    group.unlogged_skipped = []
    for batch in group.pending.take_unlogged():
        # What a deleted member had is listed with any member.
        listed.get(batch.member, anyone).add_entries(*listed_of(batch, batch.bits, now))
    records: list[DeliveredRecord] = []
    scanned_to = group.logged_cursor - 1
    for member in members:
        records.extend(_record(group, member, scanned_to, piece) for piece in listed[member].pieces())
    if not records:
        records.append(_record(group, members[0], scanned_to, []))
    # Only the last one moves the cursor: whatever of them survives, nothing is passed over unlisted.
    records[-1].scanned_to = group.cursor - 1
    group.logged_cursor = group.cursor
    group.logged_uncertain_to = group.uncertain_to
    return records


def changed_record(group: Group, consumer_id: int, changed: list[Part], now: Now) -> DeliveredRecord:
    """Return the record of what a nak or an in-progress changed: whole batches, which are logged with it."""
    for batch, mask in changed:
        assert batch.bits == mask
        batch.logged = True
    entries = [entry for batch, mask in changed for entry in listed_of(batch, mask, now)]
    return DeliveredRecord(consumer_id, 0, 0, 0, 0, entries)


def listed_of(batch: Batch, mask: int, now: Now | None) -> list[Listed]:
    """Return entries of a record for some messages of a batch; without a time, as the record that they came from had it.

    A message that no reader reported has the count that it had before, and is due at once: a server that was started again has
    none of the sessions that could report it.
    """
    if now is None:
        seqs = array("Q", batch.seqs_of(mask))
        return [Listed(batch.deliver_count, seqs, batch.deadline_ms, batch.rest_ms, batch.claiming)]
    entries: list[Listed] = []
    never, reached = mask & batch.unreported, mask & ~batch.unreported
    if reached:
        deadline_ms, rest_ms = wall_deadline(batch, now)
        seqs = array("Q", batch.seqs_of(reached))
        entries.append(Listed(batch.deliver_count, seqs, deadline_ms, rest_ms, batch.claiming))
    if never:
        seqs = array("Q", batch.seqs_of(never))
        entries.append(Listed(batch.deliver_count - 1, seqs, max(1, now.wall_ms), 0, False))
    return entries


def wall_deadline(batch: Batch, now: Now) -> tuple[int, int]:
    """Return when a batch is due by the wall clock, and how far off that is; both rounded up, so that nothing is due early."""
    rest_ns = max(0, batch.deadline_ns - now.mono_ns) if batch.state is State.WAITING else 0
    rest_ms = -(-rest_ns // NS_PER_MS)
    return max(1, now.wall_ms + rest_ms), rest_ms


@dataclass(slots=True, eq=False)
class Listing:
    """Entries of what is pending at one member."""

    entries: list[Listed] = field(default_factory=list)

    def add_entries(self, *entries: Listed) -> None:
        """Add messages of one batch."""
        self.entries.extend(entries)

    def add_skipped(self, seqs: list[int]) -> None:
        """Add messages that the group skipped, in any order, repeats allowed."""
        column = array("Q", sorted(dict.fromkeys(seqs)))
        self.entries += [Listed(0, column[start : start + ENTRIES_MAX]) for start in range(0, len(column), ENTRIES_MAX)]

    def pieces(self) -> Iterator[list[Listed]]:
        """Yield the entries, parted to the size of a record."""
        piece: list[Listed] = []
        count = 0
        for entry in self.entries:
            if piece and count + len(entry.seqs) > ENTRIES_MAX:
                yield piece
                piece, count = [], 0
            piece.append(entry)
            count += len(entry.seqs)
        if piece:
            yield piece


def _record(group: Group, member: int, scanned_to: int, entries: list[Listed]) -> DeliveredRecord:
    return DeliveredRecord(member, scanned_to, group.last_delivered, group.dropped, group.uncertain_to, entries)


def whole(group: Group, new_ids: dict[int, int]) -> list[StreamRecord]:
    """Return records that make another log know this group as it is before `resume`, its members under new ids."""
    first = new_ids[min(new_ids)]
    listed: dict[int, Listing] = {entry: Listing() for entry in new_ids.values()}
    for batch in group.pending.batches():
        listed[new_ids.get(batch.member, first)].add_entries(*listed_of(batch, batch.bits, None))
    listed[first].add_skipped(group.skipped.to_list())
    scanned_to = group.cursor - 1
    records: list[StreamRecord] = [
        _record(group, entry, scanned_to, piece) for entry, listing in listed.items() for piece in listing.pieces()
    ]
    records.append(_record(group, first, scanned_to, []))
    if group.acked_ahead:
        records.append(AckRecord(first, False, array("Q", group.acked_ahead.to_list())))
    return records


def replay_delivered(group: Group, record: DeliveredRecord) -> None:
    """Apply what a record lists, before `resume`."""
    for entry in record.listed:
        if entry.deliver_count or entry.deadline_ms:
            put_out(group, entry, record.consumer_id)
        else:
            for seq in entry.seqs:
                if seq not in group.pending:
                    group.skipped.add(seq)
    group.cursor = max(group.cursor, record.scanned_to + 1)
    group.last_delivered = max(group.last_delivered, record.last_delivered)
    group.dropped = max(group.dropped, record.dropped)
    group.uncertain_to = max(group.uncertain_to, record.uncertain_to)
    group.logged_uncertain_to = group.uncertain_to
    group.acked_ahead.drop_below(group.cursor)


def put_out(group: Group, entry: Listed, member: int) -> None:
    """Make messages pending as an entry says, whatever they were; a count never decreases."""
    seqs = entry.seqs.tolist()
    known = group.pending.find_parts(seqs)
    if known:
        newer = {
            seq: True
            for batch, mask in known
            if batch.deliver_count > entry.deliver_count
            for seq in batch.seqs_of(mask)
        }
        group.pending.remove([part for part in known if part[0].deliver_count <= entry.deliver_count])
        seqs = [seq for seq in seqs if seq not in newer]
    for batch in group.pending.add(seqs, member, entry.deliver_count, 0):
        batch.deadline_ms, batch.rest_ms, batch.claiming = entry.deadline_ms, entry.rest_ms, entry.holding
    if group.skipped:
        for seq in seqs:
            group.skipped.discard(seq)

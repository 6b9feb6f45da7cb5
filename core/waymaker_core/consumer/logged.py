"""The soft state of a group as records, and back: what was out when the server stopped is out when it starts again.

A record lists what is out and no record tells of yet, and then says how far the group has considered the stream. It is
made when it is appended to the log, so everything decided before it stands before it: what a staged ack took is
not listed, and what is listed is settled only by later records. Replaying is putting what is listed, then moving the
cursor. A record that was never written loses deliveries of which only the clients know; the messages go out again.
"""

from __future__ import annotations

from array import array

from waymaker_core.consumer.group import Group
from waymaker_core.records import AckRecord, DeliveredRecord, StreamRecord

ENTRIES_MAX = 16_384
"""Messages one record lists at most, about."""


def has_unlogged(group: Group) -> bool:
    """Whether `delivered_records` would make any."""
    return group.cursor != group.logged_cursor or bool(group.unlogged_passed) or group.pending.has_unlogged()


def delivered_records(group: Group, members: list[int]) -> list[DeliveredRecord]:
    """What no record tells of yet. `members`: those that no decided deletion ends; there is one at least."""
    if not has_unlogged(group):
        return []
    listed: dict[int, Listing] = {member: Listing() for member in members}
    anyone = listed[members[0]]
    anyone.add([seq for seq in group.unlogged_passed if seq in group.passed], 0)
    group.unlogged_passed = []
    for batch in group.pending.take_unlogged():
        # What a member had that is gone by now is anyone's.
        listed.get(batch.member, anyone).add(batch.seqs_of(batch.bits), batch.deliver_count)
    records: list[DeliveredRecord] = []
    considered = group.logged_cursor - 1
    for member in members:
        records.extend(
            DeliveredRecord(member, considered, group.last_delivered, group.dropped, seqs, counts)
            for seqs, counts in listed[member].pieces()
        )
    if not records:
        records.append(_moved(group, members[0], considered))
    # Only the last one moves the cursor: whatever of them survives, nothing is passed over unlisted.
    records[-1].considered = group.cursor - 1
    group.logged_cursor = group.cursor
    return records


class Listing:
    """Columns of what is out at one member."""

    __slots__ = ("seqs", "counts")

    def __init__(self) -> None:
        self.seqs = array("Q")
        self.counts = array("I")

    def add(self, seqs: list[int], count: int) -> None:
        """Messages with one delivery count."""
        self.seqs.extend(seqs)
        self.counts.extend(array("I", [count]) * len(seqs))

    def pieces(self) -> list[tuple[array[int], array[int]]]:
        """The columns, cut to the size of a record."""
        return [
            (self.seqs[start : start + ENTRIES_MAX], self.counts[start : start + ENTRIES_MAX])
            for start in range(0, len(self.seqs), ENTRIES_MAX)
        ]


def _moved(group: Group, member: int, considered: int) -> DeliveredRecord:
    """A record that lists nothing."""
    return DeliveredRecord(member, considered, group.last_delivered, group.dropped, array("Q"), array("I"))


def whole(group: Group, lives: dict[int, int]) -> list[StreamRecord]:
    """Records that make another log know this group as it stands, its members under new lives."""
    first = lives[min(lives)]
    listed: dict[int, Listing] = {life: Listing() for life in lives.values()}
    for batch in group.pending.batches():
        listed[lives.get(batch.member, first)].add(batch.seqs_of(batch.bits), batch.deliver_count)
    listed[first].add(group.passed.to_list(), 0)
    considered = group.cursor - 1
    records: list[StreamRecord] = [
        DeliveredRecord(life, considered, group.last_delivered, group.dropped, seqs, counts)
        for life, listing in listed.items()
        for seqs, counts in listing.pieces()
    ]
    records.append(_moved(group, first, considered))
    if group.ahead:
        records.append(AckRecord(first, False, array("Q", group.ahead.to_list())))
    return records


def replay_delivered(group: Group, record: DeliveredRecord) -> None:
    """Put what a record lists, before `resume`."""
    by_count: dict[int, list[int]] = {}
    for seq, count in zip(record.seqs, record.counts, strict=True):
        by_count.setdefault(count, []).append(seq)
    for count, seqs in sorted(by_count.items()):
        seqs.sort()
        if count:
            put_out(group, seqs, record.consumer_id, count)
        else:
            for seq in seqs:
                if seq not in group.pending:
                    group.passed.add(seq)
    group.cursor = max(group.cursor, record.considered + 1)
    group.last_delivered = max(group.last_delivered, record.last_delivered)
    group.dropped = max(group.dropped, record.dropped)
    group.ahead.drop_below(group.cursor)


def put_out(group: Group, seqs: list[int], member: int, deliver_count: int) -> None:
    """Ascending sequences are out with this count, whatever they were; a count never goes back."""
    known = group.pending.find(seqs)
    if known:
        newer = {
            seq: True for batch, mask in known if batch.deliver_count > deliver_count for seq in batch.seqs_of(mask)
        }
        group.pending.remove([part for part in known if part[0].deliver_count <= deliver_count])
        seqs = [seq for seq in seqs if seq not in newer]
    group.pending.add(seqs, member, deliver_count, 0)
    if group.passed:
        for seq in seqs:
            group.passed.discard(seq)

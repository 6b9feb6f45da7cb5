"""The state of all consumers of a stream as plain values for CBOR, and back.

A snapshot is taken at the stream's last applied record. What is staged is therefore still pending in it: the records that
settle it follow in the log. Soft state is in it as it is, ahead of the log if need be: replaying older delivery records
on top of it changes nothing.

Layout: `[4, [group, ...], next id]`; a group is `[id, considered, last delivered, dropped, members, out, passed, ahead,
uncertain to]`, a member `[id, created, config fields...]`, an entry of `out` `[member, deliver count, deadline, rest,
holding, first, bitmap]` or `[member, deliver count, deadline, rest, holding, sequences]` (see `records.Listed`). Sets of
sequences are 64-bit little-endian columns or bitmaps from the lowest bit.

Version 3 had no next id: ids came from a counter of the whole node. Version 2 had no inactivity timeout at the end of a
member. Version 1 had no `uncertain to`, and no deadline, rest and holding, either.
"""

from __future__ import annotations

import struct
from array import array
from itertools import pairwise

from waymaker_core.consumer.delivery.delivery_log import put_out, wall_deadline
from waymaker_core.consumer.group import Group, Member
from waymaker_core.consumer.pending.batch import Part
from waymaker_core.consumer.sequences import positions
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy
from waymaker_core.model.limits import U64_MAX
from waymaker_core.model.records import Listed
from waymaker_core.model.types import Now

VERSION = 4


def of_groups(groups: list[Group], next_id: int, now: Now | None) -> object:
    """Encode these groups, in the order of their ids, and the id of the next consumer."""
    return [VERSION, [_of_group(group, now) for group in groups], next_id]


def _of_group(group: Group, now: Now | None) -> list[object]:
    parts: list[Part] = []
    for batch in group.pending.batches():
        parts += [(batch, part) for part in (batch.bits & ~batch.unreported, batch.unreported) if part]
    skipped = group.skipped.to_list()
    for entry in group.staged.entries():
        parts.extend(entry.parts)
        skipped.extend(seq for seq in entry.unknown_acks if seq < group.cursor)
    staged_ahead = {seq: True for entry in group.staged.entries() for seq in entry.unknown_acks}
    # Pending messages beyond the cursor are ahead of it too, and not done.
    ahead = [seq for seq in group.acked_ahead.to_list() if seq not in staged_ahead and seq not in group.pending]
    members: list[object] = [[key, *_of_member(member)] for key, member in sorted(group.members.items())]
    out: list[object] = [_of_part(part, now) for part in parts]
    return [
        group.id, group.cursor - 1, group.last_delivered, group.dropped, members, out, _column(sorted(skipped)),
        _column(ahead), group.uncertain_to,
    ]  # fmt: skip


def _of_member(member: Member) -> list[object]:
    config = member.config
    return [
        member.created_ms, config.name, config.filter_subject, config.policy.value, config.start_seq,
        config.start_time_ms, config.ack_wait_ms, config.max_deliver, config.deliver_group, config.dead_letter_subject,
        config.inactive_ms,
    ]  # fmt: skip


def _of_part(part: Part, now: Now | None) -> list[object]:
    batch, mask = part
    if now is None:  # before `resume`: as the record that it came from had it
        deadline_ms, rest_ms = batch.deadline_ms, batch.rest_ms
    else:
        deadline_ms, rest_ms = wall_deadline(batch, now)
    fields: list[object] = [batch.member, batch.deliver_count, deadline_ms, rest_ms, batch.claiming]
    if now is not None and mask & batch.unreported:
        # As in a record: see `logged.listed_of`.
        fields = [batch.member, batch.deliver_count - 1, max(1, now.wall_ms), 0, False]
    if batch.seqs is not None:
        return [*fields, _column(batch.seqs_of(mask))]
    low = (mask & -mask).bit_length() - 1
    bits = mask >> low
    return [*fields, batch.first + low, bits.to_bytes((bits.bit_length() + 7) // 8, "little")]


def _column(seqs: list[int]) -> bytes:
    return struct.pack(f"<{len(seqs)}Q", *seqs)


# ---------------------------------------------------------------- and back


def to_groups(snapshot: object) -> list[Group]:
    """Decode the groups of a snapshot. ValueError where it is none."""
    return decode(snapshot)[0]


def decode(snapshot: object) -> tuple[list[Group], int]:
    """Decode the groups of a snapshot, and the id of the next consumer (0: it does not say). ValueError where it is none."""
    try:
        version, encoded, *newer = _items(snapshot)
        if version not in (1, 2, 3, VERSION):
            raise ValueError(f"version {version!r} of a consumers' snapshot is not known here")
        if len(newer) != (version == VERSION):
            raise ValueError("a list of a consumers' snapshot has another shape")
        groups = [_to_group(group, _int(version)) for group in _items(encoded)]
        next_id = _int(newer[0]) if newer else 0
        if newer and not max([0, *(each for group in groups for each in group.members)]) < next_id <= U64_MAX:
            raise ValueError(f"{next_id} cannot be the id of the next consumer")
        return groups, next_id
    except (struct.error, AssertionError, LookupError, OverflowError) as error:
        raise ValueError(f"not a consumers' snapshot: {error}") from error


def _to_group(value: object, version: int) -> Group:
    fields = _items(value, 8 if version == 1 else 9)
    id_, scanned_to, last_delivered, dropped, members, out, skipped, ahead = fields[:8]
    decoded = [_to_member(member, version) for member in _items(members)]
    if not decoded:
        raise ValueError("a queue group without members")
    group = Group(_int(id_), decoded[0][1].config, _int(scanned_to) + 1)
    group.members.update(decoded)
    group.last_delivered = _int(last_delivered)
    group.dropped = _int(dropped)
    group.uncertain_to = group.logged_uncertain_to = 0 if version == 1 else _int(fields[8])
    for each in _items(out):
        member, entry = _to_listed(_items(each), version)
        if entry.seqs:
            put_out(group, entry, member)
    for seq in _to_column(skipped):
        if seq not in group.pending:
            group.skipped.add(seq)
    for seq in _to_column(ahead):
        if seq not in group.pending:
            group.acked_ahead.add(seq)
    # The snapshot has logged all of it; what is not in it comes later.
    group.pending.take_unlogged()
    return group


def _to_listed(fields: list[object], version: int) -> tuple[int, Listed]:
    """Decode an entry of `out` and the member that has it."""
    member, deliver_count, *rest = fields
    entry = Listed(_int(deliver_count), array("Q"))
    if version > 1:
        deadline_ms, rest_ms, holding, *rest = rest
        entry.deadline_ms, entry.rest_ms, entry.holding = _int(deadline_ms), _int(rest_ms), _flag(holding)
    if len(rest) == 2:
        first, bits = _int(rest[0]), int.from_bytes(_bytes(rest[1]), "little")
        entry.seqs = array("Q", [first + index for index in positions(bits)])
    else:
        (column,) = rest
        entry.seqs = array("Q", _to_column(column))
    return _int(member), entry


def _to_member(value: object, version: int) -> tuple[int, Member]:
    (
        id_, created_ms, name, filter_subject, policy, start_seq, start_time_ms, ack_wait_ms, max_deliver, deliver_group,
        dead_letter_subject, *newer,
    ) = _items(value, 11 if version < 3 else 12)  # fmt: skip
    config = ConsumerConfig(
        name=_text(name),
        filter_subject=_text(filter_subject),
        policy=DeliveryPolicy(_int(policy)),
        start_seq=_int(start_seq),
        start_time_ms=_int(start_time_ms),
        ack_wait_ms=_int(ack_wait_ms),
        max_deliver=_int(max_deliver),
        deliver_group=_text(deliver_group),
        dead_letter_subject=_text(dead_letter_subject),
        inactive_ms=_int(newer[0]) if newer else 0,
    )
    return _int(id_), Member(config, _int(created_ms))


def _to_column(value: object) -> list[int]:
    raw = _bytes(value)
    column = array("Q")
    if len(raw) % 8:
        raise ValueError("a column of sequences is cut short")
    column.extend(struct.unpack(f"<{len(raw) // 8}Q", raw))
    seqs = column.tolist()
    if any(left >= right for left, right in pairwise(seqs)):
        raise ValueError("a column of sequences does not ascend")
    return seqs


def _items(value: object, count: int | None = None) -> list[object]:
    if not isinstance(value, (list, tuple)) or (count is not None and len(value) != count):
        raise ValueError("a list of a consumers' snapshot has another shape")
    return list(value)


def _int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a number of a consumers' snapshot is none")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("a flag of a consumers' snapshot is none")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text of a consumers' snapshot is none")
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("bytes of a consumers' snapshot are none")
    return value

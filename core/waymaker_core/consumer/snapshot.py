"""The state of all consumers of a stream as plain values for CBOR, and back.

A snapshot is taken at the stream's last applied record. What is staged is therefore still out in it: the records that
settle it follow in the log. Soft state goes in as it is, ahead of the log if need be: replaying older delivery records
on top of it takes nothing back.

Layout: `[1, [group, ...]]`; a group is `[id, considered, last delivered, dropped, members, out, passed, ahead]`, a member
`[id, created, config fields...]`, an entry of `out` `[member, deliver count, first, bitmap]` or
`[member, deliver count, sequences]`; sets of sequences are 64-bit little-endian columns or bitmaps from the lowest bit.
"""

from __future__ import annotations

import struct
from array import array
from itertools import pairwise

from waymaker_core.configs import ConsumerConfig, DeliveryPolicy
from waymaker_core.consumer.batch import Part
from waymaker_core.consumer.group import Group, Member
from waymaker_core.consumer.logged import put_out
from waymaker_core.consumer.sequences import positions

VERSION = 1


def of_groups(groups: list[Group]) -> object:
    """The snapshot of these groups, in the order of their ids."""
    return [VERSION, [_of_group(group) for group in groups]]


def _of_group(group: Group) -> list[object]:
    parts: list[Part] = [(batch, batch.bits) for batch in group.pending.batches()]
    passed = group.passed.to_list()
    for entry in group.staged.entries():
        parts.extend(entry.parts)
        passed.extend(seq for seq in entry.beyond if seq < group.cursor)
    staged_ahead = {seq: True for entry in group.staged.entries() for seq in entry.beyond}
    ahead = [seq for seq in group.ahead.to_list() if seq not in staged_ahead]
    members: list[object] = [[key, *_of_member(member)] for key, member in sorted(group.members.items())]
    out: list[object] = [_of_part(part) for part in parts]
    return [
        group.id, group.cursor - 1, group.last_delivered, group.dropped, members, out, _column(sorted(passed)),
        _column(ahead),
    ]  # fmt: skip


def _of_member(member: Member) -> list[object]:
    config = member.config
    return [
        member.created_ms, config.name, config.filter_subject, config.policy.value, config.start_seq,
        config.start_time_ms, config.ack_wait_ms, config.max_deliver, config.deliver_group, config.dead_letter_subject,
    ]  # fmt: skip


def _of_part(part: Part) -> list[object]:
    batch, mask = part
    if batch.seqs is not None:
        return [batch.member, batch.deliver_count, _column(batch.seqs_of(mask))]
    low = (mask & -mask).bit_length() - 1
    bits = mask >> low
    return [
        batch.member, batch.deliver_count, batch.first + low, bits.to_bytes((bits.bit_length() + 7) // 8, "little"),
    ]  # fmt: skip


def _column(seqs: list[int]) -> bytes:
    return struct.pack(f"<{len(seqs)}Q", *seqs)


# ---------------------------------------------------------------- and back


def to_groups(snapshot: object) -> list[Group]:
    """The groups of a snapshot. ValueError where it is none."""
    try:
        version, groups = _items(snapshot, 2)
        if version != VERSION:
            raise ValueError(f"version {version!r} of a consumers' snapshot is not known here")
        return [_to_group(group) for group in _items(groups)]
    except (struct.error, AssertionError, LookupError, OverflowError) as error:
        raise ValueError(f"not a consumers' snapshot: {error}") from error


def _to_group(value: object) -> Group:
    id_, considered, last_delivered, dropped, members, out, passed, ahead = _items(value, 8)
    decoded = [_to_member(member) for member in _items(members)]
    if not decoded:
        raise ValueError("a queue group without members")
    group = Group(_int(id_), decoded[0][1].config, _int(considered) + 1)
    group.members.update(decoded)
    group.last_delivered = _int(last_delivered)
    group.dropped = _int(dropped)
    for entry in _items(out):
        fields = _items(entry)
        if len(fields) == 4:
            first, bits = _int(fields[2]), int.from_bytes(_bytes(fields[3]), "little")
            seqs = [first + index for index in positions(bits)]
        else:
            seqs = _to_column(fields[2])
        if seqs:
            put_out(group, seqs, _int(fields[0]), _int(fields[1]))
    for seq in _to_column(passed):
        if seq not in group.pending:
            group.passed.add(seq)
    for seq in _to_column(ahead):
        group.ahead.add(seq)
    # The snapshot tells of all of it; what it does not tell of comes later.
    group.pending.take_unlogged()
    return group


def _to_member(value: object) -> tuple[int, Member]:
    (
        id_, created_ms, name, filter_subject, policy, start_seq, start_time_ms, ack_wait_ms, max_deliver, deliver_group,
        dead_letter_subject,
    ) = _items(value, 11)  # fmt: skip
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


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text of a consumers' snapshot is none")
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("bytes of a consumers' snapshot are none")
    return value

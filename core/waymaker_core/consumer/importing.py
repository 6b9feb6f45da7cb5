"""Consumers out of an archive: judged before anything of them enters a log.

An archive comes from outside. What its snapshot says of consumers becomes records only if it is no more than a client
could have brought about: settings that could have been created, numbers that a record holds, no more pending than may
be. That the records make sense together is not proved but tried, on consumers that only this trial sees.
"""

from __future__ import annotations

from struct import error as LayoutError  # noqa: N812 - as it is meant here
from typing import Protocol

from waymaker_core.consumer import snapshot
from waymaker_core.consumer.config import check_agreement, validate
from waymaker_core.consumer.delivery import delivery_log as logged
from waymaker_core.consumer.group import Group
from waymaker_core.consumer.pending.batch import BATCH_MESSAGES_MAX, SPAN_PER_MESSAGE_MAX
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import SEQ_MAX, Limits
from waymaker_core.model.records import ConsumerCreated, StreamRecord
from waymaker_core.model.result_codes import CodeError
from waymaker_core.storage import record_codec

BITMAP_BYTES_MAX = BATCH_MESSAGES_MAX * SPAN_PER_MESSAGE_MAX // 8
"""The longest bitmap that was ever written: what is a few bytes here becomes a list when it is read."""
TIME_MAX_MS = (1 << 63) - 1
OUT_MAX = 16_000_000
"""Deliveries pending in a whole archive, about 12 bytes each. No multiple of `pending_max`: what was acked and not yet
durable is pending again after a crash, whatever was dispatched in its place."""


class Trial(Protocol):
    """Consumers of the same stream that are discarded after the trial."""

    def apply(self, record: StreamRecord) -> None: ...

    def check(self) -> None: ...


def records_of(
    snapshot_: object, stream: StreamConfig, next_id: int, limits: Limits, trial: Trial
) -> list[StreamRecord]:
    """Return records that give a log the consumers of a snapshot, under new ids from `next_id` on. ValueError: not
    possible.
    """
    _check_bitmaps(snapshot_)
    records: list[StreamRecord] = []
    names: dict[str, None] = {}
    try:
        for group in snapshot.to_groups(snapshot_):
            _check_group(group, stream, limits)
            names.update(dict.fromkeys(member.config.name for member in group.members.values()))
            new_ids: dict[int, int] = {}
            for consumer_id, member in sorted(group.members.items()):
                new_ids[consumer_id] = next_id
                records.append(ConsumerCreated(next_id, member.config, group.cursor, member.created_ms))
                next_id += 1
            records.extend(logged.whole(group, new_ids))
        created = sum(isinstance(record, ConsumerCreated) for record in records)
        if len(names) != created or created > limits.consumers_max:
            raise ValueError(f"{created} consumers with {len(names)} names")
        for record in records:
            trial.apply(record_codec.decode(record.KIND, record_codec.version_of(record), record_codec.encode(record)))  # type: ignore[arg-type]
        trial.check()
    except CodeError as error:
        raise ValueError(error.message) from error
    except (AssertionError, LookupError, OverflowError, TypeError, LayoutError) as nonsense:
        raise ValueError(f"not a consumers' snapshot: {nonsense}") from nonsense
    return records


def _check_bitmaps(snapshot_: object) -> None:
    out_count = 0
    match snapshot_:
        case [_, [*groups], *_]:
            for group in groups:
                match group:
                    case [_, _, _, _, _, [*out], *_]:
                        out_count += sum(map(_out_in, out))
    if out_count > OUT_MAX:
        raise ValueError(f"{out_count} deliveries out; at most {OUT_MAX} can be restored")


def _out_in(entry: object) -> int:
    match entry:
        case [_, _, int(), bytes() as bitmap] | [_, _, _, _, _, int(), bytes() as bitmap]:
            if len(bitmap) > BITMAP_BYTES_MAX:
                raise ValueError(f"a bitmap of {len(bitmap)} bytes")
            return int.from_bytes(bitmap, "little").bit_count()
        case [_, _, bytes() as column] | [_, _, _, _, _, bytes() as column]:
            return len(column) // 8
    return 0


def _check_group(group: Group, stream: StreamConfig, limits: Limits) -> None:
    members = list(group.members.values())
    if (
        not 0 <= group.cursor - 1 <= SEQ_MAX
        or not 0 <= group.last_delivered <= SEQ_MAX
        or not 0 <= group.dropped <= SEQ_MAX
        or not 0 <= group.uncertain_to <= SEQ_MAX
    ):
        raise ValueError("a figure of a queue group is out of range")
    rest_max_ms = max(limits.ack_wait_max_ms, limits.nak_delay_max_ms)
    for batch in group.pending.batches():
        if not 0 <= batch.deadline_ms <= TIME_MAX_MS or not 0 <= batch.rest_ms <= rest_max_ms:
            raise ValueError("the deadline of a delivery is out of range")
    if len(members) > 1 and not members[0].config.deliver_group:
        raise ValueError("several consumers without a queue group")
    for member in members:
        if not 0 <= member.created_ms <= SEQ_MAX:
            raise ValueError("the time of a consumer's creation is out of range")
        if validate(member.config, stream, limits) != member.config:
            raise ValueError(f"settings that no consumer has: {member.config.name[:80]!r}")
        check_agreement(member.config, members[0].config)

"""Dropping messages: from the last failed attempt to the record that drops them, with their dead letters if there are any.

Two halves, because bodies have to be read in between. `begin_dead_lettering` says which messages and where they lie; `drop`
decides with the bodies at hand. In between no group delivers these messages, and an ack of one still counts. The drop, the
dead letters and, on a work queue, the deletion of the originals are one record: all of it happens exactly once or not at all.

Nothing is dropped without a trace: no record removes a dead letter that it writes (many of them may have to become several
records), and a message whose dead letter could not stay is kept, for as long as that is so. See
docs/decisions/0013-dead-letter-in-one-record.md.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from waymaker_core.api.requests import Messages
from waymaker_core.consumer.answers import ExhaustedMessages
from waymaker_core.consumer.dead_letter.letter import DeadLetterBuilder
from waymaker_core.consumer.delivery.dispatch import within
from waymaker_core.consumer.group import Found, Group
from waymaker_core.consumer.pending.batch import Part
from waymaker_core.consumer.pending.states import Event, State
from waymaker_core.model.config import Retention
from waymaker_core.model.records import DropRecord
from waymaker_core.stream import admission, reads
from waymaker_core.stream.answers import CopyDecision, Displaced
from waymaker_core.stream.blocks.need_blocks import NeedBlocks
from waymaker_core.stream.stream import Stream


def begin_dead_lettering(group: Group, stream: Stream, max_messages: int, byte_max: int) -> ExhaustedMessages | None:
    """Begin to drop exhausted messages, at least one if there is any. Raises `NeedBlocks` before any change."""
    parts = group.pending.exhausted(max_messages)
    if not parts:
        return None
    seqs, counts = _columns(parts)
    messages: Messages | None = None
    if group.config.dead_letter_subject:
        whole = reads.messages_at(stream, seqs, counts)
        assert whole.count == len(seqs), "what left the stream is not pending"
        if whole.byte_count > byte_max and len(parts) > 1:
            # Not by sequence across batches, lest what was aborted comes before what waits.
            seqs, counts = _columns(parts[:1])
            whole = reads.messages_at(stream, seqs, counts)
        messages = within(whole, byte_max)
        del seqs[messages.count :], counts[messages.count :]
    group.pending.happen(group.pending.find_parts(seqs), Event.DROP_BEGUN)
    return ExhaustedMessages(group.id, array("Q", seqs), array("I", counts), messages)


def without_attempts(parts: list[Part]) -> list[int]:
    """Return the sequences, ascending, of pending messages that had their last attempt."""
    seqs = [
        seq
        for batch, mask in parts
        if batch.state is State.EXHAUSTED or batch.state is State.DROPPING
        for seq in batch.seqs_of(mask & batch.bits)
    ]
    return sorted(dict.fromkeys(seqs))


def _columns(parts: list[Part]) -> tuple[list[int], list[int]]:
    """Return the sequences, ascending, and the delivery counts of some messages."""
    entries = sorted((seq, batch.deliver_count) for batch, mask in parts for seq in batch.seqs_of(mask))
    return [seq for seq, _ in entries], [count for _, count in entries]


def abort_dead_lettering(group: Group, exhausted: ExhaustedMessages) -> None:
    """Abort a drop: what is left of it is exhausted again."""
    group.pending.happen(group.pending.find_parts(exhausted.seqs.tolist()), Event.DROP_ABORTED)


def drop(
    group: Group,
    members: list[int],
    exhausted: ExhaustedMessages,
    bodies: Sequence[bytes] | None,
    stream: Stream,
    wall_ms: int,
    readers: Iterable[Group],
) -> list[tuple[DropRecord, list[bytes]]]:
    """Stage the drop of what is left of `exhausted`; return the records.

    `members`: ids of the surviving members, at least one. `readers`: the groups of the stream; by interest no dead letter stays
    that none of them asks for.
    """
    parts = [part for part in group.pending.find_parts(exhausted.seqs.tolist()) if part[0].state is State.DROPPING]
    member = next((batch.member for batch, _ in parts if batch.member in members), members[0])
    left = {seq: True for batch, mask in parts for seq in batch.seqs_of(mask)}
    if bodies is None:
        return _decided(group, member, sorted(left), [], None)
    builder = DeadLetterBuilder(
        stream.config.name,
        group.members[member].config.name,
        group.config.deliver_group,
        [each.config.name for each in group.members.values()],
        group.config.dead_letter_subject,
    )
    lettered: list[int] = []
    letters: list[bytes] = []
    dropped: list[int] = []
    for seq, count, body in zip(exhausted.seqs, exhausted.counts, bodies, strict=True):
        if seq in left:
            letter = builder.letter(seq, count, body)
            if letter is None:
                dropped.append(seq)
            else:
                lettered.append(seq)
                letters.append(letter)
    dead_letters = _DeadLetters(group, member, stream, builder.subject, wall_ms)
    if stream.config.retention is not Retention.INTEREST or any(_asks_for(each, builder.subject) for each in readers):
        dead_letters.write(lettered, letters)
    decided = [*dead_letters.decided, *_decided(group, member, dropped, [], None)]
    kept = group.pending.happen(
        [part for part in group.pending.find_parts(lettered) if part[0].state is State.DROPPING], Event.DROP_ABORTED
    )
    exhausted.kept = sum(mask.bit_count() for _, mask in kept)
    return decided


def _asks_for(group: Group, subject: str) -> bool:
    return group.pattern is None or group.pattern.matches(subject)


@dataclass(slots=True, eq=False)
class _DeadLetters:
    """Records of dead letters, as they are decided."""

    group: Group
    member: int
    stream: Stream
    subject: str
    wall_ms: int
    decided: list[tuple[DropRecord, list[bytes]]] = field(default_factory=list)

    def write(self, seqs: list[int], letters: list[bytes]) -> None:
        """Decide one record for all, or several where the letters would push each other out; what cannot stay is left.

        `NeedBlocks` as long as nothing is staged.
        """
        if not seqs:
            return
        queue = self.stream.config.retention is Retention.WORK_QUEUE
        try:
            copies = admission.decide_copies(self.stream, self.subject, seqs, letters, self.wall_ms, queue)
        except Displaced:
            half = len(seqs) // 2
            if half:
                self.write(seqs[:half], letters[:half])
                self.write(seqs[half:], letters[half:])
        except NeedBlocks:
            if not self.decided:
                raise
        else:
            self.decided += _decided(self.group, self.member, seqs, letters, copies)


def _decided(
    group: Group, member: int, seqs: list[int], letters: list[bytes], decision: CopyDecision | None
) -> list[tuple[DropRecord, list[bytes]]]:
    if not seqs:
        return []
    parts: list[Part] = group.pending.find_parts(seqs)
    record = DropRecord(member, array("Q", seqs), None)
    if decision is not None:
        record = DropRecord(member, array("Q", seqs), decision.copies, decision.drop_seqs, decision.drop_sizes)
    group.stage_done(Found(parts, [], len(seqs)), record)
    return [(record, letters)]

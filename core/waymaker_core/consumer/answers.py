"""The results of consumer decisions: on acks, on creations, and messages whose last delivery failed."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from waymaker_core.api.requests import Messages
from waymaker_core.model.records import AckRecord, ConsumerCreated, DeliveredRecord


@dataclass(slots=True, eq=False)
class AckDecision:
    """The result of an ack, term, nak or in-progress.

    `record` is to be committed before the caller gets `ok`; None where nothing changes, since nothing was pending.
    `depends_on_uncommitted`: some of it is already answered by a record that is not committed yet, so that `ok` must
    not leave before that one is. `count`: messages it settled or changed. `given_up`: the exhausted ones among the
    messages of a nak, ascending, that are not decided to be dropped yet.
    """

    record: AckRecord | DeliveredRecord | None
    depends_on_uncommitted: bool = field(kw_only=True)
    count: int = field(kw_only=True)
    given_up: list[int] = field(default_factory=list, kw_only=True)


@dataclass(slots=True, eq=False)
class CreateDecision:
    """The result of a creation: a record to commit, or None where the very same consumer exists already.

    `depends_on_uncommitted`: the existing one is not committed yet, and `ok` must wait for it.
    """

    record: ConsumerCreated | None
    depends_on_uncommitted: bool = field(kw_only=True)


@dataclass(slots=True, eq=False)
class ExhaustedMessages:
    """Messages of one queue group whose last delivery failed and whose drop has begun.

    With a dead-letter subject `messages` says where their bodies lie: one for each of `seqs`, in the same order. The
    node reads the bodies and passes them to `Consumers.decide_drop`. Without one `messages` is None and there is
    nothing to read. Until the record is committed, no client gets these messages; an ack meanwhile still counts.
    `kept`: how many `decide_drop` did not drop, since their dead letters would be lost as soon as they are written.
    """

    group_id: int
    seqs: array[int]
    counts: array[int]
    messages: Messages | None
    kept: int = 0

    def __repr__(self) -> str:
        return f"ExhaustedMessages({self.group_id}, {self.seqs.tolist()}, bodies={self.messages is not None})"

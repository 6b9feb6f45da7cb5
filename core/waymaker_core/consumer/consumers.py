"""All consumers of one stream: the door through which the node reaches them.

Two kinds of state live here. *Committed* state is what records made it: which consumers exist, what each is done with, its
floor. *Soft* state is the present primary's alone: what is out, until when, how far each group has looked. Soft state
changes at once and is logged lazily (`delivered_records`); committed state changes in `apply` only. A decision (`decide_*`)
reads both and stages what it decides: a staged ack is no longer delivered, dropped or acked again, but the floor waits
for its commit.

A life has two phases. Until `resume` records are replayed: nothing is delivered and no clock runs. From `resume` on what
was out is out again, with a fresh wait. Records are applied in log order in both.

It must never look at a clock (`now` is an argument) or at a body (but for the headers of a dead letter), and never
loop over what is pending to find what is due.
"""

from __future__ import annotations

from collections.abc import Sequence

from waymaker_core.configs import ConsumerConfig
from waymaker_core.consumer.answers import AckDecision, CreateDecision, Spent
from waymaker_core.consumer.source import Source
from waymaker_core.limits import Limits
from waymaker_core.records import ConsumerDeleted, DeliveredRecord, DropRecord, StreamRecord
from waymaker_core.requests import AckKind, ConsumerInfo, Messages, Page
from waymaker_core.types import ConsumerId, Now


class Consumers:
    """The consumers of one life of a stream."""

    def __init__(self, stream: Source, limits: Limits) -> None:
        """No consumers yet, in the phase of replay: call `resume` before anything is delivered, for a new stream too."""
        raise NotImplementedError

    def resume(self, now: Now, *, certain: bool = False) -> None:
        """End of replay: what was out is out again with a fresh ack wait; what is no longer live is forgotten.

        `certain`: everything delivered before was logged (a drained shutdown, an import, a new stream). Otherwise
        deliveries may have gone out that no record tells of, and for messages that were committed before this moment an
        ack counts even though they are not known to be pending: the client that got one before a crash may still say so.
        """
        raise NotImplementedError

    # ------------------------------------------------------------ who there is

    def __len__(self) -> int:
        """Committed consumers."""
        raise NotImplementedError

    def find(self, name: str) -> ConsumerId:
        """The life of a name. CodeError (`no_such_consumer`), also while its deletion is decided and not committed."""
        raise NotImplementedError

    def exists(self, consumer_id: ConsumerId) -> bool:
        """Whether this life is committed and not ended."""
        raise NotImplementedError

    def name_of(self, consumer_id: ConsumerId) -> str:
        """The name of an existing life, for events."""
        raise NotImplementedError

    def info(self, consumer_id: ConsumerId) -> ConsumerInfo:
        """Figures at this moment. A floor told to a client must not go back through a crash: see `unlogged`."""
        raise NotImplementedError

    def page(self, after: str, limit: int) -> Page:
        """`ConsumerInfo` of up to `limit` consumers whose names sort behind `after`, sorted by name."""
        raise NotImplementedError

    def unlogged(self) -> bool:
        """Whether `delivered_records` has something to log.

        Before an `info` or a `page` leaves for a client, append `delivered_records` and let the answer leave with that
        commit (with the commit of the tail, if there is one, in any case).
        """
        raise NotImplementedError

    # ------------------------------------------------------------ coming and going

    def decide_create(self, consumer_id: ConsumerId, config: ConsumerConfig, wall_ms: int) -> CreateDecision:
        """A new consumer under a fresh id, staged; or the one that exists, if it is the same after defaults.

        CodeError (`invalid_config`, `already_exists`), RefusedError (too many), `NeedBlocks`.
        """
        raise NotImplementedError

    def decide_delete(self, name: str) -> ConsumerDeleted:
        """The end of a consumer, staged. CodeError (`no_such_consumer`)."""
        raise NotImplementedError

    # ------------------------------------------------------------ delivering

    def take(self, consumer_id: ConsumerId, now: Now, max_messages: int, byte_max: int) -> Messages | None:
        """Deliver: due redeliveries first, by sequence, then what was passed over and what is new. None: nothing now.

        At least one message whatever its size, if there is one. At the limit of pending deliveries only redeliveries.
        Raises `NeedBlocks` before anything is changed.
        """
        raise NotImplementedError

    def has_work(self, consumer_id: ConsumerId, now: Now) -> bool:
        """Whether `take` could deliver something. Cheap; may say yes where only non-matching messages follow, once."""
        raise NotImplementedError

    def next_deadline(self) -> int | None:
        """The monotonic nanosecond of the next expiry of any delivery; None when nothing is out."""
        raise NotImplementedError

    def expire(self, now: Now) -> bool:
        """Let pass what has waited too long: due again, or spent. True if anything was. Costs what is due."""
        raise NotImplementedError

    # ------------------------------------------------------------ answers of clients

    def decide_ack(
        self, consumer_id: ConsumerId, kind: AckKind, seqs: Sequence[int], delay_ms: int, now: Now
    ) -> AckDecision:
        """An answer to deliveries, in any order, repeats allowed; what is not pending is passed over.

        ACK and TERM are staged and give a record (with a work queue's originals); NAK and IN_PROGRESS take effect at once.
        RefusedError: too many sequences, a delay out of range. `NeedBlocks` before anything is changed.
        """
        raise NotImplementedError

    # ------------------------------------------------------------ giving up

    def has_spent(self) -> bool:
        """Whether `to_drop` has something to hand out."""
        raise NotImplementedError

    def to_drop(self, max_messages: int, byte_max: int) -> list[Spent]:
        """Hand out messages whose last delivery failed; each is handed out once. At least one, whatever its size.

        Raises `NeedBlocks` before anything is handed out.
        """
        raise NotImplementedError

    def decide_drop(
        self, spent: Spent, bodies: Sequence[bytes] | None, wall_ms: int
    ) -> list[tuple[DropRecord, list[bytes]]]:
        """Drop what was handed out, staged: records with the stored bodies of their dead letters, to commit in order.

        `bodies`: one for each of `spent.seqs`, or None where none were asked for. What was acked or pruned meanwhile is
        left out; all of it gone, or the group gone: an empty list. `NeedBlocks` before anything is staged.
        """
        raise NotImplementedError

    def give_back(self, spent: Spent) -> None:
        """The bodies could not be read for now: `to_drop` will hand the messages out again."""
        raise NotImplementedError

    # ------------------------------------------------------------ the log

    def delivered_records(self) -> list[DeliveredRecord]:
        """What was delivered since the last call, to be appended to the log behind every record decided so far.

        Call it when a batch is gathered anyway that holds acks, drops or deletions of this stream, and before figures are
        told to a client. Each record must be appended; nothing is staged.
        """
        raise NotImplementedError

    def apply(self, record: StreamRecord) -> None:
        """The consumers' part of any committed record of the stream, after the stream's own `apply` of it.

        Live and in replay alike; what the stream loses leaves whatever is pending. Unknown consumers are passed over.
        """
        raise NotImplementedError

    def cut_tail(self) -> None:
        """Forget every decision that is staged and not applied: what they took is due again at once."""
        raise NotImplementedError

    def interest_floor(self) -> int:
        """The last sequence that no consumer holds any more; the stream's last without consumers.

        Messages that a filter excludes hold nothing, considered or not. Raises `NeedBlocks`.
        """
        raise NotImplementedError

    # ------------------------------------------------------------ whole state

    def snapshot(self) -> object:
        """State as plain values for CBOR, at the stream's last applied record: committed and soft together."""
        raise NotImplementedError

    def restore(self, snapshot: object) -> None:
        """Into a new object, before `resume`: state as it was at `snapshot`. ValueError where that is not one."""
        raise NotImplementedError

    def import_records(self, snapshot: object, next_id: int) -> list[StreamRecord]:
        """Records that give this stream's log the consumers of a snapshot, under new lives `next_id` and up.

        Consumers as they stood: what was out is out again. ValueError where that is not a snapshot.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Assert every invariant that can be seen from inside; for tests and simulations."""
        raise NotImplementedError

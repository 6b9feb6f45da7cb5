"""Member view: the part of a node where a cluster's protocol reads logs, facts and claims. It changes nothing.

The driver of a node that replicates its logs reads here, between steps. All is cheap but what says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from waymaker_core.api.inputs import SentRecord
from waymaker_core.catalog.authority import Conf
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.catalog.group_history import UNKNOWN, GroupMembers
from waymaker_core.catalog.overrides import Override
from waymaker_core.model.types import CATALOG, StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.facts import Facts
from waymaker_core.node.group_commit import GroupCommit, sent_record
from waymaker_core.node.recent_records import size_of
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.raft.entries import HardState
from waymaker_core.storage.journal.facts import NO_DOUBT, Doubt, Membership
from waymaker_core.stream.epochs import EPOCHS_KEPT


class MemberView:
    """The part of a node that members of a cluster read."""

    _state: NodeState
    _facts: Facts
    _group_commit: GroupCommit

    # ------------------------------------------------------------------ logs

    def sent_records(self, stream_id: int, first: int, bytes_max: int) -> list[SentRecord] | None:
        """Return records of a log from a position on, at least one and about `bytes_max` bytes; None if not in memory.

        Those that have their place in the journal are there, durable or not. Behind the last one the list is empty.
        """
        log = self._state.find_log(stream_id)
        if log is None or self._state.recent is None:
            return None
        found = self._state.recent.read_from(stream_id, first, bytes_max)
        if found is not None:
            return found
        return _waiting_records(log, first, bytes_max) if first > log.applied else None

    def log_end(self, stream_id: int) -> int:
        """Return the position of the last record of a log, waiting ones included; 0 where there is none."""
        log = self._state.find_log(stream_id)
        return 0 if log is None else log.end

    def durable_end(self, stream_id: int) -> int:
        """Return the position up to which this node has a log durably; 0 where there is none."""
        log = self._state.find_log(stream_id)
        return 0 if log is None else log.durable

    def is_adopting(self, stream_id: int) -> bool:
        """Return True while a snapshot takes the place of a log, until that is durable: records above it are void by then."""
        log = self._state.find_log(stream_id)
        return log is not None and log.abandoned

    def has_stream(self, stream_id: int) -> bool:
        """Return True if the catalog, as applied, has a stream."""
        return stream_id in self._state.catalog.entries

    def was_deleted(self, stream_id: int) -> bool:
        """Return True for the id of a stream that the catalog, as applied, has given and has no more."""
        return stream_id < self._state.catalog.next_id and not self.has_stream(stream_id)

    def first_in_memory(self, stream_id: int) -> int | None:
        """Return the position of the first record that `sent_records` has; behind the log's end where it has none."""
        log = self._state.find_log(stream_id)
        if log is None or self._state.recent is None:
            return None
        kept = self._state.recent.first_of(stream_id)
        return log.applied + 1 if kept is None else min(kept, log.applied + 1)

    def first_at_hand(self, stream_id: int) -> int | None:
        """Return the position of the first record that is in memory, or in the journal; None where neither is kept."""
        first, places = self.first_in_memory(stream_id), self._group_commit.journal.places
        found = None if places is None else places.first_of(stream_id)
        return first if first is None or found is None else min(first, found)

    def may_spread(self, stream_id: int) -> bool:
        """Return True for a stream that is to have several replicas: not in memory only, not being restored, not damaged."""
        replica = self._state.replicas.get(StreamId(stream_id))
        if replica is None or replica.importing or replica.damage is not None:
            return False
        return not replica.stream.config.ephemeral

    def has_lost_log(self, stream_id: int) -> bool:
        """Return True for a stream that the start found damaged: its log here ends where nothing is, and says nothing."""
        replica = self._state.replicas.get(StreamId(stream_id))
        damage = self._state.unknown_damage.get(StreamId(stream_id)) if replica is None else replica.damage
        return damage is not None and damage.at_start

    def epoch_at(self, stream_id: int, position: int) -> int:
        """Return the epoch (the catalog's: the term) of a record, waiting ones included; -1 where that is not known."""
        log = self._state.find_log(stream_id)
        if log is None or not 0 <= position <= log.end:
            return UNKNOWN
        waiting = next((epoch for epoch, start in reversed(log.epochs) if start <= position), None)
        if waiting is not None:
            return waiting
        if stream_id == CATALOG:
            return self._state.catalog.group.term_of(position)
        replica = self._state.replicas.get(StreamId(stream_id))
        if replica is None:
            return 0  # its log begins here, without an epoch
        epochs = replica.stream.epochs
        found = epochs.of(position)
        if found is None:
            # Before the first epoch of a table that has forgotten none.
            return 0 if len(epochs.starts) < EPOCHS_KEPT else UNKNOWN
        return found

    def epoch_table(self, stream_id: int) -> list[tuple[int, int]]:
        """Return the epochs of a log in order, each with the position of its first record, waiting ones included."""
        log = self._state.find_log(stream_id)
        if log is None:
            return []
        if stream_id == CATALOG:
            return [*self._state.catalog.group.terms, *log.epochs]
        replica = self._state.replicas.get(StreamId(stream_id))
        return [*(() if replica is None else replica.stream.epochs.starts), *log.epochs]

    def writing_since(self) -> int | None:
        """Return the monotonic nanosecond since when the journal's write under way has taken; None where there is none."""
        return self._group_commit.writing_since()

    def holds_deliveries(self, stream_id: int) -> bool:
        """Return True while deliveries of a stream wait for a confirmation."""
        replica = self._state.replicas.get(StreamId(stream_id))
        return replica is not None and any(True for _ in replica.consumers.held.all_held())

    # ------------------------------------------------------------------ facts

    def promised(self, stream_id: int) -> int:
        """Return the highest epoch of a stream that this replica obeys; 0 where it promised none."""
        return self._facts.found.promises.get(stream_id, 0)

    def membership(self, stream_id: int) -> Membership | None:
        """Return since when this replica of a stream counts, and the epoch in which its whole log was verified."""
        return self._facts.found.replicas.get(stream_id)

    def doubt(self, stream_id: int) -> Doubt:
        """Return up to which claim (the catalog's: term) this replica may have forgotten something."""
        return self._facts.found.doubts.get(stream_id, NO_DOUBT)

    def raft_hard(self) -> HardState:
        """Return the newest term of the catalog's group that this node was asked to keep, and its vote in it."""
        return self._facts.found.raft_hard

    # ------------------------------------------------------------------ the catalog

    def conf(self, stream_id: int) -> Conf | None:
        """Return the newest claim and the last opened one of a stream, as applied; None where it was never claimed."""
        return self._state.catalog.authority.confs.get(StreamId(stream_id))

    def directory_of(self, node: int) -> int:
        """Return the directory with which a node counts by the members that are applied; 0 for any."""
        return self._state.catalog.group.directory_of(node)

    def claimed_streams(self) -> list[int]:
        """Return the streams with a claim, as applied."""
        return list(self._state.catalog.authority.confs)

    def applied(self, stream_id: int) -> int:
        """Return the position of the last record that is applied; 0 where there is none."""
        log = self._state.find_log(stream_id)
        return 0 if log is None else log.applied

    def applied_ends(self) -> Iterator[tuple[int, int]]:
        """Yield each log with the position of the last record that is applied, the catalog's first."""
        yield CATALOG, self._state.catalog_log.applied
        for stream_id, replica in self._state.replicas.items():
            yield stream_id, replica.log.applied

    def overridden(self) -> Iterable[tuple[StreamId, Override]]:
        """Return every stream that is claimed for another node than the ring names."""
        return self._state.overrides.overridden()

    def home_of(self, stream_id: StreamId) -> int:
        """Return the node that the ring names for a stream that exists."""
        return self._state.overrides.home_of(self._state.catalog.entries[stream_id])

    def is_pinned(self, stream_id: StreamId) -> bool:
        """Return True for a stream that an operator pinned."""
        return stream_id in self._state.catalog.wishes.pinned

    def returns_to(self, stream_id: StreamId) -> int:
        """Return the node that an operator sent a stream back to, or 0."""
        return self._state.catalog.wishes.returning.get(stream_id, 0)

    def may_move(self, stream_id: int) -> bool:
        """Return True for a stream that another node could lead: it is not being restored, and not damaged here."""
        replica = self._state.replicas.get(StreamId(stream_id))
        return replica is not None and not replica.importing and replica.damage is None

    def unclaimed_streams(self) -> list[int]:
        """Return the streams that were never claimed, as applied: those of a single node."""
        catalog = self._state.catalog
        return [stream_id for stream_id in catalog.entries if stream_id not in catalog.authority.confs]

    def confs(self) -> Iterable[Conf]:
        """Return the confs of all streams, as applied."""
        return self._state.catalog.authority.confs.values()

    def applied_catalog(self) -> Catalog:
        """Return the catalog, to be read before the next step."""
        return self._state.catalog

    def catalog_members(self, position: int | None = None) -> GroupMembers | None:
        """Return the group's members that are in force at a position (None: at the last one applied).

        None where the position is older than all that is remembered, which goes back to the last checkpoint at least.
        """
        group = self._state.catalog.group
        return group.members[-1] if position is None else group.members_at(position)


def _waiting_records(log: StreamLog, first: int, bytes_max: int) -> list[SentRecord]:
    """Return records from a position on that have their place and are not applied. Costs a walk to the first of them."""
    found: list[SentRecord] = []
    for index in range(first - log.applied - 1, len(log.entries)):
        entry = log.entries[index]
        if entry.encoded is None:
            break
        record = sent_record(entry)
        bytes_max -= size_of(record)
        if found and bytes_max < 0:
            break
        found.append(record)
    return found

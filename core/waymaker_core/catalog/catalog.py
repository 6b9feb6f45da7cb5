"""The catalog: which streams exist, under which names, with which settings.

It has a log of its own (stream id 0), whose records are applied at commit. Decided names are an overlay that only later
decisions consult (docs/architecture.md, "Overlays"). On one node the commit is a sync of the journal; a consensus log can
take that place behind the same verbs. The catalog also draws the ids of streams' incarnations, never the same one twice.

It must never hold a stream's messages or consumers, and never let an id of an earlier incarnation find a later one.
"""

from __future__ import annotations

from dataclasses import dataclass

from sortedcontainers import SortedDict

from waymaker_core.api.requests import ENTRY_OVERHEAD_BYTES, Page
from waymaker_core.catalog.authority import Authority
from waymaker_core.catalog.group_history import GroupHistory
from waymaker_core.catalog.placement_wishes import PlacementWishes
from waymaker_core.catalog.source_cycles import refuse_cycle
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import (
    AuthorityOpened,
    CatalogRecord,
    ClusterRecord,
    EpochRecord,
    MembersRecord,
    ReturnWished,
    StreamCreated,
    StreamDeleted,
    StreamOpened,
    StreamPinned,
    StreamsClaimed,
    StreamUpdated,
)
from waymaker_core.model.result_codes import ALREADY_EXISTS, CodeError, resource_exhausted
from waymaker_core.model.types import StreamId

Name = tuple[str, str]
"""(account, name): what a name is looked up by. The only account today is the empty one."""


@dataclass(slots=True, eq=False)
class CatalogEntry:
    """One stream as the catalog knows it. Plain data; `config` is replaced, never changed.

    `config` is what the stream was created with. Newer settings are the stream's own.
    """

    stream_id: StreamId
    account: str
    config: StreamConfig
    created_ms: int
    importing: bool
    """The stream is being restored from an archive: its name is taken, and it serves no client.

    A copy, for listing: the stream's own log says when the restore ended.
    """
    last_seq: int
    """The sequence it was created at, or opened at by `StreamOpened`; afterwards the stream itself counts on."""

    def key(self) -> Name:
        """Return what it is found by."""
        return (self.account, self.config.name)


class Catalog:
    """Committed streams by id and by name, and the overlay of decided names."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.next_id = 1
        """The id behind those of all committed creations: a stream below it that has no entry was deleted."""
        self._drawn = 0
        self.entries: dict[StreamId, CatalogEntry] = {}
        self._names: SortedDict[Name, CatalogEntry] = SortedDict()
        self._staged: dict[Name, tuple[StreamId | None, int]] = {}
        """Name -> (the stream that it means after all staged decisions, or None; how many of them are staged)."""
        self._sourcing: dict[StreamId, CatalogEntry] = {}
        """Committed streams that copy from others."""
        self._staged_sourcing: dict[StreamId, tuple[str, StreamConfig]] = {}
        """Account and settings of streams that are to copy from others, and whose creation is staged."""
        self.authority = Authority()
        """The nodes that lead and hold streams, in a cluster."""
        self.wishes = PlacementWishes()
        """The streams that operators pinned, and those that are to return."""
        self.group = GroupHistory()
        """The terms of the catalog's own log, and the nodes that hold it, in a cluster."""

    # ------------------------------------------------------------------ looking up

    def find(self, account: str, name: str) -> CatalogEntry | None:
        """Return the committed stream of a name, or None; one that is being imported counts."""
        return self._names.get((account, name))

    def projected_id(self, account: str, name: str) -> StreamId | None:
        """Return the id that a name means once everything staged is committed, or None."""
        staged = self._staged.get((account, name))
        if staged is not None:
            return staged[0]
        entry = self._names.get((account, name))
        return None if entry is None else entry.stream_id

    def is_deletion_staged(self, entry: CatalogEntry) -> bool:
        """Return True if the deletion of this stream is decided and not committed."""
        return bool(self._staged) and self.projected_id(*entry.key()) != entry.stream_id

    def page(self, account: str, after: str, limit: int, byte_max: int) -> Page[str]:
        """Return the names in service that sort behind `after`: up to `limit` of them, and about `byte_max` bytes."""
        found: list[str] = []
        byte_count = 0
        last = ""
        for key in self._names.irange((account, after), inclusive=(False, False)):
            if key[0] != account:
                break
            if self._names[key].importing:
                continue
            byte_count += len(key[1].encode()) + ENTRY_OVERHEAD_BYTES
            if len(found) >= limit or (found and byte_count > byte_max):
                return Page(found, last)
            found.append(key[1])
            last = key[1]
        return Page(found)

    def sourcing_after(self, account: str, after: str) -> list[CatalogEntry]:
        """Return the committed streams that copy from others and whose names sort behind `after`, sorted."""
        found = [each for each in self._sourcing.values() if each.account == account and each.config.name > after]
        return sorted(found, key=lambda entry: entry.config.name)

    # ------------------------------------------------------------------ deciding

    def draw_id(self) -> int:
        """Return an id that no stream ever had. A decision that is discarded does not give its id back."""
        self._drawn = self.peek_id()
        return self._drawn

    def peek_id(self) -> int:
        """Return the id that is drawn next."""
        return max(self.next_id, self._drawn + 1)

    def decide_create(
        self, account: str, config: StreamConfig, now_ms: int, *, importing: bool = False, last_seq: int = 0
    ) -> StreamCreated:
        """Decide a new stream under a free name; `config` is validated already. CodeError, RefusedError."""
        if self.projected_id(account, config.name) is not None:
            raise CodeError(ALREADY_EXISTS, f"stream {config.name!r} already exists; nothing was changed")
        if len(self.entries) + len(self._staged) >= self.limits.streams_max:
            raise resource_exhausted(f"this node holds {self.limits.streams_max} streams, which is its limit")
        if config.sources:
            refuse_cycle(config, self._projected_sourcing(account))
        return StreamCreated(self.draw_id(), config, now_ms, importing, last_seq)

    def _projected_sourcing(self, account: str) -> list[StreamConfig]:
        """Return the settings of the streams of an account that copy from others, once everything staged is committed."""
        known = [(entry.account, entry.config, entry.stream_id) for entry in self._sourcing.values()]
        known += [(owner, config, stream_id) for stream_id, (owner, config) in self._staged_sourcing.items()]
        return [
            config
            for owner, config, stream_id in known
            if owner == account and self.projected_id(owner, config.name) == stream_id
        ]

    # ------------------------------------------------------------------ the overlay of names

    def stage(self, record: CatalogRecord, account: str = "") -> None:
        """Lay a decided record over the names, until `apply` commits it."""
        key, stream_id = self._meaning_of(record, account)
        _, in_flight = self._staged.get(key, (None, 0))
        self._staged[key] = (stream_id, in_flight + 1)
        if isinstance(record, StreamCreated) and record.config.sources:
            self._staged_sourcing[StreamId(record.stream_id)] = (account, record.config)

    def _commit(self, key: Name) -> None:
        """Lift one decision about a name off the overlay; a replayed record was never staged."""
        if key in self._staged:
            stream_id, in_flight = self._staged[key]
            if in_flight == 1:
                del self._staged[key]
            else:
                self._staged[key] = (stream_id, in_flight - 1)

    def discard_uncommitted(self) -> None:
        """Drop every decision that is staged."""
        self._staged.clear()
        self._staged_sourcing.clear()
        self.authority.discard_uncommitted()

    def _meaning_of(self, record: CatalogRecord, account: str) -> tuple[Name, StreamId | None]:
        """Return the name that a record is about, and the stream that the name means once the record is applied."""
        if isinstance(record, StreamCreated):
            return (account, record.config.name), StreamId(record.stream_id)
        entry = self.entries[StreamId(record.stream_id)]
        return entry.key(), None if isinstance(record, StreamDeleted) else entry.stream_id

    # ------------------------------------------------------------------ applying

    def apply(self, record: CatalogRecord, account: str = "") -> None:
        """Apply a committed record. A record of an unknown stream changes nothing, a creation apart."""
        stream_id = StreamId(record.stream_id)
        self.next_id = max(self.next_id, stream_id + 1)
        if isinstance(record, StreamCreated):
            entry = CatalogEntry(
                stream_id, account, record.config, record.created_ms, record.importing, record.last_seq
            )
            self.wishes.inherit(StreamId(record.replaces), stream_id)
            self._delete(StreamId(record.replaces))
            assert entry.key() not in self._names, "two streams of one name"
            self.entries[stream_id] = entry
            self._names[entry.key()] = entry
            self._staged_sourcing.pop(stream_id, None)
            if entry.config.sources:
                self._sourcing[stream_id] = entry
            self._commit(entry.key())
            return
        known = self.entries.get(stream_id)
        if known is None:
            return
        self._commit(known.key())
        if isinstance(record, StreamDeleted):
            self._delete(stream_id)
        elif isinstance(record, StreamUpdated):
            assert record.config.name == known.config.name
            known.config = record.config
        else:
            assert isinstance(record, StreamOpened)
            known.importing = False
            known.last_seq = record.last_seq

    def apply_cluster(self, record: ClusterRecord | EpochRecord, position: int) -> list[StreamId]:
        """Apply a committed record of a cluster, or a pin; return the streams whose `Conf` it changes.

        A claim, an opening, or a wish for an unknown stream changes nothing.
        """
        if isinstance(record, EpochRecord):
            self.group.begin_term(record.epoch, position)
        elif isinstance(record, MembersRecord):
            first = self.group.members[-1].position == 0
            self.group.set_members(position, record.data)
            if first:
                self.authority.name_directories(self.group.directory_of)
        elif isinstance(record, StreamsClaimed):
            changed = self.authority.apply_claims(record, position, self.entries, self.group.directory_of)
            for stream_id in changed:
                self.wishes.note_primary(stream_id, self.authority.confs[stream_id].newest.primary)
            return changed
        elif isinstance(record, StreamPinned | ReturnWished):
            if StreamId(record.stream_id) in self.entries:
                self.wishes.apply_wish(record)
        else:
            assert isinstance(record, AuthorityOpened)
            return self.authority.apply_openings(record)
        return []

    def _delete(self, stream_id: StreamId) -> None:
        """Remove a stream, if there is one of this id."""
        known = self.entries.pop(stream_id, None)
        if known is not None:
            del self._names[known.key()]
            self._sourcing.pop(stream_id, None)
            self.authority.forget_claims(stream_id)
            self.wishes.forget_wishes(stream_id)

    def import_ended(self, stream_id: StreamId) -> None:
        """Note that a stream's log says that its restore is complete."""
        self.entries[stream_id].importing = False

    # ------------------------------------------------------------------ snapshot

    def snapshot(self) -> list[tuple[CatalogEntry, StreamCreated]]:
        """Return every entry with the record that would make it as it is, in order of ids."""
        return [
            (entry, StreamCreated(entry.stream_id, entry.config, entry.created_ms, entry.importing, entry.last_seq))
            for entry in sorted(self.entries.values(), key=lambda entry: entry.stream_id)
        ]

    def check(self) -> None:
        """Assert that ids and names agree, and that a staged name has a decision in flight; for tests and simulations."""
        assert len(self.entries) == len(self._names)
        for stream_id, entry in self.entries.items():
            assert entry.stream_id == stream_id < self.next_id
            assert self._names[entry.key()] is entry
        assert all(in_flight > 0 for _, in_flight in self._staged.values())
        assert all(stream_id in self.entries for stream_id in self.authority.confs), "claims of a stream that is none"
        assert all(stream_id in self.entries for stream_id in (*self.wishes.pinned, *self.wishes.returning)), (
            "wishes for none"
        )

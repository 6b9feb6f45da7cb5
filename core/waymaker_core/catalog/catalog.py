"""The catalogue: which streams live, under which names, with which settings.

A log of commands of its own (stream id 0), applied at commit; what is decided and not yet committed is an overlay of names
that only later decisions consult. On one node the commit is a sync of the journal; a consensus log can take that place
behind the same three verbs: decide, stage, apply. It also hands out ids of lives, never the same one twice.

It must never hold a stream's messages or consumers, and never let an id of an earlier life find a later one.
"""

from __future__ import annotations

from sortedcontainers import SortedDict

from waymaker_core.api.requests import ENTRY_OVERHEAD_BYTES, Page
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import CatalogRecord, StreamCreated, StreamDeleted, StreamOpened, StreamUpdated
from waymaker_core.model.result_codes import ALREADY_EXISTS, CodeError, resource_exhausted
from waymaker_core.model.types import StreamId

Name = tuple[str, str]
"""(account, name): what a name is looked up by. The only account today is the empty one."""


class CatalogEntry:
    """One life of a stream, as the catalogue knows it. Plain data; `config` is replaced, never changed."""

    __slots__ = ("stream_id", "account", "config", "created_ms", "importing", "last_seq")

    def __init__(
        self, stream_id: StreamId, account: str, config: StreamConfig, created_ms: int, importing: bool, last_seq: int
    ) -> None:
        self.stream_id = stream_id
        self.account = account
        self.config = config
        self.created_ms = created_ms
        self.importing = importing
        """Being restored from an archive: the name is taken, but nobody is served."""
        self.last_seq = last_seq
        """The sequence it was created or opened at; the stream itself knows better later."""

    def key(self) -> Name:
        """What it is found by."""
        return (self.account, self.config.name)


class Catalog:
    """Committed lives by id and by name, and the overlay of decided names."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.next_id = 1
        self.entries: dict[StreamId, CatalogEntry] = {}
        self._names: SortedDict[Name, CatalogEntry] = SortedDict()
        self._decided: dict[Name, tuple[StreamId | None, int]] = {}
        """Name -> (the life it will mean, or None; how many decisions about it are under way)."""

    # ------------------------------------------------------------------ looking up

    def find(self, account: str, name: str) -> CatalogEntry | None:
        """The committed life of a name, importing ones included."""
        return self._names.get((account, name))

    def will_be(self, account: str, name: str) -> StreamId | None:
        """The life a name means once everything decided is committed."""
        decided = self._decided.get((account, name))
        if decided is not None:
            return decided[0]
        entry = self._names.get((account, name))
        return None if entry is None else entry.stream_id

    def is_going(self, entry: CatalogEntry) -> bool:
        """Whether the end of this life is decided and on its way."""
        return bool(self._decided) and self.will_be(*entry.key()) != entry.stream_id

    def page(self, account: str, after: str, limit: int, byte_max: int) -> Page:
        """Names served, sorted, behind `after`: up to `limit` of them, and about `byte_max`."""
        found: list[object] = []
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

    # ------------------------------------------------------------------ deciding

    def draw_id(self) -> int:
        """A new id of a life. Drawing is not undone, whatever becomes of what it was drawn for."""
        drawn = self.next_id
        self.next_id += 1
        return drawn

    def decide_create(
        self, account: str, config: StreamConfig, now_ms: int, *, importing: bool = False, last_seq: int = 0
    ) -> StreamCreated:
        """A new life under a free name. `config` is validated already."""
        if self.will_be(account, config.name) is not None:
            raise CodeError(ALREADY_EXISTS, f"stream {config.name!r} already exists; nothing was changed")
        if len(self.entries) + len(self._decided) >= self.limits.streams_max:
            raise resource_exhausted(f"this node holds {self.limits.streams_max} streams, which is its limit")
        return StreamCreated(self.draw_id(), config, now_ms, importing, last_seq)

    def stage(self, record: CatalogRecord, account: str = "") -> None:
        """Lay a decided record over the names, until it is applied."""
        key, stream_id = self._means(record, account)
        _, in_flight = self._decided.get(key, (None, 0))
        self._decided[key] = (stream_id, in_flight + 1)

    def unstage(self, record: CatalogRecord, account: str = "") -> None:
        """Lift one decision about a name off the overlay; the last one lays the name bare."""
        key, _ = self._means(record, account)
        stream_id, in_flight = self._decided.get(key, (None, 0))
        if in_flight <= 1:
            self._decided.pop(key, None)
        else:
            self._decided[key] = (stream_id, in_flight - 1)

    def _means(self, record: CatalogRecord, account: str) -> tuple[Name, StreamId | None]:
        if isinstance(record, StreamCreated):
            return (account, record.config.name), StreamId(record.stream_id)
        entry = self.entries[StreamId(record.stream_id)]
        return entry.key(), None if isinstance(record, StreamDeleted) else entry.stream_id

    # ------------------------------------------------------------------ applying

    def apply(self, record: CatalogRecord, account: str = "") -> None:
        """Make a committed record so. Of lives it does not know only a creation is heeded."""
        stream_id = StreamId(record.stream_id)
        self.next_id = max(self.next_id, stream_id + 1)
        if isinstance(record, StreamCreated):
            entry = CatalogEntry(
                stream_id, account, record.config, record.created_ms, record.importing, record.last_seq
            )
            assert entry.key() not in self._names, "two lives of one name"
            self.entries[stream_id] = entry
            self._names[entry.key()] = entry
            return
        known = self.entries.get(stream_id)
        if known is None:
            return
        if isinstance(record, StreamDeleted):
            del self.entries[stream_id]
            del self._names[known.key()]
        elif isinstance(record, StreamUpdated):
            assert record.config.name == known.config.name
            known.config = record.config
        else:
            assert isinstance(record, StreamOpened)
            known.importing = False
            known.last_seq = record.last_seq

    # ------------------------------------------------------------------ snapshot

    def snapshot(self) -> list[tuple[CatalogEntry, StreamCreated]]:
        """Every life with the record that would make it as it is, in order of ids."""
        return [
            (entry, StreamCreated(entry.stream_id, entry.config, entry.created_ms, entry.importing, entry.last_seq))
            for entry in sorted(self.entries.values(), key=lambda entry: entry.stream_id)
        ]

    def check(self) -> None:
        """Assert what always holds; for tests and simulation."""
        assert len(self.entries) == len(self._names)
        for stream_id, entry in self.entries.items():
            assert entry.stream_id == stream_id < self.next_id
            assert self._names[entry.key()] is entry
        assert all(in_flight > 0 for _, in_flight in self._decided.values())

"""The layer of a bucket: which keys end in a tombstone, and until when values live. All else is the stream's own.

Only keys with a tombstone or a time to live cost memory here; a key's newest revision is the newest sequence at its subject.

The end of a time to live is a tombstone that is decided and committed like any change, so it survives, wakes watchers and
never gives way to an older value. Ends are due on the monotonic clock of a leader: a value never lives longer than its time to
live after its commit, or after the start of the node that leads, whatever became of the wall clock. A restart counts on the
wall clock, and never grants more than the whole time to live.

A tombstone stays for a time, so that watchers hear of it. Then it is deleted together with all that it hides: no older
value can come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from waymaker_core.kv import snapshot as snapshots
from waymaker_core.kv.bodies import EXPIRED, tombstone_body
from waymaker_core.kv.facts import Expiry, KvFact, Tombstone, decode_fact, encode_fact
from waymaker_core.kv.settings import decode_settings
from waymaker_core.layers.decide import Draft, decide_draft
from waymaker_core.layers.layer import KV, LayerDecision, fact_of, messages_of
from waymaker_core.layers.overlay import LayerOverlay
from waymaker_core.layers.waits import Waits
from waymaker_core.model.records import LayerRecord, PublishRecord, StreamRecord
from waymaker_core.model.types import Now
from waymaker_core.storage.errors import CorruptRecord
from waymaker_core.stream.stream import Stream

DUE_KEYS_MAX: Final = 500
"""Keys whose end, or whose deletion for good, one record decides."""
DUE_BODY_BYTES_MAX: Final = 48 * 1024
_NS: Final = 1_000_000


class Ttl:
    """The time to live of one value. `due_ns`: its end on a leader's monotonic clock; 0: not set yet."""

    __slots__ = ("seq", "deadline_ms", "ttl_ms", "due_ns")

    def __init__(self, seq: int, deadline_ms: int, ttl_ms: int, due_ns: int = 0) -> None:
        self.seq = seq
        self.deadline_ms = deadline_ms
        self.ttl_ms = ttl_ms
        self.due_ns = due_ns


class KeyState(NamedTuple):
    """The newest revision of a key (0: it has none), whether it is a tombstone, and its time to live, if it has one."""

    seq: int
    tombstone: bool
    ttl: Ttl | None

    @property
    def is_live(self) -> bool:
        """Return True if the newest revision is a value."""
        return self.seq > 0 and not self.tombstone


NOTHING: Final = KeyState(0, False, None)


class KvLayer:
    """Tombstones and times to live of one bucket, by subject."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.settings = decode_settings(stream.config.service_settings)
        self.ttls: dict[str, Ttl] = {}
        self.tombstones: dict[str, tuple[int, int]] = {}
        """Sequence and time of each."""
        self._overlay: LayerOverlay[str, KeyState] = LayerOverlay()
        self._fresh: dict[str, None] = {}
        """Keys whose time to live has no end on the monotonic clock yet."""
        self._heap: list[tuple[int, str, int]] = []
        """Ends of times to live, with subject and sequence; some of them are no longer true."""
        self._purges: Waits[tuple[str, int]] = Waits(self._tombstone_since)
        """Tombstones by subject and sequence, from the oldest on; some of them are no longer there."""

    @property
    def kind(self) -> int:
        """Return the stored number of this kind of layer."""
        return KV

    # ------------------------------------------------------------ states of keys

    def committed(self, subject: str) -> KeyState:
        """Return the committed state of a key. May raise `NeedBlocks`."""
        seq = self.stream.latest(subject)
        if not seq:
            return NOTHING
        tombstone, ttl = self.tombstones.get(subject), self.ttls.get(subject)
        return KeyState(seq, tombstone is not None and tombstone[0] == seq, ttl)

    def overdue(self, subjects: Sequence[str], now: Now) -> list[str]:
        """Return the keys among these whose committed value's time to live has ended, each once. May raise `NeedBlocks`."""
        if not self.ttls:
            return []
        return [each for each in dict.fromkeys(subjects) if self.is_overdue(self.committed(each), now)]

    def projected(self, subject: str) -> KeyState:
        """Return the state of a key once all that is staged is applied. May raise `NeedBlocks`."""
        staged = self._overlay.get(subject)
        return self.committed(subject) if staged is None else staged

    def has_ttl_among(self, subjects: Sequence[str]) -> bool:
        """Return True if one of these keys has a time to live once all that is staged is applied. May raise `NeedBlocks`."""
        staged_at, latest, ttls = self._overlay.get, self.stream.latest, self.ttls
        for subject in subjects:
            staged = staged_at(subject)
            if staged is None:
                # Looked up though only its time to live is asked for: it repairs the subject table, as `projected` does.
                latest(subject)
            if subject in ttls if staged is None else staged.ttl is not None:
                return True
        return False

    def is_staged(self, subject: str) -> bool:
        """Return True if a change of a key is decided and not committed."""
        return self._overlay.get(subject) is not None

    def is_overdue(self, state: KeyState, now: Now) -> bool:
        """Return True if the time to live of a key's newest value has ended."""
        return state.ttl is not None and self._due_of(state.ttl, now) <= now.mono_ns

    def is_value(self, subject: str, seq: int) -> bool:
        """Return True if a committed message is the live value of its key. May raise `NeedBlocks`."""
        tombstone = self.tombstones.get(subject)
        return self.stream.latest(subject) == seq and (tombstone is None or tombstone[0] != seq)

    def _due_of(self, ttl: Ttl, now: Now) -> int:
        if not ttl.due_ns:
            rest_ms = min(max(ttl.deadline_ms - now.wall_ms, 0), ttl.ttl_ms)
            ttl.due_ns = now.mono_ns + rest_ms * _NS
        return ttl.due_ns

    # ------------------------------------------------------------ decisions

    def stage(self, record: LayerRecord, states: Mapping[str, KeyState]) -> None:
        """Lay the states of keys after a record over the committed ones."""
        self._overlay.stage(record, states)

    def end_values(self, subjects: list[str], now: Now) -> LayerDecision:
        """Stage tombstones for keys whose time to live has ended, none of them staged. Raises `NeedBlocks`."""
        bodies = [tombstone_body(subject, EXPIRED) for subject in subjects]
        first = self.stream.overlay.last_seq + 1
        fact = KvFact(list(range(len(subjects))))
        drops = [seq for subject in subjects for seq in self.hidden(subject)]
        draft = Draft(subjects, [0] * len(subjects), bodies, drops, [(KV, encode_fact(fact))])
        record = decide_draft(self.stream, draft, now.wall_ms)
        self.stage(record, {each: KeyState(first + entry, True, None) for entry, each in enumerate(subjects)})
        return LayerDecision(record, bodies, expired=len(subjects))

    def hidden(self, subject: str) -> list[int]:
        """Return the revisions that go with the end of a key: all in a bucket with bounds, where the end must make room."""
        if not (self.settings.max_bytes or self.settings.max_messages):
            return []
        return [seq for seq in self.stream.projected_seqs_at(subject) if seq <= self.stream.last_seq]

    def has_staged(self) -> bool:
        """See `Layer`."""
        return bool(self._overlay)

    def discard_uncommitted(self) -> None:
        """See `Layer`."""
        self._overlay.discard()
        self._rebuild_heap()
        self._rebuild_ends()

    # ------------------------------------------------------------ what is due

    def next_due(self, now: Now) -> int | None:
        """See `Layer`."""
        for subject in self._fresh:
            ttl = self.ttls[subject]
            heappush(self._heap, (self._due_of(ttl, now), subject, ttl.seq))
        self._fresh.clear()
        if len(self._heap) > 64 + 2 * len(self.ttls):
            self._rebuild_heap()
        while self._heap and not self._is_end(*self._heap[0]):
            heappop(self._heap)
        due = self._heap[0][0] if self._heap else None
        purge = self._next_purge(now)
        return purge if due is None else due if purge is None else min(due, purge)

    def _is_end(self, due_ns: int, subject: str, seq: int) -> bool:
        ttl = self.ttls.get(subject)
        return ttl is not None and ttl.seq == seq and ttl.due_ns == due_ns and not self.is_staged(subject)

    def _next_purge(self, now: Now) -> int | None:
        return self._purges.next_end(self.settings.tombstone_ms, now)

    def _tombstone_since(self, end: tuple[str, int]) -> int | None:
        subject, seq = end
        tombstone = self.tombstones.get(subject)
        return None if tombstone is None or tombstone[0] != seq else tombstone[1]

    def decide_due(self, now: Now) -> LayerDecision | None:
        """See `Layer`."""
        self.stream.need_all()
        self.next_due(now)
        subjects: list[str] = []
        size = 0
        while self._heap and self._heap[0][0] <= now.mono_ns and len(subjects) < DUE_KEYS_MAX:
            end = self._heap[0]
            if self._is_end(*end) and end[1] not in subjects[-1:]:
                size += len(end[1].encode()) + 64
                if subjects and size > DUE_BODY_BYTES_MAX:
                    break
                subjects.append(end[1])
            heappop(self._heap)
        if subjects:
            return self.end_values(list(dict.fromkeys(subjects)), now)
        return self._decide_purge(now)

    def _decide_purge(self, now: Now) -> LayerDecision | None:
        subjects: dict[str, None] = {}
        drops: list[int] = []
        size = seen = 0
        for (subject, _), waited in self._purges.over(self.settings.tombstone_ms, now):
            if len(drops) >= DUE_KEYS_MAX or size >= DUE_BODY_BYTES_MAX:
                break
            seen += 1
            # One that is staged has another state by the time at which this record is applied.
            if waited and subject not in subjects and not self.is_staged(subject):
                subjects[subject] = None
                drops += self.stream.projected_seqs_at(subject)
                size += len(subject.encode()) + 8
        self._purges.drop(seen)
        if not subjects:
            return None
        draft = Draft(drops=drops, facts=[(KV, encode_fact(KvFact(purged=list(subjects))))])
        record = decide_draft(self.stream, draft, now.wall_ms)
        self.stage(record, dict.fromkeys(subjects, NOTHING))
        return LayerDecision(record)

    # ------------------------------------------------------------ committed records

    def apply(self, record: StreamRecord) -> None:
        """See `Layer`."""
        self._overlay.commit(record)
        messages = messages_of(record)
        if messages is not None and (self.ttls or self.tombstones):
            for subject in messages.subjects:
                self._forget(subject)
        raw = fact_of(record, KV)
        if raw is not None:
            self._apply_fact(decode_fact(raw), messages)

    def _apply_fact(self, fact: KvFact, messages: PublishRecord | None) -> None:
        if fact.tombstones or fact.expiries:
            if messages is None:
                raise CorruptRecord("a fact about messages that its record does not have")
            self._apply_entries(fact, messages)
        for subject, seq, deadline_ms, ttl_ms in fact.touched:
            if self.stream.latest(subject) != seq:
                raise CorruptRecord(f"a time to live of {subject[:80]!r}, whose value is another one")
            self._forget(subject)
            if ttl_ms:
                self._add_ttl(subject, Ttl(seq, deadline_ms, ttl_ms))
        for subject in fact.purged:
            self._forget(subject)
        for subject, seq, time_ms in fact.restored_tombstones:
            self._add_tombstone(subject, seq, time_ms)
        for subject, seq, deadline_ms, ttl_ms in fact.restored_expiries:
            self._add_ttl(subject, Ttl(seq, deadline_ms, ttl_ms))

    def _apply_entries(self, fact: KvFact, messages: PublishRecord) -> None:
        newest = {subject: entry for entry, subject in enumerate(messages.subjects)}
        entries = [*fact.tombstones, *(entry for entry, _, _ in fact.expiries)]
        if max(entries) >= len(messages.subjects):
            raise CorruptRecord(f"a fact about message {max(entries)} of a record with {len(messages.subjects)}")
        for entry in fact.tombstones:
            if newest[messages.subjects[entry]] == entry:
                self._add_tombstone(messages.subjects[entry], messages.first_seq + entry, messages.times_ms[entry])
        for entry, deadline_ms, ttl_ms in fact.expiries:
            if newest[messages.subjects[entry]] == entry:
                self._add_ttl(messages.subjects[entry], Ttl(messages.first_seq + entry, deadline_ms, ttl_ms))

    def _add_tombstone(self, subject: str, seq: int, time_ms: int) -> None:
        self.tombstones[subject] = (seq, time_ms)
        self._purges.append_keys([(subject, seq)])

    def _add_ttl(self, subject: str, ttl: Ttl) -> None:
        self.ttls[subject] = ttl
        self._fresh[subject] = None

    def _forget(self, subject: str) -> None:
        self.tombstones.pop(subject, None)
        if self.ttls.pop(subject, None) is not None:
            self._fresh.pop(subject, None)

    # ------------------------------------------------------------ whole state

    def snapshot(self) -> object:
        """See `Layer`."""
        return snapshots.encode_snapshot(self._tombstone_list(), self._expiry_list())

    def restore(self, snapshot: object) -> None:
        """See `Layer`."""
        tombstones, expiries = snapshots.decode_snapshot(snapshot)
        for tombstone in tombstones:
            self._add_tombstone(*tombstone)
        for subject, seq, deadline_ms, ttl_ms in expiries:
            self._add_ttl(subject, Ttl(seq, deadline_ms, ttl_ms))
        if len(self.tombstones) != len(tombstones) or len(self.ttls) != len(expiries):
            raise CorruptRecord("two states of one key")

    def import_facts(self, snapshot: object) -> list[bytes]:
        """See `Layer`."""
        tombstones, expiries = snapshots.decode_snapshot(snapshot)
        subjects = [each[0] for each in tombstones] + [each[0] for each in expiries]
        if len(set(subjects)) != len(subjects):
            raise CorruptRecord("two states of one key")
        of_expiries = [(subject, seq) for subject, seq, _, _ in expiries]
        for subject, seq in [*((subject, seq) for subject, seq, _ in tombstones), *of_expiries]:
            if self.stream.latest(subject) != seq:
                raise CorruptRecord(f"message {seq} is not the newest at {subject[:80]!r}")
        return snapshots.facts_of(tombstones, expiries)

    def _tombstone_list(self) -> list[Tombstone]:
        return [(subject, seq, time_ms) for subject, (seq, time_ms) in self.tombstones.items()]

    def _expiry_list(self) -> list[Expiry]:
        return [(subject, ttl.seq, ttl.deadline_ms, ttl.ttl_ms) for subject, ttl in self.ttls.items()]

    def _rebuild_heap(self) -> None:
        self._heap = [(ttl.due_ns, subject, ttl.seq) for subject, ttl in self.ttls.items() if ttl.due_ns]
        heapify(self._heap)

    def _rebuild_ends(self) -> None:
        ends = sorted((seq, subject) for subject, (seq, _) in self.tombstones.items())
        self._purges.restart((subject, seq) for seq, subject in ends)

    def check(self) -> None:
        """See `Layer`."""
        for subject, (seq, _) in self.tombstones.items():
            assert self.stream.subjects.last.get(subject) == seq, f"{subject}: a tombstone that is not the newest"
        for subject, ttl in self.ttls.items():
            assert self.stream.subjects.last.get(subject) == ttl.seq, f"{subject}: a time to live of an older value"
            assert subject not in self.tombstones, f"{subject}: a tombstone that lives"
            assert subject in self._fresh or ttl.due_ns, f"{subject}: a time to live without an end"

"""Positions of a stream in its sources: the layer of kind 1, made by the stream's own committed records.

A position says up to which sequence of which incarnation of a source everything was copied or passed over. It stands in the
very record that holds the copies. So after any crash both are there, or neither, and copying goes on without a gap and
without a repeat. It advances over messages that the filter excludes, too.

It must never look at the source: what is there, and what a gap means, is judged where the stream is led (`node.sourcing`).
"""

from __future__ import annotations

from typing import NamedTuple

from waymaker_core.layers.layer import SOURCES, LayerDecision, fact_of
from waymaker_core.layers.overlay import LayerOverlay
from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.model.records import StreamRecord
from waymaker_core.model.types import Now
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

VERSION = 1


class Incarnation(NamedTuple):
    """One life of a source. The time of its creation tells it from a stream of another directory that has the same id."""

    stream_id: int
    created_ms: int


class Position(NamedTuple):
    """The place up to which a source was copied: everything at or below `seq` was copied or passed over."""

    incarnation: Incarnation
    seq: int


class Positions:
    """The positions of one stream in its sources, by the place of each in the stream's settings."""

    def __init__(self, sources: int) -> None:
        assert sources > 0, "a stream without sources has no positions"
        self._count = sources
        self._committed: dict[int, Position] = {}
        self._staged: LayerOverlay[int, Position] = LayerOverlay()

    @property
    def kind(self) -> int:
        """Return the stored number of this kind of layer."""
        return SOURCES

    # ------------------------------------------------------------ looking up

    def committed(self, index: int) -> Position | None:
        """Return the committed position in a source; None before the first one."""
        return self._committed.get(index)

    def projected(self, index: int) -> Position | None:
        """Return the position in a source once everything staged is committed: where the next batch begins."""
        return self._staged.get(index) or self._committed.get(index)

    # ------------------------------------------------------------ the overlay

    def stage(self, record: StreamRecord, index: int, position: Position) -> None:
        """Lay the position that a record carries over the committed one."""
        self._staged.stage(record, {index: position})

    def discard_uncommitted(self) -> None:
        """Drop the positions that are staged."""
        self._staged.discard()

    def has_staged(self) -> bool:
        """Return True if a position is staged."""
        return bool(self._staged)

    # ------------------------------------------------------------ the log

    def apply(self, record: StreamRecord) -> None:
        """Apply the positions of a committed record."""
        fact = fact_of(record, self.kind)
        if fact is not None:
            self._committed.update(self._decode(fact))
            self._staged.commit(record)

    def _decode(self, fact: bytes) -> dict[int, Position]:
        return self._entries(decode_plain(fact))

    def _entries(self, value: object) -> dict[int, Position]:
        found: dict[int, Position] = {}
        if not isinstance(value, list):
            raise CorruptRecord("not positions in sources")
        for entry in value:
            match entry:
                case [int(index), int(stream_id), int(created_ms), int(seq)] if (
                    0 <= index < self._count and stream_id > 0 and created_ms >= 0 and 0 <= seq <= SEQ_MAX
                ):
                    found[index] = Position(Incarnation(stream_id, created_ms), seq)
                case _:
                    raise CorruptRecord("not a position in a source")
        if len(found) != len(value):
            raise CorruptRecord("two positions in one source")
        return found

    # ------------------------------------------------------------ what is due

    def next_due(self, now: Now) -> int | None:
        """Return None: what there is to copy is found by looking at the source."""
        return None

    def decide_due(self, now: Now) -> LayerDecision | None:
        """Decide nothing."""
        return None

    # ------------------------------------------------------------ snapshots

    def snapshot(self) -> object:
        """Return the committed positions as plain values."""
        return [VERSION, [_plain(index, position) for index, position in sorted(self._committed.items())]]

    def restore(self, snapshot: object) -> None:
        """Load a snapshot. ValueError (`CorruptRecord`, `UnknownVersion`) where it is none."""
        self._committed = self._read(snapshot)

    def import_facts(self, snapshot: object) -> list[bytes]:
        """Return the fact that gives an imported stream the positions of a snapshot.

        A source that is still there is continued; one that was created anew is told by its incarnation.
        """
        positions = self._read(snapshot)
        return [encode_positions(positions)] if positions else []

    def _read(self, snapshot: object) -> dict[int, Position]:
        match snapshot:
            case [int(version), entries] if version == VERSION:
                return self._entries(entries)
            case [int(version), *_] if version > VERSION:
                raise UnknownVersion("the positions in sources", version, VERSION)
        raise CorruptRecord("not the positions of a stream in its sources")

    def check(self) -> None:
        """Assert that every position belongs to a source; for tests and simulations."""
        assert all(0 <= index < self._count for index in self._committed)


def encode_positions(positions: dict[int, Position]) -> bytes:
    """Encode positions as the fact of a record."""
    return encode_plain([_plain(index, position) for index, position in sorted(positions.items())])


def _plain(index: int, position: Position) -> list[int]:
    return [index, *position.incarnation, position.seq]

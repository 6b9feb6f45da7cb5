"""The layers of one stream: applied, encoded and restored together, and only here.

A fact or a snapshot of a kind that the stream has no layer for was written by another program, or is damage. It is never
skipped: the state would silently be another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from waymaker_core.layers.layer import SKETCHES, Layer
from waymaker_core.model.records import LayerRecord, StreamRecord
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion


class LayerSet:
    """The layers of one stream, in the order of their kinds."""

    __slots__ = ("by_kind",)

    def __init__(self, layers: Sequence[Layer] = ()) -> None:
        self.by_kind: dict[int, Layer] = {layer.kind: layer for layer in sorted(layers, key=lambda each: each.kind)}
        assert len(self.by_kind) == len(layers), "a stream has one layer of a kind"

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.by_kind.values())

    def __len__(self) -> int:
        return len(self.by_kind)

    def apply(self, record: StreamRecord) -> None:
        """Apply a committed record to every layer."""
        if isinstance(record, LayerRecord):
            for kind, _ in record.facts:
                self._require(kind)
        for layer in self.by_kind.values():
            layer.apply(record)

    def discard_uncommitted(self) -> None:
        """Drop what is staged in any layer."""
        for layer in self.by_kind.values():
            layer.discard_uncommitted()

    def snapshot(self) -> list[list[object]]:
        """Return every layer's kind and snapshot."""
        return [[kind, layer.snapshot()] for kind, layer in self.by_kind.items()]

    def restore(self, snapshots: object) -> None:
        """Load what `snapshot` returned; a layer without a snapshot stays empty."""
        for kind, snapshot in _entries(snapshots):
            self._require(kind).restore(snapshot)

    def import_records(self, snapshots: object) -> list[LayerRecord]:
        """Return records that give an imported stream's log the layers of a snapshot. ValueError: not possible."""
        records: list[LayerRecord] = []
        for kind, snapshot in _entries(snapshots):
            facts = self._require(kind).import_facts(snapshot)
            records += [LayerRecord(None, facts=[(kind, fact)]) for fact in facts]
        return records

    def _require(self, kind: int) -> Layer:
        layer = self.by_kind.get(kind)
        if layer is not None:
            return layer
        if kind > SKETCHES:
            raise UnknownVersion("the kind of a layer", kind, SKETCHES)
        raise CorruptRecord(f"state of a layer of kind {kind}, which this stream does not have")


def _entries(snapshots: object) -> list[tuple[int, object]]:
    if not isinstance(snapshots, list):
        raise CorruptRecord("not the layers of a stream")
    entries: list[tuple[int, object]] = []
    for entry in snapshots:
        match entry:
            case [int(kind), snapshot]:
                entries.append((kind, snapshot))
            case _:
                raise CorruptRecord("not a layer of a stream")
    if len({kind for kind, _ in entries}) != len(entries):
        raise CorruptRecord("two layers of one kind")
    return entries

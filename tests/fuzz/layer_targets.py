"""Targets for what the layers of stores, sketches and sources read: their facts in records, and their snapshots."""

from __future__ import annotations

from tests.fuzz.target import Target
from tests.kit.sketch_kit import small_sketches
from waymaker_core.collections.entries import Entries, encode_removals
from waymaker_core.collections.queue import Queue, Taken, encode_take
from waymaker_core.layers.layer import Layer
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import LayerRecord
from waymaker_core.sketches.facts import Purpose, encode_numbers, encode_pieces, encode_sourced, encode_values
from waymaker_core.sketches.items import item_of
from waymaker_core.sketches.layer import SketchLayer
from waymaker_core.sketches.parameters import parameters_of
from waymaker_core.sources.positions import Incarnation, Position, Positions, encode_positions
from waymaker_core.storage.checkpoint.writer import decode_state, encode_state
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.stream.stream import Stream

KINDS = (
    b"hyperloglog.4",
    b"top_k.3.100000000.100000000",
    b"t_digest.20",
    b"bloom.9.100000000",
    b"count_min.100000000.100000000",
)


def _sketch(settings: bytes) -> SketchLayer:
    parameters = parameters_of(settings)
    return SketchLayer(parameters, item_of(settings, parameters.kind))


def _layers() -> list[Layer]:
    stream = Stream(1, StreamConfig("s", block_size=10), 1, Limits())
    return [Entries(stream), Queue(stream), *map(_sketch, KINDS), Positions(2)]


def layer_seeds() -> list[bytes]:
    """Facts and snapshots of each layer. The first byte chooses the layer, and whether a fact or a snapshot follows."""
    facts = [
        encode_removals(["f.a.b"]),
        encode_take(Taken(1, 1, 9)),
        encode_positions({0: Position(Incarnation(7, 1), 3), 1: Position(Incarnation(9, 2), 0)}),
        encode_values([b"a", b"bc"]),
        encode_numbers(bytes(16)),
        encode_sourced(3, encode_values([b"a"])),
        encode_sourced(3, encode_numbers(bytes(8))),
        *(piece for sketch in small_sketches(7).values() for piece in encode_pieces(Purpose.MERGE, sketch.snapshot())),
    ]
    seeds = [bytes([number]) + fact for number in range(len(_layers())) for fact in facts]
    return seeds + [bytes([128 + number]) + encode_state([layer.snapshot()]) for number, layer in enumerate(_layers())]


def run_layer(data: bytes) -> None:
    """A fact or a snapshot is refused (CorruptRecord, UnknownVersion), or the layer goes on to work and can be stored."""
    if not data:
        return
    layers = _layers()
    layer = layers[(data[0] & 127) % len(layers)]
    try:
        if data[0] < 128:
            layer.apply(LayerRecord(None, facts=[(layer.kind, data[1:])]))
        else:
            match decode_state(data[1:]):
                case [snapshot]:
                    layer.restore(snapshot)
    except (CorruptRecord, UnknownVersion):
        return
    encode_state([layer.snapshot()])


TARGETS = [Target("layer", layer_seeds, run_layer, (b"f.a.b", b"WMsk"))]

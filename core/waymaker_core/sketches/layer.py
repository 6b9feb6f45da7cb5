"""The layer of a sketch: the sketch itself, made of the facts of its stream, which has no messages.

Where the stream has sources, a record carries two facts: what a batch of a source adds here, and the position behind the batch
in the layer of sources. Both are committed or neither, so each message of a source is counted once.

A fact that was decided can always be applied: what a sketch refuses is refused by the decision, which counts what is decided
and not committed to the total. Checkpoints hold the sketch, so that the journal of what was added is released.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from waymaker_core.layers.layer import SKETCHES, LayerDecision, fact_of
from waymaker_core.model.records import StreamRecord
from waymaker_core.model.types import Now
from waymaker_core.sketches.bloom import BloomFilter
from waymaker_core.sketches.count_min import TOTAL_MAX, CountMin
from waymaker_core.sketches.errors import SketchError
from waymaker_core.sketches.facts import (
    FactKind,
    Purpose,
    decode_numbers,
    decode_piece,
    decode_sourced,
    decode_values,
    encode_pieces,
    encode_sourced,
    kind_of,
)
from waymaker_core.sketches.hyperloglog import HyperLogLog
from waymaker_core.sketches.items import Item
from waymaker_core.sketches.merging import merge
from waymaker_core.sketches.parameters import Parameters
from waymaker_core.sketches.restoring import Sketch, restore
from waymaker_core.sketches.snapshot_format import Kind, floats
from waymaker_core.sketches.t_digest import TDigest
from waymaker_core.sketches.top_k import TopK
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

VERSION: Final = 2
"""Version 1 had no count of what was skipped."""
SKIPPED_MAX: Final = (1 << 63) - 1
_ADDED_BYTES: Final = 8


class SketchLayer:
    """One sketch. `added` counts the values of all batches; `pieces`: a snapshot that is being brought, and its purpose.

    `item`: what is added of a source's message; `skipped` counts the messages of sources that had none.
    `staged`: what each decision that waits adds to the total.
    """

    def __init__(self, parameters: Parameters, item: Item) -> None:
        self.parameters = parameters
        self.item = item
        self.skipped = 0
        self.sketch: Sketch = parameters.make()
        self.added = 0
        self.pieces: tuple[Purpose, bytearray] | None = None
        self.staged: deque[tuple[bytes, int]] = deque()

    @property
    def kind(self) -> int:
        """Return the stored number of this kind of layer."""
        return SKETCHES

    # ------------------------------------------------------------ overlay

    def total(self) -> int:
        """Return the total that bounds what may be added, as it is once all that is staged is applied."""
        staged = sum(more for _, more in self.staged)
        match self.sketch:
            case CountMin():
                return self.sketch.total + staged
            case TopK():
                return self.sketch.counts.total + staged
            case TDigest():
                return self.sketch.count + staged
            case _:
                return 0

    def stage(self, fact: bytes, more: int) -> None:
        """Lay a decision over what is committed, by which the total grows by `more`."""
        assert self.total() + more <= TOTAL_MAX, "a decision keeps the total in its bounds"
        self.staged.append((fact, more))

    def discard_uncommitted(self) -> None:
        """Drop every decision that is not committed."""
        self.staged.clear()

    def has_staged(self) -> bool:
        """Return True if a decision waits for its commit."""
        return bool(self.staged)

    # ------------------------------------------------------------ committed records

    def apply(self, record: StreamRecord) -> None:
        """Apply a committed record: its fact, if it carries one for this layer."""
        fact = fact_of(record, SKETCHES)
        if fact is None:
            return
        if self.staged and self.staged[0][0] is fact:
            self.staged.popleft()
        try:
            self._apply(fact)
        except SketchError as problem:
            raise CorruptRecord(f"the fact of a sketch: {problem}") from problem

    def _apply(self, fact: bytes) -> None:
        match kind_of(fact):
            case FactKind.VALUES:
                values = decode_values(fact)
                if isinstance(self.sketch, TDigest):
                    raise CorruptRecord("values of bytes for a t-digest")
                self.sketch.add(values)
                self.added += len(values)
            case FactKind.NUMBERS:
                numbers = floats(decode_numbers(fact))
                if not isinstance(self.sketch, TDigest):
                    raise CorruptRecord("numbers for a sketch of values of bytes")
                self.sketch.add(numbers)
                self.added += len(numbers)
            case FactKind.PIECE:
                self._apply_piece(fact)
            case FactKind.SOURCED:
                skipped, added = decode_sourced(fact)
                if self.skipped + skipped > SKIPPED_MAX:
                    raise CorruptRecord(f"{skipped} skipped messages beside {self.skipped}")
                self.skipped += skipped
                if added:
                    self._apply(added)

    def _apply_piece(self, fact: bytes) -> None:
        piece = decode_piece(fact)
        if not piece.offset:
            self.pieces = piece.purpose, bytearray()
        if self.pieces is None or self.pieces[0] is not piece.purpose or len(self.pieces[1]) != piece.offset:
            raise CorruptRecord("a piece of a sketch's snapshot does not follow the one before")
        whole = self.pieces[1]
        whole += piece.data
        if len(whole) < piece.length:
            return
        self.pieces = None
        if piece.purpose is Purpose.MERGE:
            merge(self.sketch, restore(bytes(whole)))
        else:
            self.added = int.from_bytes(whole[:_ADDED_BYTES], "little")
            self.sketch = self._restored(bytes(whole[_ADDED_BYTES:]))

    def _restored(self, snapshot: bytes) -> Sketch:
        sketch = restore(snapshot)
        if parameters_of_sketch(sketch) != self.parameters:
            raise CorruptRecord(f"a sketch {parameters_of_sketch(sketch).text}; the stream's is {self.parameters.text}")
        return sketch

    # ------------------------------------------------------------ time

    def next_due(self, now: Now) -> int | None:
        """Return None: nothing of a sketch falls due."""
        return None

    def decide_due(self, now: Now) -> LayerDecision | None:
        """Decide nothing: nothing of a sketch falls due."""
        return None

    # ------------------------------------------------------------ snapshots

    def snapshot(self) -> object:
        """Return the committed state as plain values for CBOR."""
        pieces = None if self.pieces is None else [int(self.pieces[0]), bytes(self.pieces[1])]
        return [VERSION, self.added, self.sketch.snapshot(), pieces, self.skipped]

    def restore(self, snapshot: object) -> None:
        """Load a snapshot into a new layer."""
        self.added, self.sketch, self.pieces, self.skipped = self._decode(snapshot)

    def import_facts(self, snapshot: object) -> list[bytes]:
        """Return the facts that put an archive's sketch in the place of the empty one."""
        added, sketch, _, skipped = self._decode(snapshot)
        facts = list(encode_pieces(Purpose.REPLACE, added.to_bytes(_ADDED_BYTES, "little") + sketch.snapshot()))
        return [*facts, encode_sourced(skipped, b"")] if skipped else facts

    def _decode(self, snapshot: object) -> tuple[int, Sketch, tuple[Purpose, bytearray] | None, int]:
        match snapshot:
            case [1, int(added), bytes(state), pieces]:
                return self._decoded(added, state, pieces, 0)
            case [int(version), int(added), bytes(state), pieces, int(skipped)] if version == VERSION:
                return self._decoded(added, state, pieces, skipped)
            case [int(version), *_] if version > VERSION:
                raise UnknownVersion("the snapshot of a sketch's layer", version, VERSION)
        raise CorruptRecord("not the snapshot of a sketch's layer")

    def _decoded(
        self, added: int, state: bytes, pieces: object, skipped: int
    ) -> tuple[int, Sketch, tuple[Purpose, bytearray] | None, int]:
        if not 0 <= added <= TOTAL_MAX or not 0 <= skipped <= SKIPPED_MAX:
            raise CorruptRecord(f"a sketch to which {added} values were added, and {skipped} messages were skipped")
        try:
            sketch = self._restored(state)
        except SketchError as problem:
            raise CorruptRecord(f"the snapshot of a sketch: {problem}") from problem
        match pieces:
            case None:
                return added, sketch, None, skipped
            case [int(purpose), bytes(begun)] if purpose in set(Purpose):
                return added, sketch, (Purpose(purpose), bytearray(begun)), skipped
        raise CorruptRecord("the pieces of a sketch's snapshot")

    def check(self) -> None:
        """Assert that the sketch is one of its parameters, whose state can be stored."""
        assert parameters_of_sketch(self.sketch) == self.parameters, "a sketch keeps its parameters"


def parameters_of_sketch(sketch: Sketch) -> Parameters:
    """Return the parameters with which a sketch was made."""
    match sketch:
        case CountMin():
            return Parameters(Kind.COUNT_MIN, (sketch.error_ppb, sketch.failure_ppb))
        case TopK():
            return Parameters(Kind.TOP_K, (sketch.k, sketch.counts.error_ppb, sketch.counts.failure_ppb))
        case TDigest():
            return Parameters(Kind.T_DIGEST, (sketch.compression,))
        case HyperLogLog():
            return Parameters(Kind.HYPERLOGLOG, (sketch.precision,))
        case BloomFilter():
            return Parameters(Kind.BLOOM, (sketch.capacity, sketch.error_ppb))

"""The interface of a layer: the index that a service keeps beside one stream.

A layer's state is made by committed records only, live and at recovery by the same `apply`, after the stream's own. What it
must remember beyond the messages are *facts*: bytes in a `LayerRecord` that the layer alone can read. Messages, deletions and
facts of one record fall or stand together.

A layer answers no call and reads no clock. Its service decides (`layers.decide`), and a handler of the node commits and
answers (`node/handlers/committing`). What falls due is decided only where the replica leads the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from waymaker_core.model.records import LayerRecord, PublishRecord, StreamRecord
from waymaker_core.model.types import Now
from waymaker_core.stream.stream import Stream

SOURCES = 1
KV = 2
OBJECTS = 3
COLLECTIONS = 4
SKETCHES = 5
"""Kinds of layers: stored in records and snapshots, never reused."""


@dataclass(slots=True, eq=False)
class LayerDecision:
    """A decision of a service about its stream, staged in the stream's overlay and in the layer's.

    `record` is None where nothing changes; a `PublishRecord` is enough where there are no facts and no deletions. `parts` are
    the stored bodies of its messages. `value` is the answer's. `depends_on_uncommitted`: as in `PublishDecision`.
    """

    record: LayerRecord | PublishRecord | None
    parts: list[bytes] = field(default_factory=list)
    value: object = None
    depends_on_uncommitted: bool = False
    expired: int = 0
    """Values whose time to live ends with it."""
    deleted: int = 0
    """Values that a client deletes with it."""


class Layer(Protocol):
    """The state of one service beside one stream."""

    @property
    def kind(self) -> int:
        """Return the stored number of this kind of layer."""
        ...

    def apply(self, record: StreamRecord) -> None:
        """Apply any committed record of the stream, after the stream has applied it: its facts, and messages that left.

        The layer lets go of what was staged for this very record. ValueError (`CorruptRecord`) where a fact makes no sense.
        """
        ...

    def discard_uncommitted(self) -> None:
        """Drop all that is staged, and all that was noted on the strength of it."""
        ...

    def has_staged(self) -> bool:
        """Return True if a decision is staged whose record is not applied."""
        ...

    def next_due(self, now: Now) -> int | None:
        """Return the monotonic nanosecond at which `decide_due` has something to do; None: never.

        What is decided already is not due. Asked only where the replica leads, after every change and every `decide_due`.
        """
        ...

    def decide_due(self, now: Now) -> LayerDecision | None:
        """Decide and stage what is due, as far as one record holds it; None where there is nothing. May raise `NeedBlocks`."""
        ...

    def snapshot(self) -> object:
        """Return the committed state as plain values for CBOR, with a version."""
        ...

    def restore(self, snapshot: object) -> None:
        """Load a snapshot into a new layer. ValueError (`CorruptRecord`, `UnknownVersion`) where it is none."""
        ...

    def import_facts(self, snapshot: object) -> list[bytes]:
        """Return facts that give the empty layer of an imported stream the state of a snapshot, of any origin.

        Each becomes a record, and is at most `FACT_BYTES_MAX` long. The stream has its messages already, with the sequences
        they had. ValueError where the snapshot is none, or does not fit them.
        """
        ...

    def check(self) -> None:
        """Assert every invariant that can be seen from inside; for tests and simulations."""
        ...


FACT_BYTES_MAX = 256 * 1024
"""The longest fact. A record must fit a journal segment."""

LayerFactory = Callable[[Stream], Sequence[Layer]]
"""Makes the empty layers that a stream has, by its name and settings."""


def fact_of(record: StreamRecord, kind: int) -> bytes | None:
    """Return the fact for a kind of layer that a record carries; None where it carries none."""
    if isinstance(record, LayerRecord):
        for other, fact in record.facts:
            if other == kind:
                return fact
    return None


def messages_of(record: StreamRecord) -> PublishRecord | None:
    """Return the messages that a record of a service appends."""
    if isinstance(record, LayerRecord):
        return record.messages
    return record if isinstance(record, PublishRecord) else None

"""The uncommitted overlay of a layer: values that decisions have staged, by key, over the layer's committed state.

The same three verbs as every overlay (docs/architecture.md). A commit finds what was staged by the record itself: one that was
not decided here has staged nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from waymaker_core.model.records import StreamRecord

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LayerOverlay(Generic[Key, Value]):
    """Staged values by key; of a key that was staged more than once, the newest."""

    __slots__ = ("_records", "_values")

    def __init__(self) -> None:
        self._records: deque[tuple[StreamRecord, list[Key]]] = deque()
        self._values: dict[Key, tuple[StreamRecord, Value]] = {}

    def __bool__(self) -> bool:
        return bool(self._records)

    def stage(self, record: StreamRecord, values: Mapping[Key, Value]) -> None:
        """Lay the values of a record over the committed ones."""
        self._records.append((record, list(values)))
        for key, value in values.items():
            self._values[key] = (record, value)

    def commit(self, record: StreamRecord) -> None:
        """Let go of what was staged for a record, if it was staged here."""
        if not self._records or self._records[0][0] is not record:
            return
        _, keys = self._records.popleft()
        for key in keys:
            staged = self._values.get(key)
            if staged is not None and staged[0] is record:
                del self._values[key]

    def discard(self) -> None:
        """Drop all that is staged."""
        self._records.clear()
        self._values.clear()

    def get(self, key: Key) -> Value | None:
        """Return the staged value of a key; None where none is staged."""
        staged = self._values.get(key)
        return None if staged is None else staged[1]

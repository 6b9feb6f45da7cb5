"""Placement wishes: the streams that operators pinned, and those that they sent back to the node which the ring names.

Both are functions of the catalog's log. A wish changes no claim: the node that leads the catalog acts on it
(`cluster/sweep`). So a stream without any claim can be pinned too, on a node outside of a cluster.
"""

from __future__ import annotations

from waymaker_core.model.records import ReturnWished, StreamPinned
from waymaker_core.model.types import StreamId


class PlacementWishes:
    """The wishes for all streams that exist; a stream has at most one pin and one return."""

    def __init__(self) -> None:
        self.pinned: set[StreamId] = set()
        self.returning: dict[StreamId, int] = {}
        """By stream: the node that it is to return to, until a claim names that node as primary."""

    def apply_wish(self, record: StreamPinned | ReturnWished) -> None:
        """Apply a committed wish for a stream that exists."""
        stream_id = StreamId(record.stream_id)
        if isinstance(record, ReturnWished):
            self.returning[stream_id] = record.node_id
        elif record.pinned:
            self.pinned.add(stream_id)
        else:
            self.pinned.discard(stream_id)

    def note_primary(self, stream_id: StreamId, primary: int) -> None:
        """Forget the return of a stream that is claimed for the node which it was to return to."""
        if self.returning.get(stream_id) == primary:
            del self.returning[stream_id]

    def inherit(self, before: StreamId, stream_id: StreamId) -> None:
        """Give a stream the pin of the one that it replaces."""
        if before in self.pinned:
            self.pinned.add(stream_id)

    def forget_wishes(self, stream_id: StreamId) -> None:
        """Forget the wishes for a deleted stream."""
        self.pinned.discard(stream_id)
        self.returning.pop(stream_id, None)

    def wishes_as_list(self) -> list[object]:
        """Encode the wishes as plain values; nothing where there is none."""
        returning = [[stream_id, node] for stream_id, node in sorted(self.returning.items())]
        return [sorted(self.pinned), returning] if self.pinned or returning else []

    def restore(self, value: object) -> None:
        """Fill it from `wishes_as_list`; ValueError where the values are none, or are empty."""
        match value:
            case [list(pinned), list(returning)] if pinned or returning:
                self.pinned = {StreamId(each) for each in pinned if type(each) is int and each > 0}
                for each in returning:
                    match each:
                        case [int(stream_id), int(node)] if type(node) is int and 0 < node < 1 << 64:
                            self.returning[StreamId(stream_id)] = node
                        case _:
                            raise ValueError("not the return of a stream")
                if self.wishes_as_list() != value:
                    raise ValueError("wishes for streams that are out of order, named twice, or no streams")
            case _:
                raise ValueError("not wishes for streams")

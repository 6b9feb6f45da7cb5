"""The node's log of one stream, as the stream's replication protocol reads it."""

from __future__ import annotations

from waymaker_core.api.inputs import SentRecord
from waymaker_core.node.node import Node
from waymaker_core.replication.messages import EpochStart


class StreamSource:
    """The log of one stream on this node."""

    __slots__ = ("_node", "_stream_id")

    def __init__(self, node: Node, stream_id: int) -> None:
        self._node = node
        self._stream_id = stream_id

    def bounds(self) -> tuple[int, tuple[EpochStart, ...]]:
        """Return the position of the last record, and the table of epochs."""
        return self._node.log_end(self._stream_id), tuple(self._node.epoch_table(self._stream_id))

    def facts(self) -> tuple[int, int]:
        """Return the epoch that is promised, and that in which the whole log was verified."""
        membership = self._node.membership(self._stream_id)
        return self._node.promised(self._stream_id), 0 if membership is None else membership.log_epoch

    def records(self, first: int, bytes_max: int) -> tuple[SentRecord, ...] | None:
        """Return records from a position on; None where they are not in memory any more."""
        found = self._node.sent_records(self._stream_id, first, bytes_max)
        return None if found is None else tuple(found)

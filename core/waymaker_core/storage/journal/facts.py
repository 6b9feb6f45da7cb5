"""Facts of a replica as bytes: local frames of the journal, which no other replica has.

`CUT` is all in its header: stream and position. The others hold for many streams, in columns: ids, then the values of each. A
fact holds from its place in the journal on, until a later one of the same stream. A checkpoint writes the facts in force anew
behind what it releases.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, NamedTuple

from waymaker_core.raft.entries import HardState
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.storage.frame import COMMIT, CUT, DOUBT, PROMISE, RAFT_HARD, REPLICA

FACT_VERSION: Final = 1
STREAMS_A_FRAME: Final = 4096
"""Streams of one frame at most, so that it fits a segment and is read at once."""
VALUES: Final = {PROMISE: 1, COMMIT: 1, REPLICA: 2, CUT: 0, RAFT_HARD: 2, DOUBT: 2}
"""Values of each stream in a frame, by kind."""
NAMES: Final = {
    PROMISE: "promises",
    COMMIT: "committed positions",
    REPLICA: "replicas",
    CUT: "a cut",
    RAFT_HARD: "a term and vote",
    DOUBT: "doubts",
}

_CATALOG: Final = 0
"""The one log that a consensus group keeps."""
NO_VOTE: Final = HardState()
_COUNT: Final = Struct("<II")
"""The number of streams, and of values that each has."""
_SWAP: Final = array("H", [1]).tobytes() != b"\x01\x00"


class Membership(NamedTuple):
    """A replica of a stream: the epoch in which it was (re)added, and that in which its whole log was verified."""

    since: int
    log_epoch: int


class Doubt(NamedTuple):
    """A doubt about what a replica may have forgotten. `until`: the claim (the catalog's: the term) up to which it reaches.

    `torn`, of the catalog alone: 1 as long as it reaches to claims of streams that the node has not learnt yet.
    """

    until: int = 0
    torn: int = 0


NO_DOUBT: Final = Doubt()


@dataclass(slots=True, eq=False)
class ReplicaFacts:
    """The facts in force. `promises`: by stream id the highest epoch that this replica obeys.

    `raft_hard`: the newest term of the catalog's group that this node has seen, and its vote in it.
    """

    promises: dict[int, int] = field(default_factory=dict)
    replicas: dict[int, Membership] = field(default_factory=dict)
    raft_hard: HardState = NO_VOTE
    doubts: dict[int, Doubt] = field(default_factory=dict)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield kind and meta of frames that say all of it."""
        for some in batches([(stream_id, epoch) for stream_id, epoch in self.promises.items()]):
            yield PROMISE, encode_fact(PROMISE, some)
        for some in batches([(stream_id, *each) for stream_id, each in self.replicas.items()]):
            yield REPLICA, encode_fact(REPLICA, some)
        if self.raft_hard != NO_VOTE:
            yield RAFT_HARD, encode_fact(RAFT_HARD, [(_CATALOG, *self.raft_hard)])
        for some in batches([(stream_id, *each) for stream_id, each in self.doubts.items()]):
            yield DOUBT, encode_fact(DOUBT, some)

    def learn(self, kind: int, rows: Sequence[Sequence[int]]) -> None:
        """Take what a frame says. An older promise never replaces a later one, nor an older term, nor no vote a vote."""
        for stream_id, *values in rows:
            if kind == PROMISE:
                self.promises[stream_id] = max(self.promises.get(stream_id, 0), values[0])
            elif kind == REPLICA:
                self.replicas[stream_id] = Membership(*values)
            elif kind == DOUBT:
                self.doubts.pop(stream_id, None)
                if any(values):
                    self.doubts[stream_id] = Doubt(*values)
            elif kind == RAFT_HARD:
                found = HardState(*values)
                if may_follow(self.raft_hard, found):
                    self.raft_hard = found

    def drop_stream(self, stream_id: int) -> None:
        """Forget a deleted stream."""
        self.promises.pop(stream_id, None)
        self.replicas.pop(stream_id, None)
        self.doubts.pop(stream_id, None)


def may_follow(before: HardState, after: HardState) -> bool:
    """Return True if a term and vote may take the place of others: a term never goes back, and has one vote."""
    return after.term > before.term or (after.term == before.term and before.vote in (0, after.vote))


def batches(rows: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Yield rows in groups of what one frame may hold."""
    for start in range(0, len(rows), STREAMS_A_FRAME):
        yield rows[start : start + STREAMS_A_FRAME]


def encode_fact(kind: int, rows: Sequence[tuple[int, ...]]) -> bytes:
    """Encode the meta of a frame: rows of a stream id and its values."""
    assert 0 < len(rows) <= STREAMS_A_FRAME
    columns = [array("Q", column) for column in zip(*rows, strict=True)]
    assert len(columns) == 1 + VALUES[kind]
    return _COUNT.pack(len(rows), VALUES[kind]) + b"".join(map(_raw, columns))


def decode_fact(kind: int, version: int, meta: bytes) -> list[tuple[int, ...]]:
    """Decode the rows of a frame. `CorruptRecord`, or `UnknownVersion` for a kind or version to come."""
    if kind not in VALUES:
        raise UnknownVersion("frame kind", kind, max(VALUES))
    if version != FACT_VERSION:
        raise UnknownVersion(f"a frame of {NAMES[kind]}", version, FACT_VERSION)
    if kind == CUT:
        if meta:
            raise CorruptRecord("a cut with content")
        return []
    if len(meta) < _COUNT.size:
        raise CorruptRecord("columns of facts run past the end")
    count, values = _COUNT.unpack_from(meta)
    if (
        values != VALUES[kind]
        or not 0 < count <= STREAMS_A_FRAME
        or len(meta) != _COUNT.size + 8 * count * (1 + values)
    ):
        raise CorruptRecord(f"a frame of {NAMES[kind]} does not have its length")
    width = 8 * count
    columns = [_column(meta[at : at + width]) for at in range(_COUNT.size, len(meta), width)]
    if kind == RAFT_HARD and columns[0].tolist() != [_CATALOG]:
        raise CorruptRecord("a term and vote of another log than the catalog's")
    return list(zip(*columns, strict=True))


def _raw(column: array[int]) -> bytes:
    if _SWAP:
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _column(raw: bytes) -> array[int]:
    column = array("Q")
    column.frombytes(raw)
    if _SWAP:
        column.byteswap()
    return column

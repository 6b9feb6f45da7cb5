"""Checkpoints: files that hold streams' states, so that the journal before them can go.

A checkpoint file holds a frame for each stream that changed since the file before it: `SNAPSHOT` (the state at a position
in its log), `TOMBSTONE` (the stream is gone) or `QUARANTINED` (it is damaged, and must stay refused after the journal that
shows so is gone). The files in force form a chain that the manifest lists; a stream's latest frame in the chain holds.
Streams' snapshots need not be of one moment: each is exact for its own log, and replay passes over the records it covers.

When most of the chain is superseded frames, the next checkpoint should be full (all streams) and begins a new chain.
"""

from __future__ import annotations

from waymaker_core.disk import DiskOp
from waymaker_core.store.manifest import CheckpointFile


def encode_state(state: object) -> bytes:
    """A snapshot's meta from plain values (lists, tuples, dicts, ints, str, bytes, bool, None)."""
    raise NotImplementedError


def decode_state(meta: bytes) -> object:
    """The plain values of a snapshot's meta (tuples come back as lists); `CorruptRecord` where it is not one."""
    raise NotImplementedError


class Chain:
    """The checkpoint files in force and how much of them still counts. Made by recovery."""

    __slots__ = ("files", "latest", "live_bytes")

    def __init__(self) -> None:
        self.files: list[CheckpointFile] = []
        self.latest: dict[int, int] = {}
        """Bytes of each stream's latest frame."""
        self.live_bytes = 0

    def full_wanted(self) -> bool:
        """Whether the next checkpoint should hold all streams and begin a new chain."""
        raise NotImplementedError


class CheckpointWriter:
    """One checkpoint file in the making. Add frames, take operations as often as wanted, then `finish`.

    The file counts when `finish`'s operations are done and then a manifest with `chain_after(...)` is durable.
    """

    def __init__(self, key: int, number: int, full: bool) -> None:
        raise NotImplementedError

    def add_snapshot(self, stream_id: int, position: int, meta: bytes) -> None:
        """A stream's state (`encode_state`) at a position of its log. The catalogue is stream 0."""
        raise NotImplementedError

    def add_tombstone(self, stream_id: int) -> None:
        """The stream was deleted. Left out of a full checkpoint by itself."""
        raise NotImplementedError

    def add_quarantine(self, stream_id: int, path: str, offset: int, detail: str) -> None:
        """The stream is damaged there."""
        raise NotImplementedError

    @property
    def pending_bytes(self) -> int:
        """Bytes added and not yet taken."""
        raise NotImplementedError

    def take(self) -> list[DiskOp]:
        """Writes for what was added since the last time (for the BACKGROUND lane, in order)."""
        raise NotImplementedError

    def finish(self) -> list[DiskOp]:
        """The remaining writes and the syncs. Nothing may be added afterwards."""
        raise NotImplementedError

    def chain_after(self, chain: Chain) -> Chain:
        """The chain once this finished file is in force; its `files` belong into the next manifest."""
        raise NotImplementedError

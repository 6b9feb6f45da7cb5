"""Recovery: from the files of a data directory to the state they hold, or to a clear refusal. Sans-I/O.

A generator yields `disk` operations and is sent their results; a failed operation is thrown into it as `DiskFailure`. It
reads the manifest, the checkpoint chain and then the journal, and hands what it finds to a `Target`.

Where the journal's frames end is a judgement. The first place without a valid frame is the end (a torn tail, cut) unless a
valid frame further on says by its `durable` that the place had been synced: then it is damage, and is put down to its
stream if the header is intact (`Quarantine`), else to the node (`CorruptStore`). Cutting is safe to repeat: what lies
behind the cut has an older `boot` than whatever is written next, so it never comes back, and the headers found there are
erased besides. What was accepted without proof that it was durable is written once more and synced before anything rests
on it: a file system that failed to write it may still show it.

Recovery never deletes: it lists what nobody names as `orphans`. Doing it twice gives the same state.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Protocol

from waymaker_core.disk import Chunk, DiskOp
from waymaker_core.limits import Limits
from waymaker_core.records import Record
from waymaker_core.store.checkpoint import Chain
from waymaker_core.store.journal import JournalState
from waymaker_core.store.manifest import Manifest


class Quarantine:
    """Damage that belongs to one stream: the file, the offset in it, and what is wrong."""

    __slots__ = ("stream_id", "path", "offset", "detail")

    def __init__(self, stream_id: int, path: str, offset: int, detail: str) -> None:
        self.stream_id = stream_id
        self.path = path
        self.offset = offset
        self.detail = detail

    def __repr__(self) -> str:
        return f"Quarantine(stream {self.stream_id}, {self.path} at {self.offset}: {self.detail})"


class Target(Protocol):
    """What recovery fills. Any of the first two may raise `CorruptRecord`: the stream is then quarantined."""

    def snapshot(self, stream_id: int, position: int, meta: bytes) -> None:
        """A stream's state at a position of its log. The catalogue (0) comes first, then ascending ids.

        A stream that the catalogue's state does not know (yet) may be created by a record still to come, or be gone.
        """
        ...

    def record(self, stream_id: int, position: int, record: Record, chunk: Chunk | None) -> None:
        """A committed record, in order and without gaps for each stream; `chunk` holds its stored bodies."""
        ...

    def exists(self, stream_id: int) -> bool:
        """Whether the stream is alive as far as the records handed over say; records of others are passed over."""
        ...

    def quarantine(self, quarantine: Quarantine) -> None:
        """The stream's data are damaged; nothing more of it follows. Never the catalogue's."""
        ...

    def files(self) -> Iterable[str]:
        """Paths of all block and tail files that the streams' states name, asked at the end."""
        ...


class Recovered:
    """What recovery found.

    `clean`: the last stop was a drain. `orphans`: files that nobody names, to be deleted at leisure. `warnings`: damage
    that takes nothing away (a superseded snapshot, a frame of a deleted stream), in words. `skipped`: records that a
    snapshot covers or whose stream is gone. `cut_bytes`: length of the torn tail; `cut_at`: its path and offset, or None.
    """

    __slots__ = (
        "manifest", "journal", "chain", "quarantines", "orphans", "warnings", "clean", "is_new", "replayed", "skipped",
        "replayed_bytes", "cut_bytes", "cut_at",
    )  # fmt: skip

    def __init__(self, manifest: Manifest, journal: JournalState, chain: Chain) -> None:
        self.manifest = manifest
        self.journal = journal
        self.chain = chain
        self.quarantines: list[Quarantine] = []
        self.orphans: list[str] = []
        self.warnings: list[str] = []
        self.clean = False
        self.is_new = False
        self.replayed = 0
        self.skipped = 0
        self.replayed_bytes = 0
        self.cut_bytes = 0
        self.cut_at: tuple[str, int] | None = None


def recover(target: Target, limits: Limits, fresh_id: bytes, node_id: int = 1) -> Generator[DiskOp, object, Recovered]:
    """Open a data directory. `fresh_id`: 16 random bytes, the id of the directory if it turns out to be new.

    Raises `StoreRefused` (`CorruptStore`, `UnknownStoreVersion`, `NotAStore`), naming file and offset, before anything was
    written; `DiskFailure` where the disk itself failed. When it returns, all that was handed over is durable.
    """
    raise NotImplementedError
    yield

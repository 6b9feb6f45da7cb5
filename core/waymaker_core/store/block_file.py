"""Block files: messages moved out of the journal, with the index that finds them.

A block's messages lie in one or more part files of about `block_bytes_max`: a header, then the stored bodies in chunks
copied verbatim. A sealed block's last part ends in an index: columns with one entry a message (length, size, time, subject
id, and sequences where they have gaps), postings by subject, the sorted subject table with each subject's count and last
entry, and the chunk table; each section has its own checksum. The index can be read without the bodies, the subject table
without the rest. A block file is never changed once it is named by a snapshot.

A tail file is the same without an index: chunks of many streams' open blocks, named by the streams' snapshots.

A block is the sequences of one `(seq - 1) // block_size`; an index's entries are its messages in order of sequence, those
that were deleted later included (who is gone is the stream's summary, not the file's).
"""

from __future__ import annotations

from array import array

from waymaker_core.disk import Chunk, DiskOp


class SubjectTable:
    """The subjects of a block, sorted, with the number of entries and the last entry of each."""

    __slots__ = ("subjects", "counts", "last_entries")

    def __init__(self, subjects: list[str], counts: array[int], last_entries: array[int]) -> None:
        self.subjects = subjects
        self.counts = counts
        self.last_entries = last_entries

    def find(self, subject: str) -> int:
        """The subject's id (its place in the table), or -1."""
        raise NotImplementedError


class BlockIndex:
    """Columns of one block, one entry a message in order of sequence. Of an open block it grows, of a sealed one not.

    `first_seq`: sequence of entry 0. `seqs` ('Q'): each entry's sequence, or None while they run without gaps from
    `first_seq`. `lengths` ('I'): bytes of the stored body. `sizes` ('I'): what statistics count. `times_ms` ('q').
    `subject_ids` ('I'): index into `subjects` (in order of appearance in an open block, sorted in a decoded one).
    `chunk_firsts` ('I'): the first entry of each of `chunks`; a chunk's bodies lie one after the other in order of entries,
    from its first byte to its last.
    """

    __slots__ = (
        "first_seq", "seqs", "lengths", "sizes", "times_ms", "subject_ids", "subjects", "chunk_firsts", "chunks",
        "_ids", "_posting_starts", "_postings", "_posted",
    )  # fmt: skip

    def __init__(self, first_seq: int) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def extend(
        self, first_seq: int, seqs: array[int] | None, times_ms: array[int], sizes: array[int], lengths: array[int],
        subjects: list[str], chunk: Chunk,
    ) -> None:  # fmt: skip
        """Append the messages of one chunk. Their sequences run from `first_seq`, or are `seqs`; above all before."""
        raise NotImplementedError

    def entry_of(self, seq: int) -> int:
        """The entry of a sequence, or -1 where the block never had it."""
        raise NotImplementedError

    def entry_from(self, seq: int) -> int:
        """The first entry at or after a sequence; `len(self)` where there is none."""
        raise NotImplementedError

    def seq_of(self, entry: int) -> int:
        """The sequence of an entry."""
        raise NotImplementedError

    def subject_id(self, subject: str) -> int:
        """The subject's id in this block, or -1."""
        raise NotImplementedError

    def postings(self, subject_id: int) -> array[int]:
        """The entries ('I') at one subject, ascending. Cheap after the first call on a block; not to be changed."""
        raise NotImplementedError

    def subject_table(self) -> SubjectTable:
        """The subjects, sorted, with counts and last entries."""
        raise NotImplementedError

    def chunk_of(self, entry: int) -> int:
        """Index of the chunk that holds an entry's body."""
        raise NotImplementedError

    def body_start(self, entry: int) -> int:
        """Offset of an entry's body inside its chunk."""
        raise NotImplementedError

    def resident_bytes(self) -> int:
        """About how much memory the columns take, for caches."""
        raise NotImplementedError


def encode_index(index: BlockIndex) -> bytes:
    """The index section of a block file; its chunks must already be where they will be read (`block_path`s)."""
    raise NotImplementedError


def decode_index(data: bytes) -> BlockIndex:
    """The index from its section's bytes; `CorruptRecord` or `UnknownVersion` where it is damaged."""
    raise NotImplementedError


def subject_section(data: bytes) -> tuple[int, int]:
    """Offset and length, inside the index, of the subject table, from the index's first `INDEX_HEAD_BYTES` bytes."""
    raise NotImplementedError


def decode_subjects(data: bytes) -> SubjectTable:
    """The subject table from its bytes alone (they carry their own checksum)."""
    raise NotImplementedError


FILE_HEADER_BYTES = 64
"""Header of block and tail files; chunks begin behind it."""


class PartPlan:
    """One part file to be written: `ops` copy its chunks; afterwards `copied(results of the CopyChunks)` gives them."""

    __slots__ = ("path", "sources", "keep", "lengths", "end", "ops")

    def __init__(
        self, path: str, sources: list[Chunk], keep: list[list[tuple[int, int]] | None] | None, lengths: list[int], end: int,
        ops: list[DiskOp],
    ) -> None:  # fmt: skip
        self.path = path
        self.sources = sources
        self.keep = keep
        self.lengths = lengths
        self.end = end
        """File offset behind the last chunk."""
        self.ops = ops
        """A `Write` of the header and one `CopyChunks`, in this order."""

    def copied(self, crcs: list[int]) -> list[Chunk]:
        """The chunks as they lie in the new file, in the order of the sources. `crcs`: the `CopyChunks`' result."""
        raise NotImplementedError


def plan_block_part(
    key: int, stream_id: int, number: int, block_no: int, sources: list[Chunk],
    keep: list[list[tuple[int, int]] | None] | None = None,
) -> PartPlan:  # fmt: skip
    """Copy chunks into the block file `number` of a stream. The caller splits at `block_bytes_max`, in order."""
    raise NotImplementedError


def plan_tail(key: int, number: int, sources: list[Chunk]) -> PartPlan:
    """Copy chunks of any streams into the tail file `number`."""
    raise NotImplementedError


def index_ops(path: str, end: int, index: bytes) -> tuple[list[DiskOp], int, int]:
    """Write a sealed block's index behind its last part's chunks: operations, and the index's offset and length."""
    raise NotImplementedError


def finish_ops(paths: list[str]) -> list[DiskOp]:
    """Syncs that make finished block and tail files durable, names included."""
    raise NotImplementedError

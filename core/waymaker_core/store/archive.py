"""Archives: one stream as one sequence of bytes, for backup, restore and moving.

An archive is a head (configuration, figures, the consumers' states), batches of messages with the sequences and times they
had, and a summary that says how many there were. Each piece is a frame with its own number and checksums; the summary's
frame is the last. Pure: a writer turns pieces into bytes, a reader takes bytes as they come and gives pieces back. A
truncated, damaged, reordered or foreign archive ends in an `ArchiveError` that says where, never in a shorter stream.
"""

from __future__ import annotations

from array import array

from waymaker_core.configs import StreamConfig


class ArchiveError(ValueError):
    """The bytes are not a whole, undamaged archive of a known version. `offset` counts from the archive's first byte."""

    def __init__(self, offset: int, detail: str) -> None:
        super().__init__(f"archive at byte {offset}: {detail}")
        self.offset = offset
        self.detail = detail


class Head:
    """What an archive holds besides the messages. `consumers`: plain values, the consumers' own snapshot (or None)."""

    __slots__ = ("config", "created_ms", "first_seq", "last_seq", "count", "byte_count", "consumers")

    def __init__(
        self, config: StreamConfig, created_ms: int, first_seq: int, last_seq: int, count: int, byte_count: int,
        consumers: object,
    ) -> None:  # fmt: skip
        self.config = config
        self.created_ms = created_ms
        self.first_seq = first_seq
        self.last_seq = last_seq
        self.count = count
        self.byte_count = byte_count
        self.consumers = consumers


class Batch:
    """Messages in order of sequence: columns as in `requests.ImportBatch`."""

    __slots__ = ("seqs", "times_ms", "subjects", "sizes", "lengths", "body")

    def __init__(
        self, seqs: array[int], times_ms: array[int], subjects: list[str], sizes: array[int], lengths: array[int],
        body: bytes,
    ) -> None:  # fmt: skip
        self.seqs = seqs
        self.times_ms = times_ms
        self.subjects = subjects
        self.sizes = sizes
        self.lengths = lengths
        self.body = body


class Summary:
    """The end of an archive: messages and bytes of stored bodies that were in it, and the last sequence of the stream."""

    __slots__ = ("count", "body_bytes", "last_seq")

    def __init__(self, count: int, body_bytes: int, last_seq: int) -> None:
        self.count = count
        self.body_bytes = body_bytes
        self.last_seq = last_seq


class ArchiveWriter:
    """Pieces in, bytes out: `head` first, then `batch` any number of times, then `finish`."""

    def head(self, head: Head) -> bytes:
        """The archive's beginning."""
        raise NotImplementedError

    def batch(self, batch: Batch) -> bytes:
        """One batch of messages, above all sequences before (at most `BATCH_BYTES_MAX` of bodies)."""
        raise NotImplementedError

    def finish(self, last_seq: int) -> bytes:
        """The summary; nothing may follow."""
        raise NotImplementedError


class ArchiveReader:
    """Bytes in, pieces out, in order and each at once when it is whole. Memory is bounded by one piece."""

    def feed(self, data: bytes) -> list[Head | Batch | Summary]:
        """The pieces that these bytes complete. Raises `ArchiveError`, after which the reader is of no more use."""
        raise NotImplementedError

    def close(self) -> Summary:
        """No more bytes come: the summary, or `ArchiveError` where the archive is not whole."""
        raise NotImplementedError

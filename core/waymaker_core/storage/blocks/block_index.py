"""The index of a sealed block: what is needed to find and read its messages without looking at them.

Columns with one entry a sequence, in sections with a checksum each, behind a head that says where they are: lengths of stored
bodies, sizes, times, subject ids, the postings (entries grouped by subject), the sorted subject table with each
subject's count and last entry, and the chunk table. Sequences that never held a message (holes) cost nothing: the
columns are stored for the messages only, with the runs they form. The subject table can be read without the rest.

    head (256): magic word (8) | version u32 | sections u32 | first sequence u64 | entries u64 | messages u32 |
                subjects u32 | chunks u32 | zeros u32 | 10 x (offset u64, length u64, CRC32C u32) | zeros | CRC32C
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from struct import Struct, error
from typing import Final

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

MAGIC: Final = b"WMblkidx"
INDEX_VERSION: Final = 1
INDEX_HEAD_BYTES: Final = 256
HOLE: Final = 0xFFFF_FFFF
"""Subject id of an entry that never held a message."""

_HEAD: Final = Struct("<8sIIQQIII4x")
_SECTION: Final = Struct("<QQI")
_CRC: Final = Struct("<I")
_COUNTS: Final = Struct("<II")
_RUNS, _LENGTHS, _SIZES, _TIMES, _IDS, _POSTINGS, _SUBJECTS, _CHUNKS, _PATHS = range(9)
_SECTIONS: Final = 9
_CHUNK: Final = Struct("<IIQQQI")
"""First entry, path, skip, offset, length, checksum."""
assert _HEAD.size + _SECTIONS * _SECTION.size + _CRC.size <= INDEX_HEAD_BYTES

_SWAP: Final = array("H", [1]).tobytes() != b"\x01\x00"


@dataclass(slots=True, eq=False)
class BlockIndex:
    """A block's columns as plain data. Entry `i` is the sequence `first_seq + i`; holes have no size and the id `HOLE`.

    `lengths` ('I'): bytes of the stored body. `sizes` ('I'): what statistics count. `times_ms` ('q'). `ids` ('I'): places
    in `subjects`. Chunk `c` holds the bodies of the entries from `chunk_firsts[c]` ('I') to the next chunk's first, one
    after the other from byte `chunk_skips[c]` ('Q') of `chunks[c]` on.

    A decoded one has its subjects sorted, and `postings`/`posting_starts` ('I'): the entries at subject `i`, ascending,
    are `postings[posting_starts[i]:posting_starts[i + 1]]`. `encode_index` makes them itself.
    """

    first_seq: int
    lengths: array[int]
    sizes: array[int]
    times_ms: array[int]
    ids: array[int]
    subjects: list[str]
    chunk_firsts: array[int]
    chunk_skips: array[int]
    chunks: list[Chunk]
    postings: array[int] = field(default_factory=lambda: array("I"))
    posting_starts: array[int] = field(default_factory=lambda: array("I"))


@dataclass(slots=True, eq=False)
class SubjectTable:
    """The subjects of a block, sorted, with the number of entries and the last entry of each ('I')."""

    subjects: list[str]
    counts: array[int]
    last_entries: array[int]

    def find(self, subject: str) -> int:
        """Return the subject's place in the table, or -1."""
        place = bisect_left(self.subjects, subject)
        return place if place < len(self.subjects) and self.subjects[place] == subject else -1


MARK_BYTES: Final = 4_096
"""Bytes of encoded subjects from one count to the next."""


class EncodedSubjects:
    """The sorted subjects of a block as their bytes in its index, searched without a string for each of them.

    `text` holds them joined by NUL. UTF-8 sorts as code points do, so a binary search over the bytes finds a subject. Its place
    is the number of subjects before it: those before each `MARK_BYTES` are counted once, at the first look.
    """

    __slots__ = ("text", "count", "_marks")

    def __init__(self, text: bytes, count: int) -> None:
        self.text = text
        self.count = count
        self._marks: array[int] | None = None

    def find(self, subject: str) -> int:
        """Return the subject's place in the table, or -1. Costs a search of logarithmic depth, whatever the block's size."""
        raw = subject.encode()
        at = self._lower_bound(raw)
        end = at + len(raw)
        found = self.count > 0 and self.text[at:end] == raw and self.text[end : end + 1] in (b"\0", b"")
        return self._place(at) if found and at <= len(self.text) else -1

    def range_of(self, prefix: str) -> tuple[int, int]:
        """Return the places of the subjects that begin with `prefix`, from the first to behind the last."""
        if not prefix:
            return 0, self.count
        low, high = self._bounds(prefix)
        return self._place(low), self._place(high)

    def listed(self, prefix: str = "") -> list[str]:
        """Return the subjects that begin with `prefix`, sorted."""
        if not self.count:
            return []
        low, high = self._bounds(prefix) if prefix else (0, len(self.text) + 1)
        return self.text[low : high - 1].decode().split("\0") if high > low else []

    def _bounds(self, prefix: str) -> tuple[int, int]:
        # No byte of UTF-8 is as great as 0xFF.
        raw = prefix.encode()
        return self._lower_bound(raw), self._lower_bound(raw + b"\xff")

    def _lower_bound(self, raw: bytes) -> int:
        """Return where the first subject begins that does not sort below `raw`; one behind the text where none does."""
        text = self.text
        low, high = 0, len(text) + 1 if self.count else 0
        while low < high:
            middle = (low + high) // 2
            start = max(low, text.rfind(b"\0", low, middle) + 1)
            end = text.find(b"\0", middle)
            if end < 0:
                end = len(text)
            if text[start:end] < raw:
                low = end + 1
            else:
                high = start
        return low

    def _place(self, at: int) -> int:
        """Return how many subjects begin before a byte at which one begins."""
        if not self.count:
            return 0
        text, marks = self.text, self._marks
        if marks is None:
            ends = (text.count(b"\0", start, start + MARK_BYTES) for start in range(0, len(text), MARK_BYTES))
            marks = self._marks = array("I", accumulate(ends, initial=0))
        mark = min(at, len(text)) // MARK_BYTES
        return marks[mark] + text.count(b"\0", mark * MARK_BYTES, at) + (at > len(text) > 0)


@dataclass(slots=True, eq=False)
class OpenIndex:
    """A decoded index in the shape in which a block is read: columns, and what can stay encoded as it lies.

    Columns are as in `BlockIndex`; `counts` ('I') says how many postings each subject has, `paths` are the files of the
    chunks, and the chunk table is columns, too.
    """

    first_seq: int
    lengths: array[int]
    sizes: array[int]
    times_ms: array[int]
    ids: array[int]
    subjects: EncodedSubjects
    postings: array[int]
    counts: array[int]
    paths: list[str] = field(default_factory=list)
    chunk_firsts: array[int] = field(default_factory=lambda: array("I"))
    chunk_paths: array[int] = field(default_factory=lambda: array("I"))
    chunk_skips: array[int] = field(default_factory=lambda: array("Q"))
    chunk_offsets: array[int] = field(default_factory=lambda: array("Q"))
    chunk_lengths: array[int] = field(default_factory=lambda: array("Q"))
    chunk_crcs: array[int] = field(default_factory=lambda: array("I"))


# ---------------------------------------------------------------- encoding


def _raw(column: array[int]) -> bytes:
    if _SWAP:
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _runs(ids: array[int]) -> array[int]:
    """Return the runs of entries that hold messages, as first entry and count, in turn."""
    runs = array("I")
    raw, size = ids.tobytes(), len(ids)
    hole = array("I", [HOLE]).tobytes()
    start = 0
    while start < size:
        end = _next_hole(raw, hole, start)
        if end > start:
            runs.extend((start, end - start))
        start = end
        while start < size and ids[start] == HOLE:
            start += 1
    return runs


def _next_hole(raw: bytes, hole: bytes, start: int) -> int:
    """Return the first entry at or behind `start` that is a hole, or the number of entries."""
    at = raw.find(hole, 4 * start)
    assert at < 0 or at % 4 == 0, "no id is so great that a hole could begin inside it"
    return at // 4 if at >= 0 else len(raw) // 4


def _picked(column: array[int], runs: array[int]) -> array[int]:
    """Return the entries of a column that lie in the runs."""
    if len(runs) == 2 and runs[0] == 0 and runs[1] == len(column):
        return column
    picked = array(column.typecode)
    for place in range(0, len(runs), 2):
        picked += column[runs[place] : runs[place] + runs[place + 1]]
    return picked


def _group(ids: array[int], count: int) -> list[array[int]]:
    """Return the entries at each subject id."""
    groups = [array("I") for _ in range(count)]
    adders = [group.append for group in groups]
    for entry, ident in enumerate(ids):
        if ident != HOLE:
            adders[ident](entry)
    return groups


def encode_index(index: BlockIndex) -> bytes:
    """Encode the index that closes a block's last file; its chunks must already name the place where they will be read.

    ValueError where columns disagree or a subject of the table has no entry (a bug of the caller).
    """
    entries = len(index.ids)
    if not len(index.lengths) == len(index.sizes) == len(index.times_ms) == entries:
        raise ValueError("columns of a block differ in length")
    if not len(index.chunk_firsts) == len(index.chunk_skips) == len(index.chunks):
        raise ValueError("the chunk table's columns differ in length")
    groups = _group(index.ids, len(index.subjects))
    order = sorted((ident for ident in range(len(groups)) if groups[ident]), key=index.subjects.__getitem__)
    places = array("I", bytes(4 * len(index.subjects)))
    for place, ident in enumerate(order):
        places[ident] = place
    runs = _runs(index.ids)
    ids = _picked(index.ids, runs)
    if places != array("I", range(len(places))):
        ids = array("I", map(places.__getitem__, ids))
    postings = array("I")
    for ident in order:
        postings += groups[ident]
    subjects = [index.subjects[ident] for ident in order]
    paths = list(dict.fromkeys(chunk.path for chunk in index.chunks))
    sections = [
        _raw(runs),
        _raw(_picked(index.lengths, runs)),
        _raw(_picked(index.sizes, runs)),
        _raw(_picked(index.times_ms, runs)),
        _raw(ids),
        _raw(postings),
        _encode_subjects(subjects, [groups[ident] for ident in order]),
        b"".join(
            _CHUNK.pack(first, paths.index(chunk.path), skip, chunk.offset, chunk.length, chunk.crc)
            for first, skip, chunk in zip(index.chunk_firsts, index.chunk_skips, index.chunks, strict=True)
        ),
        "\0".join(paths).encode(),
    ]
    head = [
        _HEAD.pack(
            MAGIC, INDEX_VERSION, _SECTIONS, index.first_seq, entries, len(ids), len(subjects), len(index.chunks)
        )
    ]
    offset = INDEX_HEAD_BYTES
    for section in sections:
        head.append(_SECTION.pack(offset, len(section), crc32c(section)))
        offset += len(section)
    raw_head = b"".join(head).ljust(INDEX_HEAD_BYTES - _CRC.size, b"\0")
    return b"".join((raw_head, _CRC.pack(crc32c(raw_head)), *sections))


def index_bytes_max(entries: int, chunks: int) -> int:
    """Estimate the bytes of a block index whose subjects are short: to plan files before it is made."""
    return INDEX_HEAD_BYTES + 56 * entries + (_CHUNK.size + 32) * chunks


def _encode_subjects(subjects: list[str], groups: list[array[int]]) -> bytes:
    text = "\0".join(subjects).encode()
    if text.count(0) != max(0, len(subjects) - 1):
        raise ValueError("a subject holds a NUL")
    counts = array("I", map(len, groups))
    last_entries = array("I", [group[-1] for group in groups])
    body = b"".join((_COUNTS.pack(len(subjects), len(text)), _raw(counts), _raw(last_entries), text))
    return body + _CRC.pack(crc32c(body))


# ---------------------------------------------------------------- decoding


class _Head:
    __slots__ = ("first_seq", "entries", "messages", "subjects", "chunks", "sections")

    def __init__(self, data: bytes) -> None:
        if len(data) < INDEX_HEAD_BYTES or data[:8] != MAGIC:
            raise CorruptRecord("this is not a block's index")
        head = data[: INDEX_HEAD_BYTES - _CRC.size]
        if crc32c(head) != _CRC.unpack_from(data, len(head))[0]:
            raise CorruptRecord("the head of a block's index does not match its checksum")
        _, version, count, self.first_seq, self.entries, self.messages, self.subjects, self.chunks = _HEAD.unpack_from(
            head
        )
        if version != INDEX_VERSION:
            raise UnknownVersion("a block's index", version, INDEX_VERSION)
        if count != _SECTIONS:
            raise CorruptRecord(f"a block's index of {count} sections")
        self.sections: list[tuple[int, int, int]] = [
            _SECTION.unpack_from(head, _HEAD.size + number * _SECTION.size) for number in range(_SECTIONS)
        ]


def _column(raw: bytes, typecode: str, count: int) -> array[int]:
    column = array(typecode)
    if len(raw) != count * column.itemsize:
        raise CorruptRecord("a column of a block's index does not have its length")
    column.frombytes(raw)
    if _SWAP:
        column.byteswap()
    return column


def _spread(column: array[int], runs: array[int], entries: int, hole: int) -> array[int]:
    """Put the holes back into a column."""
    if len(column) == entries:
        return column
    spread = array(column.typecode, [hole]) * entries
    at = 0
    for place in range(0, len(runs), 2):
        first, count = runs[place], runs[place + 1]
        spread[first : first + count] = column[at : at + count]
        at += count
    return spread


def decode_index(data: bytes, entries_max: int = HOLE - 1) -> BlockIndex:
    """Decode an index; `CorruptRecord` or `UnknownVersion` where it is damaged.

    Holes take no bytes, so the bytes do not bound the columns' size: the caller gives the most entries there can be.
    """
    opened = open_index(data, entries_max)
    if sum(opened.counts) != len(opened.postings) or any(HOLE > ident >= opened.subjects.count for ident in opened.ids):
        raise CorruptRecord("a block's index and its subject table differ")
    if opened.postings and max(opened.postings) >= len(opened.ids):
        raise CorruptRecord("a block's index has postings outside it")
    index = BlockIndex(
        opened.first_seq, opened.lengths, opened.sizes, opened.times_ms, opened.ids, opened.subjects.listed(),
        opened.chunk_firsts, opened.chunk_skips, [],
    )  # fmt: skip
    index.postings = opened.postings
    index.posting_starts = array("I", accumulate(opened.counts, initial=0))
    index.chunks = [
        Chunk(opened.paths[path], offset, length, crc)
        for path, offset, length, crc in zip(
            opened.chunk_paths, opened.chunk_offsets, opened.chunk_lengths, opened.chunk_crcs, strict=True
        )
    ]
    return index


def open_index(data: bytes, entries_max: int = HOLE - 1) -> OpenIndex:
    """Decode an index without an object for each subject and chunk, at the cost of a few passes in C over the bytes.

    What the checksums vouch for is believed here; whether the columns fit each other entry by entry, `decode_index` judges.
    """
    try:
        return _open_index(data, entries_max)
    except (CorruptRecord, UnknownVersion):
        raise
    except (error, ValueError, IndexError, OverflowError) as problem:
        raise CorruptRecord(f"a block's index: {problem}") from problem


def _open_index(data: bytes, entries_max: int) -> OpenIndex:
    head = _Head(data)
    if head.entries > entries_max:
        raise CorruptRecord(f"a block's index of {head.entries} entries, where {entries_max} can be")
    sections: list[bytes] = []
    end = INDEX_HEAD_BYTES
    for offset, length, crc in head.sections:
        raw = data[offset : offset + length]
        if offset != end or len(raw) != length or crc32c(raw) != crc:
            raise CorruptRecord("a section of a block's index does not match its checksum")
        end += length
        sections.append(raw)
    if end != len(data):
        raise CorruptRecord("a block's index does not have its length")
    entries, messages = head.entries, head.messages
    runs = _column(sections[_RUNS], "I", len(sections[_RUNS]) // 8 * 2)
    _check_runs(runs, entries, messages)
    subjects, counts, _ = _open_subjects(sections[_SUBJECTS])
    ids = _column(sections[_IDS], "I", messages)
    postings = _column(sections[_POSTINGS], "I", messages)
    if subjects.count != head.subjects:
        raise CorruptRecord("a block's index and its subject table differ")
    index = OpenIndex(
        head.first_seq,
        _spread(_column(sections[_LENGTHS], "I", messages), runs, entries, 0),
        _spread(_column(sections[_SIZES], "I", messages), runs, entries, 0),
        _spread(_column(sections[_TIMES], "q", messages), runs, entries, 0),
        _spread(ids, runs, entries, HOLE),
        subjects,
        postings,
        counts,
    )
    index.paths = sections[_PATHS].decode().split("\0")
    _open_chunks(index, sections[_CHUNKS], head.chunks)
    return index


def _check_runs(runs: array[int], entries: int, messages: int) -> None:
    end = total = 0
    for place in range(0, len(runs), 2):
        first, count = runs[place], runs[place + 1]
        if first < end or not count:
            raise CorruptRecord("a block's index has runs out of order")
        end, total = first + count, total + count
    if end > entries or total != messages or entries >= HOLE:
        raise CorruptRecord("a block's index has runs outside it")


def _open_chunks(index: OpenIndex, raw: bytes, count: int) -> None:
    """Take the chunk table apart by columns: a row is nine words, and a u64 is two of them, low before high."""
    if len(raw) != count * _CHUNK.size:
        raise CorruptRecord("a block's chunk table does not have its length")
    words = _column(raw, "I", 9 * count)
    index.chunk_firsts, index.chunk_paths, index.chunk_crcs = words[0::9], words[1::9], words[8::9]
    index.chunk_skips, index.chunk_offsets, index.chunk_lengths = (_longs(words, at) for at in (2, 4, 6))
    if count and max(index.chunk_paths) >= len(index.paths):
        raise CorruptRecord("a block's chunk table names a file that is not listed")


def _longs(words: array[int], at: int) -> array[int]:
    low, high = words[at::9], words[at + 1 :: 9]
    pairs = array("I", bytes(8 * len(low)))
    first, second = (1, 0) if _SWAP else (0, 1)
    pairs[first::2], pairs[second::2] = low, high
    return array("Q", pairs.tobytes())


def subject_section(data: bytes) -> tuple[int, int]:
    """Return offset and length of the subject table inside the index, from the index's first `INDEX_HEAD_BYTES` bytes."""
    offset, length, _ = _Head(data).sections[_SUBJECTS]
    return offset, length


def decode_subjects(data: bytes) -> SubjectTable:
    """Decode the subject table from its bytes alone (they carry their own checksum)."""
    subjects, counts, last_entries = _open_subjects(data)
    return SubjectTable(subjects.listed(), counts, last_entries)


def _open_subjects(data: bytes) -> tuple[EncodedSubjects, array[int], array[int]]:
    """Return the subjects, and the number of entries and the last entry of each."""
    if len(data) < _COUNTS.size + _CRC.size or crc32c(data[: -_CRC.size]) != _CRC.unpack(data[-_CRC.size :])[0]:
        raise CorruptRecord("a block's subject table does not match its checksum")
    count, text_bytes = _COUNTS.unpack_from(data)
    counts_end = _COUNTS.size + 4 * count
    text = data[counts_end + 4 * count : -_CRC.size]
    counts = _column(data[_COUNTS.size : counts_end], "I", count)
    last_entries = _column(data[counts_end : counts_end + 4 * count], "I", count)
    try:
        text.decode()
    except UnicodeDecodeError as problem:
        raise CorruptRecord(f"a block's subject table: {problem}") from problem
    if len(text) != text_bytes or (text.count(0) + 1 if count else 0) != count:
        raise CorruptRecord("a block's subject table does not have its length")
    return EncodedSubjects(text, count), counts, last_entries

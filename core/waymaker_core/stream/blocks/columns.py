"""The resident index of one block: columns with one entry a sequence, and where the stored bodies lie.

Entry `i` is the sequence `first + i` of its block. Sequences that were never stored (an import with gaps, numbers reserved
before an unclean stop) are holes: entries of no size whose subject is `HOLE`. The open block's columns grow by whole
records; a sealed block's can be given up and loaded again. Postings by subject and hits by pattern are made when first
asked for and extended as the block grows, so that publishing pays for neither.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.subjects import Pattern
from waymaker_core.storage.blocks.block_index import EncodedSubjects, OpenIndex

HOLE = 0xFFFF_FFFF
"""Subject id of an entry that holds no message."""

SEARCHES_MAX = 64
"""Look-ups by subject in a block without postings that are searches of its ids, before the postings are made."""
STARTS_STEP = 64
"""Subjects of a sealed block from one sum of postings to the next: a look-up costs the same in a block of any size."""
PATTERNS_MAX = 16
"""Patterns whose hits one block remembers."""


class Columns:
    """`lengths` ('I', bytes of stored bodies), `sizes` ('I', what statistics count), `times_ms` ('q'), `ids` ('I', places in
    `subjects`).

    The chunk table says where bodies are: chunk `c` holds those of the entries from `chunk_firsts[c]` to the next chunk's
    first, one after the other from byte `chunk_skips[c]` of that chunk on (a record that crosses into a block begins
    before it). `encoded`: the subjects of a block whose index was loaded, as they lie in it; `grouped` are
    its postings (entries grouped by subject, in the order of the sorted subjects), `group_counts` how many each has.
    """

    __slots__ = (
        "lengths", "sizes", "times_ms", "ids", "_subjects", "_table", "encoded", "paths", "chunk_firsts", "chunk_skips",
        "chunk_paths", "chunk_offsets", "chunk_lengths", "chunk_crcs", "postings", "posted", "grouped",
        "group_counts", "group_starts", "hits", "walked", "searches",
    )  # fmt: skip

    def __init__(self) -> None:
        self.lengths = array("I")
        self.sizes = array("I")
        self.times_ms = array("q")
        self.ids = array("I")
        self._subjects: list[str] | None = []
        self._table: dict[str, int] | None = {}
        self.encoded: EncodedSubjects | None = None
        self.paths: list[str] = []
        self.chunk_firsts = array("I")
        self.chunk_skips = array("Q")
        self.chunk_paths = array("I")
        self.chunk_offsets = array("Q")
        self.chunk_lengths = array("Q")
        self.chunk_crcs = array("I")
        self.postings: dict[int, array[int]] = {}
        self.posted = 0
        self.searches = 0
        self.grouped = array("I")
        self.group_counts = array("I")
        self.group_starts = array("I")
        """Postings before every `STARTS_STEP`-th subject; made at the first look-up."""
        self.hits: dict[str, tuple[array[int], int, set[int], int]] = {}
        self.walked = (0, 0, 0)
        """(chunk, entry, bytes of the bodies before it in that chunk) of the last look-up: readers go forward."""

    @classmethod
    def loaded(cls, index: OpenIndex) -> Columns:
        """Make the columns of a sealed block from its index."""
        columns = cls()
        columns.lengths, columns.sizes = index.lengths, index.sizes
        columns.times_ms, columns.ids = index.times_ms, index.ids
        columns.encoded, columns._subjects, columns._table = index.subjects, None, None
        columns.grouped, columns.group_counts = index.postings, index.counts
        columns.paths, columns.chunk_paths = index.paths, index.chunk_paths
        columns.chunk_firsts, columns.chunk_skips = index.chunk_firsts, index.chunk_skips
        columns.chunk_offsets, columns.chunk_lengths = index.chunk_offsets, index.chunk_lengths
        columns.chunk_crcs = index.chunk_crcs
        return columns

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def subjects(self) -> list[str]:
        """Return the subjects by id; of a loaded block they are made at the first look."""
        if self._subjects is None:
            assert self.encoded is not None
            self._subjects = self.encoded.listed()
        return self._subjects

    @subjects.setter
    def subjects(self, subjects: list[str]) -> None:
        self._subjects = subjects

    @property
    def table(self) -> dict[str, int]:
        """Return the ids by subject; of a loaded block they are made at the first look."""
        if self._table is None:
            self._table = {subject: ident for ident, subject in enumerate(self.subjects)}
        return self._table

    @table.setter
    def table(self, table: dict[str, int]) -> None:
        self._table = table

    def knows(self, subject: str) -> bool:
        """Return True if the subject occurs in the block."""
        return subject in self.table if self.encoded is None else self.encoded.find(subject) >= 0

    def add_hole(self, count: int) -> None:
        """Add entries for sequences that were never stored."""
        self.lengths.frombytes(bytes(4 * count))
        self.sizes.frombytes(bytes(4 * count))
        self.times_ms.frombytes(bytes(8 * count))
        self.ids.extend([HOLE] * count)

    def extend(
        self, ids: list[int], times_ms: array[int], sizes: array[int], lengths: array[int], chunk: Chunk, skip: int
    ) -> None:
        """Add the entries of one record, whose bodies begin at byte `skip` of its chunk."""
        self.add_chunk(len(self.lengths), chunk, skip)
        self.lengths += lengths
        self.sizes += sizes
        self.times_ms += times_ms
        self.ids.extend(ids)

    # ------------------------------------------------------------ chunks

    def add_chunk(self, first: int, chunk: Chunk, skip: int) -> None:
        """Add the chunk of the entries from `first` on."""
        paths = self.paths
        if not paths or paths[-1] != chunk.path:
            paths.append(chunk.path)
        self.chunk_firsts.append(first)
        self.chunk_skips.append(skip)
        self.chunk_paths.append(len(paths) - 1)
        self.chunk_offsets.append(chunk.offset)
        self.chunk_lengths.append(chunk.length)
        self.chunk_crcs.append(chunk.crc)

    def chunk(self, index: int) -> Chunk:
        """Return one chunk of the table."""
        return Chunk(
            self.paths[self.chunk_paths[index]],
            self.chunk_offsets[index],
            self.chunk_lengths[index],
            self.chunk_crcs[index],
        )

    def chunk_of(self, entry: int) -> int:
        """Return the index of the chunk that holds an entry's body."""
        return bisect_right(self.chunk_firsts, entry) - 1

    def chunk_end(self, index: int) -> int:
        """Return the entry behind the last one of a chunk."""
        firsts = self.chunk_firsts
        return firsts[index + 1] if index + 1 < len(firsts) else len(self.lengths)

    def body_start(self, index: int, entry: int) -> int:
        """Return the offset of an entry's body inside chunk `index`, which holds it."""
        chunk, at, before = self.walked
        if chunk != index or entry < at or at < self.chunk_firsts[index]:
            at, before = self.chunk_firsts[index], 0
        before += sum(self.lengths[at:entry])
        self.walked = (index, entry, before)
        return self.chunk_skips[index] + before

    def replace_chunks(
        self, entries: Sequence[int], copies: Sequence[Chunk], gone: Sequence[int] = (), dead: bytes | None = None
    ) -> None:
        """Read some chunks (places in the table, ascending) from copies, and forget those in `gone`.

        The copies hold exactly the bodies of the chunks' entries, without those flagged in `dead`, which lose their body.
        """
        if dead is not None:
            self._lose_bodies([*entries, *gone], dead)
        old: list[Chunk | None] = [self.chunk(index) for index in range(len(self.chunk_firsts))]
        skips = self.chunk_skips
        for index, copy in zip(entries, copies, strict=True):
            old[index] = copy
            skips[index] = 0
        for index in gone:
            old[index] = None
        firsts = self.chunk_firsts
        self.walked = (0, 0, 0)
        self.paths = []
        self.chunk_firsts, self.chunk_skips, self.chunk_paths = array("I"), array("Q"), array("I")
        self.chunk_offsets, self.chunk_lengths, self.chunk_crcs = array("Q"), array("Q"), array("I")
        for first, chunk, skip in zip(firsts, old, skips, strict=True):
            if chunk is not None:
                # Entries before the first chunk have no body, and count as its.
                self.add_chunk(first if self.chunk_firsts else 0, chunk, skip)

    def _lose_bodies(self, places: Sequence[int], dead: bytes) -> None:
        """Note that the bodies of some chunks' dead entries are stored nowhere any more."""
        lengths = self.lengths
        for place in places:
            for entry in range(self.chunk_firsts[place], min(self.chunk_end(place), len(dead))):
                if dead[entry]:
                    lengths[entry] = 0

    def live_bytes(self, place: int, dead: bytes | bytearray | None) -> int:
        """Return the bytes of the live bodies in one chunk."""
        first, end = self.chunk_firsts[place], self.chunk_end(place)
        if dead is not None and dead.find(0, first, end) < 0:
            return 0
        lengths = self.lengths[first:end]
        if dead is None or dead.find(1, first, end) < 0:
            return sum(lengths)
        return sum(length for length, gone in zip(lengths, dead[first:end], strict=True) if not gone)

    # ------------------------------------------------------------ subjects

    def postings_of(self, subject: str) -> array[int]:
        """Return the entries at one subject, ascending; not to be changed.

        The first look-ups in a block that was not sealed search its ids; making the postings of all subjects costs as
        much as some dozens of such searches, so it waits until there have been as many.
        """
        if self.encoded is not None:
            place = self.encoded.find(subject)
            return self._grouped(place, place + 1) if place >= 0 else _NOTHING
        ident = self.table.get(subject)
        if ident is None:
            return _NOTHING
        if not self.posted and (subject in self.hits or self.searches < SEARCHES_MAX):
            return self._searched(subject, ident)
        if self.posted < len(self.ids):
            self._post()
        return self.postings.get(ident, _NOTHING)

    def _searched(self, subject: str, ident: int) -> array[int]:
        """Return the entries at a subject by a search of the ids that came since it was looked up last."""
        found = self.hits.pop(subject, None)
        self.searches += found is None
        entries, done, matching, judged = found if found is not None else (array("I"), 0, set[int](), 0)
        if done < len(self.ids):
            entries.extend(entries_of(self.ids, ident, done))
        self._remember(subject, (entries, len(self.ids), matching, judged))
        return entries

    def _post(self) -> None:
        postings = self.postings
        entry = self.posted
        for ident in self.ids[entry:]:
            if ident in postings:
                postings[ident].append(entry)
            elif ident != HOLE:
                postings[ident] = array("I", [entry])
            entry += 1
        self.posted = entry

    def hits_of(self, pattern: Pattern) -> array[int]:
        """Return the entries whose subject matches, ascending; not to be changed."""
        if pattern.literal and self.encoded is None:
            return self.postings_of(pattern.text)
        if self.unjudged(pattern):
            self.judge(pattern, len(self.subjects) + 1)
        found = self.hits.pop(pattern.text)
        self._remember(pattern.text, found)
        return found[0]

    def judge(self, pattern: Pattern, most: int) -> int:
        """Look at up to about `most` more subjects for a pattern, and at the entries once all are known; how many it was."""
        if pattern.literal and self.encoded is None:
            return self.unjudged(pattern)  # searched when it is asked for
        if self.encoded is not None and (pattern.literal or pattern.whole_prefix):
            looked = self.unjudged(pattern)
            self._remember(pattern.text, (self._hits_in_index(self.encoded, pattern), len(self.ids), set(), 0))
            return looked
        found = self.hits.pop(pattern.text, None)
        entries, done, matching, judged = found if found is not None else (array("I"), 0, set[int](), 0)
        low, high = self._places_of(pattern)
        start = max(judged, low)
        end = min(high, start + most)
        subjects = self.subjects
        matching.update(ident for ident in range(start, end) if pattern.matches(subjects[ident]))
        looked = end - start
        if end >= high:
            if matching:
                entries.extend([entry for entry, ident in enumerate(self.ids[done:], done) if ident in matching])
            looked += len(self.ids) - done
            done = len(self.ids)
            if self.encoded is not None:
                self._subjects = None
        self._remember(pattern.text, (entries, done, matching, end))
        return looked

    def _places_of(self, pattern: Pattern) -> tuple[int, int]:
        """Return the range of subject ids that can match."""
        return (0, len(self.subjects)) if self.encoded is None else self.encoded.range_of(pattern.prefix)

    def unjudged(self, pattern: Pattern) -> int:
        """Return about how many subjects and entries `hits_of` will look at: those it has not looked at before."""
        found = self.hits.get(pattern.text)
        if self.encoded is None and pattern.literal:
            looked = max(self.posted, found[1] if found is not None else 0)
            return (len(self.ids) - looked) // (1 if self.searches >= SEARCHES_MAX and found is None else SEARCHES_MAX)
        if self.encoded is not None and (found is None or found[1] < len(self.ids)):
            if pattern.literal:
                return 1
            low, high = self._places_of(pattern)
            return 1 + high - max(low, found[3] if found is not None else 0) + sum(self.group_counts[low:high])
        if self.encoded is not None:
            return 0
        return len(self.ids) + len(self.subjects) - (found[1] + found[3] if found is not None else 0)

    def _hits_in_index(self, encoded: EncodedSubjects, pattern: Pattern) -> array[int]:
        """Return the entries at matching subjects: neighbours in the sorted table are neighbours in the postings."""
        if pattern.literal:
            return self.postings_of(pattern.text)
        return array("I", sorted(self._grouped(*encoded.range_of(pattern.prefix))))

    def _grouped(self, low: int, high: int) -> array[int]:
        """Return the postings of the subjects whose places in the sorted table lie in a range."""
        counts = self.group_counts
        if not self.group_starts:
            sums = (sum(counts[at : at + STARTS_STEP]) for at in range(0, len(counts), STARTS_STEP))
            self.group_starts = array("I", accumulate(sums, initial=0))
        before = low - low % STARTS_STEP
        start = self.group_starts[low // STARTS_STEP] + sum(counts[before:low])
        return self.grouped[start : start + sum(counts[low:high])]

    def _remember(self, text: str, found: tuple[array[int], int, set[int], int]) -> None:
        if len(self.hits) >= PATTERNS_MAX:
            del self.hits[next(iter(self.hits))]
        self.hits[text] = found

    def subject_at(self, entry: int) -> str:
        """Return the subject of an entry that is not a hole."""
        return self.subjects[self.ids[entry]]

    def resident_bytes(self) -> int:
        """Return about how much memory the columns take, for caches."""
        if self.encoded is None:
            subjects = 160 * len(self.subjects)
        else:
            subjects = len(self.encoded.text) + 4 * self.encoded.count
        return 24 * len(self.lengths) + 40 * len(self.chunk_firsts) + subjects + 1024


def within_bytes(lengths: array[int], byte_max: int, overhead: int) -> int:
    """Return how many entries from the first on stay within a number of bytes, counting `overhead` for each."""
    total = sum(lengths) + overhead * len(lengths)
    if total <= byte_max:
        return len(lengths)
    ends = list(accumulate(length + overhead for length in lengths))
    return bisect_right(ends, byte_max)


def first_at_or_after(entries: array[int], entry: int) -> int:
    """Return the place of the first of ascending entries that is not below `entry`."""
    return bisect_left(entries, entry)


_NOTHING: array[int] = array("I")


BYTES_FROM = 1_024
"""Ids from which on a search over their bytes may pay."""
FEW = 256
"""An id is rare where it stands at less than one place in so many."""


def entries_of(ids: array[int], ident: int, start: int = 0) -> array[int]:
    """Return the places of an id from `start` on, found by a search over the bytes where they are few."""
    found = array("I")
    if len(ids) - start >= BYTES_FROM:
        raw, sought, width = ids[start:].tobytes(), array("I", [ident]).tobytes(), ids.itemsize
        if raw.count(sought) < (len(ids) - start) // FEW:
            at = raw.find(sought)
            while at >= 0:
                if at % width == 0:
                    found.append(start + at // width)
                    at = raw.find(sought, at + width)
                else:  # a match across two ids
                    at = raw.find(sought, at + 1)
            return found
    place = start - 1
    try:
        while True:
            place = ids.index(ident, place + 1)
            found.append(place)
    except ValueError:
        return found

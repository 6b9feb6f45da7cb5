"""The subject table of a stream as it is at one moment, to be encoded later.

A step may take only a few milliseconds, and the encoding of a million subjects takes a fifth of a second. The image holds
references to what the table holds now; the table itself goes on. Its encoding is that of `snapshot`, in pieces.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import accumulate, chain
from typing import Final

from waymaker_core.storage.config_codec import ARRAY, BYTES, TEXT, plain_head
from waymaker_core.stream.blocks.subject_table import SubjectTable

PIECE_SUBJECTS: Final = 32_768
"""Subjects that are encoded in one go."""


class SubjectImage:
    """The content of a subject table at the moment when the image was made: a copy of references, and of lists of blocks."""

    __slots__ = ("_names", "_lasts", "_several", "_counts", "_blocks")

    def __init__(self, table: SubjectTable) -> None:
        self._names = list(table.last)
        self._lasts = list(table.last.values())
        # Columns, for half a million small objects would take the step ten times as long, and the garbage collector with them.
        self._several = list(table.earlier)
        self._counts = array("I", map(len, table.earlier.values()))
        self._blocks = array("Q", chain.from_iterable(table.earlier.values()))

    def encoded(self, raw: Callable[[array[int]], bytes]) -> Iterator[bytes]:
        """Yield the table as CBOR, piece by piece. `raw` gives the stored bytes of a column."""
        names = self._names
        texts = ["\0".join(names[at : at + PIECE_SUBJECTS]).encode() for at in range(0, len(names), PIECE_SUBJECTS)]
        yield plain_head(ARRAY, 5) + plain_head(TEXT, sum(map(len, texts)) + max(0, len(texts) - 1))
        for place, text in enumerate(texts):
            if place:
                yield b"\0"
            yield text
        yield plain_head(BYTES, 8 * len(names))
        for at in range(0, len(names), PIECE_SUBJECTS):
            yield raw(array("Q", self._lasts[at : at + PIECE_SUBJECTS]))
        places, counts, flat = self._earlier()
        for column in (places, counts, flat):
            data = raw(column)
            yield plain_head(BYTES, len(data))
            yield data

    def _earlier(self) -> tuple[array[int], array[int], array[int]]:
        """Return the subjects of several blocks by their place, how many blocks each has besides its newest, and these."""
        places, counts, flat = array("I"), array("I"), array("Q")
        if self._several:
            ends = array("Q", accumulate(self._counts))
            place_of: dict[str, int] = {}
            for at in range(0, len(self._several), PIECE_SUBJECTS):  # one call for all would hold other threads up
                part = self._several[at : at + PIECE_SUBJECTS]
                place_of.update(zip(part, range(at, at + len(part)), strict=True))
            for place, name in enumerate(self._names):
                entry = place_of.get(name)
                if entry is not None:
                    places.append(place)
                    counts.append(self._counts[entry])
                    flat += self._blocks[ends[entry] - self._counts[entry] : ends[entry]]
        return places, counts, flat

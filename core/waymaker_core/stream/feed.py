"""A stretch of a stream for those who copy it: committed, live messages by reference, with the columns that copying needs.

It reads what is applied and nothing else. It must never change anything, and never look at the overlay.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from waymaker_core.api.requests import Run
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream import reads
from waymaker_core.stream.stream import Stream


@dataclass(slots=True, eq=False)
class Stretch:
    """Messages of a stream from a sequence on. Everything below `next_seq` was looked at; `first_seq` is the first live one.

    `torn`: from that sequence on messages were pruned before they were read. `sizes` and `subjects` have one entry a message,
    in the order of `runs`; `sizes` count the subject.
    """

    first_seq: int
    last_seq: int
    next_seq: int
    torn: bool
    runs: list[Run] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("I"))
    subjects: list[str] = field(default_factory=list)


def read_stretch(
    stream: Stream, from_seq: int, pattern: Pattern | None, limit: int, byte_max: int, chunk_bytes_max: int
) -> Stretch:
    """Return messages that match, at least one if there is any. Raises `NeedBlocks`.

    `chunk_bytes_max` bounds the chunks that hold their bodies: of a chunk that holds one of them, all is read.
    """
    found = reads.select(stream, from_seq, pattern, limit, byte_max)
    void_from, void_to = stream.void
    wanted = void_to + 1 if void_from <= from_seq <= void_to else from_seq
    stretch = Stretch(stream.first_seq, stream.last_seq, max(found.next_seq, from_seq), stream.first_seq > wanted)
    chunk_bytes, chunk = 0, ("", -1)
    for run in reads.messages_in(stream, found.ranges, 0).runs:
        if (run.chunk.path, run.chunk.offset) != chunk:
            chunk, chunk_bytes = (run.chunk.path, run.chunk.offset), chunk_bytes + run.chunk.length
            if stretch.runs and chunk_bytes > chunk_bytes_max:
                stretch.next_seq = run.first_seq
                break
        stretch.runs.append(run)
        _add_columns(stream, stretch, run)
    return stretch


def _add_columns(stream: Stream, stretch: Stretch, run: Run) -> None:
    block = stream.blocks[stream.block_of(run.first_seq)]
    columns = block.resident()
    subjects = columns.subjects
    if run.seqs is None:
        start = run.first_seq - block.first
        end = start + len(run.lengths)
        stretch.sizes += columns.sizes[start:end]
        stretch.subjects += [subjects[ident] for ident in columns.ids[start:end]]
        return
    entries = [seq - block.first for seq in run.seqs]
    stretch.sizes.extend([columns.sizes[entry] for entry in entries])
    stretch.subjects += [subjects[columns.ids[entry]] for entry in entries]

"""Relocation: a block's chunks are copied to another file, and its index is loaded and evicted.

A complete block is copied into files of its own, closed by an index. The open block's chunks are copied into shared
block files when the journal behind them shall be deleted. Only live messages are copied. Until a relocation is applied,
reads use the old place; where the block was deleted meanwhile, the relocation is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.storage.blocks.block_index import BlockIndex, encode_index, open_index
from waymaker_core.stream.answers import BlockRelocation
from waymaker_core.stream.blocks.block import Block
from waymaker_core.stream.blocks.columns import Columns
from waymaker_core.stream.relocation import compaction
from waymaker_core.stream.stream import SHARED_FILES, Stream

_NOT_COUNTED = ("journal/", "memory/")
"""Beginnings of the paths of files that no stream counts as its own."""


def blocks_to_relocate(stream: Stream, leaving: Callable[[str], bool], seal: bool = True) -> list[BlockRelocation]:
    """Return the chunks to copy: of every complete block without files of its own, and others in files that `leaving`
    names.

    Without `seal` complete blocks are treated like the open one, so that as little as possible is copied.

    Besides, sealed blocks in files of which little is live: as many as are bounded by their number of entries; when
    these are relocated there may be more. `NeedBlocks` where their indexes must be resident first.
    """
    moves: list[BlockRelocation] = []
    for block in stream.blocks.values():
        columns = block.columns
        if columns is None or block.index is not None:
            continue
        if seal and stream.is_complete(block) and not stream.config.ephemeral:
            moves.append(_seal(block, columns))
        else:
            relocation = _leave(block, columns, leaving)
            if relocation.entries or relocation.gone:
                moves.append(relocation)
    if not seal:
        return moves
    return moves + [_compact(block, block.resident()) for block in compaction.sparse_blocks(stream)]


def whole_block(stream: Stream, block: Block) -> BlockRelocation:
    """Return the relocation of all live messages of a resident block, wherever they lie: sealed if the block is complete."""
    columns = block.resident()
    if block.index is not None:
        return _compact(block, columns)
    return _seal(block, columns) if stream.is_complete(block) else _leave(block, columns, lambda _: True)


def _leave(block: Block, columns: Columns, leaving: Callable[[str], bool]) -> BlockRelocation:
    """Return what an open block has to copy out of the files that are being left, and the chunks that it can forget."""
    chosen = [leaving(path) for path in columns.paths]
    if block.dead is None:
        return _move(block, columns, [place for place, path in enumerate(columns.chunk_paths) if chosen[path]])
    dead = bytes(block.dead)
    gone: list[int] = []
    living: list[int] = []
    for place in range(len(columns.chunk_firsts)):
        if dead.find(0, columns.chunk_firsts[place], columns.chunk_end(place)) < 0:
            gone.append(place)
        elif chosen[columns.chunk_paths[place]]:
            living.append(place)
    relocation = _copy_live(block, columns, living, dead)
    relocation.gone = gone
    return relocation


def _move(block: Block, columns: Columns, places: list[int]) -> BlockRelocation:
    keep: list[list[tuple[int, int]] | None] = []
    lengths: list[int] = []
    for place in places:
        skip = columns.chunk_skips[place]
        length = sum(columns.lengths[columns.chunk_firsts[place] : columns.chunk_end(place)])
        keep.append(None if length == columns.chunk_lengths[place] else [(skip, skip + length)])
        lengths.append(length)
    sources = [columns.chunk(place) for place in places]
    return BlockRelocation(block.number, block.first, block.size, places, sources, keep, lengths, columns)


def _seal(block: Block, columns: Columns) -> BlockRelocation:
    if block.alive < block.size:
        return _compact(block, columns)
    relocation = _move(block, columns, list(range(len(columns.chunk_firsts))))
    relocation.sealed = True
    return relocation


def _compact(block: Block, columns: Columns) -> BlockRelocation:
    # Nothing may be deleted from a block whose file is left for the sake of others.
    dead = bytes(block.dead if block.dead is not None else block.size)
    relocation = _copy_live(block, columns, range(len(columns.chunk_firsts)), dead)
    relocation.sealed, relocation.replaces = True, block.index
    return relocation


def _copy_live(block: Block, columns: Columns, among: Iterable[int], dead: bytes) -> BlockRelocation:
    """Return a relocation of what is live in some chunks; those without any are left out."""
    ranges = {place: compaction.live_ranges(columns, place, dead) for place in among}
    places = [place for place, kept in ranges.items() if kept]
    whole = [[(0, columns.chunk_lengths[place])] for place in places]
    keep = [
        None if ranges[place] == all_of_it else ranges[place] for place, all_of_it in zip(places, whole, strict=True)
    ]
    lengths = [sum(end - start for start, end in ranges[place]) for place in places]
    sources = [columns.chunk(place) for place in places]
    relocation = BlockRelocation(block.number, block.first, block.alive, places, sources, keep, lengths, columns)
    relocation.dead = dead
    return relocation


def _target(stream: Stream, relocation: BlockRelocation) -> Block | None:
    block = stream.blocks.get(relocation.block)
    if block is None or block.first != relocation.first_seq or block.index is not relocation.replaces:
        return None
    return block


def encode_sealed(stream: Stream, relocation: BlockRelocation, copies: Sequence[Chunk]) -> bytes:
    """Encode the index that closes a sealed block's file, given where its chunks are now."""
    block = _target(stream, relocation)
    if block is None:
        return b""
    columns = relocation.columns
    if relocation.dead is not None:
        return encode_index(
            compaction.without_dead(block.first, columns, relocation.dead, relocation.entries, list(copies))
        )
    skips = columns.chunk_skips[:]
    for place in relocation.entries:
        skips[place] = 0
    return encode_index(
        BlockIndex(
            block.first, columns.lengths, columns.sizes, columns.times_ms, columns.ids, columns.subjects,
            columns.chunk_firsts, skips, list(copies),
        )
    )  # fmt: skip


def apply_relocation(
    stream: Stream, relocation: BlockRelocation, copies: Sequence[Chunk], index: Chunk | None = None
) -> bool:
    """Read from the copies, which are durable, from now on. Return False if the block was deleted meanwhile."""
    block = _target(stream, relocation)
    if block is None or (relocation.sealed and index is None):
        return False
    stream.layout += 1
    before, block.files = block.files, []
    if relocation.sealed:
        block.stored, block.stored_bytes = relocation.messages, sum(chunk.length for chunk in copies)
    if relocation.sealed and relocation.dead is not None:
        # Its index is another one now, and loaded when it is asked for.
        stream.absent += block.columns is not None
        block.columns = None
        block.last_size = 0 if relocation.dead[-1] else block.last_size
        paths = [chunk.path for chunk in copies] + ([index.path] if index is not None else [])
    else:
        block.resident().replace_chunks(relocation.entries, copies, relocation.gone, relocation.dead)
        paths = block.resident().paths
    block.index = index
    stream.use_files(block, sorted({path for path in paths if not path.startswith(SHARED_FILES)}))
    for path in before:
        stream.release_file(path)
    return True


# ---------------------------------------------------------------- indexes


def index_location(stream: Stream, number: int) -> Chunk | None:
    """Return where a sealed block's index lies; None if there is none to load (resident, or deleted)."""
    block = stream.blocks.get(number)
    return block.index if block is not None and block.columns is None else None


def load_index(stream: Stream, number: int, place: Chunk, data: bytes) -> int:
    """Make an index resident that was read at `place`. Return its bytes; 0 where the block was deleted or relocated
    meanwhile.

    ValueError: not that index.
    """
    if index_location(stream, number) != place:
        # Written anew while this was read: it would lead to a file that may go at any time.
        return 0
    block = stream.blocks[number]
    index = open_index(data, block.size)
    if index.first_seq != block.first or len(index.ids) != block.size:
        raise ValueError(
            f"the index of block {number} has {len(index.ids)} entries from {index.first_seq} on, "
            f"not {block.size} from {block.first} on"
        )
    columns = Columns.loaded(index)
    block.columns = columns
    stream.absent -= 1
    return columns.resident_bytes()


def evict_index(stream: Stream, number: int) -> int:
    """Evict a resident index that can be loaded again. Return the bytes freed, 0 where it must stay."""
    block = stream.blocks.get(number)
    if block is None or block.columns is None or block.index is None or stream.pinned:
        return 0
    size = block.columns.resident_bytes()
    block.columns = None
    stream.absent += 1
    return size


# ---------------------------------------------------------------- files


def files(stream: Stream) -> dict[str, int]:
    """Return the files outside the journal that this stream uses, with the live bytes of its resident chunks in each."""
    used: dict[str, int] = {}
    for block in stream.blocks.values():
        for path in block.files:
            used.setdefault(path, 0)
        columns = block.columns
        if columns is None or all(path.startswith(_NOT_COUNTED) for path in columns.paths):
            continue
        for place, index in enumerate(columns.chunk_paths):
            path = columns.paths[index]
            used[path] = used.get(path, 0) + columns.live_bytes(place, block.dead)
    return {path: length for path, length in used.items() if not path.startswith(_NOT_COUNTED)}


def uses_journal(stream: Stream) -> bool:
    """Return True if bodies of this stream lie in the journal."""
    for block in stream.blocks.values():
        columns = block.columns
        if columns is not None and any(path.startswith("journal/") for path in columns.paths):
            return True
    return False


def chunks(stream: Stream) -> Iterator[Chunk]:
    """Yield the chunks of all blocks whose index is in no file: what an offline check must read besides the indexes."""
    for block in stream.blocks.values():
        if block.index is None:
            columns = block.resident()
            for place in range(len(columns.chunk_firsts)):
                yield columns.chunk(place)


def index_chunks(stream: Stream) -> Iterator[Chunk]:
    """Yield where the indexes lie that are in files."""
    for block in stream.blocks.values():
        if block.index is not None:
            yield block.index

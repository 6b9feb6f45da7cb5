"""A stream as plain values for CBOR, and back.

A snapshot holds what replay of later records needs and what reads must know: summaries of all blocks, the columns of those
that have no file of their own yet, and the subject table. Columns travel as raw little-endian arrays, subjects as one text,
deletions as bits. What is staged is not in it, nor any note that can be made again.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import compress

from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.limits import Limits
from waymaker_core.storage.config_codec import ARRAY, encode_plain, plain_head, stream_config, stream_config_list
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.stream.blocks.block import Block
from waymaker_core.stream.blocks.columns import HOLE, Columns
from waymaker_core.stream.blocks.subject_image import SubjectImage
from waymaker_core.stream.clock import Correction
from waymaker_core.stream.producers import KnownProducer, Producers
from waymaker_core.stream.stream import Stream

VERSION = 5
"""Newest layout, written where the log has epochs; else the fourth one is, which lacks them. The third one lacks `importing`,
the second one producers, the first one corrections of server time too."""
OWN_STATE = 4
"""The first layout whose settings and `importing` are the stream's own. In older ones the catalog's entry may be newer."""

_SWAP = array("H", [1]).tobytes() != b"\x01\x00"
# `int(digits, 2)` and its way back are one call each, where a loop would look at every entry of a block.
_TO_DIGITS = bytes([48, 49]) + bytes(254)
_FROM_DIGITS = bytes(48) + bytes([0, 1]) + bytes(206)


def encode_snapshot(stream: Stream) -> object:
    """Encode committed state as plain values for CBOR: all that replay of later records needs."""
    return _values(stream, _encode_subjects(stream))


def defer_snapshot(stream: Stream) -> Callable[[], Iterator[bytes]]:
    """Fix committed state as it is now; return what encodes it later, piece by piece, to the bytes of `encode_snapshot`."""
    encoded = [encode_plain(value) for value in _values(stream, None)]
    image = SubjectImage(stream.subjects)

    def pieces() -> Iterator[bytes]:
        yield plain_head(ARRAY, len(encoded)) + b"".join(encoded[:_SUBJECTS])
        yield from image.encoded(_raw)
        yield b"".join(encoded[_SUBJECTS + 1 :])

    return pieces


_SUBJECTS = 10
"""The place of the subject table in a snapshot."""


def _values(stream: Stream, subjects: object) -> list[object]:
    epochs = [stream.epochs.encode()] if stream.epochs.starts else []
    return [
        VERSION - 1 + len(epochs),
        stream.id,
        stream_config_list(stream.config),
        stream.created_ms,
        stream.notice,
        stream.position,
        stream.last_seq,
        stream.clock_ms,
        stream.reserved_to,
        [_encode_block(block) for block in stream.blocks.values()],
        subjects,
        [list(each) for each in stream.corrections],
        _encode_producers(stream.producers),
        stream.importing,
        *epochs,
    ]


class BlockPlace:
    """The place of a block whose snapshot came without files: its chunks in order, or its index if it is sealed."""

    __slots__ = ("chunks", "index", "files")

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        """Chunks, as long as no index says where they are."""
        self.index: Chunk | None = None
        self.files: list[str] = []
        """Paths of a sealed block."""


def place_blocks(snapshot: object, places: dict[int, BlockPlace]) -> None:
    """Name the files of a snapshot that came without them, by the number of each block. `CorruptRecord` where they differ."""
    match snapshot:
        case [int(version), *rest] if OWN_STATE <= version <= VERSION and len(rest) > _BLOCKS:
            blocks = rest[_BLOCKS]
        case _:
            raise CorruptRecord("not a stream's snapshot of a version that can be sent")
    numbers = [value[0] for value in _lists(blocks)]
    if numbers != list(places):
        raise CorruptRecord("the blocks of a snapshot are not those that came before it")
    for value, place in zip(_lists(blocks), places.values(), strict=True):
        _place_block(value, place)


def _lists(values: object) -> list[list[object]]:
    if not isinstance(values, list):
        raise CorruptRecord("not a list of blocks")
    found = [value for value in values if isinstance(value, list) and value]
    if len(found) != len(values):
        raise CorruptRecord("not the summary of a block")
    return found


_BLOCKS = 8
"""The place of the blocks in a snapshot, behind the version."""


def _place_block(value: list[object], place: BlockPlace) -> None:
    match value:
        case [*_, list(), list(), None]:
            if place.index is None:
                raise CorruptRecord(f"the index of block {value[0]} did not come")
            index = place.index
            value[-3] = place.files
            value[-2] = [index.path, index.offset, index.length, index.crc]
        case [*_, list(), None, list(columns)] if place.index is None:
            decoded = _decode_columns(columns)
            if decoded.chunk_lengths != array("Q", [chunk.length for chunk in place.chunks]):
                raise CorruptRecord(f"the chunks of block {value[0]} are not those that came before it")
            decoded.replace_chunks(range(len(place.chunks)), place.chunks)
            value[-3], value[-1] = [], _encode_columns(decoded)
        case _:
            raise CorruptRecord("not the summary of a block")


def holds_own_state(snapshot: object) -> bool:
    """Return True if nothing in the catalog can be newer than what a snapshot says of the stream's settings and import."""
    match snapshot:
        case [int(version), *_]:
            return version >= OWN_STATE
    return False


def decode_snapshot(snapshot: object, limits: Limits) -> Stream:
    """Make a stream as it was at a snapshot. ValueError (`CorruptRecord`, `UnknownVersion`) where it is none."""
    try:
        return _decode(snapshot, limits)
    except (CorruptRecord, UnknownVersion):
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, AssertionError) as problem:
        raise CorruptRecord(f"a stream's snapshot: {problem}") from problem


def _decode(snapshot: object, limits: Limits) -> Stream:
    match snapshot:
        case [
            int(version), int(stream_id), list(config), int(created_ms), str(notice), int(position), int(last_seq),
            int(clock_ms), int(reserved_to), list(blocks), list(subjects), *rest,
        ] if 1 <= version <= VERSION and len(rest) == version - 1:  # fmt: skip
            stream = Stream(stream_id, stream_config(config), created_ms, limits)
            stream.notice = notice
            stream.position = position
            stream.last_seq = last_seq
            stream.clock_ms = clock_ms
            stream.corrections = _decode_corrections(rest[:1])
            stream.reserved_to = reserved_to
            for value in blocks:
                _add_block(stream, _decode_block(value))
            _decode_subjects(stream, subjects)
            _find_repaired(stream)
            if version == 3 or (version > 3 and rest[1] is not None):
                _decode_producers(stream.producers, rest[1], last_seq)
            if version >= OWN_STATE:
                if not isinstance(rest[2], bool):
                    raise CorruptRecord("neither being imported nor open")
                stream.importing = rest[2]
            if version == VERSION:
                stream.epochs.restore(rest[3])
            stream.overlay.discard(last_seq, stream.count, stream.bytes, clock_ms, reserved_to)
            return stream
        case [int(version), *_] if not 1 <= version <= VERSION:
            raise UnknownVersion("a stream's snapshot", version, VERSION)
    raise CorruptRecord("not a stream's snapshot")


def _decode_corrections(rest: list[object]) -> list[Correction]:
    corrections: list[Correction] = []
    for values in rest:
        if not isinstance(values, list):
            raise CorruptRecord("not a list of corrections")
        for value in values:
            match value:
                case [int(last_seq), int(at_ms), int(was_ms)] if last_seq >= 0 and 0 < at_ms < was_ms:
                    corrections.append(Correction(last_seq, at_ms, was_ms))
                case _:
                    raise CorruptRecord("not a correction of server time")
    return corrections


def _encode_producers(producers: Producers) -> object:
    """Encode the dedupe table; None where nothing was ever put into it."""
    known = producers.known
    if not known:
        return None
    each = list(known.values())
    numbers, seqs, counts = array("Q"), array("Q"), array("Q")
    for producer in each:
        numbers += producer.numbers
        seqs += producer.seqs
        counts += producer.counts
    return [
        producers.forgot,
        _raw(array("Q", known)),
        _raw(array("I", [producer.epoch for producer in each])),
        _raw(array("Q", [producer.floor for producer in each])),
        _raw(array("I", [len(producer.numbers) for producer in each])),
        _raw(numbers),
        _raw(seqs),
        _raw(counts),
    ]


def _decode_producers(producers: Producers, value: object, last_seq: int) -> None:
    match value:
        case [
            bool(forgot), bytes(ids), bytes(epochs), bytes(floors), bytes(lengths), bytes(numbers), bytes(seqs),
            bytes(counts),
        ]:  # fmt: skip
            producers.forgot = forgot
            columns = (_column(numbers, "Q"), _column(seqs, "Q"), _column(counts, "Q"))
            at = 0
            heads = zip(
                _column(ids, "Q"), _column(epochs, "I"), _column(floors, "Q"), _column(lengths, "I"), strict=True
            )
            for producer_id, epoch, floor, length in heads:
                known = KnownProducer(epoch, floor)
                known.numbers, known.seqs, known.counts = (column[at : at + length] for column in columns)
                at += length
                if producer_id in producers.known or not known.is_sound(last_seq):
                    raise CorruptRecord(f"what is remembered of producer {producer_id} cannot be")
                producers.known[producer_id] = known
            if any(len(column) != at for column in columns):
                raise CorruptRecord("columns of producers differ in length")
        case _:
            raise CorruptRecord("not a table of producers")


def _add_block(stream: Stream, block: Block) -> None:
    if stream.blocks and stream.blocks.peekitem(-1)[0] >= block.number:
        raise CorruptRecord("blocks of a snapshot are not in order")
    if block.number != stream.block_of(block.first) or block.number != stream.block_of(block.last):
        raise CorruptRecord(f"block {block.number} holds sequences {block.first} to {block.last}")
    stream.in_order = stream.in_order and block.ordered and block.time_min >= stream.time_max
    stream.time_max = max(stream.time_max, block.time_max)
    stream.blocks[block.number] = block
    stream.absent += block.columns is None
    stream.count += block.alive
    stream.bytes += block.bytes
    files, block.files = block.files, []
    stream.use_files(block, files)


# ---------------------------------------------------------------- blocks


def _encode_block(block: Block) -> object:
    index = block.index
    columns = block.columns
    if index is None:
        assert columns is not None, "a block without an index file is resident"
    return [
        block.number,
        block.first,
        block.size,
        block.alive,
        block.bytes,
        block.time_min,
        block.time_max,
        block.last_size,
        block.ordered,
        None if block.dead is None else _pack(block.dead),
        block.files,
        None if index is None else [index.path, index.offset, index.length, index.crc],
        _encode_columns(columns) if index is None and columns is not None else None,
    ]


def _decode_block(value: object) -> Block:
    match value:
        case [
            int(number), int(first), int(size), int(alive), int(byte_count), int(time_min), int(time_max),
            int(last_size), bool(ordered), dead, list(files), index, columns,
        ] if (
            (dead is None or isinstance(dead, bytes))
            and (index is None or isinstance(index, list))
            and (columns is None or isinstance(columns, list))
        ):  # fmt: skip
            block = Block(number, first, None if columns is None else _decode_columns(columns))
            block.size, block.alive, block.bytes = size, alive, byte_count
            block.time_min, block.time_max, block.last_size = time_min, time_max, last_size
            block.ordered = ordered
            block.forget_notes()
            block.dead = None if dead is None else _unpack(dead, size)
            block.head = block.next_live(0)
            block.files = [path for path in files if isinstance(path, str)]
            block.index = _decode_chunk(index) if index is not None else None
            if block.alive != (size if block.dead is None else block.dead.count(0)) or not alive:
                raise CorruptRecord(f"block {number} counts {alive} live messages")
            if (block.columns is None) != (index is not None) or len(block.columns or range(size)) != size:
                raise CorruptRecord(f"the index of block {number} is missing, or not its own")
            return block
    raise CorruptRecord("not the summary of a block")


def _decode_chunk(value: object) -> Chunk:
    match value:
        case [str(path), int(offset), int(length), int(crc)]:
            return Chunk(path, offset, length, crc)
    raise CorruptRecord("not the place of an index")


def _encode_columns(columns: Columns) -> object:
    return [
        "\0".join(columns.subjects),
        columns.paths,
        [
            _raw(column)
            for column in (
                columns.lengths, columns.sizes, columns.times_ms, columns.ids, columns.chunk_firsts, columns.chunk_skips,
                columns.chunk_paths, columns.chunk_offsets, columns.chunk_lengths, columns.chunk_crcs,
            )
        ],
    ]  # fmt: skip


def _decode_columns(value: list[object]) -> Columns:
    match value:
        case [str(subjects), list(paths), list(raw)] if len(raw) == 10:
            columns = Columns()
            columns.subjects = subjects.split("\0")
            columns.table = {subject: ident for ident, subject in enumerate(columns.subjects)}
            columns.paths = [path for path in paths if isinstance(path, str)]
            (
                columns.lengths, columns.sizes, columns.times_ms, columns.ids, columns.chunk_firsts, columns.chunk_skips,
                columns.chunk_paths, columns.chunk_offsets, columns.chunk_lengths, columns.chunk_crcs,
            ) = (_column(data, typecode) for data, typecode in zip(raw, "IIqIIQIQQI", strict=True))  # fmt: skip
            if not len(columns.lengths) == len(columns.sizes) == len(columns.times_ms) == len(columns.ids):
                raise CorruptRecord("columns of a block differ in length")
            chunks = (columns.chunk_firsts, columns.chunk_skips, columns.chunk_paths, columns.chunk_offsets,
                      columns.chunk_lengths, columns.chunk_crcs)  # fmt: skip
            if len({len(column) for column in chunks}) > 1:
                raise CorruptRecord("columns of a block's chunks differ in length")
            if not all(ident < len(columns.subjects) or ident == HOLE for ident in set(columns.ids.tolist())):
                raise CorruptRecord("a subject that is not in its block's table")
            if not all(path < len(columns.paths) for path in columns.chunk_paths):
                raise CorruptRecord("a chunk in a file without a name")
            return columns
    raise CorruptRecord("not the columns of a block")


# ---------------------------------------------------------------- subjects


def _encode_subjects(stream: Stream) -> object:
    table = stream.subjects
    # The node serves no call meanwhile: of a million subjects a loop would take a quarter of a second.
    flags = bytes(map(table.earlier.__contains__, table.last)) if table.earlier else b""
    several = list(compress(table.last, flags))
    flat = array("Q")
    for subject in several:
        flat.extend(table.earlier[subject])
    return [
        "\0".join(table.last),
        _raw(array("Q", table.last.values())),
        _raw(array("I", compress(range(len(flags)), flags))),
        _raw(array("I", [len(table.earlier[subject]) for subject in several])),
        _raw(flat),
    ]


def _decode_subjects(stream: Stream, value: list[object]) -> None:
    match value:
        case [str(text), bytes(last), bytes(places), bytes(counts), bytes(flat)]:
            names = text.split("\0") if text else []
            stream.subjects.last = dict(zip(names, _column(last, "Q"), strict=True))
            stream.subjects.order.fresh = names
            blocks = _column(flat, "Q").tolist()
            at = 0
            for place, count in zip(_column(places, "I"), _column(counts, "I"), strict=True):
                stream.subjects.earlier[names[place]] = blocks[at : at + count]
                at += count
            return
    raise CorruptRecord("not a subject table")


def _find_repaired(stream: Stream) -> None:
    """Note subjects that the growing block knows and whose newest live message is older, or deleted."""
    block = stream.blocks.get(stream.block_of(stream.last_seq))
    if block is None or block.columns is None:
        return
    for subject in block.columns.table:
        if stream.block_of(stream.subjects.last.get(subject, 0)) != block.number:
            stream.subjects.repaired[subject] = None


# ---------------------------------------------------------------- raw columns


def _raw(column: array[int]) -> bytes:
    if _SWAP:
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _column(data: object, typecode: str) -> array[int]:
    if not isinstance(data, bytes):
        raise CorruptRecord("not a column")
    column = array(typecode)
    column.frombytes(data)
    if _SWAP:
        column.byteswap()
    return column


def _pack(flags: bytearray) -> bytes:
    """Pack bytes that are 0 or 1 into one bit each, the first one highest, behind a leading 1."""
    number = int(b"1" + flags.translate(_TO_DIGITS), 2)
    return number.to_bytes((len(flags) + 8) // 8, "big")


def _unpack(data: bytes, size: int) -> bytearray:
    digits = f"{int.from_bytes(data, 'big'):b}".encode()
    if len(digits) != size + 1:
        raise CorruptRecord("deletions of another number of messages")
    return bytearray(digits[1:].translate(_FROM_DIGITS))

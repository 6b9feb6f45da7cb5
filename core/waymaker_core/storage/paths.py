"""Names of the files in a data directory: digits and fixed words, never a user's name.

    MANIFEST                    what exists (`manifest`)
    MANIFEST.new                its successor until it takes its place
    RESERVE                     zeros, whose room a checkpoint may have on a full disk
    journal/%016d.seg           journal segments by number (`journal`)
    checkpoints/%d.ckpt         checkpoint files (`checkpoint`)
    blocks/%d-%d.blk            blocks by stream id and file number (`block_file`)
    tails/%d.tail               shared files of open blocks' messages (`block_file`)
    memory/%d/%d                messages of ephemeral streams by stream id and number, never on disk

Numbers of checkpoints, blocks and tails are drawn from one counter in the manifest and not used twice.
"""

from __future__ import annotations

from typing import Final

MANIFEST: Final = "MANIFEST"
MANIFEST_NEW: Final = "MANIFEST.new"
LOCK: Final = "LOCK"
RESERVE: Final = "RESERVE"
JOURNAL: Final = "journal"
CHECKPOINTS: Final = "checkpoints"
BLOCKS: Final = "blocks"
SHARED_BLOCKS: Final = "tails"
MEMORY: Final = "memory"
FOLDERS: Final = (JOURNAL, CHECKPOINTS, BLOCKS, SHARED_BLOCKS)
"""The folders of a data directory, in the order in which they are looked through."""


def segment_path(number: int) -> str:
    """Return the path of a journal segment."""
    return f"journal/{number:016d}.seg"


def checkpoint_path(number: int) -> str:
    """Return the path of a checkpoint file."""
    return f"checkpoints/{number}.ckpt"


def block_path(stream_id: int, number: int) -> str:
    """Return the path of one file of a stream's block."""
    return f"blocks/{stream_id}-{number}.blk"


def shared_block_path(number: int) -> str:
    """Return the path of a shared block file."""
    return f"tails/{number}.tail"


def memory_path(stream_id: int, number: int) -> str:
    """Return the path of the messages of one block of an ephemeral stream; a number is not used twice."""
    return f"memory/{stream_id}/{number}"


def _digits(text: str) -> int | None:
    """Return the number that `text` spells in plain ASCII digits, or None."""
    return int(text) if text.isascii() and text.isdigit() else None


def segment_number(name: str) -> int | None:
    """Return the number of the segment with this file name (without folder), or None where it is not one."""
    number = _digits(name.removesuffix(".seg"))
    return number if number is not None and segment_path(number) == f"journal/{name}" else None


def file_number(folder: str, name: str) -> int | None:
    """Return the number that the manifest gave to a file in `checkpoints`, `blocks` or `tails`; None for another's."""
    if folder == BLOCKS:
        stream, _, number = name.removesuffix(".blk").partition("-")
        stream_id, value = _digits(stream), _digits(number)
        return (
            value
            if stream_id is not None and value is not None and block_path(stream_id, value) == f"{BLOCKS}/{name}"
            else None
        )
    suffix, path = (".ckpt", checkpoint_path) if folder == CHECKPOINTS else (".tail", shared_block_path)
    value = _digits(name.removesuffix(suffix))
    return value if value is not None and path(value) == f"{folder}/{name}" else None


def block_owner(path: str) -> int | None:
    """Return the id of the stream whose block file this is, or None."""
    name = path.removeprefix("blocks/")
    if name == path or file_number(BLOCKS, name) is None:
        return None
    return _digits(name.partition("-")[0])

"""The manifest: the one small file that names what exists. Replaced atomically, never edited.

What it does not name is not there: a checkpoint counts once a manifest that lists it has taken the old one's place, and a
journal segment is gone once `first_segment` has passed it.
"""

from __future__ import annotations

from waymaker_core.disk import DiskOp


class CheckpointFile:
    """A checkpoint file as the manifest lists it: its whole length and the CRC32C over it."""

    __slots__ = ("number", "length", "crc")

    def __init__(self, number: int, length: int, crc: int) -> None:
        self.number = number
        self.length = length
        self.crc = crc


class Manifest:
    """What exists. `chain`: checkpoint files, oldest first. `boot`: how often the directory was opened (0: being made).

    `next_file` is the next number for checkpoints, blocks and tails. Numbers drawn and lost in a crash are not drawn
    again: recovery raises it above every file found.
    """

    __slots__ = ("directory_id", "node_id", "boot", "first_segment", "next_file", "chain")

    def __init__(
        self,
        directory_id: bytes,
        node_id: int,
        boot: int,
        first_segment: int,
        next_file: int,
        chain: list[CheckpointFile],
    ) -> None:
        self.directory_id = directory_id
        self.node_id = node_id
        self.boot = boot
        self.first_segment = first_segment
        self.next_file = next_file
        self.chain = chain

    def draw_file(self) -> int:
        """A new file number."""
        number = self.next_file
        self.next_file += 1
        return number


def encode_manifest(manifest: Manifest) -> bytes:
    """The file's bytes."""
    raise NotImplementedError


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in a file's bytes; `CorruptRecord` or `UnknownVersion` where there is none."""
    raise NotImplementedError


def replace_ops(manifest: Manifest) -> list[DiskOp]:
    """Operations that put this manifest in the old one's place; durable when they are done."""
    raise NotImplementedError

"""Mending changes nothing in an intact file, and makes a changed one pass its checksums again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fuzz.archive_targets import small_archive
from tests.fuzz.format_targets import block_indexes, golden_files, golden_key
from tests.fuzz.mending import mend_archive, mend_frames, mend_header, mend_index, mend_manifest
from tests.fuzz.target import GOLDEN
from waymaker_core.storage.archive import ArchiveReader
from waymaker_core.storage.blocks.block_index import decode_index
from waymaker_core.storage.frame import decode_header
from waymaker_core.storage.manifest import decode_manifest

Mend = Callable[[bytearray], None]


def mend_segment(data: bytearray) -> None:
    mend_header(golden_key(), data)
    mend_frames(golden_key(), data, 64)


def read_archive(data: bytes) -> None:
    reader = ArchiveReader()
    reader.feed(data)
    reader.close()


def read_frame(data: bytes) -> None:
    assert decode_header(golden_key(), data, 64) is not None


SEGMENT = golden_files("journal/*.seg")[1].read_bytes()
FORMATS: dict[str, tuple[Mend, bytes, int, Callable[[bytes], object]]] = {
    # what makes it right, an intact file, where a change does no harm, what reads it
    "manifest": (mend_manifest, (GOLDEN / "clean" / "MANIFEST").read_bytes(), 25, decode_manifest),
    "segment": (mend_segment, SEGMENT, 64 + 24, read_frame),
    "index": (mend_index, block_indexes()[0][1], 24, decode_index),
    "archive": (mend_archive, small_archive(), small_archive().index(b"job 5"), read_archive),
}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_mending_leaves_what_is_right_and_rights_what_is_not(name: str) -> None:
    mend, intact, place, read = FORMATS[name]
    data = bytearray(intact)
    mend(data)
    assert bytes(data) == intact
    read(intact)
    data[place] ^= 2
    changed = bytes(data)
    with pytest.raises((ValueError, AssertionError)):
        read(changed)
    mend(data)
    assert bytes(data) != changed
    read(bytes(data))

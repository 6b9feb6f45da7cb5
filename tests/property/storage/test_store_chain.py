"""The chain of checkpoints, file by file: what is missing from it, or not its own, is named with its file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kit.store_disk import MemoryDisk
from waymaker_core.model.disk_ops import Write
from waymaker_core.storage.checkpoint.reader import ChainReader
from waymaker_core.storage.checkpoint.writer import CHECKPOINT_HEADER_BYTES, encode_checkpoint_header
from waymaker_core.storage.checksum import extend
from waymaker_core.storage.disk_steps import READ_BYTES
from waymaker_core.storage.errors import CorruptStore, UnknownStoreVersion
from waymaker_core.storage.frame import FINISHED, QUARANTINED, SNAPSHOT, TOMBSTONE, encode_frame
from waymaker_core.storage.manifest import CheckpointFile
from waymaker_core.storage.paths import checkpoint_path

KEY = 77


def frame(number: int, kind: int, stream_id: int = 0, position: int = 0, meta: bytes = b"", version: int = 1) -> bytes:
    return encode_frame(KEY, kind, version, stream_id, position, meta, segment=number)


class Files:
    """Checkpoint files made by hand, and what the manifest says of them."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.chain: list[CheckpointFile] = []

    def add(self, number: int, *frames: bytes, crc: int | None = None, length: int | None = None) -> Files:
        data = encode_checkpoint_header(KEY, number, not self.chain) + b"".join(frames)
        self.disk.perform(Write(checkpoint_path(number), 0, [data]))
        right = extend(0, data)
        self.chain.append(
            CheckpointFile(number, len(data) if length is None else length, right if crc is None else crc)
        )
        return self

    def read(self) -> ChainReader:
        sizes = {file.number: len(self.disk.names[checkpoint_path(file.number)].content) for file in self.chain}
        reader = ChainReader(KEY, self.chain, sizes)
        self.disk.drive(reader.walk())
        return reader


def test_the_latest_frame_of_each_stream_counts_however_long_it_is() -> None:
    long, longer = b"\1" * (READ_BYTES - 300), b"\2" * (2 * READ_BYTES + 5)
    files = Files()
    files.add(1, frame(1, SNAPSHOT, 1, 5, b"old"), frame(1, SNAPSHOT, 2, 6, long), frame(1, FINISHED, 0, 2))
    files.add(
        2, frame(2, SNAPSHOT, 1, 7, longer), frame(2, TOMBSTONE, 2), frame(2, SNAPSHOT, 3, 1, long),
        frame(2, SNAPSHOT, 4, 1, longer), frame(2, FINISHED, 0, 4),
    )  # fmt: skip
    states = files.read().states
    assert {stream_id: (state.position, state.meta) for stream_id, state in states.items()} == {
        1: (7, longer), 3: (1, long), 4: (1, longer),
    }  # fmt: skip
    assert [state.problem for state in states.values()] == [""] * 3


def test_a_place_of_damage_that_is_none_is_damage_itself() -> None:
    files = Files().add(1, frame(1, QUARANTINED, 1, 0, b"\x80"), frame(1, FINISHED, 0, 1))
    assert files.read().states[1].problem == "not a place of damage"


ONE = frame(1, SNAPSHOT, 1, 5, b"state")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(lambda f: f.add(1, ONE, frame(1, FINISHED, 0, 1), length=9_999), "should have 9999", id="length"),
        pytest.param(lambda f: f.add(1, ONE), "checksum does not match", id="no end"),
        pytest.param(
            lambda f: f.add(1, ONE, frame(1, FINISHED, 0, 1), crc=1), "checksum does not match", id="checksum"
        ),
        pytest.param(lambda f: f.add(1, ONE, frame(1, FINISHED, 0, 2)), "not hold all its frames", id="a frame less"),
        pytest.param(lambda f: f.add(1, frame(1, FINISHED), frame(1, FINISHED)), "is damaged", id="two ends"),
        pytest.param(lambda f: f.add(1, frame(2, SNAPSHOT, 1), frame(1, FINISHED)), "is damaged", id="another's frame"),
    ],
)
def test_a_checkpoint_that_is_not_whole_refuses_the_directory(make: Callable[[Files], Files], problem: str) -> None:
    with pytest.raises(CorruptStore, match=problem) as caught:
        make(Files()).read()
    assert caught.value.path == checkpoint_path(1)


@pytest.mark.parametrize("alien", [frame(1, SNAPSHOT, 1, 5, b"", version=2), frame(1, QUARANTINED + 2, 1)])
def test_a_frame_of_a_version_or_kind_to_come_refuses_the_directory_by_name(alien: bytes) -> None:
    with pytest.raises(UnknownStoreVersion, match="is unknown") as caught:
        Files().add(1, alien, frame(1, FINISHED, 0, 1)).read()
    assert (caught.value.path, caught.value.offset) == (checkpoint_path(1), CHECKPOINT_HEADER_BYTES)

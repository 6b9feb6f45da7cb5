"""Frames of a checkpoint that are encoded when they are written: large states, on the disk's thread instead of in a step.

The pieces of a frame are made from values that were fixed when the frame was added, and that nothing changes afterwards.
They are made once, when the frame is first asked for, and are what an encoding at once would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from waymaker_core.storage.checksum import extend
from waymaker_core.storage.frame import PADDING, SNAPSHOT, encode_header

Pieces = Callable[[], Iterator[bytes]]
"""Encodes a state piece by piece."""


class DeferredFrame:
    """The frame of a snapshot that is not encoded yet."""

    __slots__ = ("_key", "_version", "_segment", "_stream_id", "_position", "_pieces", "_parts")

    def __init__(self, key: int, version: int, segment: int, stream_id: int, position: int, pieces: Pieces) -> None:
        self._key = key
        self._version = version
        self._segment = segment
        self._stream_id = stream_id
        self._position = position
        self._pieces: Pieces | None = pieces
        self._parts: list[bytes] = []

    def parts(self) -> list[bytes]:
        """Return the frame's bytes in parts; encode them the first time."""
        if self._pieces is not None:
            meta = list(self._pieces())
            length = crc = 0
            for piece in meta:
                length += len(piece)
                crc = extend(crc, piece)
            header = encode_header(
                self._key, SNAPSHOT, self._version, 0, self._segment, self._stream_id, self._position, 0, 0, length, 0, crc, 0
            )  # fmt: skip
            self._parts, self._pieces = [header, *meta, PADDING[-length & 7]], None
        return self._parts


class FrameParts(Collection[bytes]):
    """The parts of a write, some of them frames that are encoded when the parts are asked for."""

    __slots__ = ("_frames",)

    def __init__(self, frames: list[bytes | DeferredFrame]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[bytes]:
        for frame in self._frames:
            if isinstance(frame, DeferredFrame):
                yield from frame.parts()
            else:
                yield frame

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, part: object) -> bool:
        return any(part == each for each in self)

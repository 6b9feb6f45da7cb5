"""The framing between members: a length, a checksum and a kind before the bytes of a frame.

A length is compared with what the kind may have before a byte of the frame is waited for. Memory grows with the bytes that
arrived, never with what a length claims.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from waymaker_core.model.limits import MIB
from waymaker_core.storage.checksum import crc32c, extend

_HEADER: Final = struct.Struct("<IIB")
HEADER_BYTES: Final = _HEADER.size
HELLO_BYTES_MAX: Final = 4 << 10
MESSAGE_BYTES_MAX: Final = 40 * MIB
"""The largest message between members: a record with the largest batch of a publish fits in twice."""


class Kind(IntEnum):
    """The kinds of frames."""

    HELLO = 1
    """First and once from either side: `Hello`."""
    REFUSED = 2
    """The last frame of a side: why it ends the connection."""
    MESSAGE = 3
    """A message of one member's core to the other's."""
    KEEPALIVE = 4
    """A sign of a side that had nothing to send for a while; empty."""


LARGEST: Final = {
    Kind.HELLO: HELLO_BYTES_MAX,
    Kind.REFUSED: HELLO_BYTES_MAX,
    Kind.MESSAGE: MESSAGE_BYTES_MAX,
    Kind.KEEPALIVE: 0,
}


class FrameError(Exception):
    """Bytes that are no frame, or a frame that may not come now; the message says which."""


def header(kind: Kind, data: bytes) -> bytes:
    """Encode what stands before the bytes of a frame. The checksum covers kind and bytes."""
    return _HEADER.pack(len(data), extend(crc32c(bytes((kind,))), data), kind)


def frame(kind: Kind, data: bytes = b"") -> bytes:
    """Encode a whole frame."""
    return header(kind, data) + data


class FrameReader:
    """Frames out of the bytes of one side. `accepts` says which kinds may come now."""

    __slots__ = ("_accepts", "_buffer", "_wanted")

    def __init__(self, accepts: Callable[[Kind], bool]) -> None:
        self._accepts = accepts
        self._buffer = bytearray()
        self._wanted = HEADER_BYTES
        """The bytes without which the next frame is not complete, as far as known."""

    def feed(self, data: bytes, take: Callable[[Kind, bytes], None]) -> None:
        """Take bytes, and hand over each frame that they complete. Raises `FrameError`; nothing is to be fed after it."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= self._wanted:
            length, checksum, code = _HEADER.unpack_from(buffer, at)
            kind = self._kind(code, length)
            self._wanted = HEADER_BYTES + length
            if len(buffer) - at < self._wanted:
                break
            body = bytes(memoryview(buffer)[at + HEADER_BYTES : at + self._wanted])
            at += self._wanted
            self._wanted = HEADER_BYTES
            if extend(crc32c(bytes((code,))), body) != checksum:
                raise FrameError("a frame whose checksum is wrong")
            take(kind, body)
        del buffer[:at]

    def _kind(self, code: int, length: int) -> Kind:
        try:
            kind = Kind(code)
        except ValueError:
            raise FrameError(f"no frame: kind {code}") from None
        if not self._accepts(kind):
            raise FrameError(f"a frame {kind.name} where none belongs")
        if length > LARGEST[kind]:
            raise FrameError(f"a frame {kind.name} of {length} bytes; {LARGEST[kind]} at most")
        return kind

"""The framing of the native link: a greeting, then envelopes, each with its length and its kind before its bytes.

Client and server share it. A length is judged before a byte of the envelope is waited for, and memory grows with the bytes
that arrived, never with what a length claims. `docs/native-link.md` describes it for programs in other languages.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

GREETING: Final = b"WMKRLNK\x01"
"""The first bytes of both sides; the last one is the version of the framing."""
ALPN: Final = "waymaker-link"
"""The name of the protocol in a TLS handshake."""
HEADER_BYTES: Final = 5
SMALL_BYTES: Final = 16 << 10
"""The largest READY, OPEN and END."""

_FIRST_BYTES: Final = 1 << 10
_USUAL_BYTES: Final = 64 << 10


class Kind(IntEnum):
    """The kinds of envelopes."""

    READY = 1
    """From the server, first and once: `LinkReady`."""
    OPEN = 2
    """From the client, first and once: `LinkOpen`."""
    FRAME = 3
    """A `Frame` of the pipeline."""
    END = 4
    """The last envelope of a side. From the server `Refused`, with status 0 for a good end; from the client empty."""


class LinkError(Exception):
    """Bytes that are no envelope, or one that is too large; the message says what would be right."""

    def __init__(self, message: str, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


def header(kind: Kind, length: int) -> bytes:
    """Encode what stands before the bytes of an envelope."""
    return length.to_bytes(4, "big") + bytes((kind,))


def envelope(kind: Kind, data: bytes = b"") -> bytes:
    """Encode a whole envelope."""
    return header(kind, len(data)) + data


class Receiver:
    """Envelopes out of the bytes of one side. `largest` says how many bytes a kind may have now; None: it may not come."""

    __slots__ = ("_largest", "_buffer", "_view", "_start", "_end", "_greeted")

    def __init__(self, largest: Callable[[int], int | None]) -> None:
        self._largest = largest
        self._buffer = bytearray(_FIRST_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._greeted = False

    @property
    def capacity(self) -> int:
        """Return the bytes of memory that it holds."""
        return len(self._buffer)

    @property
    def is_within(self) -> bool:
        """Return True if an envelope has begun to arrive."""
        return self._end > self._start

    def space(self) -> memoryview:
        """Return room for the bytes that arrive next, never empty."""
        if self._end == len(self._buffer):
            self._make_room()
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        """Note how many bytes of the room were filled."""
        self._end += count

    def next(self) -> tuple[Kind, bytes] | None:
        """Return the next envelope once all of it is here. Raises `LinkError`."""
        start, end = self._start, self._end
        if not self._greeted:
            there = bytes(self._view[start : min(end, start + len(GREETING))])
            if not GREETING.startswith(there):
                raise LinkError(f"a native link begins with {GREETING!r}")
            if len(there) < len(GREETING):
                return None
            self._greeted = True
            start = self._start = start + len(GREETING)
        if end - start < HEADER_BYTES:
            self._settle()
            return None
        length = int.from_bytes(self._view[start : start + 4], "big")
        number = self._buffer[start + 4]
        largest = self._largest(number)
        if largest is None:
            raise LinkError(f"an envelope of kind {number} cannot come here")
        if length > largest:
            raise LinkError(f"an envelope of {length} bytes; at most {largest} can come here", too_large=True)
        begin = start + HEADER_BYTES
        if end - begin < length:
            return None
        self._start = begin + length
        data = bytes(self._view[begin : self._start])
        self._settle()
        return Kind(number), data

    def _settle(self) -> None:
        """Begin again at the front where nothing is left, with room of the usual size."""
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > _USUAL_BYTES:
                self._replace(_USUAL_BYTES)

    def _make_room(self) -> None:
        used = self._end - self._start
        if self._start and used <= len(self._buffer) // 2:
            self._view[:used] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, used
        else:
            self._replace(max(_USUAL_BYTES, 2 * used))

    def _replace(self, size: int) -> None:
        used = self._end - self._start
        buffer = bytearray(size)
        buffer[:used] = self._view[self._start : self._end]
        self._buffer, self._view = buffer, memoryview(buffer)
        self._start, self._end = 0, used

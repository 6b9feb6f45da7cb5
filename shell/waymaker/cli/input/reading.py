"""Lines of standard input or of a file, as a program's event loop can take them.

Standard input is read on a daemon thread, a bounded number of pieces ahead: a terminal or a pipe that gives nothing must
neither hold up the connection nor the end of the program. (Asking the loop itself to read it would make the descriptor
non-blocking for every process that shares it, such as the terminal's other programs.)
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

PIECE_BYTES = 1 << 16
PIECES_AHEAD = 8
LINE_BYTES_MAX = 16 << 20
"""A longer line is no message that a server would take."""


class LineTooLong(ValueError):
    """A line without an end in sight."""


async def pieces(source: BinaryIO) -> AsyncIterator[bytes]:
    """Yield what a stream gives, as it comes."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | Exception] = asyncio.Queue()
    room = threading.Semaphore(PIECES_AHEAD)
    read = _reader(source)

    def feed() -> None:
        while True:
            room.acquire()
            item: bytes | Exception
            try:
                item = read(PIECE_BYTES)
            except (OSError, ValueError) as error:
                item = error
            try:
                loop.call_soon_threadsafe(queue.put_nowait, item)
            except RuntimeError:  # the loop is closed, and the caller has left
                return
            if not item or isinstance(item, Exception):
                return

    threading.Thread(target=feed, name="waymaker-stdin", daemon=True).start()
    while True:
        item = await queue.get()
        if isinstance(item, Exception):
            raise item
        if not item:
            return
        room.release()
        yield item


def _reader(source: BinaryIO) -> Callable[[int], bytes]:
    """Read past the stream's own buffer where there is a descriptor: a thread that waits inside the buffer holds its
    lock, and the interpreter cannot end."""
    try:
        descriptor = source.fileno()
    except OSError:
        return source.read
    return lambda count: os.read(descriptor, count)


async def lines(source: BinaryIO, on_bytes: Callable[[int], None] | None = None) -> AsyncIterator[bytes]:
    """Yield lines without their ends; a last line without one counts. `on_bytes` receives the bytes that were read."""
    rest = b""
    async for piece in pieces(source):
        if on_bytes is not None:
            on_bytes(len(piece))
        parts = (rest + piece).split(b"\n")
        rest = parts.pop()
        for line in parts:
            yield line.removesuffix(b"\r")
        if len(rest) > LINE_BYTES_MAX:
            raise LineTooLong(f"a line is longer than {LINE_BYTES_MAX} bytes")
    if rest:
        yield rest.removesuffix(b"\r")

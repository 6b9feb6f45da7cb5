"""The bare peers: what the machine itself does with the same bytes, without a server in between."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path


def synced_appends_a_second(folder: Path, batch: bytes, messages_a_batch: int, seconds: float) -> float:
    """Return the messages a second of a loop that writes a batch into a zero-filled file and syncs it, one after the other."""
    file_bytes = 32 * 1024 * 1024 if seconds >= 0.5 else 2 * 1024 * 1024  # a smoke run waits for no large file
    path = folder / "peer"
    with path.open("wb") as file:
        file.write(b"\0" * file_bytes)
        os.fsync(file.fileno())
    descriptor = os.open(path, os.O_WRONLY)
    try:
        offset, batches = 0, 0
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            os.pwrite(descriptor, batch, offset)
            os.fdatasync(descriptor)
            batches += 1
            offset = (offset + len(batch)) % (file_bytes - len(batch))
    finally:
        os.close(descriptor)
        path.unlink()
    return batches * messages_a_batch / took


def read_bytes_a_second(folder: Path, total_bytes: int = 256 * 1024 * 1024) -> float:
    """Return the bytes a second of reading a warm file from its beginning to its end."""
    path = folder / "peer"
    block = b"\1" * (1024 * 1024)
    with path.open("wb") as written:
        for _ in range(total_bytes // len(block)):
            written.write(block)
    try:
        began = time.perf_counter()
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            for start in range(0, total_bytes, len(block)):
                _ = content[start : start + len(block)]
        return total_bytes / (time.perf_counter() - began)
    finally:
        path.unlink()

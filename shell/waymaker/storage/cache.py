"""Recently written and recently read chunks, kept by bytes, least recently used out first.

Readers that follow a stream's end are served from here without a system call. Entries are immutable and named by file and
offset; a caller that renames, overwrites or deletes a file forgets its entries.
"""

from __future__ import annotations

import threading
from collections import OrderedDict


class ChunkCache:
    """A byte-bounded map from (path, offset) to a chunk's bytes. Safe to use from several threads."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._by_path: dict[str, set[int]] = {}
        self._lock = threading.Lock()

    def get(self, path: str, offset: int, length: int) -> bytes | None:
        """Return the chunk, or None; one of another length is not it."""
        key = (path, offset)
        with self._lock:
            data = self._entries.get(key)
            if data is None or len(data) != length:
                return None
            self._entries.move_to_end(key)
            return data

    def put(self, path: str, offset: int, data: bytes) -> None:
        """Remember a chunk; one that would take more than a quarter of the cache is not worth it."""
        if len(data) * 4 > self._bytes_max:
            return
        key = (path, offset)
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._bytes -= len(old)
            self._entries[key] = data
            self._bytes += len(data)
            self._by_path.setdefault(path, set()).add(offset)
            while self._bytes > self._bytes_max:
                (victim_path, victim_offset), victim = self._entries.popitem(last=False)
                self._bytes -= len(victim)
                offsets = self._by_path[victim_path]
                offsets.discard(victim_offset)
                if not offsets:
                    del self._by_path[victim_path]

    def forget(self, path: str) -> None:
        """Drop everything known of a file."""
        with self._lock:
            for offset in self._by_path.pop(path, ()):
                self._bytes -= len(self._entries.pop((path, offset)))

    @property
    def byte_count(self) -> int:
        """Return the bytes held now."""
        return self._bytes

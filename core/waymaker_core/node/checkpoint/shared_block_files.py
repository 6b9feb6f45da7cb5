"""Shared block files and the streams that use each: an unused file is garbage, a sparse one is relocated."""

from __future__ import annotations

from collections.abc import Container

from waymaker_core.model.types import StreamId
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.paths import SHARED_BLOCKS
from waymaker_core.stream.relocation import relocation as relocating

COMPACT_BELOW = 2
"""A file less than one part in so many in use is sparse: its streams relocate their chunks."""


class SharedBlockFiles:
    """The shared block files in force, with the bytes of each that each stream still uses."""

    def __init__(self) -> None:
        self._users: dict[str, dict[StreamId, int]] = {}
        self._bytes: dict[str, int] = {}
        self._of: dict[StreamId, list[str]] = {}

    def created(self, path: str, byte_count: int) -> None:
        """Note a new file of that length."""
        self._users.setdefault(path, {})
        self._bytes[path] = byte_count

    def note(self, replica: StreamReplica) -> None:
        """Note which files a stream uses now that its chunks have moved or were dropped."""
        self._forget(replica.id)
        found = {
            path: used for path, used in relocating.files(replica.stream).items() if path.startswith(SHARED_BLOCKS)
        }
        for path, used in found.items():
            users = self._users.setdefault(path, {})
            users[replica.id] = used
            self._bytes[path] = max(self._bytes.get(path, 0), sum(users.values()))
        if found:
            self._of[replica.id] = list(found)

    def keep_only(self, alive: Container[StreamId]) -> None:
        """Forget the streams that were deleted."""
        for stream_id in [stream_id for stream_id in self._of if stream_id not in alive]:
            self._forget(stream_id)

    def _forget(self, stream_id: StreamId) -> None:
        for path in self._of.pop(stream_id, ()):
            self._users[path].pop(stream_id, None)

    def take_unused(self) -> list[str]:
        """Return the files that no stream uses any more, each once."""
        unused = [path for path, users in self._users.items() if not users]
        for path in unused:
            del self._users[path]
            del self._bytes[path]
        return unused

    def sparse(self) -> dict[str, list[StreamId]]:
        """Return the files of which little is used, with the streams that use them."""
        return {
            path: list(users)
            for path, users in self._users.items()
            if users and sum(users.values()) * COMPACT_BELOW < self._bytes[path]
        }

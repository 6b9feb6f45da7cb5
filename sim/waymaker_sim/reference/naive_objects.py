"""The naive object store: payloads in dictionaries, one version after the other, every rule a loop.

The reference for the object store of the core. Written from the documented semantics alone (docs/objects.md).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class NaiveVersion:
    """One revision: its time, its chunks (None for a tombstone), and the number that the store gave it, where that is known."""

    chunks: list[bytes] | None
    time_ms: int
    revision: int = 0


class NaiveObjects:
    """One bucket. It gives no numbers to revisions: who compares them notes those of the store (`latest`)."""

    def __init__(self, revisions_max: int, grace_ms: int, tombstone_ms: int) -> None:
        self.revisions_max = revisions_max
        self.grace_ms = grace_ms
        self.tombstone_ms = tombstone_ms
        self.versions: dict[str, list[NaiveVersion]] = {}

    def put(self, name: str, chunks: list[bytes], time_ms: int) -> None:
        """Make a payload the latest version of a name."""
        self._add(name, NaiveVersion(list(chunks), time_ms))

    def delete(self, name: str, time_ms: int) -> bool:
        """Put a tombstone in place of an object; return False where there is none to delete."""
        if self.get(name) is None:
            return False
        self._add(name, NaiveVersion(None, time_ms))
        return True

    def _add(self, name: str, version: NaiveVersion) -> None:
        versions = self.versions.setdefault(name, [])
        versions.append(version)
        del versions[: -self.revisions_max]

    def get(self, name: str) -> list[bytes] | None:
        """Return the chunks of the latest version; None where there is no object."""
        versions = self.versions.get(name)
        return versions[-1].chunks if versions else None

    def latest(self, name: str) -> NaiveVersion | None:
        """Return the latest version of a name, a tombstone perhaps."""
        versions = self.versions.get(name)
        return versions[-1] if versions else None

    def names(self, prefix: str, *, include_deleted: bool) -> list[str]:
        """Return the names that begin with a prefix, in order."""
        return sorted(
            name for name, versions in self.versions.items()
            if name.startswith(prefix) and (include_deleted or versions[-1].chunks is not None)
        )  # fmt: skip

    def revisions(self, name: str) -> list[bool]:
        """Return of each revision that is known, oldest first, if it is a tombstone."""
        return [version.chunks is None for version in self.versions.get(name, [])]

    def sweep(self, now_ms: int) -> None:
        """Forget deleted names whose time is over."""
        for name, versions in list(self.versions.items()):
            if versions[-1].chunks is None and versions[-1].time_ms + self.tombstone_ms <= now_ms:
                del self.versions[name]

    def messages_at_rest(self, shared: dict[str, bool]) -> int:
        """Return how many messages the bucket has once every grace period is over. `shared`: the names stored by content."""
        contents: dict[bytes, None] = {}
        count = 0
        for name, versions in self.versions.items():
            count += len(versions)
            chunks = versions[-1].chunks or []
            if shared.get(name):
                contents.update(dict.fromkeys(chunks))
            else:
                count += len(chunks)
        return count + len(contents)

"""Slow reads of bodies: files that a reader still has while the node works on.

The shell reads on a thread what is not in its cache. Until then the files keep their names, and so do the files of what waits
behind that read on the same subscription: the node may delete them as soon as it has handed the effect over. Here the client
gets its messages at once and a second read of the same bodies comes late, so that each check may take the moment of a
delivery for that of its decision. It must never change what a client gets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from waymaker_core.api.effects import Job
from waymaker_core.api.requests import Messages
from waymaker_core.model.disk_ops import Delete, DiskFailure, FailureKind, ReadChunk, Rename
from waymaker_core.model.types import Token
from waymaker_sim.kernel.events import SECOND, Events
from waymaker_sim.kernel.tape import Track

SLOW_MAX_NS = 3 * SECOND
WAITING_MAX = 8
"""Deliveries that wait behind a read. A client that had to wait itself would give no credit for more."""


class HeldFiles:
    """Files that are being read: renames and deletions of them wait."""

    def __init__(self) -> None:
        self._readers: dict[str, int] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._readers

    def hold(self, paths: list[str]) -> None:
        """Count one more reader of each file."""
        for path in paths:
            self._readers[path] = self._readers.get(path, 0) + 1

    def let_go(self, paths: list[str]) -> None:
        """Count one reader less of each file."""
        for path in paths:
            self._readers[path] -= 1
            if not self._readers[path]:
                del self._readers[path]

    def clear(self) -> None:
        """Let go of every file: the process is dead."""
        self._readers.clear()


Waiting = deque[tuple[Messages, list[str]]]
"""Messages that wait behind a read, each with the files that are held for them."""


class LateReads:
    """The slow reads of one process. `per_million` handed-over messages begin one; those behind it on a subscription wait."""

    def __init__(
        self, events: Events, track: Track, held: HeldFiles, per_million: int, read_ns: int,
        read: Callable[[Messages], object],
    ) -> None:  # fmt: skip
        self.track = track
        self.on_missing: Callable[[DiskFailure], None] = lambda failure: None
        """Called when a body's file is gone before it was read."""
        self._events = events
        self._held = held
        self._per_million = per_million
        self._read_ns = read_ns
        self._read = read
        self._lines: dict[Token, Waiting] = {}
        """Effects that wait, by the token whose bodies are being read."""
        self._runs = 0

    def handed_over(self, token: Token, messages: Messages) -> None:
        """Draw whether these bodies are read late; behind a read they are in any case. Those in memory never are."""
        if not self._per_million or not _files(messages):
            return
        line = self._lines.get(token)
        if line is not None and len(line) == WAITING_MAX:
            return
        if line is not None:
            line.append((messages, self._hold(messages)))
        elif self.track.chance("slow", self._per_million):
            self._lines[token] = deque()
            self._begin(token, messages, slower=1000)

    def _hold(self, messages: Messages) -> list[str]:
        """Keep the files of messages that wait behind a read. Return them."""
        files = _files(messages)
        self._held.hold(files)
        return files

    def _begin(self, token: Token, messages: Messages, slower: int = 1) -> None:
        files = _files(messages)
        self._held.hold(files)
        takes = self._read_ns + self.track.draw("takes", self._read_ns)
        self._events.after(min(takes * slower, SLOW_MAX_NS), partial(self._end, self._runs, token, messages, files))

    def _end(self, run: int, token: Token, messages: Messages, files: list[str]) -> None:
        """Read the bodies, then begin with what waited behind them."""
        if run != self._runs:
            return
        found = self._read(messages)
        self._held.let_go(files)
        if isinstance(found, DiskFailure) and found.kind is FailureKind.MISSING:
            self.on_missing(found)
        line = self._lines[token]
        if line:
            following, kept = line.popleft()
            self._begin(token, following)
            self._held.let_go(kept)
        else:
            del self._lines[token]

    def clear(self) -> None:
        """Forget every read: the process is dead."""
        self._lines.clear()
        self._runs += 1


def _files(messages: Messages) -> list[str]:
    return [run.chunk.path for run in messages.runs if not run.chunk.path.startswith("memory/")]


def read_paths(job: Job) -> list[str]:
    """Return the paths that a job reads."""
    return [op.chunk.path for op in job.ops if isinstance(op, ReadChunk)]


def moved_path(op: Rename | Delete) -> str:
    """Return the path that an operation takes away."""
    return op.source if isinstance(op, Rename) else op.path

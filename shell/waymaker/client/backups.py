"""A whole server's streams into a directory and back, a few at a time.

Responsible for the order of things: what is judged before anything changes, what ends the whole, what is only reported. The
files are the business of `waymaker.backups`, the archives' bytes that of the server, which verifies each archive before its
stream is served. The SHA-256 of an archive is compared before its last piece is sent: an archive that is not the one
that the index names never becomes a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from waymaker.backups.directory import (
    BackupMissing,
    BackupWriter,
    DirectoryRefused,
    naming,
    open_regular,
    read_index,
    size_problem,
)
from waymaker.backups.index import ArchiveEntry, BackupIndex, IndexRefused
from waymaker.client.errors import (
    AlreadyExistsError,
    DataLossError,
    NoSuchStreamError,
    TransferCorruptedError,
    UsageError,
    WaymakerError,
)
from waymaker.client.values import BackupSummary, RestoreReport, RestoreResult, ServerInfo

BACKUPS_AT_ONCE: Final = 4
RESTORES_AT_ONCE: Final = 3
"""One fewer than a server takes, so that a restore of one stream finds a place beside that of all."""
PIECE_BYTES: Final = 1 << 20
NAMES_LISTED: Final = 20
RESERVED_PAUSE_S: Final = 0.5
RESERVED_S_MAX: Final = 90.0
"""A server discards a restore that sends nothing more after 60 s, and until then its name is taken."""

P = ParamSpec("P")
Result = TypeVar("Result")
OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of a client that this is made of, each with the caller's timeout in it."""

    server_info: Callable[[], Awaitable[ServerInfo]]
    list_streams: Callable[[], Awaitable[list[str]]]
    backup: Callable[[str, Callable[[BackupSummary], None]], AsyncIterator[bytes]]
    restore: Callable[[AsyncIterator[bytes], str], Awaitable[RestoreResult]]


def listed(names: Sequence[str]) -> str:
    """Return names for people, not too many."""
    more = len(names) - NAMES_LISTED
    return ", ".join(names[:NAMES_LISTED]) + (f" and {more} more" if more > 0 else "")


# ----------------------------------------------------------------------------------------- out


class Backup:
    """One backup of many streams under way."""

    def __init__(
        self, calls: Calls, on_archive: Callable[[ArchiveEntry], None] | None, on_bytes: OnBytes | None,
        skip_damaged: bool,
    ) -> None:  # fmt: skip
        self._calls = calls
        self._on_archive = on_archive
        self._on_bytes = on_bytes
        self._skip_damaged = skip_damaged
        self._entries: list[ArchiveEntry] = []
        self._damaged: set[str] = set()
        self._deleted: set[str] = set()

    async def run(self, path: Path, names: Sequence[str], force: bool) -> BackupIndex:
        """Write the backup; nothing of it is left where it fails."""
        begun_ms = _now_ms()
        info = await self._calls.server_info()
        before = await self._calls.list_streams()
        wanted = self._wanted(names, before, info)
        try:
            writer = BackupWriter(path, force)
        except DirectoryRefused as refused:
            raise UsageError(str(refused), code=refused.code) from None
        try:
            queue = iter(enumerate(wanted, 1))

            async def work() -> None:
                for number, stream in queue:
                    await self._copy(writer, number, stream)

            await _in_parallel(work, BACKUPS_AT_ONCE)
            after = await self._calls.list_streams()
            index = BackupIndex(
                writer.backup_id, begun_ms, _now_ms(), info.version, info.node_id, info.directory_id,
                tuple(sorted(self._entries, key=lambda entry: entry.file)), tuple(sorted(self._damaged)),
                *self._changes(before, after, wanted, names),
            )  # fmt: skip
            await _to_its_end(writer.finish, index)
        except BaseException:
            writer.abandon()
            raise
        return index

    def _wanted(self, names: Sequence[str], there: list[str], info: ServerInfo) -> list[str]:
        """Return the streams to copy. Refuses names that do not exist, and damaged streams unless they are skipped."""
        wanted = sorted(set(names)) or there
        known = set(there) | set(info.quarantined)
        if missing := [name for name in wanted if name not in known]:
            raise NoSuchStreamError(f"no stream named {listed(missing)}", outcome=None)
        self._damaged = {name for name in info.quarantined if name in wanted or not names}
        if self._damaged and not self._skip_damaged:
            raise DataLossError(f"damaged and not served: {listed(sorted(self._damaged))}", code="damaged_streams")
        return [name for name in wanted if name not in self._damaged]

    def _changes(
        self, before: list[str], after: list[str], wanted: list[str], names: Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what was created and is not in the backup, and what was deleted."""
        copied = {entry.stream for entry in self._entries}
        asked = set(names) or {*before, *after}
        created = sorted(name for name in after if name in asked and name not in copied | self._damaged)
        deleted = sorted(self._deleted | {name for name in wanted if name not in set(after)})
        return tuple(created), tuple(deleted)

    async def _copy(self, writer: BackupWriter, number: int, stream: str) -> None:
        """Copy one stream. One that was deleted meanwhile is no failure."""
        begun_ms = _now_ms()
        archive = writer.archive(number)
        summaries: list[BackupSummary] = []
        try:
            with _about(stream):
                async for data in self._calls.backup(stream, summaries.append):
                    await _to_its_end(archive.write, data)
                    if self._on_bytes is not None:
                        self._on_bytes(len(data))
        except NoSuchStreamError:
            self._deleted.add(stream)
            writer.discard(archive)
            return
        except DataLossError:
            if not self._skip_damaged:
                raise
            self._damaged.add(stream)
            writer.discard(archive)
            return
        sha256 = await _to_its_end(archive.finish)
        done = summaries[0]
        entry = ArchiveEntry(
            archive.path.name, stream, done.stream_id, begun_ms, archive.bytes, sha256, done.messages, done.first_seq,
            done.last_seq,
        )  # fmt: skip
        self._entries.append(entry)
        if self._on_archive is not None:
            self._on_archive(entry)


# ----------------------------------------------------------------------------------------- in


class Restore:
    """One restore of many streams under way."""

    def __init__(
        self, calls: Calls, on_stream: Callable[[RestoreResult], None] | None, on_bytes: OnBytes | None,
        skip_existing: bool,
    ) -> None:  # fmt: skip
        self._calls = calls
        self._on_stream = on_stream
        self._on_bytes = on_bytes
        self._skip_existing = skip_existing
        self._restored: list[RestoreResult] = []
        self._skipped: list[str] = []

    async def run(self, path: Path, names: Sequence[str], name: str, prefix: str) -> RestoreReport:
        """Restore the streams of a backup. What was restored before a failure stays."""
        index = await asyncio.to_thread(_index_of, path)
        chosen = _chosen(index, names, name, prefix)
        await asyncio.to_thread(_check_files, path, [entry for entry, _ in chosen])
        there = set(await self._calls.list_streams())
        taken = [new for _, new in chosen if new in there]
        if taken and not self._skip_existing:
            raise AlreadyExistsError(f"nothing was restored, for these streams exist: {listed(taken)}")
        self._skipped += taken
        queue = iter([(entry, new) for entry, new in chosen if new not in there])

        async def work() -> None:
            for entry, new in queue:
                with _about(new):
                    await self._put_back(path, entry, new)

        await _in_parallel(work, RESTORES_AT_ONCE)
        restored = sorted(self._restored, key=lambda result: result.name)
        return RestoreReport(tuple(restored), tuple(sorted(self._skipped)))

    async def _put_back(self, path: Path, entry: ArchiveEntry, new: str) -> None:
        """Restore one stream. A name that another restore has reserved is waited for: it may come to nothing."""
        deadline = time.monotonic() + RESERVED_S_MAX
        while True:
            try:
                result = await self._calls.restore(_pieces(path, entry, self._on_bytes), new)
            except AlreadyExistsError:
                if new not in await self._calls.list_streams():
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(RESERVED_PAUSE_S)
                elif self._skip_existing:
                    self._skipped.append(new)
                    return
                else:
                    raise
            else:
                self._restored.append(result)
                if self._on_stream is not None:
                    self._on_stream(result)
                return


def _index_of(path: Path) -> BackupIndex:
    try:
        return read_index(path)
    except IndexRefused as refused:
        raise TransferCorruptedError(str(refused)) from None
    except BackupMissing as missing:
        if missing.is_unfinished:
            raise TransferCorruptedError(str(missing)) from None
        raise UsageError(str(missing)) from None


def _chosen(index: BackupIndex, names: Sequence[str], name: str, prefix: str) -> list[tuple[ArchiveEntry, str]]:
    """Return the archives to restore, each with the name of its stream to be."""
    held = {entry.stream for entry in index.archives}
    if missing := sorted(set(names) - held):
        raise NoSuchStreamError(f"the backup has no stream {listed(missing)}")
    chosen = [entry for entry in index.archives if not names or entry.stream in names]
    if name and (len(chosen) != 1 or prefix):
        raise UsageError("a new name is for one stream alone; a prefix is for several")
    return [(entry, name or prefix + entry.stream) for entry in chosen]


def _check_files(path: Path, entries: list[ArchiveEntry]) -> None:
    for entry in entries:
        if problem := size_problem(path, entry):
            raise TransferCorruptedError(f"{path / entry.file}: {problem}; nothing was restored")


async def _pieces(path: Path, entry: ArchiveEntry, on_bytes: OnBytes | None) -> AsyncIterator[bytes]:
    """Yield an archive's bytes; TransferCorruptedError instead of the last piece where it is another archive."""
    sha256 = hashlib.sha256()
    held = b""
    file = path / entry.file
    with naming(file), open_regular(file) as opened:
        while data := await asyncio.to_thread(opened.read, PIECE_BYTES):
            sha256.update(data)
            if held:
                yield held
            held = data
            if on_bytes is not None:
                on_bytes(len(data))
    if sha256.hexdigest() != entry.sha256:
        raise TransferCorruptedError(f"{file} is not the archive that the index names: its SHA-256 differs")
    yield held


# ----------------------------------------------------------------------------------------- both


@contextlib.contextmanager
def _about(stream: str) -> Iterator[None]:
    """Begin the message of a failure with the stream that it is about."""
    try:
        yield
    except WaymakerError as error:
        error.args = (f"stream {stream}: {error.message}", *error.args[1:])
        raise


async def _in_parallel(work: Callable[[], Coroutine[Any, Any, None]], at_once: int) -> None:
    """Run several of the same worker, until all have ended or one has failed: then that failure is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _to_its_end(work: Callable[P, Result], *arguments: P.args, **named: P.kwargs) -> Result:
    """Do a piece of work with files on a thread. A caller that is cancelled waits for its end: nothing goes on behind it."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # of a file that another failure has made pointless: nothing is to be said of it
        raise


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

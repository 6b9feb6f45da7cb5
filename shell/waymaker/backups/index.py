"""The index of a backup: which archives belong to it, and what each of them is.

Lines of JSON: a head with the server's identity, one line an archive, and a last line with the SHA-256 of all before it.
So damage anywhere in the file is found, an operator can read it, and the archives can be verified with `sha256sum`.

Responsible for these bytes alone; it never opens a file. An index comes from outside: it is believed in nothing. The name of an
archive is a number and the backup's id, so that no index can name a file elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from waymaker_core.model.limits import Limits
from waymaker_core.model.names import is_name

INDEX_NAME: Final = "backup.jsonl"
INDEX_VERSION: Final = 1
INDEX_BYTES_MAX: Final = 256 << 20
"""More than the index of as many streams as a server may have."""
ARCHIVE_NAME: Final = re.compile(r"([0-9]{6})-([0-9a-f]{8})\.wmka")
"""Number and id of the backup: a stream's name never becomes a file's."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_BACKUP_ID: Final = re.compile(r"[0-9a-f]{8}")
_NUMBER_MAX: Final = (1 << 63) - 1
_TEXT_MAX: Final = 1_024
_NAMES: Final = Limits(name_bytes_max=_TEXT_MAX)
"""Limits of a name on any server, whatever its own are."""


class IndexRefused(ValueError):
    """The bytes are not a whole, undamaged index of a known version. `offset` is that of the line at fault."""

    def __init__(self, offset: int, detail: str) -> None:
        super().__init__(f"{INDEX_NAME} at byte {offset}: {detail}")
        self.offset = offset
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One archive of a backup. `last_seq` is the stream's when its copy began, `begun_ms` that moment by the client's clock."""

    file: str
    stream: str
    stream_id: int
    begun_ms: int
    bytes: int
    sha256: str
    messages: int
    first_seq: int
    """Of the first message; 0 without messages."""
    last_seq: int


@dataclass(frozen=True, slots=True)
class BackupIndex:
    """All that an index says. Times are milliseconds since 1970, by the client's clock."""

    backup_id: str
    begun_ms: int
    finished_ms: int
    server_version: str
    node_id: int
    directory_id: str
    """The identity of the server's data directory."""
    archives: tuple[ArchiveEntry, ...]
    damaged: tuple[str, ...] = ()
    """Streams that were left out because the server does not serve them."""
    created: tuple[str, ...] = ()
    """Streams that were created while the backup ran, and are not in it."""
    deleted: tuple[str, ...] = ()
    """Streams that were deleted while it ran, whether it has them or not."""

    @property
    def messages(self) -> int:
        """Return how many messages all archives have."""
        return sum(entry.messages for entry in self.archives)

    @property
    def total_bytes(self) -> int:
        """Return the length of all archives."""
        return sum(entry.bytes for entry in self.archives)


def archive_name(number: int, backup_id: str) -> str:
    """Return the name of the archive with this number, from 1."""
    return f"{number:06}-{backup_id}.wmka"


# ----------------------------------------------------------------------------------------- out


def encode_index(index: BackupIndex) -> bytes:
    """Return the bytes of the index file."""
    head = {
        "waymaker_backup": INDEX_VERSION,
        "backup_id": index.backup_id,
        "begun_ms": index.begun_ms,
        "finished_ms": index.finished_ms,
        "server": {
            "version": index.server_version, "node_id": index.node_id, "directory_id": index.directory_id
        },
        "archives": len(index.archives),
        "damaged": index.damaged,
        "created": index.created,
        "deleted": index.deleted,
    }  # fmt: skip
    body = b"".join(map(_line, (head, *map(asdict, index.archives))))
    return body + _line({"sha256": hashlib.sha256(body).hexdigest()})


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


# ----------------------------------------------------------------------------------------- in


def decode_index(data: bytes) -> BackupIndex:
    """Read the bytes of an index file. Raises `IndexRefused`, and nothing else."""
    lines = data.split(b"\n")
    if lines[-1] or len(lines) < 3:
        raise IndexRefused(len(data), "the index is cut short")
    end = len(data) - len(lines[-2]) - 1
    last = _object(lines[-2], end)
    if last.get("sha256") != hashlib.sha256(data[:end]).hexdigest():
        raise IndexRefused(end, "the index does not match its checksum")
    head = _Fields(_object(lines[0], 0), 0)
    version = head.number("waymaker_backup")
    if version != INDEX_VERSION:
        raise IndexRefused(0, f"the index has version {version}, this program reads {INDEX_VERSION}")
    backup_id = head.text("backup_id")
    if _BACKUP_ID.fullmatch(backup_id) is None:
        raise head.refused("backup_id")
    server = _Fields(head.value("server"), 0)
    entries = _entries(lines[1:-2], len(lines[0]) + 1, backup_id)
    if len(entries) != head.number("archives"):
        raise IndexRefused(0, f"the index counts {head.number('archives')} archives and names {len(entries)}")
    return BackupIndex(
        backup_id, head.number("begun_ms"), head.number("finished_ms"), server.text("version"), server.number("node_id"),
        server.text("directory_id"), entries, head.names("damaged"), head.names("created"), head.names("deleted"),
    )  # fmt: skip


def _entries(lines: Iterable[bytes], offset: int, backup_id: str) -> tuple[ArchiveEntry, ...]:
    entries: list[ArchiveEntry] = []
    streams: dict[str, None] = {}
    for line in lines:
        fields = _Fields(_object(line, offset), offset)
        entry = ArchiveEntry(
            fields.text("file"), fields.text("stream"), fields.number("stream_id"), fields.number("begun_ms"),
            fields.number("bytes"), fields.text("sha256"), fields.number("messages"), fields.number("first_seq"),
            fields.number("last_seq"),
        )  # fmt: skip
        name = ARCHIVE_NAME.fullmatch(entry.file)
        if name is None or name[2] != backup_id:
            raise IndexRefused(offset, f"{entry.file[:80]!r} is no archive of this backup")
        if entries and entry.file <= entries[-1].file:
            raise IndexRefused(offset, f"{entry.file} stands behind {entries[-1].file}")
        if not is_name(entry.stream, _NAMES):
            raise IndexRefused(offset, f"{entry.stream[:80]!r} is no name of a stream")
        if entry.stream in streams:
            raise IndexRefused(offset, f"stream {entry.stream} is named twice")
        if _SHA256.fullmatch(entry.sha256) is None:
            raise fields.refused("sha256")
        if entry.first_seq > entry.last_seq or bool(entry.first_seq) != bool(entry.messages):
            raise fields.refused("first_seq")
        streams[entry.stream] = None
        entries.append(entry)
        offset += len(line) + 1
    return tuple(entries)


def _object(line: bytes, offset: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise IndexRefused(offset, "this line is no JSON object")
    return value


class _Fields:
    """The fields of one line, each of its type or refused. A field that is not known is ignored."""

    def __init__(self, values: object, offset: int) -> None:
        if not isinstance(values, dict):
            raise IndexRefused(offset, "this line lacks an object")
        self._values = values
        self._offset = offset

    def refused(self, name: str) -> IndexRefused:
        """Return the refusal of a field."""
        return IndexRefused(self._offset, f"{name} is missing or impossible")

    def value(self, name: str) -> object:
        """Return a field as it is; None where it is missing."""
        return self._values.get(name)

    def number(self, name: str) -> int:
        """Return a whole number, not negative."""
        value = self.value(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _NUMBER_MAX:
            raise self.refused(name)
        return value

    def text(self, name: str) -> str:
        """Return a text that can be printed."""
        value = self.value(name)
        if not isinstance(value, str) or not value.isprintable() or len(value) > _TEXT_MAX:
            raise self.refused(name)
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """Return a list of streams' names."""
        value = self.value(name)
        if not isinstance(value, list) or not all(isinstance(each, str) and is_name(each, _NAMES) for each in value):
            raise self.refused(name)
        return tuple(value)

"""`waymaker check`: reads a data directory that no server uses, a backup or an archive, and reports every damage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waymaker.cli import exits, output
from waymaker.cli.failure import CommandError
from waymaker.cli.progress import counter
from waymaker.cli.session import json_option
from waymaker.cli.units import say_size

if TYPE_CHECKING:
    from waymaker_core.storage.recovery.verify import Finding, Report


@click.command()
@click.argument("path", metavar="DIRECTORY|FILE", type=click.Path(path_type=Path))
@json_option
def check(path: Path, as_json: bool) -> int:
    """Verify the data directory of a stopped server, the directory of a backup, or an archive. Nothing is changed.

    Every file is read and every checksum compared. Prints one line a finding: file, offset, stream, what. What takes
    nothing away, such as a file that a crash left over, is told and does not count as damage.
    """
    found_format = 0
    if _is_backup(path):
        report, streams, messages = _backup_verified(path)
    else:
        report, streams, messages = _verified(path)
        found_format = report.version
    damage = [finding for finding in report.findings if not finding.harmless]
    if as_json:
        for finding in report.findings:
            click.echo(output.to_json(_told(finding)))
        summary = {
            "damaged": bool(damage), "findings": len(damage), "files": report.files, "bytes": report.bytes_read,
            "records": report.records, "streams": streams, "messages": messages,
        }  # fmt: skip
        if found_format:
            summary["format"] = found_format
        click.echo(output.to_json(summary))
    else:
        for finding in report.findings:
            where = f"stream {finding.stream_id}" if finding.stream_id >= 0 else "-"
            note = " (harmless)" if finding.harmless else ""
            click.echo(f"{finding.path}\t{finding.offset}\t{where}\t{finding.detail}{note}")
        its_format = f"format {found_format}, " if found_format else ""
        output.note(
            f"{its_format}{report.files:,} file(s), {say_size(report.bytes_read)}, {streams:,} stream(s), "
            f"{messages:,} message(s): {f'{len(damage)} damage(s) found' if damage else 'no damage'}"
        )
    return exits.DAMAGED if damage else exits.OK


def _is_backup(path: Path) -> bool:
    """Return True for an archive, a backup, and what a backup that was not completed left."""
    if path.is_file():
        return True
    from waymaker.backups.index import ARCHIVE_NAME, INDEX_NAME

    if not path.is_dir() or (path / "MANIFEST").exists():
        return False
    return (path / INDEX_NAME).exists() or any(ARCHIVE_NAME.fullmatch(each.name) for each in path.iterdir())


def _backup_verified(path: Path) -> tuple[Report, int, int]:
    """Return the report, and how many streams and messages the archives hold."""
    from waymaker.backups.index import INDEX_NAME
    from waymaker.backups.verify import verify_archive, verify_backup

    if path.name == INDEX_NAME:
        raise CommandError(
            f"{path} is the index of a backup", exits.USAGE, f"waymaker check {path.parent}", code="usage"
        )
    with counter(str(path), _size_of(path)) as count:
        report = verify_backup(path, count) if path.is_dir() else verify_archive(path, count)
    return report, report.streams, report.messages


def _size_of(path: Path) -> int:
    """Return how much there is to read."""
    return sum(each.stat().st_size for each in (path.iterdir() if path.is_dir() else (path,)) if each.is_file())


def _told(finding: Finding) -> dict[str, Any]:
    told: dict[str, Any] = {"path": finding.path, "offset": finding.offset}
    if finding.stream_id >= 0:
        told["stream_id"] = finding.stream_id
    return told | {"detail": finding.detail, "harmless": finding.harmless}


def _verified(directory: Path) -> tuple[Report, int, int]:
    """Return the report, and how many streams and messages the directory holds."""
    from waymaker.storage.lock import DirectoryLocked
    from waymaker.storage.store import FileStore
    from waymaker_core.model.disk_ops import DiskFailure
    from waymaker_core.model.limits import Limits
    from waymaker_core.node.startup.restoring import Restoring
    from waymaker_core.storage.errors import StoreRefused
    from waymaker_core.storage.recovery.verify import verify

    if not directory.is_dir():
        raise CommandError(f"{directory} does not exist", exits.NOT_FOUND, code="no_such_directory")
    if not (directory / "MANIFEST").exists() and not (directory / "journal").exists():
        raise CommandError(
            f"{directory} holds no Waymaker data",
            exits.NOT_FOUND,
            "name the directory given as --data-dir, or that of a backup",
            code="no_data",
        )
    try:
        store = FileStore(directory)
    except DirectoryLocked as error:
        raise CommandError(
            str(error), exits.UNAVAILABLE, "stop the server, then check again", code="directory_locked"
        ) from None
    try:
        limits = Limits()
        restoring = Restoring(limits)
        report = store.drive(verify(restoring, limits))
        replica = list(restoring.replicas.values())
        return report, len(replica), sum(one.stream.count for one in replica)
    except (StoreRefused, DiskFailure) as error:
        raise CommandError(str(error), exits.DAMAGED, code="unreadable") from None
    finally:
        store.close()

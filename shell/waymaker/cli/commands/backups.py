"""The whole-server half of `waymaker backup` and `waymaker restore`: what is printed, and what a failure advises."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from waymaker.cli import exits, output
from waymaker.cli.failure import CommandError, exit_code_of, remember
from waymaker.cli.progress import counter
from waymaker.cli.units import say_size

if TYPE_CHECKING:
    from waymaker.backups.index import ArchiveEntry, BackupIndex
    from waymaker.client.client import Client
    from waymaker.client.values import RestoreReport, RestoreResult

NAMES_LISTED = 20


async def back_up_all(
    client: Client, directory: str, streams: tuple[str, ...], force: bool, skip_damaged: bool, as_json: bool
) -> int:
    """Run `backup --all`; return the exit code."""
    remember({"server": client.options.target, "as_json": as_json})

    def told(entry: ArchiveEntry) -> None:
        if as_json:
            click.echo(output.to_json(asdict(entry)))

    with _advising(_backup_hints(directory)), counter(directory, 0) as count:
        index = await client.backup_all(
            directory, streams, force=force, skip_damaged=skip_damaged, on_archive=told, on_bytes=count
        )
    if as_json:
        click.echo(output.to_json(_backup_told(index, directory)))
    else:
        _note_changes(index)
        output.note(
            f"{len(index.archives):,} stream(s), {index.messages:,} message(s), {say_size(index.total_bytes)}, "
            f"written to {directory}"
        )
    return exits.DAMAGED if index.damaged else exits.OK


def _backup_told(index: BackupIndex, directory: str) -> dict[str, object]:
    return {
        "directory": directory, "backup_id": index.backup_id, "streams": len(index.archives), "messages": index.messages,
        "bytes": index.total_bytes, "damaged": index.damaged, "created": index.created, "deleted": index.deleted,
    }  # fmt: skip


def _note_changes(index: BackupIndex) -> None:
    copied = {entry.stream for entry in index.archives}
    for what, names in (
        ("damaged and not in the backup", index.damaged),
        ("created meanwhile and not in the backup", index.created),
        ("deleted meanwhile and in the backup", tuple(name for name in index.deleted if name in copied)),
        ("deleted meanwhile and not in the backup", tuple(name for name in index.deleted if name not in copied)),
    ):
        if names:
            more = f" and {len(names) - NAMES_LISTED} more" if len(names) > NAMES_LISTED else ""
            output.note(f"{what}: {', '.join(names[:NAMES_LISTED])}{more}")


async def restore_all(
    client: Client, directory: str, streams: tuple[str, ...], name: str, prefix: str, skip_existing: bool, as_json: bool
) -> None:
    """Run `restore` of a directory."""
    remember({"server": client.options.target, "as_json": as_json})

    def told(result: RestoreResult) -> None:
        if as_json:
            click.echo(
                output.to_json({"stream": result.name, "messages": result.messages, "last_seq": result.last_seq})
            )

    begun = False

    def counted(size: int) -> None:
        nonlocal begun
        begun = True
        count(size)

    again = " ".join(("waymaker restore", directory, *streams, *(("--prefix", prefix) if prefix else ())))
    finish = f"{again} --skip-existing continues"
    with (
        _advising(_restore_hints(directory, again), lambda: finish if begun else ""),
        counter(directory, _size_of(directory)) as count,
    ):
        report = await client.restore_all(
            directory, streams, skip_existing=skip_existing, name=name, prefix=prefix, on_stream=told, on_bytes=counted
        )
    if as_json:
        click.echo(output.to_json(_restore_told(report, directory)))
        return
    if report.skipped:
        more = f" and {len(report.skipped) - NAMES_LISTED} more" if len(report.skipped) > NAMES_LISTED else ""
        output.note(f"existed and stayed as they were: {', '.join(report.skipped[:NAMES_LISTED])}{more}")
    output.note(f"{len(report.restored):,} stream(s), {_messages(report):,} message(s) restored from {directory}")


def _restore_told(report: RestoreReport, directory: str) -> dict[str, object]:
    return {
        "directory": directory,
        "streams": len(report.restored),
        "messages": _messages(report),
        "skipped": report.skipped,
    }


def _messages(report: RestoreReport) -> int:
    return sum(result.messages for result in report.restored)


def _size_of(directory: str) -> int:
    """Return how much there is to restore; 0 where it cannot be told: then the restore itself says why."""
    from waymaker.backups.directory import BackupMissing, read_index
    from waymaker.backups.index import IndexRefused

    try:
        return read_index(Path(directory)).total_bytes
    except (BackupMissing, IndexRefused, OSError):
        return 0


# ----------------------------------------------------------------------------------------- failures


@contextlib.contextmanager
def _advising(hints: Mapping[str, str], otherwise: Callable[[], str] = str) -> Iterator[None]:
    """Say what to do next about a failure, by its code; what is said of the client's failures anyway where this is empty."""
    from waymaker.client.errors import WaymakerError

    try:
        yield
    except WaymakerError as error:
        hint = hints.get(error.code) or otherwise()
        if not hint:
            raise
        raise CommandError(error.message, exit_code_of(error), hint, error.code, error.outcome) from None


def _backup_hints(directory: str) -> dict[str, str]:
    return {
        "directory_in_use": "another name, or --force",
        "directory_locked": "wait for the end of the other one, or another name",
        "not_a_directory": "another name",
        "damaged_streams": f"waymaker backup --all {directory} --skip-damaged copies the others",
        "data_loss": f"waymaker backup --all {directory} --skip-damaged copies the others",
        "no_such_stream": "waymaker stream ls",
    }


def _restore_hints(directory: str, again: str) -> dict[str, str]:
    return {
        "already_exists": f"{again} --skip-existing for the others, or --prefix TEXT for other names",
        "transfer_corrupted": f"waymaker check {directory}",
        "no_such_stream": f"the names are in {Path(directory) / 'backup.jsonl'}",
    }

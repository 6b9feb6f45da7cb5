"""`waymaker backup` and `waymaker restore`: a stream as a file, and back."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from waymaker.cli import exits, output, standard
from waymaker.cli.failure import CommandError, exit_code_of
from waymaker.cli.input.reading import pieces
from waymaker.cli.session import connected, stream_argument
from waymaker.cli.units import say_size

if TYPE_CHECKING:
    from waymaker.client.client import Client
    from waymaker.client.values import BackupSummary


@click.command()
@stream_argument
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@connected
async def backup(client: Client, *, stream: str, file: str, force: bool, as_json: bool) -> None:
    """Copy STREAM with its consumers into FILE ('-' is standard output).

    FILE appears only once it is complete and on disk.
    """
    summary: list[BackupSummary] = []
    archive = client.backup(stream, summary.append)
    if file == "-":
        async for data in archive:
            output.write(data)
    else:
        _refuse_existing(Path(file), force)
        await _save(archive, Path(file))
    done = summary[0]
    told = {
        "stream": stream,
        "file": file,
        "bytes": done.total_bytes,
        "messages": done.messages,
        "last_seq": done.last_seq,
    }
    if as_json and file != "-":
        click.echo(output.to_json(told))
    else:
        output.note(f"{done.messages:,} message(s) of {stream}, {say_size(done.total_bytes)}, written to {file}")


async def _save(archive: AsyncIterator[bytes], path: Path) -> None:
    with _whole_or_nothing(path) as out, _counter(path.name, 0) as count:
        async for data in archive:
            out.write(data)
            count(len(data))


@contextlib.contextmanager
def _whole_or_nothing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name when all of it is on disk, and leaves nothing behind otherwise."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _refuse_existing(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise CommandError(f"{path} exists", exits.USAGE, "another name, or --force", code="file_exists")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--name", metavar="NAME", default="", help="Restore under this name instead of the archive's.")
@connected
async def restore(client: Client, *, file: str, name: str, as_json: bool) -> None:
    """Make a stream from FILE ('-' is standard input). An existing stream is never touched."""
    from waymaker.client.errors import AlreadyExistsError

    with _source(file) as (source, size), _counter(file, size) as count:
        try:
            done = await client.restore(_counted(source, count), name)
        except AlreadyExistsError as error:
            hint = f"waymaker restore {file} --name ANOTHER; the stream that has the name stays as it is"
            raise CommandError(error.message, exit_code_of(error), hint, error.code, error.outcome) from None
    if as_json:
        click.echo(output.to_json({"stream": done.name, "messages": done.messages, "last_seq": done.last_seq}))
    else:
        output.note(f"stream {done.name} restored: {done.messages:,} message(s), last sequence {done.last_seq}")


@contextlib.contextmanager
def _source(file: str) -> Iterator[tuple[BinaryIO, int]]:
    if file == "-":
        yield standard.data_input(), 0
    else:
        with Path(file).open("rb") as opened:
            yield opened, Path(file).stat().st_size


async def _counted(source: BinaryIO, count: Callable[[int], None]) -> AsyncIterator[bytes]:
    async for piece in pieces(source):
        count(len(piece))
        yield piece


@contextlib.contextmanager
def _counter(name: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error, where a person can see it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(Path(name).name, total=size or None)
        yield lambda count: progress.advance(task, count)

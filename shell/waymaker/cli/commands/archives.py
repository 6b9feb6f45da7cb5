"""`waymaker backup` and `waymaker restore`: a stream as a file, and back. `backups` has what they do with directories."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
from click.shell_completion import CompletionItem

from waymaker.cli import exits, output, standard
from waymaker.cli.failure import CommandError, exit_code_of, remember
from waymaker.cli.input.reading import pieces
from waymaker.cli.progress import counter
from waymaker.cli.session import complete_streams, connected
from waymaker.cli.units import say_size

if TYPE_CHECKING:
    from waymaker.client.client import Client
    from waymaker.client.values import BackupSummary


def _complete_backup(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return streams for the first word, and for those behind `--all DIRECTORY`; else files."""
    words = ctx.params.get(param.name or "") or ()
    if bool(words) == bool(ctx.params.get("everything")):
        return [CompletionItem(name) for name in complete_streams(ctx, param, incomplete)]
    return [CompletionItem(incomplete, type="file")]


@click.command()
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="STREAM FILE | --all DIRECTORY [STREAM]...",
    shell_complete=_complete_backup,
)
@click.option("--all", "everything", is_flag=True, help="Copy all streams, or those named, into DIRECTORY.")
@click.option("--force", is_flag=True, help="Replace FILE, or the backup in DIRECTORY, once the new one is complete.")
@click.option("--skip-damaged", is_flag=True, help="With --all: leave out streams that are damaged and not served.")
@connected
async def backup(
    client: Client, *, words: tuple[str, ...], everything: bool, force: bool, skip_damaged: bool, as_json: bool
) -> int:
    """Copy STREAM with its consumers into FILE ('-' is standard output), or a whole server into DIRECTORY.

    FILE appears only once it is complete and on disk. DIRECTORY has an archive a stream, each stream as it was at one
    moment of its own, and an index that is written last: without it, it is no backup.
    """
    if everything:
        if words[0] == "-":
            raise click.UsageError("a backup of all streams is a directory; '-' is for one stream")
        from waymaker.cli.commands.backups import back_up_all

        return await back_up_all(client, words[0], words[1:], force, skip_damaged, as_json)
    if len(words) != 2 or skip_damaged:
        raise click.UsageError("give STREAM and FILE, or --all and DIRECTORY")
    await _back_up(client, *words, force, as_json)
    return exits.OK


async def _back_up(client: Client, stream: str, file: str, force: bool, as_json: bool) -> None:
    remember({"server": client.options.target, "stream": stream, "as_json": as_json})
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
    with _whole_or_nothing(path) as out, counter(path.name, 0) as count:
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
@click.argument("file", metavar="FILE|DIRECTORY", type=click.Path())
@click.argument("streams", nargs=-1)
@click.option(
    "--all", "everything", is_flag=True, help="Restore every stream of DIRECTORY, which is meant without names."
)
@click.option("--name", metavar="NAME", default="", help="Restore one stream under this name instead of its own.")
@click.option("--prefix", metavar="TEXT", default="", help="From DIRECTORY: put this before every name.")
@click.option("--skip-existing", is_flag=True, help="From DIRECTORY: leave out streams whose name is taken.")
@connected
async def restore(
    client: Client, *, file: str, streams: tuple[str, ...], everything: bool, name: str, prefix: str,
    skip_existing: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make a stream from FILE ('-' is standard input), or all streams of a backup, or those named, from DIRECTORY.

    An existing stream is never touched. A stream appears whole or not at all.
    """
    if _is_directory(file):
        from waymaker.cli.commands.backups import restore_all

        if everything and streams:
            raise click.UsageError("--all is every stream; leave it out to restore those named")
        await restore_all(client, file, streams, name, prefix, skip_existing, as_json)
    elif streams or everything or prefix or skip_existing:
        raise click.UsageError(f"{file} is no directory: of what belongs to one, only --name is for a file")
    else:
        await _restore(client, file, name, as_json)


def _is_directory(file: str) -> bool:
    return file != "-" and Path(file).is_dir()


async def _restore(client: Client, file: str, name: str, as_json: bool) -> None:
    from waymaker.client.errors import AlreadyExistsError

    with _source(file) as (source, size), counter(file, size) as count:
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

"""`waymaker obj`: objects of a bucket, in from files and out to files, with progress where a person can see it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from waymaker.cli import exits, output, standard
from waymaker.cli.failure import CommandError
from waymaker.cli.input.reading import pieces
from waymaker.cli.progress import counter
from waymaker.cli.session import connected
from waymaker.cli.units import SIZE, say_moment, say_size

if TYPE_CHECKING:
    from waymaker.client.client import Client
    from waymaker.client.objects.store import ObjectStore

bucket_argument = click.argument("bucket")
name_argument = click.argument("name")


@click.group()
def obj() -> None:
    """Store, read, list and remove objects of a bucket."""


@obj.command("put")
@bucket_argument
@click.argument("file")
@click.option("--name", metavar="NAME", help="The object's name; the file's own where it is left out.")
@click.option("--header", "headers", metavar="KEY=VALUE", multiple=True, help="A header; repeat it for several.")
@click.option("--chunk-size", type=SIZE, metavar="SIZE", default="1MiB", show_default=True, help="Bytes of a chunk.")
@click.option("--dedupe", is_flag=True, help="Store chunks by content, once for all objects that contain them.")
@click.option("--create", is_flag=True, help="Make the bucket if it is not there.")
@connected
async def put(
    client: Client, *, bucket: str, file: str, name: str | None, headers: tuple[str, ...], chunk_size: int, dedupe: bool,
    create: bool, as_json: bool,
) -> None:  # fmt: skip
    """Store FILE ('-' is standard input) as an object of BUCKET. It appears whole or not at all."""
    if file == "-" and name is None:
        raise click.UsageError("standard input has no name: give one with --name")
    store = await client.objects(bucket, create=create)
    path = Path(file)
    size = 0 if file == "-" else _size(path)
    with counter(file, size) as count:
        info = await store.put(
            path.name if name is None else name, pieces(standard.data_input()) if file == "-" else path,
            headers=[_header(each) for each in headers], chunk_size=chunk_size, dedupe=dedupe, on_bytes=count,
        )  # fmt: skip
    if as_json:
        click.echo(output.to_json(asdict(info)))
    else:
        output.note(f"object {info.name} of {bucket} stored: {say_size(info.total_bytes)}, revision {info.revision}")


@obj.command("get")
@bucket_argument
@name_argument
@click.argument("file", default="-")
@click.option(
    "--range", "span", metavar="OFFSET[:LENGTH]", help="Only a part: LENGTH bytes from OFFSET on, or all the rest."
)
@click.option("--force", is_flag=True, help="Replace FILE, once the object is complete.")
@connected
async def get(
    client: Client, *, bucket: str, name: str, file: str, span: str | None, force: bool, as_json: bool
) -> None:
    """Read an object of BUCKET into FILE, or to standard output.

    FILE appears complete and verified. A download that was broken off is taken up by the same command.
    """
    store = await client.objects(bucket)
    if not force:
        _refuse_existing(file)
    if span is not None:
        await _write_parts(store, name, file, *_span(span))
    elif file == "-":
        async for data in store.read(name):
            output.write(data)
    else:
        info = await store.info(name)
        with counter(file, info.total_bytes) as count:
            info = await store.get_file(name, Path(file), on_bytes=count)
        if as_json:
            click.echo(output.to_json(asdict(info)))
        else:
            output.note(
                f"object {name} of {bucket}, {say_size(info.total_bytes)}, revision {info.revision}, written to {file}"
            )


async def _write_parts(store: ObjectStore, name: str, file: str, offset: int, length: int) -> None:
    info = await store.info(name)
    end = min(info.total_bytes, offset + length) if length else info.total_bytes
    with contextlib.ExitStack() as stack:
        out = standard.data_output() if file == "-" else stack.enter_context(_opened(file))
        async for data in _parts(store, name, offset, end, info.revision):
            out.write(data)
        out.flush()


async def _parts(store: ObjectStore, name: str, at: int, end: int, revision: int) -> AsyncIterator[bytes]:
    while at < end:
        data = await store.get_range(name, at, min(end - at, 4 << 20), revision=revision)
        if not data:
            return
        yield data
        at += len(data)


@obj.command("ls")
@bucket_argument
@click.argument("prefix", default="")
@click.option("--deleted", is_flag=True, help="Also names whose latest revision is a tombstone.")
@connected
async def list_objects(client: Client, *, bucket: str, prefix: str, deleted: bool, as_json: bool) -> None:
    """List the objects of BUCKET whose names begin with PREFIX."""
    store = await client.objects(bucket)
    found = await store.list(prefix, include_deleted=deleted)
    rows = [(each.name, each.total_bytes, each.deleted) if deleted else (each.name, each.total_bytes) for each in found]
    columns = ("name", "total_bytes", "deleted") if deleted else ("name", "total_bytes")
    output.rows(columns, rows, as_json, numbers=("total_bytes",))


@obj.command("info")
@bucket_argument
@name_argument
@connected
async def info(client: Client, *, bucket: str, name: str, as_json: bool) -> None:
    """Show what is known of an object without its payload."""
    found = await (await client.objects(bucket)).info(name)
    said = {
        "total_bytes": say_size(found.total_bytes), "chunk_size": say_size(found.chunk_size), "ts_ms": say_moment(found.ts_ms),
        "headers": ", ".join(f"{key}={value}" for key, value in found.headers) or "-",
    }  # fmt: skip
    output.record(asdict(found), as_json, said)


@obj.command("rm")
@bucket_argument
@click.argument("names", nargs=-1, required=True)
@connected
async def remove(client: Client, *, bucket: str, names: tuple[str, ...], as_json: bool) -> None:
    """Delete objects. Their chunks are collected later; a reader that has begun is not disturbed."""
    store = await client.objects(bucket)
    for name in names:
        tombstone = await store.delete(name)
        if as_json:
            click.echo(output.to_json({"name": name, "tombstone": tombstone}))
        else:
            output.note(
                f"object {name} of {bucket} deleted" if tombstone else f"there was no object {name} in {bucket}"
            )


@obj.command("revisions")
@bucket_argument
@name_argument
@connected
async def revisions(client: Client, *, bucket: str, name: str, as_json: bool) -> None:
    """List the revisions of an object of which something is known, oldest first."""
    found = await (await client.objects(bucket)).revisions(name)
    rows = [
        (each.revision, each.deleted, each.total_bytes, each.chunk_count, each.sha256, _moment(each.ts_ms, as_json))
        for each in found
    ]
    columns = ("revision", "deleted", "total_bytes", "chunk_count", "sha256", "ts_ms")
    output.rows(columns, rows, as_json, numbers=("revision", "total_bytes", "chunk_count"))


def _size(path: Path) -> int:
    return path.stat().st_size


def _opened(file: str) -> BinaryIO:
    return Path(file).open("wb")


def _refuse_existing(file: str) -> None:
    if file != "-" and Path(file).exists():
        raise CommandError(f"{file} exists", exits.USAGE, "another name, or --force", code="file_exists")


def _moment(ts_ms: int, as_json: bool) -> int | str:
    return ts_ms if as_json else say_moment(ts_ms)


def _header(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{text!r} is no header: write KEY=VALUE")
    return key, value


def _span(text: str) -> tuple[int, int]:
    """Return offset and length; a length of 0 means all the rest."""
    offset, colon, length = text.partition(":")
    if not (offset.isdecimal() and (not colon or (length.isdecimal() and int(length)))):
        raise click.UsageError(f"--range {text!r}: write OFFSET, or OFFSET:LENGTH in bytes")
    return int(offset), int(length) if colon else 0

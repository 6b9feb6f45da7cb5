"""`waymaker kv`: make and remove key-value buckets; set, read, list and watch their keys."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import click

from waymaker.cli import exits, output, standard
from waymaker.cli.commands.streams import require_yes
from waymaker.cli.failure import CommandError
from waymaker.cli.session import connected
from waymaker.cli.units import COUNT, DURATION, SIZE, say_moment

if TYPE_CHECKING:
    from waymaker.client.client import Client
    from waymaker.client.kv import KvEntry

bucket_argument = click.argument("bucket")
key_argument = click.argument("at", metavar="KEY")  # `key` is the file of the connection's certificate
ttl_option = click.option("--ttl", type=DURATION, metavar="DURATION", help="End the value after this time: 30s, 2h.")


@click.group()
def kv() -> None:
    """Make and remove buckets; set, read, list and watch their keys."""


@kv.command("add")
@bucket_argument
@click.option("--max-bytes", type=SIZE, metavar="SIZE", help="Refuse values once the bucket holds so much.")
@click.option("--max-messages", type=COUNT, metavar="N", help="Refuse values once it holds so many revisions.")
@click.option("--max-value-size", type=SIZE, metavar="SIZE", help="Refuse larger values.")
@click.option("--max-age", type=DURATION, metavar="DURATION", help="End every value after this time.")
@click.option("--history", type=COUNT, metavar="N", help="Revisions of a key that are kept. Default: 64.")
@click.option("--ephemeral", is_flag=True, help="Keep it in memory; a restart empties it.")
@connected
async def add(
    client: Client, *, bucket: str, max_bytes: int | None, max_messages: int | None, max_value_size: int | None,
    max_age: int | None, history: int | None, ephemeral: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make the bucket BUCKET. One that exists stays as it is."""
    await client.kv(
        bucket, create=True, max_bytes=max_bytes or 0, max_messages=max_messages or 0,
        max_value_size=max_value_size or 0, max_age_ms=max_age or 0, history=history or 0, ephemeral=ephemeral,
    )  # fmt: skip
    _done(as_json, {"bucket": bucket}, f"bucket {bucket} is there")


@kv.command("del")
@bucket_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@connected
async def delete(client: Client, *, bucket: str, yes: bool, as_json: bool) -> None:
    """Remove the bucket BUCKET with all its keys."""
    if not yes:
        require_yes(f"Remove bucket {bucket} with all its keys for good?", "--yes")
    await client.delete_bucket(bucket)
    _done(as_json, {"bucket": bucket}, f"bucket {bucket} removed")


@kv.command("put")
@bucket_argument
@key_argument
@click.argument("value", required=False)
@ttl_option
@click.option("--create", is_flag=True, help="Only if the key has no value.")
@click.option("--revision", type=COUNT, metavar="N", help="Only if the key still has this revision.")
@connected
async def put(
    client: Client, *, bucket: str, at: str, value: str | None, ttl: int | None, create: bool, revision: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Set KEY to VALUE, or to standard input, and print its revision."""
    if create and revision is not None:
        raise click.UsageError("--create and --revision exclude one another", click.get_current_context(silent=True))
    data = standard.data_input().read() if value is None else value.encode()
    store, seconds = await client.kv(bucket), _seconds(ttl)
    if create:
        made = await store.create(at, data, ttl=seconds)
    elif revision is not None:
        made = await store.update(at, data, revision, ttl=seconds)
    else:
        made = await store.put(at, data, ttl=seconds)
    _revision(as_json, at, made)


@kv.command("get")
@bucket_argument
@key_argument
@connected
async def get(client: Client, *, bucket: str, at: str, as_json: bool) -> None:
    """Print the value of KEY, byte for byte."""
    entry = await (await client.kv(bucket)).get(at)
    if entry is None:
        hint = f"waymaker kv ls {bucket}"
        raise CommandError(f"no value at {at!r} in bucket {bucket!r}", exits.NOT_FOUND, hint, code="no_value")
    output.write(_line(entry, as_json) if as_json else entry.value or b"")


@kv.command("rm")
@bucket_argument
@key_argument
@connected
async def rm(client: Client, *, bucket: str, at: str, as_json: bool) -> None:
    """Delete KEY: a tombstone takes its value's place."""
    _revision(as_json, at, await (await client.kv(bucket)).delete(at))


@kv.command("touch")
@bucket_argument
@key_argument
@ttl_option
@connected
async def touch(client: Client, *, bucket: str, at: str, ttl: int | None, as_json: bool) -> None:
    """Set the time to live of KEY anew and keep its value; without --ttl it lives until it is changed."""
    _revision(as_json, at, await (await client.kv(bucket)).touch(at, _seconds(ttl)))


@kv.command("ls")
@bucket_argument
@click.option("--all", "every", is_flag=True, help="Deleted keys too, as long as their tombstones stay.")
@connected
async def ls(client: Client, *, bucket: str, every: bool, as_json: bool) -> None:
    """List the keys of BUCKET."""
    store = await client.kv(bucket)
    found = [[key] async for key in store.keys(deleted=every)]
    output.rows(["key"], found, as_json)


@kv.command("history")
@bucket_argument
@key_argument
@connected
async def history(client: Client, *, bucket: str, at: str, as_json: bool) -> None:
    """Print the revisions of KEY that are kept, oldest first."""
    for entry in await (await client.kv(bucket)).history(at):
        output.write(_line(entry, as_json))


@kv.command("watch")
@bucket_argument
@click.argument("at", metavar="[KEY]", default="")
@connected
async def watch(client: Client, *, bucket: str, at: str, as_json: bool) -> None:
    """Print the values that KEY selects (a key, a pattern as "a.*", or all), then every change as it happens."""
    async for entry in (await client.kv(bucket)).watch(at):
        output.write(_line(entry, as_json))


def _seconds(ttl_ms: int | None) -> float | None:
    return None if not ttl_ms else ttl_ms / 1_000


def _line(entry: KvEntry, as_json: bool) -> bytes:
    """Return one revision as a line: time, revision, key, value; a tombstone has no value."""
    if not as_json:
        head = f"{say_moment(entry.ts_ms)}\t{entry.revision}\t{entry.key}\t".encode()
        return head + (b"(deleted)" if entry.value is None else entry.value) + b"\n"
    value: dict[str, Any] = {"key": entry.key, "revision": entry.revision, "ts_ms": entry.ts_ms}
    if entry.value is None:
        value["deleted"] = True
    else:
        try:
            value["value"] = entry.value.decode()
        except UnicodeDecodeError:
            value["value_base64"] = base64.b64encode(entry.value).decode()
    return output.to_json(value).encode() + b"\n"


def _revision(as_json: bool, key: str, revision: int) -> None:
    if as_json:
        output.write(output.to_json({"key": key, "revision": revision}).encode() + b"\n")
    else:
        output.write(f"{revision}\n".encode())


def _done(as_json: bool, value: dict[str, str], text: str) -> None:
    if as_json:
        output.write(output.to_json(value).encode() + b"\n")
    else:
        output.note(text)

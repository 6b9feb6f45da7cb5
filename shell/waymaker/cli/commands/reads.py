"""Commands that only look: `get`, `subjects`, `watch`, `info`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from waymaker.cli import exits, output
from waymaker.cli.failure import CommandError
from waymaker.cli.session import connected, stream_argument
from waymaker.cli.units import say_duration, say_moment

if TYPE_CHECKING:
    from waymaker.client.client import Client


@click.command()
@stream_argument
@click.argument("subject")
@click.option("--all", "every", is_flag=True, help="Every message at the subject, oldest first.")
@click.option("--from-seq", type=click.IntRange(min=0), default=0, metavar="N", help="With --all: begin here.")
@click.option("--limit", "-n", type=click.IntRange(min=1), metavar="N", help="With --all: at most so many.")
@connected
async def get(
    client: Client, *, stream: str, subject: str, every: bool, from_seq: int, limit: int | None, as_json: bool
) -> None:
    """Print the newest payload at SUBJECT, byte for byte; with --all, every message there, a line each."""
    if not every and (from_seq or limit is not None):
        raise click.UsageError("--from-seq and --limit are for --all", click.get_current_context(silent=True))
    if every:
        async for message in client.scan(stream, subject, from_seq=from_seq, limit=limit):
            output.write(output.message_lines([message], "json" if as_json else "line"))
        return
    latest = await client.get(stream, subject)
    if latest is None:
        raise CommandError(
            f"no message at {subject!r} in stream {stream!r}",
            exits.NOT_FOUND,
            f"waymaker subjects {stream}",
            code="no_message",
        )
    output.write(output.message_lines([latest], "json") if as_json else latest.payload)


@click.command()
@stream_argument
@click.argument("prefix", default="")
@connected
async def subjects(client: Client, *, stream: str, prefix: str, as_json: bool) -> None:
    """List the subjects of STREAM that hold messages, all or those that begin with PREFIX."""
    found = await client.subjects(stream, prefix)
    output.rows(["subject"], [[subject] for subject in found], as_json)


@click.command()
@connected
async def watch(client: Client, *, as_json: bool) -> None:
    """Print what is made, changed and removed on the server, as it happens."""
    async for event in client.watch():
        if event.lagged:
            output.note(f"{event.lagged} event(s) were missed before this one")
        kind = event.kind.name.lower()
        if as_json:
            value = {
                "event": kind, "stream": event.stream, "consumer": event.consumer, "ts_ms": event.ts_ms,
                "lagged": event.lagged,
            }  # fmt: skip
            output.write(output.to_json({key: item for key, item in value.items() if item}).encode() + b"\n")
        else:
            output.write(
                "\t".join([say_moment(event.ts_ms), kind, event.stream, event.consumer]).rstrip().encode() + b"\n"
            )


@click.command()
@connected
async def info(client: Client, *, as_json: bool) -> None:
    """Show what the server is: version, durability, contents."""
    await show_server(client, as_json)


async def show_server(client: Client, as_json: bool) -> None:
    """Print what the server says of itself."""
    found = await client.server_info()
    value = {
        "version": found.version, "node_id": found.node_id, "directory_id": found.directory_id, "sync": found.sync,
        "uptime_ms": found.uptime_ms, "streams": found.streams, "consumers": found.consumers,
        "quarantined": list(found.quarantined), "draining": found.draining,
    }  # fmt: skip
    output.record(value, as_json, {"uptime_ms": say_duration(found.uptime_ms)})
    if found.sync != "always":
        output.note("this server answers before its disk does: with the machine, the last moments may be lost")

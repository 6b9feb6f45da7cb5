"""`waymaker sub` and `waymaker fetch`: a consumer's messages on standard output, acknowledged once they are printed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from waymaker.cli import exits, output
from waymaker.cli.commands.consumers import start_of, with_start
from waymaker.cli.failure import CommandError
from waymaker.cli.session import connected, stream_argument

if TYPE_CHECKING:
    from waymaker.client.client import Client


def _form(as_json: bool, raw: bool) -> str:
    """Return how messages are printed; two ways at once are a mistake."""
    if as_json and raw:
        raise click.UsageError("--json and --raw exclude one another", click.get_current_context(silent=True))
    return "json" if as_json else "raw" if raw else "line"


TEMPORARY_MS = 60_000
"""The time by which a temporary consumer outlives a program that was killed: by interest it holds messages until then."""


no_ack_option = click.option(
    "--no-ack",
    is_flag=True,
    help="Do not acknowledge: they come again after ack_wait, until max_deliver gives them up.",
)
raw_option = click.option("--raw", is_flag=True, help="Print payloads alone, one a line.")


@click.command()
@stream_argument
@click.argument("consumer", required=False)
@with_start
@click.option("--count", "-n", type=click.IntRange(min=1), metavar="N", help="Leave after N messages.")
@click.option("--stop-when-empty", "-e", is_flag=True, help="Leave once there is nothing more to deliver.")
@no_ack_option
@raw_option
@connected
async def sub(
    client: Client, *, stream: str, consumer: str | None, filter_subject: str, deliver: str, start_seq: int | None,
    start_time: int | None, count: int | None, stop_when_empty: bool, no_ack: bool, raw: bool, as_json: bool,
) -> None:  # fmt: skip
    """Print the messages of CONSUMER as they come: sequence, subject, payload.

    Each is acknowledged after it was written; in a work queue that removes it. Without CONSUMER a temporary one is made,
    beginning where the options say, and removed at the end, or by the server a minute after this program was killed; with
    it those options have no meaning. A work queue is read with CONSUMER only.
    """
    form = _form(as_json, raw)
    start = start_of(deliver, start_seq, start_time)
    start["filter_subject"] = filter_subject
    start["inactive_ms"] = TEMPORARY_MS
    if consumer is not None:
        if filter_subject or start_seq is not None or start_time is not None or deliver != "all":
            raise click.UsageError(
                "--filter, --deliver, --start-seq and --start-time are for temporary consumers; "
                "`waymaker consumer add` takes them for others",
                click.get_current_context(silent=True),
            )
        await _print(client, stream, consumer, count, stop_when_empty, no_ack, form)
        return
    await _refuse_work_queue(client, stream)
    name = f"cli-{os.urandom(6).hex()}"
    await client.create_consumer(stream, name, **start)
    try:
        await _print(client, stream, name, count, stop_when_empty, no_ack, form)
    finally:
        await _remove(client, stream, name)


async def _refuse_work_queue(client: Client, stream: str) -> None:
    """Refuse a look at a work queue: it would take messages out, or withhold them from those who work on them."""
    from waymaker.client.values import Retention

    if (await client.stream_info(stream)).config.retention is Retention.WORK_QUEUE:
        raise CommandError(
            f"{stream} is a work queue: what a consumer acknowledges is removed, so `sub` wants the CONSUMER to read as",
            exits.USAGE,
            f"waymaker sub {stream} CONSUMER consumes (waymaker consumer ls {stream} names them); "
            f"waymaker get {stream} SUBJECT --all only looks (waymaker subjects {stream} names those)",
            code="consumes",
        )


async def _print(
    client: Client, stream: str, consumer: str, count: int | None, stop_when_empty: bool, no_ack: bool, form: str
) -> None:
    subscription = client.subscribe(stream, consumer, prefetch=4_096, stop_when_empty=stop_when_empty, limit=count)
    async with subscription:
        async for batch in subscription.batches():
            output.write(output.message_lines(batch, form))
            if not no_ack:
                batch.ack()


async def _remove(client: Client, stream: str, name: str) -> None:
    """Remove a temporary consumer, also while the program is being ended."""
    import asyncio

    from waymaker.client.errors import WaymakerError

    try:
        await asyncio.shield(client.delete_consumer(stream, name, timeout=2.0))
    except (WaymakerError, asyncio.CancelledError):
        output.note(
            f"the temporary consumer {name} is left behind: the server removes it {TEMPORARY_MS // 1_000}s after its last "
            f"use; waymaker consumer rm {stream} {name} removes it now"
        )


@click.command()
@stream_argument
@click.argument("consumer")
@click.option("--batch", "-n", type=click.IntRange(1, 10_000), default=16, show_default=True, help="At most so many.")
@no_ack_option
@raw_option
@connected
async def fetch(
    client: Client, *, stream: str, consumer: str, batch: int, no_ack: bool, raw: bool, as_json: bool
) -> None:
    """Print what CONSUMER has to deliver now, and acknowledge it. Nothing there: nothing printed."""
    form = _form(as_json, raw)
    messages = await client.fetch(stream, consumer, batch)
    output.write(output.message_lines(messages, form))
    if no_ack or not messages:
        return
    last: Any = None
    for message in messages:
        last = message.ack()
    await last

"""`waymaker consumer`: make, list, look at and remove consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from waymaker.cli import output
from waymaker.cli.session import connected, stream_argument
from waymaker.cli.units import COUNT, COUNT_BOUND, DURATION, MOMENT, UNLIMITED, say_duration, say_moment

if TYPE_CHECKING:
    from waymaker.client.checked import Unlimited
    from waymaker.client.client import Client
    from waymaker.client.settings import ConsumerSettings
    from waymaker.client.values import ConsumerConfig, ConsumerInfo

UINT32_MAX = (1 << 32) - 1
POLICY_WORDS = ("all", "last", "seq", "time")
"""Names of the policies in JSON and tables, by the contract's number."""
start_options = [
    click.option("--filter", "filter_subject", metavar="PATTERN", default="", help="Only subjects that match."),
    click.option("--deliver", type=click.Choice(["all", "last", "new"]), default="all", show_default=True,
                 help="Begin with the first message, with the last, or with the next to come."),
    click.option("--start-seq", type=COUNT, metavar="N", help="Begin with this sequence."),
    click.option("--start-time", type=MOMENT, metavar="TIME",
                 help="Begin with the first message of this time: 2026-01-31T12:00, or 2h for that long ago."),
]  # fmt: skip


@click.group()
def consumer() -> None:
    """Make, list, look at and remove consumers."""


def with_start(function: Any) -> Any:
    """Add the options that say where a new consumer begins."""
    for option in reversed(start_options):
        function = option(function)
    return function


def start_of(deliver: str, start_seq: int | None, start_time: int | None) -> ConsumerSettings:
    """Return the settings of a consumer that those options are."""
    ctx = click.get_current_context(silent=True)
    if start_seq is not None and start_time is not None:
        raise click.UsageError("--start-seq and --start-time exclude one another", ctx)
    if (start_seq is not None or start_time is not None) and deliver != "all":
        raise click.UsageError(f"--deliver {deliver} excludes --start-seq and --start-time", ctx)
    if start_seq is not None:
        return {"start_seq": start_seq}
    if start_time is not None:
        return {"start_time_ms": start_time}
    return {"policy": deliver}  # type: ignore[typeddict-item]


@consumer.command("add")
@stream_argument
@click.argument("name")
@with_start
@click.option(
    "--ack-wait",
    type=DURATION,
    metavar="DURATION",
    help="How long a delivery may go unacknowledged before it is repeated. Default: the server's, 30s.",
)
@click.option(
    "--max-deliver",
    type=COUNT_BOUND,
    metavar="N",
    help="Most deliveries of a message, or unlimited. Default: the server's, 5.",
)
@click.option("--group", metavar="NAME", default="", help="Share the work with the other consumers of this group.")
@click.option(
    "--dead-letter",
    metavar="SUBJECT",
    default="",
    help="Where a message goes that was delivered too often; the stream must take this subject.",
)
@click.option(
    "--inactive-after",
    type=DURATION,
    metavar="DURATION",
    help="Delete it once nobody read it or acknowledged for so long. Default: never.",
)
@connected
async def add(
    client: Client, *, stream: str, name: str, filter_subject: str, deliver: str, start_seq: int | None,
    start_time: int | None, ack_wait: int | None, max_deliver: int | Unlimited | None, group: str, dead_letter: str,
    inactive_after: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Make the consumer NAME of STREAM. Making the same one again is fine."""
    settings: ConsumerSettings = {
        "filter_subject": filter_subject, "ack_wait_ms": ack_wait, "max_deliver": max_deliver, "deliver_group": group,
        "dead_letter_subject": dead_letter, "inactive_ms": inactive_after, **start_of(deliver, start_seq, start_time),
    }  # fmt: skip
    await client.create_consumer(stream, name, **settings)
    if as_json:
        _show(await client.consumer_info(stream, name), as_json)
    else:
        output.note(f"consumer {name} of {stream} made")


@consumer.command("ls")
@stream_argument
@connected
async def ls(client: Client, *, stream: str, as_json: bool) -> None:
    """List a stream's consumers."""
    infos = await client.list_consumers(stream)
    columns = ["name", "filter", "ack_floor", "last_delivered", "dropped", "group"]
    values = [
        [i.name, i.config.filter_subject, i.ack_floor, i.last_delivered, i.redelivered_dropped, i.config.deliver_group]
        for i in infos
    ]
    output.rows(columns, values, as_json, numbers=("ack_floor", "last_delivered", "dropped"))


@consumer.command("info")
@stream_argument
@click.argument("name")
@connected
async def info(client: Client, *, stream: str, name: str, as_json: bool) -> None:
    """Show a consumer's settings and figures."""
    _show(await client.consumer_info(stream, name), as_json)


@consumer.command("rm")
@stream_argument
@click.argument("name")
@connected
async def rm(client: Client, *, stream: str, name: str, as_json: bool) -> None:
    """Remove a consumer; what it had pending is forgotten, the messages stay."""
    await client.delete_consumer(stream, name)
    if as_json:
        click.echo(output.to_json({"removed": name}))
    else:
        output.note(f"consumer {name} of {stream} removed")


def _settings(config: ConsumerConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "filter": config.filter_subject,
        "deliver": POLICY_WORDS[config.policy.value],
        "start_seq": config.start_seq,
        "start_time_ms": config.start_time_ms,
        "ack_wait_ms": config.ack_wait_ms,
        "max_deliver": config.max_deliver,
        "group": config.deliver_group,
        "dead_letter_subject": config.dead_letter_subject,
        "inactive_ms": config.inactive_ms,
    }


def _show(found: ConsumerInfo, as_json: bool) -> None:
    figures = {
        "ack_floor": found.ack_floor, "last_delivered": found.last_delivered,
        "redelivered_dropped": found.redelivered_dropped, "created_ms": found.created_ms,
    }  # fmt: skip
    said = {
        "ack_wait_ms": say_duration(found.config.ack_wait_ms),
        "inactive_ms": say_duration(found.config.inactive_ms) if found.config.inactive_ms else "never",
        "start_time_ms": say_moment(found.config.start_time_ms),
        "created_ms": say_moment(found.created_ms),
        "filter": found.config.filter_subject or "> (every subject)",
        "max_deliver": UNLIMITED if found.config.max_deliver >= UINT32_MAX else f"{found.config.max_deliver:,}",
    }
    output.record(_settings(found.config) | figures, as_json, said)

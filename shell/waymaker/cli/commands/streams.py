"""`waymaker stream`: make, list, look at, change and remove streams."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from waymaker.cli import exits, output
from waymaker.cli.failure import CommandError
from waymaker.cli.input.sources import parse_sources, said_source
from waymaker.cli.session import complete_streams, connected, interruptible
from waymaker.cli.units import (
    COUNT,
    COUNT_BOUND,
    DURATION_BOUND,
    SIZE_BOUND,
    UNLIMITED,
    say_duration,
    say_moment,
    say_size,
)

if TYPE_CHECKING:
    from waymaker.client.checked import Unlimited
    from waymaker.client.client import Client
    from waymaker.client.settings import RetentionWord, SourceSettings
    from waymaker.client.values import StreamConfig, StreamInfo

    Bound = int | Unlimited

RETENTIONS = ("limits", "work-queue", "interest")
name_argument = click.argument("name", shell_complete=complete_streams)


@click.group()
def stream() -> None:
    """Make, list, look at, change and remove streams."""


def _comma(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


@stream.command("add")
@click.argument("name")
@click.option(
    "--subjects",
    "-s",
    metavar="PATTERN",
    multiple=True,
    callback=_comma,
    help="Subjects it takes, such as 'orders.>'; repeat it or separate with commas. None: every subject.",
)
@click.option(
    "--retention",
    type=click.Choice(RETENTIONS),
    default="limits",
    show_default=True,
    help="What makes a message go: limits; the first ack; or every consumer's ack.",
)
@click.option("--max-age", type=DURATION_BOUND, metavar="DURATION", default=0, help="Oldest message, such as 7d.")
@click.option("--max-msgs", type=COUNT_BOUND, metavar="N", default=0, help="Most messages.")
@click.option("--max-bytes", type=SIZE_BOUND, metavar="SIZE", default=0, help="Most bytes, such as 10GiB.")
@click.option("--strict", is_flag=True, help="Hold the limits exactly, not to the block.")
@click.option("--max-msg-bytes", type=SIZE_BOUND, metavar="SIZE", default=0, help="Largest message.")
@click.option("--max-msgs-per-subject", type=COUNT_BOUND, metavar="N", default=0, help="Most messages at one subject.")
@click.option("--block-size", type=COUNT, metavar="N", default=0, help="Messages of a block; 0: the server's default.")
@click.option("--ephemeral", is_flag=True, help="Keep messages in memory only.")
@click.option(
    "--source",
    "sources",
    metavar="SOURCE",
    multiple=True,
    callback=parse_sources,
    help="Stream to copy from, such as 'orders,filter=orders.eu.>'; repeat it for several.",
)
@connected
async def add(
    client: Client, *, name: str, subjects: tuple[str, ...], retention: RetentionWord, max_age: Bound, max_msgs: Bound,
    max_bytes: Bound, strict: bool, max_msg_bytes: Bound, max_msgs_per_subject: Bound, block_size: int, ephemeral: bool,
    sources: tuple[SourceSettings, ...], as_json: bool,
) -> None:  # fmt: skip
    """Make the stream NAME.

    A SOURCE is STREAM, and what it needs of ,filter=PATTERN ,transform=PATTERN:DESTINATION ,start-seq=N ,backfill=N
    ,on-drop=halt|skip ,dlq=STREAM.
    """
    await client.create_stream(
        name, subjects_filter=subjects, retention=retention, max_age_ms=max_age, max_msgs=max_msgs, max_bytes=max_bytes,
        strict_limits=strict, block_size=block_size, max_msg_bytes=max_msg_bytes, ephemeral=ephemeral,
        max_msgs_per_subject=max_msgs_per_subject, sources=sources,
    )  # fmt: skip
    if as_json:
        _show(await client.stream_info(name), as_json)
    else:
        output.note(f"stream {name} made")


@stream.command("ls")
@click.option("--long", "-l", is_flag=True, help="With figures; one question a stream.")
@connected
async def ls(client: Client, *, long: bool, as_json: bool) -> None:
    """List streams by name."""
    if long:
        await show_streams(client, as_json)
    else:
        output.rows(["name"], [[name] for name in await client.list_streams()], as_json)


async def show_streams(client: Client, as_json: bool) -> None:
    """Print all streams with their figures."""
    from waymaker.client.errors import NoSuchStreamError

    infos = []
    for name in await client.list_streams():
        try:
            infos.append(await client.stream_info(name))
        except NoSuchStreamError:
            continue  # removed between the two questions
    columns = ["name", "messages", "bytes", "last_seq", "retention", "subjects"]
    values = [
        [
            i.name,
            i.msg_count,
            i.bytes,
            i.last_seq,
            _retention(i.config),
            list(i.config.subjects_filter) or ([] if as_json else ">"),
        ]
        for i in infos
    ]
    output.rows(columns, values, as_json, numbers=("messages", "bytes", "last_seq"))


@stream.command("info")
@name_argument
@connected
async def info(client: Client, *, name: str, as_json: bool) -> None:
    """Show a stream's settings and figures."""
    from waymaker.client.values import Retention

    found = await client.stream_info(name)
    _show(found, as_json)
    if found.config.retention is Retention.INTEREST and not await client.list_consumers(name):
        output.note(
            "THIS STREAM HAS NO CONSUMERS AND KEEPS NOTHING: interest retention holds messages for consumers alone"
        )


@stream.command("sources")
@connected
async def sources(client: Client, *, as_json: bool) -> None:
    """List the sources of all streams, and how far each was copied."""
    columns = ["stream", "source", "last_sourced_seq", "pulled", "last_error"]
    values = [
        [each.stream, each.source_stream, each.last_sourced_seq, each.pulled_total, each.last_error]
        for each in await client.stream_sources()
    ]
    output.rows(columns, values, as_json, numbers=("last_sourced_seq", "pulled"))


@stream.command("pin")
@name_argument
@connected
async def pin(client: Client, *, name: str, as_json: bool) -> None:
    """Keep a stream on the node that leads it, until a failover."""
    await client.pin_stream(name)
    _say_placed(name, "pinned", as_json)


@stream.command("unpin")
@name_argument
@connected
async def unpin(client: Client, *, name: str, as_json: bool) -> None:
    """Let a stream return to its own node by itself again."""
    await client.unpin_stream(name)
    _say_placed(name, "unpinned", as_json)


@stream.command("return")
@name_argument
@connected
async def send_back(client: Client, *, name: str, as_json: bool) -> None:
    """Let a stream return to its own node now, pinned or not."""
    await client.clear_authority(name)
    _say_placed(name, "returning", as_json)


def _say_placed(name: str, state: str, as_json: bool) -> None:
    if as_json:
        click.echo(output.to_json({"stream": name, "state": state}))
    else:
        output.note(f"stream {name} {state}")


@stream.command("authority")
@connected
async def authority(client: Client, *, as_json: bool) -> None:
    """List streams that another node leads than their own."""
    values = [[each.stream, each.claimant, each.fence_epoch] for each in await client.authority_overrides()]
    output.rows(["stream", "node", "epoch"], values, as_json, numbers=("node", "epoch"))


@stream.command("nodes")
@connected
async def nodes(client: Client, *, as_json: bool) -> None:
    """Show what each node of the cluster leads."""
    found = await client.cluster_streams()
    columns = ["node", "status", "streams", "messages", "bytes"]
    values = [[each.node_id, each.status, each.streams, each.msg_count, each.bytes] for each in found.nodes]
    output.rows(columns, values, as_json, numbers=("node", "streams", "messages", "bytes"))


@stream.command("edit")
@name_argument
@click.option("--max-age", type=DURATION_BOUND, metavar="DURATION", help="Oldest message; or unlimited.")
@click.option("--max-msgs", type=COUNT_BOUND, metavar="N", help="Most messages; or unlimited.")
@click.option("--max-bytes", type=SIZE_BOUND, metavar="SIZE", help="Most bytes; or unlimited.")
@click.option("--max-msg-bytes", type=SIZE_BOUND, metavar="SIZE", help="Largest message; or unlimited.")
@click.option("--strict/--no-strict", default=None, help="Hold the limits exactly, or to the block.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before messages are removed.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@connected
async def edit(
    client: Client, *, name: str, max_age: Bound | None, max_msgs: Bound | None, max_bytes: Bound | None,
    max_msg_bytes: Bound | None, strict: bool | None, yes: bool, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Change a stream's limits, after saying how many messages that removes."""
    changes: dict[str, Any] = {
        key: value
        for key, value in (
            ("max_age_ms", max_age), ("max_msgs", max_msgs), ("max_bytes", max_bytes), ("max_msg_bytes", max_msg_bytes),
            ("strict_limits", strict),
        )
        if value is not None
    }  # fmt: skip
    if not changes:
        raise click.UsageError("nothing to change; name at least one setting", click.get_current_context(silent=True))
    before = (await client.stream_info(name)).config
    preview = await client.preview_update(name, **changes)
    if not as_json:
        for line in _differences(before, preview.config):
            output.note(line)
        output.note(f"{preview.pruned:,} message(s) {'would be' if dry_run else 'will be'} removed")
    if dry_run:
        if as_json:
            click.echo(output.to_json({"dry_run": True, "pruned": preview.pruned, "config": _config(preview.config)}))
        return
    if preview.pruned and not yes:
        require_yes(f"Remove {preview.pruned:,} message(s) of {name} for good?", "--yes")
    done = await client.update_stream(name, **changes)
    if as_json:
        click.echo(output.to_json({"pruned": done.pruned, "config": _config(done.config)}))
    else:
        output.note(f"stream {name} changed, {done.pruned:,} message(s) removed")


@stream.command("rm")
@name_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@connected
async def rm(client: Client, *, name: str, yes: bool, as_json: bool) -> None:
    """Remove a stream with its messages and consumers."""
    if not yes:
        found = await client.stream_info(name)
        require_yes(
            f"Remove stream {name} with {found.msg_count:,} message(s) ({say_size(found.bytes)}) for good?", "--yes"
        )
    await client.delete_stream(name)
    if as_json:
        click.echo(output.to_json({"removed": name}))
    else:
        output.note(f"stream {name} removed")


def require_yes(question: str, flag: str) -> None:
    """Ask on standard error; refuse where no person can answer."""
    if not sys.stdin.isatty():
        raise CommandError(
            f"not done: this needs a yes, and standard input is no terminal ({question})",
            exits.USAGE, f"repeat it with {flag}", code="unconfirmed",
        )  # fmt: skip
    with interruptible():
        answer = click.confirm(question, err=True)
    if not answer:
        raise click.exceptions.Exit(exits.FAILED)


def _retention(config: StreamConfig) -> str:
    return config.retention.name.lower().replace("_", "-")


def _config(config: StreamConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "subjects": list(config.subjects_filter),
        "retention": _retention(config),
        "max_age_ms": config.max_age_ms,
        "max_msgs": config.max_msgs,
        "max_bytes": config.max_bytes,
        "strict_limits": config.strict_limits,
        "max_msg_bytes": config.max_msg_bytes,
        "max_msgs_per_subject": config.max_msgs_per_subject,
        "block_size": config.block_size,
        "ephemeral": config.ephemeral,
    } | ({"sources": list(map(said_source, config.sources))} if config.sources else {})


def _said(config: StreamConfig) -> dict[str, str]:
    """Return settings as people read them."""
    return {
        "subjects": ", ".join(config.subjects_filter) or "> (every subject)",
        "max_age_ms": say_duration(config.max_age_ms) if config.max_age_ms else UNLIMITED,
        "max_msgs": f"{config.max_msgs:,}" if config.max_msgs else UNLIMITED,
        "max_bytes": say_size(config.max_bytes) if config.max_bytes else UNLIMITED,
        "max_msg_bytes": say_size(config.max_msg_bytes) if config.max_msg_bytes else UNLIMITED,
        "max_msgs_per_subject": f"{config.max_msgs_per_subject:,}" if config.max_msgs_per_subject else UNLIMITED,
    }


def _show(found: StreamInfo, as_json: bool) -> None:
    figures = {
        "messages": found.msg_count, "bytes": found.bytes, "last_seq": found.last_seq, "blocks": found.block_count,
        "first_block": found.first_block,
    }  # fmt: skip
    said = _said(found.config) | {"bytes": say_size(found.bytes), "messages": f"{found.msg_count:,}"}
    notice = {"notice": found.notice} if found.notice else {}
    status: dict[str, Any] = {}
    if as_json and found.sources:
        status = {
            "sources_status": [{k: v for k, v in asdict(each).items() if k != "stream"} for each in found.sources]
        }
    placed: dict[str, Any] = {"pinned": True} if found.pinned else {}
    if found.claimant:
        placed |= {"own_node": found.ring_owner, "led_by": found.claimant, "epoch": found.fence_epoch}
    output.record(_config(found.config) | figures | placed | notice | status, as_json, said)
    for each in () if as_json else found.sources:
        trouble = f"; {say_moment(each.last_error_ms)}: {each.last_error}" if each.last_error else ""
        output.note(f"source {each.source_stream}: copied up to sequence {each.last_sourced_seq:,}{trouble}")


def _differences(before: StreamConfig, after: StreamConfig) -> list[str]:
    old, new = _config(before) | _said(before), _config(after) | _said(after)
    return [f"{key}: {old[key]} -> {new[key]}" for key in new if old[key] != new[key]]

"""`waymaker pub`: one message, or many from lines, NDJSON or a file."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from waymaker.cli import exits, output, standard
from waymaker.cli.failure import CommandError, exit_code_of, hint_of
from waymaker.cli.input import line_messages
from waymaker.cli.input.line_messages import LineMessages
from waymaker.cli.input.reading import lines, pieces
from waymaker.cli.session import connected, stream_argument
from waymaker.cli.units import MOMENT

if TYPE_CHECKING:
    from waymaker.cli.commands.publish_report import Report
    from waymaker.client.client import Client

PAYLOAD_BYTES_MAX = 64 << 20
"""More than any server takes as one message: where reading a single payload stops."""


def _headers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = []
    for value in values:
        key, separator, text = value.partition(":")
        if not separator or not key.strip():
            raise click.BadParameter(f"{value!r} is no header; write 'key: value'")
        pairs.append((key.strip(), text.strip()))
    return pairs


@click.command()
@stream_argument
@click.argument("subject", required=False)
@click.argument("payload", required=False)
@click.option(
    "--file",
    "-f",
    "path",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Read from a file instead of standard input; '-' is standard input.",
)
@click.option("--lines", "-l", "by_line", is_flag=True, help="Every line is a message.")
@click.option(
    "--ndjson",
    is_flag=True,
    help="Every line is a JSON value and a message; SUBJECT may name fields, as in 'parcel.{status}'.",
)
@click.option(
    "--envelope",
    is_flag=True,
    help="Every line is a message as `sub --json` prints it, with its own subject, headers and time.",
)
@click.option(
    "--header",
    "-H",
    "headers",
    multiple=True,
    metavar="'KEY: VALUE'",
    callback=_headers,
    help="A header for every message.",
)
@click.option(
    "--time", "ts_ms", type=MOMENT, metavar="TIME", default=0, help="The messages' time; default: the server's."
)
@click.option(
    "--expect-seq",
    type=click.IntRange(min=0),
    metavar="N",
    help="Store only if this is the last sequence at the subject (0: none yet). One message only.",
)
@click.option(
    "--from-line",
    type=click.IntRange(min=1),
    metavar="N",
    help="Leave out the lines before line N: to go on with what was not stored.",
)
@click.option(
    "--dots-in-fields", is_flag=True, help="With --ndjson: a field may hold dots, and so make several tokens."
)
@connected
async def pub(
    client: Client, *, stream: str, subject: str | None, payload: str | None, path: str | None, by_line: bool, ndjson: bool,
    envelope: bool, headers: list[tuple[str, str]], ts_ms: int, expect_seq: int | None, from_line: int | None,
    dots_in_fields: bool, as_json: bool,
) -> int:  # fmt: skip
    """Publish to STREAM.

    With PAYLOAD, that is the message. Without, the message is what standard input or --file holds, or with --lines,
    --ndjson or --envelope every line of it is one. Prints the (last) sequence once all is on disk.

    A line that makes no message ends it: what was stored and which lines were not is said, and --from-line goes on.

    \b
      waymaker pub orders orders.new '{"id": 7}'
      waymaker pub orders orders.new --file order.json
      tail -f app.log | waymaker pub logs logs.app --lines
      waymaker pub parcels 'parcel.{status}' --ndjson --file parcels.ndjson
      waymaker sub parcels reader --json | waymaker pub copy --envelope
    """
    many = by_line or ndjson or envelope
    _check_usage(subject, payload, path, [by_line, ndjson, envelope], expect_seq)
    ctx = click.get_current_context(silent=True)
    if from_line is not None and not many:
        raise click.UsageError("--from-line is for --lines, --ndjson and --envelope", ctx)
    if ts_ms and envelope:
        raise click.UsageError("--time is not for --envelope, whose messages have their own", ctx)
    if dots_in_fields and not ndjson:
        raise click.UsageError("--dots-in-fields is for --ndjson", ctx)
    with _source(path, payload) as (source, size):
        if not many:
            assert subject is not None
            body = await _whole(source)
            seq = await client.publish(
                stream, subject, body, headers=headers, ts_ms=ts_ms, expected_last_seq=expect_seq
            )
            click.echo(output.to_json({"stream": stream, "seq": seq}) if as_json else str(seq))
            return exits.OK
        with _progress(path, size) as (on_bytes, on_messages):
            make = (
                line_messages.plain(subject or "", headers, ts_ms) if by_line
                else line_messages.ndjson(subject or "", headers, ts_ms, dots_in_fields) if ndjson
                else line_messages.envelopes(subject, headers)
            )  # fmt: skip
            messages = LineMessages(lines(source, on_bytes), make, from_line or 1, skip_blank=not by_line)
            report = await _publish_lines(client, stream, messages, on_messages)
        return _told(report, as_json)


def _check_usage(
    subject: str | None, payload: str | None, path: str | None, by_line: list[bool], expect_seq: int | None
) -> None:
    ctx = click.get_current_context(silent=True)
    if sum(by_line) > 1:
        raise click.UsageError("--lines, --ndjson and --envelope exclude one another", ctx)
    many = any(by_line)
    if subject is None and not by_line[2]:
        raise click.UsageError("SUBJECT is missing (only --envelope does without)", ctx)
    if payload is not None and (many or path is not None):
        raise click.UsageError("a PAYLOAD argument excludes --file, --lines, --ndjson and --envelope", ctx)
    if expect_seq is not None and many:
        raise click.UsageError("--expect-seq is for one message", ctx)


@contextlib.contextmanager
def _source(path: str | None, payload: str | None) -> Iterator[tuple[BinaryIO, int]]:
    """Return where to read, and how many bytes there are (0: unknown)."""
    if payload is not None:
        yield io.BytesIO(payload.encode("utf-8", "surrogateescape")), 0
        return
    if path is None or path == "-":
        yield standard.data_input(), 0
        return
    with Path(path).open("rb") as file:
        yield file, Path(path).stat().st_size


async def _whole(source: BinaryIO) -> bytes:
    parts, total = [], 0
    async for piece in pieces(source):
        parts.append(piece)
        total += len(piece)
        if total > PAYLOAD_BYTES_MAX:
            raise CommandError(
                f"more than {PAYLOAD_BYTES_MAX} bytes are no single message",
                exits.REFUSED,
                "--lines makes every line one",
            )
    return b"".join(parts)


@contextlib.contextmanager
def _progress(
    path: str | None, size: int
) -> Iterator[tuple[Callable[[int], None] | None, Callable[[int], None] | None]]:
    """Show a bar on standard error while a file is published, where a person can see it."""
    if not size or not sys.stderr.isatty():
        yield None, None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[stored]:,} messages"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(Path(path or "").name, total=size, stored=0)
        stored = 0

        def on_messages(count: int) -> None:
            nonlocal stored
            stored += count
            progress.update(task, stored=stored)

        yield (lambda count: progress.advance(task, count)), on_messages


async def _publish_lines(
    client: Client, stream: str, source: LineMessages, on_messages: Callable[[int], None] | None
) -> Report:
    from waymaker.cli.commands.publish_report import Report
    from waymaker.client.errors import WaymakerError
    from waymaker.client.producer.results import PublishResults

    try:
        results = await client.publish_many(stream, source, on_progress=on_messages)
    except WaymakerError as error:
        if not isinstance(error.results, PublishResults) or not len(error.results):
            raise
        return Report(stream, source, error.results, error)
    return Report(stream, source, results, source.stopped)


def _told(report: Report, as_json: bool) -> int:
    """Tell of many messages; the exit code. What ended it early is raised, with the line to go on from."""
    report.tell(as_json)
    stopped = report.stopped
    if stopped is None:
        return report.exit_code
    go_on = f"--from-line {report.next_line} goes on behind what was stored"
    if isinstance(stopped, CommandError):
        raise CommandError(str(stopped), stopped.exit_code, f"correct it; {go_on}", stopped.code)
    hint = "; ".join(filter(None, (hint_of(stopped), go_on)))
    raise CommandError(stopped.message, exit_code_of(stopped), hint, stopped.code, stopped.outcome)

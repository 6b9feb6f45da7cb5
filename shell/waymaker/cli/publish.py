"""`waymaker pub`: one message, or many from lines, NDJSON or a file."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from waymaker.cli import exits, output
from waymaker.cli.failure import CommandError, exit_code_of
from waymaker.cli.reading import LineTooLong, lines, pieces
from waymaker.cli.session import connected, stream_argument
from waymaker.cli.units import MOMENT

if TYPE_CHECKING:
    from waymaker.client.client import Client
    from waymaker.client.publishing import Many
    from waymaker.client.results import PublishResults
    from waymaker.client.values import Outgoing

FAILURES_SHOWN = 10
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
@connected
async def pub(
    client: Client, *, stream: str, subject: str | None, payload: str | None, path: str | None, by_line: bool, ndjson: bool,
    envelope: bool, headers: list[tuple[str, str]], ts_ms: int, expect_seq: int | None, as_json: bool,
) -> int:  # fmt: skip
    """Publish to STREAM.

    With PAYLOAD, that is the message. Without, the message is what standard input or --file holds, or with --lines,
    --ndjson or --envelope every line of it is one. Prints the (last) sequence once all is on disk.

    \b
      waymaker pub orders orders.new '{"id": 7}'
      waymaker pub orders orders.new --file order.json
      tail -f app.log | waymaker pub logs logs.app --lines
      waymaker pub parcels 'parcel.{status}' --ndjson --file parcels.ndjson
      waymaker sub parcels reader --json | waymaker pub copy --envelope
    """
    many = by_line or ndjson or envelope
    _check_usage(subject, payload, path, [by_line, ndjson, envelope], expect_seq)
    with _source(path) as (source, size):
        if not many:
            assert subject is not None
            body = payload.encode("utf-8", "surrogateescape") if payload is not None else await _whole(source)
            seq = await client.publish(
                stream, subject, body, headers=headers, ts_ms=ts_ms, expected_last_seq=expect_seq
            )
            click.echo(output.to_json({"stream": stream, "seq": seq}) if as_json else str(seq))
            return exits.OK
        with _progress(path, size) as (on_bytes, on_messages):
            read = lines(source, on_bytes)
            messages: AsyncIterator[Many] = (
                _plain_lines(read, subject or "", headers, ts_ms) if by_line
                else _ndjson(read, subject or "", headers, ts_ms) if ndjson
                else _envelopes(read, subject, headers)
            )  # fmt: skip
            results = await _publish_all(client, stream, messages, on_messages)
        return _tell(stream, results, as_json)


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
def _source(path: str | None) -> Iterator[tuple[BinaryIO, int]]:
    """Where to read, and how many bytes there are (0: unknown)."""
    if path is None or path == "-":
        yield sys.stdin.buffer, 0
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
    """A bar on standard error while a file is published, where a person can see it."""
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


async def _publish_all(
    client: Client, stream: str, messages: AsyncIterator[Many], on_messages: Callable[[int], None] | None
) -> PublishResults:
    from waymaker.client.errors import WaymakerError

    try:
        return await client.publish_many(stream, messages, on_progress=on_messages)
    except WaymakerError as error:
        if error.results is not None and len(error.results):
            output.note(f"{error.results.stored:,} message(s) stored before this:")
        raise
    except LineTooLong as error:
        raise CommandError(str(error), exits.REFUSED) from None


def _tell(stream: str, results: PublishResults, as_json: bool) -> int:
    """Prints what became of many messages; the exit code."""
    failures = results.failures
    if as_json:
        click.echo(output.to_json(_summary(stream, results)))
    else:
        output.note(f"{results.stored:,} message(s) stored in {stream}")
        if results.stored:
            click.echo(str(results.last_seq))
    for index in sorted(failures)[:FAILURES_SHOWN]:
        output.note(f"message {index + 1}: {failures[index].message} ({failures[index].code})")
    if len(failures) > FAILURES_SHOWN:
        output.note(f"... and {len(failures) - FAILURES_SHOWN:,} more")
    if not failures:
        return exits.OK
    return exit_code_of(failures[min(failures)])


def _summary(stream: str, results: PublishResults) -> dict[str, Any]:
    failures = results.failures
    out: dict[str, Any] = {
        "stream": stream,
        "stored": results.stored,
        "failed": len(failures),
        "last_seq": results.last_seq,
    }
    if failures:
        out["failures"] = [
            {"message": index + 1, "code": failures[index].code, "text": failures[index].message}
            for index in sorted(failures)[:FAILURES_SHOWN]
        ]
    return out


# --------------------------------------------------------------------------------- lines to messages


async def _plain_lines(
    read: AsyncIterator[bytes], subject: str, headers: list[tuple[str, str]], ts_ms: int
) -> AsyncIterator[Many]:
    make = _maker(subject, headers, ts_ms)
    async for line in read:
        yield make(subject, line)


async def _ndjson(
    read: AsyncIterator[bytes], subject: str, headers: list[tuple[str, str]], ts_ms: int
) -> AsyncIterator[Many]:
    """JSON values, stored as they stand. Fields named in the subject are filled in from each value."""
    make = _maker(subject, headers, ts_ms)
    fields = re.findall(r"\{([^{}]*)\}", subject)
    number = 0
    async for line in read:
        number += 1
        if not line.strip():
            continue
        value = _json(line, number)
        yield make(_filled(subject, fields, value, number) if fields else subject, line)


async def _envelopes(
    read: AsyncIterator[bytes], subject: str | None, headers: list[tuple[str, str]]
) -> AsyncIterator[Many]:
    """Messages as `sub --json` prints them."""
    number = 0
    async for line in read:
        number += 1
        if line.strip():
            yield _envelope(_json(line, number), subject, headers, number)


def _envelope(value: Any, subject: str | None, headers: list[tuple[str, str]], number: int) -> Outgoing:
    from waymaker.client.values import Outgoing

    if not isinstance(value, dict):
        raise _bad_line(number, "is not a JSON object")
    where = subject if subject is not None else value.get("subject")
    if not isinstance(where, str):
        raise _bad_line(number, "has no subject; give SUBJECT for all")
    try:
        if "payload_base64" in value:
            payload = base64.b64decode(value["payload_base64"], validate=True)
        else:
            payload = str(value.get("payload", "")).encode()
    except (ValueError, TypeError):
        raise _bad_line(number, "has a payload_base64 that is not base64") from None
    own = value.get("headers") or {}
    pairs = list(own.items()) if isinstance(own, dict) else [tuple(pair) for pair in own]
    ts_ms = value.get("ts_ms", 0)
    if not isinstance(ts_ms, int) or isinstance(ts_ms, bool):
        raise _bad_line(number, "has a ts_ms that is no whole number")
    return Outgoing(where, payload, [*pairs, *headers], ts_ms)


def _maker(subject: str, headers: list[tuple[str, str]], ts_ms: int) -> Callable[[str, bytes], Many]:
    if not headers and not ts_ms:
        return lambda where, payload: (where, payload)
    from waymaker.client.values import Outgoing

    return lambda where, payload: Outgoing(where, payload, headers, ts_ms)


def _json(line: bytes, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise _bad_line(number, f"is not JSON: {error}") from None


def _filled(subject: str, fields: list[str], value: Any, number: int) -> str:
    for field in fields:
        found: Any = value
        for key in field.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, str | int | float) or isinstance(found, bool) or found == "":
            raise _bad_line(number, f"has no field {field!r} to make the subject {subject!r} of")
        subject = subject.replace("{" + field + "}", str(found))
    return subject


def _bad_line(number: int, problem: str) -> CommandError:
    return CommandError(
        f"line {number} {problem}; the lines before it were published", exits.REFUSED, "correct the line, then go on from it",
        code="bad_line",
    )  # fmt: skip

"""Output of commands. Standard output has the data: JSON lines with --json, a table on a terminal, else tab-separated."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from waymaker.cli import standard

if TYPE_CHECKING:
    from waymaker.client.consumer.delivery import Message


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def note(text: str) -> None:
    """Print for the person at the terminal, on standard error."""
    click.echo(text, err=True)


def record(value: Mapping[str, Any], as_json: bool, said: Mapping[str, str] | None = None) -> None:
    """Print one thing with its properties; `said` holds those that people read in another form."""
    if as_json:
        click.echo(to_json(value))
        return
    said = said or {}
    width = max(map(len, value), default=0)
    for key, item in value.items():
        click.echo(f"{key:<{width}}  {said.get(key, _plain(item))}")


def rows(columns: Sequence[str], values: Iterable[Sequence[Any]], as_json: bool, numbers: Sequence[str] = ()) -> None:
    """Print a list of things. `numbers` names the columns that stand on the right."""
    if as_json:
        for row in values:
            click.echo(to_json(dict(zip(columns, row, strict=True))))
    elif sys.stdout.isatty():
        _table(columns, values, numbers)
    else:
        for row in values:
            click.echo("\t".join(_plain(item) for item in row))


def _table(columns: Sequence[str], values: Iterable[Sequence[Any]], numbers: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right" if column in numbers else "left", no_wrap=True)
    for row in values:
        table.add_row(
            *(
                Text(f"{item:,}" if isinstance(item, int) and not isinstance(item, bool) else _plain(item))
                for item in row
            )
        )
    Console().print(table)


def _plain(item: Any) -> str:
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, list | tuple):
        return ", ".join(map(_plain, item)) or "-"
    return "-" if item in {"", None} else str(item)


# ----------------------------------------------------------------------------------------- messages


def message_object(message: Message) -> dict[str, Any]:
    """Return a message as JSON: the payload as text where it is UTF-8, else as `payload_base64`."""
    out: dict[str, Any] = {"seq": message.seq, "subject": message.subject, "ts_ms": message.ts_ms}
    if message.deliver_count:
        out["deliver_count"] = message.deliver_count
    pairs = message.header_pairs
    if pairs:
        out["headers"] = pairs if len(dict(pairs)) < len(pairs) else dict(pairs)
    payload = message.payload
    try:
        out["payload"] = payload.decode()
    except UnicodeDecodeError:
        out["payload_base64"] = base64.b64encode(payload).decode()
    return out


def message_lines(messages: Iterable[Message], form: str) -> bytes:
    """Return messages, a line each: `json`, `raw` (the payload alone), or sequence, subject and payload.

    JSON is msgspec's here, several times faster than the standard library's and the same to the byte.
    """
    if form == "json":
        from msgspec.json import Encoder

        return Encoder().encode_lines([message_object(message) for message in messages])
    if form == "raw":
        return b"".join([message.payload + b"\n" for message in messages])
    return b"".join(map(_line, messages))


def _line(message: Message) -> bytes:
    return b"%d\t%s\t%s\n" % (message.seq, message.subject.encode(), _one_line(message.payload))


def _one_line(payload: bytes) -> bytes:
    """Return a payload so that it neither breaks the line nor controls the terminal."""
    if payload.isascii() and payload.decode("ascii").isprintable():
        return payload
    text = payload.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text).encode()


def write(data: bytes) -> None:
    """Write data to standard output, at once: what was printed may be acknowledged."""
    out = standard.data_output()
    out.write(data)
    out.flush()

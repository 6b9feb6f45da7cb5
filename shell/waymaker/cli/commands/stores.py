"""`waymaker hash`, `set`, `queue` and `sketch`: collections and sketches from the command line.

Values are printed byte for byte, a line each. Commands that take values read lines of standard input where none is given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from waymaker.cli import exits, output
from waymaker.cli.failure import CommandError
from waymaker.cli.input.sources import parse_sources
from waymaker.cli.session import connected

if TYPE_CHECKING:
    from waymaker.client.client import Client
    from waymaker.client.settings import SourceSettings

name_argument = click.argument("name")
key_argument = click.argument("of", metavar="KEY")
max_bytes_option = click.option(
    "--max-bytes", type=click.IntRange(min=0), default=0, metavar="N", help="Refuse what goes beyond; 0: no bound."
)
ephemeral_option = click.option("--ephemeral", is_flag=True, help="Keep it in memory only.")


def _given(values: tuple[str, ...]) -> list[bytes]:
    """Return the values of the command line, or the lines of standard input."""
    if values:
        return [value.encode() for value in values]
    return [line.rstrip(b"\r\n") for line in sys.stdin.buffer]


def _lines(values: list[bytes], as_json: bool) -> None:
    for value in values:
        text = output.to_json(value.decode("utf-8", "replace")).encode() if as_json else value
        output.write(text + b"\n")


def _texts(column: str, values: list[str], as_json: bool) -> None:
    output.rows([column], [[value] for value in values], as_json)


def _number(name: str, value: float, as_json: bool) -> None:
    output.record({name: value}, as_json)


# ---------------------------------------------------------------- hashes


@click.group("hash")
def hash_() -> None:
    """Fields with values, in the hashes of a store."""


@hash_.command("create")
@name_argument
@max_bytes_option
@ephemeral_option
@connected
async def hash_create(client: Client, *, name: str, max_bytes: int, ephemeral: bool, as_json: bool) -> None:
    """Make a hash store."""
    await client.hash_store(name).create(max_bytes=max_bytes, ephemeral=ephemeral)
    output.note(f"hash store {name!r} made")


@hash_.command("delete")
@name_argument
@connected
async def hash_delete(client: Client, *, name: str, as_json: bool) -> None:
    """Delete a hash store with all its hashes."""
    await client.hash_store(name).delete()
    output.note(f"hash store {name!r} deleted")


@hash_.command("set")
@name_argument
@key_argument
@click.argument("field")
@click.argument("value")
@connected
async def hash_set(client: Client, *, name: str, of: str, field: str, value: str, as_json: bool) -> None:
    """Set FIELD of the hash KEY in store NAME."""
    _number("revision", await client.hash_store(name)[of].set(field, value.encode()), as_json)


@hash_.command("get")
@name_argument
@key_argument
@click.argument("field", required=False)
@connected
async def hash_get(client: Client, *, name: str, of: str, field: str | None, as_json: bool) -> None:
    """Print the value of FIELD, byte for byte; without one, every field with its value."""
    handle = client.hash_store(name)[of]
    if field is None:
        found = await handle.copy()
        shown = [[each, value.decode("utf-8", "replace")] for each, value in found.items()]
        output.rows(["field", "value"], shown, as_json)
        return
    value = await handle.get(field)
    if value is None:
        raise CommandError(f"no field {field!r} in hash {of!r}", exits.NOT_FOUND, f"waymaker hash get {name} {of}",
                           code="no_field")  # fmt: skip
    if as_json:
        _lines([value], as_json)
    else:
        output.write(value)


@hash_.command("rm")
@name_argument
@key_argument
@click.argument("fields", nargs=-1, required=True)
@connected
async def hash_rm(client: Client, *, name: str, of: str, fields: tuple[str, ...], as_json: bool) -> None:
    """Remove FIELDS; print how many there were."""
    _number("removed", await client.hash_store(name)[of].delete(*fields), as_json)


@hash_.command("len")
@name_argument
@key_argument
@connected
async def hash_len(client: Client, *, name: str, of: str, as_json: bool) -> None:
    """Print how many fields the hash KEY has."""
    _number("fields", await client.hash_store(name)[of].len(), as_json)


# ---------------------------------------------------------------- sets


@click.group("set")
def set_() -> None:
    """Members, in the sets of a store."""


@set_.command("create")
@name_argument
@max_bytes_option
@ephemeral_option
@connected
async def set_create(client: Client, *, name: str, max_bytes: int, ephemeral: bool, as_json: bool) -> None:
    """Make a set store."""
    await client.set_store(name).create(max_bytes=max_bytes, ephemeral=ephemeral)
    output.note(f"set store {name!r} made")


@set_.command("delete")
@name_argument
@connected
async def set_delete(client: Client, *, name: str, as_json: bool) -> None:
    """Delete a set store with all its sets."""
    await client.set_store(name).delete()
    output.note(f"set store {name!r} deleted")


@set_.command("add")
@name_argument
@key_argument
@click.argument("members", nargs=-1)
@connected
async def set_add(client: Client, *, name: str, of: str, members: tuple[str, ...], as_json: bool) -> None:
    """Add MEMBERS, or the lines of standard input, to the set KEY; print how many were new."""
    given = [value.decode() for value in _given(members)]
    _number("added", await client.set_store(name)[of].update(given), as_json)


@set_.command("rm")
@name_argument
@key_argument
@click.argument("members", nargs=-1, required=True)
@connected
async def set_rm(client: Client, *, name: str, of: str, members: tuple[str, ...], as_json: bool) -> None:
    """Remove MEMBERS; print how many there were."""
    _number("removed", await client.set_store(name)[of].discard(*members), as_json)


@set_.command("members")
@name_argument
@key_argument
@connected
async def set_members(client: Client, *, name: str, of: str, as_json: bool) -> None:
    """Print the members of the set KEY."""
    _texts("member", [member async for member in client.set_store(name)[of]], as_json)


@set_.command("has")
@name_argument
@key_argument
@click.argument("member")
@connected
async def set_has(client: Client, *, name: str, of: str, member: str, as_json: bool) -> None:
    """Print whether MEMBER is in the set KEY."""
    output.record({"is_member": await client.set_store(name)[of].contains(member)}, as_json)


@set_.command("len")
@name_argument
@key_argument
@connected
async def set_len(client: Client, *, name: str, of: str, as_json: bool) -> None:
    """Print how many members the set KEY has."""
    _number("members", await client.set_store(name)[of].len(), as_json)


# ---------------------------------------------------------------- queues


@click.group()
def queue() -> None:
    """Values, taken in the order in which they were pushed."""


@queue.command("create")
@name_argument
@max_bytes_option
@click.option("--max-messages", type=click.IntRange(min=0), default=0, metavar="N", help="Most values; 0: no bound.")
@ephemeral_option
@connected
async def queue_create(
    client: Client, *, name: str, max_bytes: int, max_messages: int, ephemeral: bool, as_json: bool
) -> None:
    """Make a queue."""
    await client.queue(name).create(max_bytes=max_bytes, max_messages=max_messages, ephemeral=ephemeral)
    output.note(f"queue {name!r} made")


@queue.command("delete")
@name_argument
@connected
async def queue_delete(client: Client, *, name: str, as_json: bool) -> None:
    """Delete a queue with its values."""
    await client.queue(name).delete()
    output.note(f"queue {name!r} deleted")


@queue.command("push")
@name_argument
@click.argument("values", nargs=-1)
@connected
async def queue_push(client: Client, *, name: str, values: tuple[str, ...], as_json: bool) -> None:
    """Push VALUES, or the lines of standard input."""
    given = _given(values)
    await client.queue(name).extend(given)
    output.note(f"{len(given)} value(s) pushed")


@queue.command("pop")
@name_argument
@click.option(
    "--limit", "-n", type=click.IntRange(1, 10_000), default=1, show_default=True, metavar="N", help="At most."
)
@connected
async def queue_pop(client: Client, *, name: str, limit: int, as_json: bool) -> None:
    """Take the first values and print them. What was taken is not given again, printed or not."""
    _lines(await client.queue(name).take(limit), as_json)


@queue.command("peek")
@name_argument
@click.option(
    "--limit", "-n", type=click.IntRange(1, 10_000), default=10, show_default=True, metavar="N", help="At most."
)
@connected
async def queue_peek(client: Client, *, name: str, limit: int, as_json: bool) -> None:
    """Print the first values and leave them."""
    _lines(await client.queue(name).peek(limit), as_json)


@queue.command("len")
@name_argument
@connected
async def queue_len(client: Client, *, name: str, as_json: bool) -> None:
    """Print how many values there are."""
    _number("values", await client.queue(name).len(), as_json)


# ---------------------------------------------------------------- sketches

KINDS = ("bloom", "hyperloglog", "count-min", "top-k", "t-digest")


def _parse_item(_: click.Context, __: click.Parameter, value: str | None) -> str | int | None:
    """Parse `subject`, `payload` or `token:N`."""
    if value is None or value in {"subject", "payload"}:
        return value
    word, _colon, number = value.partition(":")
    if word == "token" and number.isascii() and number.isdigit() and int(number):
        return int(number)
    raise click.BadParameter(f"{value!r} is no part of a message; write subject, payload or token:N, N from 1")


@click.group()
def sketch() -> None:
    """Small summaries of many values."""


@sketch.command("create")
@name_argument
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--capacity", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Of bloom.")
@click.option("--error", type=float, default=0.01, show_default=True, help="Of bloom, count-min and top-k.")
@click.option("--failure", type=float, default=0.01, show_default=True, help="Of count-min and top-k.")
@click.option("--precision", type=click.IntRange(4, 18), default=14, show_default=True, help="Of hyperloglog.")
@click.option("--k", type=click.IntRange(min=1), default=10, show_default=True, help="Of top-k.")
@click.option("--compression", type=click.IntRange(20, 1_000), default=100, show_default=True, help="Of t-digest.")
@ephemeral_option
@click.option(
    "--source", "sources", metavar="SOURCE", multiple=True, callback=parse_sources,
    help="A stream whose messages are added, written as for stream add; may be repeated.",
)  # fmt: skip
@click.option(
    "--item", metavar="PART", default=None, callback=_parse_item,
    help="What is added of a source's message: subject, payload or token:N, the subject's N-th token.",
)  # fmt: skip
@connected
async def sketch_create(
    client: Client, *, name: str, kind: str, capacity: int, error: float, failure: float, precision: int, k: int,
    compression: int, ephemeral: bool, sources: tuple[SourceSettings, ...], item: str | int | None, as_json: bool,
) -> None:  # fmt: skip
    """Make a sketch of a KIND."""
    made = client.sketch(name)
    settings: Any = {"ephemeral": ephemeral, "sources": sources, "item": item}
    make: dict[str, Callable[[], Any]] = {
        "bloom": lambda: made.create_bloom(capacity, error, **settings),
        "hyperloglog": lambda: made.create_hyperloglog(precision, **settings),
        "count-min": lambda: made.create_count_min(error, failure, **settings),
        "top-k": lambda: made.create_top_k(k, error, failure, **settings),
        "t-digest": lambda: made.create_t_digest(compression, **settings),
    }
    await make[kind]()
    output.note(f"sketch {name!r} made")


@sketch.command("delete")
@name_argument
@connected
async def sketch_delete(client: Client, *, name: str, as_json: bool) -> None:
    """Delete a sketch."""
    await client.sketch(name).delete()
    output.note(f"sketch {name!r} deleted")


@sketch.command("add")
@name_argument
@click.argument("values", nargs=-1)
@connected
async def sketch_add(client: Client, *, name: str, values: tuple[str, ...], as_json: bool) -> None:
    """Add VALUES, or the lines of standard input; numbers to a t-digest."""
    given = _given(values)
    if (await client.sketch(name).info()).kind != "t_digest":
        await client.sketch(name).add(given)
    else:
        try:
            numbers = [float(value) for value in given]
        except ValueError as error:
            raise click.UsageError(f"a t-digest takes numbers: {error}") from None
        await client.sketch(name).add(numbers)
    output.note(f"{len(given)} value(s) added")


@sketch.command("ask")
@name_argument
@click.argument("question", type=click.Choice(["contains", "distinct", "counts", "top", "quantiles", "ranks"]))
@click.argument("values", nargs=-1)
@connected
async def sketch_ask(client: Client, *, name: str, question: str, values: tuple[str, ...], as_json: bool) -> None:
    """Ask a QUESTION about VALUES: which were added, how many distinct ones, how often, which most often, ranks."""
    asked = client.sketch(name)
    if question == "distinct":
        output.record({"distinct": await asked.distinct()}, as_json)
    elif question == "top":
        top = await asked.top()
        output.rows(["value", "count"], [[each.value.decode("utf-8", "replace"), each.times] for each in top], as_json)
    else:
        if question in {"quantiles", "ranks"}:
            try:
                numbers = [float(value) for value in values]
            except ValueError as error:
                raise click.UsageError(f"{question} takes numbers: {error}") from None
            found: list[Any] = await getattr(asked, question)(*numbers)
        else:
            found = await getattr(asked, question)(*values)
        output.rows(["value", question], [[v, each] for v, each in zip(values, found, strict=True)], as_json)


@sketch.command("info")
@name_argument
@connected
async def sketch_info(client: Client, *, name: str, as_json: bool) -> None:
    """Show the kind of a sketch, its parameters and figures."""
    found = await client.sketch(name).info()
    value = {"kind": found.kind, **found.parameters, "added": found.added, "memory_bytes": found.memory_bytes,
             "ephemeral": found.ephemeral}  # fmt: skip
    if found.sources:
        value |= {
            "item": f"token:{found.item}" if isinstance(found.item, int) else found.item,
            "skipped": found.skipped,
        }
        if as_json:
            value["sources"] = [{k: v for k, v in asdict(each).items() if k != "stream"} for each in found.sources]
    output.record(value, as_json)
    for each in () if as_json else found.sources:
        trouble = f"; {each.last_error}" if each.last_error else ""
        output.note(f"source {each.source_stream}: added up to sequence {each.last_sourced_seq:,}{trouble}")

"""`waymaker bench`: how many messages a second a server takes and gives, and how long calls wait.

It measures this client and this machine, too: one Python process with many tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waymaker.cli import failure, output, progress
from waymaker.cli.bench.kinds import KINDS
from waymaker.cli.session import connection_options, opened, run
from waymaker.cli.units import COUNT, SIZE

if TYPE_CHECKING:
    from waymaker.cli.bench.figures import Figures
    from waymaker.cli.bench.measuring import Measurement
    from waymaker.client.client import Client

SECONDS = 5.0
SHOWN_EVERY_S = 0.25
COLUMNS = (
    "kind",
    "messages",
    "calls",
    "seconds",
    "per_second",
    "mb_per_second",
    "p50_ms",
    "p99_ms",
    "max_ms",
    "interrupted",
)


@click.command()
@click.argument("kinds", nargs=-1, required=True, metavar="KIND...", type=click.Choice(tuple(KINDS)))
@click.option(
    "--count", "-n", metavar="COUNT", type=COUNT, default=0, help="End after so many messages, keys or objects."
)
@click.option(
    "--seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0.01),
    default=None,
    help=f"End after so long.  [default: {SECONDS:g} where no count is given]",
)
@click.option(
    "--size", metavar="SIZE", type=SIZE, default=None, help="Bytes of a payload.  [default: 128; objects 1 MiB]"
)
@click.option(
    "--batch",
    "-b",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Messages of one call: of publish, consume, fetch, push and pop.",
)
@click.option(
    "--tasks",
    "-t",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Tasks that call at once; each waits for its answer, so this is what is in flight.",
)
@click.option(
    "--streams",
    "-s",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Streams that messages are spread over.",
)
@click.option(
    "--folder",
    metavar="DIR",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=".",
    help="Where a server of its own keeps its data meanwhile.  [default: here]",
)
@connection_options
def bench(
    *, kinds: tuple[str, ...], count: int, seconds: float | None, size: int | None, batch: int, tasks: int, streams: int,
    folder: Path, as_json: bool, **connection: Any,
) -> None:  # fmt: skip
    """Measure a server: rate, and how long calls take (median, 99 of 100, longest).

    Without --server (or WAYMAKER_SERVER) it starts a server of its own, with its data in a temporary directory here.
    What it makes has names that begin with "bench-", and is removed at the end, after Ctrl-C too; what could not be
    removed is named. Ctrl-C prints what was measured until then. At a terminal a bar shows how far it is.

    \b
    publish  messages                         kv-put, kv-get    keys
    consume  publish and receive at once      obj-put, obj-get  objects
    fetch    what is stored, acknowledged     push, pop         values of a queue
    replay   what is stored, by subscription
    """
    from click.core import ParameterSource

    from waymaker.cli.bench.measuring import Load

    failure.remember({"server": connection["server"], "as_json": as_json})
    if size is not None:
        for kind in kinds:
            if size < KINDS[kind].size_min:
                raise click.UsageError(
                    f"--size {size}: {kind} needs {KINDS[kind].size_min} bytes for the time of its call"
                )
    if seconds is None:
        seconds = 0.0 if count else SECONDS
    loads = [
        (kind, Load(count, seconds, KINDS[kind].size if size is None else size, batch, tasks, streams))
        for kind in kinds
    ]
    found: list[Figures] = []
    is_own = click.get_current_context().get_parameter_source("server") is ParameterSource.DEFAULT
    with contextlib.ExitStack() as stack:
        if is_own:
            from waymaker.cli.bench.own_server import own_server

            connection = {**connection, "server": stack.enter_context(own_server(folder))}
        try:
            run(_measure(opened(**connection), loads, found))
        finally:
            _print(found, as_json)


async def _measure(client: Client, loads: Sequence[tuple[str, Any]], found: list[Figures]) -> None:
    from waymaker.cli.bench.measuring import Measurement

    async with client:
        for kind, load in loads:
            measurement = Measurement(client, kind, load)
            found.append(measurement.figures)
            async with _shown(measurement):
                try:
                    await KINDS[kind].run(measurement)
                except asyncio.CancelledError:
                    measurement.figures.interrupted = True
                    raise
                finally:
                    if not measurement.figures.elapsed_ns:
                        measurement.end()
                    await measurement.clean_up()


@contextlib.asynccontextmanager
async def _shown(measurement: Measurement) -> AsyncIterator[None]:
    """Show the progress of a measurement until it is over."""
    with progress.bar() as show:
        if show is None:
            yield
            return

        async def repeatedly() -> None:
            while True:
                show(*measurement.state())
                await asyncio.sleep(SHOWN_EVERY_S)

        task = asyncio.ensure_future(repeatedly())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _print(found: Sequence[Figures], as_json: bool) -> None:
    for figures in found:
        if not figures.elapsed_ns:
            output.note(f"{figures.kind}: nothing was measured yet")
    rows = [figures.row() for figures in found if figures.elapsed_ns]
    output.rows(COLUMNS, [[row[column] for column in COLUMNS] for row in rows], as_json, COLUMNS[1:-1])

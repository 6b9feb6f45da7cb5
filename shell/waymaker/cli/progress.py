"""Progress of transfers and measurements on standard error, where a person can see it; elsewhere nothing is shown."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def counter(name: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show how much of a file is transferred. `size` 0: it is not known how long it is."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(Path(name).name, total=size or None)
        yield lambda count: progress.advance(task, count)


@contextlib.contextmanager
def bar() -> Iterator[Callable[[float, str], None] | None]:
    """Show a bar, each time it is called, filled to a share of 1, with a text; None where it cannot be seen."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    # No thread of its own: it would draw within the calls that are measured.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda share, text: progress.update(task, completed=share, description=text, refresh=True)

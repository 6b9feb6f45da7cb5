"""Progress of long transfers on standard error, where a person can see it; elsewhere nothing is shown."""

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

"""The command line. `main` is what the `waymaker` script calls."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; `exits` lists them."""
    from waymaker.cli.root import run

    return run(arguments)

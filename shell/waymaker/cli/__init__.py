"""The command line. `main` is what the `waymaker` script calls."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `exits` lists them."""
    from waymaker.cli.root import run

    return run(arguments)

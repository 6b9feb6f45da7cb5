"""Programs beside `waymaker`, under names that the published contract gives them: its own commands, and nothing of their own.

- `streams-cli kv-keys` and `streams-cli kv-history` are `waymaker kv ls` and `waymaker kv history`.
- `wmkr-status` is `waymaker status`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from waymaker.cli.session import PROGRAM

STREAMS_CLI: Final = {
    "kv-keys": ("ls", "List the keys of a bucket."),
    "kv-history": ("history", "Print a key's revisions."),
}
"""Command to the name that it has in `waymaker kv`, and what the list of commands says of it."""


class KeyCommands(click.Group):
    """Commands of `waymaker kv` under other names; its module is imported when one is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(STREAMS_CLI)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in STREAMS_CLI:
            return None
        from waymaker.cli.commands.kv import kv

        return kv.commands[STREAMS_CLI[cmd_name][0]]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in STREAMS_CLI.items()])


@click.command(cls=KeyCommands, context_settings=PROGRAM, no_args_is_help=True)
def keys() -> None:
    """Look at the keys of buckets. `waymaker kv` has these commands, and more."""


def streams_cli(arguments: Sequence[str] | None = None) -> int:
    """Run `streams-cli` and return its exit code; `exits` lists them."""
    from waymaker.cli.root import run

    return run(arguments, keys, "streams-cli")


def wmkr_status(arguments: Sequence[str] | None = None) -> int:
    """Run `wmkr-status` and return its exit code."""
    from waymaker.cli.commands.status import status
    from waymaker.cli.root import run

    return run(arguments, status, "wmkr-status")

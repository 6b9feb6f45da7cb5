"""The root command: finds sub-commands when they are asked for, and turns every end into an exit code.

Start-up must stay quick, so this module and the command modules import nothing but click; the client, gRPC and rich are
imported inside the commands that use them. Commands of other packages are found through the entry point group
`waymaker.commands`, which is read only where a name is not one of ours, or where all are listed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from waymaker.cli import exits

GROUP = "waymaker.commands"
COMMANDS = {
    "dev": ("serving", "Run a server for development, on this machine only."),
    "serve": ("serving", "Run a server."),
    "stream": ("streams", "Make, list, look at, change and remove streams."),
    "consumer": ("consumers", "Make, list, look at and remove consumers."),
    "pub": ("publish", "Publish to a stream."),
    "sub": ("receive", "Print the messages of a consumer as they come."),
    "fetch": ("receive", "Print and acknowledge what a consumer has now."),
    "get": ("reads", "Print the newest payload at a subject, or all."),
    "subjects": ("reads", "List the subjects that hold messages."),
    "kv": ("kv", "Set, read, list and watch the keys of buckets."),
    "watch": ("reads", "Print what is made, changed and removed."),
    "obj": ("objects", "Store, read, list and remove objects of a bucket."),
    "hash": ("stores", "Fields with values, in the hashes of a store."),
    "set": ("stores", "Members, in the sets of a store."),
    "queue": ("stores", "Values, taken in the order in which they were pushed."),
    "sketch": ("stores", "Small summaries of many values."),
    "backup": ("archives", "Copy a stream into a file, or all streams into a directory."),
    "restore": ("archives", "Make streams from such a file or directory."),
    "check": ("checking", "Verify the data of a stopped server, or a backup."),
    "info": ("reads", "Show what the server is."),
    "status": ("status", "Show what the server is, and what each stream holds."),
    "cluster": ("cluster", "Show the members of a cluster, and what each serves."),
    "bench": ("bench", "Measure a server: messages a second, and how long calls take."),
    "token": ("serving", "Make a bearer token."),
    "version": ("about", "Print the versions of this program and its parts."),
    "completion": ("about", "Print the script that completes commands."),
}
"""Command to the module of `commands` that defines it under the same name, and what the list of commands says of it
(its module is not imported for that), in the order of a newcomer's day."""


class _ReaderGone(Exception):
    """The reader of our output has left."""


class Root(click.Group):
    """A group that imports a sub-command when it is used."""

    def invoke(self, ctx: click.Context) -> Any:
        """Keep two ends from click, which would print at one and choose its own exit code at the other."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGone from None
        except KeyboardInterrupt:
            if sys.stderr.isatty():
                click.echo(err=True)
            raise click.exceptions.Exit(exits.INTERRUPTED) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(name for name in _found() if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module, _ = COMMANDS[cmd_name]
            command: click.Command = _defined(import_module(f"waymaker.cli.commands.{module}"), cmd_name)
            return command
        entry = _found().get(cmd_name)
        if entry is None:
            return None
        loaded = entry.load()
        return loaded if isinstance(loaded, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing ours."""
        rows = [(name, summary) for name, (_, summary) in COMMANDS.items()]
        for name in sorted(_found()):
            command = self.get_command(ctx, name) if name not in COMMANDS else None
            if command is not None:
                rows.append((name, command.get_short_help_str(60)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message.rstrip()} Did you mean {near[0]!r}?", ctx) from None


def _defined(module: Any, name: str) -> click.Command:
    """Return the command of a name; where Python has that name already, it is defined with an underscore behind it."""
    found: click.Command = getattr(module, f"{name}_", None) or getattr(module, name)
    return found


def _found() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        from waymaker_core import is_compiled

        click.echo(f"waymaker {version('waymaker-streams')}{' (compiled)' if is_compiled() else ''}")
        ctx.exit()


@click.command(
    cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, no_args_is_help=True
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
              help="Print the version and leave.")  # fmt: skip
def root() -> None:
    """Waymaker streams: durable streams and consumers.

    Data goes to standard output, everything else to standard error. Every command has --json and --help.

    \b
    A first minute:
      waymaker dev                                    start a server here
      waymaker stream add orders --subjects 'orders.>'
      waymaker pub orders orders.new 'hello'
      waymaker consumer add orders reader
      waymaker sub orders reader
    """


def run(arguments: Sequence[str] | None, command: click.Command = root, name: str = "waymaker") -> int:
    """Run the command line of a program; here alone exceptions become messages and exit codes."""
    from waymaker.cli import failure, standard

    standard.occupy()
    try:
        result = command.main(
            args=None if arguments is None else list(arguments), prog_name=name, standalone_mode=False
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else exits.OK
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    except click.ClickException as error:
        failure.say_usage(error)
        return error.exit_code
    except (_ReaderGone, BrokenPipeError):
        return _broken_pipe()
    except Exception as error:
        return failure.say(error)


def _broken_pipe() -> int:
    """Leave without a word when the reader of our output has left, and keep the interpreter from writing at its exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(devnull, stream.fileno())
        except (OSError, ValueError):
            continue
    return exits.BROKEN_PIPE

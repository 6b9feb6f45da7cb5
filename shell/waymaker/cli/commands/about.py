"""`waymaker version` and `waymaker completion`."""

from __future__ import annotations

import click

from waymaker.cli import output
from waymaker.cli.session import json_option


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the versions of this program and of what it stands on."""
    import platform
    from importlib.metadata import version as of

    found = {
        "waymaker": of("waymaker-streams"),
        "python": platform.python_version(),
        "grpcio": of("grpcio"),
        "protobuf": of("protobuf"),
    }
    output.record(found, as_json)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print the script that lets SHELL complete commands, options and stream names.

    \b
      bash:  waymaker completion bash > ~/.local/share/bash-completion/completions/waymaker
      zsh:   waymaker completion zsh > "${fpath[1]}/_waymaker"
      fish:  waymaker completion fish > ~/.config/fish/completions/waymaker.fish
    """
    from click.shell_completion import get_completion_class

    from waymaker.cli.root import root

    maker = get_completion_class(shell)
    assert maker is not None
    # The class asks the shell for its version only when it is asked to write for an unknown one.
    script = maker(root, {}, "waymaker", "_WAYMAKER_COMPLETE").source()
    click.echo(output.to_json({"shell": shell, "script": script}) if as_json else script)

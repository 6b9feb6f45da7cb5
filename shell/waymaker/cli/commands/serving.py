"""`waymaker serve`, `waymaker dev` and `waymaker token`: running a server.

The flags are the server's own settings, read from the one place that defines them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waymaker.cli import exits, failure, output
from waymaker.cli.failure import CommandError
from waymaker.cli.session import json_option

if TYPE_CHECKING:
    from waymaker.server.run import Running

DEV_DATA_DIR = "waymaker-data"
DEV_CLUSTER_DIR = "waymaker-cluster"


class _Settings(click.Command):
    """A command whose options are the server's settings; they are imported when the command is used."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not any(param.name == "data_dir" for param in self.params):
            from waymaker.server.config import SETTINGS

            self.params[:0] = [
                click.Option(
                    [setting.flag, setting.name],
                    **({"is_flag": True, "default": None} if not setting.metavar else {"metavar": setting.metavar}),
                    help=_explained(setting.text, setting.default),
                )
                for setting in SETTINGS
            ]
        return super().get_params(ctx)


def _explained(text: str, default: object) -> str:
    return f"{text}  [default: {default}]" if default not in {None, False, ""} else text


def _serving(function: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--config", "config_file", metavar="FILE", envvar="WAYMAKER_CONFIG", show_envvar=True,
                     type=click.Path(dir_okay=False, path_type=Path), help="Settings in TOML; flags and variables win."),
        click.option("--limit", "limits", metavar="NAME=VALUE", multiple=True, help="A limit; may be repeated."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return json_option(function)


@click.command(cls=_Settings)
@_serving
def serve(as_json: bool, config_file: Path | None, limits: tuple[str, ...], **flags: Any) -> int:
    """Run a server.

    Flags win over variables (WAYMAKER_<SETTING>), those over the file given by --config, that over the defaults.
    SIGTERM and Ctrl-C drain it; a second one ends it at once, which loses nothing that was confirmed.
    """
    return _run(flags, config_file, limits, None, None if not as_json else _announce_json)


@click.command(cls=_Settings)
@click.option(
    "--nodes",
    type=click.Choice(["1", "3", "5", "7"]),
    default="1",
    show_default=True,
    help="Members of a cluster on this machine, each a process with its data in ./waymaker-cluster/N.",
)
@_serving
def dev(as_json: bool, nodes: str, config_file: Path | None, limits: tuple[str, ...], **flags: Any) -> int:
    """Run a server for development: this machine only, data in ./waymaker-data.

    It is the same server as `serve`, and forgets as little. With --nodes it is a cluster: one process a member, which
    is started again where it dies.
    """
    if nodes != "1":
        return _run_cluster(int(nodes), as_json, config_file, limits, flags)
    announce = _announce_json if as_json else _announce_dev
    defaults: dict[str, object] = {"data_dir": DEV_DATA_DIR, "log_level": "warning"}
    return _run(flags, config_file, limits, defaults, announce)


_OF_ONE_MEMBER = (
    "node_id", "cluster", "cluster_name", "peer_listen", "advertise", "link_listen", "link_socket", "metrics_listen",
    "peer_tls_cert", "peer_tls_key", "peer_tls_ca",
)  # fmt: skip
"""Settings that `dev --nodes` gives each member by itself."""


def _run_cluster(
    count: int, as_json: bool, config_file: Path | None, limits: tuple[str, ...], flags: dict[str, Any]
) -> int:  # fmt: skip
    """Run some members as child processes, with the settings that were given."""
    import asyncio

    from waymaker.cli.local_cluster import LocalCluster, LocalMember, announce, plan
    from waymaker.server.config import SETTINGS, ConfigError, load_config

    given: dict[str, object] = {**flags, **({"limits": limits} if limits else {})}
    named = next((name for name in _OF_ONE_MEMBER if flags.get(name) is not None), None)
    if named is not None:
        raise CommandError(f"{named}: dev --nodes chooses it for each node", exits.USAGE, code="bad_setting")
    own = {setting.variable for setting in SETTINGS if setting.name in _OF_ONE_MEMBER}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    try:
        config = load_config(given, environment, config_file, {"data_dir": DEV_CLUSTER_DIR, "log_level": "warning"})
    except ConfigError as error:
        raise CommandError(str(error), exits.USAGE, "waymaker dev --help", code="bad_setting") from None
    if not config.listen.is_loopback:
        raise CommandError("listen: a cluster for development listens on 127.0.0.1", exits.USAGE, code="bad_setting")
    arguments = ["--log-level", config.log_level, "--log-format", _log_format(config.log_format)]
    for setting in SETTINGS:
        if flags.get(setting.name) is not None and setting.name not in (
            "data_dir",
            "listen",
            "log_level",
            "log_format",
        ):
            arguments += [setting.flag] if not setting.metavar else [setting.flag, str(flags[setting.name])]
    arguments += ["--config", str(config_file)] if config_file is not None else []
    arguments += [part for limit in limits for part in ("--limit", limit)]

    def on_ready(members: list[LocalMember]) -> None:
        announce(members, as_json)

    async def run() -> int:
        members = plan(config.data_dir, count, config.listen.port)
        return await LocalCluster(members, arguments, environment, on_ready).run()

    return asyncio.run(run())


def _log_format(wanted: str) -> str:
    """Return the format of the members' logs, which go through a pipe to where this process writes."""
    import sys

    return ("console" if sys.stderr.isatty() else "json") if wanted == "auto" else wanted


def _run(
    flags: dict[str, Any], config_file: Path | None, limits: tuple[str, ...], defaults: dict[str, object] | None,
    announce: Callable[[Running], None] | None,
) -> int:  # fmt: skip
    from waymaker.server.config import ConfigError, load_config

    given: dict[str, object] = dict(flags)
    if limits:
        given["limits"] = limits
    try:
        config = load_config(given, os.environ, config_file, defaults=defaults)
    except ConfigError as error:
        raise CommandError(str(error), exits.USAGE, "waymaker serve --help", code="bad_setting") from None
    from waymaker.server.run import StartError, serve_blocking

    try:
        return serve_blocking(config, announce)
    except StartError as error:
        raise CommandError(str(error), exits.FAILED, code="cannot_start") from None


def _announce_json(running: Running) -> None:
    told = {
        "address": str(running.address), "data_dir": str(running.data_dir.resolve()), "version": running.version,
        "metrics_address": str(running.metrics_address) if running.metrics_address else None, "pid": os.getpid(),
    }  # fmt: skip
    output.write(output.to_json(told).encode() + b"\n")


def _announce_dev(running: Running) -> None:
    address = str(running.address)
    server = "" if address == "127.0.0.1:7411" else f" --server {address}"
    output.note(
        f"Waymaker {running.version} is ready.\n"
        f"  address  {address}\n"
        f"  data     {running.data_dir.resolve()}\n"
        f"  try      waymaker stream add orders --subjects 'orders.>'{server}\n"
        f"  stop     Ctrl-C"
    )


@click.command()
@click.argument("name")
@json_option
def token(name: str, as_json: bool) -> None:
    """Make a bearer token for NAME.

    Prints the token, for its user, and the line for the server's file of tokens (`serve --tokens FILE`). The token is
    shown this once and kept nowhere.
    """
    from waymaker.server.auth.tokens import new_token

    failure.remember({"as_json": as_json})
    try:
        made, line = new_token(name)
    except ValueError as error:
        raise CommandError(str(error), exits.USAGE, code="bad_name") from None
    if as_json:
        click.echo(output.to_json({"name": name, "token": made, "line": line}))
        return
    click.echo(f"{made}\n{line}")
    output.note("The first line is the token, for its user; the second belongs into the server's file of tokens.")

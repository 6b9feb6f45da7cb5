"""`waymaker status`: what the server is, and what each of its streams holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from waymaker.cli.commands.reads import show_server
from waymaker.cli.commands.streams import show_streams
from waymaker.cli.session import PROGRAM, connected

if TYPE_CHECKING:
    from waymaker.client.client import Client


@click.command(context_settings=PROGRAM)
@connected
async def status(client: Client, *, as_json: bool) -> None:
    """Show what the server is, and its streams with their figures; one question a stream."""
    await show_server(client, as_json)
    await show_streams(client, as_json)

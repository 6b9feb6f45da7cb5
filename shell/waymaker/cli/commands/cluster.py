"""`waymaker cluster`: what the members of a cluster are, and what each serves."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from waymaker.cli import exits, failure, output
from waymaker.cli.failure import CommandError
from waymaker.cli.session import connection_options, opened, run

if TYPE_CHECKING:
    from waymaker.client.cluster import ClusterMember, ClusterStatus
    from waymaker_proto.admin_pb2 import ClusterStatusResponse

OTHERS_S: Final = 2.0
"""The time that each further member has to answer."""
UNKNOWN: Final = "?"
COLUMNS: Final = (
    "node", "state", "clients", "members", "streams led", "replicas", "in sync", "lagging", "unknown", "lag",
)  # fmt: skip


@click.group()
def cluster() -> None:
    """Show the members of a cluster, and what each serves."""


@cluster.command()
@connection_options
def status(*, server: str, timeout: float, as_json: bool, **options: Any) -> Any:
    """Show the members: which leads the catalog, which are reachable, what each leads, and how far its replicas are.

    The server that is named answers, and then every other member that it knows an address of. How far a replica is
    only the primary of its stream knows; "unknown" counts the replicas whose primaries did not answer.
    """
    failure.remember({"server": server, "as_json": as_json})

    async def work() -> None:
        from waymaker.client.cluster import joined

        first = await _ask(server, timeout, options)
        if not first.members:
            raise CommandError(
                f"{server} is no member of a cluster", exits.NOT_FOUND, "waymaker info", code="no_cluster"
            )
        _print(joined([first, *await _ask_others(first, timeout, options)]), as_json)

    return run(work())


async def _ask(server: str, timeout: float, options: dict[str, Any]) -> ClusterStatusResponse:
    from waymaker.client.cluster import ask_status

    async with opened(server=server, timeout=timeout, **options) as client:
        return await ask_status(client)


async def _ask_others(
    first: ClusterStatusResponse, timeout: float, options: dict[str, Any]
) -> list[ClusterStatusResponse]:
    """Ask all further members at once; one that does not answer is left out."""
    import asyncio

    asking = [
        _ask(each.client_address, min(timeout, OTHERS_S), options)
        for each in first.members
        if each.node_id != first.node_id and each.client_address
    ]
    answers = await asyncio.gather(*asking, return_exceptions=True)
    return [each for each in answers if not isinstance(each, BaseException)]


def _print(found: ClusterStatus, as_json: bool) -> None:
    if as_json:
        click.echo(output.to_json({**asdict(found), "members": [asdict(each) for each in found.members]}))
        return
    leader = f"node {found.leader}, term {found.term}" if found.leader else "not known: no majority is connected"
    output.record(
        {
            "cluster": found.name, "leader": leader, "streams": found.streams, "unserved": found.streams_unserved,
            "answered": ", ".join(f"node {each}" for each in found.answered),
        },
        as_json=False,
    )  # fmt: skip
    output.rows(COLUMNS, [_row(each, found) for each in found.members], False, COLUMNS[4:])


def _row(member: ClusterMember, found: ClusterStatus) -> tuple[object, ...]:
    state = "leader" if member.node_id == found.leader else "member"
    return (
        member.node_id, state if member.reachable else "unreachable", member.client_address or UNKNOWN,
        member.peer_address, member.streams_led, member.replicas, member.in_sync, member.lagging, member.unknown,
        member.lag_records,
    )  # fmt: skip

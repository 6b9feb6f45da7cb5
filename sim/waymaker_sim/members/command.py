"""`waymaker sim members`: run worlds of members of one cluster."""

from __future__ import annotations

import time

import click

from waymaker_sim.cli.command import SeedRange
from waymaker_sim.kernel.checks import Violation
from waymaker_sim.machine.process import NodeRaised
from waymaker_sim.members.world import MembersWorld

EXIT_BROKEN = 6
FAULTS = ("kill", "kill at effect", "power loss", "pause", "disk full")


@click.command("members")
@click.option("--seeds", type=SeedRange(), default="1..20", show_default=True, help="Worlds to run.")
@click.option("--nodes", type=click.IntRange(1, 7), default=3, show_default=True, help="Members of each cluster.")
def worlds(seeds: range, nodes: int) -> None:
    """Run members of a cluster: nothing that was confirmed may be lost, whichever member leads."""
    begun = time.perf_counter()
    confirmed = faults = 0
    for seed in seeds:
        world = MembersWorld(seed, count=nodes)
        try:
            world.run()
        except (Violation, NodeRaised) as broken:
            click.echo(f"seed {seed}: {broken}")
            raise SystemExit(EXIT_BROKEN) from None
        confirmed += len(world.confirmed)
        faults += sum(world.machines.marks[name] for name in FAULTS)
    seconds = max(time.perf_counter() - begun, 1e-9)
    click.echo(
        f"{len(seeds):,} worlds of {nodes} nodes ({len(seeds) / seconds:.2f} a second), {confirmed:,} messages confirmed,"
        f" {faults:,} faults of machines; nothing was lost"
    )

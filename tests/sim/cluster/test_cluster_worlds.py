"""Worlds whose server is a cluster: all clients and checks of a world with one process, on members that fail."""

from __future__ import annotations

from collections import Counter
from functools import partial

from click.testing import CliRunner

from waymaker_sim.cli.command import sim
from waymaker_sim.cluster.marks import never_reached
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.members.cluster_world import ClusterWorld, world_of
from waymaker_sim.members.world import rivals
from waymaker_sim.world.run import Report, run_tape

SEEDS = (2, 7, 12)
RIVALS = partial(ClusterWorld, counts=range(3, 4), adapt_machines=rivals)


def run(seed: int, make: object = world_of(range(3, 6)), digest: Digest | None = None) -> Report:
    return run_tape(Tape(seed), digest, make=make)  # type: ignore[arg-type]


def test_a_cluster_keeps_all_promises_through_the_faults_of_its_members() -> None:
    marks: Counter[str] = Counter()
    for seed in SEEDS:
        report = run(seed)
        assert report.clean(), f"seed {seed}: {report.check}: {report.detail}"
        assert report.confirmed, "an idle world proves nothing"
        marks.update(report.marks)
    wanted = (
        "client redirected",
        "restart",
        "replicas compared",
        "ack confirmed",
        "subscription delivered",
        "stream created",
    )
    assert never_reached(marks, wanted) == []


def test_calls_that_arrive_in_a_later_incarnation_count_against_its_bounds() -> None:
    """1: what was sent to a name without a stream was stored once the stream was created, and pushed other messages out."""
    report = run(1, RIVALS)
    assert report.clean(), f"{report.check}: {report.detail}"


def test_a_seed_is_the_same_world_twice() -> None:
    one, two = run(7, digest=Digest()), run(7, digest=Digest())
    assert one.digest and one == two


def test_the_command_runs_clusters() -> None:
    done = CliRunner().invoke(sim, ["run", "--nodes", "3..5", "--seeds", "7..7"])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(sim, ["run", "--nodes", "8", "--seed", "1"]).exit_code == 2

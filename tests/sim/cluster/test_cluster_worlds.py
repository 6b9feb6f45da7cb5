"""Worlds whose server is a cluster: all clients and checks of a world with one process, on members that fail."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from click.testing import CliRunner

from waymaker_sim.cli.command import sim
from waymaker_sim.cluster.marks import never_reached
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.members.cluster_world import ClusterWorld, world_of
from waymaker_sim.members.world import rivals
from waymaker_sim.replication.rules import RULES
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


def few_clients(plan: Plan) -> None:
    plan.streams, plan.publishers, plan.workers, plan.readers, plan.watchers = 2, 2, 3, 3, 0
    plan.churn, plan.think_ns, plan.faults_ns = 0, 20 * MS, 12 * SECOND


def rival_world(tape: Tape, digest: Digest | None = None, adapt: object = None) -> ClusterWorld:
    return ClusterWorld(tape, digest, few_clients, counts=range(3, 4), adapt_machines=rivals)


def test_a_primary_that_is_cut_off_breaks_no_promise() -> None:
    report = run(2, rival_world)
    assert report.clean() and report.marks["partition"], f"{report.check}: {report.detail}"


@pytest.mark.parametrize(
    ("rule", "check"),
    [
        ("answer_confirmed", "delivery count"),
        ("confirm_after_question", "delivery count"),
        ("majority_of_set", "replicas agree"),
    ],
)
def test_rivals_of_a_primary_are_found_out(rule: str, check: str) -> None:
    """2: a primary that is cut off with some clients goes on to deliver, or to commit, beside a newer one."""
    with RULES[rule].planted():
        report = run(2, rival_world)
    assert report.check == check, f"{report.check}: {report.detail}"


def test_a_seed_is_the_same_world_twice() -> None:
    one, two = run(7, digest=Digest()), run(7, digest=Digest())
    assert one.digest and one == two


def test_the_command_runs_clusters() -> None:
    done = CliRunner().invoke(sim, ["run", "--nodes", "3..5", "--seeds", "7..7"])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(sim, ["run", "--nodes", "8", "--seed", "1"]).exit_code == 2

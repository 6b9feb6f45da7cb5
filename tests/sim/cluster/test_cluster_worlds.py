"""Worlds whose server is a cluster: all clients and checks of a world with one process, on members that fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from waymaker_core.api.inputs import SentRecord
from waymaker_core.api.requests import ReadLatest
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.replication.log_view import LogView
from waymaker_sim.cli.command import sim
from waymaker_sim.clients.client_view import Ask
from waymaker_sim.clients.publisher import Reader
from waymaker_sim.cluster.marks import never_reached
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.process import ReceivedMessage, StepId
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.members.cluster_world import ClusterWorld, world_of
from waymaker_sim.members.world import rivals
from waymaker_sim.replication.rules import RULES
from waymaker_sim.search.cases import from_text
from waymaker_sim.search.shrink import flat
from waymaker_sim.world.run import Report, run_tape

SEEDS = (2, 7, 12)
STALE_READ = 2
MUTANT, FALLS_BY, RUNS = "answer-early", "acked survives", 8
Received = list[ReceivedMessage] | None
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
    plan.buckets = plan.keys_closely = plan.stores = plan.sets = plan.guests = False


def rival_world(tape: Tape, digest: Digest | None = None, adapt: object = None) -> ClusterWorld:
    return ClusterWorld(tape, digest, few_clients, counts=range(3, 4), adapt_machines=rivals)


def test_a_primary_that_is_cut_off_breaks_no_promise() -> None:
    report = run(2, rival_world)
    assert report.clean() and report.marks["partition"], f"{report.check}: {report.detail}"


@pytest.mark.parametrize(
    ("rule", "check"),
    [
        ("answer_confirmed", "one primary"),
        ("confirm_after_question", "one primary"),
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


def test_a_replica_that_sees_another_log_than_its_node_has_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_epochs(self: LogView, records: Iterable[SentRecord]) -> None:
        self.end += len(list(records))

    monkeypatch.setattr(LogView, "add_records", without_epochs)
    report = run(2, rival_world)
    assert report.check == "log as seen", f"{report.check}: {report.detail}"


def test_reads_of_the_latest_are_judged_over_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """A primary of a later epoch that answers with what was replaced before the call is found out."""
    latest = Reader._latest

    def stale(self: Reader, ask: Ask, answer: Answer | Refusal, got: Received, step_id: StepId) -> None:
        latest(self, ask, answer, got, step_id)
        incarnation = self._incarnation(ask, answer)
        assert isinstance(ask.request, ReadLatest)
        first = epochs.setdefault(ask.request.stream, step_id.run)
        if incarnation is None or not got or step_id.run == first:
            return
        read = incarnation.latest_reads[-1]
        known = incarnation.live.get(read.seq)
        older = [seq for seq, each in incarnation.at.items() if each.subject == read.subject and seq < read.seq]
        if older and known is not None and 0 <= known.confirmed_ns < read.asked_ns:
            incarnation.latest_reads[-1] = replace(read, seq=min(older))

    epochs: dict[str, int] = {}
    monkeypatch.setattr(Reader, "_latest", stale)
    report = run(STALE_READ, rival_world)
    assert report.check == "linearizable", f"{report.check}: {report.detail}"


def test_a_failing_world_of_members_is_saved_replayed_and_shrunk(tmp_path: Path) -> None:
    def waymaker(*arguments: str) -> Result:
        return CliRunner().invoke(sim, arguments)

    found = waymaker("run", "--nodes", "3..5", "--seed", "2", "--mutant", MUTANT, "--save", str(tmp_path))
    (saved,) = tmp_path.glob("*.json")
    case = from_text(saved.read_text())
    assert (case.nodes, case.check) == ("3..5", FALLS_BY) and found.exit_code == 3, found.output
    replayed = waymaker("replay", str(saved))
    assert "the same steps, byte for byte" in replayed.output, replayed.output
    small = tmp_path / "small.json"
    shrunk = waymaker("shrink", str(saved), "--runs", str(RUNS), "--save", str(small))
    assert shrunk.exit_code == 3, shrunk.output
    smaller = from_text(small.read_text())
    assert (smaller.nodes, smaller.check) == (case.nodes, case.check)
    assert len(flat(smaller.tracks)) < len(flat(case.tracks))
    assert smaller.run().check == case.check

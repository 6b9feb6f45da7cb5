"""A register that a majority holds is linearizable under all faults; one that a single copy commits is not, and shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import partial

import pytest

from tests.kit.majority_register import KINDS, ReadRegister, WriteRegister, feed_of, opener_of
from waymaker_core.model.result_codes import Answer
from waymaker_sim.checkers.linear import NEVER, Kind, Operation, Verdict, check_register
from waymaker_sim.cluster.atlas import Atlas
from waymaker_sim.cluster.machines import Machines, MachinesPlan, draw_machines_plan
from waymaker_sim.cluster.marks import CLIENT_MARKS, MACHINE_MARKS, NETWORK_MARKS, never_reached
from waymaker_sim.cluster.route import CallEnd, Route
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Tape, Track

SOUND_SEEDS = (6, 13, 20, *range(30, 41))
"""Together they reach every mark."""
MUTANT_SEEDS_MAX = 25


class RegisterWorld:
    """Machines with one register, and clients that read and write it."""

    def __init__(
        self, tape: Tape, stores_min: int = 0, digest: Digest | None = None, plan: MachinesPlan | None = None
    ) -> None:
        self.tape = tape
        swarm = tape.track("swarm")
        count = swarm.pick("machines", [3, 3, 5])
        self.plan = plan or draw_machines_plan(swarm, count)
        count = self.plan.count
        self.machines = Machines(
            tape, self.plan, opener=opener_of(count, stores_min), kinds=KINDS, digest=digest, feed=feed_of(count)
        )
        self.operations: list[Operation] = []
        self.written = self.answered = 0
        self.asking = True
        for number in range(1, 4):
            track = tape.track(f"client {number}")
            route = Route(-number, self.machines.network, self.machines.machines, tape.track(f"route {number}"))
            self._turn(route, track)

    def _turn(self, route: Route, track: Track) -> None:
        if not self.asking:
            return
        track.begin()
        events = self.machines.events
        asked, value = events.now_ns, 0
        if track.draw("write", 2):
            self.written += 1
            value = self.written
        request = WriteRegister(value) if value else ReadRegister()
        done = partial(self._done, route, track, value, asked)
        route.call(request, done, repeatable=not value, patience_ns=3 * SECOND)

    def _done(self, route: Route, track: Track, value: int, asked: int, end: CallEnd) -> None:
        events = self.machines.events
        if isinstance(end.answer, Answer):
            self.answered += 1
            assert isinstance(end.answer.value, int)
            kind = Kind.WRITE if value else Kind.READ
            self.operations.append(Operation(kind, end.answer.value, asked, events.now_ns))
        elif value and end.unknown:
            self.operations.append(Operation(Kind.WRITE, value, asked, NEVER))
        events.after(MS + track.draw("think", 80 * MS), partial(self._turn, route, track))

    def run(self, ns: int = 10 * SECOND) -> None:
        """Run with faults, then heal, and require that calls are answered again."""
        self.machines.start()
        self.machines.run_for(ns)
        self.machines.heal()
        self.machines.await_up()
        enough = self.answered + 10
        self.machines.run_for(20 * SECOND, lambda: self.answered >= enough)
        assert self.answered >= enough, "healed machines answer no more"
        self.asking = False

    def verdict(self) -> Verdict:
        return check_register(self.operations).verdict


@pytest.fixture(scope="module")
def marks() -> Counter[str]:
    """Marks of all sound seeds, each of which has been judged."""
    found: Counter[str] = Counter()
    for seed in SOUND_SEEDS:
        world = RegisterWorld(Tape(seed))
        world.run()
        assert world.verdict() is Verdict.LINEARIZABLE, f"seed {seed}"
        found += world.machines.marks
    return found


def test_every_kind_of_fault_happens_and_the_register_is_linearizable(marks: Counter[str]) -> None:
    assert never_reached(marks, [*NETWORK_MARKS, *MACHINE_MARKS, *CLIENT_MARKS]) == []


def test_a_version_that_one_copy_commits_is_lost_within_a_few_seeds() -> None:
    for seed in range(1, MUTANT_SEEDS_MAX + 1):
        world = RegisterWorld(Tape(seed), stores_min=1)
        world.run()
        if world.verdict() is Verdict.VIOLATED:
            return
    pytest.fail(f"{MUTANT_SEEDS_MAX} seeds do not show it")


def test_what_the_atlas_forbids_would_lose_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Atlas, "permits", lambda *asked: True)
    for seed in range(1, MUTANT_SEEDS_MAX + 1):
        world = RegisterWorld(Tape(seed))
        world.plan.lose_directory = world.plan.tear_synced = 30_000
        world.run()
        if world.verdict() is Verdict.VIOLATED:
            return
    pytest.fail(f"{MUTANT_SEEDS_MAX} seeds do not show it")


def test_without_faults_every_call_is_answered() -> None:
    world = RegisterWorld(Tape(1), plan=MachinesPlan())
    world.run()
    assert world.verdict() is Verdict.LINEARIZABLE
    assert all(operation.answered < NEVER for operation in world.operations)
    # A client may come before its machine has started.
    assert {*world.machines.marks} <= {"client found no connection"}


def digest_of(seed: int) -> str:
    digest = Digest()
    world = RegisterWorld(Tape(seed), digest=digest)
    world.run(5 * SECOND)
    digest.add(f"{world.operations} {sorted(world.machines.marks.items())}")
    return digest.hex()


def test_a_seed_is_the_same_run_twice() -> None:
    digests = [digest_of(seed) for seed in (2, 3, 4)]
    assert digests == [digest_of(seed) for seed in (2, 3, 4)]
    assert len({*digests}) == 3


def test_a_saved_tape_is_the_same_run() -> None:
    world = RegisterWorld(Tape(6))
    world.run(3 * SECOND)
    replayed = RegisterWorld(Tape(0, world.tape.saved()))
    replayed.run(3 * SECOND)
    assert replayed.operations == world.operations
    assert replayed.machines.marks == world.machines.marks


def test_the_order_of_hashes_changes_nothing() -> None:
    code = "from tests.sim.cluster.test_majority_register import digest_of; print(digest_of(2))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1 and digests != {""}

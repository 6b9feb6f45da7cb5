"""One run: a tape in, a report out."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from waymaker_sim.kernel.checks import CHECKS, Violation
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.process import NodeRaised
from waymaker_sim.mutants import MUTANTS, planted
from waymaker_sim.world.world import World


@dataclass(slots=True)
class Report:
    """The result of a run."""

    seed: int
    check: str = ""
    """The violated check, or empty."""
    detail: str = ""
    thrown: str = ""
    """The source of an exception: its type, and the function that threw it."""
    virtual_ns: int = 0
    asked: int = 0
    confirmed: int = 0
    syncs: int = 0
    crashes: int = 0
    draws: int = 0
    digest: str = ""
    marks: dict[str, int] = field(default_factory=dict)

    def clean(self) -> bool:
        """Return True if no check was violated."""
        return not self.check

    def kind(self) -> str:
        """Return safety, liveness or crash; empty if the run is clean."""
        return CHECKS[self.check][0] if self.check else ""


def run_tape(
    tape: Tape,
    digest: Digest | None = None,
    mutant: str = "",
    on_world: Callable[[World], None] | None = None,
    made_for: str = "",
    make: Callable[..., World] = World,
) -> Report:
    """Run one world. With `mutant` the core has one rule less meanwhile; `on_world` is called with the world before.

    The world is adapted to `mutant`, or with every rule in place to the mutant `made_for`. `make` makes another kind of world.
    """
    report = Report(tape.seed)
    with planted(mutant):
        world: World | None = None
        try:
            world = make(tape, digest, MUTANTS[mutant or made_for].adapt if mutant or made_for else None)
            if on_world is not None:
                on_world(world)
            world.run()
        except Violation as violation:
            report.check, report.detail = violation.check, violation.detail
            report.thrown = _thrown(violation)
        except NodeRaised as error:
            report.check, report.detail = "node raised", str(error)
            report.thrown = _thrown(error)
        if world is not None:
            _figures(report, world)
    if digest is not None:
        digest.add(f"{report.check} {report.detail}")
        report.digest = digest.hex()
    return report


def run_seed(seed: int, *, double: bool = False, mutant: str = "", make: Callable[..., World] = World) -> Report:
    """Run one seed; with `double` it runs twice and must be the same both times."""
    if not double:
        return run_tape(Tape(seed), None, mutant, make=make)
    report = run_tape(Tape(seed), Digest(), mutant, make=make)
    again = run_tape(Tape(seed), Digest(), mutant, make=make)
    if report.digest != again.digest and report.clean():
        report.check, report.detail = "same twice", f"digests {report.digest} and {again.digest}"
    return report


def _thrown(error: Exception) -> str:
    behind = error.__cause__ or error.__context__
    if behind is None:
        return ""
    *_, frame = traceback.extract_tb(behind.__traceback__)
    return f"{type(behind).__name__} in {frame.name}"


def _figures(report: Report, world: World) -> None:
    report.virtual_ns = world.events.now_ns
    report.asked = world.view.asked
    report.confirmed = world.view.confirmed
    report.syncs = sum(machine.disk.syncs for machine in world.machines)
    report.crashes = world.crashes
    report.draws = world.tape.draw_count()
    report.marks = dict(sorted(world.view.marks.items()))

"""One timeline: an observed run, with the subjects of its violation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from waymaker_sim.kernel.checks import CHECKS
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.timeline.about import About, find_subjects
from waymaker_sim.timeline.plan import describe_plan
from waymaker_sim.timeline.record import Moment
from waymaker_sim.timeline.recorder import Recorder
from waymaker_sim.world.run import Report, run_tape
from waymaker_sim.world.world import World


@dataclass(slots=True)
class Timeline:
    """The facts about a run when it is over."""

    report: Report
    mutant: str
    plan: str
    about: About
    moments: list[Moment]

    def rule(self) -> str:
        """Return the rule that was broken; empty if the run is clean."""
        return CHECKS[self.report.check][1] if self.report.check else ""


def record_run(tape: Tape, mutant: str = "", about: str = "", make: Callable[..., World] = World) -> Timeline:
    """Run a tape and record it. `about` names the subjects if they are not the violation's; `make` makes the world."""
    recorders: list[Recorder] = []

    def on_world(world: World) -> None:
        recorders.append(Recorder(world))

    report = run_tape(tape, mutant=mutant, on_world=on_world, make=make)
    (recorder,) = recorders
    recorder.close(report.check, report.detail)
    world = recorder.world
    subjects = find_subjects(about or report.detail, world.view)
    return Timeline(report, mutant, describe_plan(world.plan), subjects, recorder.moments)

"""The report of a draw as one JSON file, written anew after every verdict, so that an interrupted gate can continue.

It holds the survey, too. A report of other code or of another draw is refused: its verdicts belong to something else.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from waymaker_sim.mutation.survey import Survey
from waymaker_sim.mutation.verdict import Verdict, VerdictKind

FORMAT = "waymaker random mutants"
VERSION = 1


class ReportRefused(Exception):
    """An error: a file that is no report, or one of another draw. The text says which, and what to do."""


@dataclass(slots=True)
class Report:
    """Verdicts by the key of their mutant. `about` names the draw and the code."""

    about: dict[str, str | int]
    survey: Survey | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Replace the file."""
        survey = self.survey.as_json() if self.survey is not None else None
        verdicts = [verdict.as_json() for verdict in self.verdicts.values()]
        head = {"format": FORMAT, "version": VERSION, "about": self.about}
        text = json.dumps({**head, "verdicts": verdicts, "survey": survey}, indent=1)
        beside = path.with_name(path.name + ".new")
        beside.write_text(text)
        os.replace(beside, path)


def read(path: Path, about: dict[str, str | int]) -> Report:
    """Read the report of this draw, or begin one if there is no file. Raises `ReportRefused`."""
    if not path.exists():
        return Report(about)
    try:
        value = json.loads(path.read_text())
        if value["format"] != FORMAT or value["version"] != VERSION:
            raise ReportRefused(f"{path} is no report of version {VERSION}; name another file")
        if value["about"] != about:
            raise ReportRefused(f"{path} is about other code or another draw; delete it or name another file")
        verdicts = [Verdict.from_json(each) for each in value["verdicts"]]
        survey = Survey.from_json(value["survey"]) if value["survey"] is not None else None
    except (ValueError, KeyError, TypeError) as error:
        raise ReportRefused(f"{path} is no report: {error!r}; name another file") from error
    return Report(about, survey, {verdict.drawn.key(): verdict for verdict in verdicts})


def summary(verdicts: list[Verdict]) -> str:
    """Return one line about all of them."""
    count = {kind: sum(verdict.kind is kind for verdict in verdicts) for kind in VerdictKind}
    simulated = sum(verdict.kind is VerdictKind.KILLED and verdict.by.startswith("seed ") for verdict in verdicts)
    return (
        f"{len(verdicts)} mutants: {count[VerdictKind.KILLED]} killed, {simulated} of them in simulation; "
        f"{count[VerdictKind.SURVIVED]} survived, {count[VerdictKind.NOT_REACHED]} not reached, "
        f"{count[VerdictKind.EQUIVALENT]} equivalent; "
        f"{sum(verdict.cpu for verdict in verdicts):.0f} CPU seconds"
    )

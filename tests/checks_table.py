"""The table of checks: `python -m tests.checks_table` writes it into `docs/simulation.md` from the simulator's code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from waymaker_sim.kernel.checks import CHECKS
from waymaker_sim.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "simulation.md"
SIM = ROOT / "sim" / "waymaker_sim"
BEGIN = "<!-- checks: written by `python -m tests.checks_table`, compared by tests/test_docs.py -->"
END = "<!-- end of checks -->"
NAME_AT = {"violated": 0, "require": 1, "Violation": 0}
"""The argument that names the check, by function."""


def judged_in(source: str) -> set[str]:
    """Return the checks that a module judges: named in a call, or in an assignment to `check`, of a report."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        named: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAME_AT:
            named = node.args[NAME_AT[node.func.id]:][:1]  # fmt: skip
        elif isinstance(node, ast.Assign) and "report.check" in ast.unparse(node.targets[0]):
            named = node.value.elts[:1] if isinstance(node.value, ast.Tuple) else [node.value]
        found |= {each.value for each in named if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return found


def places() -> dict[str, list[str]]:
    """Return by check the modules that judge it, without those that only run commands."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(SIM.rglob("*.py")):
        place = path.relative_to(SIM).with_suffix("")
        if place.parts[0] not in ("cli", "mutants"):
            for check in judged_in(path.read_text()):
                found[check].append(place.as_posix())
    return found


def table() -> str:
    """Return the table as it has to be."""
    judged = places()
    lines = ["| Check | Kind | Rule | Judged in | Mutants expected to violate it |", "|---|---|---|---|---|"]
    for name, (kind, rule) in CHECKS.items():
        mutants = sorted(each for each, mutant in MUTANTS.items() if name in mutant.caught_by)
        cells = [
            name,
            kind,
            rule,
            *(", ".join(f"`{each}`" for each in some) or "–" for some in (judged[name], mutants)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """Return the page with the table put between its two marks."""
    return re.sub(
        f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n\n{table()}\n\n{END}", page, flags=re.DOTALL
    )


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))

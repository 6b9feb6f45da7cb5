"""A measured figure, what it is held against, and how a table of them is printed."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report. ``target`` is what the project promises itself, 0 for no promise."""

    name: str
    value: float
    unit: str
    target: float = 0
    smaller_is_better: bool = False
    beside: str = ""

    @property
    def met(self) -> bool:
        if not self.target:
            return True
        return self.value <= self.target if self.smaller_is_better else self.value >= self.target


def table(figures: list[Figure]) -> str:
    rows = [("measurement", "figure", "target", "beside")]
    for figure in figures:
        target = ""
        if figure.target:
            relation = "<=" if figure.smaller_is_better else ">="
            target = f"{relation} {_number(figure.target)} {'met' if figure.met else 'MISSED'}"
        rows.append((figure.name, f"{_number(figure.value)} {figure.unit}", target, figure.beside))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_json(figures: list[Figure]) -> str:
    return json.dumps([{**dataclasses.asdict(figure), "met": figure.met} for figure in figures], indent=2)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"

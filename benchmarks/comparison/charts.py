"""Curves as SVG: panels with two logarithmic axes, one line a contestant, written without a library.

The same figures give the same text to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 420
HEIGHT: Final = 300
LEFT: Final = 64
RIGHT: Final = 12
TOP: Final = 34
BOTTOM: Final = 44
LEGEND_LINE: Final = 16
COLOURS: Final = ("#0b6e4f", "#c1121f", "#1d4ed8", "#b45309", "#7c3aed", "#475569", "#be185d", "#0f766e")
TICKS_MAX: Final = 7
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. Every value is above 0."""

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Points]


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis from `low` to `high`, drawn from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        """Return the place of a value."""
        share = (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return self.begin + share * (self.end - self.begin)


def ticks(low: float, high: float) -> list[float]:
    """Return round values that enclose a range: 1, 2 and 5 of each power of ten, or powers alone where those are too many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for steps in ((1, 2, 5), (1,)):
        values = [float(f"{step}e{power}") for power in range(first, last + 1) for step in steps]
        below = max((value for value in values if value <= low), default=values[0])
        above = min((value for value in values if value >= high), default=values[-1])
        found = [value for value in values if below <= value <= above]
        if len(found) <= TICKS_MAX:
            break
    return found if len(found) > 1 else [found[0], found[0] * 10]


def short(value: float) -> str:
    """Write a tick's value: 0.5, 20, 1k, 2M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def svg(panels: Sequence[Panel]) -> str:
    """Draw panels beside each other, above one legend for all of them."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    width, height = WIDTH * len(panels), HEIGHT + LEGEND_LINE * len(names) + 8
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11" fill="#1f2933">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    for place, panel in enumerate(panels):
        parts.append(f'<g transform="translate({place * WIDTH} 0)">')
        parts += _panel(panel, colours)
        parts.append("</g>")
    for place, name in enumerate(names):
        y = HEIGHT + LEGEND_LINE * place + 4
        parts.append(f'<rect x="{LEFT}" y="{y}" width="14" height="4" fill="{colours[name]}"/>')
        parts.append(f'<text x="{LEFT + 20}" y="{y + 6}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, colours: Mapping[str, str]) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{escape(panel.title)}</text>']
    if not points:
        return [*parts, f'<text x="{LEFT}" y="{TOP + 20}">nothing was measured</text>']
    at_x = sorted({x for x, _ in points})
    across = Axis(at_x[0], at_x[-1] if len(at_x) > 1 else at_x[0] * 10, LEFT, right - 8)
    at_y = ticks(min(y for _, y in points), max(y for _, y in points))
    up = Axis(at_y[0], at_y[-1], bottom, TOP)
    for value in at_y:
        y = up.at(value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#d9dee4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
    for value in at_x:
        x = across.at(value)
        parts.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}" stroke="#1f2933"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:,.0f}</text>')
    parts.append(f'<line x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="#1f2933"/>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle:.0f}" y="{bottom + 34}" text-anchor="middle">{escape(panel.x_label)}</text>')
    centre = (TOP + bottom) / 2
    parts.append(
        f'<text transform="translate(14 {centre:.0f}) rotate(-90)" text-anchor="middle">{escape(panel.y_label)}</text>'
    )
    for name, line in panel.lines.items():
        places = [(across.at(x), up.at(y)) for x, y in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}"/>' for x, y in places]
    return parts

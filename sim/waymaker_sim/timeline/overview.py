"""The whole run on one strip, to scale: confirmed publishes, process runs, faults, and the range of the rows below."""

from __future__ import annotations

from collections.abc import Sequence

from waymaker_core.api.requests import Publish
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.timeline.diagram import states
from waymaker_sim.timeline.record import Kind, Moment

WIDTH, LEFT, RIGHT = 1200, 112, 1188
BIN_PX = 4
TICKS = 12
"""Number of labelled times, at most."""


def draw_overview(moments: Sequence[Moment], selected: Sequence[Moment]) -> str:
    """Return an SVG image."""
    end_ns = max(moments[-1].at_ns, 1)
    nodes = sorted({moment.lane for moment in moments if moment.kind is Kind.START})
    height = 84 + 16 * len(nodes)

    def x(at_ns: float) -> float:
        return LEFT + (RIGHT - LEFT) * at_ns / end_ns

    begin = x(selected[0].at_ns)
    parts = [
        f'<svg class="overview" viewBox="0 0 {WIDTH} {height}" data-end="{end_ns}" data-left="{LEFT}" data-right="{RIGHT}">',
        f'<rect class="window" x="{begin:.1f}" y="4" width="{RIGHT - begin + 2:.1f}" height="{height - 22}"/>',
        f'<text class="label" x="{LEFT - 8}" y="32">confirmed</text>',
        *_confirmed(moments, end_ns),
    ]
    y = 46
    for node in nodes:
        parts.append(f'<text class="label" x="{LEFT - 8}" y="{y + 9}">{node}</text>')
        parts += [
            f'<rect class="{state}" x="{x(since):.1f}" y="{y}" width="{max(1.0, x(until) - x(since)):.1f}" height="10"/>'
            for since, until, state in states(moments, node, lambda moment: float(moment.at_ns), end_ns)
        ]
        y += 16
    parts.append(f'<text class="label" x="{LEFT - 8}" y="{y + 11}">faults</text>')
    parts += [
        f'<line class="tick" x1="{x(m.at_ns):.1f}" x2="{x(m.at_ns):.1f}" y1="{y + 2}" y2="{y + 13}"/>'
        for m in moments
        if m.kind in (Kind.FAULT, Kind.FAILURE, Kind.LOSS, Kind.HALT, Kind.REFUSED)
    ]
    parts += _axis(end_ns, height)
    if moments[-1].text != "nothing was violated":
        parts.append(f'<line class="verdict" x1="{RIGHT}" x2="{RIGHT}" y1="2" y2="{height - 16}"/>')
    return "".join([*parts, "</svg>"])


def _confirmed(moments: Sequence[Moment], end_ns: int) -> list[str]:
    """Draw the number of confirmed publishes, in columns."""
    columns = [0] * ((RIGHT - LEFT) // BIN_PX + 1)
    for moment in moments:
        publish = moment.exchange is not None and isinstance(moment.exchange.request, Publish)
        if publish and moment.kind is Kind.ANSWER and moment.text.startswith("ok"):
            columns[moment.at_ns * (len(columns) - 1) // end_ns] += 1
    most = max(*columns, 1)
    return [
        f'<rect class="count" x="{LEFT + index * BIN_PX}" y="{40 - 32 * count / most:.1f}" width="{BIN_PX - 1}" '
        f'height="{32 * count / most:.1f}"/>'
        for index, count in enumerate(columns)
        if count
    ]


def _axis(end_ns: int, height: int) -> list[str]:
    step = _step(end_ns)
    parts = [f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{height - 17}" y2="{height - 17}"/>']
    at = 0
    while at <= end_ns:
        x = LEFT + (RIGHT - LEFT) * at / end_ns
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{height - 17}" y2="{height - 13}"/>')
        if x < RIGHT - 4:
            parts.append(f'<text class="time" x="{x:.1f}" y="{height - 2}">{at / SECOND:g} s</text>')
        at += step
    return parts


def _step(end_ns: int) -> int:
    step = 1000
    while True:
        for factor in (1, 2, 5):
            if end_ns // (step * factor) < TICKS:
                return step * factor
        step *= 10

"""A timeline as one page of HTML: a head, the whole run on a strip, and the space-time diagram beside its rows.

The page is self-contained: it loads nothing. Text from a run is escaped, and spelled out where it is not plainly
visible; it never becomes markup, style or script.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources

from waymaker_sim.timeline.diagram import Diagram, Row, group_of, rows_of
from waymaker_sim.timeline.drawing import ROW_PX, SHAPES
from waymaker_sim.timeline.overview import draw_overview
from waymaker_sim.timeline.record import Exchange, Kind, Moment
from waymaker_sim.timeline.text import extent_of, head_of, parts_of
from waymaker_sim.timeline.timeline import Timeline
from waymaker_sim.timeline.words import seconds

HEAD_PX = 84
LANE_PX, LANE_PX_MANY, MANY_LANES = 52, 38, 10
GROUPS = ("publishes", "deliveries", "acks", "reads", "changes", "disk", "faults", "log")
OUTSIDE = {Kind.FAULT, Kind.LOSS, Kind.FAILURE, Kind.HALT, Kind.REFUSED, Kind.CUT, Kind.LOST}
LEGEND = (
    ("line confirms right", "confirmed: the answer left"),
    ("line delivers right", "messages"),
    ("line reply right", "another answer"),
    ("line refuses right", "not done"),
    ("bar write", "disk job: writes"),
    ("bar sync", "sync"),
    ("bar up", "process up"),
    ("bar boot", "recovering"),
    ("mark crash cross", "stop"),
    ("mark fault diamond", "fault"),
    ("mark fault triangle", "unsynced data lost"),
)


def page(timeline: Timeline, selected: Sequence[Moment], left_out: int = 0) -> str:
    """Return the whole document. `left_out` moments before the first one were left out because there are too many."""
    return "\n".join(_document(timeline, selected, left_out)) + "\n"


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _document(timeline: Timeline, selected: Sequence[Moment], left_out: int) -> Iterator[str]:
    rows = rows_of(selected)
    many = len({moment.lane for moment in selected}) > MANY_LANES
    diagram = Diagram(timeline.moments, rows, LANE_PX_MANY if many else LANE_PX)
    head = dict(head_of(timeline))
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(head['run'])}: {escape(head['verdict'])}</title>"
    yield f"<style>\n{_asset('page.css')}</style>\n</head>\n<body>"
    yield '<div class="head">'
    yield f"<h1>{escape(head['run'])}</h1>"
    yield from _verdict(head)
    yield f'<p class="world">{escape(head["world"])}</p>'
    yield draw_overview(timeline.moments, selected)
    yield _legend()
    yield "</div>"
    yield from _controls(selected, timeline, left_out)
    yield f'<div class="board" style="--lanes: {diagram.width}px; --text: {_text_width(rows)}ch">\n{_lanes(diagram)}'
    state = "" if timeline.report.check else " clean"
    yield f'<svg class="space{state}" width="{diagram.width}" height="{len(rows) * ROW_PX}">'
    yield from diagram.drawing.parts
    yield "</svg>"
    yield '<ol id="rows">'
    numbers: dict[int, int] = {}
    for row in rows:
        yield _row(row, timeline, numbers)
    yield '</ol>\n<div class="end"></div>\n</div>\n<div id="detail" hidden></div>'
    yield f"<script>\n{_asset('page.js')}</script>\n</body>\n</html>"


def _verdict(head: dict[str, str]) -> Iterator[str]:
    broken = "rule" in head
    yield f'<div class="verdict{" broken" if broken else ""}"><b>{escape(head["verdict"])}</b>'
    for name in ("rule", "seen"):
        if name in head:
            yield f'<p><span class="name">{name}</span> {escape(head[name])}</p>'
    yield "</div>"


def _legend() -> str:
    items = []
    for what, text in LEGEND:
        kind, css, *shape = what.split()
        if kind == "line":
            drawn = f'<line class="{css}" x1="0" x2="24" y1="7" y2="7"/>'
            drawn += f'<path class="{css}" d="{SHAPES[shape[0]]}" transform="translate(28,7)"/>'
        elif kind == "bar":
            drawn = f'<rect class="{css}" x="8" y="0" width="10" height="14"/>'
        else:
            drawn = f'<path class="{css}" d="{SHAPES[shape[0]]}" transform="translate(14,7)"/>'
        items.append(f'<span><svg width="28" height="14">{drawn}</svg>{text}</span>')
    return f'<div class="legend">{"".join(items)}</div>'


def _controls(selected: Sequence[Moment], timeline: Timeline, left_out: int) -> Iterator[str]:
    there = {group_of(moment) for moment in selected if moment.kind not in (Kind.ACT, Kind.VERDICT)}
    yield '<div class="controls">'
    for group in GROUPS:
        if group in there:
            yield f'<label><input type="checkbox" data-group="{group}" checked>{group}</label>'
    yield '<span><button type="button" data-zoom="-4" title="Smaller rows">&minus;</button>'
    yield '<button type="button" data-zoom="4" title="Larger rows">+</button></span>'
    yield '<input id="search" type="search" placeholder="Find, Enter for the next" aria-label="Find"><span id="found"></span>'
    yield '<button type="button" id="last">To the end</button>'
    note = f"Told: {extent_of(timeline, selected, left_out)}."
    if left_out:
        note += " With --events 0 nothing is left out."
    yield f'<p class="note">{escape(note)}</p>\n</div>'


def _text_width(rows: Sequence[Row]) -> int:
    """Return the characters of the longest row: rows off the screen are not laid out, so the page needs its width."""
    return max(
        (sum(map(len, parts_of(row.moment))) + 1 for row in rows if row.moment and not _wraps(row.moment)), default=0
    )


def _wraps(moment: Moment) -> bool:
    return moment.kind is Kind.VERDICT


def _lanes(diagram: Diagram) -> str:
    labels = "".join(
        f'<text transform="translate({x - 2:g},{HEAD_PX - 8}) rotate(-38)">{escape(lane)}</text>'
        for lane, x in diagram.x.items()
    )
    return f'<div class="lanes"><svg width="{diagram.width}" height="{HEAD_PX}">{labels}</svg></div>'


def _row(row: Row, timeline: Timeline, numbers: dict[int, int]) -> str:
    gap = '<span class="gap"></span>'
    moment = row.moment
    if moment is None:
        return f'<li class="pause"><time>&hellip;</time>{gap}<span class="what">{escape(row.pause)}</span></li>'
    css = _row_class(moment, timeline)
    text, of = parts_of(moment)
    tail = f' <span class="of">{escape(of)}</span>' if of else ""
    group = "" if moment.kind in (Kind.ACT, Kind.VERDICT) else f' data-g="{group_of(moment)}"'
    return (
        f"<li{f' class={chr(34)}{css}{chr(34)}' if css else ''}{group}{_link(moment.exchange, numbers)} "
        f'data-lane="{escape(moment.lane)}" data-t="{moment.at_ns}"><time>{seconds(moment.at_ns)}</time>{gap}'
        f'<span class="who">{escape(moment.lane)}</span><span class="what">{escape(text)}{tail}</span></li>'
    )


def _row_class(moment: Moment, timeline: Timeline) -> str:
    if moment.kind is Kind.VERDICT:
        return "final" if timeline.report.check else "final clean"
    if moment.kind is Kind.ACT:
        return "act"
    if moment.kind in OUTSIDE:
        return "outside"
    exchange = moment.exchange
    same = exchange is not None and exchange.stream == timeline.about.stream
    return "subject" if same and moment.seqs & timeline.about.seqs else ""


def _link(exchange: Exchange | None, numbers: dict[int, int]) -> str:
    """Return the number of a call, which its rows have in common."""
    if exchange is None:
        return ""
    return f' data-x="{numbers.setdefault(id(exchange), len(numbers))}"'

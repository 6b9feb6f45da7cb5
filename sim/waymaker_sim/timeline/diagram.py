"""The space-time diagram of a timeline: lanes side by side, time downwards, one row a moment.

A row's text is beside the diagram, so that labels never overlap. Rows stretch time: a time between those of two rows is
drawn between them, in proportion.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from waymaker_core.api.requests import Ack, Fetch, Publish, Subscribe
from waymaker_core.model.disk_ops import SyncDir, SyncFile
from waymaker_sim.timeline.drawing import Drawing
from waymaker_sim.timeline.record import Exchange, Kind, Moment, Part, Work
from waymaker_sim.timeline.selection import CHANGING, CONSUMER_CHANGES, STOPS, STREAM_CHANGES
from waymaker_sim.timeline.text import pause_between

CLIENTS = (
    "publisher", "producer", "worker", "reader", "watcher", "administrator", "archivist", "guest", "strays", "keys",
    "keywatcher", "latewatcher", "keyends", "keylister", "churn", "objects", "stores", "sets", "copyist", "sketches", "audit",
)  # fmt: skip
SERVER = ("node", "journal", "background", "reads", "disk")
ROLES = (*CLIENTS, *SERVER)
WORLD = "world"
BAR_ROWS_MIN = 0.5
"""The length of the shortest bar of a disk job, in rows."""


class Row(NamedTuple):
    """One line of the page: a moment, or a gap between two."""

    moment: Moment | None
    pause: str = ""


def rows_of(selected: Sequence[Moment]) -> list[Row]:
    """Return the rows of these moments."""
    rows: list[Row] = []
    before: Moment | None = None
    for moment in selected:
        pause = pause_between(before, moment) if before is not None else ""
        if pause:
            rows.append(Row(None, pause))
        rows.append(Row(moment))
        before = moment
    return rows


def lanes_of(selected: Sequence[Moment]) -> list[str]:
    """Return the lanes that have moments, clients first, then each machine's. A client's call needs its node."""
    named = {moment.lane for moment in selected if moment.lane != WORLD}
    named |= {moment.exchange.node for moment in selected if moment.exchange is not None}
    named |= {moment.work.node for moment in selected if moment.work is not None}
    return sorted(named, key=_lane_order)


def _lane_order(lane: str) -> tuple[int, int, int]:
    role, _, number = lane.partition(" ")
    if role in SERVER:
        return len(CLIENTS), int(number), SERVER.index(role)
    return CLIENTS.index(role), int(number or 0), 0


def group_of(moment: Moment) -> str:
    """Return the group of a row, for showing and hiding."""
    if moment.exchange is None:
        return "disk" if moment.kind is Kind.JOB else "log" if moment.kind is Kind.LOG else "faults"
    match moment.exchange.request:
        case Publish():
            return "publishes"
        case Fetch() | Subscribe():
            return "deliveries"
        case Ack():
            return "acks"
        case request:
            return "changes" if isinstance(request, (*STREAM_CHANGES, *CONSUMER_CHANGES)) else "reads"


class Scale:
    """The scale of virtual time: the vertical places of moments."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._places = {row.moment.index: place + 0.5 for place, row in enumerate(rows) if row.moment is not None}
        self._times = [row.moment.at_ns for row in rows if row.moment is not None]
        self._order = list(self._places.values())

    def of(self, moment: Moment) -> float:
        """Return the vertical place of a moment, selected or not."""
        place = self._places.get(moment.index)
        return self.at(moment.at_ns) if place is None else place

    def at(self, time_ns: int) -> float:
        """Return the vertical place of a time: its first row, or in proportion between two rows."""
        index = bisect_left(self._times, time_ns)
        if index == 0:
            return 0.0 if self._times and time_ns < self._times[0] else 0.5
        if index == len(self._times):
            return self._order[-1]
        before, after = self._times[index - 1], self._times[index]
        part = (time_ns - before) / (after - before)
        return self._order[index - 1] + part * (self._order[index] - self._order[index - 1])


class Diagram:
    """Draws the rows of a timeline. `x` is the middle of each lane."""

    def __init__(self, moments: Sequence[Moment], rows: Sequence[Row], lane_px: int) -> None:
        self.rows = rows
        selected = [row.moment for row in rows if row.moment is not None]
        self.lanes = lanes_of(selected)
        self.x = {lane: lane_px * (index + 0.5) for index, lane in enumerate(self.lanes)}
        self.width = lane_px * len(self.lanes)
        self.scale = Scale(rows)
        self.drawing = Drawing()
        self._selected = {moment.index for moment in selected}
        for lane in self.lanes:
            self._lifeline(lane, moments)
        for place, row in enumerate(rows):
            if row.moment is not None:
                self._row(place, row.moment)

    # ------------------------------------------------------------ lifelines

    def _lifeline(self, lane: str, moments: Sequence[Moment]) -> None:
        x, end = self.x[lane], float(len(self.rows))
        role, _, number = lane.partition(" ")
        if role not in SERVER or role == "disk":
            self.drawing.line(x, 0, x, end, "life")
            return
        for since_ns, until_ns, state in states(moments, f"node {number}", self.scale.of, end):
            if role == "node":
                self.drawing.bar(x, 6, since_ns, until_ns, state)
            else:
                self.drawing.line(x, since_ns, x, until_ns, "life")

    # ------------------------------------------------------------ rows

    def _row(self, place: int, moment: Moment) -> None:
        if moment.kind in (Kind.ACT, Kind.VERDICT):
            self.drawing.line(0, place + 0.5, self.width, place + 0.5, moment.kind.value, place)
        elif moment.exchange is not None:
            self._exchange(place, moment, moment.exchange)
        elif moment.work is not None:
            self._work(place, moment, moment.work)
        else:
            self._happening(place, moment)

    def _exchange(self, place: int, moment: Moment, exchange: Exchange) -> None:
        draw, at = self.drawing, place + 0.5
        here, node = self.x[moment.lane], self.x[exchange.node]
        match moment.kind:
            case Kind.CALL:
                self._call(place, moment, exchange)
            case Kind.LOST | Kind.CANCEL:
                draw.mark(here, at, "cross", "lost" if moment.kind is Kind.LOST else "quiet", place)
                self._waited(place, exchange)
            case Kind.CREDIT:
                draw.mark(here, at, "square", "quiet", place)
            case _:
                css = answer_class(moment)
                draw.arrow(node, at, here, at, css, place)
                if moment.kind is Kind.ANSWER:
                    self._waited(place, exchange)

    def _call(self, place: int, moment: Moment, exchange: Exchange) -> None:
        draw, at = self.drawing, place + 0.5
        here, node = self.x[moment.lane], self.x[exchange.node]
        last = exchange.moments[-1]
        if exchange.received_ns < 0:
            middle = (here + node) / 2
            draw.line(here, at, middle, at, "call", place)
            draw.mark(middle, at, "cross", "lost", place)
        else:
            later = self.scale.at(exchange.received_ns) if exchange.received_ns > exchange.asked_ns else at
            end = max(at, min(later, self.scale.of(last), at + 1.4))
            draw.arrow(here, at, node, end, "call", place)
        draw.mark(here, at, "ring", "asks", place)

    def _waited(self, place: int, exchange: Exchange) -> None:
        call = exchange.moments[0]
        if call.index in self._selected:
            self.drawing.bar(self.x[exchange.lane], 4, self.scale.of(call), place + 0.5, "waits", place)

    def _work(self, place: int, moment: Moment, work: Work) -> None:
        draw, x, node = self.drawing, self.x[work.lane], self.x[work.node]
        end = self.scale.at(work.ended_ns) if moment.kind is Kind.CUT else place + 0.5
        begin = min(self.scale.at(work.begun_ns), end - BAR_ROWS_MIN)
        for part, since, until in self._parts(work, begin, end):
            draw.bar(x, 10, since, until, "sync" if isinstance(part.op, SyncFile | SyncDir) else "write", place)
        if work.lane.startswith("journal"):
            draw.line(node, begin, x - 5, begin, "hands", place)
            if moment.kind is Kind.JOB:
                draw.line(x - 5, end, node, end, "hands", place)
        if moment.kind is Kind.CUT:
            draw.mark(x, end, "cross", "crash", place)
        elif moment.kind is Kind.FAILURE:
            draw.mark(x, end, "diamond", "fault", place)

    def _parts(self, work: Work, begin: float, end: float) -> Iterator[tuple[Part, float, float]]:
        """Yield every operation with its part of the bar; in short bars each has its share of the time."""
        whole_ns = max(1, work.ended_ns - work.begun_ns)
        stretched = end - begin > BAR_ROWS_MIN
        since = begin
        for part in work.parts:
            ended_ns = part.ended_ns if part.ended_ns >= 0 else work.ended_ns
            until = (
                self.scale.at(ended_ns) if stretched else begin + (end - begin) * (ended_ns - work.begun_ns) / whole_ns
            )
            until = end if part is work.parts[-1] else min(max(until, since), end)
            yield part, since, until
            since = until

    def _happening(self, place: int, moment: Moment) -> None:
        draw, x, at = self.drawing, self.x[moment.lane], place + 0.5
        match moment.kind:
            case Kind.FAULT if moment.fault in STOPS:
                lanes = [self.x[lane] for lane in self.lanes if lane.partition(" ")[0] in SERVER]
                draw.line(min(lanes) - 12, at, max(lanes) + 12, at, "crash", place)
                draw.mark(x, at, "cross", "crash", place)
            case Kind.REFUSED | Kind.HALT:
                draw.mark(x, at, "cross", "crash", place)
            case Kind.LOSS:
                draw.mark(x, at, "triangle", "fault", place)
            case Kind.START:
                draw.mark(x, at, "ring", "boots", place)
            case Kind.UP:
                draw.mark(x, at, "dot", "rises", place)
            case Kind.LOG:
                draw.mark(x, at, "square", "quiet", place)
            case _:
                draw.mark(x, at, "diamond", "fault", place)


def answer_class(moment: Moment) -> str:
    """Return the CSS class of an answer, for its colour."""
    if moment.kind is Kind.DELIVERY:
        return "delivers"
    if moment.kind is not Kind.ANSWER or moment.exchange is None:
        return "reply"
    if not moment.text.startswith("ok"):
        return "refuses"
    request = moment.exchange.request
    return "confirms" if isinstance(request, CHANGING) else "delivers" if isinstance(request, Fetch) else "reply"


def states(
    moments: Sequence[Moment], node: str, place: Callable[[Moment], float], end: float
) -> Iterator[tuple[float, float, str]]:  # fmt: skip
    """Yield the times when a process was up and when it was recovering, as parts of its lane; in between it was
    down."""
    since, state = 0.0, ""
    for moment in moments:
        if moment.lane != node:
            continue
        turned = {Kind.START: "boot", Kind.UP: "up", Kind.REFUSED: ""}.get(moment.kind)
        if moment.kind is Kind.FAULT and moment.fault in STOPS:
            turned = ""
        if turned is None:
            continue
        at = place(moment)
        if state and at > since:
            yield since, at, state
        since, state = at, turned
    if state and end > since:
        yield since, end, state

"""A timeline as text: a head, then one line a moment with virtual time, lane and event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from waymaker_sim.kernel.events import SECOND
from waymaker_sim.timeline.record import Kind, Moment
from waymaker_sim.timeline.timeline import Timeline
from waymaker_sim.timeline.words import brief_request, duration, printable, seconds

SIGNS = {
    Kind.CALL: ">",
    Kind.ANSWER: "<",
    Kind.DELIVERY: "<",
    Kind.NOTICE: "<",
    Kind.END: "<",
    Kind.LOST: "x",
    Kind.CANCEL: "x",
    Kind.CREDIT: ">",
    Kind.JOB: "=",
    Kind.CUT: "!",
    Kind.FAILURE: "!",
    Kind.LOSS: "!",
    Kind.FAULT: "!",
    Kind.HALT: "!",
    Kind.START: "*",
    Kind.UP: "*",
    Kind.REFUSED: "!",
    Kind.LOG: "*",
    Kind.ACT: "#",
    Kind.VERDICT: "#",
}
HEAD_COLUMNS = 120
PAUSE_NS = SECOND
"""A gap of this length gets a line."""


def parts_of(moment: Moment) -> tuple[str, str]:
    """Return the event, and its context: an answer names its call and its duration."""
    exchange, text = moment.exchange, printable(moment.text)
    if exchange is None or moment.kind is Kind.CALL:
        return text, ""
    request = printable(brief_request(exchange.request))
    if moment.kind is Kind.ANSWER:
        took_ns = moment.at_ns - exchange.asked_ns
        request += f", {duration(took_ns)}" if took_ns else ", at once"
    return text, f"[{request}]"


def pause_between(before: Moment, after: Moment) -> str:
    """Return a line for the gap between two moments; empty if it is short."""
    apart_ns, between = after.at_ns - before.at_ns, after.index - before.index - 1
    if apart_ns < PAUSE_NS:
        return ""
    left_out = f", {between:,} event{'' if between == 1 else 's'} left out" if between else ""
    return f"{duration(apart_ns)} later{left_out}"


def head_of(timeline: Timeline) -> list[tuple[str, str]]:
    """Return the summary, as names and texts."""
    report = timeline.report
    name = f"seed {report.seed}" + (f", with the mutant {timeline.mutant}" if timeline.mutant else "")
    verdict = (
        f"{report.kind()} violated after {duration(report.virtual_ns)}: {report.check}" if report.check else "clean"
    )
    head = [("run", name), ("verdict", verdict)]
    if report.check:
        head += [("rule", timeline.rule()), ("seen", report.detail)]
    return [(name, printable(text)) for name, text in [*head, ("world", timeline.plan)]]


def extent_of(timeline: Timeline, selected: Sequence[Moment], left_out: int = 0) -> str:
    """Say how much of the run is shown; `left_out` moments before the first one were left out."""
    whole = len(timeline.moments)
    if len(selected) + left_out == whole:
        return f"the last {len(selected):,} of {whole:,} events" if left_out else f"all {whole:,} events"
    what = str(timeline.about) or (
        "what came last" if timeline.report.check else "what was created, changed and deleted"
    )
    most = f", the last {len(selected):,} of {len(selected) + left_out:,}" if left_out else f": {len(selected):,}"
    return f"{what}, and the faults around{most} of {whole:,} events"


def lines_of(timeline: Timeline, selected: Sequence[Moment]) -> Iterator[str]:
    """Yield all lines."""
    for name, text in [*head_of(timeline), ("told", extent_of(timeline, selected))]:
        yield from wrap(f"{name + ':':<9}{text}", HEAD_COLUMNS, subsequent_indent=" " * 9)
    yield ""
    width = max((len(moment.lane) for moment in selected), default=0)
    before: Moment | None = None
    for moment in selected:
        if before is not None and (pause := pause_between(before, moment)):
            yield f"{'...':>12}  {'':<{width}}    {pause}"
        line = " ".join(part for part in parts_of(moment) if part)
        yield f"{seconds(moment.at_ns):>12}  {moment.lane:<{width}}  {SIGNS[moment.kind]} {line}"
        before = moment

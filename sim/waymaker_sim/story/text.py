"""A story as text: a head, then one line a moment with virtual time, lane and what happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from waymaker_sim.events import SECOND
from waymaker_sim.story.record import Kind, Moment
from waymaker_sim.story.story import Story
from waymaker_sim.story.words import brief_request, duration, printable, seconds

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
PAUSE_NS = SECOND
"""Where nothing is told for so long, a line says so."""


def line_of(moment: Moment) -> str:
    """What happened, complete in itself: an answer names its question and how long it took."""
    exchange = moment.exchange
    if exchange is None or moment.kind is Kind.CALL:
        return printable(moment.text)
    if moment.kind is Kind.ANSWER:
        took = duration(moment.at_ns - exchange.asked_ns)
        return printable(f"{moment.text} [{brief_request(exchange.request)}, {took}]")
    return printable(f"{moment.text} [{brief_request(exchange.request)}]")


def pause_between(before: Moment, after: Moment) -> str:
    """What is left out between two moments, if it is worth a line."""
    apart_ns, between = after.at_ns - before.at_ns, after.index - before.index - 1
    if apart_ns < PAUSE_NS:
        return ""
    return f"{duration(apart_ns)} later" + (f", {between:,} events left out" if between else "")


def head_of(story: Story) -> list[tuple[str, str]]:
    """The summary, as names and texts."""
    report = story.report
    name = f"seed {report.seed}" + (f", with the mutant {story.mutant}" if story.mutant else "")
    verdict = (
        f"{report.kind()} violated after {duration(report.virtual_ns)}: {report.check}" if report.check else "clean"
    )
    head = [("run", name), ("verdict", verdict)]
    if report.check:
        head += [("rule", story.rule()), ("seen", printable(report.detail))]
    return [*head, ("world", story.plan)]


def told_of(story: Story, told: Sequence[Moment]) -> str:
    """How much of the run is told."""
    if len(told) == len(story.moments):
        return f"all {len(told):,} events"
    subjects = str(story.about)
    what = f"{subjects}, and the faults around" if subjects else "what came last, and the faults around"
    return f"{what}: {len(told):,} of {len(story.moments):,} events"


def tell(story: Story, told: Sequence[Moment]) -> Iterator[str]:
    """All lines."""
    for name, text in [*head_of(story), ("told", told_of(story, told))]:
        yield f"{name + ':':<9}{text}"
    yield ""
    width = max((len(moment.lane) for moment in told), default=0)
    before: Moment | None = None
    for moment in told:
        if before is not None and (pause := pause_between(before, moment)):
            yield f"{'...':>12}  {'':<{width}}    {pause}"
        yield f"{seconds(moment.at_ns):>12}  {moment.lane:<{width}}  {SIGNS[moment.kind]} {line_of(moment)}"
        before = moment

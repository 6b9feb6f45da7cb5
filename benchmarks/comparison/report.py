"""A comparison as a page's section, as JSON, and as pictures; and how they get into the documentation.

The section stands between two marks, each a line of its own. What stands outside them is written by people, and stays.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.comparison.charts import Panel, svg
from benchmarks.comparison.rounds import NATS_NO_SYNC, OURS, Comparison
from benchmarks.comparison.works import (
    CURVE_FETCH,
    CURVE_FETCHERS,
    KEY_WORKS,
    ONE,
    TASKS,
    Load,
    Measured,
    cell,
    cells,
    size_text,
)

BEGIN: Final = "<!-- written by make bench: begin -->"
END: Final = "<!-- written by make bench: end -->"
FIGURES: Final = "figures.json"
FORMAT: Final = 1
NOTHING: Final = "–"
CURVE_TEXTS: Final = {
    "connections": ("connections, one publish at a time on each", "messages/s", "ms from call to confirmation"),
    "streams": (f"streams, {TASKS} tasks that wait", "messages/s", "ms from call to confirmation"),
    "subjects": (f"subjects of a stream, {TASKS} tasks that wait", "messages/s", "ms from call to confirmation"),
    "consumers": (
        f"consumers of a stream, {CURVE_FETCHERS} tasks that fetch and ack {CURVE_FETCH}",
        "messages/s",
        "ms of a fetch and its acks",
    ),
}


def median_of(rounds: Sequence[Measured], key: str) -> float | None:
    """Return the median of the rounds; None where there is none."""
    values = [value for measured in rounds if isinstance(value := measured.get(key), int | float)]
    return statistics.median(values) if values else None


def number(value: float) -> str:
    """Write a figure: whole from 100 on, else with two digits behind the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


# ------------------------------------------------------------------------------------ text


def section(found: Comparison, load: Load, around: Mapping[str, str], pictures: str) -> str:
    """Write the section; `pictures` is the path of the pictures' folder, seen from the page."""
    names = list(found.table)
    wanted = f" of {found.rounds_wanted}" if found.rounds < found.rounds_wanted else ""
    done = f"{found.rounds}{wanted} round{'s' * (found.rounds_wanted > 1)}"
    lines = [
        f"Measured {around['date']} in {done} and {found.took_s / 60:.1f} minutes.",
        "",
        *(f"- {name}: {value}" for name, value in around.items() if name != "date"),
        "",
        f"Messages or calls a second: medians of the rounds, and their range. `{OURS}` is the Python client; its server",
        "syncs before it answers. `bare` is the same server's protocol without a client library. The second column is the rate",
        f"of the Python client as a multiple of {NATS_NO_SYNC}.",
        "",
        *_table(["Work", f"of {NATS_NO_SYNC}", *names], _rate_rows(found, load, names)),
        "",
        "One call at a time, in milliseconds: p50 / p99, medians of the rounds.",
        "",
        *_table(["Work", *names], _duration_rows(found, load, names)),
        "",
        *(f"![Rate and p99 over {curve}]({pictures}/{curve}.svg)" for curve in load.curves),
        *_noted("Not measured, for the preparation takes too long", found.left_out),
        *_noted("Failed", found.failed),
        "",
        f"The figures of each round: [{FIGURES}]({pictures}/{FIGURES}).",
    ]
    return "\n".join(lines)


def _noted(text: str, things: Sequence[str]) -> list[str]:
    return ["", f"{text}: {'; '.join(things)}."] if things else []


def _table(head: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _rate_rows(found: Comparison, load: Load, names: Sequence[str]) -> Iterator[list[str]]:
    for work, size in cells(load):
        name = cell(work, size)
        medians = {each: median_of(found.table[each].get(name, ()), "rate") for each in names}
        ours, base = medians.get(OURS), medians.get(NATS_NO_SYNC)
        yield [
            f"{work}, {size_text(size)}",
            f"{ours / base:.2f}" if ours and base else NOTHING,
            *(_with_range(found.table[each].get(name, ()), medians[each]) for each in names),
        ]


def _with_range(rounds: Sequence[Measured], median: float | None) -> str:
    if median is None:
        return NOTHING
    rates = [measured["rate"] for measured in rounds]
    return number(median) if len(rates) == 1 else f"{number(median)} ({number(min(rates))} to {number(max(rates))})"


def _duration_rows(found: Comparison, load: Load, names: Sequence[str]) -> Iterator[list[str]]:
    for work, size in cells(load):
        if work in (ONE, *KEY_WORKS):
            yield [cell(work, size), *(_durations(found.table[each].get(cell(work, size), ())) for each in names)]


def _durations(rounds: Sequence[Measured]) -> str:
    p50, p99 = median_of(rounds, "p50_ms"), median_of(rounds, "p99_ms")
    return NOTHING if p50 is None or p99 is None else f"{number(p50)} / {number(p99)}"


# ------------------------------------------------------------------------------------ pictures and raw figures


def picture(found: Comparison, curve: str, points: Sequence[int]) -> str:
    """Draw a curve: the rate beside the 99th percentile of the durations, medians of the rounds."""
    over, rate_unit, duration_unit = CURVE_TEXTS[curve]
    panels = []
    for title, unit, key in ((f"Rate over {curve}", rate_unit, "rate"), (f"p99 over {curve}", duration_unit, "p99_ms")):
        lines = {}
        for name, cells_ in found.curves.items():
            medians = [(point, median_of(cells_.get(f"{curve} {point}", ()), key)) for point in points]
            if line := [(float(point), value) for point, value in medians if value]:
                lines[name] = line
        panels.append(Panel(title, over, unit, lines))
    return svg(panels)


def raw(found: Comparison, around: Mapping[str, str]) -> str:
    """Return the figures of each round as JSON."""
    whole = {
        "format": FORMAT,
        "circumstances": dict(around),
        "rounds": found.rounds,
        "took_s": round(found.took_s, 1),
        "table": found.table,
        "curves": found.curves,
        "left_out": found.left_out,
        "failed": found.failed,
    }
    return json.dumps(whole, indent=1) + "\n"


# ------------------------------------------------------------------------------------ files


class MarksMissing(ValueError):
    """A page without its two marks, or with more of them, or in the wrong order."""


def replaced(page: str, text: str) -> str:
    """Return a page with a text between its marks. Raises `MarksMissing`."""
    lines = page.splitlines()
    places = [[place for place, line in enumerate(lines) if line.strip() == mark] for mark in (BEGIN, END)]
    if [len(found) for found in places] != [1, 1] or places[0][0] > places[1][0]:
        raise MarksMissing(f"the page needs the line {BEGIN!r} once, and {END!r} once below it")
    before, after = lines[: places[0][0] + 1], lines[places[1][0] :]
    return "\n".join([*before, "", *text.splitlines(), "", *after]) + "\n"


def write(found: Comparison, load: Load, around: Mapping[str, str], page: Path, folder: Path) -> list[Path]:
    """Write the section into the page, raw figures and pictures into the folder; return what was written."""
    pictures = os.path.relpath(folder, page.parent)
    text = replaced(page.read_text(), section(found, load, around, pictures))
    folder.mkdir(parents=True, exist_ok=True)
    contents = {folder / f"{curve}.svg": picture(found, curve, points) for curve, points in load.curves.items()}
    contents[folder / FIGURES] = raw(found, around)
    contents[page] = text
    for path, content in contents.items():
        _write(path, content)
    return list(contents)


def _write(path: Path, content: str) -> None:
    """Replace a file as a whole: a run that is ended meanwhile leaves the old one or the new one."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(content)
    beside.replace(path)

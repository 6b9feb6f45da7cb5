"""Timelines of runs: the decisive events in order, the same bytes every time, nothing of a run that becomes markup, and a run
that is the same with and without an observer.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

from waymaker_core.api.requests import Publish, ReadRange
from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_sim.cli.command import sim
from waymaker_sim.clients.client_view import ClientView, ConsumerName
from waymaker_sim.history.history import Group, History
from waymaker_sim.kernel import checks
from waymaker_sim.kernel.checks import listed
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.events import Events
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.process import Process
from waymaker_sim.search.cases import from_text
from waymaker_sim.timeline.about import About, find_subjects
from waymaker_sim.timeline.diagram import ROLES, WORLD, rows_of, states
from waymaker_sim.timeline.page import page
from waymaker_sim.timeline.record import Exchange, Kind, Moment
from waymaker_sim.timeline.recorder import Recorder
from waymaker_sim.timeline.selection import select
from waymaker_sim.timeline.text import lines_of, parts_of
from waymaker_sim.timeline.timeline import Timeline, record_run
from waymaker_sim.timeline.words import describe_request, printable, sequences
from waymaker_sim.world.run import run_tape

TIMELINES = Path(__file__).parent / "timelines"
REDELIVERED = TIMELINES / "redelivered-after-restart.json"
GONE = TIMELINES / "stream-gone-after-restart.json"
EVENTFUL_SEED = 4
"""A short run with many stops."""
MANY_CLIENTS_SEED = 730998
"""A short run with producers, and with all clients of keys."""


def timeline_of(path: Path) -> Timeline:
    case = from_text(path.read_text())
    timeline = record_run(Tape(case.seed, case.tracks), case.mutant)
    assert timeline.report.check == case.check, f"{path.name} shows something else now: {timeline.report}"
    return timeline


def text_of(timeline: Timeline, everything: bool = False) -> str:
    return "\n".join(lines_of(timeline, timeline.moments if everything else select(timeline)))


def assert_in_order(text: str, *patterns: str) -> None:
    """Every pattern matches, each one after the match of the one before."""
    at = 0
    for pattern in patterns:
        found = re.compile(pattern, re.MULTILINE).search(text, at)
        assert found is not None, f"{pattern!r} does not follow in\n{text[at:]}"
        at = found.end()


@pytest.fixture(scope="module")
def redelivered() -> Timeline:
    return timeline_of(REDELIVERED)


@pytest.fixture(scope="module")
def gone() -> Timeline:
    return timeline_of(GONE)


@pytest.fixture(scope="module")
def eventful() -> Timeline:
    return record_run(Tape(EVENTFUL_SEED))


# ---------------------------------------------------------------- what is told


def test_a_redelivered_message_is_shown_from_its_publish_to_its_redelivery(redelivered: Timeline) -> None:
    assert_in_order(
        text_of(redelivered),
        r"^verdict: safety violated after .*: no redelivery after ack$",
        r"^rule: +after a confirmed ack or term",
        r"^told: +s0, consumer c0, sequence 2, and the faults around: \d+ of \d+ events$",
        r"administrator +> create stream s0",
        r"administrator +< ok \[create stream s0",
        r"administrator +> create consumer s0/c0",
        r"publisher 0 +> publish to s0: a\.x",
        r"journal 1 += write .*, sync it ",
        r"publisher 0 +< ok: 1\.\.9 ",
        r"worker 0 +< 2 \[subscription to s0/c0\]",
        r"worker 0 +> ack 2 of s0/c0$",
        r"journal 1 += write .*, sync it ",
        r"worker 0 +< ok \[ack 2 of s0/c0, ",
        r"journal 1 +! write .* fails: io: journal/\S+ at \d+: simulated: write error",
        r"node 1 +! the node halts",
        r"node 1 +\* start 2: recovery",
        r"node 1 +\* up: recovery took",
        r"node 1 +\* opened: streams 1, ",
        r"worker 0 +> fetch 20 from s0/c0$",
        r"worker 0 +< ok: 2, ",
        r"world +# no redelivery after ack: s0/c0 seq 2: 1\. time\Z",
    )


def test_a_lost_stream_is_shown_with_the_checkpoint_that_forgot_it(gone: Timeline) -> None:
    assert_in_order(
        text_of(gone),
        r"^told: +s0, and the faults around",
        r"administrator +> create stream s0",
        r"administrator +< ok \[create stream s0",
        r"publisher \d +< ok: \d+ ",
        r"background 1 += .*rename MANIFEST\.new to MANIFEST",
        r"node 1 +! the process is killed$",
        r"node 1 +\* start 2",
        r"node 1 +\* opened: streams 0, ",
        r"publisher \d +> publish to s0",
        r"publisher \d +< no_such_stream",
        r"world +# acked survives: s0 exists",
    )


def test_only_what_matters_is_shown_and_everything_on_demand(gone: Timeline) -> None:
    told = select(gone)
    assert len(told) < len(gone.moments) / 3
    assert [moment.index for moment in told] == sorted({moment.index for moment in told})
    streams = {moment.exchange.stream for moment in told if moment.exchange is not None}
    assert streams == {"s0"}
    lines = text_of(gone, everything=True).splitlines()
    assert sum(bool(re.match(r" *\d+\.\d{6}  ", line)) for line in lines) == len(gone.moments)


def test_a_clean_run_is_shown_by_what_was_created_and_what_failed(eventful: Timeline) -> None:
    assert eventful.report.clean(), eventful.report
    text = text_of(eventful)
    assert "verdict: clean" in text
    assert_in_order(
        text,
        r"create stream s\d",
        r"! the process is killed|loses power",
        r"start \d+: recovery",
        r"# nothing was violated\Z",
    )


def test_subjects_can_be_asked_for() -> None:
    case = from_text(GONE.read_text())
    timeline = record_run(Tape(case.seed, case.tracks), case.mutant, "s0 seq 80")
    assert timeline.about == About("s0", seqs=frozenset({80}), subjects=frozenset({(80, "a.x")}))
    assert re.search(r"publisher \d +< ok: 80 ", text_of(timeline))
    assert not re.search(r"publisher \d +< ok: 85 ", text_of(timeline))


def test_every_actor_has_a_lane_and_every_machine_its_own(eventful: Timeline) -> None:
    lanes = {moment.lane for moment in eventful.moments}
    assert {lane.partition(" ")[0] for lane in lanes} <= {*ROLES, WORLD}
    assert {
        "administrator",
        "audit",
        "publisher 0",
        "worker 0",
        "reader 0",
        "node 1",
        "journal 1",
        "background 1",
    } <= lanes


def test_clients_that_call_from_inside_a_method_have_lanes_of_their_own() -> None:
    lanes = {moment.lane for moment in record_run(Tape(MANY_CLIENTS_SEED)).moments}
    assert {lane.partition(" ")[0] for lane in lanes} <= {*ROLES, WORLD}
    assert {"producer 0", "keys 0", "keywatcher", "latewatcher", "keyends", "keylister", "churn"} <= lanes


def test_every_call_is_shown_once_with_its_last_notification(eventful: Timeline) -> None:
    calls = [moment.exchange for moment in eventful.moments if moment.kind is Kind.CALL]
    assert len(calls) == len({id(exchange) for exchange in calls}) > 100
    last = {Kind.ANSWER, Kind.LOST, Kind.END, Kind.CANCEL}
    for exchange in calls:
        assert exchange is not None
        assert sum(moment.kind in last for moment in exchange.moments) == 1, [m.text for m in exchange.moments]
        assert exchange.moments[-1].kind in last


def test_syncs_lie_between_a_publish_and_its_confirmation(redelivered: Timeline) -> None:
    confirmed = [
        moment
        for moment in redelivered.moments
        if moment.kind is Kind.ANSWER and moment.exchange is not None and isinstance(moment.exchange.request, Publish)
    ]
    assert confirmed
    for moment in confirmed:
        exchange = moment.exchange
        assert exchange is not None
        work = exchange.settled_by
        assert work is not None
        assert exchange.received_ns <= work.submitted_ns <= work.begun_ns < work.ended_ns <= moment.at_ns


@pytest.mark.parametrize(("seen", "told"), [({79, 81}, True), (set(), True), ({79, 80, 81}, True), ({78, 79}, False)])
def test_a_read_that_misses_a_message_is_shown(seen: set[int], told: bool) -> None:
    case = from_text(GONE.read_text())
    timeline = record_run(Tape(case.seed, case.tracks), case.mutant, "s0 seq 80")
    end_ns, index = timeline.moments[-1].at_ns, len(timeline.moments) - 1
    read = Exchange("reader 0", "node 1", ReadRange("s0", 70, 20), end_ns, 1, "s0")
    answer = Moment(index, end_ns, "reader 0", Kind.ANSWER, "ok", read, None, frozenset(seen))
    read.moments.append(answer)
    job = Moment(index + 1, end_ns, "reads 1", Kind.JOB, "read")
    timeline.moments[-1:] = [answer, job, Moment(index + 2, end_ns, "world", Kind.VERDICT, "end")]
    assert (answer in select(timeline)) is told


# ---------------------------------------------------------------- the same every time


def test_the_same_run_gives_the_same_timeline_to_the_byte(redelivered: Timeline) -> None:
    again = timeline_of(REDELIVERED)
    assert text_of(again) == text_of(redelivered)
    assert text_of(again, everything=True) == text_of(redelivered, everything=True)
    assert page(again, select(again)) == page(redelivered, select(redelivered))


def test_the_order_of_hashes_changes_no_timeline() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-m", "waymaker.cli", "sim", "story", str(REDELIVERED)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, check=True, timeout=120,
        ).stdout
        for hash_seed in ("1", "2")
    }  # fmt: skip
    assert len(told) == 1
    assert b"no redelivery after ack" in told.pop()


@pytest.mark.parametrize("seed", [3, EVENTFUL_SEED])
def test_a_run_is_the_same_with_and_without_an_observer(seed: int) -> None:
    alone, watched = Digest(), Digest()
    one = run_tape(Tape(seed), alone)
    recorders: list[Recorder] = []
    other = run_tape(Tape(seed), watched, on_world=lambda world: recorders.append(Recorder(world)))
    assert recorders[0].moments
    assert alone.steps == watched.steps
    assert one == other


# ---------------------------------------------------------------- pages


class Reading(HTMLParser):
    """Takes a page apart; every element must be closed, save for those that never are."""

    VOID = ("meta", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.setdefault(self.open[-1] if self.open else "", []).append(data)


def read(text: str) -> Reading:
    reading = Reading()
    reading.feed(text)
    reading.close()
    assert reading.open == []
    return reading


def test_a_page_stands_alone(redelivered: Timeline) -> None:
    text = page(redelivered, select(redelivered))
    reading = read(text)
    for tag, attributes in reading.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "use", "image", "foreignobject")
        for name in attributes:
            assert name not in ("src", "href", "xlink:href", "srcset", "action", "background")
            assert not name.startswith("on")
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bfetch\(|XMLHttpRequest|\bimport\(|\beval\(|innerHTML", text)


def test_a_page_shows_each_moment_in_a_row_and_in_the_diagram(redelivered: Timeline) -> None:
    told = select(redelivered)
    reading = read(page(redelivered, told))
    rows = [attributes for tag, attributes in reading.elements if tag == "li"]
    assert len(rows) == len(rows_of(told))
    drawn = {int(a["data-r"] or 0) for tag, a in reading.elements if tag in ("line", "rect", "path") and "data-r" in a}
    places = {place for place, row in enumerate(rows_of(told)) if row.moment is not None}
    assert drawn == places
    classes = [str(attributes.get("class")) for _, attributes in reading.elements]
    for wanted in ("confirms", "delivers", "sync", "crash", "boot", "up", "verdict broken", "final"):
        assert wanted in classes, wanted
    assert redelivered.rule() in "".join(reading.words["p"])


def test_a_page_is_as_wide_as_its_longest_row_and_cuts_none(redelivered: Timeline) -> None:
    told = select(redelivered)
    text = page(redelivered, told)
    moments = [row.moment for row in rows_of(told) if row.moment is not None]
    longest = max(
        len(" ".join(filter(None, parts_of(moment)))) for moment in moments if moment.kind is not Kind.VERDICT
    )
    given = re.search(r"--text: (\d+)ch", text)
    assert given is not None
    assert int(given[1]) >= longest > 60
    assert "ellipsis" not in text
    assert "min-width: calc(var(--lanes) + 236px + var(--text))" in text


def test_lists_in_a_violation_are_shown_in_words() -> None:
    assert listed([]) == "none"
    assert listed(["a", 5]) == "a, 5"
    package = Path(checks.__file__).parent
    assert [found for path in sorted(package.rglob("*.py")) for found in lists_in_violations(path)] == []


def lists_in_violations(path: Path) -> list[str]:
    """Lists that stand in the text of a violation as Python writes them."""
    found = []
    for call in ast.walk(ast.parse(path.read_text())):
        if not isinstance(call, ast.Call) or getattr(call.func, "id", "") not in ("violated", "require"):
            continue
        for part in ast.walk(call):
            if isinstance(part, ast.FormattedValue) and part.conversion == -1:
                value = part.value
                listing = isinstance(value, ast.Call) and getattr(value.func, "id", "") in (
                    "list",
                    "sorted",
                    "set",
                    "dict",
                )
                cut = isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Slice)
                if listing or cut or isinstance(value, ast.List | ast.ListComp | ast.Set | ast.SetComp | ast.Dict):
                    found.append(f"{path.name}:{part.lineno}: {ast.unparse(value)}")
    return found


def test_a_process_is_missing_from_its_lane_while_it_is_down(redelivered: Timeline) -> None:
    pieces = list(states(redelivered.moments, "node 1", lambda moment: float(moment.at_ns), float("inf")))
    assert [state for _, _, state in pieces] == ["boot", "up", "boot", "up"]
    (_, first_end, _), (second_begin, _, _) = pieces[1:3]
    assert first_end < second_begin


HOSTILE = (
    '</script><script>alert("1")</script>',
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>&amp;&lt;",
    "]]><!-- --><style>@import 'x'</style>",
    "\x00\x1b[31m\u202e\u2028\ud800 ok",
)


def saying(words: str) -> Timeline:
    """Return a timeline with these words in every place for words of a run."""
    timeline = timeline_of(REDELIVERED)
    timeline.report.detail = timeline.plan = timeline.mutant = words
    for moment in timeline.moments:
        moment.text += words
        if moment.exchange is not None and moment.kind is Kind.ANSWER:
            moment.exchange.request = Publish(words, [words], [1], [1], b"x")
    return timeline


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_of_a_run_becomes_markup(hostile: str) -> None:
    timeline = saying("plain")
    plain = read(page(timeline, timeline.moments))
    timeline = saying(hostile)
    told = page(timeline, timeline.moments)
    told.encode()
    reading = read(told)
    assert [(tag, sorted(a)) for tag, a in reading.elements] == [(tag, sorted(a)) for tag, a in plain.elements]
    shown = "".join(reading.words["span"])
    assert shown.count(printable(hostile)) > len(timeline.moments)
    lines = "\n".join(lines_of(timeline, timeline.moments))
    assert all(char.isprintable() or char == "\n" for char in lines)


def test_a_window_says_what_it_leaves_out(eventful: Timeline) -> None:
    shown = eventful.moments[-100:]
    reading = read(page(eventful, shown, len(eventful.moments) - 100))
    note = next(words for words in reading.words["p"] if words.startswith("Told: "))
    assert f"the last 100 of {len(eventful.moments):,} events" in note
    assert sum(tag == "li" and "pause" not in str(a.get("class")) for tag, a in reading.elements) == 100


# ---------------------------------------------------------------- words and subjects


def view() -> ClientView:
    found = ClientView(Events(), cast(Process, None), History(), ["s0", "s1"])
    incarnation = found.history.begin_incarnation("s0", StreamConfig("s0"))
    found.streams["s0"].incarnation = incarnation
    for number in range(1, 10):
        attempt = found.history.attempt("s0", incarnation, "a", b"%d" % number, 1, -1, 1, True, 0)
        attempt.seq = number
        incarnation.at[number] = attempt
    group = Group(incarnation, ConsumerConfig("c1", deliver_group="g"), 0)
    incarnation.groups.append(group)
    for name in ("c1", "c2"):
        found.streams["s0"].consumers[name] = ConsumerName(name, group)
    found.streams["s0"].consumers["c3"] = ConsumerName("c3", None)
    return found


@pytest.mark.parametrize(
    ("detail", "stream", "consumers", "seqs"),
    [
        ("s0 (life 2) seq 5 was confirmed and is not there", "s0", "", {5}),
        ("s0/c1 seq 6: 4. time", "s0", "c1 c2", {6}),
        ("s0/c3 seq 7: delivery 3 twice", "s0", "c3", {7}),
        ("s0 7 expected 3, found 4", "s0", "", {3, 4, 7}),
        ("s0 seq 8 and 5: both of 2", "s0", "", {8, 5, 2}),
        ("attempt 4 was seen at 4 and confirmed at 9", "s0", "", {4, 9}),
        ("s0 seq 5 holds attempt 2, already at 2", "s0", "", {5, 2}),
        ("s0 seq 5 was b'8' and is b'seq 7'", "s0", "", {5}),
        ("s0: [(8, 1), (6, 2)]", "s0", "", {8, 6}),
        ("s0 exists and GetStreamInfo says Answer('ok', 'x', None)", "s0", "", set()),
        ("nobody created all of ['x']", "", "", set()),
    ],
)
def test_the_subjects_of_a_violation_are_found(detail: str, stream: str, consumers: str, seqs: set[int]) -> None:
    about = find_subjects(detail, view())
    assert (about.stream, sorted(about.consumers), set(about.seqs)) == (stream, consumers.split(), seqs)


def test_files_of_a_violation_are_found() -> None:
    about = find_subjects("refused to start: journal/0000000000000037.seg at offset 0: damaged; rotten: []", view())
    assert about == About(paths=frozenset({"journal/0000000000000037.seg"}))


def test_words() -> None:
    assert sequences([1, 2, 3, 7, 9, 10]) == "1..3, 7, 9..10"
    assert sequences(range(1, 30, 2)) == "1, 3, 5, 7, 9, 11 and 9 more"
    request = Publish("s0", ["a", "b"], [1, 1], [1, 1], b"xy", None, [-1, 4])
    assert describe_request(request) == "publish to s0: a, b (expects 4)"
    assert printable("a\nb\x1b") == "a\\nb\\x1b"


# ---------------------------------------------------------------- the command


def test_the_command_prints_a_case_and_writes_a_page(tmp_path: Path) -> None:
    result = CliRunner().invoke(sim, ["story", str(REDELIVERED)])
    assert result.exit_code == 0, result.output
    assert "no redelivery after ack" in result.output
    target = tmp_path / "story.html"
    result = CliRunner().invoke(sim, ["story", str(REDELIVERED), "--all", "--events", "50", "--html", str(target)])
    assert result.exit_code == 0, result.output
    assert "the last 50 of" in result.output
    assert sum(tag == "li" for tag, _ in read(target.read_text()).elements) >= 50


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["story"], "either a saved case or --seed"),
        (["story", "--seed", "1", "--mutant", "none such"], "no mutant"),
        (["story", __file__], "not a case"),
    ],
)
def test_a_wrong_order_for_a_timeline_is_refused_in_words(words: list[str], problem: str) -> None:
    result = CliRunner().invoke(sim, words)
    assert result.exit_code == 2
    assert problem in result.output

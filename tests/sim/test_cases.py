"""Saved cases: the format says all there is to a run and refuses what it does not know, the command replays and shrinks, and
the cases of bugs that are gone stay clean.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.past_bugs import PAST_BUGS
from waymaker_sim.cli.command import sim
from waymaker_sim.cli.reporting import EXIT_CODES
from waymaker_sim.kernel.checks import CHECKS
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.search.cases import FORMAT, OF_CLUSTERS, Case, CaseRefused, code_digest, from_text, made, to_text
from waymaker_sim.search.shrink import flat, nested
from waymaker_sim.world.run import run_tape

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))
EARLY = "answer-early"

PLACES = st.tuples(st.text(max_size=5), st.integers(0, 99), st.text(max_size=5), st.integers(0, 9))
TRACKS = st.dictionaries(PLACES, st.integers(1, 1 << 45), max_size=20).map(nested)


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_fixed_bug_stays_fixed(path: Path) -> None:
    case = from_text(path.read_text())
    report = case.run(mutant="")
    assert report.clean(), f"{report.check}: {report.detail}"
    assert case.about


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_case_still_fails_where_its_bug_is_made_anew(path: Path) -> None:
    case = from_text(path.read_text())
    with PAST_BUGS[path.stem].planted():
        assert case.run(mutant="").check == case.check


def test_every_bug_that_can_be_made_anew_has_its_case() -> None:
    assert {path.stem for path in CASES} == PAST_BUGS.keys()


# ---------------------------------------------------------------- the format


@given(TRACKS, st.integers(0, 1 << 60), st.text(), st.sampled_from(["", EARLY]))
def test_what_is_written_is_read_again(tracks: Any, seed: int, detail: str, mutant: str) -> None:
    case = Case(tracks, seed, mutant, "acked survives", detail, "12", "34", "why")
    text = to_text(case)
    assert from_text(text) == case
    assert to_text(from_text(text)) == text


def test_a_whole_run_survives_being_saved() -> None:
    tape = Tape(7)
    before = run_tape(tape)
    case = made(7, tape.saved())
    again = from_text(to_text(case)).run()
    assert (again.asked, again.virtual_ns, again.marks) == (before.asked, before.virtual_ns, before.marks)
    assert again.digest == case.digest
    assert case.code == code_digest() != ""


def test_zeros_in_a_row_are_counted() -> None:
    text = to_text(Case({"t": {1: {"a": [0, 5, 0, 0, 0, 7]}}}))
    assert '"a": [0, 5, -3, 7]' in text
    assert flat(from_text(text).tracks) == {("t", 1, "a", 1): 5, ("t", 1, "a", 5): 7}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda c: c.update(version=OF_CLUSTERS + 1), "version 3 of the format is not known"),
        (lambda c: c.update(nodes="many"), "no number of nodes"),
        (lambda c: c.update(nodes="3..99"), "1 to 7 nodes"),
        (lambda c: c.update(format="another"), f"format is not {FORMAT!r}"),
        (lambda c: c.update(check="none such"), "no check 'none such'"),
        (lambda c: c.update(mutant="none such"), "no mutant 'none such'"),
        (lambda c: c.update(seed="1"), "seed is not a number"),
        (lambda c: c.pop("tracks"), "tracks are missing"),
        (lambda c: c.update(tracks={"t": {"x": {}}}), "not numbered"),
        (lambda c: c.update(tracks={"t": {"1": {"a": ["b"]}}}), "not integers"),
    ],
)
def test_what_is_no_case_is_refused_in_words(spoil: Callable[[dict[str, Any]], Any], problem: str) -> None:
    content = json.loads(to_text(Case({})))
    spoil(content)
    with pytest.raises(CaseRefused, match=problem):
        from_text(json.dumps(content))


# ---------------------------------------------------------------- the command


def failing() -> Case:
    """The first seed that notices a planted bug."""
    for seed in range(1, 10):
        tape = Tape(seed)
        if not run_tape(tape, mutant=EARLY).clean():
            return made(seed, tape.saved(), EARLY)
    raise AssertionError(f"{EARLY} escapes")


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(sim, [str(word) for word in words])
    return result.exit_code, result.output


def test_a_replay_tells_whether_it_is_the_run_that_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    case = failing()
    path.write_text(to_text(case))
    code, told = invoke("replay", path)
    assert (code, "same steps, byte for byte, with the same code" in told) == (
        EXIT_CODES[CHECKS[case.check][0]],
        True,
    ), told
    case.code = "of another day"
    path.write_text(to_text(case))
    assert "other code than it was saved with" in invoke("replay", path)[1]
    code, told = invoke("replay", path, "--mutant", "")
    assert (code, f"clean; when it was saved: {case.check!r} violated" in told) == (0, True), told
    case.code, case.digest = code_digest(), "0"
    path.write_text(to_text(case))
    code, told = invoke("replay", path)
    assert (code, "same twice" in told) == (3, True), told


def test_a_failing_seed_is_saved_and_shrunk_and_replayed(tmp_path: Path) -> None:
    assert invoke("run", "--seeds", "1..2", "--mutant", EARLY, "--save", tmp_path)[0] in (3, 4, 5)
    (saved, *_) = sorted(tmp_path.glob(f"seed-*-{EARLY}.json"))
    small = tmp_path / "small.json"
    code, told = invoke("shrink", saved, "--save", small, "--runs", 40, "--about", "an answer before its sync")
    assert code in (3, 4, 5), told
    whole, shrunk = from_text(saved.read_text()), from_text(small.read_text())
    assert (shrunk.check, shrunk.mutant, shrunk.about) == (whole.check, EARLY, "an answer before its sync")
    assert 10 * len(flat(shrunk.tracks)) < len(flat(whole.tracks))
    assert invoke("replay", small)[0] == code


def test_a_clean_seed_has_nothing_to_shrink() -> None:
    assert invoke("shrink", "--seed", 7) == (0, "seed 7: clean, nothing to shrink\n")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["shrink"], "either a saved case or --seed"),
        (["shrink", "--seed", "1", "--mutant", "none such"], "no mutant"),
        (["replay", __file__], "not a case"),
    ],
)
def test_a_wrong_order_is_refused_in_words(words: list[str], problem: str) -> None:
    code, told = invoke(*words)
    assert code == 2
    assert problem in told

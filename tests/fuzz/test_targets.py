"""Every fuzz target runs on its seeds, on a moment of mutations, and on every input that once made one fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import plain
from tests.fuzz.registry import TARGETS, load, regression_paths, save
from tests.fuzz.target import REGRESSIONS, Target, run_bounded

MUTATIONS_S = 0.3
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_target_takes_its_seeds_and_a_moment_of_mutations(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    assert seeds
    for data in [b"", *seeds[:: max(1, len(seeds) // 8)]]:
        run_bounded(target, data)
    assert plain.run(target, 1, MUTATIONS_S, executions_max=300) > 0


@pytest.mark.parametrize("path", regression_paths(), ids=lambda path: path.stem)
def test_what_once_failed_does_not_fail_again(path: Path) -> None:
    target, data = load(path)
    run_bounded(target, data)


def test_there_is_something_to_replay() -> None:
    assert len(regression_paths()) >= 3
    assert all(path.parent == REGRESSIONS for path in regression_paths())


def broken(data: bytes) -> None:
    assert b"!" not in data, "an exclamation mark"


def test_a_failure_is_found_made_small_and_saved(tmp_path: Path) -> None:
    target = Target("record", lambda: [b"some longer input, to be made shorter"], broken, (b"!",))
    with pytest.raises(plain.Found) as found:
        plain.run(target, 7, 10.0)
    assert b"!" in found.value.data
    assert len(found.value.data) <= 2
    path = save(target, found.value.data, "why", tmp_path)
    assert path.read_text().startswith("# why\n")
    assert load(path) == (TARGETS["record"], found.value.data)


GREEDY = """
from tests.fuzz.target import Target, TooMuch, run_bounded
try:
    run_bounded(Target("x", list, lambda data: len(b"x" * (200 << 20))), b"x")
except TooMuch as problem:
    print(problem)
"""


def test_an_input_that_takes_too_much_memory_is_a_failure() -> None:
    """In a process of its own: the greatest size of this one may be past already."""
    done = subprocess.run([sys.executable, "-c", GREEDY], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "x: 1 bytes added" in done.stdout

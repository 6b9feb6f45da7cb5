"""Whole simulated worlds: a few seeds are clean, a seed is the same run every time, and the command says what it found."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from waymaker_sim.cli.command import sim
from waymaker_sim.world.run import run_seed

CLEAN_SEEDS = range(1, 13)


@pytest.mark.parametrize("seed", CLEAN_SEEDS)
def test_a_seed_runs_without_a_violation(seed: int) -> None:
    report = run_seed(seed)
    assert report.clean(), f"seed {seed}: {report.check}: {report.detail}"
    assert report.asked > 0


def test_a_copy_is_not_compared_with_another_incarnation_of_its_source() -> None:
    """In this world a source that copies itself is made anew, and its second incarnation is copied before it is read."""
    report = run_seed(720419)
    assert report.clean(), f"{report.check}: {report.detail}"


def test_a_source_that_had_stopped_before_its_stream_was_deleted_stays_stopped() -> None:
    """In this world a source prunes what was not copied, copying stops, and then the source's stream is deleted."""
    report = run_seed(2203502)
    assert report.clean(), f"{report.check}: {report.detail}"


def test_a_source_may_lose_messages_to_their_age_from_among_others() -> None:
    """In this world programs give times, so that age removes messages behind younger ones before they are copied."""
    report = run_seed(2500178)
    assert report.clean(), f"{report.check}: {report.detail}"


def test_a_seed_is_the_same_run_twice() -> None:
    first, second = run_seed(3, double=True), run_seed(3, double=True)
    assert first.clean(), first
    assert first.digest == second.digest != ""
    assert run_seed(4, double=True).digest != first.digest


def test_the_order_of_hashes_changes_nothing() -> None:
    code = "from waymaker_sim.world.run import run_seed; print(run_seed(3, double=True).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1 and digests != {""}


def test_the_command_counts_and_exits_clean() -> None:
    result = CliRunner().invoke(sim, ["run", "--seeds", "3..4"])
    assert result.exit_code == 0, result.output
    assert "2 runs" in result.output


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["run"], "either --seed N or --seeds"),
        (["run", "--seeds", "9..1"], "not a range of seeds"),
        (["run", "--seed", "1", "--mutant", "none such"], "no mutant"),
    ],
)
def test_a_wrong_order_is_refused_in_words(words: list[str], problem: str) -> None:
    result = CliRunner().invoke(sim, words)
    assert result.exit_code == 2
    assert problem in result.output

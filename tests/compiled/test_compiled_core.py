"""The compiled core does what the pure one does: the same simulated worlds, step by step, the same answers to hostile bytes.

It runs against an up-to-date `make compiled`. Where there is none, `WAYMAKER_TEST_COMPILED=1` makes it build one first,
without the C compiler's optimization; otherwise it is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compiled.build import OPTIMIZATIONS, existing, has_compiler
from compiled.modules import ROOT

BUILD_SECONDS = 1800
SEEDS = range(1, 7)
DIGESTS = """
import json, sys
from waymaker_core import is_compiled
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.world.run import run_tape

reports = {seed: run_tape(Tape(seed), Digest(), "") for seed in range(int(sys.argv[1]), int(sys.argv[2]))}
print(json.dumps([is_compiled(), {seed: [report.digest, report.check, report.detail] for seed, report in reports.items()}]))
"""
HOSTILE = (
    "tests/fuzz/test_targets.py",
    "tests/property/storage",
    "tests/property/model",
)
"""Tests of what reads bytes from outside."""
REPLACING = (
    "tests/property/storage/test_deferred_checkpoint.py::test_a_bucket_is_found_again_from_checkpoints_that_were_encoded_later",
    "tests/property/storage/test_store_reopening.py::test_of_released_segments_the_lowest_of_the_right_size_are_kept_and_the_rest_goes",
    "tests/property/storage/test_store_reopening.py::test_segments_of_another_size_than_is_configured_now_are_not_used_again",
)  # fmt: skip
"""Those among them that put a function of their own in the place of one of the core, past which compiled calls go."""


@pytest.fixture(scope="module")
def built() -> Path:
    target = ROOT / "build" / "compiled"
    found = existing(target)
    if found is None and os.environ.get("WAYMAKER_TEST_COMPILED") != "1":
        pytest.skip("no up-to-date compiled core: see `make compiled`")
    if found is None and not has_compiler():
        pytest.skip("no C compiler")
    if found is None:
        subprocess.run(
            [sys.executable, "-m", "compiled", "--optimization", OPTIMIZATIONS[0], "--jobs", "2"],
            cwd=ROOT, check=True, timeout=BUILD_SECONDS, capture_output=True,
        )  # fmt: skip
        found = existing(target)
    assert found is not None
    return found


@pytest.mark.slow
def test_a_part_of_the_core_is_built_and_serves_the_rest(tmp_path: Path) -> None:
    """The build itself, on the one package that imports no other: it takes seconds, and needs a C compiler."""
    if not has_compiler():
        pytest.skip("no C compiler")
    code = "import sys, pathlib, compiled.build as b; b.build(pathlib.Path(sys.argv[1]), '0', 2, ('model',))"
    made = python("", "-c", code, str(tmp_path), seconds=600)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    path = str(tmp_path / "compiled-core")
    code = (
        "import waymaker_core; from waymaker_core.node import Node; print(waymaker_core.is_compiled(), Node.__module__)"
    )
    assert python(path, "-c", code, seconds=60).stdout.split() == ["True", "waymaker_core.node.node"]
    ran = python(path, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/property/model", seconds=600)
    assert ran.returncode == 0, ran.stdout[-4000:]


def python(path: str, *arguments: str, seconds: int) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path:
        environment["PYTHONPATH"] = path
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.slow
def test_simulated_worlds_are_the_same_step_by_step(built: Path) -> None:
    found = []
    for path in ("", str(built)):
        ran = python(path, "-c", DIGESTS, str(SEEDS.start), str(SEEDS.stop), seconds=600)
        assert ran.returncode == 0, ran.stderr
        found.append(json.loads(ran.stdout))
    (pure, worlds), (compiled, same_worlds) = found
    assert (pure, compiled) == (False, True)
    assert worlds == same_worlds
    assert all(digest for digest, _, _ in worlds.values())


@pytest.mark.slow
@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_bytes_are_answered_as_by_the_pure_core(built: Path, path: str) -> None:
    deselected = [f"--deselect={name}" for name in REPLACING]
    ran = python(str(built), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *deselected, path, seconds=900)
    assert ran.returncode == 0, ran.stdout[-4000:]


@pytest.mark.slow
def test_a_mutant_is_refused_in_words(built: Path) -> None:
    code = "from waymaker_sim.mutants import MUTANTS, planted\nwith planted(next(iter(MUTANTS))): pass"
    ran = python(str(built), "-c", code, seconds=60)
    assert ran.returncode == 1 and "needs the pure core" in ran.stderr


@pytest.mark.slow
def test_a_traceback_names_the_line_of_the_source(built: Path) -> None:
    code = "from waymaker_core.storage import record_codec\nrecord_codec.decode(1, 1, b'x')"
    ran = python(str(built), "-c", code, seconds=60)
    assert "CorruptRecord" in ran.stderr
    assert 'core/waymaker_core/storage/record_codec.py", line' in ran.stderr

"""The commands a newcomer types: they exist, and a Python that is too old is refused in words."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "target", ["dev", "test", "lint", "fmt", "proto", "campaign", "compiled", "coverage", "bench", "clean"]
)
def test_a_documented_target_exists(target: str) -> None:
    answer = make(ROOT, "--dry-run", target)
    assert answer.returncode == 0, answer.stderr
    assert f"make {target}" in (ROOT / "Makefile").read_text().split("PYTHON ?=")[0]


def test_make_alone_lists_the_commands() -> None:
    answer = make(ROOT)
    assert answer.returncode == 0
    assert "make dev" in answer.stdout
    assert "make test" in answer.stdout


def test_a_python_that_is_too_old_is_refused_in_words(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.18 && exit 0\nexit 1\n')
    old.chmod(0o755)
    answer = make(tmp_path, "dev", f"PYTHON={old}")
    assert answer.returncode != 0
    assert "needs Python 3.11 or newer" in answer.stderr
    assert "3.9.18" in answer.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_second_run_installs_nothing(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("bin/python", ".ready-to-run", ".ready-to-develop"):
        path = tmp_path / ".venv" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert "pip" not in make(tmp_path, "--dry-run", "dev").stdout
    os.utime(tmp_path / "pyproject.toml", (2**32, 2**32))
    assert "pip" in make(tmp_path, "--dry-run", "dev").stdout


def test_continuous_integration_runs_what_a_contributor_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0

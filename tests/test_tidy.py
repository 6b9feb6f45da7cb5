"""What holds for every file of the project and can be told from its text.

Style that a machine can judge is judged here, so that people need not: names of modules, docstrings, length,
the subject matter (the project speaks of itself and of nothing around it), leftovers. Patterns are put
together from pieces where they would otherwise find themselves.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE_FOLDERS = ("core", "shell", "sim", "proto", "tests", "benchmarks", "compiled")
LINES_MAX = 600
FUNCTION_LINES_MAX = 90
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
TEXT_SUFFIXES = {
    ".cfg",
    ".html",
    ".ini",
    ".json",
    ".md",
    ".proto",
    ".py",
    ".pyi",
    ".sh",
    ".svg",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
}
TEXT_NAMES = {"Makefile", "run", ".gitignore", "py.typed"}

VAGUE_NAMES = re.compile(r"(^|_)(utils?|helpers?|misc|managers?|common|stuff)($|_)")
LEFTOVERS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
FOREIGN_WORDS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<![\w.])/wor[k]/",
        r"/tmp/[s]pec",
        r"\.\./[s]hared\b",
        r"\bDESIG[N]\.md|\bSEMANTIC[S]\.md|\bSTYL[E]\.md",
        r"\bissue\s?#?\d",
        r"\bsub-?agen[t]s?\b",
        r"\bcoding (agen[t]|assistan[t])",
        r"\b(AI|LLM)[ -](agen[t]|assistan[t]|model)",
        r"\bhelper [A-H]\b",
        r"\bC[E]O\b",
    )
]


def tracked_files() -> list[Path]:
    """The files git knows, or would take in; every file outside a repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for folder in SOURCE_FOLDERS for path in (ROOT / folder).rglob("*")]
    return sorted(path for path in paths if path.is_file())


FILES = tracked_files()
TEXTS = [path for path in FILES if path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES]
MODULES = [
    path
    for path in FILES
    if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in SOURCE_FOLDERS and not GENERATED.search(path.name)
]


def vague_name(name: str) -> list[str]:
    return [f"the name {name} says nothing"] if VAGUE_NAMES.search(name) else []


def missing_docstrings(source: str) -> list[str]:
    if not source.strip():
        return []  # an empty __init__.py or py.typed has nothing to say
    return [] if ast.get_docstring(ast.parse(source)) else ["no docstring says what it is responsible for"]


def excessive_length(source: str) -> list[str]:
    lines = source.count("\n") + 1
    found = [f"{lines} lines, {LINES_MAX} at most: two ideas?"] if lines > LINES_MAX else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                found.append(f"line {node.lineno}: {node.name} takes {length} lines, {FUNCTION_LINES_MAX} at most")
    return found


def foreign_words(text: str) -> list[str]:
    return [
        f"line {number}: {line.strip()[:100]}"
        for number, line in enumerate(text.splitlines(), 1)
        if any(pattern.search(line) for pattern in FOREIGN_WORDS)
    ]


def leftovers(text: str) -> list[str]:
    return [
        f"line {number}: {line.strip()[:100]}"
        for number, line in enumerate(text.splitlines(), 1)
        if LEFTOVERS.search(line)
    ]


def bare_skips(source: str) -> list[str]:
    """Tests that are switched off for good: they look like coverage and are none."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            for decorator in node.decorator_list:
                if ast.unparse(decorator).startswith("pytest.mark.skip") and "skipif" not in ast.unparse(decorator):
                    found.append(f"line {node.lineno}: {node.name} is skipped")
            if all(isinstance(part, ast.Pass | ast.Expr) and _does_nothing(part) for part in node.body):
                found.append(f"line {node.lineno}: {node.name} cannot fail")
    return found


def _does_nothing(part: ast.stmt) -> bool:
    return isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))


def judged(paths: list[Path], judge: Callable[[str], list[str]]) -> list[str]:
    found = []
    for path in paths:
        for finding in judge(path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(ROOT)}: {finding}")
    return found


def test_there_is_something_to_judge() -> None:
    assert len(MODULES) >= 10
    assert ROOT / "pyproject.toml" in TEXTS


def test_every_module_says_what_it_is_for() -> None:
    assert judged(MODULES, missing_docstrings) == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {part for path in MODULES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert [finding for name in sorted(names) for finding in vague_name(name)] == []


def test_one_file_is_one_idea() -> None:
    assert judged(MODULES, excessive_length) == []


def test_the_project_speaks_only_of_itself() -> None:
    assert judged(TEXTS, foreign_words) == []


def test_nothing_is_left_for_later_in_silence() -> None:
    assert judged([path for path in TEXTS if not GENERATED.search(path.name)], leftovers) == []


def test_every_test_runs_and_can_fail() -> None:
    assert judged([path for path in MODULES if path.relative_to(ROOT).parts[0] == "tests"], bare_skips) == []


@pytest.mark.parametrize(
    ("judge", "bad", "good"),
    [
        (vague_name, "string_utils", "utility_curve"),
        (vague_name, "helpers", "journal"),
        (missing_docstrings, "x = 1\n", '"""Responsible for x."""\nx = 1\n'),
        (excessive_length, "x = 1\n" * LINES_MAX, "x = 1\n" * (LINES_MAX - 1)),
        (excessive_length, "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX, "def f():\n    x = 1\n"),
        (foreign_words, "see /wor" + "k/main/docs", "see docs/network/"),
        (foreign_words, "as iss" + "ue #12 says", "the issuer 12"),
        (foreign_words, "as iss" + "ue 2 says", "tissue2"),
        (foreign_words, "read DESI" + "GN.md", "docs/architecture.md"),
        (leftovers, "x = 1  # TO" + "DO later", "# autodoc"),
        (bare_skips, "@pytest.mark.skip\ndef test_x(): assert f()", "@pytest.mark.skipif(c)\ndef test_x(): assert f()"),
        (bare_skips, "def test_x():\n    '''Words.'''\n    pass", "def test_x():\n    f()"),
    ],
)
def test_each_judgement_tells_bad_from_good(judge: Callable[[str], list[str]], bad: str, good: str) -> None:
    assert judge(bad) != []
    assert judge(good) == []

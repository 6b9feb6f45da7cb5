"""The words of the glossary are kept: no retired word names anything, and a method's name leads to its home."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("core/waymaker_core", "shell/waymaker", "sim/waymaker_sim")

RETIRED = {
    "core": [
        "life",
        "lives",
        "hosted",
        "gathered",
        "flying",
        "tail",
        "withholding",
        "holders",
        "holder",
        "passed",
        "skimmed",
        "beyond",
        "spent",
        "undertaker",
        "buried",
        "fellow",
        "standing",
        "ring",
        "catalogue",
        "moving",
        "boot",
        "stamped",
    ],
    "shell": ["door", "attend", "weighty", "lend", "crumbs", "stranger", "gathered", "flying"],
    "sim": [
        "scene",
        "ledger",
        "life",
        "lives",
        "stamp",
        "circles",
        "ambush",
        "archivist",
        "story",
        "simplest",
        "lying",
        "promptness",
        "tell",
        "told",
        "judge",
        "attend",
        "hear",
        "heard",
        "fate",
        "blindfold",
        "lonely",
    ],
}
"""Words that have given way to the glossary's, by source tree, as parts of identifiers and file names."""

HOMES_MAX = 3
"""Classes of the core that may define a public method of one name."""
PROTOCOL = {
    "apply", "check", "next_deadline", "snapshot", "restore", "stage", "commit", "discard", "discard_uncommitted",
    "kind", "has_staged", "next_due", "decide_due", "import_facts", "step",
}  # fmt: skip
"""Verbs of a protocol that parts share: apply a record, check invariants, step and return the next deadline, make a snapshot;
those of overlays (docs/architecture.md), and those of layers (`layers/layer`)."""
SKETCH_VERBS = {"add", "merge", "restore"}
"""Verbs that all sketches share (docs/sketches.md): for them, the folder of sketches is one home."""


def parts_of(identifier: str) -> list[str]:
    """Split an identifier into its words, in small letters."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", identifier)]


def modules(tree: str) -> Iterator[Path]:
    """Yield the hand-written modules of a source tree."""
    for path in sorted((ROOT / tree).rglob("*.py")):
        if "_pb2" not in path.name:
            yield path


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every name in a module."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


@pytest.mark.parametrize("tree", SOURCES)
def test_no_identifier_or_file_uses_a_retired_word(tree: str) -> None:
    retired = set(RETIRED[tree.split("/", maxsplit=1)[0]])
    found = []
    for path in modules(tree):
        place = path.relative_to(ROOT)
        found += [f"{place}: {word}" for word in parts_of(path.stem) if word in retired]
        for line, name in identifiers(path):
            found += [f"{place}:{line} {name}: {word}" for word in parts_of(name) if word in retired]
    assert not found, "\n".join(found)


def test_a_public_method_of_the_core_has_few_homes() -> None:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path in modules("core/waymaker_core"):
        shared = SKETCH_VERBS if path.parent.name == "sketches" else set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                for each in node.body:
                    if isinstance(each, ast.FunctionDef) and not each.name.startswith("_") and each.name not in shared:
                        homes[each.name].append(node.name)
    crowded = {name: where for name, where in homes.items() if len(where) > HOMES_MAX and name not in PROTOCOL}
    assert not crowded


def docstrings(path: Path) -> Iterator[tuple[bool, str]]:
    """Yield every docstring of a module, those of attributes included; True for that of a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        for each in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            if (
                isinstance(each, ast.Expr)
                and isinstance(each.value, ast.Constant)
                and isinstance(each.value.value, str)
            ):
                of_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and each is node.body[0]
                yield of_function, each.value.value


ASKING = re.compile(r"(What|Who|Whose|Whom|Whether|Where|When|Why|Which|How)\b")
UNNAMED = re.compile(r"\b(nobody|somebody|anybody|whoever|no one|someone|anyone)\b", re.IGNORECASE)
NO_VERB = re.compile(
    r"(A|An|The|All|Any|Each|Every|Everything|Nothing|No|One|Its|That|Those|This|True|False|As|For|From|In|On|To)\b|[`(]"
)


@pytest.mark.parametrize("tree", [*SOURCES, "tests/kit", "benchmarks"])
def test_a_docstring_answers_and_names_the_actor(tree: str) -> None:
    """A docstring begins with a verb or, of a class, module or attribute, with a definition."""
    wrong = [
        f"{path.relative_to(ROOT)}: {text[:80]}"
        for path in modules(tree)
        for of_function, text in docstrings(path)
        if ASKING.match(text) or UNNAMED.search(text) or (of_function and NO_VERB.match(text))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["glossary.md", "life-of-a-publish.md", "life-of-a-delivery.md"])
def test_every_place_in_the_last_column_exists(name: str) -> None:
    page = (ROOT / "docs" / name).read_text()
    trees = [ROOT / tree for tree in SOURCES] + [ROOT]
    missing = []
    for row in re.findall(r"^\|.*\|([^|]+)\|$", page, re.MULTILINE):
        for place in re.findall(r"`([^`]+)`", row):
            candidates = [tree / place for tree in trees] + [tree / f"{place}.py" for tree in trees]
            if not any(path.exists() for path in candidates):
                missing.append(place)
    assert not missing


def test_the_words_of_the_glossary_are_sorted_out() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text()
    words = [word.strip() for row in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE) for word in row.split(",")]
    assert len(words) == len(set(words)) or words.count("Word") == len(words) - len(set(words)) + 1

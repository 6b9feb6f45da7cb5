"""The documentation agrees with the code where it can be held against it: limits, formats."""

from __future__ import annotations

import re
import struct
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from benchmarks import many_streams, scenarios
from tests import checks_table, state_machines
from tests.module_map import PAGE, first_sentence, module_map
from waymaker_core.model import records
from waymaker_core.model.limits import KIB, MIB, Limits
from waymaker_core.storage import frame, manifest
from waymaker_core.storage.checkpoint import writer as checkpoint
from waymaker_core.storage.format_version import FORMAT_VERSION
from waymaker_core.storage.journal import segment
from waymaker_sim.cli.command import sim
from waymaker_sim.kernel.checks import CHECKS
from waymaker_sim.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[1]
UNITS = {"": 1, "KiB": KIB, "MiB": MIB}


def limits_in(page: str) -> dict[str, int]:
    """The rows ``| `name` (whose) | 1,024 KiB |`` of a page, as numbers."""
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([\d,]+)(?: (\w+))? \|$", page, re.MULTILINE)
    return {name: int(figure.replace(",", "")) * UNITS[unit] for name, figure, unit in rows}


def test_the_documented_limits_are_the_limits() -> None:
    documented = limits_in((ROOT / "docs" / "streams-and-consumers.md").read_text())
    assert len(documented) >= 15
    known = {field.name: getattr(Limits(), field.name) for field in fields(Limits)}
    assert documented == {name: known.get(name) for name in documented}


def test_a_wrong_figure_would_be_seen() -> None:
    assert limits_in("| `fetch_max` (a call) | 10,000 |\n| `page_bytes_max` | 8 MiB |\n") == {
        "fetch_max": 10_000,
        "page_bytes_max": 8 * MIB,
    }


def test_the_documented_frame_header_is_the_one_in_use() -> None:
    page = (ROOT / "docs" / "storage-format.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\w ]+) \| (4 bytes|u8|u16|u32|u64) \|", page, re.MULTILINE)
    widths = {"4 bytes": ("4s", 4), "u8": ("B", 1), "u16": ("H", 2), "u32": ("I", 4), "u64": ("Q", 8)}
    offset, layout = 0, "<"
    for documented, name, kind in rows:
        assert int(documented) == offset, name
        letter, width = widths[kind]
        layout, offset = layout + letter, offset + width
    names = [name.replace(" checksum", " crc").replace(" ", "_") for _, name, _ in rows]
    assert names[:-1] == list(frame.FrameHeader._fields)
    assert offset == frame.HEADER_BYTES
    assert struct.Struct(layout).size == offset
    assert struct.calcsize(layout[:-1]) == frame.HEADER_BYTES - 4
    assert "`" + frame.MAGIC.decode() + "`" in page


def test_every_kind_of_frame_is_documented_with_its_number() -> None:
    page = (ROOT / "docs" / "storage-format.md").read_text()
    documented = {
        int(number): name for number, name in re.findall(r"^\| (\d+) \| ([a-z ]+) \| [^|]+ \|$", page, re.MULTILINE)
    }
    kinds = {
        kind.KIND: re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__.removesuffix("Record")).lower()
        for kind in get_args(records.Record)
    }
    kinds |= {frame.WATERMARK: "watermark", frame.SNAPSHOT: "snapshot", frame.TOMBSTONE: "tombstone"}
    kinds |= {frame.QUARANTINED: "quarantined", frame.FINISHED: "finished", frame.PROMISE: "promise", frame.CUT: "cut"}
    kinds |= {frame.COMMIT: "commit", frame.REPLICA: "replica", frame.ADOPT: "adopt", frame.RAFT_HARD: "raft hard"}
    kinds |= {frame.DOUBT: "doubt"}
    assert documented == kinds


def test_every_kind_of_file_is_documented_with_its_word_and_version() -> None:
    page = (ROOT / "docs" / "storage-format.md").read_text()
    documented = {
        word: int(version) for word, version in re.findall(r"^\| [a-z ]+ \| `(WM\w+)` \| (\d+) \|", page, re.MULTILINE)
    }
    assert documented == {
        manifest.MAGIC.decode(): FORMAT_VERSION,
        segment.MAGIC.decode(): FORMAT_VERSION,
        checkpoint.MAGIC.decode(): FORMAT_VERSION,
    }


def test_the_documented_targets_are_those_that_are_measured() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    targets = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([\d,]+) (?:messages/s|s) \|$", page, re.MULTILINE))
    assert {name: int(figure.replace(",", "")) for name, figure in targets.items()} == {
        "publish": scenarios.PUBLISH_TARGET,
        "replay": scenarios.REPLAY_TARGET,
        "restart": scenarios.RESTART_TARGET_S,
        "streams": many_streams.RESTART_TARGET_S,
    }


def test_the_table_of_checks_is_that_of_the_simulator() -> None:
    page = checks_table.PAGE.read_text()
    assert page.count(checks_table.BEGIN) == page.count(checks_table.END) == 1
    assert page == checks_table.written(page), "run `python -m tests.checks_table`"


def test_every_check_is_judged_somewhere_and_no_other() -> None:
    assert checks_table.places().keys() == CHECKS.keys()


def test_the_state_machines_are_drawn_from_their_tables() -> None:
    assert state_machines.PAGE.read_text() == state_machines.page(), "run `python -m tests.state_machines`"


def test_the_module_map_is_that_of_the_tree() -> None:
    assert PAGE.read_text() == module_map(), "run `python -m tests.module_map`"


def test_a_first_sentence_ends_at_its_full_stop() -> None:
    source = '"""Reads `a.b` and 1.5 bytes,\\nthen stops. Never\\nwrites.\\n\\nMore.\\n"""\n'
    assert first_sentence(source) == "Reads `a.b` and 1.5 bytes, then stops."


def test_every_command_of_the_simulator_is_documented() -> None:
    page = (ROOT / "docs" / "simulation.md").read_text()
    assert [name for name in sorted(sim.commands) if f"sim {name}" not in page] == []


DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
TREES = [ROOT, *(ROOT / tree for tree in ("core/waymaker_core", "shell/waymaker", "sim/waymaker_sim"))]


def evidence(page: str, kind: str) -> list[str]:
    """Return the names that a decision's page lists as its checks, mutants, tests or code."""
    listed = re.search(rf"^{kind}: ([^.]+(?:\.(?!\n)[^.]*)*)\.$", page, re.MULTILINE)
    return re.findall(r"`([^`]+)`", listed[1]) if listed else []


def unknown_evidence(page: str) -> list[str]:
    """Return what a decision's page names and the tree does not have."""
    missing = [f"check {name}" for name in evidence(page, "Checks") if name not in CHECKS]
    missing += [f"mutant {name}" for name in evidence(page, "Mutants") if name not in MUTANTS]
    for named in evidence(page, "Tests"):
        path, _, test = named.partition("::")
        if not (ROOT / path).is_file() or (test and not re.search(rf"def {test}\(", (ROOT / path).read_text())):
            missing.append(named)
    paths = [name for name in re.findall(r"`([\w./-]+)`", page) if re.search(r"\.(py|md|toml)$", name)]
    for name in [*evidence(page, "Code"), *paths]:
        if not any((tree / name).is_file() or (tree / f"{name}.py").is_file() for tree in TREES):
            missing.append(name)
    return missing


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_sections_and_names_what_exists(path: Path) -> None:
    page = path.read_text()
    assert page.startswith(f"# {path.stem[:4]}. ")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["Context", "Decision", "Consequences", "Evidence"]
    assert evidence(page, "Tests") and evidence(page, "Code")
    assert unknown_evidence(page) == []


def test_the_index_of_decisions_lists_each_with_its_title() -> None:
    index = (ROOT / "docs" / "decisions" / "index.md").read_text()
    listed = re.findall(r"^\| \[(.+)\]\((.+)\) \| .+ \|$", index, re.MULTILINE)
    assert listed == [(path.read_text().splitlines()[0].removeprefix("# "), path.name) for path in DECISIONS]


def test_every_decision_that_the_code_refers_to_exists() -> None:
    named = {
        name
        for tree in ("core", "shell", "sim")
        for path in (ROOT / tree).rglob("*.py")
        for name in re.findall(r"docs/decisions/([\w-]+\.md)", path.read_text())
    }
    assert named and named <= {path.name for path in DECISIONS}


def test_evidence_that_does_not_exist_is_seen() -> None:
    page = (
        "Tests: `tests/test_docs.py::test_none`,\n`tests/test_docs.py`.\nChecks: `no`.\nMutants: `skip-sync`, `yes`.\n"
    )
    assert unknown_evidence(page + "Code: `node/node`, `node/nothing`.\n") == [
        "check no", "mutant yes", "tests/test_docs.py::test_none", "node/nothing",
    ]  # fmt: skip

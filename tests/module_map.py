"""The module map: `python -m tests.module_map` writes `docs/module-map.md` from the modules' docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "module-map.md"
TREES = ("core/waymaker_core", "shell/waymaker", "sim/waymaker_sim")
HEAD = """# Module map

Every hand-written module with the first sentence of its docstring, grouped by folder. `python -m tests.module_map` writes this
page, and a test compares it with the tree.
"""


def first_sentence(source: str) -> str:
    """Return the first sentence of a module's docstring on one line."""
    paragraph = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
    return re.split(r"(?<=[.!?]) (?=[A-Z`])", " ".join(paragraph.split()), maxsplit=1)[0]


def folders() -> Iterator[tuple[Path, list[Path]]]:
    """Yield each folder that holds modules, with its modules, in the order of their names."""
    for tree in TREES:
        for folder in sorted({path.parent for path in (ROOT / tree).rglob("*.py")}):
            yield folder, sorted(path for path in folder.glob("*.py") if "_pb2" not in path.name)


def module_map() -> str:
    """Return the page as it has to be."""
    lines = [HEAD]
    for folder, paths in folders():
        lines.append(f"## `{folder.relative_to(ROOT)}`\n")
        sentences = {path.stem: first_sentence(path.read_text()) for path in paths}
        lines.append(sentences.pop("__init__", "") + "\n")
        if sentences:
            lines += ["| Module | Purpose |", "|---|---|"]
            lines += [f"| `{name}` | {sentence.replace('|', chr(92) + '|')} |" for name, sentence in sentences.items()]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(module_map())

"""Packages of the core that a compiled build compiles; all others stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
CORE: Final = ROOT / "core"
PACKAGE: Final = "waymaker_core"

COMPILED: Final = (
    "api", "catalog", "cluster", "collections", "consumer", "kv", "layers", "model", "node", "objects", "raft", "replication",
    "sketches", "sources", "storage", "stream",
)  # fmt: skip
"""Calls between two compiled modules skip the interpreter, so what calls each other often is compiled together."""


def sources() -> list[Path]:
    """Return all files of the core, below `CORE`, in order."""
    return sorted(
        path.relative_to(CORE)
        for path in (CORE / PACKAGE).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    )


def is_compiled(path: Path, packages: Sequence[str] = COMPILED) -> bool:
    """Return True if a file below `CORE` is compiled where these packages are."""
    return path.suffix == ".py" and len(path.parts) > 2 and path.parts[1] in packages

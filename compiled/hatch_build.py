"""The step of a wheel's build that adds compiled modules, where `WAYMAKER_COMPILE=1` asks for them.

Without the variable, and for an editable install, the wheel holds the pure core alone and needs no C compiler.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "WAYMAKER_COMPILE"


class CompiledCore(BuildHookInterface):  # type: ignore[misc]
    """The hook that hatchling calls."""

    def dependencies(self) -> list[str]:
        """Return what the build needs besides hatchling."""
        return ["mypy[mypyc]==2.4.1"] if _is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        """Build the modules and add them to the wheel."""
        if version == "editable" or not _is_wanted():
            return
        sys.path.insert(0, self.root)
        from compiled.build import build, has_compiler

        if not has_compiler():
            raise RuntimeError(f"{VARIABLE}=1 asks for compiled modules, and no C compiler was found")
        built = build(Path(self.root) / "build" / "compiled", jobs=int(os.environ.get("WAYMAKER_COMPILE_JOBS", "1")))
        modules = sorted(path for path in built.rglob("*") if path.suffix in (".so", ".pyd"))
        build_data["force_include"] = {str(path): str(path.relative_to(built)) for path in modules}
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _is_wanted() -> bool:
    said = os.environ.get(VARIABLE, "0")
    if said not in ("", "0", "1"):
        raise RuntimeError(f"{VARIABLE} is {said!r}; it may be 0 or 1")
    return said == "1"

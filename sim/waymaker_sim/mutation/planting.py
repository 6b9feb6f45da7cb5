"""Planting: the import of a core module with its syntax tree changed, in this process alone.

It must precede the first import of the module. Nothing is written to disk, no compiled file is read or kept.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

from waymaker_core import is_compiled

Change = Callable[[ast.Module], None]
MARKER = "__reached__"


class _Loader(SourceFileLoader):
    """A loader that compiles a changed tree."""

    change: Change
    reached: Callable[[int], None]

    def get_code(self, fullname: str) -> CodeType:
        """Compile the module's text after the change."""
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        self.change(tree)
        code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, with the marker at hand."""
        vars(module)[MARKER] = self.reached
        super().exec_module(module)


class _Finder:
    """A finder for the changed modules; it leaves all others to the finders behind it."""

    def __init__(self, changes: dict[str, Change], reached: Callable[[int], None]) -> None:
        self._changes = changes
        self._reached = reached

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one of the modules."""
        if fullname not in self._changes:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        loader = _Loader(fullname, spec.origin)
        loader.change = self._changes[fullname]
        loader.reached = self._reached
        spec.loader = loader
        return spec


def plant(changes: dict[str, Change], reached: Callable[[int], None] = lambda number: None) -> None:
    """Change modules, by their full names, when they are imported. `reached` is called with the number of each
    marker passed."""
    already = sorted(changes.keys() & sys.modules.keys())
    assert not already, f"imported before they could be changed: {already}"
    assert not is_compiled(), "a module of a compiled core cannot be changed"
    sys.meta_path.insert(0, _Finder(changes, reached))

"""Constructs that mypyc compiles into something else, and that the core therefore does not use.

Each was met: a compiled core that differed from the pure one in a simulated world. A build refuses them by file and line.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict


def misread(tree: ast.Module) -> list[str]:
    """Return the constructs of a module that are compiled wrongly, each with its line."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.MatchAs) and node.pattern is not None and _has_constant(node.pattern):
            found.append(f"line {node.lineno}: `{node.name}` stays unbound where the pattern's constant matches")
        elif isinstance(node, ast.FunctionDef):
            found.extend(_names_of_two_exceptions(node))
        elif isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(each) for each in node.decorator_list):
            found.extend(
                f"line {statement.lineno}: a constant of a dataclass, not declared as `ClassVar`, is one of its objects alone"
                for statement in node.body
                if isinstance(statement, ast.Assign)
            )
    return found


def _has_constant(pattern: ast.pattern) -> bool:
    return any(isinstance(part, ast.MatchSingleton) for part in ast.walk(pattern))


def _names_of_two_exceptions(function: ast.FunctionDef) -> list[str]:
    """Find one name for exceptions of two types, one of them compiled: the name gets the first one's type."""
    types: defaultdict[str, set[str]] = defaultdict(set)
    for node in ast.walk(function):
        if isinstance(node, ast.ExceptHandler) and node.name and node.type is not None:
            types[node.name].add(ast.unparse(node.type))
    return [
        f"line {function.lineno}: in {function.name}, `{name}` is an exception of two types"
        for name, caught in types.items()
        if len(caught) > 1 and any(each.isidentifier() and not hasattr(builtins, each) for each in caught)
    ]

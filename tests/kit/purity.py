"""The rules of purity of the core, seen in its syntax.

A run of the core is a function of its inputs. What could make two runs differ, or reach outside, is visible
in the source for the most part: an import that is not on the short list, a builtin that asks the machine
(``open``, ``id``, ``hash``), arithmetic that rounds, and the order of a set, which depends on the hash seed of
the process. Sets are followed through annotations, assignments, operators and their own methods; asking a set
for membership or size, sorting it or folding it to one value is fine, walking it is not.

A few modules may calculate with floats: with what IEEE 754 defines to the last bit, and in answers with logarithms. What
differs between machines or versions of Python is forbidden there as elsewhere.

The checker judges text alone. It never imports what it judges.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

ALLOWED_IMPORTS = frozenset(
    {
        "__future__", "abc", "array", "bisect", "cbor2", "collections", "dataclasses", "enum", "functools",
        "google_crc32c", "heapq", "itertools", "operator", "re", "sortedcontainers", "struct", "typing",
        "waymaker_core",
    }
)  # fmt: skip
FORBIDDEN_BUILTINS = frozenset(
    {
        "__import__", "breakpoint", "compile", "complex", "eval", "exec", "exit", "float", "globals", "hash", "id",
        "input", "open", "print", "quit",
    }
)  # fmt: skip
SET_TYPES = frozenset({"set", "frozenset", "AbstractSet", "MutableSet", "Set", "FrozenSet"})
SET_METHODS = frozenset({"copy", "difference", "intersection", "symmetric_difference", "union"})
SET_OPERATORS = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub)
WALKERS = frozenset({"dict", "deque", "enumerate", "filter", "iter", "list", "map", "reversed", "tuple", "zip"})
WALKING_METHODS = frozenset({"extend", "fromkeys", "fromlist", "join"})
EXACT_NAMES = frozenset({"isfinite", "sqrt"})
"""Names that a module with floats may import from math: IEEE 754 says to the last bit what they give."""
LOGARITHMS = frozenset({"log"})
"""Names that it may import beside, and use in answers only: a library's last bit may be another one."""
ANSWER = "estimate"
"""Beginning of the names of functions that answer and leave the state alone."""
INEXACT_BUILTINS = frozenset({"pow", "sum"})
"""Python 3.12 rounds a sum of floats otherwise than 3.11 did; a power is the C library's."""


def violations(
    source: str, module: str, also_allowed: frozenset[str] = frozenset(), *, floats: bool = False
) -> list[str]:
    """Return every line of ``source`` that breaks a rule, as ``module:line: what``; empty where all is well.

    ``also_allowed`` names imports that this one module may have beside the usual ones; ``floats`` lets it calculate with
    floats.
    """
    tree = ast.parse(source)
    if floats:
        imports = _imports(tree, ALLOWED_IMPORTS | also_allowed | {"math"})
        found = [*imports, *_builtins(tree, FORBIDDEN_BUILTINS - {"float"} | INEXACT_BUILTINS), *_inexact(tree)]
    else:
        found = [
            *_imports(tree, ALLOWED_IMPORTS | also_allowed),
            *_builtins(tree, FORBIDDEN_BUILTINS),
            *_arithmetic(tree),
        ]
    found += _coroutines(tree)
    found += _SetWalks(tree).found()
    return [f"{module}:{line}: {what}" for line, what in sorted(set(found))]


def _imports(tree: ast.Module, allowed: frozenset[str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "" if node.level == 0 else "waymaker_core"]
        else:
            continue
        for name in names:
            if name.split(".")[0] not in allowed:
                yield node.lineno, f"import of {name}"


def _builtins(tree: ast.Module, forbidden: frozenset[str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in forbidden:
            yield node.lineno, f"use of {node.id}"


def _arithmetic(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield node.lineno, f"the float {node.value}"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node.lineno, "true division"


def _inexact(tree: ast.Module) -> Iterator[tuple[int, str]]:
    answers = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.removeprefix("_").startswith(ANSWER)
    ]
    answering = {inner for answer in answers for inner in ast.walk(answer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, complex):
            yield node.lineno, f"the complex number {node.value}"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Pow):
            yield node.lineno, "a power"
        elif isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "math" for alias in node.names):
            yield node.lineno, "import of all of math"
        elif isinstance(node, ast.ImportFrom) and node.module == "math":
            for alias in node.names:
                if alias.name not in EXACT_NAMES | LOGARITHMS or alias.asname is not None:
                    yield node.lineno, f"import of math.{alias.name}"
        elif isinstance(node, ast.Name) and node.id in LOGARITHMS and node not in answering:
            yield node.lineno, f"use of {node.id} outside of an answer"


def _coroutines(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
            yield node.lineno, "a coroutine"


class _SetWalks:
    """Walks over sets in one module.

    Names are followed by function, attributes (``self.x`` and ``other.x`` alike) by module, and neither by
    flow: what is a set somewhere counts as one everywhere in its scope.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._attributes: set[str] = set()
        self._names: dict[ast.AST, set[str]] = {}
        self._scope_of: dict[ast.AST, ast.AST] = {}
        self._assign_scopes(tree, tree)
        # Twice, because what is assigned from a set that is only known further down becomes one too.
        for _ in range(2):
            for node in ast.walk(tree):
                self._learn(node)

    def found(self) -> list[tuple[int, str]]:
        found = []
        for node in ast.walk(self._tree):
            for walked in self._walked_by(node):
                if self._is_set(walked):
                    found.append((walked.lineno, f"a walk over the set {ast.unparse(walked)}"))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "pop":
                if not node.args and self._is_set(node.func.value):
                    found.append((node.lineno, f"a pop from the set {ast.unparse(node.func.value)}"))
        return found

    def _assign_scopes(self, node: ast.AST, scope: ast.AST) -> None:
        self._scope_of[node] = scope
        inner = node if isinstance(node, ast.FunctionDef | ast.Lambda | ast.AsyncFunctionDef) else scope
        for child in ast.iter_child_nodes(node):
            self._assign_scopes(child, inner)

    def _learn(self, node: ast.AST) -> None:
        match node:
            case ast.AnnAssign(target=declared, annotation=annotation) if _is_set_annotation(annotation):
                self._remember(declared, in_class=isinstance(declared, ast.Name))
            case ast.arg(arg=name, annotation=ast.expr() as annotation) if _is_set_annotation(annotation):
                self._names.setdefault(self._scope_of[node], set()).add(name)
            case ast.Assign(targets=targets, value=value) if self._is_set(value):
                for target in targets:
                    self._remember(target)
            case ast.AugAssign(target=grown, op=op, value=value) if isinstance(op, SET_OPERATORS):
                if self._is_set(value):
                    self._remember(grown)
            case ast.NamedExpr(target=named, value=value) if self._is_set(value):
                self._remember(named)
            case _:
                pass

    def _remember(self, target: ast.expr, *, in_class: bool = False) -> None:
        if isinstance(target, ast.Attribute):
            self._attributes.add(target.attr)
        elif isinstance(target, ast.Name):
            self._names.setdefault(self._scope_of[target], set()).add(target.id)
            if in_class:  # a field of a dataclass or a slot declared in the class body
                self._attributes.add(target.id)

    def _is_set(self, node: ast.expr) -> bool:
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Name(id=name):
                return self._is_set_name(node, name)
            case ast.Attribute(attr=attribute):
                return attribute in self._attributes
            case ast.Call(func=ast.Name(id=name)):
                return name in {"set", "frozenset"}
            case ast.Call(func=ast.Attribute(value=value, attr=method)):
                return method in SET_METHODS and self._is_set(value)
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, SET_OPERATORS):
                return self._is_set(left) or self._is_set(right) or _is_keys(left) or _is_keys(right)
            case ast.IfExp(body=body, orelse=orelse):
                return self._is_set(body) or self._is_set(orelse)
            case ast.BoolOp(values=values):
                return any(self._is_set(value) for value in values)
            case ast.NamedExpr(value=value):
                return self._is_set(value)
        return False

    def _is_set_name(self, node: ast.AST, name: str) -> bool:
        scope: ast.AST | None = self._scope_of.get(node)
        while scope is not None:
            if name in self._names.get(scope, ()):
                return True
            outer = self._scope_of[scope]
            scope = outer if outer is not scope else None
        return False

    def _walked_by(self, node: ast.AST) -> Iterator[ast.expr]:
        match node:
            case ast.For(iter=walked) | ast.comprehension(iter=walked) | ast.YieldFrom(value=walked):
                # A set made from a set has no order to depend on; sorting is what makes one.
                if not isinstance(node, ast.comprehension) or not self._inside_unordered(node):
                    yield walked
            case ast.Starred(value=walked):
                yield walked
            case ast.Assign(targets=[ast.Tuple() | ast.List()], value=walked):
                yield walked
            case ast.Call(func=ast.Name(id=name), args=args) if name in WALKERS:
                yield from args
            case ast.Call(func=ast.Attribute(attr=method), args=args) if method in WALKING_METHODS:
                yield from args
            case _:
                pass

    def _inside_unordered(self, comprehension: ast.comprehension) -> bool:
        """Return True if the comprehension's result keeps no order of its own."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.SetComp) and comprehension in node.generators:
                return True
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                folded = node.func.id in {"all", "any", "frozenset", "max", "min", "set", "sorted", "sum"}
                first = node.args[0]
                if folded and isinstance(first, ast.GeneratorExp | ast.ListComp) and comprehension in first.generators:
                    return True
        return False


def _is_set_annotation(annotation: ast.expr) -> bool:
    match annotation:
        case ast.Name(id=name):
            return name in SET_TYPES
        case ast.Subscript(value=value):
            return _is_set_annotation(value)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _is_set_annotation(left) or _is_set_annotation(right)
        case ast.Constant(value=str(text)):
            return _is_set_annotation(ast.parse(text, mode="eval").body)
    return False


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"keys", "items"}

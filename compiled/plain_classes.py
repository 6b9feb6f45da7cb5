"""Dataclasses written out as plain classes, in a copy of the source that is compiled.

mypyc compiles what a class says and not what a decorator adds at run time: the constructor of a dataclass stays interpreted,
and gains nothing. So the copy says in full what `@dataclass(slots=True, eq=False)` adds: `__init__`, `__repr__`
and `__match_args__`. Every line keeps its number, so that a traceback points into the real source. Any other dataclass stays as
it is. What is not understood is refused, never guessed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

EXPANDED: dict[str, object] = {"slots": True, "eq": False}
"""The arguments of the decorator that is written out."""
FUTURE = "from __future__ import annotations"
IMPORT = "from typing import ClassVar"


class NotUnderstood(Exception):
    """A dataclass says something that has no translation here."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a dataclass: as a parameter, and as the value that the attribute gets."""

    name: str
    annotation: str
    default: str
    value: str
    keyword_only: bool


@dataclass(slots=True)
class Edit:
    """Lines of the source, from `first` and before `end` (from 0), and what stands there afterwards."""

    first: int
    end: int
    lines: list[str]
    adds: bool = False
    """The lines stood empty."""


def write_out(source: str) -> str:
    """Return the source of a module with its dataclasses written out."""
    tree = ast.parse(source)
    known: dict[str, list[Field]] = {}
    plain: set[str] = set()
    edits: list[Edit] = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        decorator = _decorator(node)
        if decorator is None:
            if not node.decorator_list:
                plain.add(node.name)
            edits.extend(_edits_of_objects(node, source.splitlines()))
            continue
        known[node.name] = _fields(node, known, plain)
        edits.extend(
            _edits(node, decorator, known[node.name], inherits_repr=any(_name(base) in known for base in node.bases))
        )
    if not edits:
        return source
    lines = source.splitlines()
    for edit in sorted(edits, key=lambda edit: -edit.first):
        replaced = lines[edit.first : edit.end]
        if edit.adds and any(replaced):
            raise NotUnderstood(f"line {edit.first} is not the end of a class")
        lines[edit.first : edit.end] = edit.lines + [""] * (len(replaced) - len(edit.lines))
    text = "\n".join(lines) + "\n"
    if FUTURE not in text:
        raise NotUnderstood("a module with such classes evaluates its annotations")
    return text.replace(FUTURE, f"{FUTURE}; {IMPORT}", 1)


def _edits_of_objects(node: ast.ClassDef, lines: list[str]) -> list[Edit]:
    """Write `object` as `object | None`, which says the same: mypyc looks for the bare word among the module's globals."""
    return [
        Edit(
            statement.lineno - 1,
            statement.lineno,
            [lines[statement.lineno - 1].replace(": object", ": object | None", 1)],
        )
        for _, statement in _statements(node)
        if _name(statement.annotation) == "object"
    ]


def _decorator(node: ast.ClassDef) -> ast.Call | None:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and _name(decorator.func) == "dataclass":
            said = {word.arg: word.value.value for word in decorator.keywords if isinstance(word.value, ast.Constant)}
            if said == EXPANDED:
                if len(node.decorator_list) > 1:
                    raise NotUnderstood(f"{node.name} has more than one decorator")
                return decorator
    return None


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _statements(node: ast.ClassDef) -> list[tuple[str, ast.AnnAssign]]:
    return [
        (statement.target.id, statement)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and "ClassVar" not in ast.unparse(statement.annotation)
    ]


def _fields(node: ast.ClassDef, known: dict[str, list[Field]], plain: set[str]) -> list[Field]:
    fields: dict[str, Field] = {}
    for base in node.bases:
        is_generic = isinstance(base, ast.Subscript) and _name(base.value) in ("Generic", "Protocol")
        if _name(base) in known:
            fields.update((field.name, field) for field in known[_name(base)])
        elif _name(base) not in plain and not is_generic:
            raise NotUnderstood(f"{node.name} has a base that is not of its module: {ast.unparse(base)}")
    for name, statement in _statements(node):
        fields[name] = _field(name, statement)
    return list(fields.values())


def _field(name: str, statement: ast.AnnAssign) -> Field:
    annotation = ast.unparse(statement.annotation)
    value = statement.value
    if not (isinstance(value, ast.Call) and _name(value.func) == "field"):
        return Field(name, annotation, ast.unparse(value) if value else "", name, False)
    words = {word.arg: word.value for word in value.keywords}
    if value.args or set(words) - {"default", "default_factory", "kw_only"}:
        raise NotUnderstood(f"the field {name}: {ast.unparse(value)}")
    keyword_only = "kw_only" in words
    factory = words.get("default_factory")
    if factory is None:
        return Field(name, annotation, ast.unparse(words["default"]) if "default" in words else "", name, keyword_only)
    if "None" in annotation.split(" | "):
        raise NotUnderstood(f"the field {name} may be None and has a factory: None could not stand for its absence")
    made = ast.unparse(factory.body) if isinstance(factory, ast.Lambda) else ast.unparse(factory) + "()"
    return Field(name, f"{annotation} | None", "None", f"{made} if {name} is None else {name}", keyword_only)


def _edits(node: ast.ClassDef, decorator: ast.Call, fields: list[Field], inherits_repr: bool) -> list[Edit]:
    methods = {statement.name for statement in node.body if isinstance(statement, ast.FunctionDef)}
    if "__init__" in methods:
        raise NotUnderstood(f"{node.name} has a constructor of its own")
    positional = [field for field in fields if not field.keyword_only]
    named = [field for field in fields if field.keyword_only]
    edits = [Edit(decorator.lineno - 1, decorator.end_lineno or decorator.lineno, [""])]
    matched = f"; __match_args__: ClassVar[tuple[str, ...]] = {tuple(field.name for field in positional)!r}"
    for name, statement in _statements(node):
        line = f"    {name}: {ast.unparse(statement.annotation)}{matched}"
        edits.append(Edit(statement.lineno - 1, statement.end_lineno or statement.lineno, [line]))
        matched = ""
    parameters = ["self", *map(_parameter, positional), *(["*"] if named else []), *map(_parameter, named)]
    body = [f"self.{field.name} = {field.value}" for field in fields] + ["self.__post_init__()"] * (
        "__post_init__" in methods
    )
    added = [f"    def __init__({', '.join(parameters)}) -> None: {'; '.join(body) or 'pass'}"]
    if "__repr__" not in methods and not inherits_repr:
        shown = ", ".join(f"{field.name}={{self.{field.name}!r}}" for field in fields)
        added.append(f'    def __repr__(self) -> str: return f"{{type(self).__qualname__}}({shown})"')
    end = node.end_lineno or node.lineno
    return [*edits, Edit(end, end + 2, added, adds=True)]


def _parameter(field: Field) -> str:
    return f"{field.name}: {field.annotation}" + (f" = {field.default}" if field.default else "")

"""The page of state machines: `python -m tests.state_machines` writes `docs/state-machines.md` from the tables."""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Mapping
from enum import Enum
from itertools import pairwise
from pathlib import Path
from types import ModuleType

from waymaker.client.connection import states as connection
from waymaker.server import lifecycle as server
from waymaker_core.consumer.pending import states as delivery

PAGE = Path(__file__).resolve().parents[1] / "docs" / "state-machines.md"
HEAD = """# State machines

Drawn from the tables that the code runs on. `python -m tests.state_machines` writes this page, and a test compares it with the
tables. An event that a table does not list for a state has no effect.
"""
QUALIFIERS = {(): "", (True,): " (attempts left)", (False,): " (last attempt)", (False, True): ""}


def meanings(enum: type[Enum]) -> dict[str, str]:
    """Return the docstring that follows each member of an enum."""
    (body,) = [node.body for node in ast.parse(inspect.getsource(enum)).body if isinstance(node, ast.ClassDef)]
    found = {}
    for member, text in pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(member.targets[0], ast.Name):
            assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant), (
                f"{member.targets[0].id} says nothing"
            )
            found[member.targets[0].id] = " ".join(str(text.value.value).split())
    return found


def edges(table: Mapping[tuple[object, ...], Enum]) -> dict[tuple[str, str], list[str]]:
    """Return the labels of each pair of states; a third part of a key says whether attempts are left."""
    flags: defaultdict[tuple[str, str, str], set[bool]] = defaultdict(set)
    for (before, event, *left), after in table.items():
        assert isinstance(before, Enum) and isinstance(event, Enum)
        flags[before.name, after.name, event.name.lower()] |= {flag for flag in left if isinstance(flag, bool)}
    labels: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for (source, target, event_name), left_values in flags.items():
        labels[source, target].append(event_name + QUALIFIERS[tuple(sorted(left_values))])
    return labels


def diagram(table: Mapping[tuple[object, ...], Enum], initial: Enum) -> list[str]:
    """Return a Mermaid state diagram of a table."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {initial.name}"]
    lines += [f"    {source} --> {target}: {', '.join(names)}" for (source, target), names in edges(table).items()]
    return [*lines, "```", ""]


def section(title: str, module: ModuleType, initial: Enum) -> list[str]:
    """Return one machine: its module's docstring, its diagram, its states and events."""
    paragraphs = (module.__doc__ or "").split("\n\n")[1:]
    place = module.__name__.split(".", 1)[1].replace(".", "/")
    lines = [f"## {title}", "", f"`{place}`. " + " ".join(" ".join(paragraphs[:1]).split()), ""]
    lines += diagram(module.TRANSITIONS, initial)
    for enum in (module.State, module.Event):
        lines += [f"| {enum.__name__} | Meaning |", "|---|---|"]
        lines += [
            f"| {name.lower() if enum is module.Event else name} | {text} |" for name, text in meanings(enum).items()
        ]
        lines.append("")
    return lines


def page() -> str:
    """Return the page as it has to be."""
    lines = [HEAD]
    lines += section("A client's connection", connection, connection.State.IDLE)
    lines += section("A server", server, server.State.STARTING)
    lines += section("A delivery", delivery, delivery.State.WAITING)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())

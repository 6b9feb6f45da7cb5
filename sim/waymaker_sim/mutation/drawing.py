"""Drawing mutants: the places of the core to change, and their changes, as a function of the seed and the core's text.

Every place is as likely as every other; where a place can be changed in several ways, one of them is drawn. A longer
draw begins with a shorter one of the same seed.
"""

from __future__ import annotations

import ast
import random
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path

import waymaker_core
from waymaker_sim.mutation.sites import Mutation, mutations

JUDGES = ("invariants",)
"""Modules that check the core's state and decide nothing of it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One mutant: `number` names the mutation within its module."""

    module: str
    number: int
    path: str
    line: int
    function: str
    operator: str
    before: str
    after: str

    def key(self) -> str:
        """Return the key of this mutant in a report."""
        return f"{self.module}#{self.number}"

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.function}: `{self.before}` became `{self.after}`"


def core_folder() -> Path:
    """Return the folder of the core."""
    assert waymaker_core.__file__ is not None
    return Path(waymaker_core.__file__).parent


@cache
def modules() -> dict[str, Path]:
    """Return the modules that can be changed, by name."""
    root = core_folder()
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] not in JUDGES and parts[-1] != "__init__":
            found[".".join((root.name, *parts))] = path
    return found


def code_digest(*more: Path) -> str:
    """Return the digest of the core, the simulator and other folders, which a report depends on."""
    found = blake2b(digest_size=8)
    for root in (core_folder(), Path(__file__).parents[1], *more):
        for path in sorted(root.rglob("*.py")):
            found.update(path.relative_to(root).as_posix().encode() + b"\0")
            found.update(path.read_bytes() + b"\0")
    return found.hexdigest()


def draw(seed: int, count: int, only: str = "") -> list[Drawn]:
    """Draw `count` mutants, or as many places as there are. `only`: from modules whose name ends so."""
    places: list[tuple[Drawn, ...]] = []
    for name in modules():
        if not only or name == only or name.endswith(f".{only}"):
            places += _places(name)
    dice = random.Random(seed)
    order = sorted((dice.random(), index) for index in range(len(places)))
    found: list[Drawn] = []
    for share, index in order[:count]:
        choices = places[index]
        found.append(choices[int(share * 1_000_003) % len(choices)])
    return found


@cache
def _places(module: str) -> tuple[tuple[Drawn, ...], ...]:
    """Return the mutants of a module, those of one place together. Their texts are slow to make, so the result is
    cached."""
    found: dict[tuple[int, str, int], list[Drawn]] = {}
    tree = ast.parse(modules()[module].read_text())
    for one in mutations(tree):
        found.setdefault(one.place(), []).append(_drawn(module, one))
    return tuple(map(tuple, found.values()))


def _drawn(module: str, one: Mutation) -> Drawn:
    root = core_folder().parents[1]
    path = modules()[module].relative_to(root).as_posix()
    return Drawn(module, one.number, path, one.line, one.function, one.operator, one.before, one.after)

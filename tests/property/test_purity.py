"""The core is pure: it cannot see the machine, the clock or the order of a set, and it does not round."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.purity import violations

CORE = Path(__file__).resolve().parents[2] / "core" / "waymaker_core"
MODULES = sorted(CORE.rglob("*.py"))

ALSO_ALLOWED: dict[str, frozenset[str]] = {
    "catalog/placement.py": frozenset({"hashlib"}),
    "cluster/founding.py": frozenset({"hashlib"}),
    "sketches/hashing.py": frozenset({"hashlib"}),
    "sources/letters.py": frozenset({"base64", "hashlib", "json"}),
}
"""Imports that single modules may have beside the common ones, by path below the core."""

FLOATS_ALLOWED = frozenset(
    {"sketches/bloom.py", "sketches/hyperloglog.py", "sketches/items.py", "sketches/scale_function.py",
     "sketches/snapshot_format.py", "sketches/t_digest.py"}
)  # fmt: skip
"""Modules that may calculate with floats, for what they summarise or answer are real numbers."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(CORE).as_posix())
def test_a_core_module_is_pure(path: Path) -> None:
    module = path.relative_to(CORE).as_posix()
    floats = module in FLOATS_ALLOWED
    assert violations(path.read_text(), module, ALSO_ALLOWED.get(module, frozenset()), floats=floats) == []


def test_an_exception_names_a_module_that_exists() -> None:
    assert set(ALSO_ALLOWED) | FLOATS_ALLOWED <= {path.relative_to(CORE).as_posix() for path in MODULES}


def test_only_sketches_calculate_with_floats() -> None:
    assert {module.split("/")[0] for module in FLOATS_ALLOWED} == {"sketches"}


IMPURE = {
    "a module of the system": "import os",
    "a submodule": "import os.path",
    "a name from a module": "from time import monotonic_ns",
    "a module under another name": "import random as rules",
    "generated code": "from waymaker_proto import waymaker_streams_pb2",
    "the shell": "import waymaker",
    "an import inside a function": "def f():\n    import socket",
    "logging": "import logging",
    "an import by name": "__import__('os')",
    "a file": "open('x')",
    "output": "print('x')",
    "an address": "key = id(object())",
    "a hash": "bucket = hash('x') % 4",
    "a function that is handed on": "sorted([], key=id)",
    "code from text": "eval('1')",
    "a float": "x = 0.5",
    "a negative exponent": "x = 1e-3",
    "division that rounds": "x = 1 / 2",
    "division in place": "x = 4\nx /= 2",
    "a conversion to float": "x = float(1)",
    "a float in an annotation": "def f(x: float) -> None: ...",
    "a coroutine": "async def f() -> None: ...",
    "a walk over a set display": "for x in {1, 2}: pass",
    "a walk over a set call": "for x in set(y): pass",
    "a walk over a named set": "seen = set()\nfor x in seen: pass",
    "a walk over an annotated set": "seen: set[int] = make()\nfor x in seen: pass",
    "a walk over a parameter": "def f(seen: frozenset[int]) -> None:\n    for x in seen: pass",
    "a walk over an optional parameter": "def f(seen: set[int] | None) -> None:\n    for x in seen: pass",
    "a walk over an attribute": "class C:\n    def __init__(self):\n        self.s = set()\n    def f(self):\n"
    "        for x in self.s: pass",
    "a walk over a declared attribute": "class C:\n    s: set[int]\n    def f(self):\n        for x in self.s: pass",
    "a walk over a name of the module": "ALL = {1, 2}\ndef f():\n    for x in ALL: pass",
    "a list of a set": "x = list({1, 2})",
    "a tuple of a union": "a = set()\nx = tuple(a | b)",
    "a walk over a difference of keys": "for x in old.keys() - new.keys(): pass",
    "a walk over a copy": "a = set()\nfor x in a.copy(): pass",
    "a list comprehension over a set": "a = set()\nx = [y for y in a]",
    "a dictionary from a set": "a = set()\nx = {y: 1 for y in a}",
    "a set unpacked": "a = set()\nx = [*a]",
    "a set taken apart": "x, y = {1, 2}",
    "a pop from a set": "a = set()\na.pop()",
    "a join of a set": "x = ','.join({'a', 'b'})",
    "a set that became one later": "a = b\nb = set()\nfor x in a: pass",
    "the first of a set": "x = next(iter({1}))",
}


@pytest.mark.parametrize("source", IMPURE.values(), ids=IMPURE.keys())
def test_the_checker_sees(source: str) -> None:
    assert violations(source, "planted.py") != []


PURE = {
    "an allowed import": "from collections.abc import Iterator",
    "a neighbour": "from waymaker_core.model.types import Token",
    "whole division": "x = 7 // 2",
    "membership": "a = {1}\nx = 1 in a",
    "the size of a set": "a = {1}\nx = len(a)",
    "a sorted set": "a = {1}\nfor x in sorted(a): pass",
    "a sorted comprehension of a set": "a = {1}\nx = sorted(y + 1 for y in a)",
    "a set made from a set": "a = {1}\nb = {y for y in a}",
    "a fold of a set": "a = {1}\nx = any(y for y in a)",
    "a walk over a dictionary": "a = {1: 2}\nfor x in a: pass",
    "a pop from a list": "a = [1]\na.pop()",
    "an attribute called like a builtin": "x = job.id",
    "a set of another function": "def f():\n    a = set()\ndef g(a):\n    for x in a: pass",
}


@pytest.mark.parametrize("source", PURE.values(), ids=PURE.keys())
def test_the_checker_lets_pass(source: str) -> None:
    assert violations(source, "planted.py") == []


@pytest.mark.parametrize(
    "source",
    ["x = 0.5", "x = 1 / 2", "def f(x: float) -> float: ...", "x = float(1)", "from math import isfinite, sqrt\nx = sqrt(2)",
     "from math import log\ndef estimate(x): return log(x)"],
)  # fmt: skip
def test_a_module_with_floats_may_do_what_is_exact(source: str) -> None:
    assert violations(source, "planted.py", floats=True) == []
    assert violations(source, "planted.py") != []


@pytest.mark.parametrize(
    "source",
    ["x = sum(y)", "x = pow(y, 0.5)", "x = y ** 0.5", "x = 2.0\nx **= y", "import math", "import math as m",
     "from math import sin", "from math import sqrt as root", "from math import log\nx = log(2)",
     "from math import log\ndef add(x): return log(x)", "x = 1j", "import os", "x = hash(y)", "import cmath"],
)  # fmt: skip
def test_a_module_with_floats_may_do_nothing_else(source: str) -> None:
    assert violations(source, "planted.py", floats=True) != []


def test_a_module_may_be_allowed_one_import_more() -> None:
    source = "import hashlib"
    assert violations(source, "planted.py") == ["planted.py:1: import of hashlib"]
    assert violations(source, "planted.py", frozenset({"hashlib"})) == []


def test_a_violation_names_its_line() -> None:
    assert violations("x = 1\ny = x / 2\n", "planted.py") == ["planted.py:2: true division"]

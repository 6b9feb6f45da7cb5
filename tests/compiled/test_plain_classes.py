"""Dataclasses written out: they behave as the decorator makes them, and what is not understood is refused."""

from __future__ import annotations

import ast
import dataclasses
import sys
from pathlib import Path
from types import ModuleType

import pytest

from compiled.modules import CORE, is_compiled, sources
from compiled.plain_classes import NotUnderstood, write_out
from compiled.refusals import misread

HEAD = "from __future__ import annotations\nfrom dataclasses import dataclass, field\n"
MANY = (
    HEAD
    + '''
@dataclass(slots=True, eq=False)
class Plain:
    """A doc."""

    KIND: ClassVar[int] = 7

    first: int
    """A field."""
    second: str | None = None
    third: list[int] = field(default_factory=list)
    fourth: dict[str, int] = field(
        default_factory=lambda: {"a": 1},
    )
    fifth: int = field(default=5, kw_only=True)

    def doubled(self) -> int:
        return self.first * 2


@dataclass(slots=True, eq=False)
class Derived(Plain):
    sixth: int = 6

    def __repr__(self) -> str:
        return "own"


LAST = Derived(1)
'''
)


def run(source: str) -> dict[str, object]:
    module = ModuleType("written_out")
    sys.modules[module.__name__] = module  # where `dataclass` looks up what an annotation means
    exec(compile(source, module.__name__, "exec"), module.__dict__)  # noqa: S102 - the point of the test
    return module.__dict__


CALLS: list[tuple[tuple[object, ...], dict[str, object]]] = [
    ((1,), {}),
    ((1, "b", [3]), {"fifth": 9}),
    ((), {"first": 2, "fourth": {}}),
    ((), {}),
    ((1, "b", [3], {}, 5), {}),
    ((1,), {"other": 1}),
]


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("name", ["Plain", "Derived"])
def test_a_class_that_is_written_out_is_made_and_shown_as_before(
    name: str, call: tuple[tuple[object, ...], dict[str, object]]
) -> None:
    arguments, named = call
    shown = []
    for source in (MANY.replace("field\n", "field\nfrom typing import ClassVar\n", 1), write_out(MANY)):
        kind = run(source)[name]
        assert isinstance(kind, type)
        try:
            made = kind(*arguments, **named)
        except TypeError:
            shown.append("refused")
        else:
            positional: tuple[str, ...] = kind.__dict__["__match_args__"]
            shown.append(f"{made!r} {[getattr(made, field) for field in (*positional, 'fifth', 'KIND')]}")
    assert shown[0] == shown[1]


def test_two_objects_share_no_default() -> None:
    plain = run(write_out(MANY))["Plain"]
    assert isinstance(plain, type)
    one, other = plain(1), plain(1)
    assert one.third is not other.third and one != other
    assert not dataclasses.is_dataclass(plain)


def test_every_line_keeps_its_number() -> None:
    before, after = MANY.splitlines(), write_out(MANY).splitlines()
    assert len(before) == len(after)
    assert [index for index, line in enumerate(before) if "def doubled" in line] == [
        index for index, line in enumerate(after) if "def doubled" in line
    ]


@pytest.mark.parametrize(
    "body",
    [
        "    one: int = field(default=1, repr=False)",
        "    one: list[int] | None = field(default_factory=list)",
        "    one: int\n\n    def __init__(self) -> None:\n        self.one = 1",
    ],
)
def test_what_has_no_translation_is_refused(body: str) -> None:
    with pytest.raises(NotUnderstood):
        write_out(f"{HEAD}\n@dataclass(slots=True, eq=False)\nclass Plain:\n{body}\n")


def test_a_base_of_another_module_is_refused() -> None:
    with pytest.raises(NotUnderstood):
        write_out(f"{HEAD}from x import Base\n\n@dataclass(slots=True, eq=False)\nclass Plain(Base):\n    one: int\n")


def test_other_dataclasses_stay_as_they_are() -> None:
    text = f"{HEAD}\n@dataclass(frozen=True, slots=True)\nclass Plain:\n    one: int\n"
    assert write_out(text) == text


@pytest.mark.parametrize("path", [path for path in sources() if is_compiled(path)], ids=str)
def test_every_module_of_the_core_can_be_written_out(path: Path) -> None:
    text = (CORE / path).read_text()
    written = write_out(text)
    ast.parse(written)
    assert not misread(ast.parse(text))
    assert len(written.splitlines()) - len(text.splitlines()) in (0, 1, 2), "only the end of a file may grow"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("match x:\n    case [int() | None as y]: pass", 1),
        ("match x:\n    case [int() as y]: pass", 0),
        ("@dataclass(slots=True)\nclass A:\n    KIND = 1", 1),
        ("@dataclass(slots=True)\nclass A:\n    KIND: ClassVar[int] = 1", 0),
        ("def f():\n    try: pass\n    except Own as e: pass\n    except ValueError as e: pass", 1),
        ("def f():\n    try: pass\n    except Own as e: pass\n    except ValueError as other: pass", 0),
        ("def f():\n    try: pass\n    except (Own, ValueError) as e: pass\n    except ValueError as e: pass", 0),
    ],
)
def test_what_would_be_compiled_wrongly_is_found(text: str, wrong: int) -> None:
    assert len(misread(ast.parse(text))) == wrong

"""Copies of values that pass between processes: what one side changes later, the other one does not see.

They equal those of `copy.deepcopy`, at a fraction of its cost. Values of the core's contract are data classes, named tuples
and collections of them; what is neither is left to `deepcopy`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")
ATOMS = frozenset((int, float, str, bytes, bool, type(None)))
_copiers: dict[type, Callable[[Any], Any]] = {}
"""By type: the function that copies its values."""


def copy_of(value: T) -> T:
    """Return a copy that shares nothing with the value that either side could change."""
    kind = type(value)
    if kind in ATOMS:
        return value
    copier = _copiers.get(kind)
    if copier is None:
        copier = _copiers[kind] = _copier_of(kind)
    copied: T = copier(value)
    return copied


def _copier_of(kind: type) -> Callable[[Any], Any]:
    if kind is list:
        return lambda value: [each if type(each) in ATOMS else copy_of(each) for each in value]
    if kind is tuple:
        return lambda value: tuple([each if type(each) in ATOMS else copy_of(each) for each in value])
    if kind is dict:
        return lambda value: {copy_of(key): copy_of(each) for key, each in value.items()}
    if issubclass(kind, Enum):
        return lambda value: value
    if issubclass(kind, tuple) and hasattr(kind, "_make"):
        make: Callable[[Any], Any] = kind._make
        return lambda value: make([copy_of(each) for each in value])
    names: tuple[str, ...] = getattr(kind, "__match_args__", ())
    if not names or hasattr(kind, "__deepcopy__") or hasattr(kind, "__post_init__") or _has_more(kind, names):
        return deepcopy
    return _copier_of_fields(kind, names)


def _has_more(kind: type, names: tuple[str, ...]) -> bool:
    """Return True for a data class with fields that its constructor does not take in their order."""
    return is_dataclass(kind) and tuple(each.name for each in fields(kind)) != names


def _copier_of_fields(kind: Any, names: tuple[str, ...]) -> Callable[[Any], Any]:
    if len(names) == 1:
        return lambda value: kind(copy_of(getattr(value, names[0])))
    read = attrgetter(*names)
    return lambda value: kind(*[each if type(each) in ATOMS else copy_of(each) for each in read(value)])

"""Copies of values between processes: equal to what `deepcopy` makes, and apart from what they were made of."""

from __future__ import annotations

from copy import deepcopy
from enum import Enum
from typing import Any

import pytest

from waymaker_core.api import requests as rq
from waymaker_core.api.kv_requests import KvOp
from waymaker_core.model.config import SourceConfig, StreamConfig
from waymaker_core.model.result_codes import OK, Answer, Outcome, Refusal, Status
from waymaker_sim.kernel.copying import ATOMS, copy_of

CONFIG = StreamConfig("s", subjects_filter=("a.>", "b"), sources=(SourceConfig("t"),))
VALUES: list[Any] = [
    rq.Publish("s", ["a", "b"], [1, 2], [3, 4], b"body"),
    rq.Ack("s", "c", rq.AckKind.NAK, [1, 2, 3], 5, "word"),
    rq.CreateStream(CONFIG),
    rq.ReadLatest("s", "a"),
    Answer(OK, value=rq.Page(["a", "b"], "b")),
    Answer(OK, value=rq.Published(1, 2, {0: ("a", "b", 1)})),
    Refusal(Status.UNAVAILABLE, "no", Outcome.NOT_APPLIED),
    [{"a": [1, (2, [3])]}, None, KvOp.PUT],
]


def shape(value: Any) -> Any:
    """Return all that a value consists of, so that values without equality of their own can be compared."""
    if isinstance(value, Enum) or type(value) in ATOMS:
        return value
    if isinstance(value, dict):
        return "dict", [(shape(key), shape(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [shape(each) for each in value]
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())] or list(vars(value))
    return type(value).__name__, [(name, shape(getattr(value, name))) for name in names]


def mutable_parts(value: Any) -> list[int]:
    """Return the identities of all parts of a value that can be changed."""
    if isinstance(value, Enum) or type(value) in ATOMS:
        return []
    if isinstance(value, list | tuple | dict):
        parts = [*value.values()] if isinstance(value, dict) else [*value]
        return [
            *([] if isinstance(value, tuple) else [id(value)]),
            *(each for part in parts for each in mutable_parts(part)),
        ]
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())] or list(vars(value))
    return [id(value), *(each for name in names for each in mutable_parts(getattr(value, name)))]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_copy_is_what_deepcopy_makes_and_shares_nothing(value: Any) -> None:
    copied = copy_of(value)
    assert type(copied) is type(value)
    assert shape(copied) == shape(deepcopy(value)) == shape(value)
    assert not set(mutable_parts(copied)) & set(mutable_parts(value))


def test_what_one_side_changes_the_other_does_not_see() -> None:
    sent = rq.Ack("s", "c", rq.AckKind.ACK, [1], 0, "")
    copied = copy_of(sent)
    sent.seqs.append(2)
    assert copied.seqs == [1]

"""Kinds and parameters of sketches between the service's messages and the text that the core keeps, both ways."""

from __future__ import annotations

from typing import Any

from waymaker_core.sketches.parameters import FORMS, Parameters, parameters_of
from waymaker_core.sketches.snapshot_format import Kind
from waymaker_proto import sketches_pb2 as pk


def parameters(message: pk.SketchParameters) -> Parameters:
    """Return the parameters of a message. ValueError where it names no kind; nothing else is judged."""
    name = message.WhichOneof("kind")
    if name is None:
        raise ValueError("a sketch needs a kind with its parameters: bloom, hyperloglog, count_min, top_k or t_digest")
    kind = Kind[name.upper()]
    return Parameters(kind, tuple(getattr(getattr(message, name), number) for number in FORMS[kind]))


def parameters_pb(text: str) -> pk.SketchParameters:
    """Return the message of a text that the core answered."""
    found = parameters_of(text.encode())
    message = pk.SketchParameters()
    inner: Any = getattr(message, found.kind.name.lower())
    inner.SetInParent()
    for name, number in zip(FORMS[found.kind], found.numbers, strict=True):
        setattr(inner, name, number)
    return message

"""Kinds, parameters and items of sketches between the service's messages and the texts that the core keeps, both ways."""

from __future__ import annotations

from typing import Any

from waymaker_core.sketches.items import SEPARATOR, Item, Part
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


def settings_text(message: pk.CreateSketchRequest) -> str:
    """Return the text that stands for a sketch's parameters and item. ValueError where it names no kind, or no such item."""
    text = parameters(message.parameters).text
    if message.token and message.item != pk.SKETCH_ITEM_TOKEN:
        raise ValueError(f"token = {message.token} without the item SKETCH_ITEM_TOKEN")
    if message.item == pk.SKETCH_ITEM_USUAL:
        return text
    part = _PARTS.get(message.item)
    if part is None:
        raise ValueError(
            f"item = {message.item}; a sketch's item is the subject, the payload or a token of the subject"
        )
    return text + SEPARATOR + Item(part, message.token).text


def item_pb(text: str) -> tuple[pk.SketchItem.ValueType, int]:
    """Return the item and the token of a text that the core answered."""
    word, _, token = text.partition(".")
    found = next((number for number, part in _PARTS.items() if part.value == word), pk.SKETCH_ITEM_USUAL)
    return found, int(token or 0)


_PARTS: dict[pk.SketchItem.ValueType, Part] = {
    pk.SKETCH_ITEM_SUBJECT: Part.SUBJECT,
    pk.SKETCH_ITEM_PAYLOAD: Part.PAYLOAD,
    pk.SKETCH_ITEM_TOKEN: Part.TOKEN,
}

"""Items of a sketch that has sources: which part of a message is added, and which messages have none.

The settings of the sketch's stream say it behind its parameters: `count_min.1000000.10000000/token.2`. What is said there never
changes, so every message of a source is judged alike. A message without an item is skipped: it is counted, told, and holds
up no other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from waymaker_core.layers.layer import FACT_BYTES_MAX
from waymaker_core.model.message_codec import payload_of
from waymaker_core.sketches.errors import BadParameters
from waymaker_core.sketches.facts import FACT_HEAD_BYTES, SKIPPED_BYTES, encode_numbers, encode_sourced, encode_values
from waymaker_core.sketches.snapshot_format import Kind, packed
from waymaker_core.sketches.top_k import VALUE_BYTES_MAX

SEPARATOR: Final = "/"
"""Stands between the parameters of a sketch and its item."""
TOKEN_MAX: Final = 1_000
VALUES_BYTES_MAX: Final = FACT_BYTES_MAX - SKIPPED_BYTES - FACT_HEAD_BYTES
"""Bytes that the values of one record take at most, four for each of them included."""

_NUMBER: Final = re.compile(rb"\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_NUMBER_BYTES_MAX: Final = 400
"""The longest text of a number: no double needs more digits than this to be told from its neighbours, or less to be slow."""


class Part(Enum):
    """The part of a message that is added; the value stands in settings."""

    SUBJECT = "subject"
    PAYLOAD = "payload"
    TOKEN = "token"


class Item(NamedTuple):
    """The part of a message that a sketch adds; `token` counts the subject's tokens from 1, and is 0 for other parts."""

    part: Part
    token: int = 0

    @property
    def text(self) -> str:
        """Return the text that stands for it in settings."""
        return f"{self.part.value}.{self.token}" if self.part is Part.TOKEN else self.part.value


@dataclass(slots=True, eq=False)
class Items:
    """Items of messages, as one fact of values or numbers; empty where there are none.

    `skipped`: places of messages without an item, and the reasons. `taken`: how many of the messages these are, from the first
    on. The others were more than one fact takes.
    """

    added: bytes = b""
    skipped: list[tuple[int, str]] = field(default_factory=list)
    taken: int = 0

    def fact(self, more_skipped: int = 0) -> bytes:
        """Return the fact of what a batch adds; `more_skipped` messages of it were left out before."""
        return encode_sourced(len(self.skipped) + more_skipped, self.added)


def item_of(settings: bytes, kind: Kind) -> Item:
    """Return the item that a stream's settings name, or the usual one of a kind of sketch. BadParameters."""
    _, separator, text = settings.decode("ascii", "replace").partition(SEPARATOR)
    if not separator:
        return Item(Part.PAYLOAD if kind is Kind.T_DIGEST else Part.SUBJECT)
    word, dot, number = text.partition(".")
    if word == Part.TOKEN.value and dot and re.fullmatch("[1-9][0-9]{0,3}", number) and int(number) <= TOKEN_MAX:
        return Item(Part.TOKEN, int(number))
    if text == Part.PAYLOAD.value:
        return Item(Part.PAYLOAD)
    if text == Part.SUBJECT.value and kind is not Kind.T_DIGEST:
        return Item(Part.SUBJECT)
    wanted = "payload or token.<n>" if kind is Kind.T_DIGEST else "subject, payload or token.<n>"
    raise BadParameters(
        f"a {kind.name.lower()} cannot take {text[:40]!r} of a message; its item is {wanted}, n from 1 to {TOKEN_MAX:,}"
    )


def take_items(item: Item, kind: Kind, subjects: Sequence[str], bodies: Sequence[bytes]) -> Items:
    """Return the items of messages, in their order, as many as one fact takes."""
    if kind is Kind.T_DIGEST:
        return _numbers(item, subjects, bodies)
    return _values(item, kind, subjects, bodies)


def _parts(item: Item, subjects: Sequence[str], bodies: Sequence[bytes]) -> list[bytes | None]:
    """Return the part of each message; None where its subject has no such token."""
    if item.part is Part.PAYLOAD:
        return list(map(payload_of, bodies))
    known = {subject: _of_subject(item, subject) for subject in dict.fromkeys(subjects)}
    return [known[subject] for subject in subjects]


def _of_subject(item: Item, subject: str) -> bytes | None:
    if item.part is Part.SUBJECT:
        return subject.encode()
    tokens = subject.split(".", item.token)
    return tokens[item.token - 1].encode() if len(tokens) >= item.token else None


def _values(item: Item, kind: Kind, subjects: Sequence[str], bodies: Sequence[bytes]) -> Items:
    longest = VALUE_BYTES_MAX if kind is Kind.TOP_K else VALUES_BYTES_MAX - 4
    found, values, room = Items(taken=len(bodies)), list[bytes](), VALUES_BYTES_MAX
    for place, value in enumerate(_parts(item, subjects, bodies)):
        if value is None:
            found.skipped.append((place, _no_token(item, subjects[place])))
        elif len(value) > longest:
            reason = f"its {item.part.value} has {len(value):,} bytes; at most {longest:,} are added as one value"
            found.skipped.append((place, reason))
        else:
            room -= len(value) + 4
            if room < 0:
                found.taken = place
                break
            values.append(value)
    found.added = encode_values(values) if values else b""
    return found


def _numbers(item: Item, subjects: Sequence[str], bodies: Sequence[bytes]) -> Items:
    most = VALUES_BYTES_MAX // 8
    found, numbers = Items(taken=min(len(bodies), most)), list[float]()
    for place, text in enumerate(_parts(item, subjects[:most], bodies[:most])):
        if text is None:
            found.skipped.append((place, _no_token(item, subjects[place])))
            continue
        number = _number(text)
        if number is None:
            shown = text[:40].decode(errors="replace")
            found.skipped.append((place, f"its {item.part.value} {shown!r} is not a finite decimal number"))
        else:
            numbers.append(number)
    found.added = encode_numbers(packed(numbers)) if numbers else b""
    return found


def _number(text: bytes) -> float | None:
    """Return the number that a text writes in decimal digits; None where it writes none, or none that is finite."""
    if len(text) > _NUMBER_BYTES_MAX or _NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    return number if number - number == 0 else None


def _no_token(item: Item, subject: str) -> str:
    return f"its subject {subject[:80]!r} has no token {item.token}"


def check_item(settings: bytes, kind: Kind, *, sourced: bool) -> None:
    """Refuse (BadParameters) an item that is none, or one without sources to take it from."""
    item_of(settings, kind)
    if SEPARATOR.encode() in settings and not sourced:
        raise BadParameters("an item is taken from the messages of sources: name sources, or no item")

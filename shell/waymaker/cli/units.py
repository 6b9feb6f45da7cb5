"""Durations, sizes, numbers and moments as people type them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

_DURATION_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SIZE = {
    "": 1, "b": 1, "k": 1_000, "kb": 1_000, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
U64_MAX = (1 << 64) - 1


def duration_ms(text: str) -> int:
    """Parse `90s`, `1h30m`, `250ms`, `7d`; `0` is none. ValueError otherwise."""
    if text.strip() == "0":
        return 0
    parts = re.findall(r"([0-9][0-9_]*(?:\.[0-9]+)?)(ms|[smhdw])", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise ValueError(f"{text!r} is not a duration; write for example 90s, 1h30m, 250ms or 7d")
    return _bounded(sum(round(float(number.replace("_", "")) * _DURATION_MS[unit]) for number, unit in parts), text)


def size_bytes(text: str) -> int:
    """Parse `64MiB`, `10GB`, `1500`; `0` is none. ValueError otherwise."""
    match = re.fullmatch(r"([0-9][0-9_]*(?:\.[0-9]+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in _SIZE:
        raise ValueError(f"{text!r} is not a size; write for example 1500, 64KiB, 10GiB or 5MB")
    number = match[1].replace("_", "")
    return _bounded(int(number) * _SIZE[match[2]] if number.isdigit() else round(float(number) * _SIZE[match[2]]), text)


def count(text: str) -> int:
    """Parse `1000000`, `1_000_000`, `1M`; ValueError otherwise."""
    match = re.fullmatch(r"([0-9][0-9_]*)\s*([kmg]?)", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a number; write for example 1000000, 1_000_000 or 1M")
    return _bounded(int(match[1].replace("_", "")) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[match[2]], text)


def moment_ms(text: str) -> int:
    """Parse milliseconds since 1970, an ISO date with or without a time, or an age such as `2h` ago."""
    text = text.strip()
    if text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        if moment.tzinfo is None:
            moment = moment.astimezone()
        return int(moment.timestamp() * 1000)
    try:
        age_ms = duration_ms(text.removesuffix(" ago"))
    except ValueError:
        raise ValueError(
            f"{text!r} is no moment; write 2026-01-31T12:00, milliseconds since 1970, or 2h for that long ago"
        ) from None
    return int(datetime.now(UTC).timestamp() * 1000) - age_ms


def _bounded(value: int, text: str) -> int:
    if value > U64_MAX:
        raise ValueError(f"{text!r} is more than the server can hold")
    return value


class _Unit(click.ParamType[Any]):
    def __init__(self, name: str, parse: Any) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


UNLIMITED = "unlimited"
"""The one word for no bound; the client's and the configuration's, too."""


def _bound(parse: Callable[[str], int]) -> Callable[[str], int | str]:
    """Return the parser of a bound: a value, or the word for none."""

    def parsed(text: str) -> int | str:
        if text.strip().lower() == UNLIMITED:
            return UNLIMITED
        if text.strip().startswith("-"):
            raise ValueError(f"{text!r} is no bound; write {UNLIMITED} for none")
        try:
            return parse(text)
        except ValueError as error:
            raise ValueError(f"{error}, or {UNLIMITED}") from None

    return parsed


SIZE = _Unit("size", size_bytes)
COUNT = _Unit("count", count)
MOMENT = _Unit("time", moment_ms)
DURATION = _Unit("duration", duration_ms)
DURATION_BOUND = _Unit("duration", _bound(duration_ms))
SIZE_BOUND = _Unit("size", _bound(size_bytes))
COUNT_BOUND = _Unit("count", _bound(count))


# ----------------------------------------------------------------------------------------- and back


def say_duration(ms: int) -> str:
    """Return a duration as short as it is exact."""
    if not ms:
        return "0"
    out = ""
    for unit in ("w", "d", "h", "m", "s", "ms"):
        number, ms = divmod(ms, _DURATION_MS[unit])
        if number:
            out += f"{number}{unit}"
    return out


def say_size(size: int) -> str:
    """Return a size for people: three figures and a unit."""
    if size < 1024:
        return f"{size} B"
    units = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min((size.bit_length() - 1) // 10, len(units))
    value, unit = size / (1 << 10 * power), units[power - 1]
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def say_moment(ms: int) -> str:
    """Return a moment in the local time zone, to the millisecond."""
    if not ms:
        return "-"
    return datetime.fromtimestamp(ms / 1000, tz=UTC).astimezone().isoformat(sep=" ", timespec="milliseconds")

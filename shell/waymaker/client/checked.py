"""Single values that callers give, checked and converted under the name of their setting.

Responsible for what a number, a duration, a moment, a flag, a text or a word may look like in any call of the client, and for
the text of the refusal. It never guesses: a value that could be meant in two ways is refused with what would be right.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, Literal, SupportsIndex, TypeVar

from waymaker.client.errors import UsageError, WrongTypeError

Member = TypeVar("Member", bound=Enum)

INT64_MAX: Final = (1 << 63) - 1
UINT32_MAX: Final = (1 << 32) - 1
NAK_DELAY_S_MAX: Final = 7 * 24 * 3600.0
"""The longest that a message can be put off, a week: what servers allow by default."""
UNLIMITED: Final = "unlimited"
"""The one word for "no bound", in every setting that bounds something."""
Unlimited = Literal["unlimited"]
Whole = SupportsIndex
"""A whole number. A boolean is none, though Python counts it among the integers."""
Milliseconds = SupportsIndex | timedelta
"""Milliseconds as a number, or a `timedelta`."""
Moment = SupportsIndex | datetime
"""Milliseconds since 1970, or a `datetime` with a time zone."""
Seconds = float | timedelta
"""Seconds as a number, or a `timedelta`."""

_MS: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Unset:
    """The type of a timeout that was left out."""


UNSET: Final = Unset()
Timeout = Seconds | None | Unset
"""Seconds; None: for ever; left out: the client's own."""


def whole(name: str, value: object, least: int = 0, most: int = INT64_MAX) -> int:
    """Convert a whole number; UsageError for another type or one out of range."""
    if isinstance(value, bool | float | str | Enum) or not hasattr(value, "__index__"):
        raise WrongTypeError(f"{name} is a whole number, not {value!r}")
    return _within(name, operator.index(value), least, most)


def milliseconds(name: str, value: object, least: int = 0, most: int = INT64_MAX) -> int:
    """Convert a duration: whole milliseconds or a `timedelta`."""
    if isinstance(value, timedelta):
        number, rest = divmod(value, _MS)
        if rest:
            raise UsageError(f"{name} is whole milliseconds, and {value!r} is not")
        return _within(name, number, least, most)
    if isinstance(value, bool | float | str | Enum) or not hasattr(value, "__index__"):
        raise WrongTypeError(f"{name} is a number of milliseconds or a timedelta, not {value!r}")
    return _within(name, operator.index(value), least, most)


def moment_ms(name: str, value: object) -> int:
    """Convert a moment: milliseconds since 1970, or a `datetime` with a time zone."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise UsageError(f"{name}: {value!r} has no time zone; add one, such as tzinfo=UTC")
        return _within(name, (value - _EPOCH) // _MS, 0, INT64_MAX)
    if isinstance(value, bool | float | str | Enum) or not hasattr(value, "__index__"):
        raise WrongTypeError(f"{name} is milliseconds since 1970 or a datetime with a time zone, not {value!r}")
    return _within(name, operator.index(value), 0, INT64_MAX)


def seconds(name: str, value: object, *, zero: bool = True, most: float = math.inf) -> float:
    """Convert a duration in seconds: a number or a `timedelta`; never negative, never endless."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongTypeError(f"{name} is a number of seconds or a timedelta, not {value!r}")
    if not math.isfinite(value) or not 0 <= value <= most or (not zero and not value):
        end = "finite" if most == math.inf else f"at most {most:g}"
        raise UsageError(f"{name} = {value!r}; it is {'at least' if zero else 'above'} 0 and {end}, in seconds")
    return float(value)


def flag(name: str, value: object) -> bool:
    """Convert a yes or no: only True and False are one."""
    if not isinstance(value, bool):
        raise WrongTypeError(f"{name} is True or False, not {value!r}")
    return value


def text(name: str, value: object) -> str:
    """Convert a string; it must have a UTF-8 form."""
    if not isinstance(value, str):
        raise WrongTypeError(f"{name} must be a string, not {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{name} {value!r} has no UTF-8 form") from error
    return value


def word(name: str, value: object, kind: type[Member], words: Mapping[str, Member]) -> Member:
    """Convert a member of an enumeration from itself or from its word; numbers are refused, for they differ elsewhere."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str) and not isinstance(value, Enum):
        member = words.get(value.strip().lower().replace("-", "_").replace(" ", "_"))
        if member is not None:
            return member
    right = ", ".join(repr(member.name.lower()) for member in dict.fromkeys(words.values()))
    refusal = UsageError if isinstance(value, str) else WrongTypeError
    raise refusal(f"{name} is one of {right} or a member of {kind.__name__}, not {value!r}")


def _within(name: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise UsageError(f"{name} = {value}; it must lie between {least} and {most}")
    return value

"""Calls of the stores: requests from checked values, and large batches in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Final, Protocol, TypeVar

from google.protobuf.message import Message as Proto

from waymaker.client.checked import Timeout, text
from waymaker.client.errors import WrongTypeError

Response = TypeVar("Response", bound=Proto)
T = TypeVar("T")

PART_ENTRIES: Final = 4_096
PART_BYTES: Final = 4 << 20
"""Entries and bytes of one request: a larger batch goes in several, one after the other."""


class Caller(Protocol):
    """A client as its stores use it."""

    async def _call_service(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout, *, repeatable: bool = True,
    ) -> Response:  # fmt: skip
        """Call, and return the checked response. `repeatable` calls change nothing and survive a lost connection."""
        ...

    def _service_pages(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout
    ) -> AsyncIterator[Response]:
        """Yield the pages of a list; `timeout` bounds all of them together."""
        ...


def value(name: str, given: object) -> bytes:
    """Convert a value of bytes; WrongTypeError for anything else."""
    if isinstance(given, bytes):
        return given
    if isinstance(given, bytearray | memoryview):
        return bytes(given)
    raise WrongTypeError(f"{name} must be bytes, not {type(given).__name__}")


def texts(name: str, given: Iterable[object]) -> list[str]:
    """Convert strings; one string is not several."""
    if isinstance(given, str | bytes):
        raise WrongTypeError(f"{name} are several strings, not {given!r}")
    return [text(name, each) for each in given]


def parts(
    items: Iterable[T], size: Callable[[T], int], entries_max: int = PART_ENTRIES, bytes_max: int = PART_BYTES
) -> Iterator[list[T]]:
    """Cut a batch into requests; `size` says how many bytes an item takes."""
    part: list[T] = []
    total = 0
    for item in items:
        more = size(item)
        if part and (len(part) == entries_max or total + more > bytes_max):
            yield part
            part, total = [], 0
        part.append(item)
        total += more
    if part:
        yield part

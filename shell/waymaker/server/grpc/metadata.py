"""Metadata and trailers of a single call: what travels beside its request and its response."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from waymaker_core.model.result_codes import RefusedError, invalid

NEXT_TRAILER: Final = "wmkr-next"
AFTER_METADATA: Final = "wmkr-after"
LIMIT_METADATA: Final = "wmkr-limit"
INCARNATION_METADATA: Final = "wmkr-incarnation"
INACTIVE_METADATA: Final = "wmkr-inactive-ms"
MAX_MESSAGES_METADATA: Final = "wmkr-max-messages"
HISTORY_METADATA: Final = "wmkr-history"
REVISION_METADATA: Final = "wmkr-revision"


class Metadata(NamedTuple):
    """Metadata that a call carries beside its request: `wmkr-after` and `wmkr-limit` of lists, `wmkr-incarnation` of acks,
    `wmkr-inactive-ms` of a new consumer, `wmkr-max-messages` and `wmkr-history` of a new bucket of keys."""

    after: str = ""
    limit: int = 0
    incarnation: str = ""
    inactive_ms: int = 0
    max_messages: int = 0
    history: int = 0


def metadata_of(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """Parse what a call carries beside its request. A list's cursor is percent-encoded, as gRPC's metadata is ASCII.

    Raises `RefusedError`.
    """
    after, limit, incarnation, inactive_ms = "", 0, "", 0
    max_messages = history = 0
    for key, value in metadata:
        if key == AFTER_METADATA:
            after = _cursor(value)
        elif key == LIMIT_METADATA:
            limit = _whole(LIMIT_METADATA, value)
        elif key == INCARNATION_METADATA:
            incarnation = value if isinstance(value, str) else ""
        elif key == INACTIVE_METADATA:
            inactive_ms = _whole(INACTIVE_METADATA, value)
        elif key == MAX_MESSAGES_METADATA:
            max_messages = _whole(MAX_MESSAGES_METADATA, value)
        elif key == HISTORY_METADATA:
            history = _whole(HISTORY_METADATA, value)
    return Metadata(after, limit, incarnation, inactive_ms, max_messages, history)


def revision_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> int:
    """Return the revision of an object on which a call insists; 0 for any. Raises `RefusedError`."""
    for key, value in metadata or ():
        if key == REVISION_METADATA:
            return _whole(REVISION_METADATA, value)
    return 0


def next_trailer(cursor: str) -> tuple[tuple[str, str], ...]:
    """Return the cursor of the following page, as it travels."""
    return ((NEXT_TRAILER, quote(cursor, safe="")),)


def _cursor(value: str | bytes) -> str:
    try:
        return unquote(value if isinstance(value, str) else value.decode(), errors="strict")
    except UnicodeDecodeError:
        raise _bad(AFTER_METADATA, "percent-encoded UTF-8") from None


def _whole(name: str, value: str | bytes) -> int:
    text = value if isinstance(value, str) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise _bad(name, "a whole number")
    return int(text)


def _bad(name: str, wanted: str) -> RefusedError:
    return invalid(f"metadata {name} must be {wanted}")

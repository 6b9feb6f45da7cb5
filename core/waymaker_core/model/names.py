"""Names of streams, consumers, buckets and stores: what may be one, and which prefixes belong to a service.

A name is text for people and keys for dictionaries. It never becomes part of a file path, and it is never compared after
any normalisation: two names are the same when they are the same characters.
"""

from __future__ import annotations

import re

from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError

RESERVED_PREFIXES = ("obj:", "kv:", "hash:", "set:", "queue:", "sketch:")
"""Beginnings of stream names whose messages only a service of ours writes."""
SOURCED_PREFIXES = ("sketch:",)
"""Those among them whose streams may have sources: their service says what becomes of a message."""

_NAME = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff.*>/\\]+")


def is_name(name: str, limits: Limits) -> bool:
    """Return True if this can be a name; a look-up by another text finds nothing."""
    return _NAME.fullmatch(name) is not None and len(name.encode()) <= limits.name_bytes_max


def check_name(name: str, what: str, limits: Limits) -> None:
    """Refuse (`invalid_config`) to create something under an impossible name. `what` begins the sentence: "a stream"."""
    if not name:
        raise CodeError(INVALID_CONFIG, f"{what} needs a name")
    if _NAME.fullmatch(name) is None:
        raise CodeError(
            INVALID_CONFIG,
            f"{what} cannot be called {name[:80]!r}: no whitespace, control characters or any of . * > / \\ in a name",
        )
    if len(name.encode()) > limits.name_bytes_max:
        raise CodeError(INVALID_CONFIG, f"the name of {what} is longer than {limits.name_bytes_max} bytes")


def reserved_prefix(stream: str) -> str:
    """Return the service prefix that a stream's name begins with, or an empty string."""
    for prefix in RESERVED_PREFIXES:
        if stream.startswith(prefix):
            return prefix
    return ""

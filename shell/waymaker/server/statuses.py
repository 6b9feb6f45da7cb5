"""How a refusal leaves through gRPC: status, text, trailers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NoReturn
from urllib.parse import quote, unquote

import grpc

from waymaker.server.rpcs import Metadata
from waymaker_core.model.result_codes import Refusal, RefusedError, Status, invalid

OUTCOME_TRAILER: Final = "wmkr-outcome"
CODE_TRAILER: Final = "wmkr-code"
NEXT_TRAILER: Final = "wmkr-next"
AFTER_METADATA: Final = "wmkr-after"
LIMIT_METADATA: Final = "wmkr-limit"
INCARNATION_METADATA: Final = "wmkr-incarnation"
INACTIVE_METADATA: Final = "wmkr-inactive-ms"

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

UNAUTHENTICATED: Final = Refusal(
    Status.UNAUTHENTICATED, "a valid bearer token is needed: send it as metadata `authorization: Bearer TOKEN`"
)
NOT_OFFERED: Final = Refusal(Status.UNIMPLEMENTED, "this server does not offer this call")


def status_code(refusal: Refusal) -> grpc.StatusCode:
    """gRPC's name of a refusal's status."""
    return _CODES[refusal.status.value]


def trailers(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """What a caller's program reads beside the status."""
    found: list[tuple[str, str]] = []
    if refusal.outcome is not None:
        found.append((OUTCOME_TRAILER, refusal.outcome.value))
    if refusal.code:
        found.append((CODE_TRAILER, refusal.code))
    return tuple(found)


async def abort(context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> NoReturn:
    """End a call with a refusal."""
    await context.abort(status_code(refusal), refusal.message, trailers(refusal))


def metadata_of(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """What a call carries beside its request. gRPC's metadata is ASCII, so a list's cursor travels percent-encoded.

    Raises `RefusedError`.
    """
    after, limit, incarnation, inactive_ms = "", 0, "", 0
    for key, value in metadata:
        if key == AFTER_METADATA:
            after = _cursor(value)
        elif key == LIMIT_METADATA:
            limit = _whole(LIMIT_METADATA, value)
        elif key == INCARNATION_METADATA:
            incarnation = value if isinstance(value, str) else ""
        elif key == INACTIVE_METADATA:
            inactive_ms = _whole(INACTIVE_METADATA, value)
    return Metadata(after, limit, incarnation, inactive_ms)


def next_trailer(cursor: str) -> tuple[tuple[str, str], ...]:
    """The cursor of the following page, as it travels."""
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

"""Refusals as statuses: gRPC's code and trailers of a single call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc

if TYPE_CHECKING:
    from waymaker_core.model.result_codes import Refusal

OUTCOME_TRAILER: Final = "wmkr-outcome"
CODE_TRAILER: Final = "wmkr-code"

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def status_code(refusal: Refusal) -> grpc.StatusCode:
    """Return gRPC's name of a refusal's status."""
    return _CODES[refusal.status.value]


def trailers(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """Return what a caller's program reads beside the status."""
    found: list[tuple[str, str]] = []
    if refusal.outcome is not None:
        found.append((OUTCOME_TRAILER, refusal.outcome.value))
    if refusal.code:
        found.append((CODE_TRAILER, refusal.code))
    return tuple(found)

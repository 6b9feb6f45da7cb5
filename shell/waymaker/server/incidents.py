"""Incidents: what becomes of a bug, and a log call that never raises.

The caller of a bug receives INTERNAL with an opaque id, the operator a log line with the same id and the
traceback. The text of an exception never leaves the process: it may quote what belongs to another client.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import structlog

from waymaker.server.logs import lost
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.model.types import Principal

log = structlog.get_logger("waymaker.server")


def logged(write: Callable[..., Any], event: str, **fields: Any) -> None:
    """Log an event where an exception would take more with it than the line; a line that cannot be written is counted."""
    try:
        write(event, **fields)
    except Exception:
        lost.count()


def internal_error(error: BaseException, where: str, principal: Principal, admitted: bool) -> Refusal:
    """Log what happened, and return the refusal that says nothing of it. Want of memory is no bug."""
    outcome = None if admitted else Outcome.NOT_APPLIED
    if isinstance(error, MemoryError):
        logged(log.error, "out_of_memory", where=where, principal=principal.name)
        return Refusal(Status.RESOURCE_EXHAUSTED, "the server is out of memory; try again later", outcome)
    incident = secrets.token_hex(8)
    logged(log.error, "internal_error", incident=incident, where=where, principal=principal.name, exc_info=error)
    return Refusal(
        Status.INTERNAL,
        f"internal error {incident}; the server's log has the details",
        outcome,
    )

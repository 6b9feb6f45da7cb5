"""Refusals as statuses: gRPC's code and trailers of a single call, a message in the pipeline's frames."""

from __future__ import annotations

from typing import Final

import grpc

from waymaker.wire.elsewhere import ServedElsewhere
from waymaker.wire.protocol import CODE_TRAILER, OUTCOME_TRAILER
from waymaker_core.model.result_codes import Refusal
from waymaker_proto import pipeline_pb2 as pipe

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


def refused(refusal: Refusal) -> pipe.Refused:
    """Return a refusal as the message that the pipeline's frames carry."""
    message = pipe.Refused(
        status=refusal.status.value,
        message=refusal.message,
        outcome=refusal.outcome.value if refusal.outcome is not None else "",
        code=refusal.code,
    )
    if isinstance(refusal, ServedElsewhere):
        message.elsewhere.node_id = refusal.node_id
        message.elsewhere.address = refusal.address
        message.elsewhere.epoch = refusal.epoch
    return message

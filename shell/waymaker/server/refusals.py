"""Refusals of the server itself, and the end of a gRPC call with a refusal."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import grpc

from waymaker.wire.statuses import status_code, trailers
from waymaker_core.model.result_codes import Refusal, Status

UNAUTHENTICATED: Final = Refusal(
    Status.UNAUTHENTICATED, "a valid bearer token is needed: send it as metadata `authorization: Bearer TOKEN`"
)
NOT_OFFERED: Final = Refusal(Status.UNIMPLEMENTED, "this server does not offer this call")


async def abort(context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> NoReturn:
    """End a call with a refusal."""
    await context.abort(status_code(refusal), refusal.message, trailers(refusal))

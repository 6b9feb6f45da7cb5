"""Refusals of the server itself, and the end of a gRPC call with a refusal."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import grpc

from waymaker.wire.elsewhere import ServedElsewhere
from waymaker.wire.statuses import status_code, trailers
from waymaker_core.model.result_codes import Refusal, Status

UNAUTHENTICATED: Final = Refusal(
    Status.UNAUTHENTICATED, "a valid bearer token is needed: send it as metadata `authorization: Bearer TOKEN`"
)
NOT_OFFERED: Final = Refusal(Status.UNIMPLEMENTED, "this server does not offer this call")


class ElsewhereError(Exception):
    """The end of a call that another member serves, of which its caller has seen nothing: it may be sent on."""

    def __init__(self, refusal: ServedElsewhere) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


async def abort(context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> NoReturn:
    """End a call with a refusal. Raises `ElsewhereError` where it can be sent on to the member that serves it."""
    if isinstance(refusal, ServedElsewhere) and getattr(context, "may_be_sent_on", False):
        raise ElsewhereError(refusal)
    await context.abort(status_code(refusal), refusal.message, trailers(refusal))


def status_name(refusal: Refusal) -> str:
    """Return the name under which a refusal is counted."""
    return "ELSEWHERE" if isinstance(refusal, ServedElsewhere) else refusal.status.name

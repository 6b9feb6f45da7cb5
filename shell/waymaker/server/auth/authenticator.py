"""Authentication of calls: tokens are judged when a call begins, and long calls again when the tokens change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import grpc

from waymaker.server.auth.tokens import Tokens
from waymaker.server.refusals import UNAUTHENTICATED, abort
from waymaker_core.model.types import ANYONE, Principal


class Authenticator:
    """The judge of callers. Without tokens every caller is welcome, which configuration allows on loopback only."""

    def __init__(self, tokens: Tokens | None) -> None:
        self.tokens = tokens
        self._inside: dict[Callable[[], None], tuple[Principal, Any]] = {}
        """Long calls: what ends each of them, its principal and its metadata."""

    def principal(self, metadata: Any) -> Principal | None:
        """Return the caller's principal, or None where it is unauthenticated."""
        return ANYONE if self.tokens is None else self.tokens.principal(metadata)

    def change_tokens(self, tokens: Tokens) -> None:
        """Replace the tokens. Long calls made with one that is not valid any more end as UNAUTHENTICATED."""
        self.tokens = tokens
        for end, (principal, metadata) in list(self._inside.items()):
            if self.principal(metadata) != principal:
                end()

    def enter(self, principal: Principal, metadata: Any, end: Callable[[], None]) -> None:
        """Note a long call, to be ended once its token is not valid any more; `leave` forgets it."""
        self._inside[end] = (principal, metadata)

    def leave(self, end: Callable[[], None]) -> None:
        """Forget a long call."""
        self._inside.pop(end, None)

    async def supervise(
        self,
        principal: Principal,
        metadata: Any,
        handler: Coroutine[None, None, None],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        """Let a long call go on as long as its caller is welcome."""
        if self.tokens is None:
            await handler
            return
        leave = asyncio.get_running_loop().create_future()

        def end() -> None:
            if not leave.done():
                leave.set_result(None)

        self.enter(principal, metadata, end)
        call = asyncio.ensure_future(handler)
        try:
            await asyncio.wait({call, leave}, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                call.result()
                return
        finally:
            self.leave(end)
            if not call.done():
                call.cancel()
                with suppress(asyncio.CancelledError):
                    await call
        await abort(context, UNAUTHENTICATED)

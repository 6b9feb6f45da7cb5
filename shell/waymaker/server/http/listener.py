"""The operators' listener: `/metrics`, `/livez` and `/readyz` over plain HTTP.

It runs on the node's own event loop, so an answer of `/livez` says that the loop turns. It shows figures and names, never
messages, and takes no orders.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from waymaker.server.config import Address
from waymaker.server.http.condition import Condition


def application(condition: Condition, scrape: Callable[[], bytes]) -> Starlette:
    """Return the three pages."""

    async def metrics(request: Request) -> Response:
        return Response(scrape(), media_type=CONTENT_TYPE_LATEST)

    async def livez(request: Request) -> Response:
        return _probe(condition.not_alive)

    async def readyz(request: Request) -> Response:
        return _probe(condition.not_ready or condition.not_alive)

    return Starlette(routes=[Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)])


def _probe(problem: str) -> Response:
    return PlainTextResponse(problem + "\n", 503) if problem else PlainTextResponse("ok\n")


class _Quiet(uvicorn.Server):
    """An HTTP server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class OperatorsListener:
    """The listener of an application on one address. Raises `OSError` where the address cannot be had."""

    def __init__(self, address: Address, app: Starlette) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((address.host, address.port))
            self._socket.listen(128)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self.address = Address(address.host, self._socket.getsockname()[1])
        self._server = _Quiet(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", limit_concurrency=64, timeout_keep_alive=15,
                server_header=False, h11_max_incomplete_event_size=16 << 10, http="h11", ws="none",
            )
        )  # fmt: skip
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Accept connections from now on."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))

    async def stop(self) -> None:
        """Close the listener and its connections."""
        if self._task is None:
            self._socket.close()
            return
        self._server.should_exit = True
        self._server.force_exit = True
        await self._task

"""The opening of a session: the channel of gRPC, and the native link of the server that it leads to."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import grpc
import grpc.aio

from waymaker.client.connection.carriers import Host
from waymaker.client.connection.link import LinkCarrier, LinkUnusable, Place, open_link
from waymaker.client.errors import HandshakeError
from waymaker.client.options import Options
from waymaker.wire.protocol import ADMIN_SERVICE
from waymaker_proto import admin_pb2 as admin

log = logging.getLogger("waymaker.client")

SERVER_INFO: Final = f"/{ADMIN_SERVICE}/ServerInfo"
LINK_OPEN_S: Final = 2.0
"""The time that a server may take to say where its native link is, at most."""


def open_channel(options: Options) -> grpc.aio.Channel:
    """Return a channel to the server; UsageError where a file that is named cannot be used."""
    credentials = options.credentials()
    arguments = options.channel_arguments()
    if credentials is None:
        return grpc.aio.insecure_channel(options.target, arguments)
    return grpc.aio.secure_channel(options.target, credentials, arguments)


class LinkFinder:
    """A finder of the native link of one server. One that could not be used is not tried again."""

    def __init__(self, host: Host, options: Options) -> None:
        self._host = host
        self._options = options
        self._place: Place | None = None
        self._refused: Place | None = None

    def refuse(self) -> None:
        """Note that the link that was found cannot be used; another one is tried."""
        self._refused = self._place

    async def find(self, channel: grpc.aio.Channel) -> LinkCarrier | None:
        """Open the native link, where the server tells of one and it is that server's."""
        options = self._options
        if options.transport != "auto":
            return None
        told: Any = channel.unary_unary(SERVER_INFO, response_deserializer=admin.ServerInfoResponse.FromString)
        try:
            info = await told(b"", timeout=min(LINK_OPEN_S, options.connect_timeout / 3), metadata=options.metadata)
            place = Place(info.link_port, info.link_socket, info.link_id)
            if not place.identity or place == self._refused:
                return None
            self._place = place
            return await open_link(self._host, options, place)
        except grpc.aio.AioRpcError:
            return None  # the session says why
        except LinkUnusable as unusable:
            self.refuse()
            log.info("the native link of %s cannot be used (%s); using gRPC", options.target, unusable)
            return None


class Diagnosis:
    """The search for what makes an opening take long, or fail; it begins when it is first asked for."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._task: asyncio.Task[HandshakeError | None] | None = None

    def begin(self) -> asyncio.Task[HandshakeError | None]:
        """Search, unless that has begun."""
        if self._task is None:
            from waymaker.client.connection.diagnosis import diagnose

            work = diagnose(self._options, self._options.connect_timeout / 2)
            self._task = asyncio.get_running_loop().create_task(work, name="waymaker-diagnosis")
        return self._task

    @property
    def finding(self) -> HandshakeError | None:
        """Return what was found so far."""
        return self._task.result() if self._task is not None and self._task.done() else None

    def cancel(self) -> None:
        """End the search."""
        if self._task is not None:
            self._task.cancel()

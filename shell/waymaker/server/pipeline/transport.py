"""The transport of a session, as the session sees it: the native link's connection, or a gRPC stream."""

from __future__ import annotations

from typing import Protocol


class Transport(Protocol):
    """The carrier of one session, which reads, sends and ends it."""

    def wake(self) -> None:
        """Look again: there is something to send, or the session may be over."""
        ...

    def resume(self) -> None:
        """Read on: there is room again."""
        ...

    def stop_reading(self) -> None:
        """Read nothing more."""
        ...

"""The condition of a server, as its probes report it: whether it is ready, and whether it is alive.

It stands apart from the listener, so that a server without one does not load an HTTP server. It must never judge: the server
sets it.
"""

from __future__ import annotations


class Condition:
    """The answers of the two probes. Empty `not_ready` means ready; empty `not_alive` means alive."""

    def __init__(self) -> None:
        self.not_ready = "starting"
        self.not_alive = ""

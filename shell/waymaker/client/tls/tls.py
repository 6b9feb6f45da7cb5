"""Encryption of a connection: which authority is trusted, and which certificate is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from waymaker.client.errors import UsageError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class TLS:
    """Encryption of the connection. `ca` is the authority to trust (PEM file; None: the system's), `cert` and `key` are
    this client's own certificate where the server asks for one, `server_name` overrides the name to verify."""

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise UsageError("a client certificate needs both cert and key")

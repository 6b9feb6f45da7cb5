"""How to reach a server: address, credentials, patience. Checked when it is made, before anything is sent.

The transport's own settings are here too, so that there is one place to look for them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from waymaker.client.checked import Seconds, flag, seconds, text, whole
from waymaker.client.errors import UsageError, WrongTypeError

if TYPE_CHECKING:
    import grpc

MIB = 1024 * 1024

RECEIVE_BYTES_MAX = 64 * MIB
"""Largest frame accepted from a server; twice what the largest batch of deliveries needs."""


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


class MoreOptions(TypedDict, total=False):
    """Options of `connect` beside those that it names; their meaning and defaults are in `Options`."""

    connect_timeout: Seconds
    wait_for_server: bool
    reconnect: bool
    backoff_first: Seconds
    backoff_max: Seconds
    window_bytes: int
    plaintext_token: bool


@dataclass(frozen=True, slots=True)
class Options:
    """One client's settings; times are seconds."""

    target: str
    token: str | None = field(default=None, repr=False)
    tls: TLS | None = None
    timeout: float | None = 30.0
    """For a call that names none; None waits for ever."""
    connect_timeout: float = 5.0
    wait_for_server: bool = False
    """Keep trying during `connect_timeout` instead of failing at the first refusal."""
    reconnect: bool = True
    """False: the first loss of the connection ends the client."""
    backoff_first: float = 0.05
    backoff_max: float = 3.0
    window_bytes: int = 8 * MIB
    """Bytes of `publish_many` under way at a time, beside the window that the server grants."""
    plaintext_token: bool = False
    """Allow a token over an unencrypted connection to another machine."""

    def __post_init__(self) -> None:
        self._convert()
        if not self.target or any(c.isspace() for c in self.target):
            raise UsageError(f"{self.target!r} is not an address; give HOST:PORT")
        if not self.target.startswith("unix:") and ":" not in self.target:
            raise UsageError(f"{self.target!r} has no port; give HOST:PORT, such as {self.target}:7411")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise UsageError("a token is made of printable ASCII characters")
        if self.token and self.tls is None and not self.plaintext_token and not _is_local(self.target):
            raise UsageError(
                f"a token for {self.target} would cross the network in the clear; use TLS, "
                "or say plaintext_token=True where something else protects the connection"
            )
        if self.backoff_first > self.backoff_max:
            raise UsageError("backoff_first must be above 0 and at most backoff_max")

    def _convert(self) -> None:
        """Check every option's type by its name, and turn durations into seconds."""
        text("target", self.target)
        if self.token is not None:
            text("token", self.token)
        if not isinstance(self.tls, TLS | None):
            raise WrongTypeError(f"tls is True, False or waymaker.TLS(...), not {self.tls!r}")
        if self.timeout is not None:
            object.__setattr__(self, "timeout", seconds("timeout", self.timeout))
        for name in ("connect_timeout", "backoff_first", "backoff_max"):
            object.__setattr__(self, name, seconds(name, getattr(self, name), zero=False))
        for name in ("wait_for_server", "reconnect", "plaintext_token"):
            flag(name, getattr(self, name))
        object.__setattr__(self, "window_bytes", whole("window_bytes", self.window_bytes, 1))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """The channel's credentials, read from the files named; UsageError where one cannot be read."""
        if self.tls is None:
            return None
        import grpc

        return grpc.ssl_channel_credentials(_pem(self.tls.ca), _pem(self.tls.key), _pem(self.tls.cert))

    def channel_arguments(self) -> Sequence[tuple[str, str | int]]:
        arguments: list[tuple[str, str | int]] = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
            # Reconnecting is this client's business: a shared pool would make it wait for another channel's back-off.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]
        if self.tls is not None and self.tls.server_name:
            arguments.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return arguments


def _is_local(target: str) -> bool:
    if target.startswith("unix:"):
        return True
    host = target.rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _pem(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error

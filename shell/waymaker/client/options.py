"""Options of a connection: address, credentials, patience. Checked when it is made, before anything is sent.

The transport's own settings are here too, so that there is one place to look for them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypedDict

from waymaker.client.checked import Seconds, flag, seconds, text, whole
from waymaker.client.errors import UsageError, WrongTypeError
from waymaker.client.tls.tls import TLS

if TYPE_CHECKING:
    import grpc

MIB = 1024 * 1024

PORT_MAX = 65_535
GRPC_SCHEMES = frozenset({"dns", "unix"})
"""Schemes of gRPC's own that stand before an address, as in dns:///HOST:PORT."""
TRANSPORTS = ("auto", "grpc")
RECEIVE_BYTES_MAX = 64 * MIB
"""Largest frame accepted from a server; twice what the largest batch of deliveries needs."""


class MoreOptions(TypedDict, total=False):
    """Options of `connect` beside those that it names; their meaning and defaults are in `Options`."""

    connect_timeout: Seconds
    wait_for_server: bool
    reconnect: bool
    resend: bool
    backoff_first: Seconds
    backoff_max: Seconds
    window_bytes: int
    plaintext_token: bool
    transport: str


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
    resend: bool = True
    """Send publishes again whose connection was lost before their answer; the server stores them once."""
    backoff_first: float = 0.05
    backoff_max: float = 3.0
    window_bytes: int = 8 * MIB
    """Bytes of `publish_many` in flight at a time, beside the window that the server grants."""
    plaintext_token: bool = False
    """Allow a token over an unencrypted connection to another machine."""
    transport: str = "auto"
    """`auto`: the native link where the server offers it, else gRPC. `grpc`: gRPC alone."""

    def __post_init__(self) -> None:
        self._convert()
        for each in self.targets:
            _check_target(each)
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise UsageError("a token is made of printable ASCII characters")
        if self.token and self.tls is None and not self.plaintext_token and (exposed := self._exposed()):
            raise UsageError(
                f"a token for {exposed} would cross the network in the clear; use TLS, "
                "or say plaintext_token=True where something else protects the connection"
            )
        if self.transport not in TRANSPORTS:
            raise UsageError(f"transport is one of {', '.join(TRANSPORTS)}, not {self.transport!r}")
        if self.backoff_first > self.backoff_max:
            raise UsageError("backoff_first must be above 0 and at most backoff_max")

    def _convert(self) -> None:
        """Check every option's type by its name, and turn durations into seconds."""
        text("target", self.target)
        text("transport", self.transport)
        if self.token is not None:
            text("token", self.token)
        if not isinstance(self.tls, TLS | None):
            raise WrongTypeError(f"tls is True, False or waymaker.TLS(...), not {self.tls!r}")
        if self.timeout is not None:
            object.__setattr__(self, "timeout", seconds("timeout", self.timeout))
        for name in ("connect_timeout", "backoff_first", "backoff_max"):
            object.__setattr__(self, name, seconds(name, getattr(self, name), zero=False))
        for name in ("wait_for_server", "reconnect", "resend", "plaintext_token"):
            flag(name, getattr(self, name))
        object.__setattr__(self, "window_bytes", whole("window_bytes", self.window_bytes, 1))

    def _exposed(self) -> str:
        """Return a server on another machine; empty where there is none."""
        return next((each for each in self.targets if not is_local(each)), "")

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the servers' addresses: one, or several members of one cluster, with commas between."""
        return tuple(each.strip() for each in self.target.split(","))

    def at(self, target: str, connect_timeout: float | None = None) -> Options:
        """Return the same for one address. UsageError where a token may not be sent there."""
        if target == self.target and connect_timeout is None:
            return self
        return replace(
            self, target=target, connect_timeout=connect_timeout or self.connect_timeout, wait_for_server=False
        )

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return the channel's credentials, read from the files named; UsageError where one cannot be used."""
        if self.tls is None:
            return None
        import grpc

        from waymaker.client.tls.certificates import read_material

        return grpc.ssl_channel_credentials(*read_material(self.tls))

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


def host_and_port(target: str) -> tuple[str, int]:
    """Return the parts of an address; no host where it is not one of TCP."""
    if target.startswith("unix:"):
        return "", 0
    host, _, port = target.rpartition(":")
    host = host.rpartition("/")[2].removeprefix("dns:").strip("[]")
    return host, int(port) if port.isascii() and port.isdigit() else 0


def _check_target(target: str) -> None:
    scheme, separator, rest = target.partition("://")
    if separator and scheme not in GRPC_SCHEMES:
        address = rest.partition("/")[0] or "HOST:PORT"
        encrypted = " with tls" if scheme.lower() in {"https", "grpcs", "tls", "wss"} else ""
        raise UsageError(f"{target!r} is a URL; give the address alone{encrypted}, such as {address}")
    if not target or any(c.isspace() for c in target):
        raise UsageError(f"{target!r} is not an address; give HOST:PORT")
    if target.startswith("unix:"):
        return
    if ":" not in target:
        raise UsageError(f"{target!r} has no port; give HOST:PORT, such as {target}:7411")
    host, port = host_and_port(target)
    if not host or not 0 < port <= PORT_MAX:
        raise UsageError(f"{target!r} is not an address; give HOST:PORT with a port from 1 to {PORT_MAX}")


def is_local(target: str) -> bool:
    """Return True for an address of this machine."""
    if target.startswith("unix:"):
        return True
    host, _ = host_and_port(target)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""`connect` and `connect_sync`: where every program begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waymaker.client.client import Client
from waymaker.client.options import TLS, Options

if TYPE_CHECKING:
    from waymaker.client.sync import SyncClient

DEFAULT_TARGET = "127.0.0.1:7411"


def connect(
    target: str = DEFAULT_TARGET, *, token: str | None = None, tls: TLS | bool | None = None,
    timeout: float | None = 30.0, **options: Any,
) -> Client:  # fmt: skip
    """A client for the server at HOST:PORT, opened by `async with`.

    `tls=True` trusts the system's authorities; `TLS(ca=...)` names others. `timeout` (seconds) holds for every call that
    names none. Everything else in `Options` may be given by keyword.
    """
    return Client(_options(target, token, tls, timeout, options))


def connect_sync(
    target: str = DEFAULT_TARGET, *, token: str | None = None, tls: TLS | bool | None = None,
    timeout: float | None = 30.0, **options: Any,
) -> SyncClient:  # fmt: skip
    """The same without asyncio: a client for scripts, opened by `with`."""
    from waymaker.client.sync import SyncClient

    return SyncClient(_options(target, token, tls, timeout, options))


def _options(
    target: str, token: str | None, tls: TLS | bool | None, timeout: float | None, options: dict[str, Any]
) -> Options:
    chosen = TLS() if tls is True else (tls or None)
    return Options(target=target, token=token or None, tls=chosen, timeout=timeout, **options)

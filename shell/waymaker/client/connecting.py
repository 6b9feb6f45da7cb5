"""`connect` and `connect_sync`: where every program begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from waymaker.client.checked import Seconds, text
from waymaker.client.client import Client
from waymaker.client.options import MoreOptions, Options
from waymaker.client.settings import refuse_unknown
from waymaker.client.tls.tls import TLS

if TYPE_CHECKING:
    from waymaker.client.sync import SyncClient

DEFAULT_TARGET = "127.0.0.1:7411"


def connect(
    target: str | Sequence[str] = DEFAULT_TARGET, *, token: str | None = None, tls: TLS | bool | None = None,
    timeout: Seconds | None = 30.0, **options: Unpack[MoreOptions],
) -> Client:  # fmt: skip
    """Return a client for the server at HOST:PORT, opened by `async with`.

    Of a cluster any member will do; several, in a list or with commas between, are tried in turn. The client finds the others.
    `tls=True` trusts the system's authorities; `TLS(ca=...)` names others. `timeout` (seconds) holds for every call that
    names none. Everything else in `Options` may be given by keyword.
    """
    return Client(_options(target, token, tls, timeout, options))


def connect_sync(
    target: str | Sequence[str] = DEFAULT_TARGET, *, token: str | None = None, tls: TLS | bool | None = None,
    timeout: Seconds | None = 30.0, **options: Unpack[MoreOptions],
) -> SyncClient:  # fmt: skip
    """Return a client for scripts, without asyncio, opened by `with`."""
    from waymaker.client.sync import SyncClient

    return SyncClient(_options(target, token, tls, timeout, options))


def _options(
    target: str | Sequence[str],
    token: str | None,
    tls: TLS | bool | None,
    timeout: Seconds | None,
    more: Mapping[str, Any],
) -> Options:
    for name in more:
        if name not in MoreOptions.__annotations__:
            refuse_unknown("a connection", name, ("token", "tls", "timeout", *MoreOptions.__annotations__))
    chosen: Any = TLS() if tls is True else None if tls is False else tls
    seconds: Any = timeout
    address: Any = target
    if not isinstance(target, str) and isinstance(target, Sequence):
        address = ",".join(text("target", each) for each in target)
    return Options(target=address, token=token or None, tls=chosen, timeout=seconds, **more)

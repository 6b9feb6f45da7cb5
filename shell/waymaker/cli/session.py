"""Options and client of all commands that talk to a server: their options, and a client for as long as the command runs."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from waymaker.cli import exits, failure, output

if TYPE_CHECKING:
    from waymaker.client.client import Client

F = TypeVar("F", bound=Callable[..., Any])
Command = Callable[..., Coroutine[Any, Any, Any]]
PROGRAM: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Settings of a command that is a program of its own, too."""
DEFAULT_SERVER = "127.0.0.1:7411"


def _stack(function: Any, options: list[Callable[[F], F]]) -> Any:
    for option in reversed(options):
        function = option(function)
    return function


def json_option(function: F) -> F:
    """Add --json alone, for commands without a server."""
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one value a line.")

    @functools.wraps(function)
    def kept(*args: Any, **kwargs: Any) -> Any:
        failure.remember(kwargs)
        return function(*args, **kwargs)

    return option(kept)  # type: ignore[return-value]


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--server", metavar="HOST:PORT", envvar="WAYMAKER_SERVER", default=DEFAULT_SERVER, show_default=True,
                 show_envvar=True, help="The server to talk to."),
    click.option("--token", metavar="TOKEN", envvar="WAYMAKER_TOKEN", show_envvar=True,
                 help="Bearer token; the variable keeps it out of process lists."),
    click.option("--tls", is_flag=True, help="Encrypt, trusting the system's authorities."),
    click.option("--ca", metavar="FILE", envvar="WAYMAKER_CA", type=click.Path(dir_okay=False), show_envvar=True,
                 help="Encrypt, trusting the authorities in this PEM file."),
    click.option("--cert", metavar="FILE", type=click.Path(dir_okay=False), help="This client's certificate (PEM)."),
    click.option("--key", metavar="FILE", type=click.Path(dir_okay=False), help="The certificate's private key (PEM)."),
    click.option("--tls-name", metavar="NAME", help="The name to expect in the server's certificate."),
    click.option("--plaintext-token", is_flag=True, help="Send a token unencrypted to another machine."),
    click.option("--timeout", metavar="SECONDS", type=click.FloatRange(min=0.001), default=10.0, show_default=True,
                 help="How long to wait for an answer."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON, one value a line."),
]  # fmt: skip


def connection_options(function: F) -> F:
    """Add the connection's options alone; `opened` takes their values."""
    return _stack(function, _OPTIONS)  # type: ignore[no-any-return]


def opened(
    *, server: str, token: str | None, tls: bool, ca: str | None, cert: str | None, key: str | None,
    tls_name: str | None, plaintext_token: bool, timeout: float,
) -> Client:  # fmt: skip
    """Return the client that the connection's options ask for."""
    import logging

    import waymaker

    _note_misspelt_variables(os.environ)
    logging.basicConfig(format="%(message)s", level=logging.INFO)  # the client's notices: on standard error
    encryption = waymaker.TLS(ca, cert, key, tls_name) if tls or ca or cert or tls_name else None
    return waymaker.connect(
        server, token=token, tls=encryption, timeout=timeout, connect_timeout=min(timeout, 5.0),
        plaintext_token=plaintext_token,
    )  # fmt: skip


def connected(function: Command) -> Callable[..., Any]:
    """Make a coroutine `f(client, **parameters)` a command body with the connection's options."""

    @functools.wraps(function)
    def body(
        *, server: str, token: str | None, tls: bool, ca: str | None, cert: str | None, key: str | None,
        tls_name: str | None, plaintext_token: bool, timeout: float, **parameters: Any,
    ) -> Any:  # fmt: skip
        failure.remember({"server": server, **parameters})

        async def work() -> Any:
            client = opened(
                server=server, token=token, tls=tls, ca=ca, cert=cert, key=key, tls_name=tls_name,
                plaintext_token=plaintext_token, timeout=timeout,
            )  # fmt: skip
            async with client:
                return await function(client, **parameters)

        return run(work())

    return _stack(body, _OPTIONS)  # type: ignore[no-any-return]


def _note_misspelt_variables(environment: Mapping[str, str]) -> None:
    """Name variables that are nearly the command line's own. Others with the prefix may belong to another program."""
    from waymaker.environment import unknown_variables

    if not any(unknown_variables(environment, ()).values()):
        return
    from waymaker.server.config import SETTINGS

    for name, near in unknown_variables(environment, [setting.variable for setting in SETTINGS]).items():
        if near:
            output.note(f"the environment variable {name} is not known and ignored; did you mean {near}?")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's coroutine; Ctrl-C and SIGTERM end it in order, with what was received acknowledged.

    A second one is not answered by us but by the system, so it ends the process whatever it is doing.
    """
    import asyncio
    import signal
    import threading

    numbers = (signal.SIGINT, signal.SIGTERM)
    received: list[int] = []

    async def supervised() -> Any:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end(number: int, _: object) -> None:
            received.append(number)
            for each in numbers:
                signal.signal(each, signal.SIG_DFL)
            loop.call_soon_threadsafe(task.cancel)

        if threading.current_thread() is threading.main_thread():  # elsewhere they are the caller's business
            for number in numbers:
                signal.signal(number, end)
        return await work

    before = [signal.getsignal(number) for number in numbers]
    try:
        return asyncio.run(supervised())
    except asyncio.CancelledError:
        code = exits.TERMINATED if signal.SIGTERM in received else exits.INTERRUPTED
        raise click.exceptions.Exit(code) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end a question: the loop, which waits for it, could only note them."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return

    def terminate(*_: object) -> None:
        raise click.exceptions.Exit(exits.TERMINATED)

    before = [(number, signal.signal(number, handler)) for number, handler in
              ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, terminate))]  # fmt: skip
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def complete_streams(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return names of streams for the shell; be quiet and quick where no server answers."""

    import asyncio

    async def names() -> list[str]:
        import waymaker

        server = ctx.params.get("server") or DEFAULT_SERVER
        async with waymaker.connect(server, token=ctx.params.get("token"), timeout=1.0, connect_timeout=0.5) as client:
            return await client.list_streams()

    try:
        return [name for name in asyncio.run(names()) if name.startswith(incomplete)]
    except Exception:
        return []


def stream_argument(function: F) -> F:
    return click.argument("stream", shell_complete=complete_streams)(function)

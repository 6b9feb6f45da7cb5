"""The words of a command that fails: what happened, why, and what to type next. On standard error, as JSON with --json."""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING, Final

import click

from waymaker.cli import exits

if TYPE_CHECKING:
    from waymaker.client.errors import WaymakerError


HANDSHAKE_HINTS: Final = {
    "tls_needed": "--tls, or --ca FILE where an authority of your own has signed the server's certificate",
    "tls_not_spoken": "leave out --tls, --ca and the variable WAYMAKER_CA",
    "certificate_name": "--server with a name that the certificate holds, or --tls-name NAME",
    "certificate_not_trusted": "--ca FILE with the authority that has signed the server's certificate",
    "client_certificate": "--cert FILE --key FILE, signed by an authority that the server trusts",
}
"""Advice where client and server do not understand each other, in the command line's words."""


class CommandError(Exception):
    """A failure found by a command itself. `hint` is what to type next, `outcome` as that of a client's exception."""

    def __init__(
        self, message: str, exit_code: int = exits.FAILED, hint: str = "", code: str = "failed",
        outcome: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.outcome = outcome
        self.exit_code = exit_code
        self.hint = hint
        self.code = code


def say(error: Exception) -> int:
    """Print what an exception means and return the exit code."""
    from waymaker.client.errors import WaymakerError

    if isinstance(error, CommandError):
        _write(str(error), code=error.code, hint=error.hint, outcome=error.outcome)
        return error.exit_code
    if isinstance(error, WaymakerError):
        return _say_client(error)
    if isinstance(error, FileNotFoundError):
        _write(f"{error.filename}: no such file or directory", code="no_such_file")
        return exits.NOT_FOUND
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        _write(f"{where}{error.strerror or error}", code="os_error")
        return exits.FAILED
    _write(
        f"unexpected {type(error).__name__}: {error}",
        code="bug",
        hint="this is a bug; please report it with what follows",
    )
    click.echo("".join(traceback.format_exception(error)), err=True)
    return exits.FAILED


def say_usage(error: click.ClickException) -> None:
    """Print what is wrong with a command line, and where to read on."""
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
    _write(error.format_message(), code="usage", hint=hint)


def exit_code_of(error: WaymakerError) -> int:
    """Return the exit code of a client's exception."""
    from waymaker.client import errors as e

    if isinstance(error, e.NotFoundError | e.NotFoundStatusError):
        return exits.NOT_FOUND
    if isinstance(error, e.TransferCorruptedError | e.DataLossError):
        return exits.DAMAGED
    if isinstance(error, e.UsageError):
        return exits.USAGE
    if isinstance(error, e.UnauthenticatedError | e.PermissionDeniedError):
        return exits.FORBIDDEN
    if error.outcome == e.UNKNOWN:
        return exits.UNKNOWN
    if isinstance(error, e.ResourceExhaustedError):
        return exits.LIMIT
    if isinstance(error, e.UnavailableError | e.DeadlineExceededError | e.ClosedError):
        return exits.UNAVAILABLE
    if isinstance(error, e.ResultCodeError | e.InvalidArgumentError):
        return exits.REFUSED
    return exits.FAILED


def hint_of(error: WaymakerError) -> str:
    """Return what to type next, or to look at."""
    from waymaker.client import errors as e

    server = _parameter("server") or "127.0.0.1:7411"
    stream, name = _parameter("stream") or _parameter("name") or "STREAM", _parameter("name")
    existing = f"waymaker stream info {stream}; waymaker stream edit {stream} changes limits"
    if _parameter("stream") and name:
        existing = f"waymaker consumer info {stream} {name}; another name, or waymaker consumer rm {stream} {name}"
    if isinstance(error, e.UnknownStatusError) or error.outcome == e.UNKNOWN:
        return "it may have happened: look first, for example with `waymaker stream info " + stream + "`"
    if isinstance(error, e.HandshakeError):
        return HANDSHAKE_HINTS.get(error.code, error.advice)
    hints: list[tuple[type[WaymakerError], str]] = [
        (e.NoSuchStreamError, f"waymaker stream ls, or waymaker stream add {stream}"),
        (e.NoSuchConsumerError, f"waymaker consumer ls {stream}"),
        (e.AlreadyExistsError, existing),
        (e.SubjectRejectedError, f"waymaker stream info {stream} shows the subjects it takes"),
        (e.OversizeError, _oversize_hint(error.message, stream)),
        (e.ImmutableFieldError, "the setting is fixed for the life of the stream; make another stream"),
        (e.UnauthenticatedError, "give --token or set WAYMAKER_TOKEN; `waymaker token NAME` makes one for the server"),
        (e.UnimplementedError, "is the server of this version? `waymaker info` tells"),
        (e.DataLossError, "stop the server, then: waymaker check DATA_DIR"),
        (e.DeadlineExceededError, "a longer --timeout, or look at the server's log"),
        (e.UnavailableError, f"is a server running at {server}? `waymaker dev` starts one; --server names another"),
    ]
    return next((hint for cls, hint in hints if isinstance(error, cls)), "")


def _oversize_hint(message: str, stream: str) -> str:
    """Return what to do about a message that is too large. It depends on whose bound it is, which the message names."""
    if "message_bytes_max" in message:
        return "cut it into several; the server's operator can raise limits.message_bytes_max"
    name = "max-msg-bytes" if "max_msg_bytes" in message else "max-bytes"
    return f"cut it into several, or raise the bound: waymaker stream edit {stream} --{name} SIZE"


def _say_client(error: WaymakerError) -> int:
    from waymaker.client.errors import HandshakeError

    message = error.what if isinstance(error, HandshakeError) else error.message
    _write(message, code=error.code, hint=hint_of(error), outcome=error.outcome)
    return exit_code_of(error)


def _write(message: str, *, code: str, hint: str = "", outcome: str | None = None) -> None:
    if _wants_json():
        told = {"code": code, "message": message, "outcome": outcome, "hint": hint}
        click.echo(json.dumps({"error": {key: value for key, value in told.items() if value}}), err=True)
        return
    click.echo(
        f"{click.style('error', fg='red')}: {message}" + (f" ({code})" if _tells(code, message) else ""), err=True
    )
    if outcome == "unknown":
        click.echo("  outcome: unknown", err=True)
    if hint:
        click.echo(f"  next: {hint}", err=True)


def _tells(code: str, message: str) -> bool:
    """Return True if the code adds something."""
    return code not in {"usage", "failed", "no_such_file", "os_error", "bug"} and code not in message


def _wants_json() -> bool:
    """Return True if the failed command was given --json, understood as its option or not."""
    return bool(_parameter("as_json")) or "--json" in sys.argv


_last: dict[str, object] = {}


def remember(parameters: dict[str, object]) -> None:
    """Keep what a command was called with, for the words of a failure: by then click has dropped its context."""
    _last.clear()
    _last.update(parameters)


def _parameter(name: str) -> str:
    value = _last.get(name)
    return str(value) if value else ""

"""The ends of sessions that are not their client's wish."""

from __future__ import annotations

from typing import Final

from waymaker_core.model.result_codes import Outcome, Refusal, RefusedError, Status, invalid

HELLO_S: Final = 10.0
"""The time that a session may take to begin."""

OVER: Final = Refusal(Status.UNAVAILABLE, "the server is shutting down")
"""The refusal with which a closing server ends a session: it answered all that it read, so the rest was not applied."""

SUPERSEDED: Final = Refusal(Status.ABORTED, "a newer session of the same producer began", Outcome.UNKNOWN)
"""The end of a session whose producer has begun anew: what it has not read yet must not be stored behind a resend."""


def late_hello() -> RefusedError:
    """Return the end of a session that did not begin in time."""
    return invalid(f"a session begins with hello, within {HELLO_S:g} s")

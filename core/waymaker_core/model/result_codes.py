"""The ends of a call: the contract's result codes, or a refusal that a transport turns into its own status.

The one place that names result codes and statuses. An `Answer` is an RPC that ran and says what came of it; a `Refusal` is
an RPC that did not: malformed, over a limit, not now. `Refusal.outcome` says whether repeating a change is safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

OK: Final = "ok"
ALREADY_EXISTS: Final = "already_exists"
INVALID_CONFIG: Final = "invalid_config"
IMMUTABLE_FIELD: Final = "immutable_field"
NO_SUCH_STREAM: Final = "no_such_stream"
NO_SUCH_CONSUMER: Final = "no_such_consumer"
SUBJECT_REJECTED: Final = "subject_rejected"
OVERSIZE: Final = "oversize"
WRONG_REVISION: Final = "wrong_revision"
INVALID_KEY: Final = "invalid_key"
NO_SUCH_BUCKET: Final = "no_such_bucket"
NO_SUCH_OBJECT: Final = "no_such_object"
NO_LEADER: Final = "no_leader"
INCOMPLETE: Final = "incomplete"
SHA_MISMATCH: Final = "sha_mismatch"
OUTCOME_UNKNOWN: Final = "outcome_unknown"
"""Of a message with a number that the stream has forgotten: it may have been stored, and is not stored now."""
PRODUCER_FENCED: Final = "producer_fenced"
"""Of a message whose producer has a newer epoch."""


class Status(Enum):
    """Refusals, named as gRPC names them; the value is gRPC's number."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Outcome(Enum):
    """The fate of a change whose call failed."""

    NOT_APPLIED = "not-applied"
    """It did not happen and will not: repeating it is safe."""
    UNKNOWN = "unknown"
    """It may have happened."""


@dataclass(slots=True, eq=False)
class Answer:
    """A call that ran. `value` is what the request's docstring in `requests` says, or None where the code is not `ok`."""

    code: str
    message: str = ""
    value: object = None

    def __repr__(self) -> str:
        return f"Answer({self.code!r}, {self.message!r}, {self.value!r})"


@dataclass(slots=True, eq=False)
class Refusal:
    """A call that did not run. `code` is a result code for transports that carry one in a trailer, or empty."""

    status: Status
    message: str
    outcome: Outcome | None = Outcome.NOT_APPLIED
    code: str = ""

    def __repr__(self) -> str:
        return f"Refusal({self.status.name}, {self.message!r}, {self.outcome}, {self.code!r})"


class RefusedError(Exception):
    """A refusal raised inside the core; the node turns it into the reply."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class CodeError(Exception):
    """A result code other than `ok`, raised inside the core."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> RefusedError:
    """Make the refusal of a malformed or out-of-range argument."""
    return RefusedError(Refusal(Status.INVALID_ARGUMENT, message))


def resource_exhausted(message: str) -> RefusedError:
    """Make the refusal of a call over a limit."""
    return RefusedError(Refusal(Status.RESOURCE_EXHAUSTED, message))

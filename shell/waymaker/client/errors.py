"""Errors that a client call can raise: one class for each result code and one for each status, all under `WaymakerError`.

Responsible for turning a result code or a gRPC status into an exception, in one table, and for saying what became of a
change that failed. `outcome` is the question a caller asks before repeating it: `NOT_APPLIED` means that it did not happen
and will not, `UNKNOWN` that it may have happened, `None` that there was nothing to change or the server did not say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Protocol

NOT_APPLIED = "not-applied"
"""The change did not happen and will not: repeating it is safe."""
UNKNOWN = "unknown"
"""The change may have happened."""


class Outcomes(Protocol):
    """The outcomes of `publish_many`; `results.PublishResults` is one."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> int | WaymakerError: ...
    def __iter__(self) -> Iterator[int | WaymakerError]: ...

    @property
    def stored(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def failures(self) -> dict[int, WaymakerError]: ...


class WaymakerError(Exception):
    """Any failure of a call. `code` is a stable word: a result code, or a status in lower case."""

    code: str = "error"

    def __init__(self, message: str = "", *, code: str = "", outcome: str | None = None) -> None:
        super().__init__(message or code or self.code)
        if code:
            self.code = code
        self.outcome = outcome
        self.results: Outcomes | None = None
        """From `publish_many`: what became of every message taken before this happened."""

    @property
    def message(self) -> str:
        """Return what happened, in a sentence."""
        return str(self.args[0])


# ------------------------------------------------------------------------------------- result codes


class ResultCodeError(WaymakerError):
    """The call ran and ended with a result code other than `ok`. Nothing was changed, except where a class says otherwise."""

    def __init__(self, message: str = "", *, code: str = "", outcome: str | None = NOT_APPLIED) -> None:
        super().__init__(message, code=code, outcome=outcome)


class NotFoundError(ResultCodeError):
    """The stream, the consumer or another named thing does not exist."""

    code = "not_found"


class NoSuchStreamError(NotFoundError):
    code = "no_such_stream"


class NoSuchConsumerError(NotFoundError):
    code = "no_such_consumer"


class NoSuchBucketError(NotFoundError):
    code = "no_such_bucket"


class NoSuchObjectError(NotFoundError):
    code = "no_such_object"


class IncompleteError(ResultCodeError):
    """The object has another revision by now, or its chunks are missing."""

    code = "incomplete"


class ShaMismatchError(ResultCodeError):
    """A payload whose SHA-256 is not the one that was promised. Where the server found it, nothing was stored."""

    code = "sha_mismatch"


class AlreadyExistsError(ResultCodeError):
    """The name is taken, by something that differs from what was asked for."""

    code = "already_exists"


class InvalidConfigError(ResultCodeError):
    code = "invalid_config"


class ImmutableFieldError(ResultCodeError):
    """The setting is fixed for the life of the stream."""

    code = "immutable_field"


class InvalidKeyError(ResultCodeError):
    code = "invalid_key"


class SubjectRejectedError(ResultCodeError):
    """The subject is malformed, or the stream does not take it."""

    code = "subject_rejected"


class OversizeError(ResultCodeError):
    """The message is larger than its stream takes."""

    code = "oversize"


class WrongRevisionError(ResultCodeError):
    """The last sequence at the subject is not the expected one; `seq` is the one it is.

    With outcome `UNKNOWN` (only where publishes are not numbered), an earlier attempt of this very publish had been lost on
    the way: it may be what moved the subject. Read the message at `seq` to find out.
    """

    code = "wrong_revision"

    def __init__(self, message: str = "", *, code: str = "", outcome: str | None = NOT_APPLIED, seq: int = 0) -> None:
        super().__init__(message, code=code, outcome=outcome)
        self.seq = seq


class OutcomeUnknownError(ResultCodeError):
    """The message was sent again so late that its stream has forgotten its number: it may have been stored before."""

    code = "outcome_unknown"

    def __init__(self, message: str = "", *, code: str = "", outcome: str | None = UNKNOWN) -> None:
        super().__init__(message, code=code, outcome=outcome)


class ProducerFencedError(ResultCodeError):
    """A newer session of the same producer publishes to the stream."""

    code = "producer_fenced"


class NoLeaderError(ResultCodeError):
    """No member leads the catalog at the moment, or none that is known; nothing happened. Try again later."""

    code = "no_leader"


class TransferCorruptedError(ResultCodeError):
    """An archive is damaged or cut short."""

    code = "transfer_corrupted"


class InternalResultError(ResultCodeError):
    """The server failed at this call and says so in its answer."""

    code = "internal"

    def __init__(self, message: str = "", *, code: str = "", outcome: str | None = UNKNOWN) -> None:
        super().__init__(message, code=code, outcome=outcome)


# ---------------------------------------------------------------------------------------- statuses


class StatusError(WaymakerError):
    """The call did not run to its end; `status` is gRPC's number."""

    status: ClassVar[int] = 2


class CancelledError(StatusError):
    code = "cancelled"
    status = 1


class UnknownStatusError(StatusError):
    code = "unknown"
    status = 2


class InvalidArgumentError(StatusError):
    code = "invalid_argument"
    status = 3


class DeadlineExceededError(StatusError):
    """No answer within `timeout`. With outcome `NOT_APPLIED` the request had not left this client."""

    code = "deadline_exceeded"
    status = 4


class NotFoundStatusError(StatusError):
    code = "not_found"
    status = 5


class PermissionDeniedError(StatusError):
    code = "permission_denied"
    status = 7


class ResourceExhaustedError(StatusError):
    """A limit: of size, of number, or of the disk."""

    code = "resource_exhausted"
    status = 8


class FailedPreconditionError(StatusError):
    code = "failed_precondition"
    status = 9


class AbortedError(StatusError):
    code = "aborted"
    status = 10


class OutOfRangeError(StatusError):
    code = "out_of_range"
    status = 11


class UnimplementedError(StatusError):
    code = "unimplemented"
    status = 12


class InternalError(StatusError):
    """A bug of the server; the message holds the id under which its log says more."""

    code = "internal"
    status = 13


class UnavailableError(StatusError):
    code = "unavailable"
    status = 14


class ConnectionLostError(UnavailableError):
    """The connection ended before the answer came."""

    code = "connection_lost"


class HandshakeError(UnavailableError):
    """A peer that answered and cannot be spoken with: TLS on one side only, a certificate, another kind of server.

    `code` names the reason, `what` describes it, and `advice` says what to do about it.
    """

    code = "handshake"

    def __init__(self, what: str = "", *, advice: str = "", code: str = "", outcome: str | None = NOT_APPLIED) -> None:
        super().__init__(f"{what}; {advice}" if advice else what, code=code, outcome=outcome)
        self.what = what
        self.advice = advice


class DataLossError(StatusError):
    """Stored data is damaged; the stream is quarantined."""

    code = "data_loss"
    status = 15


class UnauthenticatedError(StatusError):
    code = "unauthenticated"
    status = 16


# -------------------------------------------------------------------------------------- the client


class ClosedError(WaymakerError):
    """The client was closed, or not opened yet."""

    code = "closed"


class UsageError(WaymakerError, ValueError):
    """The caller's own mistake, found before anything was sent."""

    code = "usage"


class WrongTypeError(UsageError, TypeError):
    """A value of a type that the call does not take."""


class ForkedError(UsageError):
    """The process was forked while a client was open: gRPC does not work in it."""

    code = "forked"


# ---------------------------------------------------------------------------------------- from codes

RESULT_CODES: dict[str, type[ResultCodeError]] = {
    cls.code: cls
    for cls in (
        NoSuchStreamError, NoSuchConsumerError, NoSuchBucketError, NoSuchObjectError, IncompleteError,
        ShaMismatchError, AlreadyExistsError, InvalidConfigError,
        ImmutableFieldError, InvalidKeyError, SubjectRejectedError, OversizeError, WrongRevisionError,
        OutcomeUnknownError, ProducerFencedError, NoLeaderError, TransferCorruptedError, InternalResultError,
    )
}  # fmt: skip

STATUSES: dict[int, type[StatusError]] = {
    cls.status: cls
    for cls in (
        CancelledError, UnknownStatusError, InvalidArgumentError, DeadlineExceededError, NotFoundStatusError,
        PermissionDeniedError, ResourceExhaustedError, FailedPreconditionError, AbortedError, OutOfRangeError,
        UnimplementedError, InternalError, UnavailableError, DataLossError, UnauthenticatedError,
    )
}  # fmt: skip


def from_result(code: str, message: str, seq: int = 0) -> WaymakerError:
    """Return the exception of a result code; a code this client does not know is a plain `ResultCodeError` that carries it."""
    if code == WrongRevisionError.code:
        return WrongRevisionError(message, seq=seq)
    return RESULT_CODES.get(code, ResultCodeError)(message, code=code or "internal")


def from_status(status: int, message: str, outcome: str = "", code: str = "") -> WaymakerError:
    """Return the exception of a status. A result code in the trailers (`code`) decides the class."""
    if code:
        error = RESULT_CODES.get(code, ResultCodeError)(message, code=code)
        error.outcome = outcome or error.outcome
        return error
    return STATUSES.get(status, UnknownStatusError)(message, outcome=outcome or None)

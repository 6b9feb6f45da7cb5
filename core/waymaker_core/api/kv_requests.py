"""Requests of key-value buckets and their answers, as plain objects.

A bucket is the stream `kv:<bucket>`. Writes and reads of keys are batches with columns: what many tasks ask travels together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from waymaker_core.model.result_codes import Status

BUCKET_PREFIX = "kv:"


class _OfBucket:
    """A request about one bucket."""

    __slots__ = ()
    bucket: str

    @property
    def stream(self) -> str:
        """Return the name of the bucket's stream."""
        return BUCKET_PREFIX + self.bucket


@dataclass(slots=True, eq=False)
class KvCreateBucket(_OfBucket):
    """No value; `already_exists`, `invalid_config`. 0: no bound; `history` and `tombstone_ms` 0: the default.

    `max_age_ms` bounds how long any value lives. `tombstone_ms`: how long a tombstone stays once its key has ended.
    """

    bucket: str
    max_bytes: int = 0
    max_messages: int = 0
    max_value_size: int = 0
    max_age_ms: int = 0
    ephemeral: bool = False
    history: int = 0
    tombstone_ms: int = 0


@dataclass(slots=True, eq=False)
class KvDeleteBucket(_OfBucket):
    """No value; `no_such_bucket`."""

    bucket: str


class KvOp(Enum):
    """A change of one key."""

    PUT = 1
    CREATE = 2
    UPDATE = 3
    DELETE = 4
    TOUCH = 5


@dataclass(slots=True, eq=False)
class KvWrite(_OfBucket):
    """Change keys of a bucket, in order, each seeing those before it. Value `KvWritten`; `no_such_bucket`.

    Columns with one entry a change: `ops`, `keys`, `expected` (the revision that an update asks for), `ttls_ms` (0: for ever),
    `sizes` (bytes of the value) and `lengths` (of its stored body inside `body`, as made by `kv.bodies.value_body`; 0 for
    a deletion and a touch).
    """

    bucket: str
    ops: list[KvOp]
    keys: list[str]
    expected: list[int]
    ttls_ms: list[int]
    sizes: list[int]
    lengths: list[int]
    body: bytes


@dataclass(slots=True, eq=False)
class KvFailure:
    """The reason why a change was not made: a result code and the present revision, or (`status`) a refusal."""

    code: str
    message: str
    revision: int = 0
    status: Status | None = None


@dataclass(slots=True, eq=False)
class KvWritten:
    """Value of `KvWrite`: for each change its key's revision after it, and the failures by index."""

    revisions: list[int]
    failures: dict[int, KvFailure]


@dataclass(slots=True, eq=False)
class KvGet(_OfBucket):
    """Read the live values of keys. Value `Messages`, each of whose keys is found by `Messages.of_keys`; `no_such_bucket`.

    Where the values are too long for one answer, only the first keys are read, as many as `of_keys` has entries.
    """

    bucket: str
    keys: list[str]


@dataclass(slots=True, eq=False)
class KvKeys(_OfBucket):
    """Keys behind `after` that have a revision, sorted. Value `Page` of `KvKey`; `no_such_bucket`. `limit` as in lists."""

    bucket: str
    after: str = ""
    limit: int = 0


@dataclass(slots=True, eq=False)
class KvKey:
    """A key, its newest revision, and whether that is a tombstone."""

    key: str
    revision: int
    deleted: bool


@dataclass(slots=True, eq=False)
class KvHistory(_OfBucket):
    """The revisions of a key that are kept, tombstones included. Value `Messages`; `no_such_bucket`. `limit` 0: a page."""

    bucket: str
    key: str
    from_revision: int = 0
    limit: int = 0


@dataclass(slots=True, eq=False)
class KvWatch(_OfBucket):
    """Send the live values that a pattern selects, then every change, while there is credit (`inputs.Credit`).

    The first delivery says that it has begun, and may be empty. `after`: only what came behind this revision.

    No reply on success: `Deliver` effects, then one `End`. `NOT_FOUND` with code `no_such_bucket`.
    """

    bucket: str
    pattern: str = ""
    after: int | None = None


KV_READS = (KvGet, KvKeys, KvHistory)
"""Reads of keys; a read of an overdue value has its tombstone committed first."""
KvRequest = KvCreateBucket | KvDeleteBucket | KvWrite | KvGet | KvKeys | KvHistory | KvWatch

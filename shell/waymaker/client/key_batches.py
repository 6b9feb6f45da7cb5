"""Calls about keys that gather into batches: what many tasks ask of one bucket in one turn of the loop.

A `PendingKeys` holds the changes, or the reads, of a bucket while it waits to be sent, with one future a key. It travels as
columns, and as single calls to a server that knows no key batches. Reads are sent again after a lost connection. Changes
are not, unless the server says that they were not made.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf.message import Message as Proto

from waymaker.client.checked import text
from waymaker.client.connection.failures import error_of, of_a_read
from waymaker.client.connection.topics import topic_of_keys
from waymaker.client.connection.work import CallWork, Work, check_result, timed_out
from waymaker.client.errors import NOT_APPLIED, UNKNOWN, DataLossError, UnavailableError, WaymakerError, from_result
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

if TYPE_CHECKING:
    from waymaker.client.connection.members import Members

KEYS_TARGET: Final = 1_000
BYTES_TARGET: Final = 256 * 1024
KEY_OVERHEAD_BYTES: Final = 32
"""Bytes of a frame beside a key and its value, at most."""


class Found(NamedTuple):
    """The value of a key with its revision and time; revision 0: it has none."""

    value: bytes
    revision: int
    ts_ms: int


class _Call(NamedTuple):
    """The call of the contract for one key: its RPC, and its messages."""

    method: str
    request: type[Proto]
    response: Any


_CALLS: Final[dict[pl.KeyCall.ValueType, _Call]] = {
    pl.KEY_PUT: _Call("Put", pb.KvPutRequest, pb.KvPutResponse),
    pl.KEY_CREATE: _Call("Create", pb.KvCreateRequest, pb.KvPutResponse),
    pl.KEY_UPDATE: _Call("Update", pb.KvUpdateRequest, pb.KvPutResponse),
    pl.KEY_DELETE: _Call("Delete", pb.KvDeleteRequest, pb.KvDeleteResponse),
    pl.KEY_TOUCH: _Call("Touch", pb.KvTouchRequest, pb.KvPutResponse),
    pl.KEY_GET: _Call("Get", pb.KvGetRequest, pb.KvGetResponse),
}


class PendingKeys(Work):
    """Changes of a bucket, or reads; every key has its own future and deadline."""

    __slots__ = (
        "caller", "bucket", "reads", "calls", "keys", "values", "expected", "ttls_ms", "futures", "deadlines",
        "unanswered", "refusal",
    )  # fmt: skip

    def __init__(self, caller: KeyCaller, bucket: str, reads: bool) -> None:
        super().__init__(len(bucket) + KEY_OVERHEAD_BYTES)
        self.caller = caller
        self.bucket = bucket
        self.reads = reads
        self.calls: list[pl.KeyCall.ValueType] = []
        self.keys: list[str] = []
        self.values: list[bytes] = []
        self.expected: list[int] = []
        self.ttls_ms: list[int] = []
        self.futures: list[asyncio.Future[Any]] = []
        self.deadlines: list[float | None] = []
        self.unanswered = 0
        """Keys that were sent and are not answered."""
        self.refusal: pl.Refused | None = None
        """The server could not serve some keys for the moment, and did nothing: they are sent again."""

    @property
    def messages(self) -> int:
        return len(self.keys)

    @property
    def topic(self) -> str:
        return topic_of_keys(self.bucket)

    @property
    def is_awaited(self) -> bool:
        return any(not future.done() for future in self.futures)

    def has_room(self, size: int) -> bool:
        """Return True if a key of this size may join."""
        return len(self.keys) < self.caller.keys_max and self.size + size <= BYTES_TARGET

    def fill(self, frame: pl.Frame) -> bool:
        self.caller.close_batch(self)
        self._forget_done()
        if not self.futures:
            return False
        if not self.caller.server_keys_max:
            self.caller.call_each(self)
            return False
        calls = self.calls
        batch = frame.key_batches.add(id=self.id, bucket=self.bucket)
        batch.calls.extend(calls[:1] if calls.count(calls[0]) == len(calls) else calls)
        batch.keys.extend(self.keys)
        if not self.reads:
            batch.values.extend(self.values)
            if any(self.expected):
                batch.expected.extend(self.expected)
            if any(self.ttls_ms):
                batch.ttl_ms.extend(self.ttls_ms)
        self.unanswered, self.refusal = len(self.keys), None
        return True

    def takes_part(self, reply: pl.KeyBatchResult) -> bool:
        if reply.HasField("refused"):
            return False
        revisions, first = reply.revisions, reply.first
        self.unanswered -= len(revisions)
        answers: list[Any] = list(map(Found, reply.values, revisions, reply.ts_ms) if self.reads else revisions)
        futures = self.futures[first : first + len(revisions)]
        if len(answers) != len(futures):
            self.unanswered = 0  # what it leaves without an answer fails
            return False
        failures = {failure.index: failure for failure in reply.failures}
        for place, (future, answer) in enumerate(zip(futures, answers, strict=True), first):
            if future.done():
                continue
            if failures and (failure := failures.get(place)) is not None:
                self._failed(future, failure, revisions[place - first])
            else:
                future.set_result(answer)
        return self.unanswered > 0

    def _failed(self, future: asyncio.Future[Any], failure: pl.KeyFailure, revision: int) -> None:
        """Set the exception of a failure, unless the key is to be sent again."""
        if not failure.HasField("refused"):
            future.set_exception(from_result(failure.result_code, failure.message, revision))
            return
        error = error_of(failure.refused)
        if isinstance(error, UnavailableError) and error.outcome == NOT_APPLIED:
            self.refusal = failure.refused
        else:
            future.set_exception(of_a_read(error) if self.reads else error)

    def refusal_in(self, reply: pl.KeyBatchResult) -> pl.Refused | None:
        return reply.refused if reply.HasField("refused") else self.refusal

    def answer(self, reply: pl.KeyBatchResult) -> None:
        """End: every part was taken when it came."""
        if self.is_awaited:
            self.fail(DataLossError("the server's answer to calls about keys cannot be read", outcome=UNKNOWN))

    def fail(self, error: WaymakerError) -> None:
        self.caller.close_batch(self)
        for future in self.futures:
            if not future.done():
                future.set_exception(of_a_read(error) if self.reads else error)

    def lost(self, error: WaymakerError) -> bool:
        if self.reads and self.is_awaited:
            return True
        self.fail(error)
        return False

    def expire(self, now: float, absence: str = "") -> bool:
        if self.deadline is None or self.deadline > now:
            return not self.futures
        left: list[float] = []
        for future, deadline in zip(self.futures, self.deadlines, strict=True):
            if deadline is None or future.done():
                continue
            if deadline <= now:
                error = timed_out(self.may_have_happened, absence)
                future.set_exception(of_a_read(error) if self.reads else error)
            else:
                left.append(deadline)
        self.deadline = min(left, default=None)
        if self.is_awaited:
            return False
        self.caller.close_batch(self)
        return True

    def _forget_done(self) -> None:
        """Forget the keys whose caller has left or was answered."""
        places = [place for place, future in enumerate(self.futures) if not future.done()]
        if len(places) == len(self.futures):
            return
        columns: list[list[Any]] = [self.calls, self.keys, self.futures, self.deadlines]
        if not self.reads:
            columns += [self.values, self.expected, self.ttls_ms]
        for column in columns:
            column[:] = [column[place] for place in places]


class KeyCaller:
    """The open batches of a client: of each bucket one for changes, and one for reads."""

    def __init__(self, connection: Members) -> None:
        self._connection = connection
        self._open: dict[tuple[str, bool], PendingKeys] = {}

    @property
    def server_keys_max(self) -> int:
        """Return the most keys that the server takes in a batch; 0: it knows no batches."""
        return self._connection.welcome.key_batch_max

    @property
    def keys_max(self) -> int:
        """Return the most keys of a batch."""
        return min(KEYS_TARGET, self.server_keys_max or KEYS_TARGET)

    def add(
        self,
        bucket: str,
        call: pl.KeyCall.ValueType,
        key: str,
        value: bytes,
        expected: int,
        ttl_ms: int,
        deadline: float | None,
    ) -> asyncio.Future[Any]:
        """Queue one call; the future gives the revision after a change, or what a read `Found`."""
        connection = self._connection
        reads = call == pl.KEY_GET
        size = len(text("key", key)) + len(value) + KEY_OVERHEAD_BYTES
        batch = self._open.get((bucket, reads))
        is_first = batch is None or not batch.has_room(size)
        if batch is None or is_first:
            text("bucket", bucket)
            connection.check_size(size)
            batch = PendingKeys(self, bucket, reads)
            connection.submit(batch)
            self._open[bucket, reads] = batch
        batch.size += size
        batch.calls.append(call)
        batch.keys.append(key)
        if not reads:
            batch.values.append(value)
            batch.expected.append(expected)
            batch.ttls_ms.append(ttl_ms)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        batch.futures.append(future)
        batch.deadlines.append(deadline)
        if deadline is not None and (batch.deadline is None or deadline < batch.deadline):
            batch.deadline = deadline
            connection.watch_deadline(deadline)
        if is_first:
            connection.send_alone()
        return future

    def close_batch(self, batch: PendingKeys) -> None:
        """Close a batch: no further key joins it."""
        if self._open.get((batch.bucket, batch.reads)) is batch:
            del self._open[batch.bucket, batch.reads]

    def call_each(self, batch: PendingKeys) -> None:
        """Send the keys of a batch as calls of their own."""
        for place, future in enumerate(batch.futures):
            kind = batch.calls[place]
            call = _CALLS[kind]
            fields: dict[str, Any] = {"bucket": batch.bucket, "key": batch.keys[place]}
            if not batch.reads and kind not in (pl.KEY_DELETE, pl.KEY_TOUCH):
                fields["value"] = batch.values[place]
            if kind == pl.KEY_UPDATE:
                fields["expected_revision"] = batch.expected[place]
            if not batch.reads and kind != pl.KEY_DELETE:
                fields["ttl_ms"] = batch.ttls_ms[place]
            answered: asyncio.Future[pl.CallResult] = asyncio.get_running_loop().create_future()
            answered.add_done_callback(partial(_called, future, call.response))
            request = call.request(**fields)
            self._connection.submit(
                CallWork(call.method, request, batch.reads, answered, batch.deadlines[place])
            )  # fmt: skip


def _called(future: asyncio.Future[Any], kind: Any, answered: asyncio.Future[pl.CallResult]) -> None:
    """Hand the answer to a key's own call on to its caller."""
    error = answered.exception()
    if future.done():
        return
    try:
        if error is not None:
            raise error
        response = kind.FromString(answered.result().response)
        check_result(response)
        if kind is not pb.KvGetResponse:
            future.set_result(int(response.revision))
        elif response.HasField("entry"):
            future.set_result(Found(response.entry.value, response.entry.revision, response.entry.ts_ms))
        else:
            future.set_result(Found(b"", 0, 0))
    except Exception as failure:
        future.set_exception(failure)

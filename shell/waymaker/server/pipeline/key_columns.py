"""A key batch of a client: calls about keys of one bucket as columns, from its message to its answer.

It is what `key_batches` makes of single calls, without a message for each of them on the way in or out. The node judges
each key by itself. Where it refuses a batch, its keys are asked for one by one, and the answer comes in parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from waymaker.server.pipeline.batch import BATCH_CALLS_MAX, FRAGMENT_BYTES, Answered, Batch
from waymaker.storage.store import Bodies
from waymaker.wire.frames import keyed
from waymaker.wire.kv import NOT_FOUND, found_values, write_columns
from waymaker.wire.statuses import refused
from waymaker_core.api.kv_requests import KvFailure, KvGet, KvOp, KvWrite, KvWritten
from waymaker_core.api.requests import Messages
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status, invalid
from waymaker_proto import pipeline_pb2 as pipe

KEY_BATCH_MAX: Final = BATCH_CALLS_MAX
_GET: Final = pipe.KEY_GET
_OPS: Final[dict[int, KvOp]] = {
    pipe.KEY_PUT: KvOp.PUT,
    pipe.KEY_CREATE: KvOp.CREATE,
    pipe.KEY_UPDATE: KvOp.UPDATE,
    pipe.KEY_DELETE: KvOp.DELETE,
    pipe.KEY_TOUCH: KvOp.TOUCH,
}
_NAMES: Final[dict[KvOp | None, str]] = {op: op.name.capitalize() for op in KvOp} | {None: "Get"}
"""The contract's names of the calls; a read has no operation."""


class _Unanswered:
    """The number of keys of a client's batch that are not answered, shared by its parts."""

    __slots__ = ("keys",)

    def __init__(self, keys: int) -> None:
        self.keys = keys


class KeyColumns(Batch):
    """A key batch, or consecutive keys of one from place `first` on. Reads have no operations, values and the like."""

    __slots__ = ("id", "bucket", "first", "ops", "keys", "values", "expected", "ttls_ms", "_unanswered")

    def __init__(
        self, id_: int, bucket: str, ops: list[KvOp], keys: list[str], values: list[bytes], expected: list[int],
        ttls_ms: list[int], first: int = 0, unanswered: _Unanswered | None = None,
    ) -> None:  # fmt: skip
        super().__init__(reads=not ops, large_response=not ops)
        self.id = id_
        self.bucket = bucket
        self.first = first
        self.ops = ops
        self.keys = keys
        self.values = values
        self.expected = expected
        self.ttls_ms = ttls_ms
        self._unanswered = unanswered or _Unanswered(len(keys))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def ids(self) -> list[int]:
        """Return the batch's one id."""
        return [self.id]

    @property
    def method(self) -> str:
        """Return the RPC's name of the first key's call."""
        return _NAMES[self.ops[0] if self.ops else None]

    def request(self) -> KvWrite | KvGet:
        """Return the one request of all keys."""
        if self.reads:
            return KvGet(self.bucket, self.keys)
        return write_columns(self.bucket, self.ops, self.keys, self.values, self.expected, self.ttls_ms)

    def part(self, start: int, end: int) -> KeyColumns:
        """Return the keys from place `start` to `end` of this batch as one of their own."""
        ops, keys, values = self.ops[start:end], self.keys[start:end], self.values[start:end]
        expected, ttls_ms = self.expected[start:end], self.ttls_ms[start:end]
        first = self.first + start
        return KeyColumns(self.id, self.bucket, ops, keys, values, expected, ttls_ms, first, self._unanswered)

    def rest(self, answered: int) -> KeyColumns:
        """Return the keys behind those that were answered."""
        return self.part(answered, len(self.keys))

    def each(self) -> list[KeyColumns]:
        """Return a batch for each key."""
        return [self.part(place, place + 1) for place in range(len(self.keys))]

    def answered(self, answer: Answer | Refusal, bodies: Bodies | None) -> Answered:
        """Return what the node's answer means for the keys; those behind them are to be asked again."""
        results = self._results(answer, bodies)
        count = sum(len(result.revisions) for result in results)
        self._unanswered.keys -= count
        is_last = not self._unanswered.keys
        fragments = [(keyed(result), int(is_last and result is results[-1])) for result in results]
        return Answered(count, self.ids if is_last else [], fragments, self._outcomes(count, results))

    def _results(self, answer: Answer | Refusal, bodies: Bodies | None) -> list[pipe.KeyBatchResult]:
        if isinstance(answer, Refusal):
            return [self._failed(pipe.KeyFailure(refused=refused(answer)))]
        if isinstance(answer.value, KvWritten):
            written = answer.value
            failures = [self._failure(place, failure) for place, failure in sorted(written.failures.items())]
            return [
                pipe.KeyBatchResult(id=self.id, first=self.first, revisions=written.revisions, failures=failures)
            ]  # fmt: skip
        if isinstance(answer.value, Messages) and answer.value.of_keys is not None:
            return list(self._read(answer.value.of_keys, found_values(answer.value, bodies or [])))
        return [self._failed(pipe.KeyFailure(result_code=answer.code, message=answer.message))]

    def _failed(self, failure: pipe.KeyFailure) -> pipe.KeyBatchResult:
        """Return the answer of keys that all failed alike."""
        result = pipe.KeyBatchResult(id=self.id, first=self.first, revisions=[0] * len(self.keys))
        for place in range(len(self.keys)):
            failure.index = self.first + place
            result.failures.append(failure)
        if self.reads:
            result.values.extend([b""] * len(self.keys))
            result.ts_ms.extend([0] * len(self.keys))
        return result

    def _failure(self, place: int, failure: KvFailure) -> pipe.KeyFailure:
        index = self.first + place
        if failure.status is None:
            return pipe.KeyFailure(index=index, result_code=failure.code, message=failure.message)
        refusal = Refusal(failure.status, failure.message, Outcome.NOT_APPLIED)
        return pipe.KeyFailure(index=index, refused=refused(refusal))

    def _read(self, of_keys: Sequence[int], found: dict[int, tuple[bytes, int, int]]) -> Iterator[pipe.KeyBatchResult]:
        """Yield values in pieces: what is sent is freed piece by piece."""
        rows = [found.get(seq, NOT_FOUND) for seq in of_keys]
        start = size = 0
        for place, row in enumerate(rows):
            if place > start and size + len(row[0]) > FRAGMENT_BYTES:
                yield self._values(start, rows[start:place])
                start, size = place, 0
            size += len(row[0])
        yield self._values(start, rows[start:])

    def _values(self, start: int, rows: list[tuple[bytes, int, int]]) -> pipe.KeyBatchResult:
        values, seqs, times_ms = zip(*rows, strict=True)
        return pipe.KeyBatchResult(
            id=self.id, first=self.first + start, revisions=seqs, values=values, ts_ms=times_ms
        )  # fmt: skip

    def _outcomes(self, count: int, results: list[pipe.KeyBatchResult]) -> dict[tuple[str, str], int]:
        """Return how many keys' calls ended so, by RPC and status."""
        counts: dict[tuple[str, str], int] = {}
        for op in dict.fromkeys(self.ops[:count] or (None,)):
            counts[_NAMES[op], "OK"] = self.ops[:count].count(op) if op is not None else count
        for failure in (failure for result in results for failure in result.failures if failure.HasField("refused")):
            place = failure.index - self.first
            name, status = _NAMES[self.ops[place] if self.ops else None], Status(failure.refused.status).name
            counts[name, "OK"] -= 1
            counts[name, status] = counts.get((name, status), 0) + 1
        return {outcome: number for outcome, number in counts.items() if number}


def key_columns(message: Any) -> KeyColumns:
    """Return the batch of a client's message. Raises `RefusedError` where its columns disagree."""
    keys = list(message.keys)
    count = len(keys)
    if not 0 < count <= KEY_BATCH_MAX:
        raise invalid(f"a key batch of {count} keys; it has between 1 and {KEY_BATCH_MAX}")
    calls = list(message.calls)
    if len(calls) not in (1, count):
        raise invalid("a key batch has one call, or one for each key")
    values = list(message.values)
    expected, ttls_ms = (list(column) or [0] * count for column in (message.expected, message.ttl_ms))
    if calls.count(_GET) == len(calls):
        if values or message.expected or message.ttl_ms:
            raise invalid("reads of keys carry no values, revisions or times to live")
        return KeyColumns(message.id, message.bucket, [], keys, [], [], [])
    if not len(values) == len(expected) == len(ttls_ms) == count:
        raise invalid("the columns of a key batch disagree")
    try:
        ops = [_OPS[call] for call in calls] if len(calls) > 1 else [_OPS[calls[0]]] * count
    except KeyError:
        raise invalid("the calls of a key batch are all changes, or all reads") from None
    return KeyColumns(message.id, message.bucket, ops, keys, values, expected, ttls_ms)

"""Calls about key-value buckets: create and delete, change keys, read them, watch them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from waymaker_core.api.inputs import Call
from waymaker_core.api.kv_requests import (
    KvCreateBucket,
    KvDeleteBucket,
    KvGet,
    KvHistory,
    KvKeys,
    KvOp,
    KvRequest,
    KvWatch,
    KvWrite,
    KvWritten,
)
from waymaker_core.api.requests import Messages
from waymaker_core.kv import decisions, reads
from waymaker_core.kv.keys import check_key_to_read, pattern_fault, subject_head
from waymaker_core.kv.layer import KvLayer
from waymaker_core.kv.settings import bucket_config
from waymaker_core.layers.layer import KV, LayerDecision
from waymaker_core.model.result_codes import (
    NO_SUCH_BUCKET,
    NO_SUCH_STREAM,
    OK,
    WRONG_REVISION,
    Answer,
    CodeError,
    Refusal,
    invalid,
)
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate, nothing
from waymaker_core.node.handlers.checks import page_limit, require_whole
from waymaker_core.node.handlers.committing import Committing
from waymaker_core.node.handlers.streams import Streams
from waymaker_core.node.readers.live_readers import LiveReader, LiveReaders
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import StreamReplica

FACT_ENTRY_BYTES = 64
"""Bytes that a change takes in its record besides its message: an entry of a fact, a subject apart."""


class Buckets:
    """Handlers of the calls about buckets. `again` attempts a call anew."""

    def __init__(
        self,
        state: NodeState,
        committing: Committing,
        gate: Gate,
        registry: StreamRegistry,
        streams: Streams,
        live_readers: LiveReaders,
        again: Callable[[Call], None],
    ) -> None:
        self._state = state
        self._committing = committing
        self._gate = gate
        self._registry = registry
        self._streams = streams
        self._live_readers = live_readers
        self._again = again

    # ------------------------------------------------------------------ buckets

    def create_bucket(self, call: Call, _found: StreamReplica | None) -> None:
        """Decide a `KvCreateBucket`."""
        assert isinstance(call.request, KvCreateBucket)
        self._streams.create_from(call, bucket_config(call.request))

    def delete_bucket(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `KvDeleteBucket`, also of a bucket in quarantine."""
        assert isinstance(call.request, KvDeleteBucket)
        self._found(call, found, self._registry.require_deletable)
        self._streams.delete_found(call, found, call.request.stream)

    # ------------------------------------------------------------------ changes

    def write(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `KvWrite`."""
        request = call.request
        assert isinstance(request, KvWrite)
        replica = self._found(call, found, self._registry.require_changeable)
        layer = _layer_of(replica, request.bucket)
        # A key whose value is overdue gets a tombstone beside its change; both take a subject. Ends may use the reserve.
        texts = sum(map(len, request.keys)) + len(request.ops) * (len(request.bucket) * 3 + FACT_ENTRY_BYTES)
        ordinary = any(op not in (KvOp.DELETE, KvOp.TOUCH) for op in request.ops)
        bound = self._committing.admit(replica, len(request.ops), len(request.body), 4 * texts, ordinary=ordinary)
        decision = decisions.decide_write(layer, request, self._state.now)
        self._count(request, decision)
        self._committing.commit_layer(call.token, replica, decision, bound)

    def _count(self, request: KvWrite, decision: LayerDecision) -> None:
        """Count the changes of a request by their outcome."""
        stats, written = self._state.stats, decision.value
        assert isinstance(written, KvWritten)
        if not written.failures and request.ops.count(KvOp.PUT) == len(request.ops):
            stats.kv_puts += len(request.ops)
            return
        for index, op in enumerate(request.ops):
            failure = written.failures.get(index)
            if failure is not None:
                stats.kv_conflicts += failure.code == WRONG_REVISION
            elif op is KvOp.TOUCH:
                stats.kv_touches += 1
            elif op is not KvOp.DELETE:
                stats.kv_puts += 1
        stats.kv_deletes += decision.deleted

    # ------------------------------------------------------------------ reads

    def get(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `KvGet`. A value that is overdue gets its tombstone committed first."""
        request, now = call.request, self._state.now
        assert isinstance(request, KvGet)
        replica = self._found(call, found, self._registry.require_served)
        layer = _layer_of(replica, request.bucket)
        if not 0 < len(request.keys) <= self._state.limits.publish_batch_max:
            raise invalid(
                f"{len(request.keys)} keys; between 1 and {self._state.limits.publish_batch_max} are read at once"
            )
        for key in request.keys:
            check_key_to_read(request.bucket, key, self._state.limits)
        head = subject_head(request.bucket)
        overdue = layer.overdue([head + key for key in request.keys], now)
        if not overdue:
            found_values = reads.read_keys(layer, request.bucket, request.keys, self._state.limits.page_bytes_max)
            self._state.stats.kv_gets += len(found_values.of_keys or ())
            self._gate.reply_messages(call.token, replica, found_values)
            return
        self._end_overdue(replica, layer, [each for each in overdue if not layer.is_staged(each)])
        self._gate.when_applied(call.token, lambda: self._again(call), replica.log.last)

    def _end_overdue(self, replica: StreamReplica, layer: KvLayer, subjects: list[str]) -> None:
        if not subjects:
            return
        size = sum(map(len, subjects)) + 64 * len(subjects)
        bound = self._committing.admit(replica, len(subjects), size, size, ordinary=False)
        decision = layer.end_values(subjects, self._state.now)
        assert decision.record is not None, "tombstones are a record"
        self._state.stats.kv_expired += decision.expired
        self._committing.add_decided(replica, decision.record, decision.parts, bound)

    def keys(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `KvKeys`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, KvKeys)
        replica = self._found(call, found, self._registry.require_served)
        layer = _layer_of(replica, request.bucket)
        limit = page_limit(request.limit, limits.page_entries_max)
        page = reads.list_keys(layer, request.bucket, request.after, request.limit and limit)
        require_whole(request.limit, page.next_after)
        self._gate.reply(call.token, Answer(OK, "", page))

    def history(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `KvHistory`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, KvHistory)
        replica = self._found(call, found, self._registry.require_served)
        layer = _layer_of(replica, request.bucket)
        check_key_to_read(request.bucket, request.key, limits)
        limit = page_limit(request.limit, limits.page_entries_max)
        messages = reads.read_history(
            layer, request.bucket, request.key, request.from_revision, limit, limits.page_bytes_max
        )
        self._gate.reply_messages(call.token, replica, messages)

    def watch(self, call: Call, found: StreamReplica | None) -> None:
        """Begin a `KvWatch`."""
        request = call.request
        assert isinstance(request, KvWatch)
        replica = self._found(call, found, self._registry.require_served)
        layer = _layer_of(replica, request.bucket)
        if fault := pattern_fault(request.bucket, request.pattern, self._state.limits):
            raise invalid(fault)
        reader = self._live_readers.add_reader(call.token, replica)
        begin = partial(self._begin_watch, reader, layer, request)
        if self._gate.replicated:
            self._gate.when_confirmed(replica.log, call.token, begin, nothing, _nothing_to_refuse)
        else:
            begin()

    def _begin_watch(self, reader: LiveReader, layer: KvLayer, request: KvWatch) -> None:
        """Let a watch begin, unless it has ended: it sees whatever happens from now on."""
        if self._live_readers.find_reader(reader.token) is reader:
            reader.source = reads.Watch(layer, request.bucket, request.pattern, request.after)
            self._gate.deliver(reader.token, Messages([], 0, 0))
            self._state.mark_dirty(reader.leading.replica)

    def _found(
        self, call: Call, found: StreamReplica | None, require: Callable[[StreamReplica | None, str], StreamReplica]
    ) -> StreamReplica:
        """Return the stream of a bucket, as far as it may be used. CodeError (`no_such_bucket`)."""
        assert isinstance(call.request, KvRequest)
        try:
            return require(found, call.request.stream)
        except CodeError as error:
            raise _no_such_bucket(call.request.bucket) if error.code == NO_SUCH_STREAM else error from None


def _nothing_to_refuse(_refusal: Refusal) -> None:
    """Do nothing: the reader of a stream that was given up is told by its end."""


def _layer_of(replica: StreamReplica, bucket: str) -> KvLayer:
    layer = replica.layers.by_kind.get(KV)
    if not isinstance(layer, KvLayer):
        raise _no_such_bucket(bucket)
    return layer


def _no_such_bucket(bucket: str) -> CodeError:
    return CodeError(NO_SUCH_BUCKET, f"no bucket is called {bucket[:300]!r}")

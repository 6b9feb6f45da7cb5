"""Publishes and archive batches: admitted, decided against committed state and overlay, and added to the next commit."""

from __future__ import annotations

from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import ImportBatch, Publish
from waymaker_core.model.result_codes import OK, Answer, resource_exhausted
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.handlers.free_space import require_free_space
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.journal.writer import PRODUCER_SPAN_BYTES, frame_bytes_max
from waymaker_core.stream import PublishDecision, admission


class Publishing:
    """Handlers of the calls that append messages."""

    def __init__(self, state: NodeState, group_commit: GroupCommit, gate: Gate, registry: StreamRegistry) -> None:
        self._state = state
        self._group_commit = group_commit
        self._gate = gate
        self._registry = registry

    def publish(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `Publish`."""
        request = call.request
        assert isinstance(request, Publish)
        replica = self._registry.require_changeable(found, request.stream)
        bound = self._admit(replica, len(request.subjects), len(request.body))
        decision = admission.decide_publish(replica.stream, request, self._state.now.wall_ms)
        failures = decision.published.failures
        if failures:
            self._state.stats.publish_failures += len(failures)
        self._commit(call, replica, decision, bound, len(request.body), Answer(OK, "", decision.published))

    def import_batch(self, call: Call, found: StreamReplica | None) -> None:
        """Decide an `ImportBatch`."""
        request = call.request
        assert isinstance(request, ImportBatch)
        replica = self._registry.require_importing(found, request.stream_id)
        bound = self._admit(replica, len(request.subjects), len(request.body)) + 8 * len(request.seqs)
        decision = admission.decide_import(replica.stream, request, self._state.now.wall_ms)
        self._commit(call, replica, decision, bound, len(request.body), Answer(OK))

    def _commit(
        self, call: Call, replica: StreamReplica, decision: PublishDecision, bound: int, body_bytes: int, answer: Answer
    ) -> None:
        record = decision.record
        if record is not None:
            bound += 16 * len(record.drop_seqs) + PRODUCER_SPAN_BYTES * len(record.spans)
            rest = self._group_commit.add_record(replica, record, decision.parts, bound, body_bytes)
            self._gate.answer(call.token, answer, rest)
        elif decision.depends_on_uncommitted:
            self._gate.answer(call.token, answer, replica.log.last)
        else:
            self._gate.answer_read(call.token, replica.log, answer)

    def _admit(self, replica: StreamReplica, messages: int, body_bytes: int) -> int:
        """Return the bytes these messages take in the journal at most; refuse or put them off if there is no space."""
        state, limits = self._state, self._state.limits
        if messages > limits.publish_batch_max or body_bytes > limits.publish_batch_bytes_max:
            raise resource_exhausted(
                f"a batch of {messages} messages and {body_bytes} bytes; at most {limits.publish_batch_max} messages "
                f"and {limits.publish_batch_bytes_max} bytes are taken at once"
            )
        if state.stats.inflight_bytes + body_bytes > limits.inflight_bytes_max:
            raise resource_exhausted("too much is being written already; publish again when some of it is confirmed")
        bound = frame_bytes_max(messages, min(body_bytes, messages * limits.subject_bytes_max), body_bytes)
        if replica.stream.config.ephemeral:
            if state.stats.ephemeral_bytes + body_bytes > limits.ephemeral_bytes_max:
                raise resource_exhausted(
                    f"ephemeral streams hold {limits.ephemeral_bytes_max} bytes together, and that is full"
                )
        elif self._group_commit.stalled:
            raise resource_exhausted("the disk is full; nothing was stored")
        else:
            require_free_space(state, self._group_commit, bound, ordinary=True)
        return bound

"""Publishes and archive batches: admitted, decided against committed state and overlay, and added to the next commit."""

from __future__ import annotations

from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import ImportBatch, Publish
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.node.context import NodeState
from waymaker_core.node.handlers.committing import Committing
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.stream import PublishDecision, admission


class Publishing:
    """Handlers of the calls that append messages."""

    def __init__(self, state: NodeState, committing: Committing, registry: StreamRegistry) -> None:
        self._state = state
        self._committing = committing
        self._registry = registry

    def publish(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `Publish`."""
        request = call.request
        assert isinstance(request, Publish)
        replica = self._registry.require_changeable(found, request.stream)
        bound = self._committing.admit(replica, len(request.subjects), len(request.body))
        decision = admission.decide_publish(replica.stream, request, self._state.now.wall_ms)
        failures = decision.published.failures
        if failures:
            self._state.stats.publish_failures += len(failures)
        self._commit(call, replica, decision, bound, Answer(OK, "", decision.published))

    def import_batch(self, call: Call, found: StreamReplica | None) -> None:
        """Decide an `ImportBatch`."""
        request = call.request
        assert isinstance(request, ImportBatch)
        replica = self._registry.require_importing(found, request.stream_id)
        bound = self._committing.admit(replica, len(request.subjects), len(request.body)) + 8 * len(request.seqs)
        decision = admission.decide_import(replica.stream, request, self._state.now.wall_ms)
        self._commit(call, replica, decision, bound, Answer(OK))

    def _commit(
        self, call: Call, replica: StreamReplica, decision: PublishDecision, bound: int, answer: Answer
    ) -> None:
        self._committing.commit(
            call.token, replica, decision.record, decision.parts, bound, answer,
            depends_on_uncommitted=decision.depends_on_uncommitted,
        )  # fmt: skip

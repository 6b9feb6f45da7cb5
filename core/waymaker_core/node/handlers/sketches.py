"""Calls to sketches: what is added and merged becomes facts of the sketch's stream; what is applied answers questions."""

from __future__ import annotations

from waymaker_core.api.inputs import Call
from waymaker_core.api.sketch_requests import (
    AddToSketch,
    GetSketchInfo,
    GetSketchSnapshot,
    MergeIntoSketch,
    QuerySketch,
    SketchInfo,
)
from waymaker_core.layers.layer import SKETCHES
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import record_frame_bytes_max
from waymaker_core.node.handlers.committing import Committing
from waymaker_core.node.handlers.sources import statuses
from waymaker_core.node.stream_registry import StreamRegistry, no_such_stream
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.sketches import decisions
from waymaker_core.sketches.answers import answer
from waymaker_core.sketches.facts import FACT_HEAD_BYTES
from waymaker_core.sketches.layer import SketchLayer

NUMBER_BYTES = 8
"""Bytes of each number that a t-digest takes."""


class Sketches:
    """Handlers of the calls to sketches."""

    def __init__(self, state: NodeState, committing: Committing, gate: Gate, registry: StreamRegistry) -> None:
        self._state = state
        self._committing = committing
        self._gate = gate
        self._registry = registry

    def add_values(self, call: Call, found: StreamReplica | None) -> None:
        """Decide an `AddToSketch`."""
        request = call.request
        assert isinstance(request, AddToSketch)
        replica = self._registry.require_changeable(found, request.stream)
        layer = _sketch(replica)
        decisions.check_add(layer, request, self._state.limits)
        size = FACT_HEAD_BYTES + len(request.numbers) + sum(map(len, request.values)) + 4 * len(request.values)
        bound = self._committing.admit(replica, 0, 0, size)
        self._state.stats.sketch_values_added += len(request.values) or len(request.numbers) // NUMBER_BYTES
        self._committing.commit_layer(call.token, replica, decisions.decide_add(layer, request), bound)

    def merge_snapshot(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `MergeIntoSketch`: its records stand next to each other in the log, and the answer waits for the last."""
        request = call.request
        assert isinstance(request, MergeIntoSketch)
        replica = self._registry.require_changeable(found, request.stream)
        layer = _sketch(replica)
        bound = self._committing.admit(replica, 0, 0, 2 * len(request.snapshot))
        records = decisions.decide_merge(layer, request)
        for record in records:
            self._committing.add_decided(replica, record, [], record_frame_bytes_max(record))
        del bound
        self._state.stats.sketch_merges += 1
        self._gate.answer(call.token, Answer(OK), replica.log.last)

    def query(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `QuerySketch`."""
        request = call.request
        assert isinstance(request, QuerySketch)
        layer = _sketch(self._registry.require_served(found, request.stream))
        found_answer = answer(layer.sketch, request, self._state.limits)
        self._state.stats.sketch_queries += 1
        self._gate.reply(call.token, Answer(OK, "", found_answer))

    def read_snapshot(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `GetSketchSnapshot`."""
        request = call.request
        assert isinstance(request, GetSketchSnapshot)
        layer = _sketch(self._registry.require_served(found, request.stream))
        self._gate.reply(call.token, Answer(OK, "", layer.sketch.snapshot()))

    def describe(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `GetSketchInfo`."""
        request = call.request
        assert isinstance(request, GetSketchInfo)
        replica = self._registry.require_served(found, request.stream)
        layer = _sketch(replica)
        parameters, config = layer.parameters, replica.stream.config
        info = SketchInfo(
            parameters.text, layer.added, parameters.memory_bytes(), config.ephemeral,
            layer.item.text if config.sources else "", layer.skipped, statuses(replica),
        )  # fmt: skip
        self._gate.reply(call.token, Answer(OK, "", info))


def _sketch(replica: StreamReplica) -> SketchLayer:
    layer = replica.layers.by_kind.get(SKETCHES)
    if not isinstance(layer, SketchLayer):
        raise no_such_stream(replica.name)
    return layer

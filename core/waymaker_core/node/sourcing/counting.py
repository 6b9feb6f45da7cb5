"""A rule for the sources of a sketch: their messages become one fact that the sketch adds, and no messages are stored.

The sources' layer and the sketch's know nothing of each other. Here a batch gets what each of them needs for one record. What
has no item is a failure like a message that cannot be copied: it is told, and goes to the source's `dlq_stream`.
"""

from __future__ import annotations

from waymaker_core.layers.layer import SKETCHES
from waymaker_core.model.config import SourceConfig
from waymaker_core.model.limits import Limits
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.sketches.decisions import check_sourced, stage_sourced
from waymaker_core.sketches.items import take_items
from waymaker_core.sketches.layer import SketchLayer
from waymaker_core.sources.copies import Copies, CopyBounds, Failure, SourceMessages
from waymaker_core.sources.transform import Transform, parse


class CountRule:
    """Makes what a sketch adds of one source's messages."""

    failed = "is not counted"

    def __init__(self, source: SourceConfig, layer: SketchLayer, limits: Limits) -> None:
        rule = source.subject_transform
        self._transform: Transform | None = None if rule is None else parse(*rule, limits)
        self._item = layer.item
        self._kind = layer.parameters.kind

    def take_messages(self, messages: SourceMessages, bounds: CopyBounds) -> Copies:
        """Make the fact of messages, as many as one fact takes."""
        if not messages.seqs:
            return Copies()
        failures: list[Failure] = []
        subjects, bodies, places = self._transformed(messages, failures)
        items = take_items(self._item, self._kind, subjects, bodies)
        end = places[items.taken] if items.taken < len(places) else len(messages.seqs)
        failures = [each for each in failures if each.place < end]
        skipped = len(failures)
        failures += [Failure(places[place], reason) for place, reason in items.skipped]
        failures.sort(key=lambda each: each.place)
        return Copies(failures=failures, taken=end, facts=[(SKETCHES, items.fact(skipped))])

    def _transformed(
        self, messages: SourceMessages, failures: list[Failure]
    ) -> tuple[list[str], list[bytes], list[int]]:
        """Return subjects, bodies and places of the messages that the transform takes; note the others."""
        places = list(range(len(messages.seqs)))
        if self._transform is None:
            return messages.subjects, messages.bodies, places
        known = {subject: self._transform.apply(subject) for subject in dict.fromkeys(messages.subjects)}
        subjects = [known[subject] for subject in messages.subjects]
        failures += [
            Failure(place, self._transform.fault(messages.subjects[place]))
            for place, subject in enumerate(subjects)
            if subject is None
        ]
        places = [place for place, subject in enumerate(subjects) if subject is not None]
        return [each for each in subjects if each is not None], [messages.bodies[place] for place in places], places


def sketch_of(replica: StreamReplica) -> SketchLayer | None:
    """Return the sketch that a stream is; None where it keeps messages."""
    layer = replica.layers.by_kind.get(SKETCHES)
    return layer if isinstance(layer, SketchLayer) else None


def check_facts(replica: StreamReplica, facts: list[tuple[int, bytes]]) -> None:
    """Refuse (RefusedError) facts that the sketch of a stream cannot take now."""
    layer = sketch_of(replica)
    if layer is not None:
        for _, fact in facts:
            check_sourced(layer, fact)


def stage_facts(replica: StreamReplica, facts: list[tuple[int, bytes]]) -> None:
    """Stage facts in the sketch of a stream."""
    layer = sketch_of(replica)
    if layer is not None:
        for _, fact in facts:
            stage_sourced(layer, fact)

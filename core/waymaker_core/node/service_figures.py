"""Figures of all services together: what their streams hold, summed when a scraper asks, so that hot paths count nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from waymaker_core.collections.entries import Entries
from waymaker_core.collections.queue import Queue
from waymaker_core.kv.layer import KvLayer
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.sketches.layer import SketchLayer


@dataclass(slots=True)
class ServiceFigures:
    """Sums over the streams of each service. `stores`: hash and set stores; `sketch_bytes`: memory of sketches."""

    kv_buckets: int = 0
    kv_keys: int = 0
    stores: int = 0
    entries: int = 0
    queues: int = 0
    queue_values: int = 0
    sketches: int = 0
    sketch_bytes: int = 0


def sum_services(replicas: Iterable[StreamReplica]) -> ServiceFigures:
    """Return the figures of the services on these streams. Costs a few additions a stream."""
    figures = ServiceFigures()
    for replica in replicas:
        for layer in replica.layers:
            match layer:
                case KvLayer():
                    figures.kv_buckets += 1
                    figures.kv_keys += len(replica.stream.subjects.last)
                case Entries():
                    figures.stores += 1
                    figures.entries += len(layer.places)
                case Queue():
                    figures.queues += 1
                    figures.queue_values += layer.count
                case SketchLayer():
                    figures.sketches += 1
                    figures.sketch_bytes += layer.parameters.memory_bytes()
                case _:
                    pass
    return figures

"""The services of a node: which layers a stream has, by its name and settings.

The one place that knows every kind of layer. It must give the same layers for the same stream at every start.
"""

from __future__ import annotations

from waymaker_core.api.kv_requests import BUCKET_PREFIX
from waymaker_core.collections.entries import Entries
from waymaker_core.collections.queue import Queue
from waymaker_core.collections.subjects import HASH, QUEUE, SET
from waymaker_core.kv.layer import KvLayer
from waymaker_core.layers.layer import COLLECTIONS, Layer
from waymaker_core.layers.layer_set import LayerSet
from waymaker_core.model.names import reserved_prefix
from waymaker_core.objects.layer import ObjectLayer
from waymaker_core.objects.names import STREAM_PREFIX as OBJECT_BUCKET
from waymaker_core.sketches.items import item_of
from waymaker_core.sketches.layer import SketchLayer
from waymaker_core.sketches.parameters import PREFIX as SKETCH
from waymaker_core.sketches.parameters import parameters_of
from waymaker_core.sources.positions import Positions
from waymaker_core.stream.stream import Stream


def make_layers(stream: Stream) -> list[Layer]:
    """Return the empty layers of a stream."""
    layers: list[Layer] = []
    prefix = reserved_prefix(stream.config.name)
    if prefix in {HASH, SET}:
        layers.append(Entries(stream))
    elif prefix == OBJECT_BUCKET:
        layers.append(ObjectLayer(stream))
    elif prefix == BUCKET_PREFIX:
        layers.append(KvLayer(stream))
    elif prefix == QUEUE:
        layers.append(Queue(stream))
    elif prefix == SKETCH:
        if stream.config.service_settings:  # none: a stream of before there were sketches
            parameters = parameters_of(stream.config.service_settings)
            layers.append(SketchLayer(parameters, item_of(stream.config.service_settings, parameters.kind)))
    if stream.config.sources:
        layers.append(Positions(len(stream.config.sources)))
    return layers


def taken_to(layers: LayerSet) -> int | None:
    """Return the sequence up to which a queue's messages are taken and needed no more; None where the stream is no queue."""
    layer = layers.by_kind.get(COLLECTIONS)
    return layer.floor if isinstance(layer, Queue) else None

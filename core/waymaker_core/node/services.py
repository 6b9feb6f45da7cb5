"""The services of a node: which layers a stream has, by its name and settings.

The one place that knows every kind of layer. It must give the same layers for the same stream at every start.
"""

from __future__ import annotations

from waymaker_core.layers.layer import Layer
from waymaker_core.objects.layer import ObjectLayer
from waymaker_core.objects.names import STREAM_PREFIX as OBJECT_BUCKET
from waymaker_core.sources.positions import Positions
from waymaker_core.stream.stream import Stream


def make_layers(stream: Stream) -> list[Layer]:
    """Return the empty layers of a stream."""
    if stream.config.name.startswith(OBJECT_BUCKET):
        return [ObjectLayer(stream)]
    if stream.config.sources:
        return [Positions(len(stream.config.sources))]
    return []

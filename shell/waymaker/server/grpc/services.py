"""The services whose calls are one request and one answer, with their tables; a session calls them all by method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from waymaker.server.grpc.collection_rpcs import COLLECTION_RPCS
from waymaker.server.grpc.kv_rpcs import KV_RPCS
from waymaker.server.grpc.rpcs import UNARY, Rpc
from waymaker.server.grpc.sketch_rpcs import SKETCH_RPCS
from waymaker.wire.protocol import COLLECTIONS_SERVICE, KV_SERVICE, SKETCHES_SERVICE, STREAMS_SERVICE

RPCS: Final[Mapping[str, Mapping[str, Rpc]]] = {
    STREAMS_SERVICE: UNARY,
    COLLECTIONS_SERVICE: COLLECTION_RPCS,
    SKETCHES_SERVICE: SKETCH_RPCS,
    KV_SERVICE: KV_RPCS,
}
"""By service, its calls by name."""

IN_SESSIONS: Final[Mapping[str, Rpc]] = {name: rpc for rpcs in RPCS.values() for name, rpc in rpcs.items()}
"""Calls that the pipeline's frames carry, by name: no two services have one of the same name."""
assert len(IN_SESSIONS) == sum(map(len, RPCS.values()))

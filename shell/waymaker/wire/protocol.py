"""Names and bounds that client and server share: services, trailers, the pipeline's version, items of a frame."""

from __future__ import annotations

from typing import Final

STREAMS_SERVICE: Final = "waymaker.streams.WaymakerStreamsService"
PIPELINE_SERVICE: Final = "waymaker.pipeline.WaymakerPipelineService"
COLLECTIONS_SERVICE: Final = "waymaker.collections.WaymakerCollectionsService"
SKETCHES_SERVICE: Final = "waymaker.sketches.WaymakerSketchesService"
KV_SERVICE: Final = "waymaker.kv.WaymakerKvService"
ADMIN_SERVICE: Final = "waymaker.admin.WaymakerAdminService"

PIPELINE_VERSION: Final = 1
FRAME_ITEMS_MAX: Final = 10_000
"""Calls, batches and the like in one frame: a server refuses more."""
FRAME_ITEMS_TARGET: Final = 4_096
"""Items at which a client closes a frame."""

OUTCOME_TRAILER: Final = "wmkr-outcome"
CODE_TRAILER: Final = "wmkr-code"

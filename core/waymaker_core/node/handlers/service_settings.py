"""Settings that a service cannot work with, and sketches without memory for them: refused before a stream is created."""

from __future__ import annotations

from waymaker_core.api.kv_requests import BUCKET_PREFIX
from waymaker_core.kv.settings import decode_settings
from waymaker_core.layers.layer import SKETCHES
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.names import reserved_prefix
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError, resource_exhausted
from waymaker_core.node.context import NodeState
from waymaker_core.sketches.errors import BadParameters
from waymaker_core.sketches.items import check_item
from waymaker_core.sketches.layer import SketchLayer
from waymaker_core.sketches.parameters import PREFIX, parameters_of


def check_service(config: StreamConfig, state: NodeState) -> None:
    """Refuse to create a sketch with impossible parameters or items (`invalid_config`).

    And one beyond the memory that sketches may take, and a bucket of keys with settings that are none.
    """
    if reserved_prefix(config.name) == BUCKET_PREFIX:
        try:
            decode_settings(config.service_settings)
        except ValueError as problem:
            raise CodeError(INVALID_CONFIG, f"no bucket has these settings: {problem}") from problem
    if reserved_prefix(config.name) != PREFIX:
        return
    try:
        parameters = parameters_of(config.service_settings)
        check_item(config.service_settings, parameters.kind, sourced=bool(config.sources))
        more = parameters.memory_bytes()
    except BadParameters as bad_parameters:
        raise CodeError(INVALID_CONFIG, str(bad_parameters)) from bad_parameters
    layers = [replica.layers.by_kind.get(SKETCHES) for replica in state.replicas.values()]
    held = sum(layer.parameters.memory_bytes() for layer in layers if isinstance(layer, SketchLayer))
    if held + more > state.limits.sketch_bytes_max:
        raise resource_exhausted(
            f"the sketch takes {more:,} bytes beside the {held:,} of those that are there; all sketches of a server take at "
            f"most {state.limits.sketch_bytes_max:,}: delete some, or allow a greater error"
        )


def check_name_kept(name: str, original: str) -> None:
    """Refuse (`invalid_config`) to restore a bucket of keys under another name: its subjects begin with the name it had."""
    if BUCKET_PREFIX in (reserved_prefix(name), reserved_prefix(original)) and name != original:
        raise CodeError(INVALID_CONFIG, f"a bucket of keys is restored under its own name: {original[:300]!r}")

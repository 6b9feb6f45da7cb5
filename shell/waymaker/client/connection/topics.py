"""Topics of calls: the name of the stream that each is about, from its request, so that it goes to the member that serves it.

A topic only says where to ask first. One that names no stream of the server costs a hop, and is right after it.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import Message as Proto

CATALOG: Final = "\0catalog"
"""The topic of calls that the leader of the catalog answers."""
_NAMED: Final = ("Stream", "Bucket", "HashStore", "SetStore", "Queue", "Sketch")
_OF_CATALOG: Final = frozenset(
    (
        "ListStreams", "GetStreamSources", "SetStreamPinned", "ClearStreamAuthority", "ListStreamAuthorityOverrides",
        "GetClusterStreamStats", *(f"{verb}{kind}" for verb in ("Create", "Delete") for kind in _NAMED),
    )
)  # fmt: skip
_PREFIXES: Final = {
    **dict.fromkeys(("DeleteObject", "GetObjectInfo", "ListObjects", "ListObjectRevisions"), "obj:"),
    **dict.fromkeys(("Put", "Create", "Update", "Delete", "Touch", "Get", "Keys", "History"), "kv:"),
}
_KINDS: Final = ("Hash", "Set", "Queue", "Sketch")
_plans: Final[dict[str, tuple[str, str]]] = {}
"""By the RPC's name: the beginning of the topic, and the field of the request that ends it, if there is one."""


def topic_of(method: str, request: Proto) -> str:
    """Return the topic of a call by its RPC's name and its request."""
    plan = _plans.get(method)
    if plan is None:
        plan = _plans[method] = _plan(method, request)
    prefix, field = plan
    return f"{prefix}{getattr(request, field)}" if field else prefix


def topic_of_keys(bucket: str) -> str:
    """Return the topic of key batches of a bucket."""
    return "kv:" + bucket


def _plan(method: str, request: Proto) -> tuple[str, str]:
    if method in _OF_CATALOG:
        return CATALOG, ""
    field = next((name for name in ("stream", "bucket", "name") if name in request.DESCRIPTOR.fields_by_name), "")
    kind = next((kind for kind in _KINDS if method.startswith(kind)), "")
    return _PREFIXES.get(method, f"{kind}:" if kind else ""), field

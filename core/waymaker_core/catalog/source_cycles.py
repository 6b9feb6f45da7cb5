"""Cycles among streams that copy from one another: found when a stream is to be created, and refused.

Streams are told apart by their names, because a stream may name a source that does not exist yet. Messages flow from a source
to the stream that copies from it, and, where one could not be copied, to that source's `dlq_stream`. Only the creation
of a stream with sources adds such edges, so a cycle is refused at the creation that would close it, in whatever order its
streams are created.

It must never look at subjects: a cycle whose filters let nothing through is refused too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from waymaker_core.model.config import StreamConfig
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError


def refuse_cycle(config: StreamConfig, others: Iterable[StreamConfig]) -> None:
    """Raise CodeError (`invalid_config`) where a new stream would close a cycle with those that copy from others already."""
    flows: dict[str, list[str]] = {}
    for each in (config, *others):
        for source in each.sources:
            flows.setdefault(source.source_stream, []).extend(filter(None, (each.name, source.dlq_stream)))
    for source in config.sources:
        for target in filter(None, (config.name, source.dlq_stream)):
            path = _path(target, source.source_stream, flows)
            if path:
                shown = " -> ".join(repr(name[:80]) for name in [source.source_stream, *path])
                raise CodeError(INVALID_CONFIG, f"sources form a cycle, in which copies would never end: {shown}")


def _path(start: str, end: str, flows: dict[str, list[str]]) -> list[str]:
    """Return the names on a shortest way from one stream to another along the flow of messages; empty: there is none."""
    came_from: dict[str, str] = {start: ""}
    queue = deque([start])
    while queue:
        name = queue.popleft()
        if name == end:
            path = [name]
            while came_from[path[-1]]:
                path.append(came_from[path[-1]])
            return path[::-1]
        for target in flows.get(name, ()):
            if target not in came_from:
                came_from[target] = name
                queue.append(target)
    return []

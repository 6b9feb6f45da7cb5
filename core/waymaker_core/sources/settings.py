"""Settings of a stream's sources: what a client may ask for.

Responsible for every rule about the sources of one stream that can be judged from its own settings. Cycles over several
streams are the catalog's to refuse (`catalog.source_cycles`).
"""

from __future__ import annotations

from waymaker_core.model.config import SourceConfig, StreamConfig
from waymaker_core.model.limits import SEQ_MAX, Limits
from waymaker_core.model.names import SOURCED_PREFIXES, check_name, reserved_prefix
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError
from waymaker_core.model.subjects import is_pattern, overlap
from waymaker_core.sources.transform import parse


def check_sources(config: StreamConfig, limits: Limits) -> None:
    """Refuse sources that cannot be meant. CodeError (`invalid_config`) says what would be right."""
    if not config.sources:
        return
    prefix = reserved_prefix(config.name)
    if prefix and prefix not in SOURCED_PREFIXES:
        raise _bad(f"only its service writes to a {prefix!r} stream, so it has no sources")
    if len(config.sources) > limits.sources_max:
        raise _bad(f"{len(config.sources)} sources; at most {limits.sources_max} are allowed")
    for source in config.sources:
        _check_source(config, source, limits)
    _check_overlaps(config.sources)


def _check_source(config: StreamConfig, source: SourceConfig, limits: Limits) -> None:
    name = source.source_stream
    check_name(name, "a source", limits)
    if name == config.name:
        raise _bad(f"stream {name!r} cannot be its own source")
    if source.filter_subject and not is_pattern(source.filter_subject, limits):
        raise _bad(f"source {name!r}: filter_subject {source.filter_subject[:80]!r} is not a subject pattern")
    numbers = {"start_seq": source.start_seq, "max_initial_backfill": source.max_initial_backfill}
    for field, value in numbers.items():
        if not 0 <= value <= SEQ_MAX:
            raise _bad(f"source {name!r}: {field} = {value}; it must lie between 0 and {SEQ_MAX}")
    if source.start_time_ms:
        raise _bad(f"source {name!r}: start_time_ms is reserved and must be 0; use start_seq or max_initial_backfill")
    if source.subject_transform is not None:
        try:
            parse(*source.subject_transform, limits)
        except CodeError as error:
            raise _bad(f"source {name!r}: {error.message}") from None
    if source.dlq_stream:
        check_name(source.dlq_stream, "a dlq_stream", limits)
        if prefix := reserved_prefix(source.dlq_stream):
            raise _bad(f"source {name!r}: only its service writes to a {prefix!r} stream; choose another dlq_stream")


def _check_overlaps(sources: tuple[SourceConfig, ...]) -> None:
    """Refuse two filters on one stream that select a common subject: its messages would be copied twice."""
    filters: dict[str, list[str]] = {}
    for source in sources:
        pattern = source.filter_subject or ">"
        for other in filters.setdefault(source.source_stream, []):
            if overlap(other, pattern):
                raise _bad(
                    f"source {source.source_stream!r} is named twice with the filters {other!r} and {pattern!r}, which "
                    f"overlap: a message that both select would be copied twice"
                )
        filters[source.source_stream].append(pattern)


def _bad(message: str) -> CodeError:
    return CodeError(INVALID_CONFIG, message)

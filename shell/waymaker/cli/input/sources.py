"""Sources of a stream as people type them: `--source orders,filter=orders.eu.>,transform=orders.>:eu.>`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from waymaker.cli.units import count

if TYPE_CHECKING:
    from waymaker.client.settings import SourceSettings
    from waymaker_core.model.config import SourceConfig

USAGE = "STREAM[,filter=PATTERN][,transform=PATTERN:DESTINATION][,start-seq=N][,backfill=N][,on-drop=halt|skip][,dlq=STREAM]"
_NAMES = {
    "filter": "filter_subject",
    "transform": "subject_transform",
    "start-seq": "start_seq",
    "backfill": "max_initial_backfill",
    "on-drop": "on_drop",
    "dlq": "dlq_stream",
}
_SETTING = re.compile(r",(?=(?:" + "|".join(_NAMES) + r")=)")
"""The commas between settings: the arguments of a transform's functions have commas of their own."""


def source(text: str) -> SourceSettings:
    """Parse one source; ValueError says what would be right."""
    name, *settings = _SETTING.split(text.strip())
    if not name or "=" in name or "," in name:
        raise ValueError(f"{text!r} is no source; write {USAGE}")
    found: dict[str, Any] = {"source_stream": name}
    for setting in settings:
        key, _, value = setting.partition("=")
        if _NAMES[key] in found:
            raise ValueError(f"{key} stands twice in {text!r}")
        found[_NAMES[key]] = _value(key, value)
    return found  # type: ignore[return-value]


def _value(key: str, value: str) -> object:
    if not value:
        raise ValueError(f"{key}= needs a value; leave it out for none")
    if key in {"start-seq", "backfill"}:
        return count(value)
    if key == "transform":
        pattern, colon, destination = value.partition(":")
        if not colon:
            raise ValueError(f"transform={value} is no transform; write transform=PATTERN:DESTINATION")
        return pattern, destination
    return value


def said_source(source: SourceConfig) -> str:
    """Return a source as it would be typed."""
    parts = [source.source_stream]
    if source.filter_subject:
        parts.append(f"filter={source.filter_subject}")
    if source.subject_transform is not None:
        parts.append("transform=" + ":".join(source.subject_transform))
    if source.start_seq:
        parts.append(f"start-seq={source.start_seq}")
    if source.max_initial_backfill:
        parts.append(f"backfill={source.max_initial_backfill}")
    if source.on_drop.value:
        parts.append("on-drop=skip")
    if source.dlq_stream:
        parts.append(f"dlq={source.dlq_stream}")
    return ",".join(parts)


def parse_sources(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[SourceSettings, ...]:
    """Parse every `--source` of a command."""
    try:
        return tuple(map(source, values))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None

"""Sources as people type them, and as they are shown again."""

from __future__ import annotations

import pytest

from waymaker.cli.input.sources import said_source, source
from waymaker.client.settings import stream_config


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("orders", {}),
        ("orders,filter=orders.eu.>", {"filter_subject": "orders.eu.>"}),
        ("a,transform=*.*:{{partition(10,1,2)}}.$2", {"subject_transform": ("*.*", "{{partition(10,1,2)}}.$2")}),
        (
            "a,start-seq=7,backfill=1000,on-drop=skip,dlq=dead",
            {"start_seq": 7, "max_initial_backfill": 1_000, "on_drop": "skip", "dlq_stream": "dead"},
        ),
    ],
)
def test_a_source_is_read_and_said_again(text: str, settings: dict[str, object]) -> None:
    name = text.partition(",")[0]
    assert source(text) == {"source_stream": name} | settings
    made = stream_config("s", {"sources": [source(text)]}).sources[0]
    assert said_source(made) == text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no source"),
        (",filter=a", "no source"),
        ("a,b", "no source"),
        ("a,start-seq=x", "not a number"),
        ("a,filter=", "needs a value"),
        ("a,transform=a", "PATTERN:DESTINATION"),
        ("a,dlq=b,dlq=c", "twice"),
    ],
)
def test_what_is_no_source_is_refused(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        source(text)

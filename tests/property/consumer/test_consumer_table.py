"""The documented life of a delivery is the one in the code."""

from __future__ import annotations

from pathlib import Path

from waymaker_core.consumer.pending.states import TRANSITIONS

DOCUMENT = Path(__file__).parents[3] / "docs" / "streams-and-consumers.md"


def test_the_documented_transitions_are_the_real_ones() -> None:
    _, _, behind = DOCUMENT.read_text(encoding="utf-8").partition("<!-- transitions:")
    rows = [line for line in behind.splitlines() if line.startswith("|")][2:]
    real = [
        f"| {state.name.lower()} | {event.name.lower().replace('_', ' ')} | {'yes' if left else 'no'} "
        f"| {target.name.lower()} |"
        for (state, event, left), target in TRANSITIONS.items()
    ]
    assert rows[: len(real)] == real
    table, _, _ = behind.partition("### Dead letters")
    assert sum(line.startswith("|") for line in table.splitlines()) == len(real) + 2

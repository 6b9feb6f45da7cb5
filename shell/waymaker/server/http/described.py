"""The description of one metric, as the tables of metrics hold it."""

from __future__ import annotations

from typing import NamedTuple


class Described(NamedTuple):
    """One metric: its name, its kind, its meaning, and for figures of other parts the attribute they come from."""

    name: str
    kind: str
    text: str
    attribute: str = ""

"""Lines, bars and marks of a page's diagram, each placed by lane (across) and by row (down).

Readers of the page may hide and resize rows, so every element carries its place in rows beside its pixels: the middle of
row 7 is 7.5. Nothing here knows what the rows mean.
"""

from __future__ import annotations

ROW_PX = 22
"""Height of a row when the page opens."""

SHAPES = {
    "right": "M0 0L-8-4V4Z",
    "left": "M0 0L8-4V4Z",
    "dot": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z",
    "ring": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0Z",
    "cross": "M-5-5L5 5M5-5L-5 5",
    "diamond": "M0-6L6 0L0 6L-6 0Z",
    "triangle": "M0-6L6 5H-6Z",
    "square": "M-3-3H3V3H-3Z",
}
"""Marks around their own middle; of arrow heads, around the tip."""


class Drawing:
    """Elements in the order in which they are painted. `row` is the row with which an element is hidden; -1: never."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def line(self, x1: float, from_row: float, x2: float, to_row: float, css: str, row: int = -1) -> None:
        """Draw a straight line."""
        self.parts.append(
            f'<line class="{css}"{_place(from_row, to_row, row)} x1="{x1:g}" x2="{x2:g}" '
            f'y1="{from_row * ROW_PX:.1f}" y2="{to_row * ROW_PX:.1f}"/>'
        )

    def bar(self, x: float, width: float, from_row: float, to_row: float, css: str, row: int = -1) -> None:
        """Draw a vertical bar, centred on x."""
        height = max(1.0, (to_row - from_row) * ROW_PX)
        self.parts.append(
            f'<rect class="{css}"{_place(from_row, to_row, row)} x="{x - width / 2:g}" width="{width:g}" '
            f'y="{from_row * ROW_PX:.1f}" height="{height:.1f}"/>'
        )

    def mark(self, x: float, at_row: float, shape: str, css: str, row: int = -1) -> None:
        """Draw a shape of its own size."""
        self.parts.append(
            f'<path class="{css}"{_place(at_row, at_row, row)} data-x="{x:g}" d="{SHAPES[shape]}" '
            f'transform="translate({x:g},{at_row * ROW_PX:.1f})"/>'
        )

    def arrow(self, x1: float, from_row: float, x2: float, to_row: float, css: str, row: int = -1) -> None:
        """Draw a line with a head at its end."""
        self.line(x1, from_row, x2, to_row, css, row)
        self.mark(x2, to_row, "right" if x2 > x1 else "left", f"{css} head", row)


def _place(from_row: float, to_row: float, row: int) -> str:
    hidden_with = f' data-r="{row}"' if row >= 0 else ""
    return f'{hidden_with} data-a="{from_row:.2f}" data-b="{to_row:.2f}"'

"""Values that tests of sketches add: numbered sets, distributions with a known shape, and the words of the project's pages.

Everything is made from a seed or from files of the repository, so that what once stayed within its bound always will.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]


def numbered(label: str, count: int) -> list[bytes]:
    """Return that many distinct values."""
    return [f"{label}-{number}".encode() for number in range(count)]


def words() -> list[bytes]:
    """Return the words of the documentation in the order of the text: some very often, most a few times."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [word.encode() for page in pages for word in re.findall(r"[a-z]+", page.read_text().lower())]


def zipf(seed: int, count: int, distinct: int = 10_000) -> list[bytes]:
    """Return draws from `distinct` values, the n-th of them n times rarer than the first."""
    weights = [1 / (rank + 1) for rank in range(distinct)]
    return [f"z{rank}".encode() for rank in Random(seed).choices(range(distinct), weights, k=count)]


DISTRIBUTIONS: dict[str, Callable[[Random, int], list[float]]] = {
    "uniform": lambda random, count: [random.random() for _ in range(count)],
    "exponential": lambda random, count: [random.expovariate(1.0) for _ in range(count)],
    "sorted": lambda random, count: [float(number) for number in range(count)],
    "reversed": lambda random, count: [float(-number) for number in range(count)],
    "zigzag": lambda random, count: [float(number if number % 2 else -number) for number in range(count)],
    "constant": lambda random, count: [7.25] * count,
    "bimodal": lambda random, count: [random.gauss(1000.0 * random.randrange(2), 1.0) for _ in range(count)],
    "few values": lambda random, count: [float(random.randrange(5)) for _ in range(count)],
    "heavy end": lambda random, count: [random.paretovariate(0.5) for _ in range(count)],
    "orders of magnitude": lambda random, count: [random.lognormvariate(0.0, 3.0) for _ in range(count)],
}  # fmt: skip
"""Values of many shapes and orders, from a source of randomness."""

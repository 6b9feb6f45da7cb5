"""The scale function of the t-digest: how much of all values one centroid may stand for, by its place.

Source: T. Dunning, O. Ertl, Computing extremely accurate quantiles using t-digests, arXiv 1902.04023, scale function k1:
k(q) = d / (2 pi) * asin(2 q - 1). A centroid may reach from q to where k has grown by 1. The sine of a sum gives that
place from cosine and sine of one fixed angle, 2 pi / d, and square roots. Both constants are sums of their power series:
a library's sine may differ from machine to machine by a last bit, and with it the state.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

TAU: Final = 6.283185307179586


class ArcsineScale:
    """The scale function of one compression `d`."""

    __slots__ = ("_cosine", "_sine")

    def __init__(self, compression: int) -> None:
        angle = TAU / compression
        self._cosine = _series(1.0, 0, angle)
        self._sine = _series(angle, 1, angle)

    def limit(self, q: float) -> float:
        """Return the share of all values at which a centroid that begins at share `q` has to end."""
        sine = 2.0 * q - 1.0
        if sine >= self._cosine:  # less than the angle is left
            return 1.0
        cosine = 2.0 * sqrt(q * (1.0 - q))
        return 0.5 * (1.0 + (sine * self._cosine + cosine * self._sine))


def _series(term: float, power: int, angle: float) -> float:
    """Return the sum of the alternating series that begins with `term` at an angle to this power."""
    total = 0.0
    while total + term != total:
        total += term
        term = -term * angle * angle / ((power + 1) * (power + 2))
        power += 2
    return total

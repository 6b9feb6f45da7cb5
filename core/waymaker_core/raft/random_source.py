"""Random numbers from a seed, for election timeouts: the same seed gives the same numbers on every machine.

A xorshift generator with 64 bits of state (Marsaglia, 2003). It is no source of secrets.
"""

from __future__ import annotations

from typing import Final

_MASK: Final = (1 << 64) - 1
_MIX: Final = 0x9E3779B97F4A7C15
"""Weyl constant: seeds that differ in one bit begin with states that differ in many."""


class RandomSource:
    """A stream of numbers that depends on the seed alone."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        state = (seed + 1) * _MIX & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        self._state = state ^ state >> 31 or _MIX  # a state of zero would stay zero

    def below(self, bound: int) -> int:
        """Return a number from 0 to bound - 1."""
        state = self._state
        state ^= state << 13 & _MASK
        state ^= state >> 7
        state ^= state << 17 & _MASK
        self._state = state
        return (state >> 11) % bound

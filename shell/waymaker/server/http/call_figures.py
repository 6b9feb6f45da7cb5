"""Figures of answered calls: how many by method and status, and how long they took, kept in plain numbers.

A call counts in a few additions. Calls that were answered together count together. Samples are made where a scraper looks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class CallFigures(Collector):
    """A collector of answered calls."""

    def __init__(self, calls_text: str, seconds_text: str) -> None:
        self._calls_text = calls_text
        self._seconds_text = seconds_text
        self._counts: dict[tuple[str, str], int] = {}
        self._buckets: dict[str, list[int]] = {}
        """By method: the calls of each bucket, the last one without a bound."""
        self._seconds: dict[str, float] = {}

    def add(self, method: str, status: str, seconds: float, count: int = 1) -> None:
        """Count calls that were answered together, so many seconds after they came."""
        self._counts[method, status] = self._counts.get((method, status), 0) + count
        buckets = self._buckets.get(method)
        if buckets is None:
            buckets = self._buckets[method] = [0] * (len(_BOUNDS_S) + 1)
            self._seconds[method] = 0.0
        buckets[bisect_left(_BOUNDS_S, seconds)] += count
        self._seconds[method] += seconds * count

    def collect(self) -> Iterable[Metric]:
        """Yield the counter of calls and the histogram of their times."""
        calls = CounterMetricFamily("waymaker_calls", self._calls_text, labels=("method", "status"))
        for (method, status), count in list(self._counts.items()):
            calls.add_metric((method, status), float(count))
        yield calls
        seconds = HistogramMetricFamily("waymaker_call_seconds", self._seconds_text, labels=("method",))
        for method, buckets in list(self._buckets.items()):
            rows: list[tuple[str, float]] = []
            total = 0
            for bound, count in zip((*_BOUNDS_S, None), buckets, strict=True):
                total += count
                rows.append(("+Inf" if bound is None else repr(bound), float(total)))
            seconds.add_metric((method,), rows, self._seconds[method])
        yield seconds

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are not checked against others."""
        return ()

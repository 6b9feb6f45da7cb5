"""The node: one object, two clocks, inputs in, effects out. This file is the table of contents of what a node does.

It must never do anything itself: no file, no socket, no clock. What it decides leaves as effects, what happened comes back
as inputs, and the same inputs in the same order always give the same effects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from waymaker_core.effects import Effect
from waymaker_core.inputs import Input
from waymaker_core.node.config import NodeConfig
from waymaker_core.node.stats import NodeStats
from waymaker_core.requests import ConsumerInfo, StreamStats
from waymaker_core.types import Now


class Node:
    """One node in service. Made by `open_node`; `step` until it emits `Halt`, then drop it."""

    config: NodeConfig
    stats: NodeStats

    def step(self, now: Now, inputs: Sequence[Input]) -> list[Effect]:
        """Take what happened, in order, run the timers that are due, and say what must be done, in order.

        `now.mono_ns` never goes back. A step without inputs is a tick. After `Halt` the node answers nothing more.
        """
        raise NotImplementedError

    def next_deadline(self) -> int | None:
        """The monotonic nanosecond at which `step` wants to be called at the latest, even without inputs; None: never.

        It may lie in the past: then the node has work left over and wants to be called again at once.
        """
        raise NotImplementedError

    def stream_figures(self) -> Iterator[tuple[str, StreamStats]]:
        """Name and figures of every stream served, sorted by name: for metrics, on demand."""
        raise NotImplementedError

    def consumer_figures(self) -> Iterator[tuple[str, ConsumerInfo]]:
        """Stream name and figures of every consumer, sorted: for metrics, on demand."""
        raise NotImplementedError

"""Quarantines as a node tells of them when it starts: a stream that is damaged stays so, until it is deleted.

Damage that a start finds is written down or found again by the next one; a stream must not come back into service only because
the node forgot. Damage that a read met later may be forgotten in a crash: the next read meets it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from waymaker_core.api.effects import Effect, Log
from waymaker_sim.kernel.checks import violated


class Quarantines:
    """What the starts of one machine found."""

    def __init__(self, mark: Callable[[str], None]) -> None:
        self._mark = mark
        self._known: dict[int, str] = {}
        """Streams in quarantine by id, with their names, whose deletion nobody has asked for."""

    def started(self, effects: Sequence[Effect]) -> None:
        """The first step of a process: it tells what recovery found."""
        found: dict[int, str] = {}
        for effect in effects:
            if isinstance(effect, Log) and effect.event == "quarantined":
                found[int(effect.fields["stream_id"])] = str(effect.fields["stream"])
        for stream_id, name in self._known.items():
            if stream_id not in found:
                violated(
                    "quarantine stays", f"{name} (id {stream_id}) was damaged at an earlier start, and is served now"
                )
            self._mark("quarantined again")
        self._known = found

    def may_go(self, name: str) -> None:
        """Somebody asks for the deletion of a stream."""
        self._known = {stream_id: each for stream_id, each in self._known.items() if each != name}

"""Quarantines as a node reports them when it starts: a damaged stream stays quarantined until it is deleted.

A start writes the damage that it finds down, or the next start finds it again; a stream must not be served again only
because the node forgot. Damage that a read found later may be forgotten in a crash: the next read finds it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from waymaker_core.api.effects import Effect, Log
from waymaker_sim.kernel.checks import violated


class Quarantines:
    """The quarantines that the starts of one machine reported."""

    def __init__(self, mark: Callable[[str], None]) -> None:
        self._mark = mark
        self._known: dict[int, str] = {}
        """Quarantined streams by id, with their names, whose deletion no client has sent."""

    def started(self, effects: Sequence[Effect]) -> None:
        """Check the first step of a process: it reports the findings of recovery."""
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
        """Note that a client sends the deletion of a stream."""
        self._known = {stream_id: each for stream_id, each in self._known.items() if each != name}

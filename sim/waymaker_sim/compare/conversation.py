"""A long random sequence of calls to one node and to naive services: every answer must be the same.

This base of all conversations draws the calls, makes them, lets time pass and restarts the node. Time passes between calls
only, and both clocks go alike. A restart, orderly or not, must change nothing that is stored. A conversation never looks into
the node: it compares what callers get.
"""

from __future__ import annotations

from collections.abc import Callable

from waymaker_core.api.requests import Request
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.model.types import Now
from waymaker_core.node import NodeConfig
from waymaker_sim.compare.pair import MS, Disagreement
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.disk import DiskFaults, SimDisk
from waymaker_sim.machine.instant import InstantNode
from waymaker_sim.machine.process import ReceivedMessage


class Conversation:
    """A node, the acts that a conversation draws from, and the comparison. A subclass adds its acts and naive services."""

    def __init__(self, track: Track, limits: Limits) -> None:
        self.track = track
        self.disk = SimDisk(DiskFaults(), track)
        self.config = NodeConfig(1, bytes(16), limits)
        self.now = Now(1_000_000_000, 1_700_000_000_000)
        self.node = InstantNode(self.config, self.disk, self.now)
        self.compared = 0
        self.counts: dict[str, int] = {}
        self._acts: list[tuple[int, Callable[[], None]]] = []

    def step(self) -> None:
        """Make one call on both."""
        self.track.begin()
        act = self.track.weighted("act", self._acts)
        self.counts[act.__name__] = self.counts.get(act.__name__, 0) + 1
        act()

    # ------------------------------------------------------------ comparing

    def _ask(self, request: Request, missing: bool, code: str) -> tuple[Answer, list[ReceivedMessage]] | None:
        """Call the node; None, once that is compared, where what it is about does not exist."""
        answer, got = self.node.ask(request)
        self.compared += 1
        if isinstance(answer, Refusal):
            raise Disagreement(f"{request}: refused with {answer!r}")
        if missing or answer.code == code:
            self._require(missing and answer.code == code, request, code if missing else "an answer", answer)
            return None
        self._require(answer.code == outcomes.OK, request, "ok", answer)
        return answer, got or []

    def _refused(self, request: Request, status: Status) -> None:
        """Call the node, which must refuse."""
        answer, _ = self.node.ask(request)
        self.compared += 1
        self._require(isinstance(answer, Refusal) and answer.status is status, request, status, answer)

    @staticmethod
    def _require(holds: bool, request: object, wanted: object, found: object) -> None:
        if not holds:
            raise Disagreement(f"{request}: wanted {wanted}, got {found}")

    def _same(self, request: object, wanted: object, found: object) -> None:
        self._require(wanted == found, request, wanted, found)

    # ------------------------------------------------------------ time and restarts

    def pass_time(self) -> None:
        """Let time pass."""
        self._wait(self.track.magnitude("for", 4_000))

    def _wait(self, ms: int) -> None:
        self.now = Now(self.now.mono_ns + ms * MS, self.now.wall_ms + ms)
        self.node.now = self.now
        self.node.tick()
        self.sweep()

    def sweep(self) -> None:
        """Apply the effects of time to the naive services."""

    def restart(self) -> None:
        """Stop the node, in order or not, and start it again on its disk."""
        if self.track.draw("clean", 2):
            self.node.drain()
            self._require(
                self.node.halted is not None and self.node.halted.clean, "a drain", "a clean end", self.node.halted
            )
        self.disk.kill()
        self.node = InstantNode(self.config, self.disk, self.now)
        self.node.tick()

"""The nemesis: faults from outside. Ten times a virtual second it decides if a fault hits the machine.

The plan has the rate of each kind of fault; this module performs it.
"""

from __future__ import annotations

from functools import partial

from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.disk import PLENTY
from waymaker_sim.machine.process import Process
from waymaker_sim.machine.process_state import State
from waymaker_sim.machine.swarm import Plan

WRONG_BY_MS = 400 * 24 * 3_600_000
"""Milliseconds that a wrong wall clock is ahead."""
AMBUSHES = ("MANIFEST", "checkpoints/", "blocks/", "tails/", "journal/")
"""Prefixes of paths before whose writes the disk may fill."""


class Nemesis:
    """Acts on one machine."""

    def __init__(self, track: Track, plan: Plan, process: Process, view: ClientView) -> None:
        self.track = track
        self.plan = plan
        self.process = process
        self.view = view
        self._full_until = 0
        self._wrong = False
        process.on_targeted_disk_full = partial(self._fill, 1_000, MS, 300 * MS)

    def act(self) -> None:
        """Draw a fault, and perform it if there is one."""
        self.track.begin()
        self.process.begin_span()
        plan, track, process = self.plan, self.track, self.process
        if track.chance("clock jump", plan.wall_jump):
            sign = -1 if track.draw("direction", 2) else 1
            self._jump(sign * track.magnitude("clock jump by", 100_000))
            self.view.mark("clock jumped back" if sign < 0 else "clock jumped ahead")
        if track.chance("clock wrong", plan.clock_wrong) and not self._wrong:
            self._set_wrong(100 * MS + track.magnitude("wrong for", 5 * SECOND))
        if track.chance("disk full", plan.full):
            self._fill(100_000, 100 * MS, 5 * SECOND)
        if process.state is State.UP and track.chance("full in ambush", plan.targeted_disk_full):
            where, passing = track.pick("ambush", AMBUSHES), track.draw("passing", 4)
            process.target_disk_full = where, passing
            process.fault(
                "disk fills", f"the disk will be full when {where} is written to, once {passing} writes have passed"
            )
        if track.chance("bit rot", plan.rot):
            rotten = process.disk.rot(track)
            if rotten is not None:
                self.view.mark("bit rot")
                process.fault("bit rot", f"{rotten[0]}: a bit of byte {rotten[1]:,} flips")
        if process.state is State.BOOTING and (track.chance("kill", plan.kill) or track.chance("power", plan.power)):
            self.view.mark("crash while recovering")
            process.lose_power()
        elif process.state is State.UP:
            self._stop()

    def _stop(self) -> None:
        plan, track, process = self.plan, self.track, self.process
        if track.chance("kill", plan.kill):
            self.view.mark("kill")
            process.kill()
        elif track.chance("power", plan.power):
            self.view.mark("power loss")
            process.lose_power()
        elif track.chance("kill at effect", plan.kill_at_effect):
            self.view.mark("kill at effect")
            process.effects_left = track.draw("effects left", 50)
            process.fault("kill planned", f"the process will be killed after {process.effects_left} more effects")
        elif track.chance("drain", plan.drain):
            self.view.mark("drain")
            process.drain()
        elif plan.quorum is not None and track.chance("deposed", plan.quorum.deposes):
            self.view.mark("deposed")
            process.depose(track.magnitude("deposed for", 2 * SECOND))
        elif track.chance("pause", plan.pause):
            self.view.mark("pause")
            process.pause(track.magnitude("pause for", 3 * SECOND))

    def _fill(self, free_bytes_max: int, least_ns: int, more_ns: int) -> None:
        disk, free_bytes = self.process.disk, self.track.magnitude("room left", free_bytes_max)
        disk.faults.capacity = disk.used_bytes() + free_bytes
        self._full_until = self.process.events.now_ns + least_ns + self.track.magnitude("full for", more_ns)
        self.view.disturbed_ns = max(self.view.disturbed_ns, self._full_until)
        self.process.events.at(self._full_until, partial(self._free, self._full_until))
        self.view.mark("disk full")
        self.process.fault("disk full", f"the disk has room for {free_bytes:,} bytes more")

    def _free(self, since: int) -> None:
        if since == self._full_until and self.process.disk.faults.capacity != PLENTY:
            self.process.disk.faults.capacity = PLENTY
            self.process.fault("disk has room", "the disk has room again")

    def _set_wrong(self, time_ns: int) -> None:
        """Move the wall clock far ahead, for so long."""
        self._wrong = True
        self._jump(WRONG_BY_MS)
        self.process.events.at(self.process.events.now_ns + time_ns, self._set_right)

    def _set_right(self) -> None:
        """Correct a wall clock that is ahead."""
        if self._wrong:
            self._wrong = False
            self._jump(-WRONG_BY_MS)
            self.view.history.clock_right_ns = self.process.events.now_ns
            for incarnation in self.view.history.incarnations:
                incarnation.corrected_ms = self.process.now().wall_ms
            self.view.mark("clock corrected")

    def _jump(self, delta_ms: int) -> None:
        now_ns = self.process.events.now_ns
        self.view.history.clock_set_ns = now_ns
        self.view.disturbed_ns = max(self.view.disturbed_ns, now_ns)
        self.process.jump_wall(delta_ms)

    def rest(self) -> None:
        """Stop all faults."""
        self._set_right()
        self._free(self._full_until)

    def recovers_twice(self) -> bool:
        """Return True if the image of this crash is recovered twice, beside the run."""
        return self.track.draw("look twice", 4) == 3

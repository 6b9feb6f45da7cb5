"""Dry runs: updates of a stream's settings that only count, compared with the updates themselves.

A dry run must count what the same update prunes if that update follows at once, with nothing in between. That is
certain where both were decided in one step. Over time it is certain only where nothing else can change the stream:
publishes wait behind an update of their stream, but expiry and dead letters do not.
"""

from __future__ import annotations

from waymaker_core.api.requests import UpdateStream
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_sim.clients.client_view import Ask, ClientView, StreamName
from waymaker_sim.history.history import StreamIncarnation
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId


class DryRun:
    """One dry run, called when it is made. A caller that compares sends the update itself at the same instant."""

    def __init__(
        self, view: ClientView, track: Track, stream: StreamName, request: UpdateStream, config: StreamConfig
    ) -> None:
        self.view = view
        self.track = track
        """The track of the caller."""
        self.config = config
        self.counted = -1
        """The number that the update would prune; -1 while unknown."""
        self.at_once = False
        """True if it was decided in the step that received it, and so in the step of the calls sent with it."""
        self._step = (view.process.run, view.process.steps + 1)
        trial = UpdateStream(
            request.name,
            request.max_age_ms,
            request.max_msgs,
            request.max_bytes,
            request.max_msg_bytes,
            request.strict_limits,
            dry_run=True,
        )
        view.ask(trial, self._tried, lambda: None, stream)

    def _tried(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        if isinstance(answer, Refusal) or answer.code != outcomes.OK:
            return
        assert isinstance(answer.value, tuple)
        require(answer.value[0] == self.config, "dry run", f"it promises {answer.value[0]} for {self.config}")
        self.counted = answer.value[1]
        self.at_once = (step_id.run, step_id.step) == self._step
        self.view.mark("dry run")

    def compare(self, incarnation: StreamIncarnation, pruned: int) -> None:
        """Compare with the update itself, which pruned `pruned` messages."""
        ages = any(config.max_age_ms for config in incarnation.configs)
        letters = any(group.config.dead_letter_subject for group in incarnation.groups)
        if self.counted < 0 or not (self.at_once or not (ages or letters)):
            return
        self.view.mark("dry run confirmed" if self.counted else "dry run confirmed: nothing to prune")
        require(
            pruned == self.counted, "dry run", f"{incarnation.name}: {self.counted} were counted, {pruned} were pruned"
        )

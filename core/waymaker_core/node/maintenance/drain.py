"""Drain: the way to stop that loses nothing and leaves no caller without an answer.

No call is admitted and the readers end. What is decided is committed and answered; what was delivered is logged; a last
watermark marks a clean stop. Then the node halts.

Deliveries are logged even where a log is crowded: once a run, for what is not logged is forgotten. The watermark says whether
all are. Those of a damaged stream, or of one that the node does not lead, are not: for the next start they may have happened.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.parking import Parking
from waymaker_core.node.readers.subscriptions import Subscriptions
from waymaker_core.node.readers.watchers import Watchers
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.node.timers import Timer

REASON = "server_shutdown"
COMMIT_WAIT_NS = 2_000_000_000
"""Time that a node that stops waits for majorities, once all is durable here."""
STOPPING: Final = Refusal(Status.UNAVAILABLE, "the server is shutting down", Outcome.NOT_APPLIED)
UNCOMMITTED: Final = Refusal(
    Status.UNAVAILABLE, "the server is shutting down, and a majority has not confirmed this", Outcome.UNKNOWN
)


class Stage(Enum):
    """A stage of a node's end. Each one follows the one above it."""

    SERVING = 1
    """No drain has begun."""
    ENDING = 2
    """The readers have ended, no call is admitted; what was admitted is being committed."""
    LOGGED = 3
    """The records of deliveries are being committed."""
    COMMITTING = 4
    """The node waits for majorities of all that is durable."""
    MARKED = 5
    """Committed positions and the watermark of a clean stop are being synced."""
    DRAINED = 6
    """Everything is on disk: the node halts."""


class Drain:
    """The steps to the end, one after the other as each is done."""

    def __init__(
        self,
        state: NodeState,
        group_commit: GroupCommit,
        gate: Gate,
        parking: Parking,
        subscriptions: Subscriptions,
        watchers: Watchers,
    ) -> None:
        self._state = state
        self._group_commit = group_commit
        self._gate = gate
        self._parking = parking
        self._subscriptions = subscriptions
        self._watchers = watchers
        self.stage = Stage.SERVING
        self._all_logged = True
        """True if records list every delivery; known from `LOGGED` on."""

    def begin(self) -> None:
        """Stop admitting calls, and end the readers."""
        state = self._state
        if self.stage is not Stage.SERVING:
            return
        self.stage, state.stats.draining = Stage.ENDING, True
        self._subscriptions.end_all(REASON)
        self._watchers.end_all(REASON)
        self._parking.refuse_waiting(STOPPING)
        for replica in state.replicas.values():
            self._parking.answer_last_naks(replica)

    def advance(self) -> None:
        """Take the next steps that need no job in flight."""
        state, group_commit = self._state, self._group_commit
        if self.stage is Stage.SERVING or not group_commit.idle() or state.stats.parked_calls:
            return
        if self.stage is Stage.ENDING:
            self.stage = Stage.LOGGED
            for log in self._logs():
                # Before they are logged: no delivery may leave afterwards.
                self._gate.abandon_questions(log, STOPPING)
            for replica in state.replicas.values():
                # An ephemeral stream ends with this run.
                if not replica.stream.config.ephemeral:
                    logged = replica.damage is None and group_commit.log_deliveries(replica)
                    self._all_logged = self._all_logged and logged
            group_commit.flush()
        if self.stage is Stage.LOGGED and group_commit.idle():
            self.stage = Stage.COMMITTING
            state.timers.arm(Timer.DRAIN, 0, state.now.mono_ns + COMMIT_WAIT_NS)
        if (
            self.stage is Stage.COMMITTING
            and group_commit.idle()
            and (self._patience_ended() or not self._uncommitted())
        ):
            self.stage = Stage.MARKED
            group_commit.watermark_clean(complete=self._all_logged)
            group_commit.flush()
        if self.stage is Stage.MARKED and group_commit.idle():
            self.stage = Stage.DRAINED
            for log in self._logs():
                self._gate.abandon(log, UNCOMMITTED)

    def _logs(self) -> list[StreamLog]:
        return [self._state.catalog_log, *(replica.log for replica in self._state.replicas.values())]

    def _uncommitted(self) -> bool:
        """Return True if records wait for a majority; of a member only those of logs that it leads."""
        state = self._state
        if not state.config.member:
            return any(log.entries for log in self._logs())
        led = [replica.log for replica in state.replicas.values() if replica.leads]
        return any(log.entries for log in [*led, *([state.catalog_log] if state.catalog_leads else [])])

    def _patience_ended(self) -> bool:
        return self._state.timers.deadline(Timer.DRAIN, 0) is None

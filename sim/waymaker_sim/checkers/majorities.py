"""Replicated logs: nothing is applied, answered or delivered before a majority has confirmed what it rests on.

It knows what the phantom quorum confirmed, in all runs of the process, and looks at every step, also the first after a start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from waymaker_core.api.effects import Deliver, Effect, Reply
from waymaker_core.api.inputs import Call, Cut, Drain, Input, Lead, StepDown
from waymaker_core.api.requests import (
    CreateStream,
    DeleteStream,
    ImportBatch,
    ImportBegin,
    ImportEnd,
    ListStreams,
    Request,
)
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.model.types import CATALOG, Token
from waymaker_core.node.node import LogFigures
from waymaker_core.storage.journal.facts import ReplicaFacts
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.machine.phantom_quorum import PhantomQuorum
from waymaker_sim.machine.process import Process

OF_CATALOG = (CreateStream, DeleteStream, ImportBegin, ListStreams)


class Majorities:
    """Watches one process whose logs the phantom quorum confirms."""

    def __init__(self, quorum: PhantomQuorum) -> None:
        self._quorum = quorum
        self._deposed: dict[int, int] = {}
        """By stream id, while the node does not lead it: the end of its log when it stepped down."""
        self._crowded: dict[int, int] = {}
        """By stream id, while as much waits for a majority as may: the end of its log since then."""
        self._logged_last: dict[int, None] | None = None
        """From the begin of an orderly stop on: crowded logs that have grown by the last deliveries, which they may once."""
        self.logs_all = True
        """False from the begin of an orderly stop on, if the node did not lead a stream during it."""
        self._asked: dict[Token, tuple[int, int]] = {}
        """By the token of a call: the stream that it means, and when it was asked."""

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Sequence[Effect]) -> None:
        """Check one step."""
        if process.node is None:
            return
        logs = {figures.stream_id: figures for figures in process.node.log_figures()}
        if process.steps == 1:
            self._asked.clear()
            self._deposed.clear()
            self._check_facts(process.node.replica_facts(), logs)
            self._crowded.clear()
            self._logged_last, self.logs_all = None, True
        if self._logged_last is None and any(isinstance(event, Drain) for event in inputs):
            self._logged_last = {}
        confirmed, limits = self._quorum.confirmed, process.config.limits
        for stream_id, figures in logs.items():
            if figures.applied > confirmed.get(stream_id, 0):
                what = f"{figures.applied} is applied of {confirmed.get(stream_id, 0)}"
                violated("majority first", f"stream {stream_id}: {what}")
            self._check_bound(figures, limits)
        if self._logged_last is not None:
            of_streams = (figures for figures in logs.values() if figures.stream_id != CATALOG)
            self.logs_all = self.logs_all and all(figures.leads for figures in of_streams)
        if self._deposed or any(isinstance(event, StepDown) for event in inputs):
            self._check_deposed(inputs, {stream_id: figures.end for stream_id, figures in logs.items()})
        calls = [event for event in inputs if isinstance(event, Call)]
        ids = {figures.name: stream_id for stream_id, figures in logs.items()} if calls else {}
        for call in calls:
            self._asked[call.token] = (_log_of(call.request, ids), process.events.now_ns)
        for effect in effects:
            if isinstance(effect, Reply):
                self._replied(effect)
            elif isinstance(effect, Deliver):
                self._delivered(process, effect)

    def _check_facts(self, facts: ReplicaFacts, logs: Mapping[int, object]) -> None:
        for stream_id, epoch in self._quorum.promised.items():
            found = facts.promises.get(stream_id, 0)
            what = f"stream {stream_id}: promised {found} after a start, {epoch} before"
            require(stream_id not in logs or found >= epoch, "facts kept", what)
        for stream_id, membership in self._quorum.enrolled.items():
            there = facts.replicas.get(stream_id)
            what = f"stream {stream_id}: it counts since {there} after a start, {membership} before"
            require(stream_id not in logs or (there is not None and there >= membership), "facts kept", what)

    def _check_bound(self, figures: LogFigures, limits: Limits) -> None:
        """Require that a log does not grow while as much of it waits for a majority as may."""
        stream_id, waiting, bound = figures.stream_id, figures.durable - figures.applied, limits.uncommitted_records_max
        waiting_bytes, bytes_bound = figures.uncommitted_bytes, limits.uncommitted_bytes_max
        if waiting < bound and waiting_bytes < bytes_bound:
            if self._crowded:
                self._crowded.pop(stream_id, None)
            return
        end = self._crowded.get(stream_id, figures.end)
        if figures.end > end and self._logged_last is not None and stream_id not in self._logged_last:
            self._logged_last[stream_id] = None
            end = figures.end
        self._crowded[stream_id] = min(end, figures.end)
        what = f"{waiting} records wait, {bound} may, of {waiting_bytes} bytes, {bytes_bound} may"
        require(
            figures.end <= end, "majority first", f"stream {stream_id}: {what}; it grew to {figures.end} from {end}"
        )

    def _check_deposed(self, inputs: Sequence[Input], ends: dict[int, int]) -> None:
        for event in inputs:
            if isinstance(event, Lead):
                self._deposed.pop(event.stream_id, None)
            elif isinstance(event, Cut) and event.stream_id in self._deposed:
                self._deposed[event.stream_id] = min(ends.get(event.stream_id, 0), self._deposed[event.stream_id])
            elif isinstance(event, StepDown) and event.stream_id in ends:
                self._deposed[event.stream_id] = ends[event.stream_id]
        for stream_id, end in self._deposed.items():
            now = ends.get(stream_id, end)
            require(
                now == end, "one leader", f"stream {stream_id}: record {now} is decided, {end} was the last when it led"
            )

    def _replied(self, effect: Reply) -> None:
        stream_id, asked_ns = self._asked.pop(effect.token, (-1, 0))
        if isinstance(effect.answer, Answer) and effect.answer.code == OK:
            self._require_majority(stream_id, asked_ns, f"call {effect.token}")

    def _delivered(self, process: Process, effect: Deliver) -> None:
        stream_id, _ = self._asked.get(effect.token, (-1, 0))
        self._require_majority(stream_id, process.virtual_ns(effect.messages.taken_ns), f"reader {effect.token}")

    def _require_majority(self, stream_id: int, since_ns: int, what: str) -> None:
        log = self._quorum.logs.get(stream_id)
        if log is not None and log.starved and log.starved_ns < since_ns:
            violated("majority first", f"{what} of stream {stream_id} got something that no majority confirmed")


def _log_of(request: Request, ids: dict[str, int]) -> int:
    """Return the id of the log that the answer to a request rests on; -1 where it is not known."""
    if isinstance(request, OF_CATALOG):
        return int(CATALOG)
    if isinstance(request, ImportBatch | ImportEnd):
        return request.stream_id
    return ids.get(getattr(request, "stream", "") or getattr(request, "name", ""), -1)

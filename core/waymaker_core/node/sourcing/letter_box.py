"""Letters about messages that could not be copied, on their way into the stream that a source names as its `dlq_stream`.

A letter is published as a client's message is, by a call of the node itself whose answer comes back here. It is stored before
the position moves over its message, so none is lost. The numbers of its producer keep a second sending from storing it twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import Published
from waymaker_core.model.result_codes import OK, OUTCOME_UNKNOWN, Answer, Refusal
from waymaker_core.model.types import Principal
from waymaker_core.node.calls import Calls
from waymaker_core.node.context import NodeState
from waymaker_core.node.feed import FeedBatch
from waymaker_core.node.gate import Gate
from waymaker_core.node.source_run import SourceRun
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.sources.copies import Failure
from waymaker_core.sources.letters import letters


class LetterBox:
    """Sends letters and reports what became of them."""

    def __init__(self, state: NodeState, gate: Gate, calls: Calls) -> None:
        self._state = state
        self._gate = gate
        self._calls = calls

    def send(
        self,
        replica: StreamReplica,
        run: SourceRun,
        batch: FeedBatch,
        failures: list[Failure],
        sent: Callable[[str], None],
    ) -> None:
        """Publish the letters of some messages; `sent` is called once, with the trouble that may pass, or nothing."""
        source = run.source
        request = letters(
            source.dlq_stream,
            (replica.name, replica.id, run.index),
            (source.source_stream, batch.incarnation),
            batch.messages,
            failures,
            not run.letters_sent,
            self._state.limits,
        )
        token = self._gate.draw_own(partial(self._answered, replica, run, sent))
        self._calls.admit_own(Call(token, Principal(replica.entry.account, "sources"), request))

    def _answered(
        self, replica: StreamReplica, run: SourceRun, sent: Callable[[str], None], answer: Answer | Refusal
    ) -> None:
        if isinstance(answer, Refusal):
            sent(answer.message)
            return
        if answer.code != OK:
            sent(answer.message or answer.code)
            return
        assert isinstance(answer.value, Published)
        for code, text, _ in (answer.value.failures or {}).values():
            if code != OUTCOME_UNKNOWN:
                # The letter will never enter that stream. The log of the node is the last place that keeps it.
                self._state.log(
                    "error", "source_letter_refused", stream=replica.name, source=run.source.source_stream,
                    dlq_stream=run.source.dlq_stream, detail=text,
                )  # fmt: skip
        sent("")

"""Copying from the sources of the streams that this node leads: pulled, made into copies, and committed with the new position.

Each source goes round on its own: a batch is pulled from the feed, its copies are made, and one record appends them and moves
the position (`sources.positions`). The next batch is pulled while earlier ones are committed, up to a bound. What fails before
that record changes nothing: the batch is pulled again. So nothing is copied twice and nothing is left out, in whatever step a
crash or the end of leading comes.

Bounds hold whatever lags: few batches of a node are read at a time (`node.feed`), few wait for letters, and few of a source are
uncommitted. A source or a stream of letters that starves holds up no other. All that is continued later holds the `Leading` it
was begun for, and stops where that is over.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Final, cast

from waymaker_core.layers.decide import Draft, decide_draft
from waymaker_core.layers.layer import SOURCES
from waymaker_core.model.config import OnDrop, SourceConfig
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.result_codes import RefusedError, resource_exhausted
from waymaker_core.model.types import StreamId
from waymaker_core.node.context import NodeState
from waymaker_core.node.feed import Feed, FeedAnswer, FeedBatch, FeedHead, FeedRequest, FeedTrouble
from waymaker_core.node.handlers.committing import Committing
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.parking import RetryLater
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.source_run import QUIET_ATTEMPTS, Rule, SourceRun, Stage
from waymaker_core.node.sourcing.counting import CountRule, check_facts, sketch_of, stage_facts
from waymaker_core.node.sourcing.letter_box import LetterBox
from waymaker_core.node.stream_replica import Leading, StreamReplica
from waymaker_core.node.timers import Timer
from waymaker_core.sources.copies import Copies, CopyBounds, CopyRule
from waymaker_core.sources.positions import Position, Positions, encode_positions

PULLS_A_STEP: Final = 256
"""Sources that are pulled in one step; others follow in the next one."""
LETTERS_AT_ONCE: Final = 16
"""Batches of all streams that may wait for their letters to be stored."""
UNCOMMITTED_MAX: Final = 2
"""Records of one source that may be uncommitted when its next batch is pulled."""
RECORD_SHARE: Final = 2
"""Copies of one record may have twice the bytes of one that publishes share: headers of their origin come on top."""
INFLIGHT_SHARE: Final = 2
"""Copies leave half of the bytes that may be in flight to publishes."""
NO_SPACE_YET: Final = "a journal segment is being made; copying goes on as soon as there is space"


class Sourcing:
    """The sources of all streams that this node leads."""

    def __init__(
        self,
        state: NodeState,
        committing: Committing,
        indexes: Indexes,
        quarantine: Quarantine,
        feed: Feed,
        letter_box: LetterBox,
    ) -> None:
        self._state = state
        self._committing = committing
        self._indexes = indexes
        self._quarantine = quarantine
        self._feed = feed
        self._letter_box = letter_box
        self._ready: deque[tuple[Leading, SourceRun]] = deque()
        """Sources whose turn comes, each once."""
        self._letters_waiting = 0

    # ------------------------------------------------------------------ turns

    def continue_sources(self, replica: StreamReplica) -> None:
        """Begin a stream's sources when it is first led, and go on with those that waited for a commit."""
        config, leading = replica.stream.config, replica.leading
        if not config.sources:
            return
        if not leading.sources:
            leading.sources = [SourceRun(at, each, self._rule(replica, each)) for at, each in enumerate(config.sources)]
            for run in leading.sources:
                self._ready.append((leading, run))
        applied = replica.log.applied
        for run in leading.sources:
            while run.in_flight and run.in_flight[0] <= applied:
                run.in_flight.popleft()
            if run.stage is Stage.COMMITTING and self._may_pull(run):
                self._make_ready(leading, run)

    def _rule(self, replica: StreamReplica, source: SourceConfig) -> Rule:
        sketch = sketch_of(replica)
        return CopyRule(source, self._state.limits) if sketch is None else CountRule(source, sketch, self._state.limits)

    def has_ready(self) -> bool:
        """Return True if a source could be pulled at once."""
        return bool(self._ready) and not self._state.stats.draining

    def pull_ready(self) -> None:
        """Pull from the sources whose turn it is, as many as were ready when this began."""
        for _ in range(min(PULLS_A_STEP, len(self._ready))):
            if not self.has_ready():
                return
            leading, run = self._ready.popleft()
            if self._goes_on(leading) and run.stage is Stage.READY:
                self._pull(leading, run)

    def retry(self, stream_id: int) -> None:
        """Go on with the sources of a stream whose pause is over."""
        replica = self._state.replicas.get(StreamId(stream_id))
        if replica is None or not replica.leading.serves:
            return
        for run in replica.leading.sources:
            if run.stage is Stage.PAUSED and run.retry_ns <= self._state.now.mono_ns:
                self._make_ready(replica.leading, run)
        self._arm(replica.leading)

    def _arm(self, leading: Leading) -> None:
        pauses = [run.retry_ns for run in leading.sources if run.stage is Stage.PAUSED]
        self._state.timers.arm(Timer.SOURCES, leading.replica.id, min(pauses, default=None))

    def _make_ready(self, leading: Leading, run: SourceRun) -> None:
        run.stage = Stage.READY
        self._ready.append((leading, run))

    def _wake(self, leading: Leading, run: SourceRun) -> None:
        """Pull from a source that has changed; while it is being pulled, note that it has to be pulled again."""
        run.woken = True
        if self._goes_on(leading) and run.stage in (Stage.WATCHING, Stage.HALTED):
            self._make_ready(leading, run)

    def _goes_on(self, leading: Leading) -> bool:
        """Return False where a stream is not led any more, or is not served, or the node is about to stop."""
        return leading.serves and not self._state.stats.draining

    def _may_pull(self, run: SourceRun) -> bool:
        return len(run.in_flight) < (1 if run.drain_first else UNCOMMITTED_MAX)

    # ------------------------------------------------------------------ pulling

    def _pull(self, leading: Leading, run: SourceRun) -> None:
        run.stage = Stage.PULLING
        position = _positions(leading.replica).projected(run.index)
        # Before anything is read: a change that comes meanwhile must not be missed.
        run.woken = False
        self._watch(leading, run, position.incarnation.stream_id if run.halted and position is not None else 0)
        request = FeedRequest(
            leading.replica.entry.account,
            run.source.source_stream,
            None if position is None else position.incarnation,
            0 if position is None else position.seq + 1,
            run.pattern,
        )
        self._feed.pull(request, partial(self._answered, leading, run))

    def _answered(self, leading: Leading, run: SourceRun, answer: FeedAnswer) -> None:
        if not self._goes_on(leading):
            return
        if isinstance(answer, FeedTrouble):
            if answer.missing:
                run.show_trouble(answer.text, self._state.now.wall_ms, passing=True)
                self._wait_in(Stage.WATCHING, leading, run)
            else:
                self._show_passing(run, answer.text)
                self._pause(leading, run)
            return
        run.seen_seq = answer.last_seq
        if isinstance(answer, FeedHead):
            self._begin_incarnation(leading, run, answer)
        elif answer.torn and run.source.on_drop is OnDrop.HALT:
            self._halt(leading, run, answer)
        else:
            self._take(leading, run, answer)

    def _begin_incarnation(self, leading: Leading, run: SourceRun, head: FeedHead) -> None:
        """Choose and commit the first position in an incarnation of a source."""
        run.halted = False
        source = run.source
        start = head.first_seq
        if _positions(leading.replica).projected(run.index) is None:
            start = max(start, source.start_seq)
            if source.max_initial_backfill:
                start = max(start, head.last_seq - source.max_initial_backfill + 1)
        else:
            text = (
                f"source {source.source_stream!r} was deleted and created anew; the new stream is copied from its first "
                f"message on, sequence {start}"
            )
            self._report(leading, run, "source_created_anew", text)
        position = Position(head.incarnation, start - 1)
        self._decide(leading, run, position, Copies(), more=True)

    def _halt(self, leading: Leading, run: SourceRun, batch: FeedBatch) -> None:
        """Stop copying from a source until another incarnation has its name."""
        if not run.halted:
            text = _torn_text(leading, run, batch, "copying has stopped (on_drop)")
            self._report(leading, run, "source_halted", text)
            run.halted = True
            # Once more, now that only another incarnation is watched for.
            self._make_ready(leading, run)
        else:
            self._wait_in(Stage.HALTED, leading, run)

    def _take(self, leading: Leading, run: SourceRun, batch: FeedBatch) -> None:
        """Make copies of a batch, and store the letters of what cannot be copied before the position moves over it."""
        if batch.torn:
            text = _torn_text(leading, run, batch, f"copying goes on at sequence {batch.first_seq}")
            self._report(leading, run, "source_skipped", text)
        replica, limits = leading.replica, self._state.limits
        settings = replica.stream.settings
        size_max = min(settings.max_msg_bytes or limits.message_bytes_max, limits.message_bytes_max)
        room = RECORD_SHARE * limits.record_bytes_max
        copies = run.rule.take_messages(batch.messages, CopyBounds(size_max, settings.max_bytes, room))
        next_seq = max(batch.next_seq, batch.first_seq)
        if copies.taken < len(batch.messages.seqs):
            next_seq = batch.messages.seqs[copies.taken]
        position = Position(batch.incarnation, next_seq - 1)
        decide = partial(self._decide, leading, run, position, copies, next_seq <= batch.last_seq)
        run.pulled_total += copies.taken
        if not copies.failures:
            decide()
            return
        failure = copies.failures[0]
        seq = batch.messages.seqs[failure.place]
        text = f"source {run.source.source_stream!r}: message {seq} {run.rule.failed}: {failure.reason}"
        if len(copies.failures) > 1:
            text += f" (and {len(copies.failures) - 1} more up to sequence {position.seq})"
        self._report(leading, run, "source_message_not_copied", text)
        if not run.source.dlq_stream:
            decide()
            return
        if self._letters_waiting >= LETTERS_AT_ONCE:
            self._pause(leading, run)
            return
        self._letters_waiting += 1
        self._letter_box.send(leading.replica, run, batch, copies.failures, partial(self._sent, leading, run, decide))

    def _sent(self, leading: Leading, run: SourceRun, decide: partial[None], trouble: str) -> None:
        """Go on with a batch whose letters are stored; with a trouble the batch is pulled again later."""
        self._letters_waiting -= 1
        if not self._goes_on(leading):
            return
        if not trouble:
            run.letters_sent = True
            decide()
            return
        self._show_passing(run, f"dlq_stream {run.source.dlq_stream!r}: {trouble}")
        self._pause(leading, run)

    # ------------------------------------------------------------------ deciding

    def _decide(self, leading: Leading, run: SourceRun, position: Position, copies: Copies, more: bool) -> None:
        """Append copies and move the position in one record, as soon as the indexes that this needs are resident."""
        append = partial(self._append, leading, run, position, copies, more)
        self._indexes.when_resident(leading.replica, append, partial(self._no_index, leading, run))

    def _append(self, leading: Leading, run: SourceRun, position: Position, copies: Copies, more: bool) -> None:
        if not self._goes_on(leading):
            return
        replica, state = leading.replica, self._state
        positions = _positions(replica)
        if not (copies.body or copies.facts) and positions.projected(run.index) == position:
            run.succeed()
            self._wait_in(Stage.WATCHING, leading, run)
            return
        facts = [(SOURCES, encode_positions({run.index: position})), *copies.facts]
        try:
            check_facts(replica, copies.facts)
            bound = self._admit(replica, copies, sum(len(fact) for _, fact in facts))
        except (RefusedError, RetryLater) as lack:
            if run.attempts >= QUIET_ATTEMPTS:
                text = lack.refusal.message if isinstance(lack, RefusedError) else NO_SPACE_YET
                self._show_passing(run, text)
            self._pause(leading, run)
            return
        parts = [copies.body] if copies.body else []
        draft = Draft(copies.subjects, copies.sizes, parts, (), facts, copies.lengths)
        record = decide_draft(replica.stream, draft, state.now.wall_ms)
        positions.stage(record, run.index, position)
        stage_facts(replica, copies.facts)
        _, at = self._committing.add_decided(replica, record, parts, bound)
        run.in_flight.append(at)
        run.drain_first = not (copies.body or copies.facts)
        run.succeed()
        if not more:
            self._wait_in(Stage.WATCHING, leading, run)
        elif self._may_pull(run):
            self._make_ready(leading, run)
        else:
            run.stage = Stage.COMMITTING

    def _admit(self, replica: StreamReplica, copies: Copies, fact_bytes: int) -> int:
        """Return the bytes that copies take in the journal at most. RefusedError, RetryLater: they cannot be stored now."""
        state, limits = self._state, self._state.limits
        if state.catalog.is_deletion_staged(replica.entry):
            raise resource_exhausted("the stream is being deleted")
        body_bytes = len(copies.body)
        in_flight = state.stats.inflight_bytes
        if in_flight and in_flight + body_bytes > limits.inflight_bytes_max // INFLIGHT_SHARE:
            raise resource_exhausted("too much is being written already")
        return self._committing.admit(replica, len(copies.lengths), body_bytes, fact_bytes)

    def _no_index(self, leading: Leading, run: SourceRun, failure: DiskFailure) -> None:
        """Leave a batch whose stream's own index cannot be read."""
        if leading.serves:
            self._quarantine.found(leading.replica, failure)
        if leading.serves:
            self._pause(leading, run)

    # ------------------------------------------------------------------ waiting

    def _watch(self, leading: Leading, run: SourceRun, unless: int) -> None:
        self._feed.watch(
            leading.replica.entry.account,
            run.source.source_stream,
            (leading.replica.id, run.index),
            partial(self._wake, leading, run),
            unless,
        )

    def _wait_in(self, stage: Stage, leading: Leading, run: SourceRun) -> None:
        """Wait for a change of the source, unless there was one since the pull began."""
        if run.woken:
            self._make_ready(leading, run)
        else:
            run.stage = stage

    def _pause(self, leading: Leading, run: SourceRun) -> None:
        run.pause(self._state.now.mono_ns)
        self._arm(leading)

    def _show_passing(self, run: SourceRun, text: str) -> None:
        """Show a trouble that passes by itself, unless copying has stopped: what stopped it must stay in sight."""
        if not run.halted:
            run.show_trouble(text, self._state.now.wall_ms, passing=True)

    def _report(self, leading: Leading, run: SourceRun, event: str, text: str) -> None:
        """Show a trouble that does not pass by itself, and log it for the operator."""
        run.show_trouble(text, self._state.now.wall_ms, passing=False)
        self._state.log("warning", event, stream=leading.replica.name, source=run.source.source_stream, detail=text)


def _positions(replica: StreamReplica) -> Positions:
    return cast(Positions, replica.layers.by_kind[SOURCES])


def _torn_text(leading: Leading, run: SourceRun, batch: FeedBatch, what_follows: str) -> str:
    position = _positions(leading.replica).projected(run.index)
    seq = 0 if position is None else position.seq
    return (
        f"source {run.source.source_stream!r} pruned messages before they were copied, from sequence {seq + 1} up to "
        f"{batch.first_seq - 1}; {what_follows}"
    )

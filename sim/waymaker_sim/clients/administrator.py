"""The administrator: creates, deletes and updates streams and consumers, one change at a time, and resolves lost
outcomes.

While a change is in flight, and until its outcome is known, the name's version is odd: no client may conclude anything
from results under that name meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from waymaker_core.api.requests import (
    CreateConsumer,
    CreateStream,
    DeleteConsumer,
    DeleteStream,
    GetConsumerInfo,
    GetStreamInfo,
    Request,
    StreamInfo,
    UpdateStream,
)
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, Retention, StreamConfig
from waymaker_core.model.result_codes import Answer, Outcome, Refusal
from waymaker_sim.clients.client_view import Ask, ClientView, ConsumerName, StreamName
from waymaker_sim.clients.dry_run import DryRun
from waymaker_sim.clients.publisher import Reader
from waymaker_sim.history.groups import FOREVER_NS
from waymaker_sim.history.history import Group, StreamIncarnation
from waymaker_sim.history.late_calls import expect_late
from waymaker_sim.history.subjects import LETTERS, NARROW, SUBJECTS, WIDE, accepts
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId
from waymaker_sim.machine.swarm import Plan


def _certainly_not(answer: Answer | Refusal) -> bool:
    """Return True if a change with this answer certainly did not happen."""
    return isinstance(answer, Answer) or answer.outcome is Outcome.NOT_APPLIED


def _exists(asked: Request, answer: Answer) -> bool:
    """Return True if a thing exists after this answer to a question, or to a change that was made again."""
    if isinstance(asked, DeleteStream | DeleteConsumer):
        return False
    return answer.code in (outcomes.OK, outcomes.ALREADY_EXISTS)


class Administrator:
    """Acts on one name at a time; `busy` while an answer is outstanding."""

    def __init__(self, view: ClientView, track: Track, plan: Plan) -> None:
        self.view = view
        self.track = track
        self.plan = plan
        self.busy = False
        self.quiet = False
        """True: only resolve doubts, and make no more changes."""

    def act(self) -> None:
        """Make one change, or one call to resolve a change of unknown outcome."""
        self.track.begin()
        if self.busy:
            return
        for name in sorted(self.view.streams):
            stream = self.view.streams[name]
            if stream.doubt is not None:
                self._resolve(stream, stream, GetStreamInfo(name))
                return
            for consumer_name in sorted(stream.consumers):
                consumer = stream.consumers[consumer_name]
                if consumer.doubt is not None:
                    self._resolve(stream, consumer, GetConsumerInfo(name, consumer_name))
                    return
        if not self.quiet:
            self._change(self.view.streams[self.track.pick("stream", sorted(self.view.streams))])

    def settled(self) -> bool:
        """Return True if every outcome is known."""
        return not self.busy and not any(
            stream.doubt or any(consumer.doubt for consumer in stream.consumers.values())
            for stream in self.view.streams.values()
        )

    def _change(self, stream: StreamName) -> None:
        if stream.incarnation is None:
            if not self.view.is_awaited(stream):
                self.create_stream(stream)
        elif self.track.chance("delete", self.plan.churn):
            self._delete_stream(stream, stream.incarnation)
        else:
            what = self.track.weighted("change", ((6, "rest"), (5, "consumer"), (2, "update")))
            if what == "consumer":
                self._change_consumer(stream, stream.incarnation)
            elif what == "update":
                self._update(stream, stream.incarnation)

    # ------------------------------------------------------------ asking

    def _ask(
        self, thing: StreamName | ConsumerName, request: Request, done: Callable[[Answer], None],
        undone: Callable[[], None], resolve: Callable[[bool], None], *, may_wait: bool = False,
    ) -> None:  # fmt: skip
        """Send a change of one name. Exactly one of the three functions is called, `resolve` once the outcome is known.

        A change that `may_wait` for interval sync counts as done once it is durable; any other one when it was answered.
        """

        def settled(answer: Answer) -> None:
            self.busy = False
            done(answer)
            thing.version += 1

        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            if isinstance(answer, Answer) and answer.code == outcomes.OK:
                if may_wait:
                    self.view.settle(partial(settled, answer), lost)
                else:
                    settled(answer)
                return
            self.busy = False
            if _certainly_not(answer):
                if isinstance(answer, Answer):
                    self._unexpected(thing, request, answer)
                undone()
            else:
                thing.doubt = resolve
                return
            thing.version += 1

        def lost() -> None:
            self.busy = False
            thing.doubt = resolve

        thing.version += 1
        thing.again = request
        self.busy = True
        if self.view.ask(request, replied, lost) is None:
            self.busy = False
            undone()
            thing.version += 1

    def _unexpected(self, thing: StreamName | ConsumerName, request: Request, answer: Answer) -> None:
        """Report a failed change. Changes are made only when they can succeed, except dead letters that their stream
        refuses."""
        if answer.code == outcomes.INVALID_CONFIG and isinstance(request, CreateConsumer):
            assert isinstance(thing, ConsumerName)
            if not self._accepts_letters(self.view.streams[request.stream], request.config):
                self.view.mark("dead letters not taken")
                return
        violated("answer allowed", f"{type(request).__name__} ended with {answer!r}")

    @staticmethod
    def _accepts_letters(stream: StreamName, config: ConsumerConfig) -> bool:
        """Return True if the dead letters of a consumer, if it has any, may be written to its stream."""
        subject = config.dead_letter_subject
        if not subject or stream.incarnation is None:
            return True
        settings = stream.incarnation.config
        return settings.max_msgs_per_subject != 1 and accepts(settings.subjects_filter, subject)

    def _resolve(self, stream: StreamName, thing: StreamName | ConsumerName, question: Request) -> None:
        """Find out if the thing exists, and note it.

        Where streams move, a read does not tell: the change may still be on its way to a majority. So it is made again. Once
        that is confirmed, an earlier one is before it, or lost for good.
        """
        asked = thing.again if self.view.access.moves and thing.again is not None else question

        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            if isinstance(answer, Refusal):
                self.busy = False
            else:
                self.view.settle(partial(known, answer), lost)

        def known(answer: Answer) -> None:
            self.busy = False
            doubt = thing.doubt
            assert doubt is not None
            thing.doubt = None
            thing.version += 1
            doubt(_exists(asked, answer))
            self.view.mark("doubt resolved")
            if isinstance(answer.value, StreamInfo) and stream.incarnation is not None:
                self.view.history.identify(stream.incarnation, answer.value.stream_id)
                stream.incarnation.configs.append(answer.value.config)

        def lost() -> None:
            self.busy = False

        self.busy = True
        if self.view.ask(asked, replied, lost) is None:
            self.busy = False

    # ------------------------------------------------------------ streams

    def create_stream(self, stream: StreamName) -> None:
        """Create a stream of a random kind under a free name."""
        track = self.track
        retention = track.pick("retention", (Retention.LIMITS, Retention.WORK_QUEUE, Retention.INTEREST))
        config = StreamConfig(
            stream.name,
            subjects_filter=WIDE if track.draw("filter", 2) else (),
            retention=retention,
            block_size=track.pick("block size", (0, 1, 4, 10)),
            max_msgs_per_subject=track.pick("per subject", (0, 0, 1, 3)),
            max_msg_bytes=track.pick("message bytes", (0, 0, 0, 200)),
            ephemeral=track.draw("ephemeral", 12) == 11 and not self.view.access.moves,
        )
        if retention is Retention.LIMITS:
            config = replace(
                config,
                max_msgs=track.pick("max msgs", (0, 0, 30, 5)),
                max_bytes=track.pick("max bytes", (0, 0, 0, 2_000)),
                max_age_ms=track.pick("max age", (0, 0, 3_000, 500)),
                strict_limits=track.draw("strict", 2) == 1,
            )
        if self.plan.selective and track.draw("narrow", 3):
            config = replace(config, subjects_filter=track.pick("subjects", NARROW))
        settled = replace(config, block_size=config.block_size or self.plan.limits.block_size_default)
        incarnation = self.view.history.begin_incarnation(stream.name, settled)
        if self.view.access.moves:
            expect_late(self.view.history, incarnation)
        self._ask(
            stream,
            CreateStream(config),
            lambda _: self._created(stream, incarnation),
            incarnation.end,
            partial(self._maybe, stream, incarnation),
        )

    def _created(self, stream: StreamName, incarnation: StreamIncarnation) -> None:
        stream.renew(incarnation, self.view.events.now_ns)
        self.view.mark("stream created")

    def _maybe(self, stream: StreamName, incarnation: StreamIncarnation, exists: bool) -> None:
        if exists:
            self._created(stream, incarnation)
        else:
            incarnation.end()

    def _delete_stream(self, stream: StreamName, incarnation: StreamIncarnation) -> None:
        def deleted(_: object = None) -> None:
            stream.renew(None, self.view.events.now_ns)
            incarnation.end()
            self.view.mark("stream deleted")

        self._ask(
            stream, DeleteStream(stream.name), deleted, lambda: None, lambda exists: None if exists else deleted()
        )

    def _update(self, stream: StreamName, incarnation: StreamIncarnation) -> None:
        track, old = self.track, incarnation.config
        config = replace(old, max_msg_bytes=track.pick("message bytes", (0, 0, 150, 500)))
        request = UpdateStream(stream.name, max_msg_bytes=config.max_msg_bytes)
        if old.retention is Retention.LIMITS:
            config = replace(
                config,
                max_msgs=track.pick("max msgs", (0, 50, 10, 2)),
                max_bytes=track.pick("max bytes", (0, 0, 5_000, 500)),
                max_age_ms=track.pick("max age", (0, 0, 5_000, 1_000)),
                strict_limits=track.draw("strict", 2) == 1,
            )
            request = UpdateStream(
                stream.name,
                config.max_age_ms,
                config.max_msgs,
                config.max_bytes,
                config.max_msg_bytes,
                config.strict_limits,
            )
        trial = None
        if self.plan.dry_runs and (how := track.draw("dry run", 3)):
            trial = DryRun(self.view, track, stream, request, config)
            if how == 1:
                return
        incarnation.configs.append(config)

        def updated(answer: Answer) -> None:
            assert isinstance(answer.value, tuple)
            require(answer.value[0] == config, "answer allowed", f"update to {config} made {answer.value[0]}")
            if trial is not None:
                trial.compare(incarnation, answer.value[1])
            if answer.value[1]:
                self.view.mark("update pruned")
            self.view.mark("stream updated")
            self.view.events.after(0, look)

        def look() -> None:
            self.view.ask(GetStreamInfo(stream.name), pruned, lambda: None, stream)

        def pruned(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            known = ask.incarnation()
            if known is not None and isinstance(answer, Answer) and isinstance(answer.value, StreamInfo):
                Reader.within_bounds(known, answer.value.stats)

        self._ask(
            stream,
            request,
            updated,
            lambda: incarnation.configs.append(old),
            lambda exists: self._must(incarnation, exists),
        )

    @staticmethod
    def _must(incarnation: StreamIncarnation, exists: bool) -> None:
        require(exists, "acked survives", f"{incarnation.name} was only updated and is gone")

    # ------------------------------------------------------------ consumers

    def _change_consumer(self, stream: StreamName, incarnation: StreamIncarnation) -> None:
        name = f"c{self.track.draw('consumer', 4)}"
        consumer = stream.consumers.get(name)
        if consumer is None or consumer.group is None:
            if not self.view.is_awaited(stream, name):
                self.create_consumer(stream, incarnation, name)
        elif self.track.draw("delete consumer", 4) == 3:
            self._delete_consumer(stream, consumer, consumer.group)

    def create_consumer(self, stream: StreamName, incarnation: StreamIncarnation, name: str) -> None:
        """Create a consumer, alone or in the queue group of its stream."""
        config = self._consumer_config(stream, incarnation, name)
        group = next((g for g in incarnation.groups if not g.ended and g.same(config)), None)
        if group is None:
            moves, rate_ppm = self.view.access.moves, self.view.rate_ppm
            group = Group(incarnation, config, self.view.events.now_ns, rate_ppm, moves, incarnation.last_seq)
            incarnation.groups.append(group)
        consumer = stream.consumers.setdefault(name, ConsumerName(name))
        self._ask(
            consumer,
            CreateConsumer(stream.name, config),
            lambda _: self._joined(stream, consumer, group),
            partial(self._not_joined, stream, consumer, group),
            lambda exists: (self._joined if exists else self._not_joined)(stream, consumer, group),
        )

    def _consumer_config(self, stream: StreamName, incarnation: StreamIncarnation, name: str) -> ConsumerConfig:
        """Draw a consumer's configuration. Members of a group must agree, so all have that of the first."""
        track = self.track
        if track.draw("group", 3) == 2:
            present = next((g for g in incarnation.groups if not g.ended and g.config.deliver_group), None)
            if present is not None:
                return replace(present.config, name=name)
            group = "g"
        else:
            group = ""
        policy, start_seq, start_time_ms = self._start(incarnation)
        return ConsumerConfig(
            name,
            filter_subject=track.pick("filter", ("", "a.*", "b.>", SUBJECTS[0], "dead.*")),
            policy=policy,
            start_seq=start_seq,
            start_time_ms=start_time_ms,
            ack_wait_ms=track.pick("ack wait", (2_000, 500, 100)),
            max_deliver=track.pick("max deliver", (5, 3, 2, 1)),
            deliver_group=group,
            dead_letter_subject=LETTERS if track.draw("dead letters", 2) else "",
        )

    def _start(self, incarnation: StreamIncarnation) -> tuple[DeliveryPolicy, int, int]:
        """Draw the start of a consumer: a policy, and its sequence or time."""
        track = self.track
        policy = track.pick(
            "policy", (DeliveryPolicy.ALL, DeliveryPolicy.ALL, DeliveryPolicy.LAST, DeliveryPolicy.BY_START_SEQ)
        )
        other = track.draw("other start", 3) if self.plan.other_starts else 0
        if other == 2:
            return DeliveryPolicy.BY_START_TIME, 0, self._start_time(incarnation)
        if other == 1:
            return DeliveryPolicy.BY_START_SEQ, max(1, incarnation.last_seq + 2 - track.draw("start around", 8)), 0
        return policy, 1 + track.draw("start", 20) if policy is DeliveryPolicy.BY_START_SEQ else 0, 0

    def _start_time(self, incarnation: StreamIncarnation) -> int:
        """Draw a start time: around now, at or beside the exact time of a message, before everything, or after it."""
        track, wall_ms = self.track, self.view.access.now().wall_ms
        match track.draw("start time", 6):
            case 0:
                return wall_ms - 2_000 + track.draw("time", 4_000)
            case 1:
                return track.pick("early", (0, 1, -1))
            case 2:
                return wall_ms + 60_000
            case _:
                times = [time_ms for seq in incarnation.live if (time_ms := incarnation.times[seq]) >= 0] or [wall_ms]
                return track.pick("time of", times) + track.pick("beside", (0, 0, 1, -1))

    def _joined(self, stream: StreamName, consumer: ConsumerName, group: Group) -> None:
        consumer.group = group
        group.members += 1
        require(
            self._accepts_letters(stream, group.config),
            "subjects",
            f"{stream.name} takes no letters of {consumer.name}",
        )
        if not group.certain:
            group.certain = True
            group.certain_ns = self.view.events.now_ns
            incarnation = group.incarnation
            incarnation.no_consumer_until_ns = min(incarnation.no_consumer_until_ns, self.view.events.now_ns)
        self.view.mark("consumer created")

    def _not_joined(self, stream: StreamName, consumer: ConsumerName, group: Group) -> None:
        stream.forget(consumer.name, self.view.events.now_ns)
        if not group.members:
            group.ended = True

    def _delete_consumer(self, stream: StreamName, consumer: ConsumerName, group: Group) -> None:
        left_out = group.members > 1 and any(not delivery.free for delivery in group.pending.values())
        group.free_all(self.view.events.now_ns)
        incarnation = group.incarnation
        if group.members == 1:
            group.leaving = True
            if not any(g.certain and not g.ended and not g.leaving for g in incarnation.groups):
                incarnation.no_consumer_until_ns = FOREVER_NS

        def deleted(_: object = None) -> None:
            stream.forget(consumer.name, self.view.events.now_ns)
            group.due.member_deleted(consumer.name, self.view.events.now_ns)
            group.members -= 1
            if not group.members:
                group.ended = True
            group.free_all(self.view.events.now_ns)
            if left_out:
                self.view.mark("queue group member left with pending")
            self.view.mark("consumer deleted")

        def stays() -> None:
            group.leaving = False
            incarnation.no_consumer_until_ns = min(incarnation.no_consumer_until_ns, self.view.events.now_ns)

        request = DeleteConsumer(stream.name, consumer.name)
        self._ask(consumer, request, deleted, stays, lambda exists: stays() if exists else deleted(), may_wait=True)

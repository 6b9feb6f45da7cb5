"""Clients that consume: they fetch or subscribe, and ack, nak, extend, terminate or forget their messages."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import NamedTuple

from waymaker_core.api.effects import End, Event
from waymaker_core.api.requests import Ack, AckKind, ConsumerInfo, Fetch, GetConsumerInfo, Subscribe
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import Answer, Outcome, Refusal
from waymaker_core.stream.answers import MESSAGE_OVERHEAD_BYTES
from waymaker_sim.clients.client_view import Ask, ClientView, ConsumerName, StreamName
from waymaker_sim.clients.delivery_liveness import check_dropped, check_fetch, check_fetched, check_waiting
from waymaker_sim.history.groups import FOREVER_NS, PendingDelivery
from waymaker_sim.history.history import Group
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId

CREDIT_BYTES = 64 * 1024
LITTLE_CREDIT_BYTES = 200
"""Bytes of credit for each message, where bytes are the credit that runs out first."""
NOTICE_NS = 1 * SECOND
"""Time within which readers learn that a consumer is deleted; the news is sent before the deletion is confirmed."""


class Worker:
    """Works on a consumer that it draws. Once `diligent`, it acks everything at once."""

    def __init__(self, view: ClientView, track: Track, tags: Track, limits: Limits) -> None:
        """Make a worker. `tags`: True if answers carry the consumer's incarnation."""
        self.view = view
        self.track = track
        self.limits = limits
        self.tags = tags
        self.diligent = False
        self.fetched = 0
        self.subscription: Subscription | None = None

    def act(self) -> None:
        """Take one action."""
        self.track.begin()
        self.tags.begin()
        if self.subscription is not None:
            self.subscription.check()
        track = self.track
        kind = track.weighted("work", ((1, "rest"), (5, "fetch"), (1, "subscribe"), (1, "unsubscribe")))
        stream = self.view.streams[track.pick("stream", sorted(self.view.streams))]
        if kind == "rest" or not stream.consumers:
            return
        consumer = stream.consumers[track.pick("consumer", sorted(stream.consumers))]
        if kind == "fetch":
            self.fetch(stream, consumer, track.draw("batch", 20))
        elif kind == "subscribe" and self.subscription is None:
            self._subscribe(stream, consumer)
        elif kind == "unsubscribe" and self.subscription is not None:
            self.subscription.cancel()

    # ------------------------------------------------------------ fetching

    def fetch(self, stream: StreamName, consumer: ConsumerName, batch: int) -> None:
        """Fetch messages."""
        request = Fetch(stream.name, consumer.name, batch)
        asked = Ask(self.view, request, self._fetched, lambda: None, stream, consumer)
        self.view.ask(request, self._fetched, partial(note_lost_deliveries, asked), stream, consumer)

    def _fetched(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        assert isinstance(ask.request, Fetch) and ask.stream is not None and ask.consumer is not None
        group = ask.group()
        if isinstance(answer, Refusal):
            if answer.outcome is not Outcome.NOT_APPLIED:
                note_lost_deliveries(ask)
            return
        if answer.code != outcomes.OK:
            if group is not None:
                violated(
                    "acked survives", f"{group.incarnation.name}/{group.config.name} exists and a fetch says {answer!r}"
                )
            return
        assert got is not None and ask.token is not None
        self.fetched += len(got)
        for message in got:
            self.view.reached_program(ask.token, group, message)
        wanted = ask.request.batch_size or self.limits.fetch_default
        require(len(got) <= wanted, "answer allowed", f"{len(got)} messages for a batch of {wanted}")
        if group is None:
            note_lost_deliveries(ask, got)
        else:
            check_fetched(self.view, group, got, step_id)
            naks = self.naks_of(step_id.run)
            group.incarnation.deliver(group, got, self.view.history, ask.asked_ns, step_id, naks)
            group.due.delivered(got, ask.consumer.name, step_id, group.wait_most_ns)
            check_fetch(self.view, ask, group, got, wanted, step_id)
            if got:
                self.view.named(got[0].incarnation, ask.consumer)
        self.answer(ask.stream, ask.consumer, got)

    # ------------------------------------------------------------ answering

    def answer(self, stream: StreamName, consumer: ConsumerName, got: list[ReceivedMessage]) -> None:
        """Decide on each message; some are acked together, some one by one, some never."""
        if not got:
            return
        track = self.track
        word = got[0].incarnation if self.tags.draw("incarnation", 2) else ""
        if self.tags.draw("stale", 6) == 5:
            self._send_stale_answer(stream, consumer, [message.seq for message in got])
        if self.diligent:
            self._send_answer(AckKind.ACK, stream, consumer, word, [message.seq for message in got], 0)
            return
        manner = track.draw("answers", 4)
        if manner < 2:
            kind = track.weighted(
                "answer all", ((6, AckKind.ACK), (2, AckKind.NAK), (1, AckKind.TERM), (1, AckKind.IN_PROGRESS))
            )
            self._later(kind, stream, consumer, word, [message.seq for message in got])
        elif manner == 2:
            for message in got:
                kinds = ((6, AckKind.ACK), (2, None), (3, AckKind.NAK), (1, AckKind.TERM), (1, AckKind.IN_PROGRESS))
                kind_or_none = track.weighted("answer", kinds)
                if kind_or_none is not None:
                    self._later(kind_or_none, stream, consumer, word, [message.seq])

    def _later(self, kind: AckKind, stream: StreamName, consumer: ConsumerName, word: str, seqs: list[int]) -> None:
        delay_ns = self.track.magnitude("work time", 3 * SECOND) if self.track.draw("slow work", 4) == 3 else 0
        delay_ms = self.track.magnitude("nak delay", 2_000) if kind is AckKind.NAK else 0
        if delay_ns:
            self.view.events.after(delay_ns, partial(self._send_answer, kind, stream, consumer, word, seqs, delay_ms))
        else:
            self._send_answer(kind, stream, consumer, word, seqs, delay_ms)

    def _send_answer(
        self, kind: AckKind, stream: StreamName, consumer: ConsumerName, word: str, seqs: list[int], delay_ms: int
    ) -> None:
        # By now the name may mean another incarnation: these sequences then count for that one.
        consumer = stream.consumers.get(consumer.name, consumer)
        request = Ack(stream.name, consumer.name, kind, seqs, delay_ms, word)
        if self.view.is_foreign(word, consumer):
            # It answers deliveries of a deleted consumer: it changes nothing, so nothing is noted.
            self.view.mark("ack of another incarnation")
            self.view.ask(request, self._unheeded, lambda: None, stream, consumer)
            return
        group = consumer.group if stream.steady() and consumer.steady() else None
        # An answer to a message that this incarnation has not delivered by now promises nothing, should it be
        # delivered before it.
        delivered = [seq for seq in seqs if group is not None and group.most.get(seq)]
        answering = Answering(group or consumer.group, delivered)
        ask = self.view.ask(
            request, partial(self._acked, answering), partial(answering.lost, kind, seqs), stream, consumer
        )
        if ask is not None:
            answering.sent(kind, seqs)
            process_run = self.naks_of(self.view.access.run_of(stream.name))
            for each in self._may_be(stream, consumer) if answering.group is None else [answering.group]:
                if kind is AckKind.NAK:
                    each.note_naks(seqs, process_run, 1)
                elif answering.group is None and kind is not AckKind.IN_PROGRESS:
                    each.answering(kind, seqs)

    def naks_of(self, run: int) -> int:
        """Return the run in which naks count together. Where streams move, one that is lost may reach any later leader."""
        return 0 if self.view.access.moves else run

    def _may_be(self, stream: StreamName, consumer: ConsumerName) -> list[Group]:
        """Return the groups that a consumer may belong to whose creation has no answer yet."""
        return [
            group
            for incarnation in self.view.history.incarnations
            if incarnation.name == stream.name and not incarnation.ended
            for group in incarnation.groups
            if not group.ended and (group.config.name == consumer.name or group.config.deliver_group)
        ]

    def _send_stale_answer(self, stream: StreamName, consumer: ConsumerName, seqs: list[int]) -> None:
        """Send an answer to another consumer's deliveries that names the same sequences."""
        kinds = ((2, AckKind.ACK), (1, AckKind.TERM), (1, AckKind.NAK))
        others = [word for word, other in self.view.incarnations.items() if other is not consumer]
        if others:
            kind = self.tags.weighted("stale answer", kinds)
            self._send_answer(kind, stream, consumer, self.tags.pick("whose", others), seqs, 0)

    def _unheeded(self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        if isinstance(answer, Answer) and answer.code != outcomes.OK and ask.group() is not None:
            violated("acked survives", f"{ask.request!r} was to have no effect, and is answered with {answer!r}")

    def _acked(
        self,
        answering: Answering,
        ask: Ask,
        answer: Answer | Refusal,
        got: list[ReceivedMessage] | None,
        step_id: StepId,
    ) -> None:
        request = ask.request
        assert isinstance(request, Ack)
        group = ask.group()
        alone = answering.resolved(request.kind, request.seqs)
        if answering.group is not None and request.kind is AckKind.NAK:
            answering.group.note_naks(request.seqs, self.naks_of(step_id.run), -1)
        if isinstance(answer, Refusal) or group is None:
            return
        if answer.code != outcomes.OK:
            violated(
                "acked survives", f"{group.incarnation.name}/{group.config.name} exists and an ack says {answer!r}"
            )
        if request.kind in (AckKind.ACK, AckKind.TERM):
            for seq in answering.delivered:
                if seq in group.pending and group.pending[seq].process_run != step_id.run:
                    self.view.mark("ack of an earlier life's delivery")
                group.done_ns.setdefault(seq, step_id.time_ns)
                if request.kind is AckKind.ACK:
                    group.acked_ok.add(seq)
            self.view.mark("ack confirmed")
        for seq in alone:
            if group is answering.group and seq in answering.out:
                out = answering.out[seq]
                group.took_effect(request.kind, seq, out, ask.asked_ns, request.delay_ms, step_id)
                if request.kind is AckKind.IN_PROGRESS:
                    self.view.mark("wait extended")
                if seq in group.last_naks and self.view.drops_at_once:
                    self._read_at_once(ask)

    def _read_at_once(self, ask: Ask) -> None:
        """Read after the nak of a last attempt was confirmed: its drop must be visible."""
        assert ask.stream is not None and ask.consumer is not None
        request = GetConsumerInfo(ask.stream.name, ask.consumer.name)
        self.view.ask(request, self._info_read, _lost, ask.stream, ask.consumer)

    def _info_read(
        self, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId
    ) -> None:
        group = ask.group()
        if group is not None and isinstance(answer, Answer) and isinstance(answer.value, ConsumerInfo):
            # Called in the very moment in which the nak was confirmed, and after it.
            check_dropped(self.view, group, ask.asked_ns + 1, answer.value.redelivered_dropped)

    # ------------------------------------------------------------ subscriptions

    def _subscribe(self, stream: StreamName, consumer: ConsumerName) -> None:
        track = self.track
        batch, stops = track.draw("batch", 8), track.draw("stop when empty", 3) == 2
        window = 4 * (batch or self.limits.subscription_default) if self.tags.draw("window", 4) == 3 else 0
        request = Subscribe(stream.name, consumer.name, batch, stops, window)
        subscription = Subscription(self, request, stream, consumer)
        if subscription.begin():
            self.subscription = subscription


class Subscription:
    """One subscription: grants credit, receives deliveries, ends."""

    def __init__(self, worker: Worker, request: Subscribe, stream: StreamName, consumer: ConsumerName) -> None:
        self.worker = worker
        self.view = worker.view
        self.ask = Ask(self.view, request, self._no_reply, lambda: None, stream, consumer)
        self.stream = stream
        self.consumer = consumer
        self.credit = 0
        self.credit_bytes = 0
        self.buffer: deque[Buffered] = deque()
        """Messages that were not yet given to the program, in the order of delivery."""
        self.dealt_with = 0
        self.windowed: list[tuple[ReceivedMessage, Group | None]] = []
        """Messages that a subscription with a window gave to the program."""
        self.over = False
        self.attached = False
        """True if a delivery has shown that it belongs to this incarnation of the consumer."""

    def begin(self) -> bool:
        """Subscribe; False if the process is down."""
        self.ask.token = self.view.access.call(self.ask.request, self)
        if self.ask.token is None:
            return False
        self.view.asked += 1
        credit = 1 + self.worker.track.draw("room", 20)
        self._grant(credit, CREDIT_BYTES if credit % 2 else credit * LITTLE_CREDIT_BYTES)
        return True

    def _grant(self, messages: int, byte_count: int) -> None:
        assert self.ask.token is not None
        if not self.over:
            self.credit += messages
            self.credit_bytes += byte_count
            self.view.access.credit(self.ask.token, messages, byte_count)
            self._note_credit()

    def _note_credit(self) -> None:
        assert isinstance(self.ask.request, Subscribe)
        if self.over or self.credit <= 0 or self.credit_bytes <= 0 or self.ask.request.window:
            self.view.waiting.pop(self.ask, None)
        else:
            self.view.waiting.setdefault(self.ask, self.view.events.now_ns)

    def cancel(self) -> None:
        """Cancel the subscription."""
        if not self.over and self.ask.token is not None:
            check_waiting(self.view, self.ask)
            self.view.access.cancel(self.ask.token)
            note_lost_deliveries(self.ask)
            self._close()

    def check(self) -> None:
        """Require that a reader of a consumer that is known to be deleted has received its end by now."""
        deleted_ns = self.consumer.deleted_ns
        by_ns = self.view.events.now_ns - NOTICE_NS
        if self.view.access.moves and self.view.access.paused_until_ns > by_ns:
            deleted_ns = -1  # a leader that is cut off hears of nothing
        late = self.attached and 0 <= deleted_ns < by_ns
        require(not late, "answered", f"{self.consumer.name} is gone, its subscription was never told")
        check_waiting(self.view, self.ask)

    def _close(self) -> None:
        self.over = True
        self._note_credit()
        assert self.ask.token is not None
        now_ns = self.view.events.now_ns
        # Deliveries that wait here never reach the program: they are due at once.
        while self.buffer:
            message, group, _ = self.buffer.popleft()
            self.view.mark("buffered message given back")
            if group is not None and message.seq in group.pending:
                group.pending[message.seq].free = True
                group.due.returned([message.seq], now_ns)
        # Also those that the node has no report of, and those sent over a window and not answered.
        unreported = self.view.reached.get(self.ask.token, [])
        for message, group in [*self.windowed, *((reached.message, reached.group) for reached in unreported)]:
            if group is not None and message.seq in group.pending:
                group.pending[message.seq].free = True
        self.windowed.clear()
        if self.worker.subscription is self:
            self.worker.subscription = None

    @staticmethod
    def _no_reply(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        raise AssertionError("unreachable")

    # ------------------------------------------------------------ as a caller

    def replied(self, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
        """Fail: a subscription that is refused ends, and has no reply."""
        violated("answer allowed", f"a subscription was answered with {answer!r}")

    def _refused(self, refusal: Refusal) -> None:
        group = self.ask.group()
        if refusal.code in (outcomes.NO_SUCH_STREAM, outcomes.NO_SUCH_CONSUMER):
            if group is not None:
                violated(
                    "acked survives",
                    f"{group.incarnation.name}/{group.config.name} exists, a subscription: {refusal!r}",
                )
            return
        self.view.check_refusal("Subscribe", refusal)

    def delivered(self, got: list[ReceivedMessage], step_id: StepId) -> None:
        """Receive messages."""
        byte_count = sum(len(message.body) + MESSAGE_OVERHEAD_BYTES for message in got)
        had_credit = self.credit_bytes > 0
        self.credit -= len(got)
        self.credit_bytes -= byte_count
        self._note_credit()
        if self.credit < 0 or not had_credit or (self.credit_bytes < 0 and len(got) > 1):
            violated("within credit", f"{len(got)} messages leave a room of {self.credit}, {self.credit_bytes} bytes")
        group = self.ask.group()
        if group is not None:
            self.attached = True
            naks = self.worker.naks_of(step_id.run)
            group.incarnation.deliver(group, got, self.view.history, self._taken_ns(got, step_id), step_id, naks)
            group.due.delivered(got, self.consumer.name, step_id, group.wait_most_ns)
            self.view.named(got[0].incarnation, self.consumer)
            if self.view.access.moves:
                # A server that loses the connection first gives it to others at once, unless it knows of its arrival.
                for message in got:
                    group.pending[message.seq].in_doubt = True
        else:
            note_lost_deliveries(self.ask, got)
        due_ns = step_id.time_ns + (group.wait_least_ns if group is not None else FOREVER_NS)
        self.buffer.extend(Buffered(message, group, due_ns) for message in got)
        self._give_to_program()
        pause_ns = self.worker.track.magnitude("reading", 200) * MS
        self.view.events.after(pause_ns, partial(self._grant, len(got), byte_count))
        self.view.mark("subscription delivered")

    def _taken_ns(self, got: list[ReceivedMessage], step_id: StepId) -> int:
        """Return the earliest moment of the decision to deliver. Where streams move, a majority confirms it only later."""
        return min(message.taken_ns for message in got) if self.view.access.moves else step_id.time_ns

    def _give_to_program(self) -> None:
        """Give the program the buffered messages, or a part of them now and the rest later."""
        if self.over or not self.buffer:
            return
        assert self.ask.token is not None and isinstance(self.ask.request, Subscribe)
        tags, now_ns = self.worker.tags, self.view.events.now_ns
        slow = tags.draw("slow program", 4) == 3 and not self.worker.diligent
        wanted = tags.draw("handed out", len(self.buffer) + 1) if slow else len(self.buffer)
        given: list[ReceivedMessage] = []
        back: list[tuple[int, int]] = []
        group: Group | None = None
        for _ in range(wanted):
            message, group, due_ns = self.buffer.popleft()
            self.dealt_with += 1
            if due_ns <= now_ns:
                back.append((self.dealt_with, self.dealt_with))
                self.view.mark("stale message given back")
            else:
                given.append(message)
                if self.ask.request.window:
                    self.windowed.append((message, group))
                self._reached_program(group, message)
        self.view.access.report(self.ask.token, self.dealt_with, back)
        self.worker.answer(self.stream, self.consumer, given)
        if self.buffer:
            self.view.mark("messages wait in a buffer")
            self.view.events.after(tags.magnitude("program busy", 1_500) * MS, self._give_to_program)

    def _reached_program(self, group: Group | None, message: ReceivedMessage) -> None:
        assert self.ask.token is not None and isinstance(self.ask.request, Subscribe)
        moves, windowed = self.view.access.moves, bool(self.ask.request.window)
        unsure = group.pending.get(message.seq) if moves and group is not None and not windowed else None
        if unsure is not None and group is not None:
            until_ns = message.taken_ns + group.wait_least_ns
            unsure = unsure if unsure.until_ns == until_ns else None  # else it was delivered again since
        self.view.reached_program(
            self.ask.token, group, message, counts=not windowed, place=self.dealt_with if moves else 0, unsure=unsure
        )

    def notified(self, event: Event) -> None:
        violated("answer allowed", "a subscription was sent an event")

    def ended(self, end: End) -> None:
        """Receive the end of the subscription from the server."""
        self._close()
        assert self.ask.token is not None
        self.view.reached.pop(self.ask.token, None)
        request = self.ask.request
        assert isinstance(request, Subscribe)
        if end.refusal is not None:
            # Unreadable messages were delivered all the same.
            note_lost_deliveries(self.ask)
            self._refused(end.refusal)
            return
        self.view.mark(f"subscription ended: {end.reason}")
        match end.reason:
            case "empty":
                require(
                    request.stop_when_empty, "answer allowed", "a subscription ended as empty without being asked to"
                )
            case "consumer_deleted" | "stream_deleted":
                if self.ask.group() is not None:
                    violated("acked survives", f"{self.consumer.name} was not deleted, its subscription says so")
            case "server_shutdown":
                pass
            case "moved" if self.view.access.config.replicated:
                note_lost_deliveries(self.ask)
            case _:
                violated("answer allowed", f"a subscription ended with {end.reason!r}")

    def lost(self) -> None:
        """Note that the process stopped."""
        note_lost_deliveries(self.ask)
        self._close()
        assert self.ask.token is not None
        self.view.reached.pop(self.ask.token, None)


class Buffered(NamedTuple):
    """A message that waits for the program: its group, and its redelivery deadline."""

    message: ReceivedMessage
    group: Group | None
    due_ns: int


def _lost() -> None:
    """Do nothing: a read that got lost changes nothing."""


class Answering:
    """An answer to deliveries in flight: its consumer, and what was certain when it was sent.

    `delivered`: messages that this incarnation had delivered by then; `out`: those that were surely still pending.
    """

    def __init__(self, group: Group | None, delivered: list[int]) -> None:
        self.group = group
        self.delivered = delivered
        self.out: dict[int, PendingDelivery] = {}
        self._in_flight = False

    def sent(self, kind: AckKind, seqs: list[int]) -> None:
        """Note that the answer was sent."""
        if self.group is not None:
            self._in_flight = True
            self.out = self.group.answering(kind, seqs)

    def resolved(self, kind: AckKind, seqs: list[int]) -> list[int]:
        """Note that it was answered or got lost. Returns the sequences that no other answer in flight names."""
        if self.group is None or not self._in_flight:
            return []
        self._in_flight = False
        return self.group.resolved(kind, seqs)

    def lost(self, kind: AckKind, seqs: list[int]) -> None:
        """Note that its outcome is unknown."""
        self.resolved(kind, seqs)


def note_lost_deliveries(ask: Ask, got: list[ReceivedMessage] | None = None) -> None:
    """Note that deliveries may have been lost in flight, each message at most once; of any group, if it is unknown
    which.

    Or note that they arrived (`got`), with an unknown group.
    """
    view, group = ask.view, ask.group()
    assert ask.stream is not None
    if group is not None:
        groups = [group]
    else:
        incarnations = [
            incarnation
            for incarnation in view.history.incarnations
            if incarnation.name == ask.stream.name and not incarnation.ended
        ]
        for incarnation in incarnations:
            incarnation.unsure = incarnation.unsure or bool(got)
        groups = [each for incarnation in incarnations for each in incarnation.groups if not each.ended]
    for each in groups:
        each.lost_at_ns = view.events.now_ns
        # An answer that a connection lost was an attempt all the same.
        if got or view.access.moves:
            each.lost_ns.append(view.events.now_ns)

"""A producer: a publisher that numbers its messages, and sends those again whose answer got lost.

It loses its connection at drawn moments, and with every stop of the process; it then sends the same numbers again,
whole batches or parts of them. It sends answered batches again, too, and now and then what an older epoch of it would
send. The rules: a message is stored once and answered alike, and an older epoch stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from waymaker_core.api import requests
from waymaker_core.api.requests import Publish, Published
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import OK, OUTCOME_UNKNOWN, PRODUCER_FENCED, Answer, Refusal
from waymaker_sim.clients.client_view import Ask, ClientView, OnReply, StreamName
from waymaker_sim.history.history import Attempt, StreamIncarnation
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId

KEPT_MAX = 20
"""Batches of each kind that a producer keeps to send them again."""

Failed = Callable[[Attempt, tuple[str, str, int], StreamIncarnation | None, Ask], None]
"""Notes that a message was refused, and checks why."""


@dataclass(slots=True, eq=False)
class Sent:
    """A numbered batch as it was sent, with the call that is not answered yet."""

    stream: StreamName
    attempts: list[Attempt]
    request: Publish
    ask: Ask | None = None


class Producer:
    """The numbers of one publisher, and the batches that it may send again."""

    def __init__(self, view: ClientView, track: Track, number: int, publishers: int, on_failed: Failed) -> None:
        limits: Limits = view.access.config.limits
        self.view = view
        self.track = track
        self.id = number + 1
        self.epoch = 1
        self.may_be_forgotten = (
            limits.producers_max < publishers or limits.producer_spans_max < Limits().producer_spans_max
        )
        self._on_failed = on_failed
        self._next: dict[str, int] = {}
        self._open: list[Sent] = []
        self._lost: list[Sent] = []
        self._answered: list[Sent] = []
        self._stored: dict[StreamIncarnation, int] = {}
        """The newest epoch of which a stream is known to have stored a message."""

    def send(self, request: Publish, attempts: list[Attempt], stream: StreamName, on_reply: OnReply) -> None:
        """Number a batch and send it for the first time."""
        request.producer = self._numbers(stream, len(attempts), self.epoch)
        for attempt in attempts:
            attempt.numbered = True
        self._ask(Sent(stream, attempts, request), partial(self._first_answer, on_reply))

    def _numbers(self, stream: StreamName, count: int, epoch: int) -> requests.Producer:
        first = self._next.get(stream.name, 1)
        self._next[stream.name] = first + count
        return requests.Producer(self.id, epoch, range(first, first + count))

    def _ask(self, sent: Sent, on_reply: Callable[[Sent, Ask, Answer | Refusal, StepId], None]) -> None:
        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            self._open.remove(sent)
            on_reply(sent, ask, answer, step_id)

        def lost() -> None:
            self._open.remove(sent)
            self._lose(sent)

        self._open.append(sent)
        sent.ask = self.view.ask(sent.request, replied, lost, sent.stream)
        if sent.ask is None:
            self._open.remove(sent)
            self._lose(sent)

    def _lose(self, sent: Sent) -> None:
        self._lost = [*self._lost, sent][-KEPT_MAX:]

    def _first_answer(self, on_reply: OnReply, sent: Sent, ask: Ask, answer: Answer | Refusal, step_id: StepId) -> None:
        on_reply(ask, answer, None, step_id)
        if isinstance(answer, Answer) and answer.code == OK:
            assert isinstance(answer.value, Published)
            require(answer.value.seqs is None, "stored once", f"new messages of producer {self.id} were stored before")
            incarnation, producer = ask.incarnation(), sent.request.producer
            if incarnation is not None and producer is not None and answer.value.count:
                self._stored[incarnation] = max(self._stored.get(incarnation, 0), producer.epoch)
            self._keep(sent)

    def _keep(self, sent: Sent) -> None:
        """Keep a batch that was answered `ok`."""
        self._answered = [*self._answered, sent][-KEPT_MAX:]

    # ------------------------------------------------------------ sending again

    def act(self) -> None:
        """Lose the connection or send something again, if that is drawn."""
        self.track.begin()
        if not self.view.access.serves() or self.view.access.is_rotten():
            return
        if self.track.draw("connection lost", 8) == 7:
            self.epoch += self.track.draw("new epoch", 2)
            for sent in list(self._open):
                if sent.ask is not None:
                    sent.ask.cancel()
            self.view.mark("producer lost its connection")
        if self._lost and self.track.draw("again", 3):
            lost, self._lost = self._lost, []
            for sent in lost:
                self._again(sent)
        elif self._answered and self.track.draw("again all the same", 8) == 7:
            self._again(self._answered[self.track.draw("which", len(self._answered))])
        if self.epoch > 1 and self.track.draw("older epoch", 8) == 7:
            self._send_as_before()

    def _is_the_same(self, sent: Sent) -> bool:
        """Return True if a stream is certainly the one that a batch was sent to."""
        incarnation = sent.stream.incarnation
        return (
            incarnation is not None
            and sent.stream.steady()
            and not incarnation.damaged
            and all(attempt.incarnation is incarnation for attempt in sent.attempts)
        )

    def _again(self, sent: Sent) -> None:
        if not self._is_the_same(sent):
            return
        entries = [entry for entry, attempt in enumerate(sent.attempts) if not attempt.refused]
        if self.track.draw("a part", 3) == 2:
            entries = [entry for entry in entries if self.track.draw("left out", 2) == 0]
        if entries:
            self._ask(_part(sent, entries, self.epoch), self._answered_again)

    def _answered_again(self, sent: Sent, ask: Ask, answer: Answer | Refusal, step_id: StepId) -> None:
        if isinstance(answer, Refusal) or answer.code != OK:
            self._lose(sent)  # an earlier sending may have stored it
            return
        value, incarnation = answer.value, ask.incarnation()
        assert isinstance(value, Published)
        failures = value.failures or {}
        require(
            value.count + len(failures) == len(sent.attempts),
            "stored once",
            f"{value.count} of {len(sent.attempts)} placed",
        )
        seqs = iter(value.seqs or range(value.first_seq, value.first_seq + value.count))
        for index, attempt in enumerate(sent.attempts):
            failure = failures.get(index)
            if incarnation is not None and attempt.incarnation is incarnation:
                if failure is None:
                    self._stored_again(incarnation, attempt, next(seqs))
                else:
                    self._failed_again(attempt, failure, incarnation, ask)
        if not failures:
            self._keep(sent)

    def _stored_again(self, incarnation: StreamIncarnation, attempt: Attempt, seq: int) -> None:
        if attempt.seq:
            self.view.mark("sent again and stored before")
        if attempt.confirmed_ns >= 0:
            what = (
                f"{incarnation.name}: attempt {attempt.number} was confirmed at {attempt.seq}, and sent again at {seq}"
            )
            require(attempt.seq == seq, "stored once", what)
        else:
            incarnation.confirm(attempt, seq, self.view.history, self.view.events.now_ns)

    def _failed_again(
        self, attempt: Attempt, failure: tuple[str, str, int], incarnation: StreamIncarnation, ask: Ask
    ) -> None:
        what = f"{incarnation.name}: attempt {attempt.number}, at {attempt.seq}, was sent again: {failure}"
        if failure[0] == OUTCOME_UNKNOWN:
            require(self.may_be_forgotten, "stored once", what)
            self.view.mark("sent again and forgotten")
        elif attempt.seq:
            violated("stored once", what)
        else:
            self._on_failed(attempt, failure, incarnation, ask)

    # ------------------------------------------------------------ an older epoch

    def _send_as_before(self) -> None:
        """Send a new message as an older epoch would, to a stream that certainly stored one of the present epoch."""
        fitting = [
            sent
            for sent in self._answered
            if self._is_the_same(sent)
            and sent.stream.incarnation is not None
            and self._stored.get(sent.stream.incarnation) == self.epoch
        ]
        if not fitting or self.may_be_forgotten:
            return
        sent = fitting[self.track.draw("like which", len(fitting))]
        like = sent.attempts[0]
        body = like.body + b"\x2a\x00"  # an empty payload field: other bytes, the same message
        history, now_ns = self.view.history, self.view.events.now_ns
        if body in history.attempts:
            return
        attempt = history.attempt(
            like.stream, like.incarnation, like.subject, body, like.size, -1, like.born_ms, like.server_timed, now_ns
        )
        attempt.numbered = True
        request = Publish(
            like.stream, [like.subject], [like.size - len(like.subject)], [len(body)], body,
            producer=self._numbers(sent.stream, 1, self.epoch - 1),
        )  # fmt: skip
        self.view.ask(request, partial(self._answered_as_before, attempt), lambda: None, sent.stream)

    def _answered_as_before(
        self, attempt: Attempt, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId
    ) -> None:
        if isinstance(answer, Refusal) or answer.code != OK or ask.incarnation() is None:
            return
        assert isinstance(answer.value, Published)
        code = (answer.value.failures or {}).get(0, ("stored", "", 0))[0]
        require(
            code == PRODUCER_FENCED,
            "producer fenced",
            f"{attempt.stream}: an older epoch of producer {self.id}: {code}",
        )
        self.view.mark("producer fenced")
        attempt.refused = True
        attempt.place(attempt.incarnation, 0)


def _part(sent: Sent, entries: Sequence[int], epoch: int) -> Sent:
    """Return some messages of a batch, with the numbers that they have, to be sent again."""
    request, attempts = sent.request, [sent.attempts[entry] for entry in entries]
    assert request.producer is not None
    numbers = [request.producer.numbers[entry] for entry in entries]
    return Sent(
        sent.stream,
        attempts,
        requests.Publish(
            request.stream,
            subjects=[attempt.subject for attempt in attempts],
            sizes=[request.sizes[entry] for entry in entries],
            lengths=[len(attempt.body) for attempt in attempts],
            body=b"".join(attempt.body for attempt in attempts),
            times_ms=None if request.times_ms is None else [request.times_ms[entry] for entry in entries],
            expected=None if request.expected is None else [request.expected[entry] for entry in entries],
            service=request.service,
            producer=requests.Producer(request.producer.id, epoch, numbers, resent=True),
        ),
    )

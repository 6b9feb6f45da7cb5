"""Gate: the one door through which answers and deliveries leave. No other part emits a `Reply`, a `Deliver` or an `End`.

Every answer names what it rests on: positions of logs, decided but perhaps not yet applied. It leaves with the commit of the
last of them. An answer given earlier could speak of something that a crash takes back. Waiting is by log: a stream that
cannot commit holds up no other. A refusal of a call that was not admitted rests on nothing.

What was read from applied state, and what is delivered, rests on no position. Where logs are replicated it rests on a
confirmation: another node may lead by now, and have committed more. It leaves when a majority was asked after the question
and knows no other leader. Questions that come while a round is under way join the next one. A position that was sent after the
question, and that a majority has, is a confirmation too: a busy stream asks no question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from waymaker_core.api.effects import Confirm, Deliver, End, Reply
from waymaker_core.api.requests import Messages
from waymaker_core.model.result_codes import OK, Answer, Refusal
from waymaker_core.model.types import StreamId, Token
from waymaker_core.node.context import NodeState, remember
from waymaker_core.node.stream_log import Rest, StreamLog
from waymaker_core.node.stream_replica import StreamReplica


class Waiting(NamedTuple):
    """An answer that waits for a position of one log, and then for `then`; or an action that makes the answer then."""

    position: int
    token: Token
    answer: Answer | Callable[[], object]
    then: tuple[Rest, ...]


class Question(NamedTuple):
    """An action that waits for a confirmation. `sent_to`: the last position sent to other replicas before it.

    Exactly one of three follows: the action; `undo` where its reader has ended; `abandoned` where its log is given up.
    """

    sent_to: int
    token: Token
    action: Callable[[], object]
    undo: Callable[[], object]
    abandoned: Callable[[Refusal], object]


class Round:
    """The questions of one log: those of the round under way, and those that join the next one, in order.

    It exists only while a question waits.
    """

    __slots__ = ("number", "asked", "later")

    def __init__(self) -> None:
        self.number = 0
        self.asked: deque[Question] = deque()
        self.later: deque[Question] = deque()


class Gate:
    """The answers that wait, by the id of the log that they wait for."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._waiting: dict[int, deque[Waiting]] = {}
        self.count = 0
        """Answers and questions that wait, of all logs."""
        self.replicated = state.config.replicated
        """True if what is read rests on a confirmation."""
        self._rounds: dict[int, Round] = {}
        self._own_calls = 0
        self._questions = 0
        """Number of the last question, of any log: an answer to one that was given up never means a later one."""
        self._own: dict[Token, Callable[[Answer | Refusal], None]] = {}
        """By the token of a call that the node itself makes: what its answer is given to."""
        self._read_for: dict[Token, StreamId] = {}
        """By the token of a reply with messages: their stream, where a failure to read them belongs."""

    # ------------------------------------------------------------------ the node's own calls

    def draw_own(self, answered: Callable[[Answer | Refusal], None]) -> Token:
        """Return a token for a call that the node itself makes. Its answer is passed on when it would leave."""
        self._own_calls += 1
        token = Token(-self._own_calls)
        self._own[token] = answered
        return token

    def _leave(self, token: Token, answer: Answer | Refusal) -> None:
        """Let an answer leave, or pass it on to the part of the node that asked."""
        own = self._own.pop(token, None)
        if own is None:
            self._state.effects.append(Reply(token, answer))
        else:
            own(answer)

    # ------------------------------------------------------------------ decisions

    def answer(self, token: Token, answer: Answer, *rests_on: Rest) -> None:
        """Send an answer as soon as all that it rests on is applied. What is applied already must be confirmed."""
        if not self._waits(token, answer, rests_on):
            self.answer_read(token, rests_on[0][0], answer)

    def when_applied(self, token: Token, action: Callable[[], object], rest: Rest) -> None:
        """Run an action as soon as a record is applied that was just added: it makes the answer from what lies there then.

        A log that is given up refuses the call in its place.
        """
        waits = self._waits(token, action, (rest,))
        assert waits, "a record that was just added is not applied"

    def _waits(self, token: Token, answer: Answer | Callable[[], object], rests_on: tuple[Rest, ...]) -> bool:
        for index, (log, position) in enumerate(rests_on):
            if position > log.applied:
                self._wait(log, Waiting(position, token, answer, rests_on[index + 1 :]))
                return True
        return False

    @property
    def is_crowded(self) -> bool:
        """Return True where as much waits for majorities as may: whatever a client asks would only add to it."""
        return self.replicated and self.count >= self._state.limits.waiting_answers_max

    def recount(self) -> int:
        """Count what waits; for tests and simulations."""
        rounds = self._rounds.values()
        return sum(map(len, self._waiting.values())) + sum(len(each.asked) + len(each.later) for each in rounds)

    def _wait(self, log: StreamLog, waiting: Waiting) -> None:
        self.count += 1
        queue = self._waiting.get(log.stream_id)
        if queue is None:
            queue = self._waiting[log.stream_id] = deque()
        later: list[Waiting] = []
        # An answer that waited for another log first may rest on an earlier position than the last one here.
        while queue and queue[-1].position > waiting.position:
            later.append(queue.pop())
        queue.append(waiting)
        queue.extend(reversed(later))

    def open(self, log: StreamLog) -> None:
        """Send the answers that rest on nothing but what is applied by now."""
        queue = self._waiting.get(log.stream_id)
        if queue is None:
            return
        while queue and queue[0].position <= log.applied:
            _, token, answer, then = queue.popleft()
            self.count -= 1
            if self._waits(token, answer, then):
                continue
            if isinstance(answer, Answer):
                self.reply(token, answer)
            else:
                answer()
        if not queue:
            del self._waiting[log.stream_id]

    def refuse(self, token: Token, refusal: Refusal) -> None:
        """Refuse a call of which nothing was done."""
        self._state.stats.calls_refused += 1
        self._leave(token, refusal)

    def abandon(self, log: StreamLog, refusal: Refusal) -> None:
        """Refuse what waits for a log that will not be committed any further here."""
        given_up = self._waiting.pop(log.stream_id, ())
        self.count -= len(given_up)
        for waiting in given_up:
            self.refuse(waiting.token, refusal)
        for queue in self._waiting.values():
            # Some wait for another log first.
            for _ in range(len(queue)):
                waiting = queue.popleft()
                if any(rest is log for rest, _ in waiting.then):
                    self.count -= 1
                    self.refuse(waiting.token, refusal)
                else:
                    queue.append(waiting)
        self.abandon_questions(log, refusal)

    def abandon_questions(self, log: StreamLog, refusal: Refusal) -> None:
        """Refuse what waits for a confirmation that this node leads a log."""
        round_ = self._rounds.pop(log.stream_id, None)
        given_up = [*round_.asked, *round_.later] if round_ is not None else []
        self.count -= len(given_up)
        for question in given_up:
            question.abandoned(refusal)

    # ------------------------------------------------------------------ confirmations

    def answer_read(self, token: Token, log: StreamLog, answer: Answer) -> None:
        """Send what was decided from the applied state of a log and changes nothing."""
        if self.replicated:
            self.when_confirmed(log, token, partial(self.reply, token, answer), nothing, partial(self.refuse, token))
        else:
            self.reply(token, answer)

    def when_confirmed(
        self,
        log: StreamLog,
        token: Token,
        action: Callable[[], object],
        undo: Callable[[], object],
        abandoned: Callable[[Refusal], object],
    ) -> None:
        """Run an action as soon as it is confirmed that this node leads a log; see `Question`."""
        round_ = self._rounds.get(log.stream_id)
        if round_ is None:
            round_ = self._rounds[log.stream_id] = Round()
        self.count += 1
        question = Question(log.durable, token, action, undo, abandoned)
        if round_.asked:
            round_.later.append(question)
        else:
            round_.asked.append(question)
            self._ask(log.stream_id, round_)

    def _ask(self, stream_id: int, round_: Round) -> None:
        self._questions += 1
        round_.number = self._questions
        self._state.effects.append(Confirm(stream_id, round_.number))

    def confirmed(self, stream_id: int, question: int) -> None:
        """Run what rested on the answer to this question, and ask the next one."""
        round_ = self._rounds.get(stream_id)
        if round_ is None or question != round_.number:
            return
        settled, round_.asked, round_.later = round_.asked, round_.later, deque()
        self.count -= len(settled)
        self._go_on(stream_id, round_)
        for each in settled:
            each.action()

    def _go_on(self, stream_id: int, round_: Round) -> None:
        """Ask the next question of a log, or forget its rounds where none waits."""
        if round_.asked:
            self._ask(stream_id, round_)
        else:
            del self._rounds[stream_id]

    def replicated_to(self, log: StreamLog, position: int) -> None:
        """Run what was asked before a position was sent that a majority has now."""
        round_ = self._rounds.get(log.stream_id)
        if round_ is None:
            return
        settled: list[Question] = []
        for questions in (round_.asked, round_.later):
            while questions and questions[0].sent_to < position:
                settled.append(questions.popleft())
        self.count -= len(settled)
        if not round_.asked:
            round_.asked, round_.later = round_.later, round_.asked
            self._go_on(log.stream_id, round_)
        for each in settled:
            each.action()

    def withdraw(self, token: Token) -> None:
        """Drop what waits for a confirmation, and whose caller or reader has ended."""
        dropped: list[Question] = []
        for stream_id, round_ in list(self._rounds.items()):
            for questions in (round_.asked, round_.later):
                if any(each.token == token for each in questions):
                    dropped += [each for each in questions if each.token == token]
                    kept = [each for each in questions if each.token != token]
                    questions.clear()
                    questions.extend(kept)
            if not round_.asked and not round_.later:
                del self._rounds[stream_id]
        self.count -= len(dropped)
        for each in dropped:
            each.undo()

    # ------------------------------------------------------------------ what was read

    def reply(self, token: Token, answer: Answer) -> None:
        """Send what was read, and confirmed where it has to be."""
        self._leave(token, answer)

    def reply_messages(self, token: Token, replica: StreamReplica, messages: Messages) -> None:
        """Send an answer whose bodies are still to be read, and remember their stream."""
        remember(self._read_for, token, replica.id)
        self.reply(token, Answer(OK, "", messages))

    def read_for(self, token: Token) -> StreamReplica | None:
        """Return the stream whose messages a reply carried, if it is remembered and still served; forget it."""
        stream_id = self._read_for.pop(token, None)
        return None if stream_id is None else self._state.replicas.get(stream_id)

    # ------------------------------------------------------------------ readers

    def deliver(self, token: Token, messages: Messages) -> None:
        """Send messages to a reader, confirmed where they have to be."""
        self._state.effects.append(Deliver(token, messages))

    def end(self, token: Token, reason: str, refusal: Refusal | None = None) -> None:
        """End a subscription or a watch."""
        self._state.effects.append(End(token, reason, refusal))


def nothing() -> None:
    """Undo nothing."""

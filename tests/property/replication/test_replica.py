"""One replica, step by step: what it asks to keep, what it says and when, and what it does where the node declines."""

from __future__ import annotations

from itertools import count

from waymaker_core.api.inputs import Append as KeepRecords
from waymaker_core.api.inputs import Enrol, Lead, Promise, Replicated, SentRecord, StepDown
from waymaker_core.model.records import EpochRecord
from waymaker_core.replication.conf import Claim, Conf, Seat
from waymaker_core.replication.effects import Effect, GiveUp, ProposeOpened, Send
from waymaker_core.replication.inputs import ConfChanged, Declined, Input, Kept, Question, Received, Written
from waymaker_core.replication.messages import (
    Acked,
    Append,
    EpochStart,
    Fence,
    Heard,
    Lacking,
    Mismatch,
    Promised,
    Refused,
    Want,
)
from waymaker_core.replication.replica import Replica
from waymaker_core.replication.settings import ReplicationSettings
from waymaker_core.replication.state import Known
from waymaker_core.storage import record_codec

SEATS = tuple(Seat(node, 0) for node in (1, 2, 3))
FIRST = Claim(0, 0, SEATS)


def begins(epoch: int) -> SentRecord:
    record = EpochRecord(epoch)
    return SentRecord(EpochRecord.KIND, record_codec.version_of(record), record_codec.encode(record), b"")


DATA = SentRecord(2, 1, b"", b"")


class Log:
    """The node's log of one stream, which a test sets."""

    def __init__(self) -> None:
        self.end = 0
        self.starts: tuple[EpochStart, ...] = ()
        self.known = (0, 0)
        self.at_hand: tuple[SentRecord, ...] | None = (DATA,)

    def bounds(self) -> tuple[int, tuple[EpochStart, ...]]:
        return self.end, self.starts

    def facts(self) -> tuple[int, int]:
        return self.known

    def records(self, first: int, bytes_max: int) -> tuple[SentRecord, ...] | None:
        return self.at_hand


class Driven:
    """A replica of node 1, with its effects of the last step."""

    def __init__(self, log: Log | None = None, known: Known | None = None) -> None:
        self.log = log or Log()
        numbers = count(1)
        settings = ReplicationSettings(retry_ms=100, commit_note_ms=50)
        self.replica = Replica(7, SEATS[0], settings, self.log, lambda: next(numbers), known or Known())
        self.now = 0

    def step(self, *inputs: Input, after: int = 0) -> list[Effect]:
        self.now += after
        return self.replica.step(self.now, inputs)

    def hear(self, sender: int, message: object) -> list[Effect]:
        return self.step(Received(sender, message))  # type: ignore[arg-type]


def sent(effects: list[Effect]) -> list[tuple[int, object]]:
    return [(each.to, each.message) for each in effects if isinstance(each, Send)]


def test_a_promise_leaves_when_it_is_durable() -> None:
    one = Driven()
    (asked,) = one.hear(2, Fence(5))
    assert isinstance(asked, Promise) and (asked.ask, asked.epoch) == (1, 5)
    assert sent(one.step(Kept(1))) == [(2, Promised(5, SEATS[0], 0, 0, 0, ()))]
    assert sent(one.hear(3, Fence(4))) == [(3, Refused(5))]


def test_the_epoch_of_a_log_rises_when_its_records_are_known_to_be_durable() -> None:
    """A node may decline records and keep what was asked for after them."""
    one = Driven()
    asked = one.hear(2, Append(5, 2, 0, 0, (begins(4), DATA), 0, 0))
    assert [type(each) for each in asked] == [Promise, KeepRecords]
    assert one.step(Kept(1)) == []
    (heard, enrol) = one.step(Kept(2))
    assert isinstance(enrol, Enrol) and enrol.log_epoch == 5
    assert isinstance(heard, Send) and isinstance(heard.message, Heard)
    assert sent(one.step(Kept(3))) == [(2, Acked(5, SEATS[0], 2, 0, 0))]
    assert one.replica.log_epoch == 5


def test_what_was_declined_is_never_acknowledged() -> None:
    one = Driven()
    one.hear(2, Append(5, 2, 0, 0, (begins(4), DATA), 0, 0))
    assert one.step(Kept(1), Declined(2)) == []
    assert one.hear(2, Append(5, 2, 0, 0, (begins(4), DATA), 0, 0)) == [], "it reads anew first"
    one.log.known = (5, 0)
    assert one.step(after=100) == []
    asked = one.hear(2, Append(5, 2, 0, 0, (begins(4), DATA), 0, 0))
    assert [type(each) for each in asked] == [KeepRecords]


def test_a_promise_that_was_declined_is_asked_for_again() -> None:
    one = Driven()
    one.hear(2, Fence(5))
    assert one.step(Declined(1)) == []
    assert one.replica.next_deadline() == 100
    (asked,) = one.step(after=100)
    assert isinstance(asked, Promise) and asked.epoch == 5


def test_a_follower_that_differs_says_where_its_log_ends() -> None:
    log = Log()
    log.end, log.starts, log.known = 3, ((2, 1),), (2, 2)
    one = Driven(log, Known(5, 0, 2))
    assert sent(one.hear(2, Append(5, 9, 8, 4, (), 0, 3))) == [(2, Mismatch(5, SEATS[0], 3, ((2, 1),), 3))]


def test_nothing_is_applied_before_the_log_is_verified() -> None:
    one = Driven(known=Known(5, 0, 0))
    effects = one.hear(2, Append(5, 4, 0, 0, (begins(4), DATA), 2, 0)) + one.step(Kept(1))
    assert sent(effects) == [(2, Heard(5, SEATS[0], 2, 0, 0))]
    assert not [each for each in effects if isinstance(each, Replicated)], "the epoch began at 4"


def test_a_commit_is_noted_when_its_records_are_durable_and_forgotten_when_they_are_declined() -> None:
    log = Log()
    log.known = (5, 5)
    one = Driven(log, Known(5, 0, 5))
    one.hear(2, Append(5, 0, 0, 0, (begins(5),), 1, 0))
    assert one.step(Declined(1)) == []
    one.step(after=100)
    asked = one.hear(2, Append(5, 0, 0, 0, (begins(5),), 1, 0))
    assert [type(each) for each in asked] == [KeepRecords]
    kept = one.step(Kept(2))
    assert [each.position for each in kept if isinstance(each, Replicated)] == [1]


def opened_primary() -> Driven:
    """Return the primary of epoch 5, opened, whose log was empty."""
    one = Driven()
    claim = Claim(5, 1, SEATS)
    asked = one.step(ConfChanged(Conf(claim, FIRST)))
    assert [to for to, _ in sent(asked)] == [2, 3]
    one.step(Kept(1))
    (enrol,) = one.hear(2, Promised(5, SEATS[1], 0, 0, 0, ()))
    assert isinstance(enrol, Enrol)
    verifying = one.step(Kept(2))
    assert [(to, type(message)) for to, message in sent(verifying)] == [(2, Append), (3, Append)]
    assert not one.step(), "the others have not verified its log, empty as it is"
    proposed = one.hear(2, Acked(5, SEATS[1], 0, 0, 0))
    assert [each.epoch for each in proposed if isinstance(each, ProposeOpened)] == [5]
    effects = one.step(ConfChanged(Conf(claim, claim)))
    assert [each.epoch for each in effects if isinstance(each, Lead)] == [5]
    return one


def test_a_primary_commits_what_a_majority_has_and_confirms_after_the_question() -> None:
    one = opened_primary()
    one.log.end = 1
    one.log.at_hand = (begins(5),)
    appends = sent(one.step(Written(1)))
    assert 2 in [to for to, _ in appends]
    committed = one.hear(2, Acked(5, SEATS[1], 1, 0, 0))
    assert [each.position for each in committed if isinstance(each, Replicated)] == [1]
    asked = sent(one.step(Question(9)))
    rounds = {message.round for _, message in asked if isinstance(message, Append)}
    assert len(rounds) == 1
    (newest,) = rounds
    assert not one.hear(2, Acked(5, SEATS[1], 1, 1, newest - 1)), "that was sent before the question"
    confirmed = one.hear(2, Acked(5, SEATS[1], 1, 1, newest))
    assert [each.question for each in confirmed if hasattr(each, "question")] == [9]


def test_a_primary_steps_down_before_a_newer_epoch() -> None:
    one = opened_primary()
    effects = one.hear(3, Refused(6))
    assert [type(each) for each in effects] == [Promise, StepDown]
    assert one.replica.phase is None and not one.replica.leads


def test_a_claimant_gives_up_for_a_donor_that_has_its_log_no_more_at_hand() -> None:
    one = Driven()
    one.step(ConfChanged(Conf(Claim(5, 1, SEATS), FIRST)))
    one.step(Kept(1))
    wanted = one.hear(2, Promised(5, SEATS[1], 3, 4, 0, ((3, 1),)))
    assert sent(wanted) == [(2, Want(5, 1))]
    assert [type(each) for each in one.hear(3, Lacking(5))] == [], "node 3 was not asked"
    (given_up,) = one.hear(2, Lacking(5))
    assert isinstance(given_up, GiveUp) and given_up.to == 2
    assert one.replica.phase is None


def test_a_donor_that_has_nothing_at_hand_says_so() -> None:
    log = Log()
    log.end, log.starts, log.at_hand = 4, ((3, 1),), None
    one = Driven(log, Known(5, 0, 3))
    assert sent(one.hear(2, Want(5, 1))) == [(2, Lacking(5))]

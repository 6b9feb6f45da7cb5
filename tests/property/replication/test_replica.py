"""One replica, step by step: what it asks to keep, what it says and when, and what it does where the node declines."""

from __future__ import annotations

from itertools import count, pairwise

from waymaker_core.api.inputs import Append as KeepRecords
from waymaker_core.api.inputs import (
    Cut,
    EndReading,
    Enrol,
    Lead,
    Promise,
    ReadRecords,
    Replicated,
    SentRecord,
    StepDown,
)
from waymaker_core.model.records import EpochRecord
from waymaker_core.replication.conf import Claim, Conf, Seat
from waymaker_core.replication.effects import Effect, GiveUp, ProposeOpened, Send, SnapshotNeeded
from waymaker_core.replication.inputs import (
    Adopted,
    ConfChanged,
    Declined,
    Input,
    Kept,
    Question,
    Received,
    RecordsRead,
    Returned,
    SnapshotSent,
    Superseded,
    Written,
)
from waymaker_core.replication.messages import (
    Acked,
    Append,
    Donation,
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
from waymaker_core.replication.state import WAITING_MAX, Known
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

    def __init__(
        self, log: Log | None = None, known: Known | None = None, settings: ReplicationSettings | None = None
    ) -> None:
        self.log = log or Log()
        numbers = count(1)
        settings = settings or ReplicationSettings(retry_ms=100, commit_note_ms=50)
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


def donor() -> Driven:
    """Return a donor with four records, which are not in memory any more."""
    log = Log()
    log.end, log.starts, log.at_hand = 4, ((3, 1),), None
    return Driven(log, Known(5, 0, 3))


def test_a_donor_reads_what_it_has_no_more_in_memory_once_and_gives_it() -> None:
    one = donor()
    (read,) = one.hear(2, Want(5, 1))
    assert isinstance(read, ReadRecords) and (read.first, read.reader) == (1, 0)
    assert one.hear(2, Want(5, 1)) == [], "it is being read"
    piece = (begins(3), DATA)
    assert sent(one.step(RecordsRead(0, 1, piece))) == [(2, Donation(5, SEATS[0], 3, 4, 1, 0, piece))]
    assert one.step(RecordsRead(0, 1, piece)) == [], "nothing waits for it"


def test_a_donor_whose_journal_has_the_records_no_more_says_so() -> None:
    one = donor()
    one.hear(2, Want(5, 1))
    assert sent(one.step(RecordsRead(0, 1, None))) == [(2, Lacking(5))]


def test_what_was_read_for_a_claimant_is_not_given_in_a_newer_epoch() -> None:
    one = donor()
    one.hear(2, Want(5, 1))
    one.hear(3, Fence(6))
    assert sent(one.step(RecordsRead(0, 1, (begins(3), DATA)))) == []


# ---------------------------------------------------------------- a follower that lacks what is not in memory


SMALL_CATCH_UP = ReplicationSettings(retry_ms=100, commit_note_ms=50, catch_up_bytes_max=1_000)


class Lagging:
    """A primary whose epoch is open. Node 2 has all of its log, node 3 nothing; only the last record is in memory."""

    def __init__(self) -> None:
        log = Log()
        log.end, log.starts, log.known = 9, ((3, 1),), (3, 3)
        one = self.one = Driven(log, Known(3, 1, 3), SMALL_CATCH_UP)
        claim = Claim(5, 1, SEATS)
        one.step(ConfChanged(Conf(claim, FIRST)))
        one.step(Kept(1))
        one.hear(2, Promised(5, SEATS[1], 3, 9, 0, ((3, 1),)))
        one.step(Kept(2))
        one.hear(2, Acked(5, SEATS[1], 9, 0, 0))
        one.step(ConfChanged(Conf(claim, claim)))
        assert one.replica.leads
        log.at_hand = None
        (read,) = one.hear(3, Mismatch(5, SEATS[2], 0, (), 0))
        assert isinstance(read, ReadRecords) and (read.reader, read.first) == (3, 1)

    def read(self, first: int, *records: SentRecord) -> list[Effect]:
        return self.one.step(RecordsRead(3, first, records or None))


def test_a_follower_gets_from_the_journal_what_is_not_in_memory_any_more() -> None:
    lagging = Lagging()
    ((to, append),) = sent(lagging.read(1, begins(3), DATA, DATA))
    assert to == 3 and isinstance(append, Append) and (append.prev, len(append.records)) == (0, 3)
    (read,) = lagging.one.hear(3, Heard(5, SEATS[2], 3, 0, 0))
    assert isinstance(read, ReadRecords) and read.first == 4
    lagging.one.log.at_hand = (DATA, DATA)
    effects = lagging.read(4, DATA, DATA, DATA)
    assert [type(each) for each in effects] == [Send, EndReading, Send, Send], "the rest is in memory"
    assert lagging.one.replica.readers() == []


def test_no_more_is_read_for_a_follower_than_may_be_on_its_way() -> None:
    lagging = Lagging()
    huge = SentRecord(2, 1, b"", bytes(2_000))
    assert len(sent(lagging.read(1, begins(3), huge))) == 1
    assert lagging.one.step() == [], "it waits for an acknowledgment, and neither reads nor spins"
    assert lagging.one.replica.next_deadline() > lagging.one.now
    effects = lagging.one.hear(3, Heard(5, SEATS[2], 2, 0, 0))
    assert [type(each) for each in effects] == [ReadRecords]


def test_live_followers_and_questions_do_not_wait_for_a_read() -> None:
    lagging = Lagging()
    one = lagging.one
    one.log.end, one.log.at_hand = 10, (begins(5),)
    assert [to for to, _ in sent(one.step(Written(10)))] == [2]
    one.log.at_hand = None
    asked = sent(one.step(Question(7)))
    assert [to for to, _ in asked] == [2]
    for moment in range(5):
        assert one.replica.next_deadline() > one.now or one.step() != [], moment
        one.step(after=100)


def test_a_follower_whose_records_the_journal_has_no_more_needs_a_snapshot() -> None:
    lagging = Lagging()
    (needed,) = lagging.read(1)
    assert isinstance(needed, SnapshotNeeded) and needed.to == 3
    assert lagging.one.step() == []
    probe = sent(lagging.one.step(after=100))
    assert (3, ()) in [(to, message.records) for to, message in probe if isinstance(message, Append)]
    again = lagging.one.hear(3, Heard(5, SEATS[2], 0, 0, 0))
    firsts = [each.first for each in again if isinstance(each, ReadRecords)]
    assert firsts == [1], "a record that was carried forward has another place"


def test_a_follower_that_answers_nothing_is_asked_without_records_less_and_less_often() -> None:
    one = opened_primary()
    one.log.end, one.log.at_hand = 1, (begins(5),)
    one.step(Written(1))
    one.hear(2, Acked(5, SEATS[1], 1, 1, 0))
    asked: list[int] = []
    while one.now < 12_000:
        for to, message in sent(one.step(after=20)):
            assert isinstance(message, Append) and message.records == ()
            if to == 3:
                asked.append(one.now)
    gaps = [second - first for first, second in pairwise(asked)]
    assert gaps[:4] == [200, 400, 800, 1_600] and set(gaps[4:]) == {1_600}
    (again,) = sent(one.step(Returned(3)))
    assert again[0] == 3, "its node was heard again"
    ((_, append),) = sent(one.hear(3, Heard(5, SEATS[2], 0, 0, 0)))
    assert isinstance(append, Append) and append.records == (begins(5),)
    assert one.step(Returned(3)) == [], "one that answers is not asked anew"


def test_a_primary_that_steps_down_lets_go_of_the_journal() -> None:
    lagging = Lagging()
    effects = lagging.one.hear(2, Fence(6))
    assert [each.reader for each in effects if isinstance(each, EndReading)] == [3]
    assert lagging.read(1, begins(3)) == [], "what comes late is for an epoch that is over"


def test_what_was_read_is_dropped_where_the_follower_has_it_by_now() -> None:
    lagging = Lagging()
    lagging.one.hear(3, Heard(5, SEATS[2], 9, 0, 0))
    assert sent(lagging.read(1, begins(3), DATA)) == []


def test_what_waits_for_a_stalled_disk_is_bounded_and_the_newest_is_kept() -> None:
    one = Driven()
    one.hear(2, Fence(5))
    for _ in range(3 * WAITING_MAX):
        assert one.hear(2, Fence(5)) == []
    one.hear(3, Fence(5))
    answers = sent(one.step(Kept(1)))
    assert len(answers) == WAITING_MAX and answers[-1][0] == 3


def test_commits_that_wait_for_a_stalled_disk_are_bounded_and_the_newest_is_kept() -> None:
    log = Log()
    log.known = (5, 5)
    one = Driven(log, Known(5, 0, 5))
    asks = 0
    for position in range(3 * WAITING_MAX):
        records = (begins(5),) if position == 0 else (DATA,)
        one.hear(2, Append(5, 0, position, 5 if position else 0, records, position + 1, 0))
        asks += 1
    effects = one.step(Kept(asks))
    assert [each.position for each in effects if isinstance(each, Replicated)][-1] == 3 * WAITING_MAX
    assert len(effects) <= 2 * WAITING_MAX


def test_only_what_contradicts_an_open_epoch_is_cut_for_a_snapshot() -> None:
    """What ends before the snapshot stays until it is adopted, and so does what this replica has verified in the epoch."""
    log = Log()
    log.end, log.starts = 5, ((3, 1),)
    for log_epoch, position, cut in ((3, 4, True), (3, 6, False), (6, 4, False), (3, 2, False)):
        one = Driven(log, Known(promised=6, since=1, log_epoch=log_epoch, commit=2))
        found = [each for each in one.step(Superseded(6, position)) if isinstance(each, Cut)]
        assert [each.position for each in found] == ([2] if cut else []), (log_epoch, position)
    assert not Driven(log, Known(promised=7)).step(Superseded(6, 4)), "an older epoch is not obeyed"


def test_a_replica_goes_on_behind_a_snapshot_that_it_adopted() -> None:
    """Nothing that it says rests on the old log. Its epoch rises when its primary has verified the new one."""
    one = Driven(known=Known(promised=6, since=1, log_epoch=3))
    asked = one.hear(2, Append(6, 9, 0, 0, (begins(4), DATA), 0, 0))
    assert [type(each) for each in asked] == [KeepRecords]
    one.log.end, one.log.starts = 9, ((4, 1), (5, 8))
    (promise,) = one.step(Adopted(9))
    assert isinstance(promise, Promise)
    assert one.replica.committed == 9 and one.replica.log_epoch == 3
    assert sent(one.step(Kept(promise.ask))) == []
    assert sent(one.hear(2, Append(6, 10, 9, 4, (), 9, 1)))[0][1] == Mismatch(6, SEATS[0], 9, one.log.starts, 1)
    (heard,) = sent(one.hear(2, Append(6, 10, 9, 5, (), 9, 1)))
    assert heard == (2, Heard(6, SEATS[0], 9, 9, 1))


def test_a_claimant_gives_up_where_its_log_is_replaced() -> None:
    one = Driven(known=Known(promised=1, since=1))
    claim = Claim(5, 1, SEATS)
    one.step(ConfChanged(Conf(claim, FIRST)))
    assert one.replica.phase is not None
    one.log.end = 4
    one.step(Adopted(4))
    assert one.replica.phase is None


def test_a_follower_that_adopted_a_snapshot_gets_what_follows() -> None:
    lagging = Lagging()
    lagging.read(1)
    (read,) = lagging.one.step(SnapshotSent(3, 7))
    assert isinstance(read, ReadRecords) and (read.reader, read.first) == (3, 8)
    ((to, append),) = sent(lagging.read(8, DATA, DATA))
    assert to == 3 and isinstance(append, Append) and (append.prev, append.prev_epoch) == (7, 3)
    assert lagging.one.step(SnapshotSent(3, 99)) == [], "no snapshot of this log goes so far"

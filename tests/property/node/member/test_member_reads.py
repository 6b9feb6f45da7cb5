"""Records that are read from the journal: the very bytes that were there, or nothing, whatever checkpoints and cuts did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.member_kit import Cluster, Member
from tests.kit.node_kit import SMALL, publish
from waymaker_core.api.effects import Effect, RecordsRead
from waymaker_core.api.inputs import Cut, EndReading, Input, ReadRecords, SentRecord
from waymaker_core.api.requests import DeleteStream
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.types import CATALOG
from waymaker_core.node.transfer.record_reads import READS_MAX

LARGE = replace(SMALL, recent_log_bytes_max=2 * KIB, recent_bytes_max=4 * KIB)
"""Little is kept in memory, and no checkpoint is due."""
TINY = replace(LARGE, segment_bytes=8 * KIB, checkpoint_journal_bytes=16 * KIB)


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[RecordsRead]:
    """Return what members have read, in order."""
    found: list[RecordsRead] = []
    perform = Member.perform

    def note(self: Member, effect: Effect) -> list[Input]:
        if isinstance(effect, RecordsRead):
            found.append(effect)
            return []
        return perform(self, effect)

    monkeypatch.setattr(Member, "perform", note)
    return found


def filled(limits: Limits, count: int = 60) -> tuple[Cluster, int, Member, list[SentRecord]]:
    """Return a cluster with a stream, its primary, and all records of its log as they were sent."""
    cluster = Cluster(3, limits)
    stream_id, primary = cluster.serve("s", max_msgs=20)
    sent: list[SentRecord] = list(primary.records(stream_id))
    for number in range(count):
        cluster.publish(primary, stream_id, b"%d" % number * 30)
        sent += primary.records(stream_id, len(sent) + 1)
    return cluster, stream_id, primary, sent


def same(one: list[SentRecord], other: list[SentRecord]) -> bool:
    return [tuple(each) for each in one] == [tuple(each) for each in other]


def read_all(
    member: Member, stream_id: int, first: int, reads: list[RecordsRead], bytes_max: int = 700
) -> list[SentRecord]:
    """Read records from a position on, piece by piece, up to where there is none."""
    got: list[SentRecord] = []
    while True:
        reads.clear()
        member.step(ReadRecords(stream_id, 2, first + len(got), bytes_max))
        (read,) = reads
        assert (read.stream_id, read.reader, read.first) == (stream_id, 2, first + len(got))
        if read.records is None:
            return got
        got += read.records


def test_what_is_not_in_memory_any_more_is_read_as_it_was_sent(reads: list[RecordsRead]) -> None:
    cluster, stream_id, primary, sent = filled(LARGE)
    assert primary.node.sent_records(stream_id, 1, 100) is None
    assert same(read_all(primary, stream_id, 1, reads), sent)
    for member in cluster.members:
        member.pass_ms(300)
        member.lose_power()
        member.commit()
        member.commit(stream_id)
        assert same(read_all(member, stream_id, 1, reads), sent), "a start finds the places again"
    assert read_all(cluster.leader, 99, 1, reads) == []


def test_what_is_decided_and_not_applied_is_not_read(reads: list[RecordsRead]) -> None:
    _, stream_id, primary, sent = filled(LARGE, 5)
    primary.ask(publish("s", ("a", b"x")))
    assert primary.log(stream_id).end == len(sent) + 1
    assert same(read_all(primary, stream_id, 1, reads), sent)


def test_checkpoints_take_records_away_and_what_is_left_is_right(reads: list[RecordsRead]) -> None:
    cluster, stream_id, primary, sent = filled(TINY, 400)
    for member in cluster.members:
        assert member.node.stats.checkpoints > 2
        assert member.node._group_commit.journal.places is not None
        first = member.node._group_commit.journal.places.first_of(stream_id)
        assert first is not None and 1 < first < len(sent)
        assert read_all(member, stream_id, first - 1, reads) == []
        assert same(read_all(member, stream_id, first, reads), sent[first - 1 :])
    # A start that finds frames which a snapshot covers knows where they stand, too.
    primary.pass_ms(300)
    primary.kill()
    primary.commit()
    primary.commit(stream_id)
    places = primary.node._group_commit.journal.places
    assert places is not None
    first = places.first_of(stream_id)
    assert first is not None and same(read_all(primary, stream_id, first, reads), sent[first - 1 :])


def test_a_reader_keeps_what_it_needs_until_it_ends(reads: list[RecordsRead]) -> None:
    cluster, stream_id, primary, sent = filled(TINY, 10)
    primary.step(ReadRecords(stream_id, 3, 1, 100))
    assert reads[-1].records
    for number in range(300):
        cluster.publish(primary, stream_id, b"%d" % number * 30)
        sent += primary.records(stream_id, len(sent) + 1)
    journal = primary.node._group_commit.journal
    assert journal.kept and primary.node.stats.checkpoints > 2
    assert same(read_all(primary, stream_id, 1, reads), sent)
    primary.step(EndReading(stream_id, 3), EndReading(stream_id, 2))
    assert not journal.kept and journal.places is not None
    first = journal.places.first_of(stream_id)
    assert first is not None and first > 1


def test_what_readers_keep_is_bounded(reads: list[RecordsRead]) -> None:
    limits = replace(TINY, pinned_bytes_max=16 * KIB)
    cluster, stream_id, primary, _ = filled(limits, 10)
    primary.step(ReadRecords(stream_id, 3, 1, 100))
    for number in range(400):
        cluster.publish(primary, stream_id, b"%d" % number * 30)
    assert primary.node._group_commit.journal.kept_bytes <= 16 * KIB
    primary.step(ReadRecords(stream_id, 3, 2, 100))
    assert reads[-1].records is None


def test_a_record_that_was_cut_is_never_read(reads: list[RecordsRead]) -> None:
    cluster, stream_id, primary, sent = filled(LARGE, 20)
    other = next(each for each in cluster.members if each is not primary)
    primary.ask(publish("s", ("a", b"never committed")))
    cluster.send(primary, other, stream_id)
    other.step(Cut(999_999, stream_id, len(sent)))
    places = other.node._group_commit.journal.places
    assert places is not None and places.places_from(stream_id, len(sent) + 1, 1 << 40, 1) == []
    assert same(read_all(other, stream_id, 1, reads), sent)
    other.pass_ms(300)
    other.lose_power()
    other.commit()
    other.commit(stream_id)
    assert same(read_all(other, stream_id, 1, reads), sent)


def test_a_deleted_stream_has_no_places(reads: list[RecordsRead]) -> None:
    cluster, stream_id, primary, _ = filled(LARGE, 5)
    cluster.call(DeleteStream("s"))
    places = primary.node._group_commit.journal.places
    assert places is not None and places.first_of(stream_id) is None
    assert read_all(primary, stream_id, 1, reads) == []
    assert read_all(primary, CATALOG, 1, reads), "the catalog's log is read in the same way"


def test_a_damaged_frame_ends_what_is_read(reads: list[RecordsRead]) -> None:
    _, stream_id, primary, sent = filled(LARGE, 20)
    places = primary.node._group_commit.journal.places
    assert places is not None
    (place,) = places.places_from(stream_id, 8, 8, 1)
    path = f"journal/{place.segment:016d}.seg"
    data = primary.disk.names[path].content
    data[place.offset + place.size - 12] ^= 1
    primary.step(ReadRecords(stream_id, 2, 1, 1 << 20))
    assert reads[-1].records is not None and same(list(reads[-1].records), sent[:7])
    primary.step(ReadRecords(stream_id, 2, 8, 1 << 20))
    assert reads[-1].records is None


def test_reads_wait_for_one_another_and_all_are_answered(reads: list[RecordsRead]) -> None:
    _, stream_id, primary, sent = filled(LARGE, 30)
    wanted = [ReadRecords(stream_id, 2, first, 1) for first in range(1, 4 * READS_MAX)]
    primary.step(*wanted)
    assert [read.first for read in reads] == [each.first for each in wanted]
    assert all(
        read.records is not None and same(list(read.records), sent[read.first - 1 : read.first]) for read in reads
    )

"""Producers: a message that is sent again is stored once and answered as the first time, whatever happened in between."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.node_kit import SMALL, Server, publish
from tests.kit.stream_bench import Bench
from waymaker_core.api.requests import DeleteStream, Producer, Publish, Published
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import ProducerSpan, PublishRecord
from waymaker_core.model.result_codes import (
    OUTCOME_UNKNOWN,
    OVERSIZE,
    PRODUCER_FENCED,
    SUBJECT_REJECTED,
    WRONG_REVISION,
    RefusedError,
)
from waymaker_core.storage.record_codec import decode, encode, version_of
from waymaker_core.stream import PublishDecision, Stream, admission
from waymaker_core.stream.invariants import check_stream
from waymaker_core.stream.join import join_publishes, joinable
from waymaker_core.stream.producers import FORGOTTEN, FRESH, Producers
from waymaker_core.stream.snapshot import decode_snapshot, encode_snapshot

TINY = replace(Limits(), producers_max=3, producer_spans_max=3)


def sequences(published: Published, count: int) -> list[int | str]:
    """What became of each message: its sequence, or the code of its failure."""
    failures = published.failures or {}
    seqs = iter(published.seqs or range(published.first_seq, published.first_seq + published.count))
    found: list[int | str] = [failures[index][0] if index in failures else next(seqs) for index in range(count)]
    assert next(seqs, None) is None
    return found


class Sender:
    """Publishes of producers to a stream."""

    def __init__(self, **settings: object) -> None:
        self.bench = Bench(**settings)
        self.stream = self.bench.stream

    def decide(
        self, numbers: range | list[int], *, by: int = 7, epoch: int = 1, resent: bool = False,
        subjects: list[str] | None = None, expected: list[int] | None = None,
    ) -> PublishDecision:  # fmt: skip
        count = len(numbers)
        request = Publish(
            "s", subjects or ["a"] * count, [3] * count, [2] * count, b"xy" * count, None, expected,
            producer=Producer(by, epoch, numbers, resent),
        )  # fmt: skip
        return admission.decide_publish(self.stream, request, 1_000)

    def send(self, numbers: range | list[int], **how: object) -> list[int | str]:
        decision = self.decide(numbers, **how)  # type: ignore[arg-type]
        if decision.record is not None:
            self.bench.apply(decision)
        return sequences(decision.published, len(numbers))


# ---------------------------------------------------------------- what a resend is answered


def test_a_message_that_is_sent_again_has_the_sequence_that_it_was_stored_at() -> None:
    sender = Sender()
    assert sender.send(range(1, 4)) == [1, 2, 3]
    sender.bench.publish("other")
    assert sender.send(range(1, 4), resent=True) == [1, 2, 3]
    assert sender.send(range(2, 6), resent=True) == [2, 3, 5, 6]
    assert sender.send([1, 5, 9], resent=True) == [1, 6, 7]
    assert sender.send(range(1, 4), by=8) == [8, 9, 10]
    assert sender.stream.last_seq == 10


def test_a_message_in_the_overlay_is_found_and_its_answer_waits_for_the_commit() -> None:
    sender = Sender()
    first = sender.decide(range(1, 4))
    again = sender.decide(range(1, 5), resent=True)
    assert again.depends_on_uncommitted
    assert sequences(again.published, 4) == [1, 2, 3, 4]
    only_again = sender.decide(range(1, 3), resent=True)
    assert only_again.record is None
    assert only_again.depends_on_uncommitted
    sender.bench.apply(first)
    sender.bench.apply(again)
    settled = sender.decide(range(1, 5), resent=True)
    assert settled.record is None
    assert not settled.depends_on_uncommitted


def test_what_is_discarded_was_never_stored() -> None:
    sender = Sender()
    sender.send(range(1, 3))
    sender.decide(range(3, 6), epoch=4)
    sender.stream.discard_uncommitted()
    assert sender.send(range(1, 6), resent=True) == [1, 2, 3, 4, 5]


def test_a_refused_message_has_no_number_stored_and_is_decided_anew() -> None:
    sender = Sender(subjects_filter=("a", "b"), max_msg_bytes=3)
    subjects = ["a", "zz", "a"]
    assert sender.send(range(1, 4), subjects=subjects) == [1, SUBJECT_REJECTED, 2]
    assert sender.send(range(1, 4), subjects=["a", "b", "a"], resent=True) == [1, 3, 2]
    sender.stream.apply_config(replace(sender.stream.config, max_msg_bytes=2))
    assert sender.send(range(3, 5), resent=True) == [2, OVERSIZE]


def test_a_stored_condition_is_not_judged_a_second_time() -> None:
    sender = Sender()
    assert sender.send([1], expected=[0]) == [1]
    assert sender.send([1], expected=[0], resent=True) == [1]
    assert sender.send([2, 3], expected=[1, 1]) == [2, WRONG_REVISION]
    assert sender.send([2, 3], expected=[1, 1], resent=True) == [2, WRONG_REVISION]
    assert sender.send([2, 3, 4], expected=[1, 2, 3], resent=True) == [2, 3, 4]


def test_conditions_beside_limits_are_numbered_message_by_message() -> None:
    sender = Sender(max_msgs=3, strict_limits=True)
    assert sender.send(range(1, 5), expected=[0, 1, 1, 2]) == [1, 2, WRONG_REVISION, 3]
    assert sender.send(range(1, 5), expected=[0, 1, 1, 2], resent=True) == [1, 2, WRONG_REVISION, 3]


def test_a_pruned_message_stays_known() -> None:
    sender = Sender(max_msgs=1, strict_limits=True)
    assert sender.send(range(1, 4)) == [1, 2, 3]
    assert sender.bench.live() == [3]
    assert sender.send([1], resent=True) == [1]


def test_an_older_epoch_is_fenced() -> None:
    sender = Sender()
    assert sender.send([1], epoch=2) == [1]
    assert sender.send([2, 3], epoch=1) == [PRODUCER_FENCED] * 2
    staged = sender.decide([2], epoch=3)
    fenced = sender.decide([3], epoch=2)
    assert fenced.depends_on_uncommitted
    assert sequences(fenced.published, 1) == [PRODUCER_FENCED]
    sender.bench.apply(staged)
    assert sender.send([1, 2, 3], epoch=3, resent=True) == [1, 2, 3]


@pytest.mark.parametrize(
    "producer",
    [
        Producer(0, 1, [1]),
        Producer(1 << 64, 1, [1]),
        Producer(1, -1, [1]),
        Producer(1, 1 << 32, [1]),
        Producer(1, 1, [0]),
        Producer(1, 1, [1, 2]),
        Producer(1, 1, [1 << 63]),
    ],
)
def test_a_producer_out_of_range_is_refused(producer: Producer) -> None:
    with pytest.raises(RefusedError):
        admission.decide_publish(Bench().stream, Publish("s", ["a"], [1], [1], b"x", producer=producer), 5)


def test_numbers_that_do_not_ascend_are_refused() -> None:
    for numbers in ([2, 2], [3, 2]):
        with pytest.raises(RefusedError, match="ascend"):
            Sender().decide(numbers)


# ---------------------------------------------------------------- bounds


def tiny() -> Sender:
    sender = Sender()
    sender.stream.limits = sender.stream.producers.limits = TINY
    return sender


def test_numbers_below_the_remembered_spans_are_refused_and_never_stored_twice() -> None:
    sender = tiny()
    for number in range(1, 6):
        sender.send([number])
        sender.bench.publish("between")
    assert sender.send(range(1, 6), resent=True) == [OUTCOME_UNKNOWN, OUTCOME_UNKNOWN, 5, 7, 9]
    assert sender.send([2]) == [OUTCOME_UNKNOWN], "whoever says that it is new"
    assert sender.send([6], resent=True) == [11]


def test_the_producer_that_stored_nothing_for_longest_is_forgotten() -> None:
    sender = tiny()
    for producer in (1, 2, 3, 1, 4):
        sender.send([sender.stream.last_seq + 1], by=producer)
    assert list(sender.stream.producers.known) == [3, 1, 4]
    assert sender.send([2], by=2, resent=True) == [OUTCOME_UNKNOWN]
    assert sender.send([1], by=9, resent=True) == [OUTCOME_UNKNOWN], "nobody knows who was forgotten"
    assert sender.send([1], by=9) == [6]
    assert sender.send([1], by=9, resent=True) == [6]
    assert sender.send([40], by=2) == [7], "what it never sent before is new"
    assert sender.send([2], by=2, resent=True) == [OUTCOME_UNKNOWN], "and what it did stays forgotten"


def test_a_forgotten_producer_that_is_back_in_the_overlay_is_still_forgotten() -> None:
    sender = tiny()
    sender.send([1], by=1)
    for producer in (2, 3, 4):
        sender.send([1], by=producer)
    back = sender.decide([2], by=1)
    assert sender.send([1], by=1, resent=True) == [OUTCOME_UNKNOWN]
    assert sequences(sender.decide([2], by=1, resent=True).published, 1) == [5]
    sender.bench.apply(back)
    assert sender.send([1, 2, 3], by=1, resent=True) == [OUTCOME_UNKNOWN, 5, 6]


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 5), st.integers(0, 3), st.integers(1, 4), st.booleans()),
        st.sampled_from(["commit", "discard", "snapshot", "other"]).map(lambda act: (act, 0, 0, 0, True)),
    ),
    max_size=40,
)  # fmt: skip


@given(ACTS, st.sampled_from([TINY, Limits()]))
def test_the_table_agrees_with_one_that_forgets_nothing(
    acts: list[tuple[str, int, int, int, bool]], limits: Limits
) -> None:
    bench = Bench()
    bench.stream.limits = bench.stream.producers.limits = limits
    stored: dict[tuple[int, int], int] = {}
    staged: list[tuple[PublishDecision, dict[tuple[int, int], int]]] = []
    sent: dict[int, int] = {}

    def known() -> dict[tuple[int, int], int]:
        return {key: seq for part in [stored, *[found for _, found in staged]] for key, seq in part.items()}

    def commit() -> None:
        decision, found = staged.pop(0)
        bench.apply(decision)
        stored.update(found)

    for act, producer, back, count, resent in acts:
        if act == "send":
            first = max(1, sent.get(producer, 0) + 1 - back) if resent else sent.get(producer, 0) + 1
            numbers = range(first, first + count)
            sent[producer] = max(sent.get(producer, 0), numbers[-1])
            everything = known()
            request = Publish(
                "s",
                ["a"] * count,
                [3] * count,
                [2] * count,
                b"xy" * count,
                producer=Producer(producer, 1, numbers, resent),
            )
            decision = admission.decide_publish(bench.stream, request, 1_000)
            for number, outcome in zip(numbers, sequences(decision.published, count), strict=True):
                there = everything.get((producer, number))
                if outcome == OUTCOME_UNKNOWN:
                    assert limits is TINY, "only a full table forgets"
                elif there is not None:
                    assert outcome == there, "stored once, and answered as the first time"
                else:
                    assert isinstance(outcome, int) and outcome not in everything.values()
                    everything[producer, number] = outcome
            if decision.record is not None:
                staged.append((decision, {key: seq for key, seq in everything.items() if key not in known()}))
        elif act == "other":
            staged.append((bench.decide("b"), {}))
        elif act == "commit" and staged:
            commit()
        elif act == "discard":
            bench.stream.discard_uncommitted()
            staged.clear()
        elif act == "snapshot":
            while staged:
                commit()
            again = decode_snapshot(encode_snapshot(bench.stream), limits)
            assert plain(again.producers) == plain(bench.stream.producers)
            bench.stream = again
        check_stream(bench.stream)


def plain(table: Producers) -> object:
    return table.forgot, [
        (producer_id, each.epoch, each.floor, each.numbers, each.seqs, each.counts)
        for producer_id, each in table.known.items()
    ]


# ---------------------------------------------------------------- records


def test_a_record_without_producers_keeps_the_first_layout() -> None:
    sender = Sender()
    plain_record = sender.bench.decide("a").record
    numbered = sender.decide(range(1, 4)).record
    assert plain_record is not None
    assert numbered is not None
    assert (version_of(plain_record), version_of(numbered)) == (1, 2)
    again = decode(PublishRecord.KIND, 2, encode(numbered))
    assert isinstance(again, PublishRecord)
    assert again.spans == numbered.spans == [ProducerSpan(7, 1, 1, 0, 3)]


def test_replay_of_joined_records_makes_the_same_table() -> None:
    sender = Sender()
    decisions = [
        sender.decide(range(1, 4)),
        sender.decide(range(4, 6)),
        sender.bench.decide("b"),
        sender.decide(range(1, 3), by=8),
        sender.decide(range(6, 9), epoch=2),
    ]
    parts = [part for decision in decisions for part in decision.parts]
    records = [decision.record for decision in decisions if decision.record is not None]
    assert all(joinable(*pair) for pair in pairwise(records))
    joined = join_publishes(records)
    assert joined.spans == [
        ProducerSpan(7, 1, 1, 0, 5),
        ProducerSpan(8, 1, 1, 6, 2),
        ProducerSpan(7, 2, 6, 8, 3),
    ]
    replica = Stream(1, sender.stream.config, 1, Limits())
    read = decode(PublishRecord.KIND, version_of(joined), encode(joined))
    assert isinstance(read, PublishRecord)
    replica.apply(1, read, sender.bench.disk.append("journal/0000000000000001.seg", b"".join(parts)))
    assert replica.producers.find_number(7, 8, True) == 11
    assert replica.producers.find_number(7, 9, True) == FRESH
    assert replica.producers.find_number(8, 2, True) == 8
    assert replica.producers.epoch_of(7) == 2
    check_stream(replica)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: [None, *table[1:]],
        lambda table: table[:-1],
        lambda table: [*table[:1], table[1] + table[1], *table[2:]],
        lambda table: [*table[:5], table[5] + bytes(8), *table[6:]],
        lambda table: [*table[:6], (99).to_bytes(8, "little"), *table[7:]],
        lambda table: [*table[:7], bytes(8)],
    ],
)
def test_a_table_that_cannot_be_is_refused(spoil: object) -> None:
    sender = Sender()
    sender.send(range(1, 4))
    snapshot = encode_snapshot(sender.stream)
    assert isinstance(snapshot, list)
    assert snapshot[0] == 4
    decode_snapshot(snapshot, Limits())
    with pytest.raises(ValueError, match=r"producer|column|shorter|longer"):
        decode_snapshot([*snapshot[:12], spoil(snapshot[12]), *snapshot[13:]], Limits())  # type: ignore[operator]


def test_forgotten_and_fresh_are_no_sequences() -> None:
    assert max(FORGOTTEN, FRESH) < 1


# ---------------------------------------------------------------- a node


def numbered(first: int, count: int, resent: bool = False) -> Publish:
    request = publish("s", *[("a", b"message %d" % number) for number in range(first, first + count)])
    request.producer = Producer(5, 1, range(first, first + count), resent)
    return request


@pytest.mark.parametrize("stop", ["kill", "lose_power", "restart"])
@pytest.mark.parametrize("others", [0, 400], ids=["from the journal", "from a checkpoint"])
def test_the_table_outlives_every_kind_of_stop(stop: str, others: int) -> None:
    server = Server(SMALL)
    server.create("s", block_size=50)
    assert server.ok(numbered(1, 3)) is not None
    for _ in range(others):
        server.publish("s", b"x" * 200, subject="other")
    count = server.stats().msg_count
    getattr(server, stop)()
    value = server.ok(numbered(1, 5, resent=True))
    assert isinstance(value, Published)
    assert sequences(value, 5) == [1, 2, 3, count + 1, count + 2]
    getattr(server, stop)()
    assert server.stats().msg_count == count + 2


def test_the_table_ends_with_its_stream() -> None:
    server = Server()
    server.create("s")
    server.ok(numbered(1, 3))
    server.ok(DeleteStream("s"))
    server.create("s")
    value = server.ok(numbered(2, 1, resent=True))
    assert isinstance(value, Published)
    assert value.first_seq == 1

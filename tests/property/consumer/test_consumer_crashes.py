"""Consumers through crashes: what no restart may break, whatever was lost with it.

A crash keeps the committed records and as much of the uncommitted tail as the test grants; deliveries that no record told
of are forgotten. The promises that hold all the same are checked at every delivery and at the end, when everything that was
not settled must come out.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.kit.consumer_world import ConsumerWorld, consumer
from waymaker_core.api.requests import AckKind
from waymaker_core.model.config import Retention, StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import AckRecord, DropRecord
from waymaker_core.model.types import ConsumerId

SUBJECTS = ("a", "b")
MAX_DELIVER = 3


class ConsumersThroughCrashes(RuleBasedStateMachine):
    """A world that crashes, and what clients remember of it."""

    @initialize(
        retention=st.sampled_from([Retention.LIMITS, Retention.WORK_QUEUE]),
        patterns=st.lists(st.sampled_from(["", "a", "b"]), min_size=1, max_size=3),
        dead_letters=st.booleans(),
    )
    def begin(self, retention: Retention, patterns: list[str], dead_letters: bool) -> None:
        self.queue = retention is Retention.WORK_QUEUE
        self.world = ConsumerWorld(StreamConfig("s", retention=retention, block_size=5), Limits())
        self.patterns = patterns
        self.ids = [
            self.world.create(
                consumer(
                    f"c{index}",
                    filter_subject=pattern,
                    max_deliver=MAX_DELIVER,
                    dead_letter_subject="dead" if dead_letters else "",
                )
            )
            for index, pattern in enumerate(patterns)
        ]
        self.subjects: dict[int, str] = {}
        self.settled: list[dict[int, bool]] = [{} for _ in patterns]
        """Acked, termed or dropped for good: their record is committed."""
        self.had: list[dict[int, bool]] = [{} for _ in patterns]
        """Ever delivered."""
        self.holders: dict[int, tuple[int, int]] = {}
        """Since the last start: who has a message of a work queue, and until when."""
        self.floors = [self.world.consumers.info(each).ack_floor for each in self.ids]

    def note_new(self) -> None:
        for seq in range(len(self.subjects) + 1, self.world.stream.last_seq + 1):
            self.subjects[seq] = self.world.bodies[seq][2 : 2 + self.world.bodies[seq][1]].decode()

    @rule(subjects=st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=8))
    def publish(self, subjects: list[str]) -> None:
        self.commit()
        self.world.publish(*subjects)
        self.note_new()

    @rule(data=st.data(), count=st.integers(1, 9))
    def fetch(self, data: st.DataObject, count: int) -> None:
        which = data.draw(st.integers(0, len(self.ids) - 1))
        for seq, attempt in self.world.fetch(self.ids[which], count):
            assert self.world.stream.is_live(seq)
            assert self.patterns[which] in ("", self.subjects[seq])
            assert seq not in self.settled[which], "delivered after a confirmed ack"
            assert 1 <= attempt <= MAX_DELIVER
            if self.queue:
                holder, until_ms = self.holders.get(seq, (which, 0))
                assert holder == which or until_ms <= self.world.now_ms, "two consumers have a message"
                self.holders[seq] = (which, self.world.now_ms + 100)
            self.had[which][seq] = True

    @rule(data=st.data(), kind=st.sampled_from(list(AckKind)), commit=st.booleans())
    def answer(self, data: st.DataObject, kind: AckKind, commit: bool) -> None:
        which = data.draw(st.integers(0, len(self.ids) - 1))
        if not self.had[which]:
            return
        seqs = data.draw(st.lists(st.sampled_from(sorted(self.had[which])), min_size=1, max_size=6))
        self.world.answer(self.ids[which], kind, seqs)
        if kind is AckKind.IN_PROGRESS:
            for seq in seqs:
                if self.holders.get(seq, (-1, 0))[0] == which:
                    self.holders[seq] = (which, self.world.now_ms + 100)
        else:
            for seq in seqs:
                if self.holders.get(seq, (-1, 0))[0] == which:
                    del self.holders[seq]
        if commit:
            self.commit()
            if kind in (AckKind.ACK, AckKind.TERM):
                # The client was told `ok`: whatever was known of the delivery, it is settled.
                for seq in seqs:
                    self.settled[which][seq] = True

    @rule(elapsed_ms=st.sampled_from([1, 60, 100]))
    def time_passes(self, elapsed_ms: int) -> None:
        self.world.now_ms += elapsed_ms

    @rule()
    def give_up(self) -> None:
        self.world.consumers.expire(self.world.now)
        for spent in self.world.hand_out(3):
            self.world.drop(spent)

    @rule()
    def log(self) -> None:
        self.world.log_deliveries()

    @rule()
    def commit(self) -> None:
        self.settle([record for record, _ in self.world.overlay])
        self.world.commit()
        self.note_new()

    def settle(self, records: list[object]) -> None:
        for record in records:
            if isinstance(record, AckRecord | DropRecord):
                for seq in record.seqs:
                    self.settled[self.ids.index(ConsumerId(record.consumer_id))][seq] = True

    @rule()
    def tell_floors(self) -> None:
        """Figures are told once what they rest on is committed."""
        told = [self.world.consumers.info(each) for each in self.ids]
        self.world.log_deliveries()
        self.commit()
        for which, info in enumerate(told):
            assert info.ack_floor >= self.floors[which], "a floor went back"
            self.floors[which] = info.ack_floor

    @rule()
    def checkpoint(self) -> None:
        self.world.take_snapshot()

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        survives = data.draw(st.integers(0, len(self.world.overlay)))
        self.settle([record for record, _ in self.world.overlay[:survives]])
        self.world.restart(survives=survives)
        self.note_new()
        self.holders.clear()

    @rule()
    def stop_cleanly(self) -> None:
        self.world.log_deliveries()
        self.commit()
        before = [self.world.consumers.info(each) for each in self.ids]
        self.world.restart()
        for old, new in zip(before, [self.world.consumers.info(each) for each in self.ids], strict=True):
            for field in ("ack_floor", "last_delivered", "redelivered_dropped", "pending", "lag", "created_ms"):
                assert getattr(old, field) == getattr(new, field), field
        self.holders.clear()

    @invariant()
    def nothing_is_broken(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.check()
        for which, each in enumerate(self.ids):
            floor = self.world.consumers.info(each).ack_floor
            for seq, subject in self.subjects.items():
                if seq <= floor and self.world.stream.is_live(seq) and self.patterns[which] in ("", subject):
                    assert seq in self.settled[which], "the floor passed a message that nobody settled"

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.commit()
        for _ in range(4 * len(self.subjects) + 40):
            self.world.now_ms += 100
            self.world.give_up()
            self.note_new()
            self.settle([record for record, _ in self.world.log])
            for which, each in enumerate(self.ids):
                seqs = [seq for seq, _ in self.world.fetch(each, 100)]
                assert not any(seq in self.settled[which] for seq in seqs)
                self.world.ack(each, *seqs)
                for seq in seqs:
                    self.settled[which][seq] = True
        self.world.check()
        last = self.world.stream.last_seq
        for which, each in enumerate(self.ids):
            assert self.world.consumers.info(each).ack_floor == last
            for seq, subject in self.subjects.items():
                if self.world.stream.is_live(seq) and self.patterns[which] in ("", subject):
                    assert seq in self.settled[which], "a message was never delivered"


TestConsumersThroughCrashes = ConsumersThroughCrashes.TestCase
TestConsumersThroughCrashes.settings = settings(stateful_step_count=40)

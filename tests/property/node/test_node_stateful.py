"""The whole node against the naive broker: Hypothesis chooses what is asked, every answer is compared.

The acts are the ones of the long random conversation (`waymaker_sim.compare.compare`); here Hypothesis makes the draws, and so
shrinks whatever the two disagree about.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from waymaker_sim.compare.compare import RandomCalls, compare_brokers
from waymaker_sim.kernel.tape import Tape, Track


class DrawnTrack(Track):
    """A track whose draws are Hypothesis' own."""

    __slots__ = ("data",)

    def __init__(self) -> None:
        super().__init__("hypothesis", 0, None)
        self.data: st.DataObject | None = None

    def draw(self, label: str, bound: int) -> int:
        assert self.data is not None
        return self.data.draw(st.integers(0, bound - 1), label=label)


class NodeAgainstNaive(RuleBasedStateMachine):
    """One rule for each act."""

    def __init__(self) -> None:
        super().__init__()
        self.track = DrawnTrack()
        self.talk = RandomCalls(self.track)

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.track.data = data
        self.talk.create_stream()
        self.talk.create_consumer()

    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        self.track.data = data
        self.talk.publish()

    @rule(data=st.data())
    def fetch(self, data: st.DataObject) -> None:
        self.track.data = data
        self.talk.fetch()

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self.track.data = data
        self.talk.answer()

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        self.track.data = data
        self.talk.read()

    @rule(data=st.data())
    def pass_time(self, data: st.DataObject) -> None:
        self.track.data = data
        self.talk.pass_time()

    @rule(data=st.data())
    def change_streams(self, data: st.DataObject) -> None:
        self.track.data = data
        [self.talk.create_stream, self.talk.update, self.talk.delete_stream][self.track.draw("change", 3)]()

    @rule(data=st.data())
    def change_consumers(self, data: st.DataObject) -> None:
        self.track.data = data
        [self.talk.create_consumer, self.talk.delete_consumer][self.track.draw("change", 2)]()

    @rule(data=st.data())
    def subscribe(self, data: st.DataObject) -> None:
        self.track.data = data
        self.talk.subscription()

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        self.track.data = data
        self.talk.restart()


NodeAgainstNaive.TestCase.settings = settings(max_examples=30, stateful_step_count=30)
TestNodeAgainstNaive = NodeAgainstNaive.TestCase


def test_a_long_conversation_finds_no_difference() -> None:
    conversation = compare_brokers(seed=1, steps=1_500)
    assert conversation.pair.compared > 1_000
    assert set(conversation.counts) == {act.__name__ for _, act in conversation._acts}, "every act was met"


def test_a_conversation_is_the_same_twice() -> None:
    tapes = [Tape(3), Tape(3)]
    for tape in tapes:
        talk = RandomCalls(tape.track("conversation"))
        for _ in range(100):
            talk.step()
    assert tapes[0].saved() == tapes[1].saved()

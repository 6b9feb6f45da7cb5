"""A client's route: redirects, lost connections and machines that are down, and what it knows about each call's outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.kit.majority_register import KINDS
from tests.kit.signposts import Script, Scripted, Sign, opener_by
from waymaker_core.model.result_codes import OK, Answer, Outcome, Refusal, Status
from waymaker_sim.cluster.machines import Machines, MachinesPlan
from waymaker_sim.cluster.route import HOPS_MAX, CallEnd, Route
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.process import NodeRaised
from waymaker_sim.machine.process_state import State

UNAVAILABLE = Refusal(Status.UNAVAILABLE, "not now")


@dataclass
class Question:
    """A request with a value that its receiver could change."""

    values: list[int] = field(default_factory=list)


class Asked:
    """Machines that answer by a script, and one client."""

    def __init__(self, script: Script, machines: int = 3, seed: int = 1) -> None:
        self.asked: list[tuple[int, object]] = []

        def noted(machine: int, request: object) -> Answer | Refusal | Sign | None:
            self.asked.append((machine, request))
            return script(machine, request)

        tape = Tape(seed)
        self.machines = Machines(tape, MachinesPlan(count=machines), opener=opener_by(noted), kinds=KINDS)
        self.route = Route(-1, self.machines.network, self.machines.machines, tape.track("route"))
        self.route.at = 1
        self.ends: list[CallEnd] = []
        self.machines.start()
        self.machines.await_up()

    @property
    def marks(self) -> Counter[str]:
        return self.machines.marks

    def call(self, request: object = "?", *, stream: str = "", repeatable: bool = False) -> None:
        self.route.call(request, self.ends.append, stream=stream, repeatable=repeatable)

    def end(self, ns: int = 20 * SECOND) -> CallEnd:
        """Let the world go on until one more call has ended."""
        count = len(self.ends)
        self.machines.run_for(ns, lambda: len(self.ends) > count)
        assert len(self.ends) == count + 1
        return self.ends[-1]

    def run_until(self, reached: Callable[[], bool]) -> None:
        self.machines.run_for(SECOND, reached)
        assert reached()

    def server(self, machine: int) -> Scripted:
        server = self.machines.machines[machine].server
        assert isinstance(server, Scripted)
        return server


def ok(machine: int, request: object) -> Answer:
    return Answer(OK, value=machine)


def silent(machine: int, request: object) -> None:
    return None


def test_a_call_is_answered_by_the_machine_that_it_is_connected_to() -> None:
    world = Asked(ok)
    world.call()
    end = world.end()
    assert isinstance(end.answer, Answer) and end.answer.value == end.machine == 1
    assert not end.unknown and not world.route.open_calls
    world.call()
    world.end()
    assert len(world.machines.network.connections) == 1


def test_a_redirect_is_followed_and_remembered_for_its_stream() -> None:
    world = Asked(lambda machine, request: ok(machine, request) if machine == 3 else Sign(3))
    world.call(stream="s")
    assert world.end().machine == 3
    world.call(stream="s")
    assert world.end().machine == 3
    world.call(stream="other")
    world.end()
    assert [machine for machine, _ in world.asked] == [1, 3, 3, 1, 3]
    assert world.marks["client redirected"] == 2


def test_calls_to_two_machines_do_not_keep_each_other_from_their_connections() -> None:
    world = Asked(lambda machine, request: ok(machine, request) if request == machine else Sign(int(str(request))))
    for machine in (2, 3):
        world.call(machine, stream=str(machine))
        world.end()
    for process in world.machines.machines.values():
        process.kill()
    world.machines.await_up()
    world.machines.run_for(2 * SECOND)
    before = world.machines.events.count
    for machine in (2, 3, 2, 3):
        world.call(machine, stream=str(machine))
    world.machines.run_for(5 * SECOND, lambda: len(world.ends) == 6)
    assert [end.machine for end in world.ends[2:]] in ([2, 2, 3, 3], [3, 3, 2, 2], [2, 3, 2, 3], [3, 2, 3, 2])
    assert world.machines.events.count - before < 200
    assert len(world.machines.network.connections) <= 2


def test_the_newest_epoch_wins() -> None:
    def script(machine: int, request: object) -> Answer | Sign:
        if request == "first":
            return ok(machine, request) if machine == 2 else Sign(2, 7)
        return ok(machine, request) if machine == 3 else Sign(3, 8) if machine == 2 else Sign(1, 6)

    world = Asked(script)
    world.call("first", stream="s")
    assert world.end().machine == 2
    world.call("second", stream="s")
    assert world.end().machine == 3
    assert world.route._known["s"] == (8, 3)


def test_an_older_epoch_is_not_followed() -> None:
    script = lambda machine, request: Sign(1, 5) if machine == 2 else Sign(2, 9)  # noqa: E731
    world = Asked(script, machines=2)
    world.call(stream="s")
    assert world.end().answer is None
    assert world.marks["client told of an older epoch"] > 0


def test_redirects_in_a_circle_are_followed_a_bounded_number_of_times() -> None:
    world = Asked(lambda machine, request: Sign(3 - machine), machines=2)
    world.call()
    end = world.end()
    assert end.answer is None and not end.unknown
    assert world.marks["client redirected too often"] > 1
    pauses = world.marks["client redirected too often"] + 1
    assert len(world.asked) <= pauses * (HOPS_MAX + 1)
    assert world.marks["call that was never made"] == 1


def test_a_redirect_to_a_machine_that_is_not_there_does_no_harm() -> None:
    world = Asked(lambda machine, request: ok(machine, request) if machine == 2 else Sign(9))
    world.call()
    assert world.end().machine == 2


def test_a_call_whose_machine_dies_has_an_unknown_outcome() -> None:
    world = Asked(silent)
    world.call()
    world.run_until(lambda: bool(world.asked))
    world.machines.machines[1].kill()
    end = world.end()
    assert end.answer is None and end.unknown
    assert len(world.asked) == 1


def test_a_call_that_may_be_repeated_is_sent_to_another_machine() -> None:
    world = Asked(lambda machine, request: None if machine == 1 else ok(machine, request))
    world.call(repeatable=True)
    world.run_until(lambda: bool(world.asked))
    world.machines.machines[1].lose_power()
    end = world.end()
    assert isinstance(end.answer, Answer) and end.machine != 1 and not end.unknown


def test_a_refusal_after_a_lost_attempt_leaves_doubt() -> None:
    refused = Refusal(Status.ABORTED, "no")
    world = Asked(lambda machine, request: None if machine == 1 else refused)
    world.call(repeatable=True)
    world.run_until(lambda: bool(world.asked))
    world.machines.machines[1].kill()
    end = world.end()
    assert isinstance(end.answer, Refusal) and end.unknown


@pytest.mark.parametrize(("outcome", "unknown"), [(Outcome.UNKNOWN, True), (Outcome.NOT_APPLIED, False)])
def test_a_refusal_says_whether_its_outcome_is_unknown(outcome: Outcome, unknown: bool) -> None:
    world = Asked(lambda machine, request: Refusal(Status.ABORTED, "no", outcome))
    world.call()
    assert world.end().unknown is unknown


def test_a_machine_that_is_down_is_passed_over_without_doubt() -> None:
    world = Asked(ok)
    world.machines.machines[1].kill()
    world.machines.machines[1].state = State.REFUSED  # it does not come back
    world.machines.machines[1].run += 1
    world.call()
    end = world.end()
    assert isinstance(end.answer, Answer) and end.machine in (2, 3)
    assert world.marks["client found no connection"] == 1 and world.marks["call lost"] == 0


def test_without_any_machine_a_call_was_never_made() -> None:
    world = Asked(ok)
    for process in world.machines.machines.values():
        process.kill()
        process.state = State.REFUSED
        process.run += 1
    world.call()
    end = world.end()
    assert end.answer is None and not end.unknown and not world.asked


def test_an_unavailable_machine_is_left_for_another() -> None:
    world = Asked(lambda machine, request: UNAVAILABLE if machine == 1 else ok(machine, request))
    world.call()
    end = world.end()
    assert isinstance(end.answer, Answer) and end.machine in (2, 3)
    assert world.marks["client refused, and goes elsewhere"] == 1


def test_a_call_that_is_given_up_is_cancelled_at_its_machine() -> None:
    world = Asked(silent)
    world.call()
    end = world.end()
    assert end.answer is None and end.unknown and world.marks["call given up"] == 1
    world.machines.run_for(SECOND)
    assert world.machines.machines[1].waiting() == 0 and world.server(1).cancelled == 1


def test_a_machine_cancels_what_came_on_a_connection_that_broke() -> None:
    world = Asked(silent)
    world.call()
    world.run_until(lambda: bool(world.asked))
    (connection,) = world.machines.network.connections
    connection.end_by_fault()
    assert world.end().unknown
    world.machines.run_for(2 * SECOND)
    assert world.machines.machines[1].waiting() == 0 and world.server(1).cancelled == 1


def test_a_partition_holds_a_call_and_then_breaks_its_connection() -> None:
    world = Asked(ok)
    world.call()
    world.end()
    world.machines.network.cut([(-1, 1)], 60 * SECOND)
    world.call()
    end = world.end()
    assert end.answer is None and end.unknown and len(world.asked) == 1


def test_a_short_partition_delays_a_call_alone() -> None:
    world = Asked(ok)
    world.call()
    world.end()
    begun = world.machines.events.now_ns
    world.machines.network.cut([(-1, 1)], 5 * MS)
    world.call()
    assert isinstance(world.end().answer, Answer)
    assert world.machines.events.now_ns >= begun + 5 * MS


def test_a_pause_of_the_machine_delays_the_answer() -> None:
    world = Asked(ok)
    world.call()
    world.end()
    world.machines.machines[1].pause(SECOND)
    begun = world.machines.events.now_ns
    world.call()
    assert isinstance(world.end().answer, Answer)
    assert world.machines.events.now_ns >= begun + SECOND


def test_requests_and_answers_are_copies() -> None:
    question, kept = Question([1]), Answer(OK, value=[2])

    def script(machine: int, request: object) -> Answer:
        assert isinstance(request, Question) and request.values == [1]
        request.values.append(machine)
        return kept

    world = Asked(script)
    world.call(question)
    question.values = [1]
    end = world.end()
    assert question.values == [1]
    assert isinstance(end.answer, Answer) and end.answer.value == [2] and end.answer.value is not kept.value


def test_closing_gives_up_what_waits() -> None:
    world = Asked(silent)
    world.call()
    world.run_until(lambda: bool(world.asked))
    world.route.close()
    assert world.ends[0].unknown and not world.machines.network.connections
    world.machines.run_for(2 * SECOND)
    assert world.machines.machines[1].waiting() == 0


def test_an_effect_that_no_machine_knows_is_refused() -> None:
    world = Asked(ok)
    server = world.server(1)
    server.step = lambda now, inputs: ["an effect"]  # type: ignore[method-assign]
    world.call()
    with pytest.raises(NodeRaised, match="no machine takes str"):
        world.end()

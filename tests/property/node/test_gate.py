"""The gate: what an answer rests on, and that nothing leaves a node beside it."""

from __future__ import annotations

import ast
from pathlib import Path

import waymaker_core.node as node_package
from waymaker_core.api.effects import Reply
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import PruneRecord
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.model.types import Token
from waymaker_core.node.changes import Changes
from waymaker_core.node.config import NodeConfig
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.stream_log import StreamLog

NODE = Path(node_package.__file__).parent
GUARDED = {"Reply", "Deliver", "End"}


def test_only_the_gate_makes_answers_deliveries_and_ends() -> None:
    makers = {
        path.relative_to(NODE).as_posix()
        for path in NODE.rglob("*.py")
        for found in ast.walk(ast.parse(path.read_text()))
        if isinstance(found, ast.Call) and isinstance(found.func, ast.Name) and found.func.id in GUARDED
    }
    assert makers == {"gate.py"}


class Logs:
    """A gate before two logs, whose records are decided, made durable, committed and applied by hand."""

    def __init__(self) -> None:
        self.state = NodeState(NodeConfig(), Catalog(Limits()), 0, {}, Changes())
        self.gate = Gate(self.state)
        self.first, self.second = StreamLog(1, 0), StreamLog(2, 7)

    def decide(self, log: StreamLog) -> tuple[StreamLog, int]:
        log.decide("", PruneRecord(), [], 0, 0)
        return log.last

    def apply(self, log: StreamLog) -> None:
        log.made_durable(log.entries[0])
        log.committed += 1
        assert log.take_applicable() is not None
        self.gate.open(log)

    def sent(self) -> list[int]:
        return [effect.token for effect in self.state.effects if isinstance(effect, Reply)]


def test_an_answer_waits_for_its_own_log_only() -> None:
    logs = Logs()
    logs.gate.answer(Token(1), Answer(OK), logs.decide(logs.first))
    logs.gate.answer(Token(2), Answer(OK), logs.decide(logs.second))
    assert logs.sent() == []
    logs.apply(logs.second)
    assert logs.sent() == [2]
    logs.gate.answer(Token(3), Answer(OK), logs.second.last)
    assert logs.sent() == [2, 3]
    logs.apply(logs.first)
    assert logs.sent() == [2, 3, 1]


def test_an_answer_that_rests_on_two_logs_leaves_with_the_later_commit() -> None:
    for order in (0, 1):
        logs = Logs()
        both = logs.decide(logs.first), logs.decide(logs.second)
        logs.gate.answer(Token(1), Answer(OK), *both)
        logs.apply((logs.first, logs.second)[order])
        assert logs.sent() == []
        logs.apply((logs.second, logs.first)[order])
        assert logs.sent() == [1]


def test_an_answer_that_comes_from_another_log_is_not_held_up_by_later_ones() -> None:
    logs = Logs()
    early = logs.decide(logs.second)
    logs.gate.answer(Token(1), Answer(OK), logs.decide(logs.first), early)
    logs.gate.answer(Token(2), Answer(OK), logs.decide(logs.second))
    logs.apply(logs.first)
    logs.apply(logs.second)
    assert logs.sent() == [1]
    logs.apply(logs.second)
    assert logs.sent() == [1, 2]

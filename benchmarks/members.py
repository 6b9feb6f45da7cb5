"""CPU of the core, without I/O: one node, or three members that replicate, driven by a loop with instant disks and links.

`python -m benchmarks.members` prints what a message costs all nodes together, in microseconds of CPU. `--profile` shows where
it goes. `--steps` prints what each kind of step costs that one awaited publish needs. It moves no bytes to a disk or a socket,
so it says nothing about latency.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import statistics
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from waymaker_core.api.effects import Job, Reply
from waymaker_core.api.inputs import Call, JobDone
from waymaker_core.api.requests import CreateStream, Publish
from waymaker_core.cluster.effects import FromPeer, ToPeer
from waymaker_core.cluster.member import Member, open_member
from waymaker_core.cluster.peer_messages import Beat, frames_of
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.disk_ops import DiskOp, ListDir, OpResult
from waymaker_core.model.limits import MIB, Limits
from waymaker_core.model.message_codec import plain_body
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.model.types import ANYONE, Now, Token
from waymaker_core.node import NodeConfig, open_node

MS: Final = 1_000_000
PUBLISHES: Final = 2_000
"""Publishes, one after the other, whose steps are measured."""
LIMITS: Final = Limits(checkpoint_journal_bytes=1 << 40, checkpoint_records=1 << 40)
"""No checkpoint: it reads bodies, and these disks have none."""


@dataclass(slots=True)
class Load:
    """Publishes of one client: `streams` in turn, `batch` messages of `size` bytes in each call, `flight` calls at a time."""

    name: str
    streams: int
    batch: int
    size: int
    flight: int
    calls: int


LOADS: Final = (
    Load("one stream, batches of 256, 128 B", 1, 256, 128, 24, 2_000),
    Load("one stream, single messages, 128 B", 1, 1, 128, 256, 40_000),
    Load("one stream, batches of 16, 16 KiB", 1, 16, 16 * 1024, 16, 1_500),
    Load("1,000 streams, single messages, 128 B", 1_000, 1, 128, 1_000, 40_000),
)


@dataclass(slots=True)
class Driven:
    """One node, with its inputs of the next round."""

    number: int
    server: Any
    inputs: list[Any] = field(default_factory=list)


class Loop:
    """Nodes driven in rounds of a virtual millisecond: what a round asks of disks and links is there in the next one."""

    def __init__(self, count: int) -> None:
        self.now = 0
        self.replies: dict[int, object] = {}
        self._tokens = 0
        members = tuple(range(1, count + 1)) if count > 1 else ()
        self.nodes = [Driven(number, _opened(number, members)) for number in members or (1,)]

    def round(self, *, only_due: bool = False) -> int:
        """Let each node take one step, or each that has an input or a deadline; return the number of steps."""
        self.now += MS
        now = Now(self.now, 1_700_000_000_000 + self.now // MS)
        nodes = [node for node in self.nodes if not only_due or node.inputs or node.server.next_deadline() <= self.now]
        outs = [(node, node.server.step(now, _taken(node))) for node in nodes]
        for node, effects in outs:
            self.perform(node, effects)
        return len(outs)

    def perform(self, node: Driven, effects: list[Any]) -> None:
        """Give each node what the effects of a step bring it."""
        for effect in effects:
            kind = type(effect)
            if kind is Job:
                node.inputs.append(JobDone(effect.id, [_result(op) for op in effect.ops]))
            elif kind is ToPeer:
                self.nodes[effect.to - 1].inputs.append(FromPeer(node.number, effect.data))
            elif kind is Reply:
                self.replies[effect.token] = effect.answer

    def call(self, node: Driven, request: Any) -> int:
        """Make a call; return its token."""
        self._tokens += 1
        node.inputs.append(Call(Token(self._tokens), ANYONE, request))
        return self._tokens

    def ask(self, node: Driven, request: Any) -> bool:
        """Make a call, and run until it is answered; return True if that is ok."""
        token = self.call(node, request)
        for _ in range(2_000):
            self.round()
            if token in self.replies:
                answer = self.replies.pop(token)
                return isinstance(answer, Answer) and answer.code == OK
        raise AssertionError("a call that nothing answers")


def _taken(node: Driven) -> list[Any]:
    inputs, node.inputs = node.inputs, []
    return inputs


def _opened(number: int, members: tuple[int, ...]) -> Any:
    config = NodeConfig(number, number.to_bytes(16, "big"), LIMITS)
    opening: Generator[DiskOp, OpResult, Any] = open_node(config, Now(0, 0))
    if members:
        opening = open_member(replace(config, member=True, members=members), Now(0, 0), number)
    result: OpResult = None
    while True:
        try:
            op = opening.send(result)
        except StopIteration as end:
            return end.value
        result = {} if isinstance(op, ListDir) else _result(op)


def _result(op: DiskOp) -> OpResult:
    return b"" if type(op).__name__ in {"Read", "ReadChunk"} else None


def _leader(loop: Loop) -> Driven:
    """Return the node that takes creations."""
    for _ in range(5_000):
        for node in loop.nodes:
            if not isinstance(node.server, Member) or node.server.leads_catalog:
                return node
        loop.round()
    raise AssertionError("no node leads the catalog")


def prepare(count: int, load: Load) -> tuple[Loop, dict[str, Driven]]:
    """Return a loop with streams, and the node that leads each."""
    loop = Loop(count)
    leader = _leader(loop)
    names = [f"s{number}" for number in range(load.streams)]
    for name in names:
        while not loop.ask(leader, CreateStream(StreamConfig(name))):
            pass
    for _ in range(500):
        loop.round()
    if count == 1:
        return loop, dict.fromkeys(names, leader)
    ids = {each.name: each.stream_id for each in leader.server.node.log_figures()}
    leads = {name: [n for n in loop.nodes if n.server.replicas.leads_stream(ids[name])] for name in names}
    return loop, {name: nodes[0] for name, nodes in leads.items()}


def run(loop: Loop, leads: dict[str, Driven], load: Load) -> float:
    """Publish, and return the seconds of CPU."""
    body = plain_body("subject", bytes(load.size))
    names, open_calls, sent = list(leads), set[int](), 0
    subjects, sizes, lengths = ["subject"] * load.batch, [load.size] * load.batch, [len(body)] * load.batch
    bodies = body * load.batch
    loop.replies.clear()
    gc.freeze()  # as a server does after its start
    begun = time.process_time()
    while sent < load.calls or open_calls:
        while sent < load.calls and len(open_calls) < load.flight:
            name = names[sent % len(names)]
            open_calls.add(loop.call(leads[name], Publish(name, subjects, sizes, lengths, bodies)))
            sent += 1
        loop.round()
        for token, answer in loop.replies.items():
            assert isinstance(answer, Answer) and answer.code == OK, answer
            open_calls.discard(token)
        loop.replies.clear()
    return time.process_time() - begun


def idle(streams: int, seconds: int) -> tuple[float, float]:
    """Return the milliseconds of CPU, and the steps, that three idle members with many streams take together in a second."""
    loop, _ = prepare(3, Load("idle", streams, 1, 1, 1, 0))
    for _ in range(3_000):
        loop.round()
    spent, steps = 0.0, 0
    end = loop.now + seconds * 1_000 * MS
    while loop.now < end:
        due = min(node.server.next_deadline() for node in loop.nodes)
        if not any(node.inputs for node in loop.nodes):
            loop.now = max(loop.now, due - MS)
        begun = time.process_time()
        steps += loop.round(only_due=True)
        spent += time.process_time() - begun
    return spent / seconds * 1_000, steps / seconds


# ------------------------------------------------------------------------------------ step by step


class Steps:
    """Members that take one input a step, as a lone caller's do, and the time of each kind of step.

    `spent`: by the part that a member has in the publish, and the input, the nanoseconds of each step.
    """

    def __init__(self, loop: Loop, primary: Driven) -> None:
        self._loop = loop
        self._primary = primary
        self.spent: dict[tuple[str, str], list[int]] = {}

    def settle(self) -> None:
        """Let each member take its steps, one input at a time, until no input waits."""
        loop = self._loop
        while any(node.inputs for node in loop.nodes):
            for node in loop.nodes:
                if node.inputs:
                    self.step(node, [node.inputs.pop(0)])
                if node.server.next_deadline() == 0:
                    self.step(node, [], "left over")

    def step(self, node: Driven, inputs: list[Any], kind: str = "") -> None:
        """Let one member take a step, a tenth of a virtual millisecond later, and measure it with the look at its deadline."""
        loop = self._loop
        loop.now += MS // 10
        now = Now(loop.now, 1_700_000_000_000 + loop.now // MS)
        begun = time.perf_counter_ns()
        effects = node.server.step(now, inputs)
        node.server.next_deadline()
        took = time.perf_counter_ns() - begun
        part = "primary" if node is self._primary else "follower"
        answers = any(type(each) is Reply for each in effects)
        kind = kind or type(inputs[0]).__name__ + ", answers" * answers
        self.spent.setdefault((part, kind), []).append(took)
        loop.perform(node, effects)


def by_steps(count: int, publishes: int) -> Steps:
    """Publish one message after the other, and measure each step; then steps with a heartbeat, and without an input."""
    load = Load("by steps", 1, 1, 128, 1, 0)
    loop, leads = prepare(count, load)
    (name, primary), body = *leads.items(), plain_body("subject", bytes(load.size))
    steps = Steps(loop, primary)
    gc.freeze()
    for _ in range(publishes):
        token = loop.call(primary, Publish(name, ["subject"], [load.size], [len(body)], body))
        steps.settle()
        answer = loop.replies.pop(token)
        assert isinstance(answer, Answer) and answer.code == OK, answer
    for _ in range(publishes):
        for node in loop.nodes:
            steps.step(node, [], "idle")
        if count > 1:
            other = next(node for node in loop.nodes if node is not primary)
            steps.step(primary, [FromPeer(other.number, next(frames_of([Beat(other.number)])))], "heartbeat")
    return steps


def print_steps(publishes: int) -> None:
    """Print the steps of one publish, the median of each kind, and all together: for one node, and for three members."""
    for count in (1, 3):
        steps = by_steps(count, publishes)
        total = 0.0
        print(f"{count} node" + "s" * (count > 1))
        for (part, kind), spent in sorted(steps.spent.items()):
            middle = statistics.median(spent)
            share = len(spent) / publishes if kind not in ("idle", "heartbeat") else 0.0
            total += middle * share
            print(f"  {part:10} {kind:18} {middle / 1e3:8.1f} us, {share:5.2f} a publish")
        print(f"  all, one publish: {total / 1e3:.1f} us")


def main() -> None:
    """Run all loads with one node and with three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="show where three members spend the time of each load")
    parser.add_argument("--only", default="", help="loads whose name has this")
    parser.add_argument("--steps", action="store_true", help="what each step costs that one awaited publish needs")
    args = parser.parse_args()
    if args.steps:
        print_steps(PUBLISHES)
        return
    for load in LOADS:
        if args.only not in load.name:
            continue
        figures = []
        for count in (1, 3):
            loop, leads = prepare(count, load)
            best = min(run(loop, leads, load) for _ in range(1 if args.profile else 3))
            figures.append(best / load.calls / load.batch * 1e6)
        mib = load.calls * load.batch * load.size / MIB
        print(f"{load.name:40} one node {figures[0]:8.2f} us/message, three members {figures[1]:8.2f} ({mib:.0f} MiB)")
        if args.profile:
            loop, leads = prepare(3, load)
            profile = cProfile.Profile()
            profile.runcall(run, loop, leads, load)
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    if args.only in "idle":
        spent, steps = idle(1_000, 20)
        print(f"{'1,000 idle streams':40} three members {spent:8.2f} ms of CPU and {steps:.0f} steps a second")


if __name__ == "__main__":
    main()

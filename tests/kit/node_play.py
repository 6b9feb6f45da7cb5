"""Playbooks: what goes into a node and what comes out, line by line, as a story that fails where it departs.

    with Play(server) as play:
        play.tell("#1", publish("s", ("a", b"x")))
        play.expect('''
            job 1 JOURNAL write journal, sync journal
        ''')
        play.done(1)
        play.expect('''
            reply #1 ok published 1..1
        ''')

Effects come out in order, one a line. A story ends complete: effects that were not expected, or jobs that were neither done
nor failed, fail it, with a difference that can be read.
"""

from __future__ import annotations

import difflib
import textwrap
from types import TracebackType

from tests.kit.node_kit import Server
from waymaker_core.api.effects import (
    ConfChanged,
    Confirm,
    Declined,
    Deliver,
    Effect,
    End,
    Event,
    Halt,
    Job,
    Kept,
    Log,
    PieceStored,
    Placed,
    Replicate,
    Reply,
    TransferEnded,
)
from waymaker_core.api.inputs import Call, Input, JobFailed
from waymaker_core.api.requests import Messages, Published, Request
from waymaker_core.model.disk_ops import (
    CopyChunks,
    CreateFile,
    Delete,
    DiskFailure,
    DiskOp,
    FailureKind,
    ListDir,
    Read,
    ReadChunk,
    Rename,
    SyncDir,
    SyncFile,
    Write,
)
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import ANYONE, Token


class Play:
    """One story over a server that is at rest. Jobs wait until the story says how they end."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.lines: list[str] = []
        self.jobs: dict[int, Job] = {}
        self._first_job: int | None = None

    def __enter__(self) -> Play:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.expect("")
            assert not self.jobs, f"jobs that never ended: {list(self.jobs.values())}"

    # ------------------------------------------------------------ in

    def step(self, *inputs: Input) -> None:
        """Step once."""
        for effect in self.server.node.step(self.server.now(), list(inputs)):
            self._note(effect)

    def tell(self, *calls: tuple[int, Request]) -> None:
        """Send calls with their tokens, in one step."""
        self.step(*[Call(Token(token), ANYONE, request) for token, request in calls])

    def pass_ms(self, ms: int) -> None:
        """Let time pass, in one step."""
        self.server.mono_ns += ms * 1_000_000
        self.server.wall_ms += ms
        self.step()

    def done(self, number: int) -> None:
        """Perform a job and report its end."""
        self.step(self.server.do(self.jobs.pop(number)))

    def fail(self, number: int, kind: FailureKind, op: type[DiskOp]) -> None:
        """Fail a job at its first operation of a kind; the ones before it are performed."""
        job = self.jobs.pop(number)
        at = next(index for index, one in enumerate(job.ops) if isinstance(one, op))
        for one in job.ops[:at]:
            self.server.disk.perform(one)
        path = getattr(job.ops[at], "path", "")
        self.step(JobFailed(job.id, DiskFailure(kind, path, 0, "as told", at)))

    # ------------------------------------------------------------ out

    def expect(self, story: str) -> None:
        """Require exactly these effects since the last time, in this order. `...` at a line's end stands for its rest."""
        wanted = [line for line in textwrap.dedent(story).strip().splitlines() if line.strip()]
        found, self.lines = self.lines, []
        shown = [
            line if i >= len(wanted) or not _fits(line, wanted[i].strip()) else wanted[i].strip()
            for i, line in enumerate(found)
        ]
        wanted = [line.strip() for line in wanted]
        if shown != wanted:
            difference = "\n".join(difflib.unified_diff(wanted, shown, "expected", "came out", lineterm="", n=99))
            raise AssertionError("the node told another story:\n" + difference)

    def _note(self, effect: Effect) -> None:
        if isinstance(effect, Job):
            if self._first_job is None:
                self._first_job = effect.id - 1
            number = effect.id - self._first_job
            self.jobs[number] = effect
            self.lines.append(f"job {number} {effect.lane.name} {', '.join(_op(op) for op in effect.ops)}".strip())
        elif not isinstance(effect, Log):
            self.lines.append(_line(effect))
        else:
            self.lines.append(f"log {effect.level} {effect.event}")


def _fits(line: str, wanted: str) -> bool:
    return line == wanted or (wanted.endswith("...") and line.startswith(wanted[:-3]))


def _op(op: DiskOp) -> str:
    match op:
        case Write() | SyncFile() | CopyChunks() | CreateFile() | Delete() | Read():
            return f"{type(op).__name__.lower()} {_where(op.path)}"
        case ReadChunk():
            return f"readchunk {_where(op.chunk.path)}"
        case SyncDir() | ListDir():
            return f"{type(op).__name__.lower()} {op.folder or '.'}"
        case Rename():
            return f"rename {_where(op.target)}"


def _where(path: str) -> str:
    return path.partition("/")[0]


def _line(effect: Effect) -> str:
    match effect:
        case Reply():
            return f"reply {effect.token} {_answer(effect.answer)}"
        case Deliver():
            return f"deliver {effect.token} {_messages(effect.messages)}"
        case Event():
            return f"event {effect.token} {effect.kind.name} {effect.stream} {effect.consumer}".rstrip()
        case End():
            refusal = f" {_answer(effect.refusal)}" if effect.refusal is not None else ""
            return f"end {effect.token} {effect.reason}{refusal}".rstrip()
        case Placed():
            return f"placed {effect.stream_id} to {effect.position}"
        case Replicate():
            return f"replicate {effect.stream_id} to {effect.position}"
        case Confirm():
            return f"confirm {effect.stream_id} question {effect.question}"
        case PieceStored() | TransferEnded():
            return f"{type(effect).__name__} {effect.transfer}"
        case ConfChanged():
            return f"conf changed {effect.stream_id}"
        case Kept() | Declined():
            return f"{type(effect).__name__} {effect.ask}"
        case Halt():
            return f"halt {'clean' if effect.clean else 'unclean'}"
    raise AssertionError(effect)


def _answer(answer: Answer | Refusal) -> str:
    if isinstance(answer, Refusal):
        outcome = answer.outcome.value if answer.outcome is not None else "unknown"
        return f"refused {answer.status.name} {outcome} {answer.code}".rstrip()
    match answer.value:
        case Published() as published:
            failures = "".join(
                f", {index}: {code}({seq})" for index, (code, _, seq) in sorted((published.failures or {}).items())
            )
            last = published.first_seq + published.count - 1
            accepted = f"{published.first_seq}..{last}" if published.count else "nothing"
            return f"{answer.code} published {accepted}{failures}"
        case Messages() as messages:
            return f"{answer.code} {_messages(messages)}"
        case _:
            return answer.code


def _messages(messages: Messages) -> str:
    runs = [
        f"{run.sequences()[begin]}..{run.sequences()[end - 1]}"
        + (f" x{run.deliver_count}" if run.deliver_count else "")
        for run in messages.runs
        for begin, end in run.stretches()
    ]
    return ", ".join(runs) or "nothing"

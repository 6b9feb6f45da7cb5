"""The digest of a run: one line for every step, chained into one hash, so that two runs can be compared and the first
difference found.

A line holds time, node, inputs and effects. It holds nothing that may differ between two identical runs: no addresses,
no hashes of the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from zlib import crc32

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
    RecordsRead,
    Replicate,
    Reply,
    SnapshotPiece,
    TransferEnded,
)
from waymaker_core.api.inputs import (
    Append,
    Call,
    Cancel,
    Confirmed,
    Credit,
    Cut,
    Drain,
    EndReading,
    EndTransfer,
    Enrol,
    Input,
    InstallCatalog,
    JobDone,
    JobFailed,
    KeepDoubts,
    KeepVote,
    Lead,
    NextPiece,
    PieceArrived,
    PrepareMove,
    Promise,
    ReadRecords,
    ReceiveSnapshot,
    Replicated,
    Report,
    SendSnapshot,
    StepDown,
    Unreadable,
)
from waymaker_core.api.requests import Messages, Published
from waymaker_core.model.disk_ops import CopyChunks, DiskOp, Write
from waymaker_core.model.result_codes import Answer
from waymaker_core.model.types import Now
from waymaker_core.storage.checkpoint.deferred import FrameParts


class Digest:
    """The digest of a run so far: `hex`. With `keep_lines` its lines can be read, too."""

    def __init__(self, keep_lines: bool = False) -> None:
        self.lines: list[str] = []
        self.steps = 0
        self._keep = keep_lines
        self._hash = blake2b(digest_size=16)

    def step(self, node: int, now: Now, inputs: Sequence[Input], effects: Sequence[Effect]) -> None:
        """Add one step of one node."""
        received = "; ".join(describe_input(item) for item in inputs)
        emitted = "; ".join(describe_effect(effect) for effect in effects)
        self.add(f"{now.mono_ns} {now.wall_ms} node {node}: {received} => {emitted}")

    def add(self, line: str) -> None:
        """Add any other line that must be the same."""
        self.steps += 1
        if self._keep:
            self.lines.append(line)
        self._hash.update(line.encode())
        self._hash.update(b"\n")

    def hex(self) -> str:
        """Return the digest so far."""
        return self._hash.hexdigest()


def first_difference(one: Sequence[str], other: Sequence[str]) -> str:
    """Describe, for people, where two runs first differ."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return f"step {index + 1}:\n  {a}\n  {b}"
    return f"one run has {len(one)} steps, the other {len(other)}"


def describe_input(item: Input) -> str:
    """Describe one input in a few words."""
    match item:
        case Call():
            request = item.request
            target = getattr(request, "stream", getattr(request, "name", ""))
            return f"call {item.token} {type(request).__name__} {target}"
        case Cancel():
            return f"cancel {item.token}"
        case Credit():
            return f"credit {item.token} {item.messages} {item.bytes}"
        case JobDone():
            return f"done {item.id}"
        case JobFailed():
            return f"failed {item.id} {item.failure}"
        case Unreadable():
            return f"unreadable {item.token} {item.failure}"
        case Replicated():
            return f"replicated {item.stream_id} {item.position}"
        case Confirmed():
            return f"confirmed {item.stream_id} {item.question}"
        case StepDown() | Lead() | PrepareMove():
            return f"{type(item).__name__} {item.stream_id}"
        case Append():
            return f"append {item.ask} {item.stream_id} {item.first} {len(item.records)}"
        case Cut():
            return f"cut {item.ask} {item.stream_id} {item.position}"
        case Promise():
            return f"promise {item.ask} {item.epoch} {list(item.stream_ids)}"
        case KeepVote():
            return f"vote {item.ask} {item.term} {item.vote}"
        case KeepDoubts():
            return f"doubts {item.ask} {list(item.doubts)}"
        case Enrol():
            return f"enrol {item.ask} {item.stream_id} {item.since} {item.log_epoch}"
        case InstallCatalog():
            return f"install catalog {item.ask} {item.position} {len(item.state)}"
        case SendSnapshot() | NextPiece() | ReceiveSnapshot() | PieceArrived() | EndTransfer():
            return f"{type(item).__name__} {item.transfer}"
        case ReadRecords():
            return f"read records {item.stream_id} {item.reader} {item.first}"
        case EndReading():
            return f"end reading {item.stream_id} {item.reader}"
        case Report():
            return f"report {item.token} {item.count} {item.back}"
        case Drain():
            return "drain"


def describe_effect(effect: Effect) -> str:
    """Describe one effect in a few words."""
    match effect:
        case Job():
            return f"job {effect.id} {effect.lane.name} [{', '.join(describe_op(op) for op in effect.ops)}]"
        case Reply():
            return f"reply {effect.token} {_describe_answer(effect)}"
        case Deliver():
            return f"deliver {effect.token} {_describe_messages(effect.messages)}"
        case Event():
            return f"event {effect.token} {effect.kind.name} {effect.stream} {effect.consumer} {effect.lagged}"
        case End():
            return f"end {effect.token} {effect.reason} {effect.refusal!r}"
        case ConfChanged():
            return f"conf changed {effect.stream_id}"
        case Placed():
            return f"placed {effect.stream_id} {effect.position}"
        case Replicate():
            return f"replicate {effect.stream_id} {effect.position}"
        case Kept():
            return f"kept {effect.ask}"
        case Declined():
            return f"declined {effect.ask} {effect.reason}"
        case Confirm():
            return f"confirm {effect.stream_id} {effect.question}"
        case SnapshotPiece() | PieceStored() | TransferEnded():
            return f"{type(effect).__name__} {effect.transfer}"
        case RecordsRead():
            count = -1 if effect.records is None else len(effect.records)
            return f"records read {effect.stream_id} {effect.reader} {effect.first} {count}"
        case Log():
            return f"log {effect.event} {sorted(effect.fields.items())}"
        case Halt():
            return f"halt {effect.reason} {effect.clean}"


def describe_op(op: DiskOp) -> str:
    """Describe one disk operation in a few words."""
    if isinstance(op, Write) and isinstance(op.parts, FrameParts):
        return f"Write {op.path} {op.offset} frames that are encoded when they are written"
    if isinstance(op, Write):
        data = b"".join(op.parts)
        return f"Write {op.path} {op.offset} {len(data)} {crc32(data):08x}"
    if isinstance(op, CopyChunks):
        return f"CopyChunks {op.path} {op.offset} {op.sources}"
    fields = " ".join(str(getattr(op, name)) for name in type(op).__match_args__)
    return f"{type(op).__name__} {fields}"


def _describe_answer(reply: Reply) -> str:
    answer = reply.answer
    if not isinstance(answer, Answer):
        return f"{answer.status.name} {answer.outcome}"
    value = answer.value
    if isinstance(value, Messages):
        return f"{answer.code} {_describe_messages(value)}"
    if isinstance(value, Published):
        return f"{answer.code} {value.first_seq}+{value.count} {value.failures or ''}"
    return answer.code


def _describe_messages(messages: Messages) -> str:
    return " ".join(
        f"{run.sequences()[begin]}+{end - begin}x{run.deliver_count}@{run.chunk.path}"
        for run in messages.runs
        for begin, end in run.stretches()
    )

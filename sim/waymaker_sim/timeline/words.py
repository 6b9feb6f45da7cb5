"""Calls, answers and disk operations in words: the text of a line of a timeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from waymaker_core.api.requests import (
    Ack,
    ConsumerInfo,
    CreateConsumer,
    CreateStream,
    Fetch,
    ListSubjects,
    Page,
    Publish,
    Published,
    ReadLatest,
    ReadRange,
    Request,
    ScanSubject,
    StreamInfo,
    Subscribe,
    UpdateStream,
)
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, StreamConfig
from waymaker_core.model.disk_ops import (
    CopyChunks,
    CreateFile,
    Delete,
    DiskOp,
    ListDir,
    Read,
    ReadChunk,
    Rename,
    SyncDir,
    SyncFile,
    Write,
)
from waymaker_core.model.result_codes import Answer, Outcome, Refusal
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.machine.process import ReceivedMessage

NAMED_MAX = 6
"""Number of subjects, sequences or names that are listed one by one; the others are counted."""


def seconds(at_ns: int) -> str:
    """Return virtual time to the microsecond."""
    return f"{at_ns // SECOND}.{at_ns % SECOND // 1000:06d}"


def duration(ns: int) -> str:
    """Return a span of time in a unit that fits."""
    if ns >= SECOND:
        return f"{_short(ns / SECOND)} s"
    return f"{_short(ns / MS)} ms" if ns < 100 * MS else f"{ns / MS:.0f} ms"


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def sequences(seqs: Iterable[int]) -> str:
    """Return sequences in order, runs joined."""
    runs: list[list[int]] = []
    for seq in seqs:
        if runs and seq == runs[-1][1] + 1:
            runs[-1][1] = seq
        else:
            runs.append([seq, seq])
    texts = [str(first) if first == last else f"{first}..{last}" for first, last in runs]
    return _listed(texts)


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - NAMED_MAX} more" if len(texts) > NAMED_MAX else ""
    return ", ".join(texts[:NAMED_MAX]) + more


def target_of(request: Request) -> tuple[str, str]:
    """Return the stream and consumer that a request names; empty where it names none."""
    if isinstance(request, CreateStream):
        return request.config.name, ""
    if isinstance(request, CreateConsumer):
        return request.stream, request.config.name
    stream = getattr(request, "stream", "") or getattr(request, "name", "")
    return str(stream), str(getattr(request, "consumer", ""))


def describe_request(request: Request) -> str:
    """Describe one call in a few words."""
    stream, consumer = target_of(request)
    name = f"{stream}/{consumer}" if consumer else stream
    match request:
        case Publish():
            return f"publish to {name}: {_listed([_one(request, index) for index in range(len(request.subjects))])}"
        case Fetch():
            return f"fetch {request.batch_size or 'the default'} from {name}"
        case Ack():
            later = f" for {request.delay_ms} ms" if request.delay_ms else ""
            return f"{request.kind.name.lower().replace('_', ' ')} {sequences(request.seqs)} of {name}{later}"
        case Subscribe():
            return f"subscribe to {name}" + (" until it is empty" if request.stop_when_empty else "")
        case ReadRange():
            return f"read {request.limit} of {name} from {request.from_seq}"
        case ReadLatest():
            return f"latest of {name} at {request.subject}"
        case ScanSubject():
            return f"scan {name} at {request.subject} from {request.from_seq}, {request.limit} at most"
        case ListSubjects():
            return f"subjects of {name} below {request.prefix!r}"
        case CreateStream():
            return f"create stream {name}: {_stream(request.config)}"
        case CreateConsumer():
            return f"create consumer {name}: {_consumer(request.config)}"
        case UpdateStream():
            return f"update stream {name}: {_settings(request)}"
        case _:
            return _spaced(type(request).__name__) + (f" {name}" if name else "")


def brief_request(request: Request) -> str:
    """Describe a call by its verb and its target."""
    stream, consumer = target_of(request)
    name = f"{stream}/{consumer}" if consumer else stream
    match request:
        case Publish():
            verb = "publish to"
        case Fetch():
            verb = "fetch from"
        case Ack():
            verb = f"{request.kind.name.lower().replace('_', ' ')} {sequences(request.seqs)} of"
        case Subscribe():
            verb = "subscription to"
        case ReadRange():
            verb = f"read from {request.from_seq} of"
        case _:
            verb = _spaced(type(request).__name__)
    return f"{verb} {name}".strip()


def printable(text: str) -> str:
    """Return a text from a run as it may be shown: all that is not plainly visible is spelled out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _spaced(name: str) -> str:
    return "".join(" " + char.lower() if char.isupper() else char for char in name).strip()


def _one(request: Publish, index: int) -> str:
    expected = request.expected[index] if request.expected is not None else -1
    return request.subjects[index] + (f" (expects {expected})" if expected >= 0 else "")


def _stream(config: StreamConfig) -> str:
    texts = [config.retention.name.lower().replace("_", " ")]
    for name in ("max_msgs", "max_bytes", "max_age_ms", "max_msgs_per_subject", "max_msg_bytes", "block_size"):
        if getattr(config, name):
            texts.append(f"{name} {getattr(config, name)}")
    texts += [name.replace("_", " ") for name in ("strict_limits", "ephemeral") if getattr(config, name)]
    if config.subjects_filter:
        texts.append("subjects " + " ".join(config.subjects_filter))
    return ", ".join(texts)


def _consumer(config: ConsumerConfig) -> str:
    texts = [f"ack wait {config.ack_wait_ms} ms", f"{config.max_deliver} deliveries at most"]
    if config.policy is DeliveryPolicy.BY_START_SEQ:
        texts.append(f"from {config.start_seq}")
    elif config.policy is not DeliveryPolicy.ALL:
        texts.append(f"from the {config.policy.name.lower()}")
    for name in ("filter_subject", "deliver_group", "dead_letter_subject"):
        if getattr(config, name):
            texts.append(f"{name.replace('_', ' ')} {getattr(config, name)}")
    return ", ".join(texts)


def _settings(request: UpdateStream) -> str:
    names = ("max_age_ms", "max_msgs", "max_bytes", "max_msg_bytes", "strict_limits")
    return ", ".join(f"{name} {getattr(request, name)}" for name in names if getattr(request, name) is not None)


# ---------------------------------------------------------------- answers


def describe_answer(answer: Answer | Refusal, got: list[ReceivedMessage] | None) -> str:
    """Describe one answer in a few words."""
    if isinstance(answer, Refusal):
        outcome = "it may have happened" if answer.outcome is Outcome.UNKNOWN else "not applied"
        return f"refused, {answer.status.name}: {answer.message} ({outcome})"
    if got is not None:
        return f"{answer.code}: {describe_messages(got)}"
    value = answer.value
    if isinstance(value, Published):
        return f"{answer.code}: {_published(value)}"
    if isinstance(value, StreamInfo):
        stats = value.stats
        return (
            f"{answer.code}: first {stats.first_seq}, last {stats.last_seq}, {stats.msg_count} messages, "
            f"{stats.bytes:,} bytes, id {value.stream_id}"
        )
    if isinstance(value, ConsumerInfo):
        return f"{answer.code}: {_consumer_info(value)}"
    if isinstance(value, Page):
        return f"{answer.code}: {_listed([_entry(entry) for entry in value.entries]) or 'none'}"
    return answer.code + (f": {answer.message}" if answer.message else "")


def describe_messages(got: list[ReceivedMessage]) -> str:
    """Describe messages by sequence; repeated deliveries are marked."""
    if not got:
        return "nothing"
    again = [f"{message.seq} ({message.delivery}. time)" for message in got if message.delivery > 1]
    first = [message.seq for message in got if message.delivery <= 1]
    return ", ".join(part for part in (_listed(again), sequences(first)) if part)


def _published(value: Published) -> str:
    texts = [sequences(range(value.first_seq, value.first_seq + value.count))] if value.count else []
    for index, (code, _, actual) in (value.failures or {}).items():
        texts.append(f"message {index + 1}: {code}" + (f", the last there is {actual}" if actual else ""))
    return _listed(texts) or "nothing placed"


def _consumer_info(info: ConsumerInfo) -> str:
    return (
        f"floor {info.ack_floor}, last delivered {info.last_delivered}, {info.pending} pending, "
        f"{info.redelivered_dropped} dropped"
    )


def _entry(entry: object) -> str:
    return f"{entry.config.name} (floor {entry.ack_floor})" if isinstance(entry, ConsumerInfo) else str(entry)


# ---------------------------------------------------------------- the disk


def describe_op(op: DiskOp) -> str:
    """Describe one disk operation in a few words."""
    match op:
        case Write():
            return f"write {sum(len(part) for part in op.parts):,} bytes at {op.offset:,} of {op.path}"
        case CopyChunks():
            return f"copy {len(op.sources)} chunks to {op.path}"
        case CreateFile():
            return f"create {op.path}"
        case SyncDir():
            return f"sync the names in {op.folder or 'the root'}"
        case Rename():
            return f"rename {op.source} to {op.target}"
        case Delete():
            return f"delete {op.path}"
        case ReadChunk():
            return f"read {op.chunk.length:,} bytes at {op.chunk.offset:,} of {op.chunk.path}"
        case Read():
            return f"read {op.length:,} bytes at {op.offset:,} of {op.path}"
        case ListDir():
            return f"list {op.folder or 'the root'}"
        case _:
            return f"sync {op.path}"


def describe_ops(ops: Sequence[DiskOp]) -> str:
    """Describe a job: its operations, alike ones joined."""
    texts: list[str] = []
    before: DiskOp | None = None
    alike = 0
    for op in ops:
        if type(op) is type(before) and not isinstance(op, Rename):
            alike += 1
            continue
        _add_alike(texts, alike)
        same = isinstance(op, SyncFile) and not alike and op.path == getattr(before, "path", "")
        texts.append("sync it" if same else describe_op(op))
        before, alike = op, 0
    _add_alike(texts, alike)
    return _listed(texts)


def _add_alike(texts: list[str], alike: int) -> None:
    if alike:
        texts[-1] += f" and {alike} alike"

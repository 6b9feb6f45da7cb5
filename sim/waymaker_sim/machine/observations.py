"""Observations: everything that a client can read of a node, and the differences of two of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from waymaker_core.api.requests import (
    ConsumerInfo,
    GetStreamInfo,
    ListConsumers,
    ListStreams,
    ListSubjects,
    Page,
    ReadRange,
    Request,
    StreamInfo,
    StreamStats,
)
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_core.model.message_codec import decode_body
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.machine.process import ReceivedMessage

PAGE = 5
"""Messages read at once: no world's page is smaller."""


@dataclass(slots=True)
class SeenConsumer:
    """A consumer's durable figures."""

    config: ConsumerConfig
    floor: int
    dropped: int
    pending: int


@dataclass(slots=True)
class SeenStream:
    """Everything a client can see of a stream."""

    config: StreamConfig
    stats: tuple[int, int, int, int]
    stream_id: int
    created_ms: int
    messages: list[ReceivedMessage]
    subjects: list[str]
    consumers: dict[str, SeenConsumer] = field(default_factory=dict)


Seen = dict[str, SeenStream | str]
"""Streams by name; a text where the stream is quarantined."""


class Asker:
    """Makes one call after the other. `ask` returns the answer and its messages."""

    def ask(self, request: Request) -> tuple[Answer | Refusal, list[ReceivedMessage] | None]:
        raise NotImplementedError


def observe(asker: Asker) -> Seen:
    """Read everything."""
    seen: Seen = {}
    for name in _names(asker):
        seen[name] = _observe_stream(asker, name)
    return seen


def _names(asker: Asker) -> list[str]:
    names: list[str] = []
    while True:
        page = _page(asker, ListStreams(names[-1] if names else "", 3))
        names += page.entries
        if not page.next_after:
            return names


def _page(asker: Asker, request: Request) -> Page[Any]:
    answer, _ = asker.ask(request)
    if not isinstance(answer, Answer) or not isinstance(answer.value, Page):
        violated("progress", f"at rest {type(request).__name__} ended with {answer!r}")
    return answer.value


def _observe_stream(asker: Asker, name: str) -> SeenStream | str:
    answer, _ = asker.ask(GetStreamInfo(name))
    if isinstance(answer, Refusal):
        if answer.status is Status.DATA_LOSS:
            return answer.message
        violated("progress", f"at rest the info of {name} ended with {answer!r}")
    require(answer.code == outcomes.OK and isinstance(answer.value, StreamInfo), "progress", f"{name}: {answer!r}")
    info = answer.value
    assert isinstance(info, StreamInfo)
    messages: list[ReceivedMessage] = []
    while True:
        page, got = asker.ask(ReadRange(name, messages[-1].seq + 1 if messages else 1, PAGE))
        if isinstance(page, Refusal) and page.status is Status.DATA_LOSS:
            return page.message
        if got is None:
            violated("progress", f"at rest a read of {name} ended with {page!r}")
        messages += got
        if not got:
            break
    subjects = _subjects(asker, name)
    seen = SeenStream(info.config, figures(info.stats), info.stream_id, info.created_ms, messages, subjects)
    after = ""
    while True:
        page2 = _page(asker, ListConsumers(name, after, 4))
        entry: ConsumerInfo
        for entry in page2.entries:
            seen.consumers[entry.config.name] = SeenConsumer(
                entry.config, entry.ack_floor, entry.redelivered_dropped, entry.pending
            )
        after = page2.next_after
        if not after:
            return seen


def _subjects(asker: Asker, name: str) -> list[str]:
    subjects: list[str] = []
    while True:
        page = _page(asker, ListSubjects(name, "", subjects[-1] if subjects else "", 3))
        subjects += page.entries
        if not page.next_after:
            return subjects


def growing(seen: Seen) -> set[str]:
    """Return the streams that a node may add to by itself: those that copy, and those of their letters."""
    streams = [stream for stream in seen.values() if isinstance(stream, SeenStream) and stream.config.sources]
    return {each.config.name for each in streams} | {
        source.dlq_stream for each in streams for source in each.config.sources if source.dlq_stream
    }


def up_to(stream: SeenStream, last_seq: int) -> SeenStream:
    """Return a stream without what was added behind a sequence. Its bytes are those of the bodies."""
    messages = [message for message in stream.messages if message.seq <= last_seq]
    stats = stream.stats[0], min(stream.stats[1], last_seq), len(messages), sum(len(each.body) for each in messages)
    subjects = sorted({decode_body(each.body)[0] for each in messages})
    return replace(stream, stats=stats, messages=messages, subjects=subjects)


def losses(before: Seen, after: Seen) -> str:
    """Return the differences of two observations, but for what was added meanwhile to streams that copy."""
    one, other = dict(before), dict(after)
    for name in growing(before):
        a, b = one.get(name), other.get(name)
        if isinstance(a, SeenStream) and isinstance(b, SeenStream):
            one[name], other[name] = up_to(a, a.stats[1]), up_to(b, a.stats[1])
    return differences(one, other)


def differences(one: Seen, other: Seen) -> str:
    """Return the differences of two observations with a restart in between, for people; empty if they agree.

    Ephemeral streams are left out: each start empties them.
    """
    found: list[str] = []
    for name in sorted({*one, *other}):
        a, b = one.get(name), other.get(name)
        if isinstance(a, SeenStream) and isinstance(b, SeenStream):
            if a.config.ephemeral:
                continue
            found += [f"{name}.{what}" for what in _fields(a, b)]
        elif a != b:
            found.append(f"{name}: {type(a).__name__} and {type(b).__name__}")
    return "; ".join(found[:5])


def _fields(a: SeenStream, b: SeenStream) -> list[str]:
    found = [
        f"{name}: {getattr(a, name)} and {getattr(b, name)}"
        for name in ("config", "stats", "stream_id", "created_ms", "subjects")
        if getattr(a, name) != getattr(b, name)
    ]
    if a.messages != b.messages:
        parted = next((i for i, (x, y) in enumerate(zip(a.messages, b.messages, strict=False)) if x != y), -1)
        found.append(f"messages: {len(a.messages)} and {len(b.messages)}, first difference at {parted}")
    for name in sorted({*a.consumers, *b.consumers}):
        if a.consumers.get(name) != b.consumers.get(name):
            found.append(f"{name}: {a.consumers.get(name)} and {b.consumers.get(name)}")
    return found


def figures(stats: StreamStats) -> tuple[int, int, int, int]:
    """Return what a restart must not change of a stream's figures."""
    return stats.first_seq, stats.last_seq, stats.msg_count, stats.bytes

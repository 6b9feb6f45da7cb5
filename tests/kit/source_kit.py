"""Streams with sources for tests: settings in few words, and what a copy says of its original."""

from __future__ import annotations

from tests.kit.node_kit import Server, publish
from waymaker_core.api import requests as rq
from waymaker_core.model.config import OnDrop, SourceConfig, SubjectTransform
from waymaker_core.model.message_codec import decode_body
from waymaker_core.sources import copies


def source(
    name: str = "a", rule: tuple[str, str] | None = None, *, skip: bool = False, **settings: object
) -> SourceConfig:
    """Make a source; `skip`: it goes on where messages were pruned before they were copied."""
    return SourceConfig(
        name,
        subject_transform=None if rule is None else SubjectTransform(*rule),
        on_drop=OnDrop.SKIP_TO_FIRST_AVAILABLE if skip else OnDrop.HALT,
        **settings,  # type: ignore[arg-type]
    )


class Copy:
    """One message of a stream with sources: where it stands, what it holds, and what its headers say."""

    def __init__(self, seq: int, body: bytes) -> None:
        self.seq = seq
        self.subject, headers, self.payload = decode_body(body)
        self.headers = dict(headers)
        self.stream = self.headers.get(copies.STREAM, "")
        self.source_seq = int(self.headers.get(copies.SEQ, "0"))


class SourceServer(Server):
    """A server with a few words more about sources."""

    def copies(self, stream: str = "b") -> list[Copy]:
        """Return every live message of a stream."""
        found: list[Copy] = []
        after = 1
        while True:
            token = self.ask(rq.ReadRange(stream, after, 1_000))
            value = self.replies[token].value  # type: ignore[union-attr]
            assert isinstance(value, rq.Messages)
            for run in value.runs:
                data, at = run.bodies_in(self._chunk(run.chunk)), 0
                for seq, length in zip(run.sequences(), run.lengths, strict=True):
                    found.append(Copy(seq, data[at : at + length]))
                    at += length
            if not value.count:
                return found
            after = found[-1].seq + 1

    def origins(self, stream: str = "b") -> list[int]:
        """Return the sequences of the originals of a stream's copies, in order."""
        return [copy.source_seq for copy in self.copies(stream)]

    def status(self, stream: str = "b", index: int = 0) -> rq.SourceStatus:
        value = self.ok(rq.GetStreamInfo(stream))
        assert isinstance(value, rq.StreamInfo)
        return value.sources[index]

    def send(self, stream: str, count: int, subject: str = "x.y", start: int = 0) -> None:
        """Publish numbered messages."""
        self.ok(publish(stream, *[(subject, b"%d" % number) for number in range(start, start + count)]))

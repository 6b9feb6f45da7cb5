"""An object store for tests: a server in memory, whole objects in and out through the core's requests."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from tests.kit.node_kit import Server
from waymaker_core.api.inputs import Cancel
from waymaker_core.api.object_requests import (
    BeginUpload,
    DeleteObject,
    FinishUpload,
    ListObjects,
    ObjectListing,
    OpenObject,
    ReadChunks,
    UploadChunks,
)
from waymaker_core.api.requests import Page
from waymaker_core.layers.layer import OBJECTS
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.model.types import Token
from waymaker_core.objects.layer import ObjectLayer
from waymaker_core.objects.metadata import Metadata, decode_metadata
from waymaker_core.objects.names import chunk_subject, shared_chunk_subject, stream_name

BUCKET = stream_name("b")


def chunks_of(
    upload: Token, name: str, index: int, chunks: Sequence[bytes], *, dedupe: bool = False, stream: str = BUCKET
) -> UploadChunks:
    """Make the request that stores chunks, as a server does."""
    subjects = [
        shared_chunk_subject(sha256(chunk).digest()) if dedupe else chunk_subject(name, index + place)
        for place, chunk in enumerate(chunks)
    ]
    bodies = [encode_body(subject, (), chunk, Limits())[0] for subject, chunk in zip(subjects, chunks, strict=True)]
    return UploadChunks(stream, upload, index, subjects, [len(chunk) for chunk in chunks], bodies)


class Store:
    """One bucket of a server."""

    def __init__(self, server: Server, stream: str = BUCKET) -> None:
        self.server = server
        self.stream = stream

    @property
    def layer(self) -> ObjectLayer:
        """Return the layer of the bucket."""
        for replica in self.server.node._state.replicas.values():
            if replica.name == self.stream:
                layer = replica.layers.by_kind[OBJECTS]
                assert isinstance(layer, ObjectLayer)
                return layer
        raise AssertionError("no such bucket")

    def begin(self, name: str, *, dedupe: bool = False) -> Token:
        """Begin an upload."""
        token = self.server.ask(BeginUpload(self.stream, name, dedupe))
        answer = self.server.replies[token]
        assert isinstance(answer, Answer) and answer.code == "ok", answer
        return Token(token)

    def finish(self, upload: Token, payload: bytes, count: int) -> Answer | Refusal:
        """End an upload."""
        request = FinishUpload(self.stream, upload, count, 0, sha256(payload).digest(), b"")
        return self.server.call(request)

    def close(self, token: Token) -> None:
        """End what a token has begun."""
        self.server.step(Cancel(token))

    def put(self, name: str, *chunks: bytes, dedupe: bool = False) -> int:
        """Store an object; return its revision."""
        upload = self.begin(name, dedupe=dedupe)
        if chunks:
            self.server.ok(chunks_of(upload, name, 0, chunks, dedupe=dedupe, stream=self.stream))
        answer = self.finish(upload, b"".join(chunks), len(chunks))
        self.close(upload)
        assert isinstance(answer, Answer) and answer.code == "ok", answer
        assert isinstance(answer.value, tuple)
        return int(answer.value[0])

    def open(self, name: str, revision: int = 0) -> tuple[Token, Metadata]:
        """Begin a reading."""
        token = self.server.ask(OpenObject(self.stream, name, revision))
        assert token in self.server.bodies, self.server.replies[token]
        return Token(token), decode_metadata(self.server.bodies[token][0][2])

    def read(self, reading: Token, metadata: Metadata) -> list[bytes]:
        """Return the chunks of an object that is open."""
        ranges, _ = metadata.chunks.covering(0, metadata.chunks.total_bytes, 10_000, 1 << 40)
        if not ranges:
            return []
        return [payload for _, _, payload in self.server.messages(ReadChunks(self.stream, reading, ranges))]

    def get(self, name: str) -> list[bytes]:
        """Return the chunks of an object."""
        reading, metadata = self.open(name)
        try:
            chunks = self.read(reading, metadata)
            assert sha256(b"".join(chunks)).digest() == metadata.sha256
            return chunks
        finally:
            self.close(reading)

    def delete(self, name: str) -> int:
        """Delete an object; return the revision of the tombstone."""
        value = self.server.ok(DeleteObject(self.stream, name))
        assert isinstance(value, tuple)
        return int(value[0])

    def names(self, prefix: str = "", *, include_deleted: bool = False) -> list[str]:
        """Return the names of objects."""
        page = self.server.ok(ListObjects(self.stream, prefix, include_deleted))
        assert isinstance(page, Page)
        return [entry.name for entry in page.entries if isinstance(entry, ObjectListing)]


def bucket(**settings: object) -> Store:
    """Make a server with an empty bucket."""
    server = Server(**settings)  # type: ignore[arg-type]
    server.create(BUCKET)
    return Store(server)

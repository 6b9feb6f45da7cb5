"""One object on its way in: each chunk is hashed, encoded and stored while the next one arrives.

A bounded window of bytes is with the node at a time; the caller is read no faster than the node stores. Chunks that the node
cannot take for the moment are sent again from the first one that it refused, for it stores no chunk before the ones in front.
"""

from __future__ import annotations

import asyncio
from collections import deque
from hashlib import sha256
from typing import Final

from waymaker.server.node_runner import NodeRunner
from waymaker.server.objects.asking import Lease, good
from waymaker_core.api.object_requests import BeginUpload, FinishUpload, UploadChunks
from waymaker_core.model.message_codec import plain_body
from waymaker_core.model.result_codes import Answer, Refusal, RefusedError, Status
from waymaker_core.model.types import Principal
from waymaker_core.objects.names import chunk_subject, shared_chunk_subject, stream_name

WINDOW_BYTES: Final = 4 << 20
"""Bytes of one upload that are with the node at a time; one chunk may be larger."""
WINDOW_CHUNKS: Final = 128
"""Chunks of one upload that are with the node at a time, however small they are."""
HASHED_BYTES: Final = 1 << 20
"""Bytes that are hashed before others have their turn."""
RETRIES: Final = 7
PAUSE_S: Final = 0.02
"""The pause before chunks are sent again that the node had no room for; it doubles each time."""

_Waiting = tuple[UploadChunks, "asyncio.Future[Answer | Refusal]"]


class Upload:
    """An upload in progress. Use: `begin`, `add` for each chunk, `finish`; `close` in any case."""

    def __init__(self, runner: NodeRunner, principal: Principal, bucket: str, name: str, *, dedupe: bool) -> None:
        self._runner = runner
        self._principal = principal
        self._stream = stream_name(bucket)
        self._name = name
        self._dedupe = dedupe
        self._lease = Lease(runner, principal)
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._hash = sha256()
        self.count = 0
        self.total_bytes = 0

    async def begin(self) -> None:
        """Begin. Raises `RefusedError` and `CodeError`, as every step does."""
        await self._lease.begin(BeginUpload(self._stream, self._name, self._dedupe))

    async def add(self, chunk: bytes) -> None:
        """Store the next chunk, which is not empty; wait while as much as may be is on its way."""
        await self._add_to_hash(chunk)
        if self._dedupe:
            subject = shared_chunk_subject(await _hashed(chunk))
        else:
            subject = chunk_subject(self._name, self.count)
        body = plain_body(subject, chunk)
        request = UploadChunks(self._stream, self._lease.token, self.count, [subject], [len(chunk)], [body])
        self.count += 1
        self.total_bytes += len(chunk)
        while self._waiting and (self._waiting_bytes + len(body) > WINDOW_BYTES or len(self._waiting) == WINDOW_CHUNKS):
            await self._confirm_oldest()
        self._waiting.append((request, self._ask(request)))
        self._waiting_bytes += len(body)

    async def _add_to_hash(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        for at in range(0, len(chunk), HASHED_BYTES):
            if at:
                await asyncio.sleep(0)
            self._hash.update(view[at : at + HASHED_BYTES])

    async def sha256(self) -> bytes:
        """Wait until every chunk is stored; return the hash of the whole payload."""
        while self._waiting:
            await self._confirm_oldest()
        return self._hash.digest()

    async def finish(self, chunk_size: int, headers: bytes) -> tuple[int, int]:
        """Make the object visible; return its revision and time."""
        digest = await self.sha256()
        request = FinishUpload(self._stream, self._lease.token, self.count, chunk_size, digest, headers)
        value = good(await self._ask(request)).value
        assert isinstance(value, tuple)
        return value

    def close(self) -> None:
        """End the upload; what it stored and did not finish is collected later."""
        self._lease.end()

    # ------------------------------------------------------------------ within

    def _ask(self, request: UploadChunks | FinishUpload) -> asyncio.Future[Answer | Refusal]:
        future: asyncio.Future[Answer | Refusal] = asyncio.get_running_loop().create_future()

        def answered(answer: Answer | Refusal, _: object) -> None:
            if not future.done():
                future.set_result(answer)

        self._runner.call(self._principal, request, answered)
        return future

    async def _confirm_oldest(self) -> None:
        """Wait until the oldest chunk on its way is stored."""
        pause_s = PAUSE_S
        for _ in range(RETRIES):
            answer = await self._waiting[0][1]
            if not (isinstance(answer, Refusal) and answer.status is Status.RESOURCE_EXHAUSTED):
                break
            # The node refuses those behind it too.
            await asyncio.wait([future for _, future in self._waiting])
            await asyncio.sleep(pause_s)
            pause_s *= 2
            self._waiting = deque([(request, self._ask(request)) for request, _ in self._waiting])
        else:
            answer = await self._waiting[0][1]
        if isinstance(answer, Refusal):
            raise RefusedError(answer)
        request, _ = self._waiting.popleft()
        self._waiting_bytes -= len(request.bodies[0])
        good(answer)


async def _hashed(chunk: bytes) -> bytes:
    made = sha256()
    view = memoryview(chunk)
    for at in range(0, len(chunk), HASHED_BYTES):
        if at:
            await asyncio.sleep(0)
        made.update(view[at : at + HASHED_BYTES])
    return made.digest()

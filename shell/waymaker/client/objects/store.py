"""An object store as programs see it: `store = await wm.objects("bucket")`.

Payloads are hashed here too: an upload compares its hash with the server's, a download the other way round. `timeout` bounds
each step of a transfer, not the whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from os import PathLike, fspath
from pathlib import Path
from typing import Final

from waymaker.client import contract
from waymaker.client.checked import UNSET, Timeout, Whole, flag, text, whole
from waymaker.client.errors import NoSuchObjectError
from waymaker.client.objects.calls import Calls
from waymaker.client.objects.download import Download, get_range, save
from waymaker.client.objects.upload import Chunks, Source, check_source, send_object
from waymaker.client.values import Headers, ObjectEntry, ObjectInfo, ObjectRevision
from waymaker_proto import waymaker_streams_pb2 as pb

CHUNK_BYTES: Final = 1 << 20
CHUNK_BYTES_MAX: Final = 16 << 20
UNARY_BYTES_MAX: Final = 1 << 20
"""Bytes that are sent in one call, with the hash in front."""

OnBytes = Callable[[int], None]


class ObjectStore:
    """The objects of one bucket."""

    def __init__(self, calls: Calls, bucket: str) -> None:
        self.bucket = bucket
        self._calls = calls

    # ------------------------------------------------------------------ in

    async def put(
        self, name: str, source: Source, *, headers: Headers | None = None, chunk_size: Whole = CHUNK_BYTES,
        dedupe: bool = False, on_bytes: OnBytes | None = None, timeout: Timeout = UNSET,
    ) -> ObjectInfo:  # fmt: skip
        """Store an object from bytes, a `Path`, an open file, or an iterable of bytes; it appears whole or not at all.

        With `dedupe`, chunks are stored under the hash of their content, once for all objects of the bucket that contain them.
        """
        check_source(source)
        size = whole("chunk_size", chunk_size, 1, CHUNK_BYTES_MAX)
        start = pb.PutObjectStart(
            bucket=self.bucket, name=text("name", name), chunk_size=size, headers=_headers(headers),
            dedupe=flag("dedupe", dedupe),
        )  # fmt: skip
        if isinstance(source, bytes | bytearray | memoryview) and memoryview(source).nbytes <= UNARY_BYTES_MAX:
            info = await self._put_at_once(start, bytes(source), timeout)
            if on_bytes is not None:
                on_bytes(info.total_bytes)
        else:
            info = await send_object(self._calls, start, Chunks(source, size), on_bytes, timeout)
        return contract.object_info(info)

    async def _put_at_once(self, start: pb.PutObjectStart, payload: bytes, timeout: Timeout) -> pb.ObjectInfo:
        request = pb.PutObjectRequest(
            bucket=start.bucket, name=start.name, payload=payload, chunk_size=start.chunk_size, headers=start.headers,
            sha256=sha256(payload).hexdigest(), dedupe=start.dedupe,
        )  # fmt: skip
        response = await self._calls.unary("PutObject", request, pb.PutObjectResponse, timeout, changes=True)
        return response.info

    async def delete(self, name: str, *, timeout: Timeout = UNSET) -> int:
        """Delete an object; return the revision of its tombstone, 0 where there never was one of that name."""
        request = pb.DeleteObjectRequest(bucket=self.bucket, name=text("name", name))
        response, _ = await self._calls.call(
            "DeleteObject", request, pb.DeleteObjectResponse, timeout, repeatable=False
        )
        return int(response.tombstone_seq)

    # ------------------------------------------------------------------ out

    async def get(self, name: str, *, timeout: Timeout = UNSET) -> bytes:
        """Return a whole object, verified."""
        return b"".join([data async for data in self.read(name, timeout=timeout)])

    async def read(self, name: str, *, timeout: Timeout = UNSET) -> AsyncIterator[bytes]:
        """Yield an object in pieces, one version to its end; a lost connection is taken up again.

        It is verified once the iteration ends without an exception.
        """
        download = Download(self._calls, self.bucket, text("name", name), timeout)
        async for data in download.pieces():
            yield data

    async def get_file(
        self, name: str, path: str | PathLike[str], *, on_bytes: OnBytes | None = None, timeout: Timeout = UNSET
    ) -> ObjectInfo:
        """Download an object into a file, which appears complete and verified; a broken download is taken up again.

        Until then it is in `PATH.REVISION.part`, where the next call finds it. `on_bytes` counts what was there already, too.
        """

        async def find() -> pb.ObjectInfo:
            return await self._find(name, timeout)

        target = Path(fspath(path))
        return contract.object_info(await save(self._calls, self.bucket, name, target, find, on_bytes, timeout))

    async def get_range(
        self, name: str, offset: Whole = 0, length: Whole = 0, *, revision: Whole = 0, timeout: Timeout = UNSET
    ) -> bytes:
        """Return a part of an object, up to 16 MiB: `length` bytes from an offset on, or (0) all the rest.

        `revision` insists on one version: `IncompleteError` where the object has another.
        """
        return await get_range(
            self._calls, self.bucket, text("name", name), whole("offset", offset), whole("length", length),
            whole("revision", revision), timeout,
        )  # fmt: skip

    # ------------------------------------------------------------------ what there is

    async def info(self, name: str, *, timeout: Timeout = UNSET) -> ObjectInfo:
        """Return what is known of an object. NoSuchObjectError where there is none, or where it was deleted."""
        return contract.object_info(await self._find(name, timeout))

    async def _find(self, name: str, timeout: Timeout) -> pb.ObjectInfo:
        request = pb.GetObjectInfoRequest(bucket=self.bucket, name=text("name", name))
        response, _ = await self._calls.call("GetObjectInfo", request, pb.GetObjectInfoResponse, timeout)
        if response.deleted:
            raise NoSuchObjectError(f"the object {name!r} was deleted")
        info: pb.ObjectInfo = response.info
        return info

    async def revisions(self, name: str, *, timeout: Timeout = UNSET) -> list[ObjectRevision]:
        """Return the revisions of an object of which something is known, oldest first, tombstones included."""
        request = pb.ListObjectRevisionsRequest(bucket=self.bucket, name=text("name", name))
        found: list[ObjectRevision] = []
        async for response, _ in self._calls.answers(
            "ListObjectRevisions", request, pb.ListObjectRevisionsResponse, timeout
        ):
            found += map(contract.object_revision, response.revisions)
        return found

    async def list(
        self, prefix: str = "", *, include_deleted: bool = False, timeout: Timeout = UNSET
    ) -> list[ObjectEntry]:
        """Return the objects whose names begin with a prefix, sorted by name."""
        request = pb.ListObjectsRequest(
            bucket=self.bucket,
            name_prefix=text("prefix", prefix),
            include_deleted=flag("include_deleted", include_deleted),
        )
        found: list[ObjectEntry] = []
        async for response, _ in self._calls.answers("ListObjects", request, pb.ListObjectsResponse, timeout):
            found += map(contract.object_entry, response.entries)
        return found


def _headers(headers: Headers | None) -> list[pb.MessageHeader]:
    pairs = [] if headers is None else contract.header_pairs(headers)
    return [pb.MessageHeader(key=key, value=value) for key, value in pairs]

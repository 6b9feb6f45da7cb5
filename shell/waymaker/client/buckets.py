"""Key-value buckets of a client by name, as methods that the client inherits."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from google.protobuf.message import Message as Proto

from waymaker.client import contract
from waymaker.client.checked import UNSET, Timeout, text
from waymaker.client.connection.work import check_result
from waymaker.client.errors import AlreadyExistsError, NoSuchBucketError, NoSuchStreamError, UsageError
from waymaker.client.options import Options
from waymaker.client.placement import Placement
from waymaker.wire.protocol import KV_SERVICE
from waymaker_proto import waymaker_streams_pb2 as pb

if TYPE_CHECKING:
    from waymaker.client.connection.members import Members
    from waymaker.client.key_batches import KeyCaller
    from waymaker.client.kv import BucketSettings, KeyValue

Response = TypeVar("Response", bound=Proto)


class Buckets(Placement):
    """A client that makes handles of its buckets. What stands at the end is the client's own."""

    options: Options
    _connection: Members
    _key_caller: KeyCaller | None = None
    """One for all its handles, so that what they ask of one bucket keeps its order."""

    async def kv(
        self, bucket: str, *, create: bool = False, timeout: Timeout = UNSET, **settings: Unpack[BucketSettings]
    ) -> KeyValue:
        """Return a key-value bucket, the stream `kv:BUCKET`; with `create` it is made where there is none.

        `settings` are those of a bucket that is made: `max_bytes`, `max_messages`, `max_value_size`, `max_age_ms`, `history`
        and `ephemeral`.
        """
        from waymaker.client.key_batches import KeyCaller
        from waymaker.client.kv import KeyValue, KvCalls, bucket_request

        options = self.options
        request, beside = bucket_request(bucket, settings)
        if create:
            path = f"/{KV_SERVICE}/CreateBucket"
            with contextlib.suppress(AlreadyExistsError):
                check_result(await self._unary(path, request, pb.KvCreateBucketResponse, timeout, beside))
        elif settings:
            raise UsageError("settings of a bucket are for one that is made: say create=True")
        else:
            try:
                await self.stream_info("kv:" + text("bucket", bucket), timeout=timeout)
            except NoSuchStreamError:
                raise NoSuchBucketError(f"there is no bucket {bucket!r}") from None
        if self._key_caller is None:
            self._key_caller = KeyCaller(self._connection)
        calls = KvCalls(
            self._key_caller.add, self._deadline, self._call, self._answers, self._channel, tuple(options.metadata or ()),
            options.backoff_first if options.reconnect else None,
        )  # fmt: skip
        return KeyValue(calls, bucket)

    async def delete_bucket(self, bucket: str, *, timeout: Timeout = UNSET) -> None:
        """Delete a key-value bucket with all its keys."""
        request = contract.request(pb.KvDeleteBucketRequest, bucket=bucket)
        await self._call("DeleteBucket", request, pb.KvDeleteBucketResponse, timeout, repeatable=False)

    async def stream_info(self, name: str, *, timeout: Timeout = UNSET) -> Any:
        """Return facts about a stream."""
        raise NotImplementedError

    async def _call(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout, *, repeatable: bool = True,
        after: str = "", limit: int = 0, reports: bool = False, inactive_ms: int = 0,
    ) -> tuple[Response, Any]:  # fmt: skip
        raise NotImplementedError

    def _answers(self, method: str, request: Proto, kind: type[Response], timeout: Timeout) -> AsyncIterator[Any]:
        raise NotImplementedError

    def _deadline(self, timeout: Timeout) -> float | None:
        raise NotImplementedError

    async def _channel(self, timeout: Timeout) -> Any:
        raise NotImplementedError

    async def _unary(
        self, path: str, request: Proto, kind: type[Response], timeout: Timeout, beside: Sequence[tuple[str, str]] = ()
    ) -> Response:
        raise NotImplementedError

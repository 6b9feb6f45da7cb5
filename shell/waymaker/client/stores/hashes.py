"""Hash stores: many hashes by key, each with the manners of a dict whose values are bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TypeVar

from waymaker.client.checked import UNSET, Timeout, Whole, flag, text, whole
from waymaker.client.stores.calling import Caller, parts, texts, value
from waymaker_proto import collections_pb2 as pc
from waymaker_proto import waymaker_streams_pb2 as pb

D = TypeVar("D")


class HashStore:
    """A store of hashes. Made by `Client.hash_store`; `store["key"]` is one hash."""

    def __init__(self, caller: Caller, name: str) -> None:
        self.name = name
        self._caller = caller

    def __getitem__(self, key: str) -> Hash:
        return Hash(self._caller, self.name, text("key", key))

    async def create(self, *, max_bytes: Whole = 0, ephemeral: bool = False, timeout: Timeout = UNSET) -> None:
        """Make the store. It refuses what would make it larger than `max_bytes`; 0: no bound. AlreadyExistsError."""
        request = pb.CreateHashStoreRequest(
            name=self.name, max_bytes=whole("max_bytes", max_bytes), ephemeral=flag("ephemeral", ephemeral)
        )
        await self._caller._call_service(
            "CreateHashStore", request, pb.CreateHashStoreResponse, timeout, repeatable=False
        )

    async def delete(self, *, timeout: Timeout = UNSET) -> None:
        """Delete the store with all its hashes. NoSuchBucketError."""
        request = pb.DeleteHashStoreRequest(name=self.name)
        await self._caller._call_service(
            "DeleteHashStore", request, pb.DeleteHashStoreResponse, timeout, repeatable=False
        )


class Hash:
    """One hash of a store. It is there as long as it has a field; none has to be created or deleted."""

    def __init__(self, caller: Caller, store: str, key: str) -> None:
        self.store = store
        self.key = key
        self._caller = caller

    async def set(self, field: str, value_: bytes, *, timeout: Timeout = UNSET) -> int:
        """Set a field, and return its revision once it is on disk."""
        request = pb.HashSetRequest(
            bucket=self.store, hash_key=self.key, field=text("field", field), value=value("a field's value", value_)
        )
        response = await self._caller._call_service(
            "HashSet", request, pb.HashSetResponse, timeout, repeatable=False
        )  # fmt: skip
        return response.revision

    async def update(self, fields: Mapping[str, bytes], *, timeout: Timeout = UNSET) -> None:
        """Set many fields. Up to 4,096 of them and 4 MiB are one write, all or none; more go in parts, in order."""
        given = [(text("a field", name), value(f"field {name!r}", each)) for name, each in fields.items()]
        for part in parts(given, lambda item: len(item[0]) + len(item[1])):
            request = pc.HashSetManyRequest(
                bucket=self.store,
                hash_key=self.key,
                fields=[name for name, _ in part],
                values=[each for _, each in part],
            )
            await self._caller._call_service(
                "HashSetMany", request, pc.HashSetManyResponse, timeout, repeatable=False
            )  # fmt: skip

    async def get(self, field: str, default: D | None = None, *, timeout: Timeout = UNSET) -> bytes | D | None:
        """Return a field's value, or `default`."""
        request = pb.HashGetRequest(bucket=self.store, hash_key=self.key, field=text("field", field))
        response = await self._caller._call_service("HashGet", request, pb.HashGetResponse, timeout)
        return response.value if response.HasField("value") else default

    async def get_many(self, fields: Iterable[str], *, timeout: Timeout = UNSET) -> dict[str, bytes]:
        """Return the values of those fields that have one."""
        found: dict[str, bytes] = {}
        for part in parts(texts("fields", fields), len):
            request = pc.HashGetManyRequest(bucket=self.store, hash_key=self.key, fields=part)
            response = await self._caller._call_service("HashGetMany", request, pc.HashGetManyResponse, timeout)
            found |= {entry.field: entry.value for entry in response.entries}
        return found

    async def contains(self, field: str, *, timeout: Timeout = UNSET) -> bool:
        """Return True if a field has a value."""
        request = pb.HashExistsRequest(bucket=self.store, hash_key=self.key, field=text("field", field))
        response = await self._caller._call_service("HashExists", request, pb.HashExistsResponse, timeout)
        return response.exists

    async def delete(self, *fields: str, timeout: Timeout = UNSET) -> int:
        """Delete fields, and return how many of them had a value."""
        deleted = 0
        for part in parts(texts("fields", fields), len, bytes_max=64 << 10):
            request = pc.HashDeleteManyRequest(bucket=self.store, hash_key=self.key, fields=part)
            response = await self._caller._call_service(
                "HashDeleteMany", request, pc.HashDeleteManyResponse, timeout, repeatable=False
            )
            deleted += response.deleted
        return deleted

    async def clear(self, *, timeout: Timeout = UNSET) -> int:
        """Delete all fields that the hash has now, and return how many there were."""
        return await self.delete(*[field async for field in self.keys(timeout=timeout)], timeout=timeout)

    async def keys(self, *, timeout: Timeout = UNSET) -> AsyncIterator[str]:
        """Yield the fields, in the order of their escaped form."""
        request = pb.HashFieldsRequest(bucket=self.store, hash_key=self.key)
        async for page in self._caller._service_pages("HashFields", request, pb.HashFieldsResponse, timeout):
            for field in page.fields:
                yield field

    async def items(self, *, timeout: Timeout = UNSET) -> AsyncIterator[tuple[str, bytes]]:
        """Yield the fields with their values, in the same order."""
        request = pb.HashGetAllRequest(bucket=self.store, hash_key=self.key)
        async for page in self._caller._service_pages("HashGetAll", request, pb.HashGetAllResponse, timeout):
            for entry in page.entries:
                yield entry.field, entry.value

    async def copy(self, *, timeout: Timeout = UNSET) -> dict[str, bytes]:
        """Return the whole hash as a dict."""
        return {field: each async for field, each in self.items(timeout=timeout)}

    def __aiter__(self) -> AsyncIterator[str]:
        return self.keys()

    async def len(self, *, timeout: Timeout = UNSET) -> int:
        """Return how many fields there are."""
        request = pb.HashLenRequest(bucket=self.store, hash_key=self.key)
        response = await self._caller._call_service("HashLen", request, pb.HashLenResponse, timeout)
        return response.count

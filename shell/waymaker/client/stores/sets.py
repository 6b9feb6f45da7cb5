"""Set stores: many sets by key, each with the manners of a set of strings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from waymaker.client.checked import UNSET, Timeout, Whole, flag, text, whole
from waymaker.client.stores.calling import Caller, parts, texts
from waymaker_proto import collections_pb2 as pc
from waymaker_proto import waymaker_streams_pb2 as pb


class SetStore:
    """A store of sets. Made by `Client.set_store`; `store["key"]` is one set."""

    def __init__(self, caller: Caller, name: str) -> None:
        self.name = name
        self._caller = caller

    def __getitem__(self, key: str) -> Members:
        return Members(self._caller, self.name, text("key", key))

    async def create(self, *, max_bytes: Whole = 0, ephemeral: bool = False, timeout: Timeout = UNSET) -> None:
        """Make the store. It refuses what would make it larger than `max_bytes`; 0: no bound. AlreadyExistsError."""
        request = pb.CreateSetStoreRequest(
            name=self.name, max_bytes=whole("max_bytes", max_bytes), ephemeral=flag("ephemeral", ephemeral)
        )
        await self._caller._call_service(
            "CreateSetStore", request, pb.CreateSetStoreResponse, timeout, repeatable=False
        )

    async def delete(self, *, timeout: Timeout = UNSET) -> None:
        """Delete the store with all its sets. NoSuchBucketError."""
        request = pb.DeleteSetStoreRequest(name=self.name)
        await self._caller._call_service(
            "DeleteSetStore", request, pb.DeleteSetStoreResponse, timeout, repeatable=False
        )


class Members:
    """One set of a store. It is there as long as it has a member; none has to be created or deleted."""

    def __init__(self, caller: Caller, store: str, key: str) -> None:
        self.store = store
        self.key = key
        self._caller = caller

    async def add(self, member: str, *, timeout: Timeout = UNSET) -> None:
        """Add a member, if it is not there."""
        request = pb.SetAddRequest(bucket=self.store, set_key=self.key, member=text("member", member))
        await self._caller._call_service("SetAdd", request, pb.SetAddResponse, timeout, repeatable=False)

    async def update(self, members: Iterable[str], *, timeout: Timeout = UNSET) -> int:
        """Add many members, and return how many were not there. Up to 4,096 are one write, all or none."""
        added = 0
        for part in parts(texts("members", members), len):
            request = pc.SetAddManyRequest(bucket=self.store, set_key=self.key, members=part)
            response = await self._caller._call_service(
                "SetAddMany", request, pc.SetAddManyResponse, timeout, repeatable=False
            )
            added += response.added
        return added

    async def discard(self, *members: str, timeout: Timeout = UNSET) -> int:
        """Remove members, and return how many were there."""
        removed = 0
        for part in parts(texts("members", members), len, bytes_max=64 << 10):
            request = pc.SetRemoveManyRequest(bucket=self.store, set_key=self.key, members=part)
            response = await self._caller._call_service(
                "SetRemoveMany", request, pc.SetRemoveManyResponse, timeout, repeatable=False
            )
            removed += response.removed
        return removed

    async def remove(self, member: str, *, timeout: Timeout = UNSET) -> None:
        """Remove a member. KeyError where it is not there."""
        if not await self.discard(member, timeout=timeout):
            raise KeyError(member)

    async def contains(self, member: str, *, timeout: Timeout = UNSET) -> bool:
        """Return True if a member is there."""
        request = pb.SetIsMemberRequest(bucket=self.store, set_key=self.key, member=text("member", member))
        response = await self._caller._call_service("SetIsMember", request, pb.SetIsMemberResponse, timeout)
        return response.is_member

    async def members(self, *, timeout: Timeout = UNSET) -> AsyncIterator[str]:
        """Yield the members, in the order of their escaped form."""
        request = pb.SetMembersRequest(bucket=self.store, set_key=self.key)
        async for page in self._caller._service_pages("SetMembers", request, pb.SetMembersResponse, timeout):
            for member in page.members:
                yield member

    async def copy(self, *, timeout: Timeout = UNSET) -> set[str]:
        """Return the whole set."""
        return {member async for member in self.members(timeout=timeout)}

    def __aiter__(self) -> AsyncIterator[str]:
        return self.members()

    async def clear(self, *, timeout: Timeout = UNSET) -> int:
        """Remove all members that the set has now, and return how many there were."""
        return await self.discard(*[member async for member in self.members(timeout=timeout)], timeout=timeout)

    async def len(self, *, timeout: Timeout = UNSET) -> int:
        """Return how many members there are."""
        request = pb.SetLenRequest(bucket=self.store, set_key=self.key)
        response = await self._caller._call_service("SetLen", request, pb.SetLenResponse, timeout)
        return response.count

"""The stores of a client by name, as methods that the client inherits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message as Proto

from waymaker.client.checked import Timeout, text
from waymaker.client.stores.hashes import HashStore
from waymaker.client.stores.queues import Queue
from waymaker.client.stores.sets import SetStore

if TYPE_CHECKING:
    from waymaker.client.stores.sketches import Sketch

Response = TypeVar("Response", bound=Proto)


class Handles:
    """A caller (`calling.Caller`) that makes its stores. Making one sends nothing."""

    def hash_store(self, name: str) -> HashStore:
        """Return a store of hashes by its name."""
        return HashStore(self, text("name", name))

    def set_store(self, name: str) -> SetStore:
        """Return a store of sets by its name."""
        return SetStore(self, text("name", name))

    def queue(self, name: str) -> Queue:
        """Return a queue by its name."""
        return Queue(self, text("name", name))

    def sketch(self, name: str) -> Sketch:
        """Return a sketch by its name."""
        # The parameters of sketches are the core's: who keeps none does not wait for their import.
        from waymaker.client.stores.sketches import Sketch

        return Sketch(self, text("name", name))

    async def _call_service(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout, *, repeatable: bool = True
    ) -> Response:
        """Call a service; see `calling.Caller`."""
        raise NotImplementedError

    def _service_pages(
        self, method: str, request: Proto, kind: type[Response], timeout: Timeout
    ) -> AsyncIterator[Response]:
        """Yield the pages of a service's list; see `calling.Caller`."""
        raise NotImplementedError

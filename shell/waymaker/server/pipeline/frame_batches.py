"""The batches of one frame: calls about keys, entries and sketches, gathered by what they are about, in the order of the frame.

Changes of one stream are decided in the order in which they came. So a change joins the last batch of its stream or begins the
next one, and a call that goes by itself has everything before it asked first (`take_ready`). Reads see what is applied, and
need no order.
"""

from __future__ import annotations

from waymaker.server.grpc.rpcs import Serving
from waymaker.server.pipeline.batch import Batch, BatchedCall
from waymaker.server.pipeline.entry_batches import BATCHED as ENTRY_RPCS
from waymaker.server.pipeline.entry_batches import EntryBatch, entry_call, is_read
from waymaker.server.pipeline.key_batches import GET, KeyBatch, key_call
from waymaker.server.pipeline.sketch_batches import QUERY, SketchBatch, batch_place, sketch_call
from waymaker.wire.guard import WALKED_BYTES_MIN


class FrameBatches:
    """The batches that grow while a frame's calls are taken."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._of_keys: dict[tuple[str, bool], KeyBatch] = {}
        self._of_entries: dict[tuple[str, str], EntryBatch] = {}
        """The last batch of each store: of its changes, and of each kind of read."""
        self._of_sketches: dict[tuple[str, object], SketchBatch] = {}
        self._ready: list[Batch] = []

    def take(self, id_: int, method: str, data: bytes) -> bool:
        """Take a call into a batch; return False for one that goes by itself."""
        if len(data) > WALKED_BYTES_MIN:
            return False
        if (call := key_call(id_, method, data, self._serving.limits)) is not None:
            self._add_about_key(call)
        elif (call := entry_call(id_, method, data, self._serving)) is not None:
            self._add_about_entry(call)
        elif (call := sketch_call(id_, method, data, self._serving)) is not None:
            self._add_about_sketch(call)
        else:
            return False
        return True

    def take_ready(self) -> list[Batch]:
        """Return the batches so far, in order; later calls begin new ones."""
        ready, self._ready = self._ready, []
        self._of_keys.clear()
        self._of_entries.clear()
        self._of_sketches.clear()
        return ready

    def _add_about_key(self, call: BatchedCall) -> None:
        place = (call.request.bucket, call.method == GET)
        batch = self._of_keys.get(place)
        if batch is None or not batch.has_room(call.size):
            batch = self._of_keys[place] = KeyBatch(*place)
            self._ready.append(batch)
        batch.add_call(call)

    def _add_about_entry(self, call: BatchedCall) -> None:
        reads = is_read(call)
        place = (call.request.stream, call.method if reads else "")
        batch = self._of_entries.get(place)
        if batch is None or not batch.takes(call):
            batch = self._of_entries[place] = EntryBatch(ENTRY_RPCS[call.method], reads, self._serving)
            self._ready.append(batch)
        batch.add_call(call)

    def _add_about_sketch(self, call: BatchedCall) -> None:
        place = batch_place(call)
        batch = self._of_sketches.get(place)
        if batch is None or not batch.takes(call):
            batch = self._of_sketches[place] = SketchBatch(call.method == QUERY, self._serving)
            self._ready.append(batch)
        batch.add_call(call)

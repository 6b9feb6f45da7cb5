"""Counters of a node, which only grow, and gauges, which are set. Metrics read them at any time.

Figures of single streams and consumers are not kept here. They are computed on demand (`Node.stream_figures`,
`Node.consumer_figures`), so that counting costs nothing on the hot paths.
"""

from __future__ import annotations

SYNC_LATENCY_BOUNDS_US = (100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600, 1_638_400)
"""Upper bounds of the sync latency histogram's buckets; one more bucket holds what is slower."""


class NodeStats:
    """Counters (c) and gauges (g) of one node since it was opened."""

    __slots__ = (
        "calls", "calls_refused", "published_messages", "published_bytes", "publish_failures", "delivered_messages",
        "delivered_bytes", "redelivered_messages", "acked_messages", "termed_messages", "naked_messages",
        "dropped_messages", "objects_stored", "object_chunks_stored", "object_chunks_shared",
        "kv_puts", "kv_gets", "kv_deletes", "kv_touches", "kv_conflicts", "kv_expired",
        "entries_put", "entries_removed", "entries_read", "queue_pushed", "queue_popped",
        "sketch_values_added", "sketch_merges", "sketch_queries",
        "dead_letters", "dead_letters_kept_back", "pruned_messages", "clock_corrections",
        "records_committed", "commits",
        "journal_bytes_written", "syncs", "sync_ns_total", "sync_buckets", "commit_retries", "index_loads",
        "index_evictions", "unreadable", "checkpoints", "checkpoint_ns_last", "checkpoint_failures",
        "open_objects", "kv_watches", "streams", "consumers", "subscriptions", "watchers", "parked_calls", "inflight_bytes",
        "pending_records", "journal_bytes", "journal_segments", "index_cache_bytes", "ephemeral_bytes",
        "quarantined_streams", "disk_full", "draining", "recovered_records", "recovered_bytes_cut", "recovered_orphans",
    )  # fmt: skip

    def __init__(self) -> None:
        # -- counters
        self._begin_services()
        self.calls = 0
        """Calls that reached the node."""
        self.calls_refused = 0
        """Calls answered with a `Refusal`."""
        self.published_messages = 0
        """Messages committed by publishes, dead letters and imports not counted."""
        self.published_bytes = 0
        """Stored body bytes of those."""
        self.publish_failures = 0
        """Messages refused one by one (`subject_rejected`, `oversize`, `wrong_revision`)."""
        self.delivered_messages = 0
        self.delivered_bytes = 0
        self.redelivered_messages = 0
        """Deliveries whose count is above 1."""
        self.acked_messages = 0
        self.termed_messages = 0
        self.naked_messages = 0
        self.dropped_messages = 0
        """Messages that consumers dropped after their last delivery."""
        self.dead_letters = 0
        """Those of them that were copied to a dead-letter subject."""
        self.dead_letters_kept_back = 0
        """Times that a message was kept since its dead letter would not stay; each is tried again every second."""
        self.objects_stored = 0
        """Versions of objects whose upload was finished."""
        self.object_chunks_stored = 0
        self.object_chunks_shared = 0
        """Chunks that were not stored, for the bucket had them."""
        self.pruned_messages = 0
        """Messages removed by retention and updates."""
        self.clock_corrections = 0
        """Times that a stream's server time ran too far ahead of the wall clock and was taken back."""
        self.records_committed = 0
        self.commits = 0
        """Batches made durable (with `sync_interval_ms`, written)."""
        self.journal_bytes_written = 0
        self.syncs = 0
        self.sync_ns_total = 0
        """Time from the start of a write with its sync to its end."""
        self.sync_buckets = [0] * (len(SYNC_LATENCY_BOUNDS_US) + 1)
        """Not cumulative: each sync in exactly one bucket of `SYNC_LATENCY_BOUNDS_US`."""
        self.commit_retries = 0
        """Writes tried again because the disk was full."""
        self.index_loads = 0
        self.index_evictions = 0
        self.unreadable = 0
        """Reads that failed."""
        self.checkpoints = 0
        self.checkpoint_ns_last = 0
        self.checkpoint_failures = 0
        # -- gauges
        self.streams = 0
        self.open_objects = 0
        """Uploads and readings of objects."""
        self.kv_watches = 0
        self.consumers = 0
        self.subscriptions = 0
        self.watchers = 0
        self.parked_calls = 0
        """Calls waiting for an index to be read or for an earlier change of their stream to be committed."""
        self.inflight_bytes = 0
        """Publish bytes admitted and not yet committed."""
        self.pending_records = 0
        """Records decided and not yet committed."""
        self.journal_bytes = 0
        """Size of the journal segments that exist."""
        self.journal_segments = 0
        self.index_cache_bytes = 0
        self.ephemeral_bytes = 0
        self.quarantined_streams = 0
        self.disk_full = False
        self.draining = False
        # -- what opening found
        self.recovered_records = 0
        self.recovered_bytes_cut = 0
        self.recovered_orphans = 0

    def _begin_services(self) -> None:
        """Set the counters of keys, stores and sketches to 0."""
        self.kv_puts = 0
        """Values that puts, creates and updates stored."""
        self.kv_gets = 0
        """Keys that were read."""
        self.kv_deletes = 0
        """Values that deletions ended."""
        self.kv_touches = 0
        self.kv_conflicts = 0
        """Changes of keys that were refused as `wrong_revision`."""
        self.kv_expired = 0
        """Values whose time to live ended."""
        self.entries_put = 0
        """Entries of hash and set stores."""
        self.entries_removed = 0
        self.entries_read = 0
        """Entries asked for by name, and those of lists."""
        self.queue_pushed = 0
        self.queue_popped = 0
        self.sketch_values_added = 0
        """Values that clients added; what sources bring is not counted."""
        self.sketch_merges = 0
        self.sketch_queries = 0

    def count_sync(self, elapsed_ns: int) -> None:
        """Count one sync that took this long."""
        self.syncs += 1
        self.sync_ns_total += elapsed_ns
        elapsed_us = elapsed_ns // 1000
        for bucket, bound_us in enumerate(SYNC_LATENCY_BOUNDS_US):
            if elapsed_us <= bound_us:
                self.sync_buckets[bucket] += 1
                return
        self.sync_buckets[-1] += 1

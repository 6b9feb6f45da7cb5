"""Every bound of the system, written down once, with the relations between them asserted.

A limit is configuration: tests and simulations shrink them so that every boundary is crossed in seconds. Sizes are bytes,
times carry their unit in the name.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
U64_MAX = (1 << 64) - 1
SEQ_MAX = (1 << 63) - 1
"""Greatest sequence: signed columns hold it, and no stream gets there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one node. The defaults are those of a production server."""

    # Names and subjects
    name_bytes_max: int = 255
    subject_bytes_max: int = 1024
    subjects_filter_max: int = 1024

    # Messages
    headers_max: int = 72
    header_bytes_max: int = 64 * KIB
    message_bytes_max: int = 16 * MIB
    """Payload and headers of one message, whatever the stream allows."""
    publish_batch_max: int = 65_536
    publish_batch_bytes_max: int = 17 * MIB

    # Streams and consumers
    streams_max: int = 100_000
    consumers_max: int = 10_000
    """Consumers of one stream."""
    sources_max: int = 64
    """Sources of one stream."""
    block_size_default: int = 100_000
    block_size_max: int = 1_000_000
    block_bytes_max: int = 64 * MIB
    """A block's file is split into parts of about this size."""

    # Producers
    producers_max: int = 1_024
    """Producers that one stream remembers: past it, it forgets the one that stored nothing for longest."""
    producer_spans_max: int = 256
    """Spans of consecutive numbers that a stream remembers of one producer: past it, it forgets the lowest numbers."""

    # Delivery
    fetch_default: int = 16
    fetch_max: int = 10_000
    fetch_bytes_max: int = 8 * MIB
    pending_max: int = 1_000_000
    """Unacknowledged deliveries of one consumer; past it only redeliveries are dispatched."""
    ack_batch_max: int = 65_536
    ack_wait_default_ms: int = 30_000
    ack_wait_max_ms: int = 7 * 24 * 3_600_000
    max_deliver_default: int = 5
    inactive_min_ms: int = 1_000
    inactive_max_ms: int = 365 * 24 * 3_600_000
    """Bounds of a consumer's inactivity timeout, where it has one."""
    nak_delay_max_ms: int = 7 * 24 * 3_600_000
    subscription_default: int = 16
    watch_events_max: int = 1024
    """Events kept for one watcher; past it the next event says how many were missed."""

    # Objects
    object_grace_ms: int = 3_600_000
    """The time for which a chunk that no object has is kept: its upload was given up, its object replaced or deleted."""
    object_tombstone_ms: int = 24 * 3_600_000
    """The time for which the name of a deleted object is kept, with its revisions."""
    object_revisions_max: int = 64
    """Revisions of one object whose metadata is kept; only the latest one's payload is."""
    object_chunks_max: int = 1_000_000
    """Chunks of one object."""
    object_map_bytes_max: int = 192 * KIB
    """Bytes that name the chunks of one object: three small numbers for each run of equal chunks that lie together."""
    object_uploads_max: int = 1_000
    """Uploads into one bucket at a time."""
    object_readings_max: int = 10_000
    """Objects of one bucket that are being read at a time."""

    # Lists
    page_entries_max: int = 10_000
    page_bytes_max: int = 8 * MIB
    scan_default: int = 1_000

    # Admission
    inflight_bytes_max: int = 64 * MIB
    """Publish bytes admitted and not yet committed; past it publishes are refused as RESOURCE_EXHAUSTED, not applied."""
    uncommitted_records_max: int = 4_096
    """Records of one stream that are durable here and wait for a majority; past it its changes are refused, not applied."""
    uncommitted_bytes_max: int = 16 * MIB
    """Stored bytes of those records."""
    waiting_answers_max: int = 65_536
    """Answers that wait for a majority, for commits and confirmations; past it calls are refused, not applied."""
    recent_log_bytes_max: int = 4 * MIB
    """Bytes of the last records of one log that a member of a cluster keeps in memory for other replicas."""
    recent_bytes_max: int = 64 * MIB
    """The same of all logs of a node together."""
    parked_calls_max: int = 10_000
    """Calls waiting for a block index to be read."""

    # Time
    clock_ahead_max_ms: int = 3_600_000
    """The lead of a stream's server time over a wall clock that was set back; past it, it is taken back, too."""

    # Store
    segment_bytes: int = 32 * MIB
    segments_spare: int = 1
    """Journal segments allocated ahead: the reserve that lets acks and deletes through on a full disk."""
    checkpoint_journal_bytes: int = 64 * MIB
    """Journal bytes since the last checkpoint that start the next one."""
    checkpoint_records: int = 30_000
    """Records since the last checkpoint that start the next one: a start replays each, however short it is."""
    checkpoint_deferred_subjects: int = 32_768
    """Subjects from which on a stream's snapshot is fixed in a step and encoded by the job that writes it."""
    record_messages_max: int = 4_096
    record_bytes_max: int = 1 * MIB
    """Publishes of one stream that arrive together share a record up to here (a larger single message has its own)."""
    flush_bytes_max: int = 4 * MIB
    """Bytes written between two syncs."""
    index_cache_bytes: int = 64 * MIB
    """Indexes of sealed blocks kept resident."""
    search_entries_max: int = 10_000
    """Index entries that searches look at in one step; past it they continue in later ones, with other work in between."""
    ephemeral_bytes_max: int = 256 * MIB
    """Bytes all ephemeral streams of a node may hold together."""
    sketch_bytes_max: int = 256 * MIB
    """Bytes all sketches of a node may take together, by their parameters; past it none is created."""
    retention_interval_ms: int = 500
    """The interval at which age is judged."""
    disk_retry_ms: int = 1_000
    """Pause before a full disk is tried again."""
    pinned_bytes_max: int = 256 * MIB
    """Released journal segments kept for replicas that catch up; past it, the one that is furthest behind begins anew."""
    pinned_ms_max: int = 60_000
    """Time for which they are kept for a replica that does not move on."""

    def __post_init__(self) -> None:
        assert 0 < self.fetch_default <= self.fetch_max
        assert 0 < self.block_size_default <= self.block_size_max
        assert self.record_bytes_max <= self.flush_bytes_max
        assert self.producers_max > 0 and self.producer_spans_max > 1
        assert self.message_bytes_max <= self.publish_batch_bytes_max <= self.inflight_bytes_max
        assert self.header_bytes_max <= self.message_bytes_max
        assert 0 < self.ack_wait_default_ms <= self.ack_wait_max_ms
        assert 0 < self.inactive_min_ms <= self.inactive_max_ms
        assert self.object_revisions_max > 0 and 0 < self.object_chunks_max <= 10**10, "an index has ten digits"
        assert 0 < self.max_deliver_default < 1 << 32, "a message is delivered at least once"
        assert self.segment_bytes >= 4 * KIB and self.segment_bytes % 512 == 0
        assert self.segments_spare >= 1
        assert self.checkpoint_records >= 1 and self.checkpoint_deferred_subjects >= 0
        assert self.search_entries_max > 0 and self.waiting_answers_max > 0
        assert self.retention_interval_ms <= 1_000, "strict limits promise to judge age at least once a second"

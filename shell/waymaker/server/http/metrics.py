"""Metrics: what the node and its shell count, in Prometheus' words.

Names and meanings stand in the tables below and nowhere else; the reference in `docs/operations.md` is generated from them.
The node counts for itself in plain integers, and the single streams and consumers are asked for their figures when a scraper
looks, so that counting costs nothing on the hot paths. A server with more streams than a scrape should carry leaves the
single ones out and says how many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from waymaker.server.http.call_figures import CallFigures
from waymaker.server.http.cluster_metrics import CLUSTER_METRICS, LANE_METRICS, PEER_METRICS, ClusterCollector
from waymaker.server.http.described import Described
from waymaker.server.logs import lost
from waymaker.server.membership import Membership
from waymaker_core.api.requests import ConsumerInfo, SourceStatus, StreamStats
from waymaker_core.node.service_figures import ServiceFigures
from waymaker_core.node.stats import SYNC_LATENCY_BOUNDS_US, NodeStats

SERIES_MAX: Final = 5_000
"""Streams, and consumers, that a scrape lists one by one."""

_LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


NODE_METRICS: Final = (
    Described("waymaker_node_calls", "counter", "Calls that reached the node.", "calls"),
    Described("waymaker_node_calls_refused", "counter", "Calls that it refused.", "calls_refused"),
    Described("waymaker_published_messages", "counter", "Messages committed by publishes.", "published_messages"),
    Described("waymaker_published_bytes", "counter", "Stored bytes of those messages.", "published_bytes"),
    Described("waymaker_publish_failures", "counter", "Messages refused one by one.", "publish_failures"),
    Described("waymaker_delivered_messages", "counter", "Messages delivered, redeliveries included.", "delivered_messages"),
    Described("waymaker_delivered_bytes", "counter", "Stored bytes of those deliveries.", "delivered_bytes"),
    Described("waymaker_redelivered_messages", "counter", "Deliveries after the first attempt.", "redelivered_messages"),
    Described("waymaker_acked_messages", "counter", "Deliveries acknowledged.", "acked_messages"),
    Described("waymaker_termed_messages", "counter", "Deliveries terminated.", "termed_messages"),
    Described("waymaker_naked_messages", "counter", "Deliveries that clients nacked.", "naked_messages"),
    Described("waymaker_dropped_messages", "counter", "Messages dropped after their last attempt.", "dropped_messages"),
    Described("waymaker_dead_letters", "counter", "Dropped messages copied to a dead-letter subject.", "dead_letters"),
    Described(
        "waymaker_dead_letters_kept_back", "counter",
        "Tries to give a message up that ended with keeping it, since its dead letter would not stay in the stream.",
        "dead_letters_kept_back",
    ),
    Described("waymaker_pruned_messages", "counter", "Messages removed by retention and updates.", "pruned_messages"),
    Described(
        "waymaker_clock_corrections", "counter",
        "Times that a stream's server time ran too far ahead of the wall clock and was taken back.", "clock_corrections",
    ),
    Described("waymaker_objects_stored", "counter", "Uploads of objects that were finished.", "objects_stored"),
    Described("waymaker_object_chunks_stored", "counter", "Chunks of objects that were stored.", "object_chunks_stored"),
    Described("waymaker_object_chunks_shared", "counter", "Chunks that the bucket had already.", "object_chunks_shared"),
    Described("waymaker_open_objects", "gauge", "Uploads and readings of objects under way.", "open_objects"),
    Described("waymaker_kv_puts", "counter", "Values that puts, creates and updates of keys stored.", "kv_puts"),
    Described("waymaker_kv_gets", "counter", "Keys read.", "kv_gets"),
    Described("waymaker_kv_deletes", "counter", "Values of keys that clients deleted.", "kv_deletes"),
    Described("waymaker_kv_touches", "counter", "Times to live of keys that were set anew.", "kv_touches"),
    Described("waymaker_kv_conflicts", "counter", "Changes of keys refused as `wrong_revision`.", "kv_conflicts"),
    Described("waymaker_kv_expired", "counter", "Values of keys whose time to live ended.", "kv_expired"),
    Described("waymaker_kv_watches", "gauge", "Watches of buckets open.", "kv_watches"),
    Described("waymaker_entries_put", "counter", "Entries of hashes and sets stored.", "entries_put"),
    Described("waymaker_entries_removed", "counter", "Entries of hashes and sets removed.", "entries_removed"),
    Described("waymaker_entries_read", "counter", "Entries of hashes and sets looked up or listed.", "entries_read"),
    Described("waymaker_queue_pushed", "counter", "Values pushed to queues.", "queue_pushed"),
    Described("waymaker_queue_popped", "counter", "Values taken from queues.", "queue_popped"),
    Described(
        "waymaker_sketch_values_added", "counter", "Values that clients added to sketches; sources not counted.",
        "sketch_values_added",
    ),
    Described("waymaker_sketch_merges", "counter", "Sketches merged into others.", "sketch_merges"),
    Described("waymaker_sketch_queries", "counter", "Questions that sketches answered.", "sketch_queries"),
    Described("waymaker_records_committed", "counter", "Records of all logs made durable.", "records_committed"),
    Described("waymaker_commits", "counter", "Batches of records made durable.", "commits"),
    Described("waymaker_commit_retries", "counter", "Writes tried again because the disk was full.", "commit_retries"),
    Described("waymaker_journal_written_bytes", "counter", "Bytes written to the journal.", "journal_bytes_written"),
    Described("waymaker_index_loads", "counter", "Block indexes read from disk.", "index_loads"),
    Described("waymaker_index_evictions", "counter", "Block indexes evicted from the cache.", "index_evictions"),
    Described("waymaker_unreadable", "counter", "Reads that failed.", "unreadable"),
    Described("waymaker_checkpoints", "counter", "Checkpoints completed.", "checkpoints"),
    Described("waymaker_checkpoint_failures", "counter", "Checkpoints that failed.", "checkpoint_failures"),
    Described("waymaker_streams", "gauge", "Streams.", "streams"),
    Described("waymaker_consumers", "gauge", "Consumers of all streams.", "consumers"),
    Described("waymaker_subscriptions", "gauge", "Subscriptions open.", "subscriptions"),
    Described("waymaker_watchers", "gauge", "Watches open.", "watchers"),
    Described("waymaker_parked_calls", "gauge", "Calls that wait for an index or for a commit.", "parked_calls"),
    Described("waymaker_inflight_bytes", "gauge", "Publish bytes admitted and not committed yet.", "inflight_bytes"),
    Described("waymaker_gathered_records", "gauge", "Records decided and not committed yet.", "pending_records"),
    Described("waymaker_journal_bytes", "gauge", "Size of the journal's segments.", "journal_bytes"),
    Described("waymaker_journal_segments", "gauge", "Segments of the journal.", "journal_segments"),
    Described("waymaker_index_cache_bytes", "gauge", "Block indexes in memory.", "index_cache_bytes"),
    Described("waymaker_ephemeral_bytes", "gauge", "Messages of ephemeral streams in memory.", "ephemeral_bytes"),
    Described("waymaker_quarantined_streams", "gauge", "Streams not served because of damage.", "quarantined_streams"),
    Described("waymaker_disk_full", "gauge", "1 while the disk lacks room for new publishes or a checkpoint.", "disk_full"),
    Described("waymaker_draining", "gauge", "1 from the request to stop on.", "draining"),
    Described("waymaker_recovered_records", "gauge", "Records replayed at the start.", "recovered_records"),
    Described("waymaker_recovered_cut_bytes", "gauge", "Torn bytes cut off at the start.", "recovered_bytes_cut"),
)  # fmt: skip

SERVICE_METRICS: Final = (
    Described("waymaker_kv_buckets", "gauge", "Buckets of keys.", "kv_buckets"),
    Described(
        "waymaker_kv_keys", "gauge", "Keys of all buckets, those with a tombstone included; some that just went may count.",
        "kv_keys",
    ),
    Described("waymaker_stores", "gauge", "Stores of hashes and of sets.", "stores"),
    Described("waymaker_entries", "gauge", "Entries of all hashes and sets.", "entries"),
    Described("waymaker_queues", "gauge", "Queues.", "queues"),
    Described("waymaker_queue_values", "gauge", "Values that wait in all queues.", "queue_values"),
    Described("waymaker_sketches", "gauge", "Sketches.", "sketches"),
    Described("waymaker_sketch_bytes", "gauge", "Memory that all sketches take, at most.", "sketch_bytes"),
)  # fmt: skip
"""Sums over all streams of a service; `waymaker_stream_messages` and `_bytes` have each one, as `kv:NAME` for instance."""

STREAM_METRICS: Final = (
    Described("waymaker_stream_messages", "gauge", "Messages of a stream.", "msg_count"),
    Described("waymaker_stream_bytes", "gauge", "Bytes of a stream, as its statistics count them.", "bytes"),
    Described("waymaker_stream_blocks", "gauge", "Blocks of a stream.", "block_count"),
    Described("waymaker_stream_last_seq", "gauge", "Last sequence of a stream.", "last_seq"),
)

CONSUMER_METRICS: Final = (
    Described("waymaker_consumer_pending", "gauge", "Deliveries that wait for their answer.", "pending"),
    Described("waymaker_consumer_lag", "gauge", "Sequences between a consumer's floor and its stream's end.", "lag"),
    Described("waymaker_consumer_dropped", "gauge", "Messages a consumer gave up.", "redelivered_dropped"),
)

SOURCE_METRICS: Final = (
    Described("waymaker_source_lag", "gauge", "Sequences of a source that are not copied or passed over yet.", "lag"),
    Described("waymaker_source_last_seq", "gauge", "Sequence up to which a source was copied.", "last_sourced_seq"),
    Described("waymaker_source_pulled", "gauge", "Messages read from a source since the start.", "pulled_total"),
    Described("waymaker_source_trouble", "gauge", "1 while a source's status shows a trouble.", "troubled"),
)

SHELL_METRICS: Final = (
    Described("waymaker_calls", "counter", "Calls answered, by method and gRPC status."),
    Described("waymaker_call_seconds", "histogram", "How long calls took, by method."),
    Described("waymaker_sync_seconds", "histogram", "How long commits took to be written and synced."),
    Described("waymaker_step_seconds", "summary", "How long the node's steps took."),
    Described("waymaker_step_inputs", "counter", "Inputs of those steps."),
    Described("waymaker_loop_lag_seconds", "histogram", "How late the event loop was, four times a second."),
    Described(
        "waymaker_effect_failures", "counter", "Answers, deliveries and jobs whose handling raised: each is a bug."
    ),
    Described("waymaker_log_lines_lost", "counter", "Log lines that could not be written."),
    Described("waymaker_sessions", "gauge", "Pipeline sessions open."),
    Described("waymaker_link_connections", "gauge", "Connections of the native link open.", "connections"),
    Described("waymaker_link_refused", "counter", "Connections of the native link over their bound.", "refused"),
    Described("waymaker_link_received_bytes", "counter", "Bytes received over the native link.", "received_bytes"),
    Described("waymaker_link_sent_bytes", "counter", "Bytes sent over the native link.", "sent_bytes"),
    Described("waymaker_series_omitted", "gauge", "Streams and consumers that this scrape leaves out."),
    Described("waymaker_start_time_seconds", "gauge", "When the server became ready, in seconds since 1970."),
)

_KINDS: Final = {"counter": "_total", "gauge": "", "histogram": "", "summary": ""}


class Figures(Protocol):
    """The part of a node that metrics look at."""

    @property
    def stats(self) -> NodeStats: ...

    def stream_figures(self) -> Iterator[tuple[str, StreamStats]]: ...

    def consumer_figures(self) -> Iterator[tuple[str, ConsumerInfo]]: ...

    def source_figures(self) -> Iterator[SourceStatus]: ...

    def service_figures(self) -> ServiceFigures: ...


class LinkFigures(Protocol):
    """The figures of the native link that metrics look at."""

    connections: int
    refused: int
    received_bytes: int
    sent_bytes: int


class Steps:
    """The node's steps so far, in plain numbers: there are two for every publish of a caller alone."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.inputs = 0


class Metrics:
    """The shell's own counting, and the registry that a scrape reads."""

    def __init__(self, node: Figures, sessions: Callable[[], int], link: LinkFigures) -> None:
        self.registry = CollectorRegistry()
        text = {described.name: described.text for described in SHELL_METRICS}
        self._calls = CallFigures(text["waymaker_calls"], text["waymaker_call_seconds"])
        self.registry.register(self._calls)
        self._steps = Steps()
        self._effect_failures = Counter(
            "waymaker_effect_failures", text["waymaker_effect_failures"], registry=self.registry
        )
        self._lag = Histogram(
            "waymaker_loop_lag_seconds", text["waymaker_loop_lag_seconds"], buckets=_LAG_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        started = Gauge("waymaker_start_time_seconds", text["waymaker_start_time_seconds"], registry=self.registry)
        started.set(time.time())
        gauge = Gauge("waymaker_sessions", text["waymaker_sessions"], registry=self.registry)
        gauge.set_function(lambda: float(sessions()))
        self.registry.register(NodeCollector(node, link, self._steps))
        ProcessCollector(registry=self.registry)

    def add_cluster(self, membership: Membership) -> None:
        """Serve the figures of a member, too."""
        self.registry.register(ClusterCollector(membership))

    def observe(self, method: str, status: str, seconds: float, count: int = 1) -> None:
        """Count calls that were answered together."""
        self._calls.add(method, status, seconds, count)

    def step_took(self, seconds: float, inputs: int) -> None:
        """Count one step of the node."""
        steps = self._steps
        steps.count += 1
        steps.seconds += seconds
        steps.inputs += inputs

    def loop_lagged(self, seconds: float) -> None:
        """Observe how late a timer came."""
        self._lag.observe(seconds)

    def effect_failed(self) -> None:
        """Count an effect that raised where it was performed."""
        self._effect_failures.inc()

    def text(self) -> bytes:
        """Return a scrape."""
        return generate_latest(self.registry)


class NodeCollector(Collector):
    """A collector that turns the node's figures into samples at a scrape."""

    def __init__(self, node: Figures, link: LinkFigures, steps: Steps) -> None:
        self._node = node
        self._link = link
        self._steps = steps

    def collect(self) -> Iterable[Metric]:
        """Yield every sample of the node, its streams and its consumers."""
        stats = self._node.stats
        for described in NODE_METRICS:
            family = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
            yield family(described.name, described.text, value=float(getattr(stats, described.attribute)))
        services = self._node.service_figures()
        for described in SERVICE_METRICS:
            yield GaugeMetricFamily(described.name, described.text, value=float(getattr(services, described.attribute)))
        for described in SHELL_METRICS:
            if described.attribute:
                family = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
                yield family(described.name, described.text, value=float(getattr(self._link, described.attribute)))
        steps = self._steps
        name = "waymaker_step_seconds"
        yield SummaryMetricFamily(name, _text(name), count_value=steps.count, sum_value=steps.seconds)
        yield CounterMetricFamily("waymaker_step_inputs", _text("waymaker_step_inputs"), value=float(steps.inputs))
        yield _sync_seconds(stats)
        yield CounterMetricFamily("waymaker_log_lines_lost", _text("waymaker_log_lines_lost"), value=float(lost.lines))
        omitted = max(0, stats.streams - SERIES_MAX) + max(0, stats.consumers - SERIES_MAX)
        yield GaugeMetricFamily("waymaker_series_omitted", _text("waymaker_series_omitted"), value=float(omitted))
        yield from _families(STREAM_METRICS, ("stream",), _stream_rows(self._node))
        yield from _families(CONSUMER_METRICS, ("stream", "consumer"), _consumer_rows(self._node))
        yield from _families(SOURCE_METRICS, ("stream", "source", "filter"), _source_rows(self._node))

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are not checked against others by asking the node."""
        return ()


def _text(name: str) -> str:
    return next(described.text for described in SHELL_METRICS if described.name == name)


def _sync_seconds(stats: NodeStats) -> Metric:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*SYNC_LATENCY_BOUNDS_US, None), stats.sync_buckets, strict=True):
        total += count
        buckets.append(("+Inf" if bound is None else repr(bound / 1e6), float(total)))
    name = "waymaker_sync_seconds"
    return HistogramMetricFamily(name, _text(name), buckets=buckets, sum_value=stats.sync_ns_total / 1e9)


def _stream_rows(node: Figures) -> Iterator[tuple[list[str], object]]:
    return (([name], stats) for name, stats in islice(node.stream_figures(), SERIES_MAX))


def _consumer_rows(node: Figures) -> Iterator[tuple[list[str], object]]:
    return (([stream, info.config.name], info) for stream, info in islice(node.consumer_figures(), SERIES_MAX))


def _source_rows(node: Figures) -> Iterator[tuple[list[str], object]]:
    """Return a row for each source. One stream may have several on the same stream, told apart by their filters."""
    return (
        ([each.stream, each.source_stream, each.filter_subject], each)
        for each in islice(node.source_figures(), SERIES_MAX)
    )


def _families(
    table: tuple[Described, ...], labels: tuple[str, ...], rows: Iterator[tuple[list[str], object]]
) -> Iterator[Metric]:
    families = [GaugeMetricFamily(described.name, described.text, labels=labels) for described in table]
    for names, figures in rows:
        for described, family in zip(table, families, strict=True):
            family.add_metric(names, float(getattr(figures, described.attribute)))
    yield from families


def reference() -> str:
    """Return the table of metrics as it stands in the documentation."""
    lines = ["| Metric | Kind | Meaning |", "|---|---|---|"]
    tables = (
        NODE_METRICS, SERVICE_METRICS, STREAM_METRICS, CONSUMER_METRICS, SOURCE_METRICS, SHELL_METRICS, CLUSTER_METRICS,
        PEER_METRICS, LANE_METRICS,
    )  # fmt: skip
    for table in tables:
        for described in table:
            lines.append(f"| `{described.name}{_KINDS[described.kind]}` | {described.kind} | {described.text} |")
    return "\n".join(lines) + "\n"

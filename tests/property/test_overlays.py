"""The overlays of decisions: whatever is staged and discarded leaves the state that was there before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.consumer_world import ConsumerWorld, consumer, queue
from tests.kit.stream_bench import Bench
from waymaker_core.api.requests import AckKind, ImportBatch
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import CatalogRecord, ConsumerCreated, StreamDeleted, StreamUpdated
from waymaker_core.model.result_codes import CodeError
from waymaker_core.stream import Stream, admission
from waymaker_core.stream.invariants import check_stream
from waymaker_core.stream.retention import decisions as retention

NAMES = "abcd"
NAME_ACTS = st.lists(st.tuples(st.sampled_from(["create", "delete", "update"]), st.sampled_from(NAMES)), max_size=12)


def decide_names(catalog: Catalog, acts: list[tuple[str, str]]) -> list[CatalogRecord]:
    """Stage what of the acts is possible."""
    records: list[CatalogRecord] = []
    for act, name in acts:
        entry = catalog.find("", name)
        record: CatalogRecord
        if act == "create" and catalog.projected_id("", name) is None:
            record = catalog.decide_create("", StreamConfig(name), 5)
        elif act == "create" or entry is None or catalog.is_deletion_staged(entry):
            continue
        else:
            deleted = act == "delete"
            record = StreamDeleted(entry.stream_id) if deleted else StreamUpdated(entry.stream_id, entry.config)
        catalog.stage(record)
        records.append(record)
    return records


@given(NAME_ACTS, NAME_ACTS, st.integers(0, 12))
def test_the_names_of_streams_are_those_committed_once_the_rest_is_discarded(
    before: list[tuple[str, str]], staged: list[tuple[str, str]], committed: int
) -> None:
    catalog = Catalog(Limits())
    for record in decide_names(catalog, before):
        catalog.apply(record)
    for record in decide_names(catalog, staged)[:committed]:
        catalog.apply(record)
    catalog.discard_uncommitted()
    catalog.check()
    for name in NAMES:
        entry = catalog.find("", name)
        assert catalog.projected_id("", name) == (None if entry is None else entry.stream_id)
        assert entry is None or not catalog.is_deletion_staged(entry)
    catalog.limits = Limits(streams_max=len(NAMES))
    for name in NAMES:
        if catalog.find("", name) is None:
            catalog.apply(catalog.decide_create("", StreamConfig(name), 5))  # the bound counts nothing discarded


STREAM_ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(st.sampled_from("xyz"), min_size=1, max_size=6)),
        st.tuples(st.just("drop"), st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True).map(sorted)),
        st.tuples(st.just("interest"), st.integers(0, 40)),
        st.tuples(st.just("age"), st.integers(900, 1_300)),
        st.tuples(st.just("clock"), st.just(10)),
        st.tuples(st.just("update"), st.sampled_from(["max_msgs", "max_age_ms", "max_bytes"])),
    ),
    max_size=8,
)
SETTINGS = st.sampled_from([{}, {"max_msgs": 6}, {"max_bytes": 40}, {"max_msgs_per_subject": 2}, {"max_age_ms": 100}])


def decide_changes(bench: Bench, acts: list[tuple[str, object]], *, apply: bool) -> None:
    """Stage a decision for each act, and apply its records if asked to."""
    stream = bench.stream
    for step, (act, value) in enumerate(acts):
        wall_ms = 1_000 + 40 * step
        if act == "publish":
            decision = bench.decide(*value, wall_ms=wall_ms)  # type: ignore[misc]
            if apply:
                bench.apply(decision)
        elif act == "drop":
            if apply:
                bench.drop(*value)  # type: ignore[misc]
            else:
                retention.decide_drops(stream, value)  # type: ignore[arg-type]
        elif act == "update":
            setting = str(value)
            config = replace(stream.settings, **{setting: max(5, getattr(stream.settings, setting) // 2)})
            for record in retention.decide_update(stream, config, wall_ms).records:
                if apply:
                    stream.apply(stream.position + 1, record, None)
        else:
            floor = min(int(str(value)), stream.last_seq) if act == "interest" else None
            aged = retention.decide_retention(stream, wall_ms if act == "interest" else int(str(value)), floor)
            if aged is not None and apply:
                stream.apply(stream.position + 1, aged, None)


def overlay_of(stream: Stream) -> tuple[object, ...]:
    """All that a decision can see of what is staged."""
    overlay = stream.overlay
    return (
        overlay.last_seq, overlay.count, overlay.bytes, overlay.clock_ms, overlay.reserved_to,
        overlay.staged, overlay.drops, overlay.blocks, overlay.partial, overlay.corrections,
        stream.settings, [stream.projected_latest(subject) for subject in "xyz"],
        [stream.projected_seqs_at(subject) for subject in "xyz"], stream.is_settled(),
    )  # fmt: skip


@given(SETTINGS, STREAM_ACTS, STREAM_ACTS)
def test_a_stream_and_its_settings_are_those_committed_once_the_rest_is_discarded(
    settings: dict[str, int], before: list[tuple[str, object]], staged: list[tuple[str, object]]
) -> None:
    bench = Bench(strict_limits=True, **settings)
    decide_changes(bench, before, apply=True)
    stream = bench.stream
    stream.discard_uncommitted()
    expected, live = overlay_of(stream), bench.live()
    decide_changes(bench, staged, apply=False)
    check_stream(stream)
    stream.discard_uncommitted()
    check_stream(stream)
    assert overlay_of(stream) == expected and bench.live() == live
    assert stream.is_settled() and stream.settings is stream.config
    bench.publish("x", "y", "z")


def test_an_import_that_is_discarded_gives_its_sequences_back() -> None:
    stream = Bench().stream
    admission.decide_import(stream, ImportBatch(1, [3, 9], [5, 6], ["a", "b"], [1, 1], [1, 1], b"xy"), 1_000)
    stream.importing = True
    admission.decide_import_end(stream, 12)
    stream.discard_uncommitted()
    assert stream.importing and not stream.overlay.import_ended
    assert (stream.overlay.last_seq, stream.overlay.count, stream.overlay.clock_ms) == (0, 0, 0)


CONSUMER_ACTS = st.lists(
    st.tuples(st.sampled_from(["create", "delete"]), st.sampled_from(NAMES), st.sampled_from(["", "g", "h"])),
    max_size=10,
)


def decide_consumers(w: ConsumerWorld, acts: list[tuple[str, str, str]]) -> None:
    """Stage what of the acts is possible."""
    for act, name, group in acts:
        try:
            if act == "delete":
                w.decide(w.consumers.decide_delete(name))
                continue
            # Another `max_deliver` each time: only the first member of a group has the choice.
            config = consumer(name, deliver_group=group, max_deliver=3 if group else 2 + len(w.log) + len(w.overlay))
            record = w.consumers.decide_create(config, w.now_ms).record
        except CodeError:
            continue
        if record is not None:
            w.decide(record)


@given(CONSUMER_ACTS, CONSUMER_ACTS, st.integers(0, 10))
def test_the_consumers_are_those_committed_once_the_rest_is_discarded(
    before: list[tuple[str, str, str]], staged: list[tuple[str, str, str]], committed: int
) -> None:
    w = ConsumerWorld(StreamConfig("s", block_size=7), Limits(block_size_default=7, consumers_max=len(NAMES)))
    decide_consumers(w, before)
    w.commit()
    decide_consumers(w, staged)
    w.check()
    w.commit(committed)
    there = w.consumers.snapshot(w.now)
    w.consumers.discard_uncommitted()
    w.overlay = []
    w.check()
    assert w.consumers.snapshot(w.now) == there
    names = [info.config.name for info in w.consumers.page("", 10, 10**6).entries]
    for name in NAMES:
        if name in names:
            w.consumers.decide_delete(name)
        else:
            record = w.consumers.decide_create(consumer(name), w.now_ms).record
            assert isinstance(record, ConsumerCreated)


ANSWERS = st.lists(
    st.tuples(
        st.sampled_from([AckKind.ACK, AckKind.TERM]), st.lists(st.integers(1, 10), min_size=1, max_size=4, unique=True)
    ),
    max_size=6,
)


@pytest.mark.parametrize("groups", [1, 2])
@given(answers=ANSWERS, committed=st.integers(0, 6))
def test_what_was_acked_is_pending_again_once_the_ack_is_discarded(
    groups: int, answers: list[tuple[AckKind, list[int]]], committed: int
) -> None:
    worlds = []
    for discarding in (True, False):
        w = queue()
        c = w.create(consumer("one"))
        for number in range(1, groups):
            w.create(consumer(f"other{number}"))
        w.publish(*["a"] * 6)
        w.fetch(c, 8)
        records = 0
        for kind, seqs in answers:
            if discarding or records < committed:
                records += w.answer(c, kind, seqs) > 0
        w.commit(committed)
        if discarding:
            w.consumers.discard_uncommitted()
            w.stream.discard_uncommitted()
        w.overlay = []
        w.check()
        worlds.append((w, c))
    (one, c), (other, _) = worlds
    assert one.consumers.info(c).ack_floor == other.consumers.info(c).ack_floor
    assert one.consumers.info(c).pending == other.consumers.info(c).pending
    assert one.consumers.next_deadline() == other.consumers.next_deadline()
    for w, _ in worlds:
        w.now_ms += 100
    assert one.fetch(c, 20) == other.fetch(c, 20)

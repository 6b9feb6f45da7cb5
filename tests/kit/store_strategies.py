"""Hypothesis strategies and comparisons that the tests of the store share."""

from __future__ import annotations

from array import array

from hypothesis import strategies as st

from waymaker_core.model.config import (
    ConsumerConfig,
    DeliveryPolicy,
    OnDrop,
    Retention,
    SourceConfig,
    StreamConfig,
    SubjectTransform,
)
from waymaker_core.model.records import (
    AckRecord,
    AuthorityOpened,
    ConsumerCreated,
    ConsumerDeleted,
    DeliveredRecord,
    DropRecord,
    EpochRecord,
    ImportEnded,
    LayerRecord,
    Listed,
    MembersRecord,
    ProducerSpan,
    PruneRecord,
    PublishRecord,
    Record,
    ReturnWished,
    SettingsRecord,
    StreamCreated,
    StreamDeleted,
    StreamOpened,
    StreamPinned,
    StreamsClaimed,
    StreamUpdated,
)
from waymaker_core.raft.members import Members, encode_members

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
I64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def plain(value: object) -> object:
    """Convert an object of named fields to something that `==` compares: class name and fields, arrays with their item type."""
    if isinstance(value, array):
        return (value.typecode, value.tolist())
    if isinstance(value, list):
        return [plain(each) for each in value]
    names = getattr(type(value), "__match_args__", getattr(type(value), "__slots__", None))
    if names is None or isinstance(value, (str, bytes, int)):
        return value
    return (type(value).__name__, [plain(getattr(value, name)) for name in names])


def column(typecode: str, values: st.SearchStrategy[int], max_size: int = 8) -> st.SearchStrategy[array[int]]:
    return st.lists(values, max_size=max_size).map(lambda entries: array(typecode, entries))


@st.composite
def drops(draw: st.DrawFn) -> tuple[array[int], array[int]]:
    pairs = draw(st.lists(st.tuples(U64, U64), max_size=4))
    return array("Q", [seq for seq, _ in pairs]), array("Q", [size for _, size in pairs])


@st.composite
def publish_records(draw: st.DrawFn, numbered: bool = True) -> PublishRecord:
    count = draw(st.integers(0, 12))

    def fixed(values: st.SearchStrategy[int]) -> list[int]:
        if draw(st.booleans()):
            return [draw(values)] * count
        return draw(st.lists(values, min_size=count, max_size=count))

    names = draw(st.lists(TEXT, min_size=1, max_size=5))
    drop_seqs, drop_sizes = draw(drops())
    return PublishRecord(
        draw(U64), array("q", fixed(I64)), array("I", fixed(U32)), array("I", fixed(U32)),
        [draw(st.sampled_from(names)) for _ in range(count)],
        array("Q", fixed(U64)) if draw(st.booleans()) else None,
        draw(st.just(0) | U64), drop_seqs, drop_sizes, draw(st.just(0) | U64), draw(st.just(0) | U64),
        draw(producer_spans(count)) if numbered else [],
    )  # fmt: skip


@st.composite
def producer_spans(draw: st.DrawFn, messages: int) -> list[ProducerSpan]:
    """Spans of producers that lie in a record of so many messages, in order and apart."""
    spans: list[ProducerSpan] = []
    start = draw(st.integers(0, messages))
    while start < messages and draw(st.booleans()):
        count = draw(st.integers(1, messages - start))
        first_number = draw(st.integers(1, (1 << 63) - 1))
        spans.append(ProducerSpan(draw(st.integers(1, (1 << 64) - 1)), draw(U32), first_number, start, count))
        start += count + draw(st.integers(0, 2))
    return spans


SOURCES = st.builds(
    SourceConfig, source_stream=TEXT, filter_subject=TEXT, start_seq=U64,
    subject_transform=st.none() | st.builds(SubjectTransform, TEXT, TEXT), max_initial_backfill=U64,
    on_drop=st.sampled_from(OnDrop), dlq_stream=TEXT,
)  # fmt: skip
STREAM_CONFIGS = st.builds(
    StreamConfig, name=TEXT, subjects_filter=st.lists(TEXT, max_size=3).map(tuple), retention=st.sampled_from(Retention),
    max_age_ms=U32, max_msgs=U64, max_bytes=U64, strict_limits=st.booleans(), block_size=U32, max_msg_bytes=U32,
    ephemeral=st.booleans(), max_msgs_per_subject=U32, service_settings=st.binary(max_size=8),
    sources=st.lists(SOURCES, max_size=2).map(tuple),
)  # fmt: skip
CONSUMER_CONFIGS = st.builds(
    ConsumerConfig, name=TEXT, filter_subject=TEXT, policy=st.sampled_from(DeliveryPolicy), start_seq=U64,
    start_time_ms=U64, ack_wait_ms=U32, max_deliver=U32, deliver_group=TEXT, dead_letter_subject=TEXT, inactive_ms=U64,
)  # fmt: skip


@st.composite
def delivered_records(draw: st.DrawFn) -> DeliveredRecord:
    times = st.integers(-(2**63), 2**63 - 1)
    listed = st.builds(Listed, U32, column("Q", U64), times, times, st.booleans())
    return DeliveredRecord(
        draw(U64), draw(U64), draw(U64), draw(U64), draw(U64), draw(st.lists(listed, max_size=5))
    )  # fmt: skip


NODES = st.integers(1, (1 << 64) - 1)
STREAM_IDS = st.lists(U64, min_size=1, max_size=5, unique=True).map(sorted)


@st.composite
def claims(draw: st.DrawFn) -> StreamsClaimed:
    sets = draw(st.lists(st.lists(NODES, min_size=1, max_size=5, unique=True), min_size=1, max_size=3))
    stream_ids = draw(STREAM_IDS)
    replicas = [draw(st.sampled_from(sets)) for _ in stream_ids]
    return StreamsClaimed(stream_ids, [draw(st.sampled_from(nodes)) for nodes in replicas], replicas)


@st.composite
def openings(draw: st.DrawFn) -> AuthorityOpened:
    stream_ids = draw(STREAM_IDS)
    return AuthorityOpened(stream_ids, [draw(U64) for _ in stream_ids])


@st.composite
def members(draw: st.DrawFn) -> Members:
    nodes = draw(st.lists(NODES, max_size=8, unique=True))
    voters = draw(st.integers(0, min(5, len(nodes))))
    return Members(tuple(sorted(nodes[:voters])), tuple(sorted(nodes[voters:])))


def records() -> st.SearchStrategy[Record]:
    """Draw any record there is."""
    return st.one_of(
        publish_records(),
        st.builds(lambda t, d: PruneRecord(t, *d), U64, drops()),
        st.builds(lambda c, term, s, d: AckRecord(c, term, s, *d), U64, st.booleans(), column("Q", U64), drops()),
        st.builds(
            lambda c, s, copies, d: DropRecord(c, s, copies, *d),
            U64,
            column("Q", U64),
            st.none() | publish_records(numbered=False),
            drops(),
        ),
        delivered_records(),
        st.builds(ConsumerCreated, U64, CONSUMER_CONFIGS, U64, U64),
        st.builds(ConsumerDeleted, U64),
        st.builds(StreamCreated, U64, STREAM_CONFIGS, U64, st.booleans(), U64, U64),
        st.builds(StreamDeleted, U64),
        st.builds(SettingsRecord, STREAM_CONFIGS),
        st.builds(ImportEnded, U64),
        st.builds(
            lambda m, d, facts: LayerRecord(m, d[0], d[1], sorted(facts.items())),
            st.none() | publish_records(),
            drops(),
            st.dictionaries(st.integers(0, 255), st.binary(max_size=20), max_size=3),
        ),
        st.builds(EpochRecord, U64),
        st.builds(StreamUpdated, U64, STREAM_CONFIGS),
        st.builds(StreamOpened, U64, U64),
        st.builds(StreamPinned, U64, st.booleans()),
        st.builds(ReturnWished, U64, NODES),
        st.builds(MembersRecord, members().map(encode_members)),
        claims(),
        openings(),
    )

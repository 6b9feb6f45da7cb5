"""Pins, returns and overrides: the same on every member, kept by starts, and answered by any of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.member_kit import Cluster
from tests.kit.node_kit import SMALL, Server, stream_config
from waymaker_core.api.authority_requests import (
    ClearStreamAuthority,
    ClusterStats,
    GetClusterStats,
    ListOverrides,
    NodeSums,
    SetStreamPinned,
    StreamOverride,
)
from waymaker_core.api.cluster_requests import ClaimStream
from waymaker_core.api.effects import EventKind
from waymaker_core.api.inputs import Credit
from waymaker_core.api.requests import CreateStream, DeleteStream, GetStreamInfo, Page, StreamInfo, WatchStreams
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.catalog.placement_wishes import PlacementWishes
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.result_codes import Answer
from waymaker_core.model.types import StreamId, Token
from waymaker_core.node.checkpoint.snapshots import decode_catalog, encode_catalog

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)


def override(cluster: Cluster, stream_id: int) -> int:
    """Claim a stream for another node than the ring names; return the epoch."""
    conf = cluster.leader.node.conf(stream_id)
    assert conf is not None
    home = cluster.leader.node.home_of(StreamId(stream_id))
    assert conf.newest.primary == home
    other = next(node for node in conf.newest.replicas if node != home)
    epoch = cluster.call(ClaimStream(stream_id, other, conf.newest.replicas, conf.newest.epoch))
    assert isinstance(epoch, int)
    return epoch


def value_of(server: Server, request: object) -> object:
    answer = server.call(request)  # type: ignore[arg-type]
    assert isinstance(answer, Answer) and answer.code == "ok", answer
    return answer.value


def overrides_of(server: Server) -> list[tuple[str, int, int]]:
    page = value_of(server, ListOverrides())
    assert isinstance(page, Page)
    found = []
    for each in page.entries:
        assert isinstance(each, StreamOverride)
        found.append((each.stream, each.claimant, each.epoch))
    return found


def test_a_claim_apart_from_the_ring_is_an_override_that_any_member_lists() -> None:
    cluster = Cluster()
    stream_id = cluster.create()
    assert all(overrides_of(member) == [] for member in cluster.members)
    epoch = override(cluster, stream_id)
    claimant = cluster.primary(stream_id).node_id
    assert [overrides_of(member) for member in cluster.members] == [[("s", claimant, epoch)]] * 3
    conf = cluster.leader.node.conf(stream_id)
    assert conf is not None
    home = cluster.leader.node.home_of(StreamId(stream_id))
    cluster.call(ClaimStream(stream_id, home, conf.newest.replicas, epoch))
    assert all(overrides_of(member) == [] for member in cluster.members)


def test_an_override_ends_with_its_stream() -> None:
    cluster = Cluster()
    override(cluster, cluster.create())
    cluster.call(DeleteStream("s"))
    assert all(overrides_of(member) == [] for member in cluster.members)


def test_overrides_and_wishes_are_there_after_a_start() -> None:
    cluster = Cluster(limits=TINY)
    stream_id = cluster.create()
    epoch = override(cluster, stream_id)
    cluster.call(SetStreamPinned("s", True))
    cluster.call(ClearStreamAuthority("s"))
    for number in range(60):  # enough for a checkpoint
        cluster.create(f"more-{number}")
    for member in cluster.members:
        node = member.node
        assert node.is_pinned(StreamId(stream_id)) and node.returns_to(StreamId(stream_id)) == node.home_of(
            StreamId(stream_id)
        )
        before = overrides_of(member)
        assert ("s", node.conf(stream_id).newest.primary, epoch) in before  # type: ignore[union-attr]
        member.open()
        assert member.node.is_pinned(StreamId(stream_id)) and member.node.returns_to(StreamId(stream_id))
        assert overrides_of(member) == before


def test_a_return_ends_with_the_claim_of_the_node_that_the_ring_names() -> None:
    cluster = Cluster()
    stream_id = cluster.create()
    end = cluster.leader.log().end
    cluster.call(ClearStreamAuthority("s"))
    cluster.call(ClearStreamAuthority("no such stream"))
    assert cluster.leader.log().end == end, "to clear what is not set writes nothing"
    epoch = override(cluster, stream_id)
    cluster.call(ClearStreamAuthority("s"))
    node = cluster.leader.node
    home = node.home_of(StreamId(stream_id))
    assert node.returns_to(StreamId(stream_id)) == home
    replicas = node.conf(stream_id).newest.replicas  # type: ignore[union-attr]
    cluster.call(ClaimStream(stream_id, home, replicas, epoch))
    assert all(member.node.returns_to(StreamId(stream_id)) == 0 for member in cluster.members)


def test_watchers_learn_of_overrides_on_the_member_that_they_ask() -> None:
    cluster = Cluster()
    stream_id = cluster.create()
    watching = cluster.members[2]
    token = watching.ask(WatchStreams())
    watching.step(Credit(Token(token), 10, 1 << 20))
    epoch = override(cluster, stream_id)
    claimant = cluster.primary(stream_id).node_id
    (event,) = watching.events
    assert (event.kind, event.stream, event.claimant, event.fence_epoch) == (
        EventKind.AUTHORITY_CHANGED, "s", claimant, epoch,
    )  # fmt: skip
    replicas = watching.node.conf(stream_id).newest.replicas  # type: ignore[union-attr]
    home = watching.node.home_of(StreamId(stream_id))
    cluster.call(ClaimStream(stream_id, home, replicas, epoch))
    assert (watching.events[-1].claimant, watching.events[-1].fence_epoch) == (0, 0)


def test_figures_of_nodes_count_each_stream_once_with_its_primary() -> None:
    cluster = Cluster()
    names = [f"s{number}" for number in range(12)]
    for name in names:
        cluster.create(name)
    found = [value_of(member, GetClusterStats(per_stream=True)) for member in cluster.members]
    for stats in found:
        assert isinstance(stats, ClusterStats)
        assert [row.node_id for row in stats.nodes] == [1, 2, 3]
        assert sum(row.streams for row in stats.nodes) == 12
        assert [each.name for each in stats.streams] == sorted(names)
        counts = [row.streams for row in stats.nodes]
        assert stats.skew()[0] == max(counts) - min(counts)
    assert ClusterStats([NodeSums(1, "ok", 4), NodeSums(2, "unreachable", 0)]).skew() == (0, 0)


def test_a_single_node_stores_pins_and_is_the_owner_of_all() -> None:
    server = Server()
    assert server.call(CreateStream(stream_config("s"))).code == "ok"
    assert server.call(SetStreamPinned("s", True)).code == "ok"
    assert server.call(SetStreamPinned("x", True)).code == "no_such_stream"
    assert server.call(ClearStreamAuthority("s")).code == "ok"
    for _ in range(2):
        info = value_of(server, GetStreamInfo("s"))
        assert isinstance(info, StreamInfo)
        authority = info.authority
        assert (authority.claimant, authority.epoch, authority.home, authority.pinned) == (0, 0, 1, True)
        assert overrides_of(server) == []
        stats = value_of(server, GetClusterStats())
        assert isinstance(stats, ClusterStats) and [(row.node_id, row.streams) for row in stats.nodes] == [(1, 1)]
        server.open()
    assert server.call(SetStreamPinned("s", False)).code == "ok"
    info = value_of(server, GetStreamInfo("s"))
    assert isinstance(info, StreamInfo) and not info.authority.pinned


def test_a_catalog_without_wishes_has_the_bytes_that_it_had() -> None:
    catalog = Catalog(Limits())
    catalog.apply(catalog.decide_create("", stream_config("s"), 7))
    plain = encode_catalog(catalog)
    catalog.wishes.pinned.add(StreamId(1))
    pinned = encode_catalog(catalog)
    again = Catalog(Limits())
    decode_catalog(pinned, again, 1)
    assert again.wishes.pinned == {1} and encode_catalog(again) == pinned
    catalog.wishes.forget_wishes(StreamId(1))
    assert encode_catalog(catalog) == plain


@pytest.mark.parametrize(
    "value",
    [[], [[], []], [[2, 1], []], [[1, 1], []], [[0], []], [[True], []], [[], [[1, 0]]], [[], [[2, 1], [1, 1]]], [1, 2]],
)
def test_wishes_that_make_no_sense_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"wishes|return"):
        PlacementWishes().restore(value)

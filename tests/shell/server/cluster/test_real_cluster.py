"""Three real servers on loopback: they agree, serve, lose one, and take it back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import waymaker
from tests.kit.real_cluster import Publisher, RealCluster
from tests.kit.real_server import RealServer
from waymaker.server.http.cluster_metrics import CLUSTER_METRICS, LANE_METRICS, PEER_METRICS

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    own = RealCluster(tmp_path)
    own.start()
    yield own
    own.close()


def leader_of(cluster: RealCluster, asked: int) -> int:
    """Return the member that leads the catalog, as another one knows."""
    cluster.eventually(lambda: cluster.status(asked).leader != 0, "no leader is known")
    return cluster.status(asked).leader


def is_unreachable(cluster: RealCluster, asked: int, about: int) -> bool:
    """Return True if a member has not heard another one lately."""
    return not next(each.reachable for each in cluster.status(asked).members if each.node_id == about)


def test_the_others_serve_what_a_killed_member_led_and_it_joins_again(cluster: RealCluster) -> None:
    publisher = Publisher(cluster, "orders")
    publisher.client.create("orders")
    for _ in range(20):
        publisher.publish_one()
    killed = next(each.node_id for each in cluster.status(1).members if each.streams_led)
    rest = [node for node in cluster.servers if node != killed]
    cluster.kill(killed)
    for _ in range(20):
        publisher.publish_one()
    publisher.check()
    for node in rest:
        cluster.eventually(partial(is_unreachable, cluster, node, killed), "the dead member is reachable")
    cluster.servers[killed].start()
    cluster.await_ready(killed)
    primary = next(each.node_id for each in cluster.status(rest[0]).members if each.streams_led)
    cluster.eventually(
        lambda: [each.in_sync for each in cluster.status(primary).members if each.node_id == killed] == [1],
        "the member that came back lags",
    )
    cluster.kill(next(node for node in rest if node != primary))
    for _ in range(20):
        publisher.publish_one()
    publisher.check()
    publisher.close()


def test_members_say_the_same_of_the_cluster_and_stop_in_order(cluster: RealCluster) -> None:
    client = cluster.client()
    client.create("orders")
    client.close()
    leader = leader_of(cluster, 1)
    for node in cluster.servers:
        status = cluster.status(node)
        assert (status.node_id, status.leader, status.cluster_name) == (node, leader, "waymaker")
        assert [each.node_id for each in status.members] == [1, 2, 3]
        assert [each.client_address for each in status.members] == [
            server.address for server in cluster.servers.values()
        ]
    cluster.eventually(lambda: cluster.status(leader).streams_unserved == 0, "the stream is not served")
    assert [each.replicas for each in cluster.status(leader).members] == [1, 1, 1]
    assert sum(each.streams_led for each in cluster.status(leader).members) == 1
    code, text = cluster.probe(leader, "/metrics")
    assert code == 200
    assert "waymaker_cluster_leads_catalog 1.0" in text
    for described in (*CLUSTER_METRICS, *PEER_METRICS, *LANE_METRICS):
        ending = "_total" if described.kind == "counter" else ""
        assert f"# HELP {described.name}{ending} {described.text}" in text
        assert re.search(rf"^{described.name}{ending}[ {{]", text, re.MULTILINE), described.name
    for node in sorted(cluster.servers, key=lambda node: node != leader):
        assert cluster.servers[node].terminate() == 0, cluster.logs()
    alone = RealServer(cluster.servers[leader].data_dir)
    code, said = alone.start_in_vain()
    assert code == 1
    assert "belongs to a member of a cluster" in said


def test_a_new_cluster_waits_for_all_members_and_a_known_one_for_a_majority(tmp_path: Path) -> None:
    cluster = RealCluster(tmp_path)
    try:
        cluster.servers[2].start()
        cluster.eventually(lambda: cluster.probe(2, "/livez")[0] == 200, "it does not live")
        assert cluster.probe(2, "/readyz") == (503, "no leader of the catalog is known\n")
        assert cluster.status(2).leader == 0
        cluster.servers[1].start()
        cluster.servers[3].start()
        for node in cluster.servers:
            cluster.await_ready(node)
        for node in cluster.servers:
            cluster.kill(node)
        cluster.servers[3].start()
        cluster.eventually(lambda: cluster.probe(3, "/livez")[0] == 200, "it does not live")
        assert cluster.probe(3, "/readyz")[0] == 503
        cluster.servers[1].start()
        cluster.await_ready(1)
        cluster.await_ready(3)
    finally:
        cluster.close()


def test_two_members_with_data_of_their_own_say_what_stands_in_their_way(tmp_path: Path) -> None:
    cluster = RealCluster(tmp_path)
    try:
        for node in (1, 2):
            alone = RealServer(cluster.servers[node].data_dir)
            alone.start()
            with waymaker.connect_sync(alone.address, timeout=20.0) as client:
                client.create_stream("orders")
            alone.terminate()
        for server in cluster.servers.values():
            server.start()
        said = "both have data of a single node"
        cluster.eventually(lambda: said in cluster.probe(1, "/readyz")[1], "it does not say what is wrong")
    finally:
        cluster.close()

"""`waymaker cluster`: what the members know together, and a server that is in no cluster."""

from __future__ import annotations

from tests.kit.cli_kit import Command
from tests.kit.cli_kit import server as _server
from tests.kit.cli_kit import waymaker as _waymaker
from tests.kit.client_fake_server import FakeServer
from waymaker.client.cluster import joined
from waymaker_proto.admin_pb2 import ClusterStatusResponse, MemberStatus

server = _server
waymaker = _waymaker


def answer(node: int, leader: int, term: int, *members: MemberStatus) -> ClusterStatusResponse:
    return ClusterStatusResponse(
        node_id=node, cluster_name="c", leader=leader, term=term, streams=3, streams_unserved=1, members=members
    )


def member(node: int, **known: object) -> MemberStatus:
    known = {"client_address": f"h:{node}", "peer_address": f"p:{node}", "reachable": True, "replicas": 3, **known}
    return MemberStatus(node_id=node, **known)  # type: ignore[arg-type]


ONE = answer(
    1, 2, 5,
    member(1, in_sync=1, streams_led=1), member(2, in_sync=1, streams_led=2), member(3, lagging=1, lag_records=9),
)  # fmt: skip
TWO = answer(2, 2, 5, member(1, in_sync=2), member(2, in_sync=2), member(3, lagging=2, lag_records=4, reachable=False))


def test_what_only_primaries_know_is_added_up_and_the_rest_is_unknown() -> None:
    status = joined([ONE])
    assert [(each.in_sync, each.lagging, each.unknown) for each in status.members] == [(1, 0, 2), (1, 0, 2), (0, 1, 2)]
    status = joined([ONE, TWO])
    assert [(each.in_sync, each.lagging, each.unknown) for each in status.members] == [(3, 0, 0), (3, 0, 0), (0, 3, 0)]
    assert [each.lag_records for each in status.members] == [0, 0, 9]
    assert status.answered == (1, 2)


def test_the_newest_term_says_who_leads() -> None:
    assert joined([ONE, answer(3, 3, 6, member(1), member(2), member(3))]).leader == 3
    assert joined([answer(3, 0, 5, member(1)), ONE]).leader == 2


def test_a_member_that_answers_is_reachable_whatever_others_say() -> None:
    silent = answer(1, 0, 5, member(1), member(2, reachable=False), member(3, reachable=False, client_address=""))
    assert [each.reachable for each in joined([silent]).members] == [True, False, False]
    assert [each.reachable for each in joined([silent, TWO]).members] == [True, True, False]


def test_the_status_of_a_cluster_is_printed_for_people_and_for_programs(server: FakeServer, waymaker: Command) -> None:
    server.cluster_status = answer(1, 1, 7, member(1, streams_led=3), member(2, reachable=False, client_address=""))
    ran = waymaker("cluster", "status")
    assert ran.code == 0
    assert "leader    node 1, term 7\n" in ran.out
    assert "1\tleader\th:1\tp:1\t3\t3\t0\t0\t3\t0\n" in ran.out
    assert "2\tunreachable\t?\tp:2\t" in ran.out
    (told,) = waymaker("cluster", "status", "--json").json
    assert (told["name"], told["leader"], told["term"], told["answered"]) == ("c", 1, 7, [1])
    assert [each["reachable"] for each in told["members"]] == [True, False]


def test_without_a_leader_it_says_so(server: FakeServer, waymaker: Command) -> None:
    server.cluster_status = answer(1, 0, 7, member(1))
    assert "not known" in waymaker("cluster", "status").out


def test_a_server_on_its_own_is_no_member(waymaker: Command) -> None:
    ran = waymaker("cluster", "status")
    assert ran.code == 4
    assert "is no member of a cluster" in ran.err

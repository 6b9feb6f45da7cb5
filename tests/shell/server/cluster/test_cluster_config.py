"""Settings of a member: what belongs together, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from waymaker.server.config import Address, ConfigError, ServerConfig, load_config

THREE = "1=127.0.0.1:7501,2=127.0.0.1:7502,3=127.0.0.1:7503"
REMOTE = "1=10.0.0.1:7501,2=10.0.0.2:7502,3=10.0.0.3:7503"
TLS = {"peer_tls_cert": "c", "peer_tls_key": "k", "peer_tls_ca": "a"}


def loaded(cluster: str | None = THREE, **flags: Any) -> ServerConfig:
    return load_config({"data_dir": "d", "cluster": cluster, **flags}, {})


def refused(cluster: str | None = THREE, **flags: Any) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        loaded(cluster, **flags)
    return caught.value.setting, caught.value.problem


def test_a_member_listens_for_others_at_its_own_entry_unless_another_address_is_said() -> None:
    config = loaded(node_id=2)
    assert config.cluster is not None
    assert [each.node_id for each in config.cluster] == [1, 2, 3]
    assert config.member_address == Address("127.0.0.1", 7502)
    assert loaded(node_id=2, peer_listen="127.0.0.2:1").member_address == Address("127.0.0.2", 1)


def test_settings_come_from_the_environment_as_others_do() -> None:
    config = load_config({"data_dir": "d"}, {"WAYMAKER_CLUSTER": THREE, "WAYMAKER_NODE_ID": "3"})
    assert config.member_address.port == 7503


def test_members_may_stand_in_any_order_and_with_spaces() -> None:
    assert loaded("3=[::1]:3, 1=localhost:1 ,2=127.0.0.1:2", node_id=3).member_address == Address("::1", 3)


def test_new_streams_have_three_replicas_or_as_many_as_there_are_members() -> None:
    assert loaded(None).replicas == 1
    assert loaded("1=127.0.0.1:1").replicas == 1
    assert loaded().replicas == 3
    assert loaded(replication_factor="1").replicas == 1


@pytest.mark.parametrize(
    ("cluster", "complaint"),
    [
        ("1=127.0.0.1:1,1=127.0.0.1:2,3=127.0.0.1:3", "two members have the number 1"),
        ("1=127.0.0.1:1,2=127.0.0.1:1,3=127.0.0.1:3", "two members have the address 127.0.0.1:1"),
        ("1=127.0.0.1:1,2=127.0.0.1:2", "not 2"),
        (",".join(f"{n}=127.0.0.1:{n}" for n in range(1, 10)), "not 9"),
        ("127.0.0.1:1", "expected members as 1=HOST:PORT"),
        ("", "expected members as 1=HOST:PORT"),
        ("0=127.0.0.1:1", "expected members as 1=HOST:PORT"),
        ("1=127.0.0.1", "expected HOST:PORT"),
        ("1=127.0.0.1:0", "port cannot be 0"),
    ],
)
def test_a_list_of_members_that_cannot_be_is_refused(cluster: str, complaint: str) -> None:
    setting, problem = refused(cluster)
    assert setting == "cluster"
    assert complaint in problem


def test_a_member_is_in_its_own_list() -> None:
    assert refused(node_id=4) == ("node_id", "4 is no member of the cluster of 1, 2, 3")


@pytest.mark.parametrize(
    ("name", "value"),
    [("peer_listen", "127.0.0.1:1"), ("advertise", "a:1"), ("replication_factor", "3"), *TLS.items()],
)
def test_settings_of_a_member_need_a_cluster(name: str, value: str) -> None:
    assert refused(None, **{name: value})[0] == name


def test_two_replicas_and_more_than_all_members_are_refused() -> None:
    assert refused(replication_factor="2")[0] == "replication_factor"
    assert refused("1=127.0.0.1:1", replication_factor="3")[0] == "replication_factor"


def test_without_tls_members_talk_on_loopback_alone() -> None:
    setting, problem = refused(REMOTE)
    assert setting == "peer_listen"
    assert "peer_tls_cert" in problem
    assert refused(peer_listen="0.0.0.0:1")[0] == "peer_listen"
    assert loaded(REMOTE, **TLS).member_address.host == "10.0.0.1"
    assert loaded(REMOTE, insecure_listen_anywhere=True).member_address.host == "10.0.0.1"


def test_half_of_the_tls_is_refused() -> None:
    for name in TLS:
        assert refused(**{each: value for each, value in TLS.items() if each != name})[0] == name


def test_a_member_that_listens_everywhere_says_where_clients_reach_it() -> None:
    everywhere: dict[str, Any] = {"listen": "0.0.0.0:7411", "insecure_listen_anywhere": True}
    assert refused(**everywhere)[0] == "advertise"
    assert loaded(**everywhere, advertise="10.0.0.1:7411").advertise == Address("10.0.0.1", 7411)

"""Inactivity timeouts at the node: which consumers are deleted, when, and what keeps one alive; one sentence a test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.node_kit import Server, consumer_config
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import EventKind
from waymaker_core.api.inputs import Call, Cancel, Credit
from waymaker_core.api.requests import AckKind
from waymaker_core.model.result_codes import Answer
from waymaker_core.model.types import ANYONE, Token

AFTER_MS = 5_000


def served(retention: str = "LIMITS", **settings: object) -> Server:
    server = Server()
    server.create("s", retention=retention)
    server.consumer("s", "c", **({"inactive_ms": AFTER_MS} | settings))
    return server


def names(server: Server) -> list[str]:
    page = server.ok(rq.ListConsumers("s", "", 0))
    assert isinstance(page, rq.Page)
    return [info.config.name for info in page.entries if isinstance(info, rq.ConsumerInfo)]


def code(server: Server, request: rq.Request) -> str:
    answer = server.call(request)
    assert isinstance(answer, Answer)
    return answer.code


def subscribed(server: Server, consumer: str = "c") -> Token:
    token = Token(server.token())
    server.step(Call(token, ANYONE, rq.Subscribe("s", consumer, 0, False, 0)), Credit(token, 10, 1 << 20))
    return token


def test_it_is_deleted_after_its_time_and_not_before() -> None:
    server = served()
    server.pass_ms(AFTER_MS - 1)
    assert names(server) == ["c"]
    server.pass_ms(1)
    assert names(server) == []
    assert code(server, rq.Fetch("s", "c", 1)) == "no_such_consumer"


def test_its_deletion_is_told_and_survives_a_loss_of_power() -> None:
    server = served()
    watcher = Token(server.token())
    server.step(Call(watcher, ANYONE, rq.WatchStreams()), Credit(watcher, 10, 1 << 20))
    server.pass_ms(AFTER_MS)
    assert (EventKind.CONSUMER_DELETED, "c") in [(event.kind, event.consumer) for event in server.events]
    told = [log.fields["consumer"] for log in server.logs if log.event == "inactive_consumer_deleted"]
    assert told == ["c"]
    server.lose_power()
    assert names(server) == []


def test_one_without_a_timeout_stays() -> None:
    server = served(inactive_ms=0)
    server.pass_ms(400 * 24 * 3_600_000)
    assert names(server) == ["c"]


@given(
    st.lists(
        st.tuples(st.integers(1, AFTER_MS - 1), st.sampled_from(["fetch", "ack", "nak", "extend", "create", "visit"])),
        max_size=12,
    )
)
def test_whatever_a_client_does_starts_its_time_anew(uses: list[tuple[int, str]]) -> None:
    server = served(ack_wait_ms=3_600_000, max_deliver=100)
    server.publish("s", *[b"x"] * 20)
    kinds = {"ack": AckKind.ACK, "nak": AckKind.NAK, "extend": AckKind.IN_PROGRESS}
    for pause_ms, use in uses:
        server.pass_ms(pause_ms)
        assert names(server) == ["c"]
        if use in kinds:
            server.ack(1, stream="s", consumer="c", kind=kinds[use])
        elif use == "create":
            server.consumer("s", "c", inactive_ms=AFTER_MS, ack_wait_ms=3_600_000, max_deliver=100)
        elif use == "visit":
            server.step(Cancel(subscribed(server)))
        else:
            server.fetch("s", "c", 1)
    server.pass_ms(AFTER_MS - 1)
    assert names(server) == ["c"]
    server.pass_ms(1)
    assert names(server) == []


def test_to_be_looked_at_is_no_use() -> None:
    server = served()
    server.pass_ms(AFTER_MS - 1)
    server.info("s", "c")
    server.publish("s", b"x")
    server.pass_ms(1)
    assert names(server) == []


def test_an_open_subscription_keeps_it_and_its_time_begins_with_the_end() -> None:
    server = served()
    token = subscribed(server)
    server.pass_ms(20 * AFTER_MS + 123)
    assert names(server) == ["c"]
    server.step(Cancel(token))
    server.pass_ms(AFTER_MS - 1)
    assert names(server) == ["c"]
    server.pass_ms(1)
    assert names(server) == []


@pytest.mark.parametrize("end", ["restart", "kill", "lose_power"])
def test_a_restart_begins_its_time_anew(end: str) -> None:
    server = served()
    server.pass_ms(AFTER_MS - 1)
    getattr(server, end)()
    server.pass_ms(AFTER_MS - 1)
    assert names(server) == ["c"]
    assert server.info("s", "c").config.inactive_ms == AFTER_MS
    server.pass_ms(1)
    assert names(server) == []


def test_an_interest_stream_lets_go_of_what_only_an_inactive_consumer_held() -> None:
    server = served("INTEREST")
    server.publish("s", *[b"x"] * 3)
    server.pass_ms(AFTER_MS - 1)
    assert server.stats("s").msg_count == 3
    server.pass_ms(2_000)
    assert server.stats("s").msg_count == 0


def test_a_member_of_a_queue_group_is_judged_by_itself_and_leaves_its_deliveries_due() -> None:
    server = served(deliver_group="g", ack_wait_ms=3_600_000)
    server.consumer("s", "d", deliver_group="g", ack_wait_ms=3_600_000)
    server.publish("s", b"x", b"y")
    assert [seq for seq, _, _ in server.fetch("s", "c", 1)] == [1]
    server.pass_ms(AFTER_MS - 1)
    assert [seq for seq, _, _ in server.fetch("s", "d", 10)] == [2]
    server.pass_ms(1)
    assert names(server) == ["d"]
    assert [(seq, count) for seq, count, _ in server.fetch("s", "d", 10)] == [(1, 2)]


def test_a_name_made_anew_is_another_consumer_with_its_own_time() -> None:
    server = served()
    server.pass_ms(AFTER_MS - 1)
    server.ok(rq.DeleteConsumer("s", "c"))
    server.consumer("s", "c", inactive_ms=AFTER_MS)
    server.pass_ms(AFTER_MS - 1)
    assert names(server) == ["c"]
    server.pass_ms(1)
    assert names(server) == []


@pytest.mark.parametrize(("inactive_ms", "expected"), [
    (999, "invalid_config"), (365 * 24 * 3_600_000 + 1, "invalid_config"), (1_000, "ok"), (0, "ok"),
])  # fmt: skip
def test_its_time_has_bounds(inactive_ms: int, expected: str) -> None:
    server = Server()
    server.create("s")
    assert code(server, rq.CreateConsumer("s", consumer_config("c", inactive_ms=inactive_ms))) == expected


def test_another_time_is_another_configuration() -> None:
    server = served()
    again = rq.CreateConsumer("s", consumer_config("c", inactive_ms=AFTER_MS))
    assert code(server, again) == "ok"
    assert code(server, rq.CreateConsumer("s", consumer_config("c"))) == "already_exists"

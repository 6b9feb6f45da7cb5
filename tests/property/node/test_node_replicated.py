"""A node whose logs are replicated commits, answers and delivers what a majority has, each log for itself.

The kit answers `Replicate` and `Confirm` at once; of a log that starves it keeps them until it is fed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import SMALL, Server, consumer_config, publish, stream_config
from tests.kit.node_play import Play
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Confirm, Replicate
from waymaker_core.api.inputs import Call, Cancel, Confirmed, Credit, Drain, Replicated, Report
from waymaker_core.api.requests import AckKind, Published
from waymaker_core.model.result_codes import NO_SUCH_CONSUMER, Answer, Outcome, Refusal, Status
from waymaker_core.model.types import ANYONE, Token
from waymaker_core.node.node import LogFigures


def server_with(*names: str, **consumer: object) -> Server:
    """A node with streams of these names, each with a consumer "c"."""
    server = Server(replicated=True)
    for name in names or ("s",):
        server.create(name)
        server.consumer(name, "c", **consumer)
    server.asked.clear()
    return server


def figures(server: Server, name: str = "s") -> LogFigures:
    return next(each for each in server.node.log_figures() if each.name == name)


def refusal(server: Server, token: int) -> Refusal:
    answer = server.replies[token]
    assert isinstance(answer, Refusal), answer
    return answer


def code(server: Server, token: int) -> str:
    answer = server.replies[token]
    assert isinstance(answer, Answer), answer
    return answer.code


def sequences(server: Server, token: int) -> list[int]:
    return [seq for seq, _, _ in server.delivered.get(token, [])]


# ---------------------------------------------------------------- commits


def test_an_answer_leaves_with_the_majority_and_not_with_the_sync() -> None:
    server = server_with()
    log, at = server.log_id("s"), figures(server).durable
    with Play(server) as play:
        play.tell((1, publish("s", ("a", b"x"))))
        play.expect("job 1 JOURNAL ...")
        play.done(1)
        play.expect(f"replicate {log} to {at + 1}")
        play.step(Replicated(log, at))
        play.expect("")
        play.step(Replicated(log, at + 1))
        play.expect("reply 1 ok published 1..1")
        play.step(Replicated(log, at + 1))
        play.expect("")


def test_a_majority_that_is_ahead_commits_no_more_than_this_node_has_synced() -> None:
    server = server_with()
    log, at = server.log_id("s"), figures(server).durable
    with Play(server) as play:
        play.tell((1, publish("s", ("a", b"x"))))
        play.step(Replicated(log, at + 1))
        play.expect("job 1 JOURNAL ...")
        play.done(1)
        play.expect(f"""
            replicate {log} to {at + 1}
            reply 1 ok published 1..1
        """)


def test_a_node_that_is_not_replicated_asks_no_majority() -> None:
    server = Server()
    server.create("s")
    server.consumer()
    server.publish("s", b"x")
    assert len(server.fetch()) == len(server.all()) == 1
    assert server.asked == []


def test_a_stream_without_a_majority_holds_up_no_other() -> None:
    server = server_with("s", "t")
    server.starve("s")
    waiting = server.ask(publish("s", ("a", b"x")))
    assert server.publish("t", b"y").first_seq == 1
    assert [seq for seq, _, _ in server.fetch("t")] == [1]
    server.create("u")
    assert waiting not in server.replies
    server.feed()
    assert code(server, waiting) == "ok"


def test_a_catalog_without_a_majority_holds_up_no_stream() -> None:
    server = server_with()
    server.starve("")
    created, missing = server.ask(rq.CreateStream(stream_config("t"))), server.ask(rq.GetStreamInfo("unknown"))
    server.publish("s", b"x")
    assert len(server.fetch()) == 1
    assert not {created, missing} & set(server.replies)
    server.feed()
    assert (code(server, created), code(server, missing)) == ("ok", "no_such_stream")


def test_what_starves_is_neither_read_nor_delivered_and_then_it_is() -> None:
    server = server_with()
    server.publish("s", b"before")
    reader = server.subscribe("s", "c", messages=10)
    assert sequences(server, reader) == [1]
    server.starve("s")
    server.ask(publish("s", ("a", b"after")))
    assert figures(server).durable > figures(server).applied
    assert next(iter(server.node._state.replicas.values())).stream.count == 1
    assert sequences(server, reader) == [1]
    server.feed()
    assert sequences(server, reader) == [1, 2]
    assert [payload for _, _, payload in server.all()] == [b"before", b"after"]


def test_retention_that_starves_trims_nothing() -> None:
    server = Server(replicated=True)
    server.create("s", max_age_ms=1_000)
    server.publish("s", b"x", b"y")
    server.starve("s")
    server.pass_ms(60_000)
    replica = next(iter(server.node._state.replicas.values()))
    assert replica.stream.count == 2
    assert figures(server).durable - figures(server).applied < 5, "what is decided is not decided again"
    server.feed()
    assert replica.stream.count == 0
    server.node.check()


def test_a_snapshot_of_a_starving_stream_holds_what_a_majority_has() -> None:
    server = Server(replace(SMALL, checkpoint_journal_bytes=1), replicated=True)
    server.create("s")
    server.publish("s", b"x")
    server.starve("s")
    server.ask(publish("s", ("a", b"y")))
    before = server.node.stats.checkpoints
    server.pass_ms(10)
    server.create("other")
    assert server.node.stats.checkpoints > before
    replica = next(iter(server.node._state.replicas.values()))
    assert replica.stream.position == figures(server).applied < figures(server).durable


def test_a_failed_expectation_waits_for_the_record_in_flight_and_else_for_a_confirmation() -> None:
    server = server_with()
    server.starve("s")
    tokens = [server.ask(publish("s", ("a", b"x"), expected=[0])) for _ in range(2)]
    assert not set(tokens) & set(server.replies)
    assert all(isinstance(each, Replicate) for each in server.withheld)
    server.feed()
    answer = server.replies[tokens[1]]
    assert isinstance(answer, Answer)
    assert isinstance(answer.value, Published)
    assert answer.value.failures is not None
    assert [failure[0] for failure in answer.value.failures.values()] == ["wrong_revision"]
    server.starve("s")
    later = server.ask(publish("s", ("a", b"x"), expected=[0]))
    assert later not in server.replies
    assert [type(each) for each in server.withheld] == [Confirm]
    server.feed()
    assert later in server.replies


def test_an_ack_without_effect_waits_for_a_confirmation_when_nothing_is_in_flight() -> None:
    server = server_with()
    server.publish("s", b"x")
    server.fetch()
    server.ack(1)
    server.starve("s")
    token = server.ask(rq.Ack("s", "c", AckKind.ACK, [1]))
    assert token not in server.replies
    assert [type(each) for each in server.withheld] == [Confirm]
    server.feed()
    assert code(server, token) == "ok"


# ---------------------------------------------------------------- confirmations


def test_questions_join_the_next_round() -> None:
    server = server_with()
    log = server.log_id("s")
    with Play(server) as play:
        play.tell((1, rq.GetStreamInfo("s")), (2, rq.GetStreamInfo("s")))
        play.expect(f"confirm {log} question 1")
        play.tell((3, rq.GetStreamInfo("s")))
        play.expect("")
        play.step(Confirmed(log, 1))
        play.expect(f"""
            confirm {log} question 2
            reply 1 ok
        """)
        play.step(Confirmed(log, 1))
        play.expect("")
        play.step(Confirmed(log, 2))
        play.expect("""
            reply 2 ok
            reply 3 ok
        """)


def test_a_position_that_was_sent_after_the_question_confirms_too() -> None:
    server = server_with()
    log, at = server.log_id("s"), figures(server).durable
    with Play(server) as play:
        play.tell((1, rq.GetStreamInfo("s")), (2, publish("s", ("a", b"x"))))
        play.expect(f"""
            confirm {log} question 1
            job 1 JOURNAL ...
        """)
        play.done(1)
        play.tell((3, rq.GetStreamInfo("s")))
        play.expect(f"replicate {log} to {at + 1}")
        play.step(Replicated(log, at + 1))
        play.expect(f"""
            reply 2 ok published 1..1
            confirm {log} question 2
            reply 1 ok
        """)
        play.step(Confirmed(log, 1))
        play.expect("")
        play.step(Confirmed(log, 2))
        play.expect("reply 3 ok")


def test_reads_see_all_that_was_confirmed_before_the_call_and_wait_for_their_confirmation() -> None:
    server = server_with()
    server.publish("s", b"x")
    server.starve("s")
    reads = [
        server.ask(rq.ReadRange("s", 1, 10)),
        server.ask(rq.ReadLatest("s", "a")),
        server.ask(rq.ScanSubject("s", "a", 0, 10)),
    ]
    others = [server.ask(rq.ListSubjects("s")), server.ask(rq.GetConsumerInfo("s", "c"))]
    server.ask(publish("s", ("a", b"y")))
    assert not {*reads, *others} & set(server.replies)
    server.withheld.sort(key=lambda effect: isinstance(effect, Confirm))
    server.feed()
    assert [[seq for seq, _, _ in server.bodies[token]] for token in reads] == [[1, 2], [2], [1, 2]]
    assert {*others} <= set(server.replies)


def test_a_caller_that_has_left_gets_no_answer_to_its_read() -> None:
    server = server_with()
    server.starve("s")
    token = server.ask(rq.GetStreamInfo("s"))
    server.step(Cancel(Token(token)))
    server.feed()
    assert token not in server.replies
    assert server.stats().msg_count == 0


def test_the_answer_to_a_question_that_was_withdrawn_confirms_no_later_one() -> None:
    server = server_with()
    log = server.log_id("s")
    with Play(server) as play:
        play.tell((1, rq.GetStreamInfo("s")))
        play.expect(f"confirm {log} question 1")
        play.step(Cancel(Token(1)))
        play.tell((2, rq.GetStreamInfo("s")))
        play.expect(f"confirm {log} question 2")
        play.step(Confirmed(log, 1))
        play.expect("")
        play.step(Confirmed(log, 2))
        play.expect("reply 2 ok")


# ---------------------------------------------------------------- deliveries


@pytest.mark.parametrize("event", ["ack", "expiry", "move"])
def test_a_delivery_that_is_stale_when_it_is_confirmed_does_not_leave(event: str) -> None:
    server = Server(replace(SMALL, checkpoint_journal_bytes=1 << 20), replicated=True)
    server.create("s")
    server.consumer(ack_wait_ms=5_000)
    server.publish("s", b"one", b"two", b"three")
    log = server.log_id("s")
    server.starve("s")
    reader = server.subscribe("s", "c", messages=3)
    assert sequences(server, reader) == []
    if event == "ack":
        server.ask(rq.Ack("s", "c", AckKind.ACK, [2]))
        (ack,) = [each for each in server.withheld if isinstance(each, Replicate)]
        server.withheld.remove(ack)
        server.starving = []
        server.step(Replicated(log, ack.position))
    elif event == "expiry":
        server.pass_ms(6_000)
    else:
        stream = next(iter(server.node._state.replicas.values())).stream
        before = stream.layout
        server.node._checkpoints.begin()
        server.step()
        assert stream.layout > before
    server.feed()
    wanted = [1, 3] if event == "ack" else [1, 2, 3]
    assert sorted(sequences(server, reader)) == wanted, "its credit came back, and each message came once"
    assert {count for _, count, _ in server.delivered[reader]} == {1}
    server.node.check()


def test_a_fetch_that_is_stale_when_it_is_confirmed_takes_what_is_due_then() -> None:
    server = server_with(ack_wait_ms=1_000)
    server.publish("s", b"one")
    server.starve("s")
    token = server.ask(rq.Fetch("s", "c"))
    server.pass_ms(2_000)
    server.feed()
    assert server.bodies[token] == [(1, 1, b"one")], (
        "its own confirmation came in time, and nothing else was an attempt"
    )
    assert server.fetch() == []


def test_a_delivery_that_was_confirmed_during_a_pause_longer_than_its_wait_does_not_leave() -> None:
    server = server_with(ack_wait_ms=1_000)
    server.publish("s", b"one")
    server.starve("s")
    token = server.ask(rq.Fetch("s", "c"))
    server.mono_ns += 2_000_000_000
    server.feed()
    assert server.bodies[token] == [(1, 1, b"one")]
    server.pass_ms(500)
    assert server.fetch() == [], "its wait began after the pause"


@pytest.mark.parametrize("kind", [AckKind.NAK, AckKind.IN_PROGRESS])
@pytest.mark.parametrize("stale", [False, True])
def test_a_late_answer_means_no_delivery_that_waits_for_its_confirmation(kind: AckKind, stale: bool) -> None:
    server = server_with(ack_wait_ms=1_000, max_deliver=2)
    server.publish("s", b"one")
    assert server.fetch() == [(1, 1, b"one")]
    server.pass_ms(1_100)
    server.starve("s")
    token = server.ask(rq.Fetch("s", "c"))
    server.ask(rq.Ack("s", "c", kind, [1]))
    if stale:
        server.pass_ms(1_100)
        server.ask(rq.Ack("s", "c", kind, [1]))
    server.feed()
    assert server.bodies[token] == [(1, 2, b"one")], "its second and last attempt leaves, and is one"
    assert [payload for _, _, payload in server.all("s")] == [b"one"], "it was not given up before"


def test_a_fetch_whose_consumer_is_deleted_before_it_is_confirmed_is_told_so() -> None:
    server = server_with(ack_wait_ms=1_000)
    server.publish("s", b"one")
    server.starve("s")
    token = server.ask(rq.Fetch("s", "c"))
    server.ask(rq.DeleteConsumer("s", "c"))
    server.pass_ms(2_000)
    server.withheld.sort(key=lambda effect: isinstance(effect, Confirm))
    server.feed()
    answer = server.replies[token]
    assert isinstance(answer, Answer) and answer.code == NO_SUCH_CONSUMER


def test_a_cancelled_fetch_gives_back_what_waited_at_the_gate() -> None:
    server = server_with()
    server.publish("s", b"one")
    server.starve("s")
    token = server.ask(rq.Fetch("s", "c"))
    server.step(Cancel(Token(token)))
    server.feed()
    assert token not in server.replies
    assert server.fetch() == [(1, 1, b"one")]


def test_a_cancelled_subscription_gives_back_what_waited_at_the_gate() -> None:
    server = server_with()
    server.publish("s", b"one")
    server.starve("s")
    reader = server.subscribe("s", "c", messages=10)
    server.step(Cancel(Token(reader)))
    server.feed()
    assert sequences(server, reader) == []
    assert server.fetch() == [(1, 1, b"one")]


def test_a_reader_that_stops_when_empty_gets_what_waits_at_the_gate_first() -> None:
    server = server_with()
    server.publish("s", b"one", b"two")
    server.starve("s")
    reader = server.subscribe("s", "c", stop_when_empty=True, messages=10)
    assert reader not in server.ends
    server.feed()
    assert sequences(server, reader) == [1, 2]
    assert server.ends[reader].reason == "empty"


def test_a_reader_that_stops_when_empty_ends_if_another_answered_what_waited_for_it() -> None:
    server = server_with()
    server.publish("s", b"one")
    log = server.log_id("s")
    server.starve("s")
    reader = server.subscribe("s", "c", stop_when_empty=True, messages=10)
    server.ask(rq.Ack("s", "c", AckKind.ACK, [1]))
    server.starving, server.withheld = [], [each for each in server.withheld if isinstance(each, Confirm)]
    server.step(Replicated(log, figures(server).durable))
    server.feed()
    assert sequences(server, reader) == []
    assert server.ends[reader].reason == "empty"


def test_what_waits_at_the_gate_counts_against_the_window() -> None:
    server = server_with()
    server.publish("s", *[b"x"] * 10)
    server.starve("s")
    token = server.token()
    server.step(Call(Token(token), ANYONE, rq.Subscribe("s", "c", 2, window=3)), Credit(Token(token), 10, 1 << 20))
    server.feed()
    assert sequences(server, token) == [1, 2, 3]


# ---------------------------------------------------------------- ends


def test_the_deletion_of_a_stream_answers_what_waits_for_it() -> None:
    server = server_with()
    server.publish("s", b"one")
    server.starve("s")
    change, fetch = server.ask(publish("s", ("a", b"x"))), server.ask(rq.Fetch("s", "c"))
    read, reader = server.ask(rq.ReadRange("s", 1, 10)), server.subscribe("s", "c", messages=10)
    server.ok(rq.DeleteStream("s"))
    for token in (change, fetch):
        assert (refusal(server, token).status, refusal(server, token).outcome) == (Status.ABORTED, Outcome.UNKNOWN)
    assert code(server, read) == "no_such_stream"
    assert server.ends[reader].reason == "stream_deleted"
    held = list(server.withheld)
    server.feed()
    assert held
    assert server.node.stats.inflight_bytes == server.node.stats.pending_records == 0
    server.create("s")
    assert server.publish("s", b"anew").first_seq == 1
    server.node.check()


def test_a_record_that_was_in_flight_when_its_stream_was_deleted_waits_for_no_majority() -> None:
    server = server_with()
    server.starve("s")
    with Play(server) as play:
        play.tell((1, rq.DeleteStream("s")), (2, publish("s", ("a", b"x"))))
        play.lines.clear()
        play.done(1)
        play.step(*[Replicated(0, figures(server, "").durable)])
        play.lines.clear()
        while play.jobs:
            play.done(min(play.jobs))
        play.lines.clear()
    server.node.check()
    assert server.node.stats.inflight_bytes == 0


def test_an_orderly_stop_waits_two_seconds_for_majorities_and_answers_unknown() -> None:
    server = server_with("s", "t")
    server.publish("s", b"one")
    server.starve("s")
    change, read, fetch = (
        server.ask(publish("s", ("a", b"x"))), server.ask(rq.GetStreamInfo("s")), server.ask(rq.Fetch("s", "c")),
    )  # fmt: skip
    server.step(Drain())
    server.pass_ms(1_900)
    assert [server.halted is None, change in server.replies] == [True, False]
    server.pass_ms(200)
    assert server.halted is not None
    assert server.halted.clean
    assert (refusal(server, change).status, refusal(server, change).outcome) == (Status.UNAVAILABLE, Outcome.UNKNOWN)
    assert refusal(server, read).outcome is Outcome.NOT_APPLIED
    assert fetch in server.replies
    server.starving = []
    server.kill()
    assert [payload for _, _, payload in server.all()] == [b"one", b"x"], "at a start all that is durable counts"


def test_an_orderly_stop_goes_on_when_the_majority_comes() -> None:
    server = server_with()
    server.starve("s")
    change = server.ask(publish("s", ("a", b"x")))
    server.step(Drain())
    server.pass_ms(500)
    server.feed()
    assert server.halted is not None
    assert code(server, change) == "ok"


@pytest.mark.parametrize("bound", [{"uncommitted_records_max": 4}, {"uncommitted_bytes_max": 400}])
def test_a_crowded_log_refuses_changes_and_goes_on_when_majorities_come(bound: dict[str, int]) -> None:
    server = Server(replace(SMALL, **bound), replicated=True)
    for name in ("s", "t"):
        server.create(name)
    server.starve("s")
    tokens = [server.ask(publish("s", ("a", bytes(100)))) for _ in range(4)]
    refused = [
        server.ask(publish("s", ("a", b"too much"))),
        server.ask(rq.UpdateStream("s", max_msgs=5)),
        server.ask(rq.CreateConsumer("s", consumer_config("c"))),
    ]
    for token in refused:
        found = refusal(server, token)
        assert (found.status, found.outcome) == (Status.RESOURCE_EXHAUSTED, Outcome.NOT_APPLIED)
    server.publish("t", b"another stream has its own bound")
    server.feed()
    assert all(code(server, token) == "ok" for token in tokens)
    assert server.publish("s", b"again").first_seq == 5
    assert server.stats().msg_count == 5


def test_a_report_of_what_waits_at_the_gate_is_no_report() -> None:
    server = server_with()
    server.publish("s", b"one")
    server.starve("s")
    reader = server.subscribe("s", "c", messages=10)
    server.step(Report(Token(reader), 0))
    server.feed()
    assert sequences(server, reader) == [1]

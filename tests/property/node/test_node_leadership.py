"""A node that steps down decides nothing, forgets what was only decided, and leads again when its whole log is applied."""

from __future__ import annotations

from tests.kit.node_kit import Server, publish
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Confirm
from waymaker_core.api.inputs import Call, Confirmed, Credit, Lead, Report, StepDown
from waymaker_core.api.requests import AckKind
from waymaker_core.model.result_codes import Outcome, Refusal, Status
from waymaker_core.model.types import ANYONE, Token


def led() -> tuple[Server, int]:
    server = Server(replicated=True)
    server.create("s")
    server.consumer("s", "c", max_deliver=5, ack_wait_ms=10_000)
    return server, server.log_id("s")


def test_who_does_not_lead_refuses_and_changes_nothing() -> None:
    server, stream_id = led()
    server.publish("s", b"one")
    server.step(StepDown(stream_id))
    for request in (
        publish("s", ("a", b"x")),
        rq.Fetch("s", "c", 1),
        rq.GetStreamInfo("s"),
        rq.Ack("s", "c", AckKind.ACK, [1]),
    ):
        answer = server.call(request)
        assert isinstance(answer, Refusal)
        assert (answer.status, answer.outcome) == (Status.UNAVAILABLE, Outcome.NOT_APPLIED)
    server.step(Lead(stream_id))
    assert server.all() == [(1, 0, b"one")]
    assert server.publish("s", b"two").first_seq == 2


def test_a_publish_without_a_majority_is_unknown_and_is_there_when_it_is_led_again() -> None:
    server, stream_id = led()
    server.starve("s")
    token = Token(server.token())
    server.step(Call(token, ANYONE, publish("s", ("a", b"x"))))
    server.step(StepDown(stream_id))
    answer = server.replies[token]
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.outcome) == (Status.ABORTED, Outcome.UNKNOWN)
    server.step(Lead(stream_id))
    refused = server.call(publish("s", ("a", b"y")))
    assert isinstance(refused, Refusal), "nothing is decided over a record that may not be committed"
    server.feed()
    assert server.publish("s", b"y").first_seq == 2


def test_a_staged_ack_counts_when_its_record_is_committed_and_only_then() -> None:
    server, stream_id = led()
    server.publish("s", b"one", b"two")
    assert len(server.fetch("s", "c", 2)) == 2
    server.starve("s")
    server.step(Call(Token(server.token()), ANYONE, rq.Ack("s", "c", AckKind.ACK, [1])))
    server.step(StepDown(stream_id))
    server.feed()
    server.step(Lead(stream_id))
    server.pass_ms(20_000)
    assert [(seq, count) for seq, count, _ in server.fetch("s", "c", 5)] == [(2, 2)]


def test_readers_end_as_moved_and_what_they_did_not_report_is_due_at_once_and_uncounted() -> None:
    server, stream_id = led()
    server.reports = False
    server.publish("s", b"one", b"two")
    token = Token(server.token())
    server.step(Call(token, ANYONE, rq.Subscribe("s", "c", 5)), Credit(token, 5, 1 << 20))
    server.step(Report(token, 1))
    server.step(StepDown(stream_id))
    assert server.ends[token].reason == "moved"
    server.step(Lead(stream_id))
    server.step(Report(token, 2))
    assert [(seq, count) for seq, count, _ in server.fetch("s", "c", 5)] == [(2, 1)]
    server.node.check()


def test_a_late_report_of_an_earlier_fetch_means_no_delivery_of_the_new_leading() -> None:
    server, stream_id = led()
    server.reports = False
    server.publish("s", b"one")
    token = Token(server.token())
    server.step(Call(token, ANYONE, rq.Fetch("s", "c", 1)))
    server.step(StepDown(stream_id))
    server.step(Lead(stream_id))
    assert [(seq, count) for seq, count, _ in server.fetch("s", "c", 1)] == [(1, 1)]
    server.step(Report(token, 1))
    server.node.check()


def test_a_restart_after_a_step_down_finds_the_whole_log() -> None:
    server, stream_id = led()
    server.publish("s", b"one")
    server.step(StepDown(stream_id))
    server.kill()
    assert server.publish("s", b"two").first_seq == 2


def test_a_confirmation_of_an_earlier_leading_confirms_no_later_question() -> None:
    server, stream_id = led()
    server.publish("s", b"one")
    server.starve("s")
    first = server.ask(rq.GetStreamInfo("s"))
    (earlier,) = [each for each in server.withheld if isinstance(each, Confirm)]
    server.step(StepDown(stream_id))
    server.step(Lead(stream_id))
    later = server.ask(rq.GetStreamInfo("s"))
    server.step(Confirmed(stream_id, earlier.question))
    assert first not in server.replies, "it was asked anew"
    assert later not in server.replies
    server.feed()
    assert later in server.replies

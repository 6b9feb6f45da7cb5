"""Copying from sources by a node: what is copied, in which order, and what follows where it cannot be."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.node_kit import SMALL, publish, stream_config
from tests.kit.source_kit import SourceServer, source
from tests.property.node.handlers.test_node_archives import export, put_back
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import Lead, StepDown
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import Answer


def served(*sources: object, **settings: object) -> SourceServer:
    server = SourceServer()
    server.create("a")
    server.create("b", sources=sources or (source(),), **settings)
    return server


def test_copies_come_in_order_with_their_origin() -> None:
    server = served()
    server.send("a", 5)
    copies = server.copies()
    assert [copy.payload for copy in copies] == [b"0", b"1", b"2", b"3", b"4"]
    assert [copy.seq for copy in copies] == [copy.source_seq for copy in copies] == [1, 2, 3, 4, 5]
    assert {copy.subject for copy in copies} == {"x.y"}
    assert copies[0].headers == {
        "waymaker-source-stream": "a",
        "waymaker-source-subject": "x.y",
        "waymaker-source-seq": "1",
        "waymaker-source-ts-ms": str(1_700_000_000_000),
    }
    status = server.status()
    assert (status.source_stream, status.last_sourced_seq, status.pulled_total, status.last_error) == ("a", 5, 5, "")


def test_what_was_there_before_is_copied_too() -> None:
    server = SourceServer()
    server.create("a")
    server.send("a", 300)
    server.create("b", sources=(source(),))
    assert server.origins() == list(range(1, 301))


def test_a_missing_source_is_waited_for() -> None:
    server = SourceServer()
    server.create("b", sources=(source(),))
    assert "does not exist" in server.status().last_error
    due = server.node.next_deadline()
    assert due is None or due > server.mono_ns, "nothing polls"
    server.create("a")
    server.send("a", 2)
    assert server.origins() == [1, 2]
    assert server.status().last_error == ""


def test_filter_first_then_transform() -> None:
    server = served(source(filter_subject="x.*", rule=("x.*", "y.{{wildcard(1)}}")))
    server.ok(publish("a", ("x.1", b"1"), ("z", b"2"), ("x.3", b"3")))
    assert [(copy.subject, copy.source_seq) for copy in server.copies()] == [("y.1", 1), ("y.3", 3)]
    assert server.copies()[0].headers["waymaker-source-subject"] == "x.1"
    server.ok(publish("a", ("z", b"4")))
    assert server.status().last_sourced_seq == 4, "the position moves over what the filter excludes"


def test_copies_bypass_the_filter_and_heed_the_limits() -> None:
    server = served(subjects_filter=("only.this",), max_msgs=2, strict_limits=True)
    server.send("a", 5)
    assert server.origins() == [4, 5]


def test_starts_where_it_is_told_to() -> None:
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"start_seq": 3}, [3, 4, 5]),
        ({"max_initial_backfill": 2}, [4, 5]),
        ({"start_seq": 2, "max_initial_backfill": 10}, [2, 3, 4, 5]),
        ({"start_seq": 7}, []),
    ]
    server = SourceServer()
    for settings_, wanted in cases:
        server = SourceServer()
        server.create("a")
        server.send("a", 5)
        server.create("b", sources=(source(**settings_),))
        assert server.origins() == wanted
    server.send("a", 3)
    assert server.origins() == [7, 8], "a first sequence that lies ahead is waited for"


def test_several_sources_of_one_stream() -> None:
    server = served(source("a", filter_subject="x.>"), source("c"), source("a", filter_subject="z"))
    server.create("c")
    server.send("a", 3)
    server.send("c", 2)
    server.ok(publish("a", ("z", b"z")))
    copies = server.copies()
    assert [copy.source_seq for copy in copies if copy.stream == "a"] == [1, 2, 3, 4]
    assert [copy.source_seq for copy in copies if copy.stream == "c"] == [1, 2]


def test_chains_keep_the_first_origin() -> None:
    server = served()
    server.create("c", sources=(source("b", rule=(">", "c.>")),))
    server.create("d", sources=(source("c"),))
    server.send("a", 2)
    last = server.copies("d")[-1]
    assert (last.subject, last.payload) == ("c.x.y", b"1")
    assert last.headers["waymaker-source-stream"] == "c"
    assert last.headers["waymaker-source-origin-stream"] == "a"
    assert last.headers["waymaker-source-origin-subject"] == "x.y"
    assert len(last.headers) == 8


def test_a_restart_continues_and_repeats_nothing() -> None:
    server = served()
    for _ in range(4):
        server.send("a", 7)
        server.kill()
        server.send("a", 3)
        server.restart()
    assert server.origins() == list(range(1, 41))


def test_the_position_outlives_checkpoints_and_the_pruning_of_the_source() -> None:
    server = served()
    for _ in range(30):
        server.send("a", 50)
    server.ok(rq.UpdateStream("a", max_msgs=1))
    server.pass_ms(1_000)
    server.kill()
    server.send("a", 1)
    assert server.origins() == list(range(1, 1_502))
    assert server.status().last_error == ""


def test_a_recreated_source_is_told_by_its_incarnation() -> None:
    server = served()
    server.send("a", 3)
    server.ok(rq.DeleteStream("a"))
    assert "does not exist" in server.status().last_error
    server.create("a")
    server.send("a", 2, start=100)
    assert [copy.payload for copy in server.copies()] == [b"0", b"1", b"2", b"100", b"101"]
    assert "created anew" in server.status().last_error
    server.kill()
    server.send("a", 1, start=200)
    assert server.copies()[-1].payload == b"200"
    assert len(server.copies()) == 6


def lagging(*, skip: bool) -> SourceServer:
    """Return a server whose source was pruned while no copies could be made."""
    server = SourceServer(replicated=True)
    server.create("a", max_msgs=3, strict_limits=True)
    server.create("b", sources=(source(skip=skip),))
    server.send("a", 2)
    server.step(StepDown(server.log_id("b")))
    server.send("a", 10)
    server.step(Lead(server.log_id("b")))
    return server


def test_pruned_before_copied_halts() -> None:
    server = lagging(skip=False)
    assert server.origins() == [1, 2]
    assert "pruned" in server.status().last_error and "stopped" in server.status().last_error
    server.send("a", 1)
    assert server.origins() == [1, 2]
    server.ok(rq.DeleteStream("a"))
    server.create("a")
    server.send("a", 1)
    assert server.origins() == [1, 2, 1], "a new incarnation has no gap"


def test_pruned_before_copied_is_skipped_where_that_is_wanted() -> None:
    server = lagging(skip=True)
    assert server.origins() == [1, 2, 10, 11, 12]
    assert "from sequence 3 up to 9" in server.status().last_error


def test_what_cannot_be_copied_is_recorded_and_passed_over() -> None:
    server = SourceServer()
    server.create("a")
    server.create("dead")
    server.create("b", sources=(source(rule=("x.*", "y.{{wildcard(1)}}"), dlq_stream="dead"),), max_msg_bytes=10)
    server.ok(publish("a", ("x.1", b"1"), ("z", b"2"), ("x.3", bytes(11)), ("x.4", b"4")))
    assert server.origins() == [1, 4]
    letters = [json.loads(copy.payload) for copy in server.copies("dead")]
    assert [(letter["seq"], letter["subject"]) for letter in letters] == [(2, "z"), (3, "x.3")]
    assert "does not match" in letters[0]["error"] and "max_msg_bytes" in letters[1]["error"]
    assert "message 2 cannot be copied" in server.status().last_error
    server.kill()
    server.ok(publish("a", ("z", b"5")))
    assert len(server.copies("dead")) == 3


def test_letters_wait_for_their_stream() -> None:
    server = SourceServer()
    server.create("a")
    server.create("b", sources=(source(rule=("x", "y"), dlq_stream="dead"),))
    server.ok(publish("a", ("x", b"1"), ("z", b"2"), ("x", b"3")))
    assert server.origins() == []
    assert "dead" in server.status().last_error
    server.create("dead")
    server.pass_ms(10_000)
    assert server.origins() == [1, 3]
    assert len(server.copies("dead")) == 1


def test_a_letter_that_may_have_been_stored_is_stored_once() -> None:
    server = SourceServer(replicated=True)
    server.create("a")
    server.create("dead")
    server.create("b", sources=(source(rule=("x", "y"), dlq_stream="dead"),))
    server.starve("dead")
    server.ok(publish("a", ("z", b"1"), ("z", b"2")))
    # The letters are written and their answer does not come: the stream is led anew, and sends them again.
    server.step(StepDown(server.log_id("b")))
    server.step(Lead(server.log_id("b")))
    server.feed()
    server.pass_ms(10_000)
    assert len(server.copies("dead")) == 2
    assert server.status().last_sourced_seq == 2


def test_very_many_messages_are_copied_in_bounded_batches() -> None:
    limits = Limits(
        segment_bytes=64 << 10, record_messages_max=16, record_bytes_max=1 << 10, checkpoint_journal_bytes=32 << 10
    )
    server = SourceServer(limits)
    server.create("a")
    for number in range(20):
        server.send("a", 50, start=50 * number)
    server.create("b", sources=(source(),))
    assert server.origins() == list(range(1, 1_001))


def test_cycles_are_refused_in_any_order() -> None:
    server = SourceServer()

    def refused(name: str, *sources: object) -> bool:
        answer = server.call(rq.CreateStream(stream_config(name, sources=sources)))
        assert isinstance(answer, Answer)
        return answer.code == "invalid_config"

    server.create("b", sources=(source("a"),))
    server.create("c", sources=(source("b"),))
    assert refused("a", source("c"))
    assert refused("a", source("b"))
    assert refused("a", source("a"))
    assert refused("e", source("f", dlq_stream="f"))
    assert refused("a", source("z", dlq_stream="z"))
    assert refused("z", source("c", dlq_stream="a"))
    server.create("a", sources=(source("z"),))
    assert refused("z", source("c"))
    server.ok(rq.DeleteStream("b"))
    server.create("z", sources=(source("c"),))
    assert refused("b", source("a"))


def test_bad_settings_are_refused() -> None:
    server = SourceServer()
    for bad, word in (
        ((source("a", start_time_ms=1),), "start_time_ms"),
        ((source("a"), source("a")), "overlap"),
        ((source("a", filter_subject="x.*"), source("a", filter_subject="x.1")), "overlap"),
        ((source("a", rule=("x.*", "{{wildcard(2)}}")),), "wildcard"),
        ((source("a", filter_subject="x..y"),), "filter_subject"),
        ((source("a.b"),), "source"),
        ((source("a", dlq_stream="kv:x"),), "kv:"),
        ((source("a", start_seq=-1),), "start_seq"),
        (tuple(source(f"a{n}") for n in range(65)), "64"),
    ):
        answer = server.call(rq.CreateStream(stream_config("b", sources=bad)))
        assert isinstance(answer, Answer)
        assert answer.code == "invalid_config" and word in answer.message, answer
    answer = server.call(rq.CreateStream(stream_config("kv:b", sources=(source(),))))
    assert isinstance(answer, Answer) and answer.code == "invalid_config"


def test_nothing_uncommitted_is_copied() -> None:
    server = SourceServer(replicated=True)
    server.create("a")
    server.create("b", sources=(source(),))
    server.send("a", 1)
    server.starve("a")
    server.ask(publish("a", ("x", b"uncommitted")))
    server.pass_ms(2_000)
    assert server.origins() == [1]
    server.feed()
    assert server.origins() == [1, 2]


def test_copies_wait_for_the_stream_s_own_majority() -> None:
    server = SourceServer(replicated=True)
    server.create("a")
    server.create("b", sources=(source(),))
    server.starve("b")
    for number in range(20):
        server.send("a", 1, start=number)
    server.feed()
    server.pass_ms(10_000)
    assert server.origins() == list(range(1, 21))


def test_leading_again_continues_from_the_committed_position() -> None:
    server = SourceServer(replicated=True)
    server.create("a")
    server.create("b", sources=(source(),))
    server.send("a", 3)
    server.starve("b")
    server.send("a", 3)
    server.step(StepDown(server.log_id("b")))
    server.send("a", 3)
    server.feed()
    server.step(Lead(server.log_id("b")))
    server.pass_ms(10_000)
    assert server.origins() == list(range(1, 10))


def test_a_deleted_stream_copies_no_more() -> None:
    server = served()
    server.send("a", 3)
    server.ok(rq.DeleteStream("b"))
    server.send("a", 3)
    server.create("b", sources=(source(),))
    assert server.origins() == [1, 2, 3, 4, 5, 6]


def test_statuses_of_all_streams_by_pages() -> None:
    server = served()
    server.create("c", sources=(source("a", filter_subject="x"), source("z")))
    server.send("a", 1)
    page = server.ok(rq.GetStreamSources())
    assert isinstance(page, rq.Page)
    assert [(each.stream, each.source_stream) for each in page.entries] == [("b", "a"), ("c", "a"), ("c", "z")]
    page = server.ok(rq.GetStreamSources("", 1))
    assert isinstance(page, rq.Page) and page.next_after == "b"
    page = server.ok(rq.GetStreamSources("b", 1))
    assert isinstance(page, rq.Page)
    assert [each.stream for each in page.entries] == ["c", "c"] and not page.next_after


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["send", "kill", "power", "restart", "big", "other"]), max_size=12), st.integers(0, 9))
def test_every_message_once_and_in_order(deeds: list[str], seed: int) -> None:
    server = SourceServer(SMALL, seed=seed)
    server.create("a")
    server.create("b", sources=(source(filter_subject="x.>"),))
    number = 0
    wanted: list[bytes] = []
    for deed in deeds:
        if deed == "kill":
            server.kill()
        elif deed == "power":
            server.lose_power()
        elif deed == "restart":
            server.restart()
        else:
            count = 400 if deed == "big" else 5
            server.send("a", count, "q" if deed == "other" else "x.1", number)
            wanted += [] if deed == "other" else [b"%d" % each for each in range(number, number + count)]
            number += count
    server.pass_ms(20_000)
    assert [copy.payload for copy in server.copies()] == wanted
    assert server.status().last_sourced_seq == server.stats("a").last_seq


def test_an_archive_keeps_positions() -> None:
    server = served()
    server.send("a", 5)
    head, batches = export(server, "b")
    server.ok(rq.DeleteStream("b"))
    server.send("a", 2)
    put_back(server, "c", head, batches)
    assert server.origins("c") == [1, 2, 3, 4, 5, 6, 7], "copying goes on where the archive ended"


def test_an_archive_that_would_close_a_cycle_is_refused() -> None:
    server = served()
    head, _ = export(server, "b")
    server.create("d", sources=(source("x"),))
    answer = server.call(rq.ImportBegin("a", head))
    assert isinstance(answer, Answer) and answer.code in ("invalid_config", "already_exists")
    server.ok(rq.DeleteStream("a"))
    answer = server.call(rq.ImportBegin("a", head))
    assert isinstance(answer, Answer) and answer.code == "invalid_config", "it would be its own source"


def test_sequences_that_an_unclean_stop_skipped_are_no_gap() -> None:
    server = SourceServer(sync_interval_ms=1_000)
    server.create("a", max_msgs=1, strict_limits=True)
    server.create("b", sources=(source(),))
    server.send("a", 1)
    server.pass_ms(3_000)
    assert server.origins() == [1]
    server.kill()
    server.send("a", 1)
    server.pass_ms(3_000)
    first, second = server.origins()
    assert first == 1 and second > 2, "the source skipped what may have been assigned"
    assert server.status().last_error == ""


def test_an_ephemeral_source_begins_anew_with_the_server() -> None:
    server = SourceServer()
    server.create("a", ephemeral=True)
    server.create("b", sources=(source(),))
    server.send("a", 3)
    server.kill()
    server.send("a", 2, start=7)
    assert [copy.payload for copy in server.copies()] == [b"0", b"1", b"2", b"7", b"8"]
    assert "created anew" in server.status().last_error


def test_an_ephemeral_stream_that_copies_begins_anew() -> None:
    server = SourceServer()
    server.create("a")
    server.create("b", sources=(source(),), ephemeral=True)
    server.send("a", 3)
    assert server.origins() == [1, 2, 3]
    server.kill()
    assert server.origins() == [1, 2, 3]


def test_a_bound_per_subject_holds_for_copies() -> None:
    server = served(max_msgs_per_subject=2)
    server.send("a", 5)
    server.ok(publish("a", ("y", b"other")))
    assert server.origins() == [4, 5, 6]


def test_consumers_receive_copies() -> None:
    server = served()
    server.consumer("b", "c")
    server.send("a", 3)
    assert [payload for _, _, payload in server.fetch("b", "c")] == [b"0", b"1", b"2"]


def test_an_orderly_stop_ends_while_the_source_is_busy() -> None:
    server = served()
    server.send("a", 400)
    assert server.drain().clean
    server.open()
    assert server.origins() == list(range(1, 401))


def test_sources_and_letters_that_starve_hold_up_no_other() -> None:
    server = SourceServer(replicated=True)
    server.create("dead")
    for number in range(24):
        server.create(f"starving{number}")
        server.create(f"behind{number}", sources=(source(f"starving{number}"),))
        server.create(f"refusing{number}", sources=(source("a", rule=("x", "y"), dlq_stream="dead"),))
    server.starve("dead", *[f"starving{number}" for number in range(24)])
    server.create("a")
    server.create("b", sources=(source(),))
    server.send("a", 3)
    for number in range(24):
        server.ask(publish(f"starving{number}", ("x", b"1")))
    server.send("a", 3)
    assert server.origins() == [1, 2, 3, 4, 5, 6]
    server.feed()
    server.pass_ms(20_000)
    assert all(server.origins(f"behind{number}") == [1] for number in range(24))
    assert all(server.status(f"refusing{number}").last_sourced_seq == 6 for number in range(24))
    assert len(server.copies("dead")) == 24 * 6


def test_many_streams_copy_from_one() -> None:
    server = SourceServer()
    for number in range(300):
        server.create(f"b{number}", sources=(source(),))
    server.create("a")
    server.send("a", 5)
    assert all(server.origins(f"b{number}") == [1, 2, 3, 4, 5] for number in range(0, 300, 37))

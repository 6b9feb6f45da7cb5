"""A replicated node that starts: what is known to be committed is applied, the rest waits as a suffix of its log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import SMALL, Server, publish, stream_config
from tests.property.node.startup.test_node_own_log import archived, begun
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Replicate
from waymaker_core.api.inputs import Lead, Replicated
from waymaker_core.model.limits import KIB
from waymaker_core.model.result_codes import NO_SUCH_STREAM, OK, Answer, Outcome, Refusal, Status
from waymaker_core.model.types import ANYONE, StreamId
from waymaker_core.node.calls import Calls
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.storage.recovery.verify import verify

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB)


def ends(server: Server, name: str = "s") -> tuple[int, int, int]:
    return next((each.applied, each.durable, each.end) for each in server.node.log_figures() if each.name == name)


def log_of(server: Server, name: str = "s") -> StreamLog:
    return next(replica.log for replica in server.node._state.replicas.values() if replica.name == name)


def payloads(server: Server, name: str = "s") -> list[bytes]:
    return [payload for _, _, payload in server.all(name)]


def starving() -> Server:
    """A stream with two records that are committed, which the journal says, and two that wait for a majority."""
    server = Server(replicated=True)
    server.create("s")
    server.publish("s", b"1")
    server.publish("s", b"2")
    server.pass_ms(200)
    server.starve("s")
    for body in (b"3", b"4"):
        server.ask(publish("s", ("a", body)))
    return server


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_what_may_not_be_committed_is_not_applied_by_a_start_and_nobody_decides_over_it(power: bool) -> None:
    server = starving()
    server.lose_power() if power else server.kill()
    assert ends(server) == (2, 4, 4)
    answer = server.call(publish("s", ("a", b"5")))
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.outcome) == (Status.UNAVAILABLE, Outcome.NOT_APPLIED)
    assert [each for each in server.withheld if isinstance(each, Replicate)], "it sends its suffix to the others"
    server.step(Replicated(server.log_id("s"), 3))
    assert ends(server) == (3, 4, 4)
    server.node.check()
    server.feed()
    assert payloads(server) == [b"1", b"2", b"3", b"4"]
    assert server.publish("s", b"5").first_seq == 5


def test_a_commit_is_written_with_a_flush_that_happens_anyway_or_alone_after_a_while() -> None:
    server = Server(replicated=True)
    server.create("s")
    server.create("t")
    server.publish("s", b"1")
    crashed = Server(disk=server.disk.copy(), replicated=False)
    assert payloads(crashed) == [b"1"]
    for wait in (False, True):
        server.publish("s", b"2")
        server.pass_ms(150 if wait else 20)
        if not wait:
            server.publish("t", b"x")
        again = Server(disk=server.disk.copy(), replicated=True)
        again.starving = [server.log_id("s")]
        again.kill()
        assert ends(again)[0] == ends(server)[0]
    syncs = server.node.stats.syncs
    server.pass_ms(5_000)
    assert server.node.stats.syncs <= syncs + 1, "a watermark at most"


def test_an_orderly_stop_says_what_is_committed() -> None:
    server = Server(replicated=True)
    server.create("s")
    server.publish("s", b"1")
    server.restart()
    assert ends(server) == (1, 1, 1)
    assert not server.asked, "nothing was in doubt"
    assert server.publish("s", b"2").first_seq == 2


def test_acks_in_a_suffix_count_when_they_are_committed() -> None:
    server = Server(replicated=True)
    server.create("s")
    server.consumer("s", "c", ack_wait_ms=60_000)
    server.publish("s", b"1", b"2")
    assert len(server.fetch()) == 2
    server.pass_ms(200)
    server.starve("s")
    server.ask(rq.Ack("s", "c", rq.AckKind.ACK, [1]))
    server.kill()
    assert ends(server)[0] < ends(server)[1]
    server.feed()
    assert server.info().ack_floor == 1


def test_a_suffix_goes_through_checkpoints_and_further_starts() -> None:
    server = Server(TINY, replicated=True)
    server.create("busy", block_size=20, max_msgs=50)
    server.create("s")
    server.publish("s", b"1")
    server.pass_ms(200)
    server.starve("s")
    server.ask(publish("s", ("a", b"2")))
    for _ in range(3):
        first = log_of(server).entries[0].segment
        for _ in range(150):
            server.publish("busy", bytes(300))
        server.kill()
        assert ends(server) == (1, 2, 2)
        assert log_of(server).entries[0].segment > first
        assert not server.disk.copy().drive(verify(Restoring(TINY), TINY)).has_damage
    server.feed()
    assert payloads(server) == [b"1", b"2"]


# ---------------------------------------------------------------- the catalog


def test_the_catalog_decides_nothing_before_its_whole_log_is_applied() -> None:
    server = Server(replicated=True)
    server.create("s")
    server.pass_ms(200)
    server.starve("")
    server.ask(rq.DeleteStream("s"))
    server.ask(rq.CreateStream(stream_config("t")))
    server.kill()
    for request in (rq.CreateStream(stream_config("t")), rq.CreateStream(stream_config("u")), rq.GetStreamInfo("s")):
        answer = server.call(request)
        assert isinstance(answer, Refusal)
        assert (answer.status, answer.outcome) == (Status.UNAVAILABLE, Outcome.NOT_APPLIED)
    server.feed()
    assert isinstance(server.call(rq.CreateStream(stream_config("u"))), Answer)
    assert server.call(rq.GetStreamInfo("s")).code == "no_such_stream"
    assert server.publish("t", b"1").first_seq == 1


def unknown_stream() -> Server:
    """A stream whose creation is not known to be committed, with records behind it."""
    server = Server(TINY, replicated=True)
    server.create("busy", block_size=20, max_msgs=50)
    server.pass_ms(200)
    disk = server.disk
    server.node._facts.note_commit = lambda log: None  # type: ignore[method-assign]
    server.create("s")
    server.publish("s", b"1")
    server.publish("s", b"2")
    assert server.disk is disk
    return server


def test_records_of_a_stream_that_the_catalog_does_not_know_yet_are_kept_and_told() -> None:
    server = unknown_stream()
    stream_id = server.log_id("s")
    server.starving = [0, stream_id]
    server.kill()
    assert list(server.node._state.unknown) == [stream_id]
    (told,) = [log for log in server.logs if log.event == "unknown_stream"]
    assert told.fields == {"stream_id": stream_id, "records": 2}
    report = server.disk.copy().drive(verify(Restoring(TINY), TINY))
    (finding,) = [each for each in report.findings if each.stream_id == stream_id]
    assert finding.harmless
    assert "2 records of a stream that the catalog does not know yet; they are kept" in finding.detail
    server.step(Replicated(stream_id, 2))  # of a stream that is not known: it is remembered
    server.feed()
    assert payloads(server) == [b"1", b"2"]
    server.node.check()
    assert server.publish("s", b"3").first_seq == 3


def test_a_read_that_came_before_the_catalog_knew_its_stream_finds_it() -> None:
    server = unknown_stream()
    stream_id = server.log_id("s")
    server.starving = [0, stream_id]
    server.kill()
    early = server.ask(rq.GetStreamInfo("s"))
    server.step(Replicated(0, server.node._state.catalog_log.end))
    server.step(Replicated(stream_id, 2))
    while server.withheld:
        server.feed()
    answer = server.replies[early]
    assert isinstance(answer, Answer)
    assert isinstance(answer.value, rq.StreamInfo), "its creation was confirmed before the restart"
    assert answer.value.stats.last_seq == 2


@pytest.mark.parametrize("imported", [False, True], ids=["no message", "a message"])
def test_a_restore_ends_with_a_restart_though_the_catalog_learns_of_it_later(imported: bool) -> None:
    server = Server(replicated=True)
    server.create("busy")
    server.pass_ms(200)
    server.node._facts.note_commit = lambda log: None  # type: ignore[method-assign]
    stream_id = begun(server, archived()) if imported else import_begun(server)
    server.starving = [0, stream_id]
    server.kill()
    server.feed()
    ended = server.call(rq.ImportEnd(stream_id, True))
    assert isinstance(ended, Answer)
    assert ended.code == "no_such_stream", "what its archive held besides messages is not known any more"
    server.node.check()
    server.create("copy")
    assert not server.all("copy")


def import_begun(server: Server) -> int:
    stream_id = server.ok(rq.ImportBegin("copy", archived()))
    assert isinstance(stream_id, int)
    return stream_id


def test_there_is_always_a_stream_of_a_name_that_begins_anew() -> None:
    server = Server(replicated=True)
    server.create("e", ephemeral=True)
    server.pass_ms(200)
    before = server.log_id("e")
    server.starving = [0]
    server.kill()
    server.step(Lead(before))
    answer = server.call(publish("e", ("a", b"1")))
    assert isinstance(answer, Refusal), "its end, which is its beginning too, waits for a majority"
    assert (answer.status, answer.outcome) == (Status.UNAVAILABLE, Outcome.NOT_APPLIED)
    server.feed()
    assert server.log_id("e") != before
    assert server.publish("e", b"1").first_seq == 1


def test_a_checkpoint_carries_the_records_of_an_unknown_stream() -> None:
    server = unknown_stream()
    stream_id = server.log_id("s")
    server.starving = [0, stream_id]
    server.kill()
    server.step(Replicated(0, server.node._state.catalog_log.applied))
    state = server.node._state
    first = state.unknown[StreamId(stream_id)].entries[0].segment
    state.catalog_leads = True  # so that the busy stream is served
    for _ in range(300):
        server.publish("busy", bytes(300))
    assert state.unknown[StreamId(stream_id)].entries[0].segment > first
    server.kill()
    server.feed()
    assert payloads(server) == [b"1", b"2"]


def test_what_belongs_to_a_deleted_stream_is_skipped() -> None:
    server = Server(replicated=True)
    server.create("s")
    server.publish("s", b"1")
    server.ok(rq.DeleteStream("s"))
    server.pass_ms(200)
    server.kill()
    assert not server.node._state.unknown
    assert not [log for log in server.logs if log.event == "unknown_stream"]


# ---------------------------------------------------------------- with and without other replicas


def test_all_that_a_node_without_other_replicas_confirmed_is_committed_when_it_gets_some() -> None:
    server = Server()
    server.create("s")
    server.publish("s", b"1")
    again = Server(disk=server.disk.copy(), replicated=True)
    assert ends(again) == (1, 1, 1)
    assert not again.asked
    assert payloads(again) == [b"1"]


def test_a_node_without_other_replicas_commits_the_suffix_for_good() -> None:
    server = starving()
    alone = Server(disk=server.disk.copy())
    assert payloads(alone) == [b"1", b"2", b"3", b"4"]
    again = Server(disk=alone.disk.copy(), replicated=True)
    again.starving = [server.log_id("s")]
    again.kill()
    assert ends(again) == (4, 4, 4)


def test_an_ephemeral_stream_begins_anew_when_the_catalog_is_led() -> None:
    server = Server(replicated=True)
    server.create("e", ephemeral=True)
    server.publish("e", b"1")
    server.pass_ms(200)
    server.starve("")
    server.ask(rq.CreateStream(stream_config("t")))
    old = server.log_id("e")
    server.starving = [0]
    server.kill()
    assert isinstance(server.call(rq.GetStreamInfo("e")), Refusal)
    server.feed()
    assert server.log_id("e") != old
    assert [log.event for log in server.logs if log.event == "stream_emptied"]
    assert payloads(server, "e") == []
    server.kill()
    assert server.publish("e", b"2").first_seq == 1


def test_an_ephemeral_stream_that_is_about_to_begin_anew_is_there_to_be_deleted() -> None:
    """The record that begins it anew ends it, too: a deletion must not find that end and miss the beginning."""
    server = Server(replicated=True)
    server.create("e", ephemeral=True)
    server.pass_ms(200)
    server.starving = [0]
    server.kill()
    log = server.node._state.catalog_log
    server.step(Replicated(0, log.end - 1))
    assert server.log_id("e") and log.applied == log.end - 1, "the new beginning is decided, and waits for its majority"
    refused = server.call(rq.DeleteStream("e"))
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.outcome) == (Status.UNAVAILABLE, Outcome.NOT_APPLIED)
    server.feed()
    server.ok(rq.DeleteStream("e"))


def test_an_ephemeral_stream_is_there_at_every_committed_position_of_the_catalog() -> None:
    server = Server(replicated=True)
    server.create("e", ephemeral=True)
    server.pass_ms(200)
    old = server.log_id("e")
    server.starving = [0]
    server.kill()
    server.feed()
    assert server.log_id("e") != old
    found = []
    for committed in range(server.node._state.catalog_log.applied + 1):
        server.starving = [0]
        server.kill()
        server.step(Replicated(0, committed))
        found.append(server.node._state.catalog.find(ANYONE.account, "e") is not None)
    assert all(found)


def _asked_before_the_catalog_is_led() -> Answer | Refusal:
    """Return the answer to a read of a stream of which a start does not know yet that its creation is committed."""
    server = Server(replicated=True)
    server.create("s")
    server.starving = [0]
    server.kill()
    log = server.node._state.catalog_log
    assert log.applied < log.end
    token = server.ask(rq.GetStreamInfo("s"))
    assert token not in server.replies
    server.step(Replicated(0, log.end))
    server.feed()
    return server.replies[token]


def test_a_read_that_came_before_the_catalog_was_led_finds_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _asked_before_the_catalog_is_led()
    assert isinstance(found, Answer) and found.code == OK
    monkeypatch.setattr(Calls, "_read_unless_found", lambda self, call: self._attempt(call, None))
    lost = _asked_before_the_catalog_is_led()
    assert isinstance(lost, Answer) and lost.code == NO_SUCH_STREAM, "the rule is looked up anew when it is confirmed"


def test_a_stream_that_a_checkpoint_did_not_know_was_not_deleted() -> None:
    """The checkpoint carries the creation forward, and it is committed behind it; then the stream gets a record."""
    server = Server(TINY, replicated=True)
    server.create("busy", block_size=20, max_msgs=50)
    server.pass_ms(200)
    server.starve("")
    server.ask(rq.CreateStream(stream_config("s")))
    catalog = server.node._state.catalog_log
    first = catalog.entries[0].segment
    while server.node._group_commit.journal.oldest_segment() <= first:
        server.publish("busy", bytes(300))
    server.feed()
    server.publish("s", b"1")
    server.pass_ms(200)
    server.kill()
    assert payloads(server) == [b"1"]

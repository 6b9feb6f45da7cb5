"""Replicas with uncommitted records, facts and records in flight adopt a snapshot, and follow on behind it."""

from __future__ import annotations

from array import array

import pytest

from tests.golden.build import LIMITS
from tests.golden.newer import SERVICES, create_services, serve
from tests.kit.node_play import Play
from tests.kit.transfer_kit import Peer, Transfer, require_tidy, state_of
from tests.property.node.transfer.test_transfers import TINY, fill, moved, stored, write
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Declined, Effect, Kept
from waymaker_core.api.inputs import (
    Append,
    Cut,
    Input,
    Lead,
    PieceArrived,
    Promise,
    ReceiveSnapshot,
    Replicated,
    SentRecord,
)
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_core.model.records import PublishRecord
from waymaker_core.storage import record_codec


class Follower(Peer):
    """A replicated node, whose answers to asks are kept."""

    def open(self) -> None:
        self.answers: dict[int, Kept | Declined] = {}
        super().open()

    def perform(self, effect: Effect) -> list[Input]:
        if isinstance(effect, Kept | Declined):
            self.answers[effect.ask] = effect
            return []
        return super().perform(effect)


def made(*, replicated: bool = True) -> Follower:
    peer = Follower(TINY, replicated=replicated)
    peer.create("s", block_size=10)
    peer.create("busy", block_size=20, max_msgs=50)
    return peer


def pair() -> tuple[Follower, Follower]:
    """A donor with records, and a follower that has an older state of the stream."""
    donor, follower = made(), made()
    fill(donor, 25)
    follower.step_down()
    moved(donor, follower)
    fill_more(donor)
    return donor, follower


def fill_more(donor: Peer) -> None:
    for number in range(30):
        donor.publish("s", b"%d later " % number * 5, subject=f"a.{number % 3}")


def sent(first_seq: int, payload: bytes) -> SentRecord:
    body, size = encode_body("a.0", (), payload, Limits())
    times = array("q", [1_700_000_000_000])
    record = PublishRecord(first_seq, times, array("I", [size]), array("I", [len(body)]), ["a.0"])
    return SentRecord(PublishRecord.KIND, record_codec.version_of(record), record_codec.encode(record), body)


def append(follower: Follower, ask: int, *payloads: bytes, first: int = 0) -> Kept | Declined:
    """Let a leader send records behind the last one."""
    replica = follower.replica()
    seq = replica.stream.last_seq + replica.log.end - replica.log.applied + 1
    records = [sent(seq + index, payload) for index, payload in enumerate(payloads)]
    follower.step(Append(ask, replica.id, first or replica.log.end + 1, records))
    return follower.answers[ask]


def payloads_of(peer: Peer) -> list[bytes]:
    return [payload for _, _, payload in peer.all()]


def test_a_snapshot_takes_the_place_of_a_shorter_suffix_in_the_same_act() -> None:
    """Were the suffix cut before, a crash in between would lose records that this replica has acknowledged."""
    donor, follower = pair()
    log = follower.replica().log
    assert isinstance(append(follower, 1, b"never", b"committed"), Kept)
    assert log.applied + 2 == log.end < donor.replica().stream.position
    moved(donor, follower)
    assert follower.node.stats.inflight_bytes == 0 and not log.entries
    for again in (follower.kill, follower.lose_power):
        again()
        assert b"never" not in payloads_of(follower)
        assert follower.all() == donor.all()
        require_tidy(follower)


def test_a_snapshot_waits_while_the_log_goes_further() -> None:
    donor, follower = pair()
    log = follower.replica().log
    beyond = donor.replica().stream.position - log.end + 1
    assert isinstance(append(follower, 1, *[b"never"] * beyond), Kept)
    ended = Transfer(donor, follower).run()
    assert ended.problem == f"its log here goes to {log.end}, and the snapshot to {donor.replica().stream.position}"
    follower.step(Cut(2, log.stream_id, log.applied))
    assert isinstance(follower.answers[2], Kept)
    moved(donor, follower)
    follower.kill()
    assert follower.all() == donor.all()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_records_follow_behind_an_adopted_snapshot(checkpointed: bool) -> None:
    donor, follower = pair()
    follower.step(Promise(1, [donor.replica().id], 7))
    moved(donor, follower)
    assert isinstance(append(follower, 2, b"one", b"two"), Kept)
    replica = follower.replica()
    follower.step(Replicated(replica.id, replica.log.end - 1))
    assert replica.log.applied == replica.log.end - 1
    write(follower, 120 if checkpointed else 0)
    follower.kill()
    follower.step_down()
    assert follower.node._facts.found.promises == {replica.id: 7}
    follower.lead()
    assert payloads_of(follower)[: len(payloads_of(donor)) + 1] == [*payloads_of(donor), b"one"]
    assert payloads_of(follower)[-1] == b"two", "with no other replica that knows better all is kept"
    write(follower, 120)
    follower.restart()
    assert payloads_of(follower)[-2:] == [b"one", b"two"]
    require_tidy(follower)


def test_a_follower_that_lags_again_adopts_again() -> None:
    donor, follower = pair()
    for _ in range(3):
        moved(donor, follower)
        fill_more(donor)
        assert isinstance(append(follower, 10 + len(follower.answers), b"of another leader"), Kept)
        log = follower.replica().log
        follower.step(Cut(20 + len(follower.answers), log.stream_id, log.applied))
        write(follower, 30)
        assert stored(follower)[-1][2] != b"of another leader"
    moved(donor, follower)
    follower.kill()
    assert follower.all() == donor.all()


def test_records_are_declined_while_a_snapshot_is_being_adopted() -> None:
    donor, follower = pair()
    transfer = Transfer(donor, follower)
    data = transfer.last_piece()
    before, expected = follower.replica(), state_of(donor)
    with Play(follower) as play:
        play.step(PieceArrived(transfer.number, data))
        while not follower.node._group_commit._when_durable_in_flight:
            play.done(min(play.jobs))
        # The frame is being written. A leader that knows of nothing sends the next record of the old log.
        play.step(Append(50, before.id, before.log.end + 1, [sent(before.stream.last_seq + 1, b"late")]))
        assert play.lines[-1] == "Declined 50"
        while play.jobs:
            play.done(min(play.jobs))
        play.lines.clear()
    assert follower.replica() is not before
    assert state_of(follower) == expected
    assert not follower.replica().log.entries
    follower.node.check()
    assert follower.node.stats.inflight_bytes == follower.node.stats.pending_records == 0
    for again in (follower.kill, follower.restart):
        again()
        assert follower.all() == donor.all()
        follower.step_down()
    assert isinstance(append(follower, 60, b"behind it"), Kept)


def test_a_checkpoint_that_began_before_the_adoption_moves_nothing_of_the_new_state() -> None:
    donor, follower = pair()
    transfer = Transfer(donor, follower)
    data = transfer.last_piece()
    expected = state_of(donor)
    with Play(follower) as play:
        follower.node._checkpoints.begin()
        play.step(PieceArrived(transfer.number, data))
        for _ in range(500):
            if not play.jobs:
                break
            # The newest first: the adoption overtakes the checkpoint where lanes let it.
            journal = [number for number, job in play.jobs.items() if job.lane.name == "JOURNAL"]
            play.done(max(journal) if journal else min(play.jobs))
        play.lines.clear()
    assert state_of(follower) == expected
    follower.node.check()
    write(follower, 60)
    for again in (follower.kill, follower.lose_power):
        again()
        assert follower.all() == donor.all()
        require_tidy(follower)


def test_a_number_of_a_transfer_that_ended_is_late_and_ignored() -> None:
    donor, follower = pair()
    follower.step(ReceiveSnapshot(900, donor.replica().id))
    follower.step(PieceArrived(900, b"nonsense"))
    assert "this is not a transfer" in follower.transfers[900].problem
    follower.step(PieceArrived(900, b"more"))
    assert list(follower.transfers)[-1] == 900


def test_a_stream_that_is_deleted_while_its_snapshot_is_being_adopted_is_gone() -> None:
    donor, follower = pair()
    transfer = Transfer(donor, follower)
    data = transfer.last_piece()
    replica = follower.replica()
    with Play(follower) as play:
        play.step(PieceArrived(transfer.number, data))
        while any(job.lane.name == "BACKGROUND" for job in play.jobs.values()) and len(play.jobs) < 2:
            # The deletion is in flight before the adoption, whose frame the next job writes.
            if len(play.jobs) == 1 and not follower.node._group_commit.has_undurable():
                play.tell((7_001, rq.DeleteStream("s")))
            else:
                play.done(min(play.jobs))
        for _ in range(300):
            if not play.jobs:
                break
            background = [number for number, job in play.jobs.items() if job.lane.name == "BACKGROUND"]
            play.done(min(background or play.jobs))
            play.step(Replicated(0, follower.node._state.catalog_log.durable))
        ended = [line for line in play.lines if line.startswith("TransferEnded")]
        play.lines.clear()
    assert len(ended) == 1
    assert replica.id not in follower.node._state.replicas
    follower.node.check()
    for again in (follower.kill, follower.lose_power):
        again()
        assert replica.id not in follower.node._state.replicas
        require_tidy(follower)
    follower.create("s")
    assert follower.all() == []


def test_an_epoch_goes_with_the_snapshot() -> None:
    donor, follower = made(), made()
    donor.step_down()
    donor.step(Lead(donor.replica().id, 4))
    fill(donor, 25)
    donor.step_down()
    donor.step(Lead(donor.replica().id, 9))
    fill_more(donor)
    assert donor.replica().stream.epochs.last == 9
    follower.step_down()
    moved(donor, follower)
    assert follower.replica().stream.epochs.last == 9
    follower.kill()
    assert follower.replica().stream.epochs.last == 9


@pytest.mark.parametrize("name", SERVICES)
def test_a_stream_of_a_service_keeps_its_layers(name: str) -> None:
    donor, receiver = Peer(LIMITS), Peer(LIMITS)
    serve(donor)
    create_services(receiver)
    receiver.step_down(name)
    expected = state_of(donor, name)
    ended = Transfer(donor, receiver, name).run()
    assert not ended.problem
    assert state_of(receiver, name) == expected
    receiver.kill()
    assert receiver.all(name) == donor.all(name)
    assert len(receiver.replica(name).layers) == len(donor.replica(name).layers) == 1
    assert receiver.replica(name).layers.snapshot() == donor.replica(name).layers.snapshot()
    require_tidy(receiver)

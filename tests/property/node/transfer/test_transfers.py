"""A stream is sent from one directory to another, and is there what it was here."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest

from tests.kit.node_kit import SMALL, Server, publish
from tests.kit.node_play import Play
from tests.kit.store_disk import Crash
from tests.kit.transfer_kit import Peer, Transfer, require_tidy, state_of
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import TransferEnded
from waymaker_core.api.inputs import EndTransfer, PieceArrived, ReceiveSnapshot, StepDown
from waymaker_core.api.requests import AckKind
from waymaker_core.model.limits import KIB, Limits

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB, index_cache_bytes=1)


def made(limits: Limits = TINY) -> Peer:
    """A node with a stream for transfers, and a busy one that makes checkpoints run."""
    peer = Peer(limits)
    peer.create("s", block_size=10)
    peer.create("busy", block_size=20, max_msgs=50)
    return peer


def write(server: Server, count: int) -> None:
    for _ in range(count):
        server.publish("busy", bytes(300))


def fill(peer: Peer, count: int = 60) -> None:
    """Something of everything: sealed and open blocks, holes, consumers with pending, acked and given-up messages."""
    peer.consumer("s", "c", ack_wait_ms=600_000, max_deliver=3)
    peer.consumer("s", "late", policy="BY_START_SEQ", start_seq=7)
    for number in range(count):
        peer.ok(publish("s", (f"a.{number % 7}", b"%d " % number * 9), ("b", b"second")))
        if number % 9 == 0:
            got = [seq for seq, _, _ in peer.fetch("s", "c", 5)]
            peer.ack(*got[::2])
            peer.ack(*got[1:2], kind=AckKind.NAK)
        if number % 20 == 0:
            write(peer, 10)


def stored(peer: Peer) -> list[tuple[int, int, bytes]]:
    """Every live message that a start of this directory serves."""
    return Peer(TINY, peer.disk.copy()).all()


def moved(donor: Peer, receiver: Peer) -> None:
    """Carry the stream over, and require that it is the same."""
    expected = state_of(donor)
    ended = Transfer(donor, receiver).run()
    assert (ended.problem, ended.position) == ("", donor.replica().stream.position)
    assert state_of(receiver) == expected
    receiver.node.check()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_stream_is_the_same_in_another_directory(checkpointed: bool) -> None:
    donor, receiver = made(), made()
    fill(donor)
    write(donor, 100 if checkpointed else 0)
    receiver.step_down()
    moved(donor, receiver)
    for again in (receiver.kill, receiver.lose_power, receiver.restart):
        again()
        assert receiver.all() == donor.all()
        assert astuple(receiver.stats()) == astuple(donor.stats())
        require_tidy(receiver)
    write(receiver, 200)
    receiver.kill()
    assert receiver.all() == donor.all()
    assert not receiver.node._state.changes.adopted
    require_tidy(receiver)


def older(checkpointed: bool = False) -> tuple[Peer, Peer]:
    """A donor, and a receiver that has an older state of the stream, with files of its own."""
    donor, receiver = made(), made()
    fill(donor, 25)
    write(donor, 60)
    receiver.step_down()
    moved(donor, receiver)
    write(receiver, 60 if checkpointed else 0)
    for number in range(30):
        donor.publish("s", b"%d later " % number * 5, subject=f"a.{number % 3}")
        donor.ack(*[seq for seq, _, _ in donor.fetch("s", "late", 3)][:2], consumer="late")
    return donor, receiver


@pytest.mark.parametrize("checkpointed", [False, True])
def test_an_older_state_and_its_files_go(checkpointed: bool) -> None:
    donor, receiver = older(checkpointed)
    before = {path for path in receiver.disk.names if path.startswith("blocks/1-")}
    assert before
    moved(donor, receiver)
    assert not before & set(receiver.disk.names)
    write(receiver, 200)
    receiver.kill()
    assert receiver.all() == donor.all()
    require_tidy(receiver)


def test_what_is_sent_is_the_state_of_the_beginning_whatever_happens_meanwhile() -> None:
    donor, receiver = made(), made()
    fill(donor)
    write(donor, 60)
    receiver.step_down()
    expected, position = state_of(donor), donor.replica().stream.position
    messages = donor.all()
    transfer = Transfer(donor, receiver)
    transfer.begin()
    while transfer.advance():
        donor.publish("s", bytes(100))
        write(donor, 40)
        donor.ok(rq.UpdateStream("s", max_msgs=1 + len(transfer.sent)))
    assert donor.stats().msg_count < 60
    assert receiver.transfers[transfer.number].position == position
    assert state_of(receiver) == expected
    receiver.kill()
    assert receiver.all() == messages
    require_tidy(receiver)
    held = donor.node._garbage
    assert not held._held and not held._kept
    donor.kill()
    require_tidy(donor)


def test_a_receipt_that_is_interrupted_leaves_nothing() -> None:
    donor, receiver = older()
    files = set(receiver.disk.names)
    expected, messages = state_of(receiver), stored(receiver)
    transfer = Transfer(donor, receiver)
    transfer.begin()
    for _ in range(4):
        assert transfer.advance()
    assert set(receiver.disk.names) > files
    receiver.step(EndTransfer(transfer.number))
    donor.step(EndTransfer(transfer.number))
    assert receiver.transfers[transfer.number].problem == donor.transfers[transfer.number].problem == "given up"
    assert {path for path in receiver.disk.names if "journal" not in path} <= files
    assert state_of(receiver) == expected
    receiver.kill()
    assert receiver.all() == messages
    receiver.step_down()
    moved(donor, receiver)


def receive(receiver: Peer, stream_id: int, pieces: list[bytes]) -> TransferEnded:
    """Receive what a donor sent once."""
    number = len(receiver.transfers) + 1
    receiver.step(StepDown(stream_id), ReceiveSnapshot(number, stream_id))
    for data in pieces:
        receiver.step(PieceArrived(number, data))
    return receiver.transfers[number]


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
@pytest.mark.parametrize("fresh", [False, True], ids=["older", "none"])
def test_a_crash_at_any_operation_leaves_the_old_state_or_the_new_one(power: bool, fresh: bool) -> None:
    donor, receiver = (made(), made()) if fresh else older()
    if fresh:
        fill(donor, 25)
    before, stream_id = receiver.disk.copy(), donor.replica().id
    old, transfer = stored(receiver), Transfer(donor, receiver)
    receiver.step_down()
    assert not transfer.run().problem
    write(receiver, 40)
    new = stored(receiver)
    outcomes: list[bool] = []
    while True:
        receiver = Peer(TINY, before.copy())
        receiver.disk.crash_in = len(outcomes)
        try:
            receive(receiver, stream_id, transfer.sent)
            write(receiver, 40)
            break
        except Crash:
            receiver.disk.crash_in = None
        receiver.lose_power() if power else receiver.kill()
        assert receiver.node.quarantined() == []
        found = receiver.all()
        assert found in (old, new), len(outcomes)
        outcomes.append(found == new)
        require_tidy(receiver)
        receiver.node.check()
        if found == old:
            assert not receive(receiver, stream_id, transfer.sent).problem
            receiver.kill()
            assert receiver.all() == new
            require_tidy(receiver)
    assert len(outcomes) > 20
    assert outcomes == sorted(outcomes) or power, "from some operation on it is the new one"
    assert set(outcomes) == {False, True}


def test_a_number_that_is_drawn_while_a_manifest_is_written_is_not_drawn_again() -> None:
    """The next manifest is made before the one in force goes."""
    peer = made()
    write(peer, 10)
    checkpoints = peer.node._checkpoints
    drawn: list[int] = []
    with Play(peer) as play:
        checkpoints.begin()
        play.step()
        while play.jobs:
            drawn.append(checkpoints.draw_number())
            play.done(min(play.jobs))
        play.lines.clear()
    assert not checkpoints.running
    assert checkpoints.draw_number() > max(drawn)
    assert len(drawn) == len(set(drawn)) > 3

"""Transfers that cannot be: each ends with its reason, leaves no file, and the stream is what it was."""

from __future__ import annotations

import pytest

from tests.kit.node_kit import stream_config
from tests.kit.store_disk import MemoryDisk
from tests.kit.transfer_kit import Peer, Transfer, require_tidy, state_of
from tests.property.node.transfer.test_transfers import TINY, fill, made, moved, older, stored, write
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import NextPiece, PieceArrived, ReceiveSnapshot, SendSnapshot
from waymaker_core.model.disk_ops import Delete
from waymaker_core.node.transfer.transfers import TOO_MANY, TRANSFERS_MAX
from waymaker_core.storage.frame import ADOPT, HEADER_BYTES, decode_header, directory_key, frame_bytes
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES
from waymaker_core.storage.manifest import decode_manifest
from waymaker_core.storage.transfer_format import PART_BYTES, Index, State, TransferReader, TransferWriter


def ready() -> tuple[Peer, Peer]:
    donor, receiver = made(), made()
    fill(donor, 25)
    write(donor, 60)
    receiver.step_down()
    return donor, receiver


def test_a_stream_that_is_led_unknown_or_ephemeral_is_not_received() -> None:
    donor, receiver = ready()
    donor.create("fleeting", ephemeral=True)
    receiver.create("fleeting", ephemeral=True)
    receiver.lead()
    fleeting = donor.replica("fleeting").id
    for number, stream_id, reason in (
        (101, donor.replica().id, "this node leads the stream"),
        (102, 99, "no such stream here"),
        (103, fleeting, "an ephemeral stream has no files"),
    ):
        receiver.step(ReceiveSnapshot(number, stream_id))
        assert receiver.transfers[number].problem == reason
    for number, stream_id, reason in (
        (104, 99, "no such stream here"),
        (105, fleeting, "an ephemeral stream has no files"),
    ):
        donor.step(SendSnapshot(number, stream_id))
        assert donor.transfers[number].problem == reason


def test_a_position_that_is_here_already_is_not_adopted() -> None:
    donor, receiver = ready()
    moved(donor, receiver)
    before, files = state_of(receiver), set(receiver.disk.names)
    ended = Transfer(donor, receiver).run()
    position = donor.replica().stream.position
    assert ended.problem == f"its log here goes to {position}, and the snapshot to {position}"
    assert state_of(receiver) == before
    assert {path for path in receiver.disk.names if not path.startswith("journal")} <= files
    receiver.kill()
    require_tidy(receiver)


def test_transfers_in_progress_are_bounded() -> None:
    donor, _ = ready()
    for number in range(TRANSFERS_MAX + 1):
        donor.step(SendSnapshot(1_000 + number, donor.replica().id))
    assert [ended.problem for ended in donor.transfers.values()] == [TOO_MANY]


def test_a_receiver_that_does_not_ask_in_time_loses_its_transfer_and_nothing_is_held() -> None:
    donor, receiver = ready()
    transfer = Transfer(donor, receiver)
    transfer.begin()
    assert transfer.advance()
    donor.pass_ms(TINY.pinned_ms_max + 1)
    assert donor.transfers[transfer.number].problem == "the receiver was too slow, or the disk is full"
    donor.step(NextPiece(transfer.number))
    assert not donor.pieces, "a late question is ignored"
    assert not donor.node._garbage._held


def test_what_cannot_be_read_is_not_sent() -> None:
    donor, receiver = ready()
    transfer = Transfer(donor, receiver)
    transfer.begin()
    block = next(path for path in sorted(donor.disk.names) if path.startswith("blocks/1-"))
    donor.disk.flip(block, 8 * 70)
    while transfer.advance():
        pass
    assert block in donor.transfers[transfer.number].problem
    transfer.end_on(receiver)
    receiver.kill()
    assert receiver.all() == []
    require_tidy(receiver)


@pytest.mark.parametrize("space", [0, 1_000, 4_000, 9_000, 14_000])
def test_a_full_disk_ends_a_receipt_and_it_succeeds_with_room(space: int) -> None:
    donor, receiver = older()
    before, messages = state_of(receiver), stored(receiver)
    used = sum(len(inode.content) for inode in receiver.disk.names.values())
    receiver.disk.space = used + space
    ended = Transfer(donor, receiver).run()
    if ended.problem:
        assert "could not be written" in ended.problem or ended.problem == "the disk is full"
        assert state_of(receiver) == before
        assert sum(len(inode.content) for inode in receiver.disk.names.values()) <= used + space
        receiver.disk.space = None
        assert stored(receiver) == messages
        receiver.pass_ms(3_000)
        moved(donor, receiver)
    receiver.disk.space = None
    receiver.kill()
    assert receiver.all() == donor.all()
    require_tidy(receiver)


def test_a_stream_that_is_deleted_while_it_is_received_is_gone() -> None:
    donor, receiver = older()
    transfer = Transfer(donor, receiver)
    transfer.begin()
    assert transfer.advance() and transfer.advance()
    receiver.ok(rq.DeleteStream("s"))
    while transfer.advance():
        pass
    assert receiver.transfers[transfer.number].problem == "no such stream here"
    assert not [path for path in receiver.disk.names if path.startswith("blocks/1-")]
    receiver.kill()
    require_tidy(receiver)
    receiver.ok(rq.CreateStream(stream_config("s")))
    assert receiver.all() == []


# ---------------------------------------------------------------- pieces that are not what was sent


def pieces() -> tuple[Peer, list[bytes]]:
    donor, receiver = ready()
    transfer = Transfer(donor, receiver)
    assert not transfer.run().problem
    fresh = made()
    fresh.step_down()
    return fresh, transfer.sent


def refused(receiver: Peer, sent: list[bytes]) -> str:
    """Feed pieces until the transfer ends; the reason. Nothing stays of it."""
    receiver.step(ReceiveSnapshot(7, receiver.replica().id))
    for data in sent:
        receiver.step(PieceArrived(7, data))
    problem = receiver.transfers.pop(7).problem
    assert problem
    assert not [path for path in receiver.disk.names if path.startswith(("blocks/1-", "tails/"))]
    receiver.node.check()
    assert stored(receiver) == []
    return problem


def test_pieces_that_are_damaged_reordered_or_foreign_are_refused() -> None:
    receiver, sent = pieces()
    for place in range(0, len(sent), max(1, len(sent) // 7)):
        data = bytearray(sent[place])
        data[len(data) // 2] ^= 1
        assert "at byte" in refused(receiver, [*sent[:place], bytes(data), *sent[place + 1 :]])
    assert "piece 2 follows" in refused(receiver, [sent[0], sent[2], sent[1], *sent[3:]])
    assert "this is not a transfer" in refused(receiver, [b"WMarchiv" + sent[0][8:]])
    other = made()
    other.publish("busy", b"x")
    transfer = Transfer(other, other, "busy")
    other.step(SendSnapshot(transfer.number, transfer.stream_id))
    first = transfer.next_piece()
    assert first is not None
    assert "this is stream 2, not 1" in refused(receiver, [first])


def test_items_that_do_not_fit_each_other_are_refused() -> None:
    receiver, sent = pieces()
    reader = TransferReader()
    items = [piece for data in sent for piece in reader.feed(data)]
    reader.require_whole()

    def again(*, drop: int = -1, state: bytes | None = None) -> list[bytes]:
        """Encode the items anew, with right checksums."""
        writer = TransferWriter()
        made_again: list[bytes] = []
        for place, item in enumerate(items):
            if place == drop:
                continue
            match item:
                case Index():
                    made_again += writer.index(item)
                case State():
                    made_again += writer.state(item if state is None else State(state))
                case _ if place == 0:
                    made_again.append(writer.first(item))  # type: ignore[arg-type]
                case _:
                    made_again.append(writer.bodies(item))  # type: ignore[arg-type]
        return made_again

    for place in range(1, len(items) - 1):
        assert refused(receiver, again(drop=place))
    for state in (b"", b"\x80", b"\x82\x00\x00", items[-1].data[:-3]):  # type: ignore[union-attr]
        assert refused(receiver, again(state=state))
    receiver.step(ReceiveSnapshot(8, receiver.replica().id))
    for data in again():
        receiver.step(PieceArrived(8, data))
    assert receiver.transfers[8].problem == ""


def test_a_long_item_travels_in_parts() -> None:
    writer, reader = TransferWriter(), TransferReader()
    from waymaker_core.storage.transfer_format import Begin

    data = bytes(range(256)) * 10_000
    parts = [writer.first(Begin(1, 1)), *writer.state(State(data))]
    assert len(parts) == 1 + -(-len(data) // PART_BYTES)
    assert all(len(part) < PART_BYTES + 200 for part in parts)
    found = [piece for part in parts for piece in reader.feed(part)]
    assert isinstance(found[-1], State)
    assert found[-1].data == data


# ---------------------------------------------------------------- damage of what was adopted


def adoption_frame(disk: MemoryDisk) -> tuple[str, int, int]:
    """Path and offset of the last adoption in a journal, and its number of bytes."""
    image = disk.image()
    key = directory_key(decode_manifest(image["MANIFEST"]).directory_id)
    found = None
    for path in sorted(image):
        at = SEGMENT_HEADER_BYTES
        while path.startswith("journal/") and (header := decode_header(key, image[path], at)) is not None:
            if header.kind == ADOPT:
                found = path, at, frame_bytes(header.meta_length, 0)
            at += frame_bytes(header.meta_length, header.body_length)
    assert found is not None
    return found


@pytest.mark.parametrize("what", ["frame", "file", "missing"])
def test_damage_of_an_adoption_quarantines_its_stream(what: str) -> None:
    donor, receiver = ready()
    moved(donor, receiver)
    receiver.publish("busy", b"later")
    receiver.publish("busy", b"and later: what was there is known to have been durable")
    (snapshot,) = receiver.node._state.changes.adopted.values()
    path, offset, _ = adoption_frame(receiver.disk)
    if what == "frame":
        receiver.disk.flip(path, 8 * (offset + HEADER_BYTES + 2))
    elif what == "file":
        receiver.disk.flip(snapshot, 8 * 200)
    else:
        receiver.disk.run([Delete(snapshot)])
    receiver.kill()
    assert receiver.node.quarantined() == ["s"]
    assert [payload for _, _, payload in receiver.all("busy")][-2] == b"later"
    receiver.step_down()
    # Another replica has it, and more by now.
    donor.publish("s", b"more")
    moved(donor, receiver)
    assert receiver.node.quarantined() == []
    receiver.kill()
    assert receiver.node.quarantined() == []
    assert receiver.all() == donor.all()
    require_tidy(receiver)
    write(receiver, 100)
    receiver.kill()
    assert receiver.all() == donor.all()

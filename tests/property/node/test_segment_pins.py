"""Pins keep released journal segments for their readers, for a bounded time and up to a bounded size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import SMALL, Server, publish
from waymaker_core.model.limits import KIB, U64_MAX, Limits
from waymaker_core.node.transfer.segment_pins import SegmentPin, SegmentPins
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.storage.paths import segment_path

TINY = replace(
    SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB, pinned_bytes_max=64 * KIB, pinned_ms_max=5_000
)


def serving(limits: Limits = TINY) -> Server:
    server = Server(limits)
    server.create("s", block_size=20, max_msgs=50)
    return server


def write(server: Server, count: int = 40) -> None:
    """Publish about a segment."""
    for _ in range(count):
        server.publish("s", bytes(200))


def pins(server: Server) -> SegmentPins:
    return server.node._pins


def journal(server: Server) -> Journal:
    return server.node._group_commit.journal


def is_lost(pin: SegmentPin) -> bool:
    return pin.lost


def pinned(server: Server, segment: int = 0) -> SegmentPin:
    return pins(server).pin(segment or journal(server).oldest_segment())


def test_a_pinned_segment_keeps_its_name_and_its_bytes() -> None:
    server = serving()
    write(server, 5)
    pin = pinned(server)
    path = segment_path(pin.segment)
    end = journal(server).end_lsn
    before = server.disk.image()[path][:end]
    for _ in range(4):
        write(server)
    assert journal(server).oldest_segment() > pin.segment + 2, "checkpoints released it"
    assert server.disk.image()[path][:end] == before
    assert not is_lost(pin)
    kept = [segment.number for segment in journal(server).kept]
    assert kept == list(range(pin.segment, journal(server).oldest_segment()))
    pins(server).move_on(pin, pin.segment + 2)
    assert [segment.number for segment in journal(server).kept] == kept[2:]
    pins(server).unpin(pin)
    server.step()
    assert journal(server).kept == []
    assert pin.segment in journal(server).free or path not in server.disk.image(), "it may be used again"


def test_released_segments_are_used_again_without_a_pin() -> None:
    server = serving()
    for _ in range(20):
        write(server)
    assert len([path for path in server.disk.image() if path.startswith("journal/")]) < 8


def test_a_segment_that_was_released_before_cannot_be_pinned() -> None:
    server = serving()
    first = journal(server).oldest_segment()
    for _ in range(3):
        write(server)
    assert is_lost(pinned(server, first))
    pin = pinned(server)
    for _ in range(3):
        write(server)
    assert not is_lost(pinned(server, pin.segment)), "one that is kept can be"


def test_the_pin_of_a_reader_that_is_stuck_is_lost_after_its_time() -> None:
    server = serving()
    stuck, moving = pinned(server), pinned(server)
    for _ in range(3):
        write(server, 15)
        server.pass_ms(2_000)
        pins(server).move_on(moving, moving.segment)
    assert is_lost(stuck) and not is_lost(moving)
    assert [log.fields["segment"] for log in server.logs if log.event == "segment_pin_lost"] == [stuck.segment]
    pins(server).unpin(stuck)
    server.pass_ms(5_000)
    assert is_lost(moving)
    assert journal(server).kept == []
    assert (server.node.next_deadline() or U64_MAX) > server.mono_ns


def test_the_oldest_pin_is_lost_where_kept_segments_take_too_much() -> None:
    server = serving()
    old = pinned(server)
    write(server, 2 * 40)
    young = pinned(server)
    assert old.segment < young.segment
    while not is_lost(old):
        write(server, 5)
        assert journal(server).kept_bytes <= TINY.pinned_bytes_max
    assert not is_lost(young)
    while not is_lost(young):
        write(server, 5)
        assert journal(server).kept_bytes <= TINY.pinned_bytes_max
    assert journal(server).kept == []


def test_a_full_disk_loses_every_pin() -> None:
    server = serving(replace(TINY, pinned_bytes_max=1 << 30))
    pin = pinned(server)
    for _ in range(3):
        write(server)
    assert journal(server).kept
    server.disk.space = sum(len(inode.content) for inode in server.disk.names.values()) + 20 * KIB
    while not any(log.event == "disk_full" for log in server.logs):
        server.call(publish("s", ("a", bytes(200))))
    assert is_lost(pin)
    assert journal(server).kept == []


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_a_start_knows_no_pins_and_loses_nothing(power: bool) -> None:
    server = serving()
    pinned(server)
    for _ in range(3):
        write(server)
    assert journal(server).kept
    before = server.all("s")
    server.lose_power() if power else server.kill()
    assert server.all("s") == before
    numbers = [int(path[8:24]) for path in server.disk.image() if path.startswith("journal/")]
    held = [number for number in numbers if number < journal(server).oldest_segment()]
    assert sorted(held) == sorted(journal(server).free)
    write(server)
    server.node.check()

"""A large state is fixed in a step and encoded when it is written: to the bytes that it had at that moment."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import cbor2
import pytest

from tests.kit.kv_kit import Bucket
from tests.kit.node_kit import SMALL, Server
from tests.kit.stream_bench import Bench
from waymaker_core.model.disk_ops import Write
from waymaker_core.model.limits import KIB
from waymaker_core.node.checkpoint.snapshots import defer_stream, encode_stream
from waymaker_core.storage.checkpoint.deferred import DeferredFrame
from waymaker_core.storage.checkpoint.writer import Chain, CheckpointWriter
from waymaker_core.storage.config_codec import ARRAY, BYTES, TEXT, encode_plain, plain_head
from waymaker_core.stream.blocks import subject_image
from waymaker_core.stream.snapshot import defer_snapshot, encode_snapshot

TINY = replace(SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB, checkpoint_deferred_subjects=1)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject_image, "PIECE_SUBJECTS", 3)


@pytest.mark.parametrize("length", [0, 1, 23, 24, 255, 256, 65_535, 65_536, 70_000])
def test_a_head_is_that_of_the_whole_value(length: int) -> None:
    assert plain_head(BYTES, length) + bytes(length) == cbor2.dumps(bytes(length))
    assert plain_head(TEXT, length) + b"x" * length == cbor2.dumps("x" * length)
    assert plain_head(ARRAY, length) + b"\x00" * length == cbor2.dumps([0] * length)
    assert plain_head(BYTES, 1 << 40) == b"\x5b" + (1 << 40).to_bytes(8, "big")


@pytest.mark.parametrize("seed", range(6))
def test_what_changes_after_the_step_is_not_in_the_encoding(seed: int) -> None:
    random = Random(seed)
    bucket = Bucket(history=3)
    server = bucket.server

    def change(count: int) -> None:
        for _ in range(count):
            key = f"k{random.randrange(40)}"
            if random.random() < 0.2:
                bucket.delete(key)
            else:
                bucket.put(key, b"v" * random.randrange(40), ttl_ms=random.choice((0, 0, 90_000)))

    change(150)
    (replica,) = server.node._state.replicas.values()
    now = server.node._state.now
    before, deferred = encode_stream(replica, now), defer_stream(replica, now)
    change(100)
    assert encode_stream(replica, now) != before
    assert b"".join(deferred()) == before


@pytest.mark.parametrize("seed", range(4))
def test_subjects_of_several_blocks_are_encoded_as_they_were(seed: int) -> None:
    random, bench = Random(seed), Bench()

    def change(count: int) -> None:
        for _ in range(count):
            bench.publish(*[f"s.{random.randrange(12)}" for _ in range(random.randrange(1, 5))])
            live = [seq for seq in range(1, bench.stream.last_seq + 1) if bench.stream.is_live(seq)]
            bench.drop(*sorted(random.sample(live, len(live) // 8)))

    change(20)
    before, deferred = encode_plain(encode_snapshot(bench.stream)), defer_snapshot(bench.stream)
    assert bench.stream.subjects.earlier
    change(10)
    assert encode_plain(encode_snapshot(bench.stream)) != before
    assert b"".join(deferred()) == before


def test_a_file_with_frames_that_are_encoded_later_is_the_same_file() -> None:
    def written(deferred: bool) -> tuple[bytes, Chain]:
        writer, content = CheckpointWriter(7, 3, False), b""
        for round_ in range(3):
            for stream in range(3):
                meta = b"state of %d" % stream * (round_ + 1)
                if deferred and stream == 1:
                    writer.defer_snapshot(10 * round_ + stream, 5, lambda meta=meta: iter((meta[:4], meta[4:])))  # type: ignore[misc]
                else:
                    writer.add_snapshot(10 * round_ + stream, 5, meta)
            writer.add_tombstone(10 * round_ + 9)
            for op in writer.take() if round_ < 2 else writer.finish():
                if isinstance(op, Write):
                    assert op.offset == len(content)
                    assert len(op.parts) == len(list(op.parts)) and next(iter(op.parts)) in op.parts
                    content += b"".join(op.parts)
        return content, writer.chain_after(Chain())

    at_once, later = written(False), written(True)
    assert later[0] == at_once[0]
    assert later[1].latest == at_once[1].latest and later[1].live_bytes == at_once[1].live_bytes
    files = [[(file.number, file.length, file.crc) for file in chain.files] for _, chain in (at_once, later)]
    assert files[0] == files[1]


@pytest.mark.parametrize("stop", ["kill", "lose_power", "restart"])
def test_a_bucket_is_found_again_from_checkpoints_that_were_encoded_later(
    monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    encoded = 0
    parts = DeferredFrame.parts

    def counted(frame: DeferredFrame) -> list[bytes]:
        nonlocal encoded
        encoded += 1
        return parts(frame)

    monkeypatch.setattr(DeferredFrame, "parts", counted)
    bucket = Bucket(Server(TINY))
    random, known = Random(5), dict[str, bytes]()
    for _ in range(4):
        for _ in range(150):
            key = f"key.{random.randrange(100)}"
            known[key] = bytes([random.randrange(256)]) * 50
            bucket.put(key, known[key])
        getattr(bucket.server, stop)()
        found = bucket.get(*known)
        assert {key: value for key, (_, value) in found.items()} == known
    assert encoded

"""Make the golden directory of the present format: a data directory, another one with a torn tail, an archive, what they say.

`python -m tests.golden.build tests/golden/v6` wrote the first of format 2, v5 was the last of format 1. A released
format's files are never written anew: they show that today's program opens what an earlier one left. A new format, or a new
version of a record in it, gets a folder of its own.

`tests.kit.backup_kit.write_backup` wrote `backup-v1`, a backup of two streams, and writes that of a later format.
"""

from __future__ import annotations

import json
import sys
from array import array
from pathlib import Path

from tests.golden.newer import follow, replica_story, serve, services_story
from tests.kit.node_kit import Server, publish
from waymaker_core.api import requests as rq
from waymaker_core.api.requests import AckKind
from waymaker_core.model.disk_ops import ReadChunk
from waymaker_core.model.limits import KIB, Limits
from waymaker_core.model.message_codec import decode_body
from waymaker_core.storage.archive import ArchiveWriter, Batch, Head
from waymaker_core.storage.frame import decode_header, directory_key, frame_bytes
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES, decode_segment_header
from waymaker_core.storage.manifest import decode_manifest
from waymaker_core.storage.paths import segment_path

LIMITS = Limits(
    segment_bytes=16 * KIB, checkpoint_journal_bytes=12 * KIB, record_bytes_max=4 * KIB, flush_bytes_max=8 * KIB
)
STREAMS = ("parcels", "jobs", "states", "quiet")


def live(server: Server) -> None:
    """A life with something of everything: sealed and open blocks, drops, consumers, dead letters, a deleted stream."""
    server.create("parcels", block_size=20, max_msgs=90, subjects_filter=("parcel.>", "lost.>"))
    server.create("jobs", retention="WORK_QUEUE", block_size=10)
    server.create("states", max_msgs_per_subject=2, block_size=50)
    server.create("quiet", max_age_ms=7 * 24 * 3_600_000, max_msg_bytes=1_000)
    server.create("gone")
    server.publish("quiet", b"the only message", subject="a.b")
    server.ok(numbered("quiet", 1, b"first of a producer", b"second"))
    server.consumer("parcels", "reader", filter_subject="parcel.>", max_deliver=2, ack_wait_ms=60_000,
                    dead_letter_subject="lost.letters")  # fmt: skip
    server.consumer("parcels", "late", policy="BY_START_SEQ", start_seq=60)
    server.consumer("quiet", "guest", inactive_ms=24 * 3_600_000)
    server.consumer("jobs", "left", deliver_group="workers", ack_wait_ms=600_000)
    server.consumer("jobs", "right", deliver_group="workers", ack_wait_ms=600_000)
    for number in range(60):
        subjects = [f"parcel.{number % 7}.scanned", f"parcel.{number % 3}.lost"]
        server.ok(publish("parcels", *[(subject, b"%d " % number * 12) for subject in subjects]))
        server.publish("jobs", b"job %d" % number * 9, subject=f"job.{number % 2}")
        server.publish("states", b"state %d" % number * 5, subject=f"device.{number % 5}")
        server.publish("gone", b"x" * 100)
        server.pass_ms(1_000)
    for _ in range(2):
        for seq, _, _ in server.fetch("parcels", "reader", 4):
            server.ack(seq, stream="parcels", consumer="reader", kind=AckKind.NAK)
    server.pass_ms(1_000)
    taken = [seq for seq, _, _ in server.fetch("jobs", "left", 12)]
    server.ack(*taken[::2], stream="jobs", consumer="left")
    server.ack(*[seq for seq, _, _ in server.fetch("parcels", "late", 5)], stream="parcels", consumer="late")
    server.ok(rq.DeleteStream("gone"))
    server.ok(rq.UpdateStream("quiet", max_msgs=10))
    server.ok(numbered("quiet", 3, b"third", b"fourth"))
    server.consumer("quiet", "short-lived")
    server.ok(rq.DeleteConsumer("quiet", "short-lived"))
    restore(server)
    server.pass_ms(3_000)


def numbered(stream: str, first: int, *payloads: bytes, resent: bool = False) -> rq.Publish:
    """A publish of a producer, its messages numbered from `first` on."""
    request = publish(stream, *[("a.b", payload) for payload in payloads])
    request.producer = rq.Producer(77, 3, range(first, first + len(payloads)), resent)
    return request


def restore(server: Server) -> None:
    """Put an archive's stream back: its consumers, and its messages but for the last ones."""
    head = server.ok(rq.ExportStream("jobs"))
    assert isinstance(head, Head)
    stream_id = server.ok(rq.ImportBegin("restored", head))
    assert isinstance(stream_id, int)
    body = publish("jobs", ("job.0", b"a restored job")).body
    server.ok(rq.ImportBatch(stream_id, [30], [1], ["job.0"], [14], [len(body)], body))
    server.ok(rq.ImportEnd(stream_id, commit=True))


def story(server: Server) -> dict[str, object]:
    """All that clients can see of a node, as plain values."""
    names = server.ok(rq.ListStreams())
    assert isinstance(names, rq.Page)
    return {"streams": list(names.entries), **{name: _stream(server, name) for name in STREAMS}}


def _stream(server: Server, name: str) -> object:
    stats, found = server.stats(name), server.ok(rq.ListConsumers(name))
    assert isinstance(found, rq.Page)
    consumers = [info for info in found.entries if isinstance(info, rq.ConsumerInfo)]
    return {
        "stats": [stats.first_seq, stats.last_seq, stats.msg_count, stats.bytes],
        "messages": [[seq, payload.decode()] for seq, _, payload in server.all(name)],
        "consumers": [
            [info.config.name, info.ack_floor, info.pending, info.redelivered_dropped] for info in consumers
        ],
    }  # fmt: skip


def archive(server: Server, name: str) -> bytes:
    """A stream as an archive."""
    head = server.ok(rq.ExportStream(name))
    assert isinstance(head, Head)
    writer = ArchiveWriter()
    parts = [writer.head(head)]
    answer = server.call(rq.ReadRange(name, 1, 1_000))
    page = answer.value  # type: ignore[union-attr]
    assert isinstance(page, rq.Messages)
    for run in page.runs:
        data = server.disk.perform(ReadChunk(run.chunk))
        assert isinstance(data, bytes)
        body = run.bodies_in(data)
        at = 0
        subjects, sizes = [], array("I")
        for length in run.lengths:
            subject, headers, payload = decode_body(body[at : at + length])
            subjects.append(subject)
            sizes.append(len(payload) + sum(len(key) + len(value) for key, value in headers))
            at += length
        seqs = array("Q", run.sequences())
        parts.append(writer.batch(Batch(seqs, run.times_ms, subjects, sizes, run.lengths, body)))
    return b"".join([*parts, writer.finish(head.last_seq)])


def write(folder: Path, image: dict[str, bytes]) -> None:
    for path, content in image.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def build(folder: Path) -> None:
    server = Server(LIMITS)
    live(server)
    folder.mkdir(parents=True)
    (folder / "parcels.archive").write_bytes(archive(server, "parcels"))
    (folder / "expected.json").write_text(json.dumps(story(server)) + "\n")
    torn = server.disk.copy()
    assert server.drain().clean
    write(folder / "clean", server.disk.image())
    write(folder / "torn", _tear(torn.image()))
    build_newer(folder)


def build_newer(folder: Path) -> None:
    """Make what golden directories hold since format 2."""
    server = Server(LIMITS)
    serve(server)
    write(folder / "services", server.disk.image())
    replica = follow(LIMITS)
    write(folder / "replica", replica.disk.image())
    replica.kill()
    said = {"services": services_story(server), "replica": replica_story(replica)}
    (folder / "newer.json").write_text(json.dumps(said) + "\n")


def _tear(image: dict[str, bytes]) -> dict[str, bytes]:
    """What a crash in the middle of the next write leaves: the beginning of a frame behind the last whole one."""
    key = directory_key(decode_manifest(image["MANIFEST"]).directory_id)
    for path in sorted(image, reverse=True):
        header = decode_segment_header(key, image[path])
        if header is not None and segment_path(header.number) == path:
            content = bytearray(image[path])
            end = SEGMENT_HEADER_BYTES
            while (frame := decode_header(key, image[path], end)) is not None and frame.segment == header.number:
                end += frame_bytes(frame.meta_length, frame.body_length)
            content[end : end + 40] = content[SEGMENT_HEADER_BYTES : SEGMENT_HEADER_BYTES + 40]
            return {**image, path: bytes(content)}
    raise AssertionError("no segment in use")


if __name__ == "__main__":
    build(Path(sys.argv[1]))

"""Targets for archives: their reader, a whole restore into a real node, and the index of a backup.

An archive comes from outside, with checksums that anybody can compute; nothing in it is believed.
"""

from __future__ import annotations

import hashlib
from array import array
from functools import cache

from cbor2 import CBOREncodeError

from tests.fuzz.format_targets import CBOR_TOKENS, MENDED, PLAIN
from tests.fuzz.mending import mend_archive
from tests.fuzz.target import GOLDEN, Target
from tests.kit.node_kit import SMALL, Server, publish
from waymaker.backups.index import INDEX_NAME, IndexRefused, decode_index, encode_index
from waymaker_core.api import requests as rq
from waymaker_core.api.requests import AckKind, Messages, Page
from waymaker_core.model.config import ConsumerConfig, StreamConfig
from waymaker_core.model.message_codec import decode_body, payload_field, subject_field
from waymaker_core.model.result_codes import Answer
from waymaker_core.storage.archive import ArchiveError, ArchiveReader, ArchiveWriter, Batch, Head, Summary
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord

Piece = Head | Batch | Summary
NAME = "restored"


@cache
def small_archive() -> bytes:
    """A work queue and its consumers: few messages, short pieces."""
    from tests.golden.build import archive

    server = Server(SMALL)
    server.create("w", retention="WORK_QUEUE", block_size=10, subjects_filter=("a.>", "dead"))
    server.consumer("w", "one", max_deliver=2, dead_letter_subject="dead", deliver_group="g")
    server.consumer("w", "two", max_deliver=2, dead_letter_subject="dead", deliver_group="g")
    for number in range(6):
        server.publish("w", b"job %d" % number, subject=f"a.{number % 2}")
    for seq, _, _ in server.fetch("w", "one", 3)[::2]:
        server.ack(seq, stream="w", consumer="one")
    return archive(server, "w")


def archive_seeds() -> list[bytes]:
    """The golden archive and a small one."""
    golden = (GOLDEN / "parcels.archive").read_bytes()
    return [flag + data for data in (golden, small_archive()) for flag in (PLAIN, MENDED)]


def pieces_of(data: bytes, cut: int) -> list[Piece] | None:
    """What a reader makes of an archive fed in cuts of this length; None where it refuses."""
    reader = ArchiveReader()
    pieces: list[Piece] = []
    try:
        for at in range(0, len(data), cut):
            pieces += reader.feed(data[at : at + cut])
        reader.close()
    except ArchiveError:
        return None
    return pieces


def archive_of(data: bytes) -> bytes:
    """The archive in an input."""
    content = bytearray(data[1:])
    if data[:1] == MENDED:
        mend_archive(content)
    return bytes(content)


def run_archive(data: bytes) -> None:
    """Refused as a whole, or read to its end; and the same however it is cut."""
    content = archive_of(data)
    whole = pieces_of(content, max(1, len(content)))
    cut = pieces_of(content, 997)
    assert (whole is None) == (cut is None)
    if whole is not None and cut is not None:
        assert list(map(type, whole)) == list(map(type, cut))
        assert isinstance(whole[0], Head)
        assert isinstance(whole[-1], Summary)


def restored(server: Server, pieces: list[Piece]) -> bool:
    """Restore as the server does; whether the stream is there."""
    stream_id = -1
    for piece in pieces:
        request: rq.Request
        if isinstance(piece, Head):
            request = rq.ImportBegin(NAME, piece)
        elif isinstance(piece, Batch):
            request = rq.ImportBatch(
                stream_id, list(piece.seqs), list(piece.times_ms), piece.subjects, list(piece.sizes), list(piece.lengths),
                piece.body,
            )  # fmt: skip
        else:
            request = rq.ImportEnd(stream_id, commit=True)
        answer = server.call(request)
        if not isinstance(answer, Answer) or answer.code != "ok":
            if stream_id >= 0:
                server.call(rq.ImportEnd(stream_id, commit=False))
            return False
        if isinstance(answer.value, int):
            stream_id = answer.value
    return True


def held(server: Server) -> list[tuple[int, int, bytes]]:
    """Everything that the restored stream holds; its bodies must be messages."""
    found: list[tuple[int, int, bytes]] = []
    while True:
        answer = server.call(rq.ReadRange(NAME, found[-1][0] + 1 if found else 1, 1_000))
        assert isinstance(answer, Answer), answer
        assert isinstance(answer.value, Messages), answer
        for run in answer.value.runs:
            body, at = run.bodies_in(server._chunk(run.chunk)), 0
            for length in run.lengths:
                decode_body(body[at : at + length])
                at += length
        some = server.bodies[server._token]
        if not some:
            return found
        found += some


def run_restore(data: bytes) -> None:
    """Whatever an archive says: the node lives on, and what it took over works and is the same after a restart."""
    pieces = pieces_of(archive_of(data), 1 << 20)
    if pieces is None:
        return
    server = Server(SMALL)
    server.create("other")
    if restored(server, pieces):
        use(server)
    server.publish("other", b"unharmed")
    assert not server.node.quarantined()
    server.restart()
    assert [payload for _, _, payload in server.all("other")] == [b"unharmed"]


def use(server: Server) -> None:
    """Read, fetch, hand back, dead-letter, publish, kill: everything that looks at what was restored."""
    before = held(server)
    page = server.ok(rq.ListConsumers(NAME))
    assert isinstance(page, Page)
    names = [info.config.name for info in page.entries if isinstance(info, rq.ConsumerInfo)]
    for name in names[:4]:
        for seq, _, _ in server.fetch(NAME, name, 5):
            server.call(rq.Ack(NAME, name, AckKind.NAK if seq % 2 else AckKind.ACK, [seq], 0))
    info = server.ok(rq.GetStreamInfo(NAME))
    assert isinstance(info, rq.StreamInfo)
    patterns = info.config.subjects_filter
    letters = patterns[-1].replace("*", "x").replace(">", "x") if patterns else "dead.letters"
    request = rq.CreateConsumer(NAME, _impatient(letters))
    answer = server.call(request)
    if isinstance(answer, Answer) and answer.code == "ok":
        server.call(rq.Fetch(NAME, "impatient", 10))
    server.pass_ms(120_000)
    server.call(publish(NAME, (letters, b"more")))
    stats, kept = server.stats(NAME), held(server)
    assert len(kept) <= len(before) + 100
    server.restart()
    again = server.stats(NAME)
    if info.config.ephemeral:
        assert (again.last_seq, again.msg_count) == (0, 0), "a new, empty incarnation"
        return
    assert (again.last_seq, again.msg_count, again.bytes) == (stats.last_seq, stats.msg_count, stats.bytes)
    assert held(server) == kept


def _impatient(letters: str) -> ConsumerConfig:
    return ConsumerConfig("impatient", ack_wait_ms=1_000, max_deliver=1, dead_letter_subject=letters)


def consumers_seeds() -> list[bytes]:
    """The consumers of the archives above."""
    found = [pieces_of(data[1:], 1 << 20) for data in archive_seeds() if data[:1] == PLAIN]
    return [encode_plain(pieces[0].consumers) for pieces in found if pieces is not None and isinstance(pieces[0], Head)]


def run_consumers(data: bytes) -> None:
    """As `run_restore`, with one message and these consumers."""
    try:
        consumers = decode_plain(data)
    except CorruptRecord:
        return
    body = subject_field("a.b") + payload_field(b"x")
    head = Head(StreamConfig(NAME, block_size=10), 0, 1, 20, 1, 1, consumers)
    column = array("I", [len(body)])
    batch = Batch(array("Q", [5]), array("q", [7]), ["a.b"], array("I", [1]), column, body)
    writer = ArchiveWriter()
    try:
        start = writer.head(head)
    except (CBOREncodeError, ValueError, TypeError):
        return  # what was read is nothing that can be written
    run_restore(PLAIN + start + writer.batch(batch) + writer.finish(20))


def index_seeds() -> list[bytes]:
    """The index of the golden backup."""
    data = (GOLDEN.parent / "backup-v1" / INDEX_NAME).read_bytes()
    return [PLAIN + data, MENDED + data]


def run_index(data: bytes) -> None:
    """Refused, or an index that is written again as what it says, with names that stay in its directory."""
    content = data[1:]
    if data[:1] == MENDED:
        body = content[: content.rfind(b"\n", 0, -1) + 1]
        content = body + b'{"sha256":"%s"}\n' % hashlib.sha256(body).hexdigest().encode()
    try:
        index = decode_index(content)
    except IndexRefused as refused:
        assert 0 <= refused.offset <= len(content)
        return
    assert decode_index(encode_index(index)) == index
    assert not any("/" in entry.file or entry.file.startswith(".") for entry in index.archives)


TARGETS = (
    Target("backup", index_seeds, run_index, (b'"file":"', b'"archives":', b"../", b"null", b"-1", b"\n")),
    Target("consumers", consumers_seeds, run_consumers, CBOR_TOKENS),
    Target("archive", archive_seeds, run_archive, CBOR_TOKENS),
    Target("restore", archive_seeds, run_restore, CBOR_TOKENS),
)

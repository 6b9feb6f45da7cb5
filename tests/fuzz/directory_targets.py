"""Targets that open whole data directories: one file replaced by the input, or many places damaged.

Without mending, an input is damage, and then the rules of damage hold for the real node: it refuses to start, or serves
nothing that was not written. With mending, it is a forgery, for which it is enough that reading ends in a documented error
or in a state: no client can make one, for the checksums are seeded with a key that never leaves the directory.
"""

from __future__ import annotations

from functools import cache
from struct import Struct, error

from tests.fuzz.format_targets import CBOR_TOKENS, MENDED, PLAIN, golden_key
from tests.fuzz.mending import mend_frames, mend_header
from tests.fuzz.target import GOLDEN, Target
from tests.golden.build import LIMITS, STREAMS
from tests.kit.node_kit import Server, publish
from tests.kit.store_disk import MemoryDisk
from waymaker_core.api import requests as rq
from waymaker_core.api.requests import Messages
from waymaker_core.model.disk_ops import DiskFailure, Write
from waymaker_core.model.result_codes import Answer
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.storage.checkpoint.writer import CHECKPOINT_HEADER_BYTES
from waymaker_core.storage.checksum import crc32c
from waymaker_core.storage.errors import StoreRefused
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES
from waymaker_core.storage.manifest import decode_manifest, encode_manifest
from waymaker_core.storage.recovery.recovery import recover
from waymaker_core.storage.recovery.verify import verify

JOURNAL_PATHS = ("journal/0000000000000004.seg", "journal/0000000000000005.seg")
"""In use in the golden directory: frames with messages, and the journal's end."""


@cache
def image(kind: str) -> dict[str, bytes]:
    """A golden directory's files by path."""
    folder = GOLDEN / kind
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@cache
def written() -> dict[str, set[tuple[int, bytes]]]:
    """Sequence and payload of every message that was ever in a golden stream (see `golden.build.live`)."""
    parcels = [b"%d " % (number // 2) * 12 for number in range(120)]
    letters = {(seq, payload) for seq in range(121, 140) for payload in parcels}
    return {
        "parcels": {*enumerate(parcels, 1), *letters},
        "jobs": {(number + 1, b"job %d" % number * 9) for number in range(60)},
        "states": {(number + 1, b"state %d" % number * 5) for number in range(60)},
        "quiet": {(1, b"the only message")},
    }


def disk_of(files: dict[str, bytes]) -> MemoryDisk:
    disk = MemoryDisk()
    disk.run([Write(path, 0, [data]) for path, data in files.items()])
    for inode in disk.names.values():
        inode.sync()
    disk.durable_names = dict(disk.names)
    disk.changes = []
    return disk


def read_all(files: dict[str, bytes]) -> bool:
    """Recover and verify. Whether recovery came to an end."""
    verified = opened = False
    try:
        verified = not disk_of(files).drive(verify(Restoring(LIMITS), LIMITS)).has_damage
    except (StoreRefused, DiskFailure):
        pass
    try:
        restoring = Restoring(LIMITS)
        disk_of(files).drive(recover(restoring, LIMITS, bytes(16)))
        restoring.finish_restore()
        opened = True
    except (StoreRefused, DiskFailure):
        pass
    assert opened or not verified, "verification finds nothing wrong with a directory that recovery refuses"
    return opened


def serve_all(files: dict[str, bytes]) -> None:
    """The real node on these files: what it serves was written, what it takes it keeps."""
    try:
        server = Server(LIMITS, disk_of(files))
    except (StoreRefused, DiskFailure):
        return
    for name in STREAMS:
        first = 1
        while messages := _some(server, name, first):
            assert {(seq, payload) for seq, _, payload in messages} <= written()[name], name
            first = messages[-1][0] + 1
    answer = server.call(publish("quiet", ("a.b", b"new")))
    taken = isinstance(answer, Answer) and answer.code == "ok"
    server.pass_ms(2_000)
    server.kill()
    if taken:
        messages = _some(server, "quiet", 2)
        assert messages
        assert messages[-1][2] == b"new"


def _some(server: Server, name: str, first: int) -> list[tuple[int, int, bytes]]:
    """Messages from a sequence on; none where the stream is gone or refuses to be read."""
    answer = server.call(rq.ReadRange(name, first, 1_000))
    if not isinstance(answer, Answer) or not isinstance(answer.value, Messages):
        return []
    return server.bodies[server._token]


# ---------------------------------------------------------------- one file


def journal_seeds() -> list[bytes]:
    """The last segments in use, of an orderly stop and of a torn one."""
    return [
        flag + bytes([place]) + image(kind)[path].rstrip(b"\0")
        for kind in ("clean", "torn")
        for place, path in enumerate(JOURNAL_PATHS)
        for flag in (PLAIN, MENDED)
    ]


def run_journal(data: bytes) -> None:
    """One segment of the journal is these bytes."""
    path = JOURNAL_PATHS[data[1] % len(JOURNAL_PATHS)] if len(data) > 1 else JOURNAL_PATHS[0]
    content = bytearray(data[2:])
    if data[:1] == MENDED:
        mend_header(golden_key(), content)
        mend_frames(golden_key(), content, SEGMENT_HEADER_BYTES)
    content += bytes(max(0, LIMITS.segment_bytes - len(content)))
    read_all({**image("clean"), path: bytes(content)})


def checkpoint_seeds() -> list[bytes]:
    """Every golden checkpoint, as the only one of its chain."""
    files = image("clean")
    return [flag + files[path] for path in files if path.startswith("checkpoints/") for flag in (PLAIN, MENDED)]


def run_checkpoint(data: bytes) -> None:
    """The latest checkpoint is these bytes; with mending the manifest believes them."""
    files = image("clean")
    manifest = decode_manifest(files["MANIFEST"])
    last = manifest.chain[-1]
    content = bytearray(data[1:])
    if data[:1] == MENDED:
        content[16:24] = last.number.to_bytes(8, "little")
        mend_header(golden_key(), content)
        at = content.find(b"WMfr", CHECKPOINT_HEADER_BYTES)
        while at >= 0:
            content[at + 8 : at + 16] = last.number.to_bytes(8, "little")
            at = content.find(b"WMfr", at + 16)
        mend_frames(golden_key(), content, CHECKPOINT_HEADER_BYTES)
        last.length, last.crc = len(content), crc32c(bytes(content))
    path = f"checkpoints/{last.number}.ckpt"
    read_all({**files, "MANIFEST": encode_manifest(manifest), path: bytes(content)})


# ---------------------------------------------------------------- damage anywhere

EDIT = Struct("<BBIIB")
"""File, what is done, place, second place, byte."""


def directory_seeds() -> list[bytes]:
    """No damage, and one edit of each kind in each file."""
    edits = [EDIT.pack(file, kind, 1 << 30, 1 << 31, 255) for file in range(len(image("clean"))) for kind in range(8)]
    return [PLAIN, MENDED, *(bytes([n % 2]) + edit for n, edit in enumerate(edits))]


def run_directory(data: bytes) -> None:
    """A golden directory after any number of damages, served by the real node."""
    if not data:
        return
    files = dict(image("torn" if data[0] & 1 else "clean"))
    paths = sorted(files)
    at = 1
    while at < len(data):
        try:
            file, kind, first, second, byte = EDIT.unpack_from(data, at)
        except error:
            break
        at += EDIT.size
        path = paths[file % len(paths)]
        if path in files:
            _damage(files, path, kind % 8, first, second, byte, paths)
    serve_all(files)


def _damage(
    files: dict[str, bytes], path: str, kind: int, first: int, second: int, byte: int, paths: list[str]
) -> None:
    content = bytearray(files[path])
    place = (first * len(content)) >> 32
    match kind:
        case 0 if content:
            content[place] ^= byte or 1
        case 1 if content:
            content[place] = byte
        case 2:
            sector = place & ~511
            content[sector : sector + 512] = bytes(len(content[sector : sector + 512]))
        case 3:
            del content[place:]
        case 4:
            source = (second * len(content)) >> 32
            content[place : place + 64] = content[source : source + 64]
        case 5:
            del files[path]
            return
        case 6:
            other = paths[byte % len(paths)]
            files[path], files[other] = files.get(other, b""), bytes(content)
            return
        case 7:
            content += bytes([byte]) * (second & 0xFFFF)
    files[path] = bytes(content)


TARGETS = (
    Target("journal", journal_seeds, run_journal),
    Target("checkpoint", checkpoint_seeds, run_checkpoint, CBOR_TOKENS),
    Target("directory", directory_seeds, run_directory),
)

"""What a released format left behind is opened by today's program, and says the same as then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.build import LIMITS, STREAMS, build, numbered, story
from tests.golden.newer import replica_story, services_story
from tests.kit.node_kit import Server
from tests.kit.store_disk import MemoryDisk
from waymaker_core.api import requests as rq
from waymaker_core.api.requests import Published
from waymaker_core.model.disk_ops import SyncDir, SyncFile, Write
from waymaker_core.model.limits import Limits
from waymaker_core.node.startup.restoring import Restoring
from waymaker_core.storage.archive import ArchiveReader, Batch, Head, Summary
from waymaker_core.storage.frame import (
    ADOPT,
    COMMIT,
    CUT,
    PROMISE,
    REPLICA,
    decode_header,
    directory_key,
    frame_bytes,
)
from waymaker_core.storage.journal.segment import SEGMENT_HEADER_BYTES
from waymaker_core.storage.manifest import decode_manifest
from waymaker_core.storage.paths import FOLDERS
from waymaker_core.storage.recovery.verify import Report, verify

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
RELEASED = sorted(path for path in GOLDEN.iterdir() if (path / "expected.json").exists())
DIRECTORIES = [pytest.param(path, kind, id=f"{path.name}-{kind}") for path in RELEASED for kind in ("clean", "torn")]


NEWER = [path for path in RELEASED if (path / "newer.json").exists()]
"""Those of format 2: with streams of services, and a replica."""


def load(folder: Path) -> MemoryDisk:
    disk = MemoryDisk()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            path = file.relative_to(folder).as_posix()
            disk.run([Write(path, 0, [file.read_bytes()]), SyncFile(path)])
    disk.run([SyncDir(folder) for folder in ("", *FOLDERS)])
    return disk


def check(disk: MemoryDisk) -> Report:
    return disk.drive(verify(Restoring(LIMITS), LIMITS))


def test_the_present_format_has_its_golden_directory() -> None:
    assert [path.name for path in RELEASED] == ["v1", "v2", "v3", "v4", "v5", "v6"]


@pytest.mark.parametrize(("released", "kind"), DIRECTORIES)
def test_a_golden_directory_is_sound(released: Path, kind: str) -> None:
    report = check(load(released / kind))
    assert not report.has_damage
    assert report.messages > 0
    assert any("torn tail" in finding.detail for finding in report.findings) == (kind == "torn")


@pytest.mark.parametrize("limits", [LIMITS, Limits()], ids=["its own limits", "a server's limits"])
@pytest.mark.parametrize(("released", "kind"), DIRECTORIES)
def test_a_golden_directory_says_what_it_said(released: Path, kind: str, limits: Limits) -> None:
    expected = json.loads((released / "expected.json").read_text())
    server = Server(limits, load(released / kind))
    assert json.loads(json.dumps(story(server))) == expected
    server.publish("quiet", b"life goes on")
    server.lose_power()
    assert server.all("quiet")[-1][2] == b"life goes on"
    assert not check(server.disk).has_damage


@pytest.mark.parametrize(("released", "kind"), DIRECTORIES)
def test_a_consumer_of_a_golden_directory_gets_an_id_that_was_never_given(released: Path, kind: str) -> None:
    server = Server(LIMITS, load(released / kind))
    given = {name: [info.consumer_id for info in server.consumers(name)] for name in STREAMS}
    for name in STREAMS:
        server.consumer(name, "new")
        server.lose_power()
        assert server.info(name, "new").consumer_id > max(given[name], default=0)


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.name)
def test_a_golden_directory_holds_every_kind_of_file(released: Path) -> None:
    for folder in FOLDERS:
        assert list((released / "clean" / folder).iterdir()), folder


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.name)
def test_a_golden_archive_is_read(released: Path) -> None:
    expected = json.loads((released / "expected.json").read_text())["parcels"]
    reader = ArchiveReader()
    pieces = reader.feed((released / "parcels.archive").read_bytes())
    summary = reader.close()
    head = pieces[0]
    assert isinstance(head, Head)
    assert head.config.name == STREAMS[0]
    assert isinstance(pieces[-1], Summary)
    seqs = [seq for piece in pieces if isinstance(piece, Batch) for seq in piece.seqs]
    assert seqs == [seq for seq, _ in expected["messages"]]
    assert summary.count == len(seqs)
    assert head.last_seq == expected["stats"][1]


def test_a_consumer_keeps_its_inactivity_timeout_since_version_3() -> None:
    for kind in ("clean", "torn"):
        assert Server(LIMITS, load(GOLDEN / "v3" / kind)).info("quiet", "guest").config.inactive_ms == 24 * 3_600_000
        assert Server(LIMITS, load(GOLDEN / "v2" / kind)).info("parcels", "late").config.inactive_ms == 0


@pytest.mark.parametrize("kind", ["clean", "torn"])
def test_a_producer_is_remembered_since_version_4(kind: str) -> None:
    server = Server(LIMITS, load(GOLDEN / "v4" / kind))
    last = server.stats("quiet").last_seq
    resent = numbered("quiet", 1, b"first of a producer", b"second", b"third", b"fourth", b"fifth", resent=True)
    answer = server.ok(resent)
    assert isinstance(answer, Published)
    assert (answer.first_seq, answer.count, answer.failures) == (2, 5, None)
    assert server.stats("quiet").last_seq == last + 1
    older = Server(LIMITS, load(GOLDEN / "v3" / kind)).ok(numbered("quiet", 1, b"new", resent=True))
    assert isinstance(older, Published)
    assert older.first_seq == 2, "a directory of before remembers none"


@pytest.mark.parametrize("kind", ["clean", "torn"])
def test_settings_and_restores_and_ids_of_consumers_are_of_the_stream_s_own_log_since_version_5(kind: str) -> None:
    server = Server(LIMITS, load(GOLDEN / "v5" / kind))
    for name, max_msgs in (("quiet", 10), ("parcels", 90)):
        info = server.ok(rq.GetStreamInfo(name))
        assert isinstance(info, rq.StreamInfo)
        assert info.config.max_msgs == max_msgs
    assert (server.all("restored"), server.stats("restored").last_seq) == ([(30, 0, b"a restored job")], 60)
    assert [info.config.name for info in server.consumers("restored")] == ["left", "right"]
    server.consumer("quiet", "short-lived")
    assert server.info("quiet", "short-lived").consumer_id == server.info("quiet", "guest").consumer_id + 2


def say_of(server: Server, kind: str) -> object:
    """What is said of a directory of services, or of a replica."""
    return json.loads(json.dumps(services_story(server) if kind == "services" else replica_story(server)))


@pytest.mark.parametrize("kind", ["services", "replica"])
@pytest.mark.parametrize("released", NEWER, ids=lambda path: path.name)
def test_services_and_replicas_of_a_golden_directory_say_what_they_said(released: Path, kind: str) -> None:
    expected = json.loads((released / "newer.json").read_text())[kind]
    disk = load(released / kind)
    assert not check(disk).has_damage
    server = Server(LIMITS, disk, replicated=kind == "replica")
    assert say_of(server, kind) == expected
    server.create("new")
    for _ in range(200):
        server.publish("new", bytes(200))
    server.lose_power()
    assert say_of(server, kind) == expected
    assert not check(server.disk).has_damage


def test_the_present_program_makes_a_golden_directory_that_it_opens(tmp_path: Path) -> None:
    build(tmp_path / "next")
    expected = json.loads((tmp_path / "next" / "newer.json").read_text())
    for kind in ("services", "replica"):
        disk = load(tmp_path / "next" / kind)
        assert check(disk).version == 2
        assert say_of(Server(LIMITS, disk, replicated=kind == "replica"), kind) == expected[kind]
    kinds = kinds_in(load(tmp_path / "next" / "replica"))
    assert {PROMISE, CUT, COMMIT, REPLICA, ADOPT} <= kinds


def kinds_in(disk: MemoryDisk) -> set[int]:
    """The kinds of the frames in a journal."""
    image = disk.image()
    key = directory_key(decode_manifest(image["MANIFEST"]).directory_id)
    kinds: set[int] = set()
    for path in sorted(path for path in image if path.startswith("journal/")):
        at = SEGMENT_HEADER_BYTES
        while (header := decode_header(key, image[path], at)) is not None:
            kinds.add(header.kind)
            at += frame_bytes(header.meta_length, header.body_length)
    return kinds

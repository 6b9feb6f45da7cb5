"""A directory of format 1 is migrated by its first start, whatever interrupts it, and an older program refuses the result.

The golden directories up to `v5` are of format 1.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from random import Random

import pytest

from tests.golden.build import LIMITS, story
from tests.kit.node_kit import Server
from tests.kit.store_disk import Crash, MemoryDisk
from tests.property.storage.test_store_golden import GOLDEN, check, load
from waymaker_core.model.disk_ops import CreateFile, DiskFailure, FailureKind
from waymaker_core.model.types import Now
from waymaker_core.node import Node, NodeConfig, open_node
from waymaker_core.node.checkpoint.snapshots import encode_catalog, encode_stream
from waymaker_core.storage.checksum import crc32c, extend
from waymaker_core.storage.errors import CorruptStore, UnknownVersion
from waymaker_core.storage.format_version import FORMAT_VERSION
from waymaker_core.storage.frame import directory_key
from waymaker_core.storage.manifest import decode_manifest
from waymaker_core.storage.paths import RESERVE

OLD = [pytest.param(GOLDEN / name / kind, id=f"{name}-{kind}") for name in ("v1", "v5") for kind in ("clean", "torn")]
NOW = Now(1, 1_700_000_100_000)


def open_at(disk: MemoryDisk) -> Node:
    """Open a directory, and do nothing else."""
    return disk.drive(open_node(NodeConfig(1, bytes(range(16)), LIMITS), NOW))


def state_of(node: Node) -> list[bytes]:
    """The state of the catalog and of every stream, as a checkpoint would write it."""
    state = node._state
    return [encode_catalog(state.catalog), *(encode_stream(replica, NOW) for replica in state.replicas.values())]


def versions(disk: MemoryDisk) -> dict[str, int]:
    """The versions in the headers of the manifest, of segments in use, and of checkpoints."""
    image = disk.image()
    key = directory_key(decode_manifest(image["MANIFEST"]).directory_id)
    found = {"MANIFEST": struct.unpack_from("<I", image["MANIFEST"], 8)[0]}
    for path, data in image.items():
        header = data[:64]
        if header[:8] in (b"WMjournl", b"WMchkpnt") and extend(key, header[:60]) == struct.unpack("<I", header[60:])[0]:
            found[path] = struct.unpack_from("<I", header, 8)[0]
    return found


def refused_by_format_1(data: bytes) -> str:
    """The rule by which programs judge a manifest that know format 1 only; what they say, or an empty text."""
    magic, version, length = struct.unpack_from("<8sII", data)
    assert magic == b"WMmanifs"
    assert crc32c(data[:-4]) == struct.unpack("<I", data[-4:])[0]
    if version != 1:
        return str(UnknownVersion("the manifest", version, 1))
    assert len(data) == 16 + length + 4
    return ""


@pytest.mark.parametrize("folder", OLD)
def test_a_start_migrates_and_old_files_are_read_until_they_are_released(folder: Path) -> None:
    disk = load(folder)
    assert set(versions(disk).values()) == {1}
    old = versions(disk).keys() - {"MANIFEST"}
    assert check(disk).version == 1
    server = Server(LIMITS, disk)
    assert [log.fields for log in server.logs if log.event == "migrated"] == [{"from_format": 1, "to_format": 2}]
    mixed = versions(disk)
    assert mixed["MANIFEST"] == FORMAT_VERSION
    assert {mixed[path] for path in old & mixed.keys()} == {1}, "no file is converted"
    for _ in range(300):
        server.publish("quiet", bytes(200), subject="a.b")
    server.kill()
    assert not [log for log in server.logs if log.event == "migrated"], "once"
    assert check(disk).version == FORMAT_VERSION
    assert not check(disk).has_damage
    manifest = decode_manifest(disk.image()["MANIFEST"])
    in_force = [version for path, version in versions(disk).items() if path not in old]
    assert set(in_force) == {FORMAT_VERSION}
    assert len(in_force) > 2
    assert manifest.first_segment > 7, "checkpoints have released what was there"


@pytest.mark.parametrize("folder", OLD)
def test_a_program_of_format_1_refuses_what_was_migrated_by_name(folder: Path) -> None:
    disk = load(folder)
    assert refused_by_format_1(disk.image()["MANIFEST"]) == ""
    before = disk.image()["MANIFEST"]
    server = Server(LIMITS, disk)
    said = "the manifest has version 2; this program knows versions up to 1"
    assert refused_by_format_1(disk.image()["MANIFEST"]) == said
    server.publish("quiet", b"new")
    # The old manifest put back does not help either, for it does not know of this opening.
    disk.names["MANIFEST"].content[:] = before
    with pytest.raises(CorruptStore, match="it is too old"):
        open_at(disk)


def open_at_last(disk: MemoryDisk, crashes: list[int], power: bool) -> tuple[Node, list[int]]:
    """Open a directory, with a crash of each attempt at one of its operations; the format that each crash left."""
    left: list[int] = []
    for crash_in in crashes:
        disk.crash_in = crash_in
        try:
            return open_at(disk), left
        except Crash:
            disk.lose_power(Random(crash_in)) if power else disk.kill()
            found = versions(disk)
            assert all(version <= found["MANIFEST"] for version in found.values())
            assert not check(disk).has_damage
            left.append(found["MANIFEST"])
    return open_at(disk), left


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
@pytest.mark.parametrize("folder", OLD)
def test_a_crash_at_any_operation_of_a_migration_leaves_one_format_and_the_same_state(
    folder: Path, power: bool
) -> None:
    disk = load(folder)
    begun = disk.written_ops
    expected = [state_of(open_at(disk))]
    operations = disk.written_ops - begun
    assert operations >= 5
    # A start that was counted and not finished is an abrupt stop: deliveries may have left.
    expected.append(state_of(open_at(disk)))
    seen: set[int] = set()
    for crash_in in range(operations):
        disk = load(folder)
        node, left = open_at_last(disk, [crash_in, max(0, operations - 1 - crash_in)], power)
        seen.update(left)
        assert state_of(node) == expected[FORMAT_VERSION in left], crash_in
        assert versions(disk)["MANIFEST"] == FORMAT_VERSION
    assert seen == {1, FORMAT_VERSION} or (power and seen == {1}), "names may be lost with the power"
    disk.crash_in = None
    said = json.loads((folder.parent / "expected.json").read_text())
    assert json.loads(json.dumps(story(Server(LIMITS, disk)))) == said


@pytest.mark.parametrize("folder", OLD)
def test_a_migration_on_a_full_disk_makes_room_or_leaves_format_1(folder: Path) -> None:
    expected = state_of(open_at(load(folder)))
    outcomes: set[bool] = set()
    for reserve in (False, True):
        disk = load(folder)
        if reserve:
            disk.run([CreateFile(RESERVE, LIMITS.segment_bytes // 2)])
        else:
            for path in [path for path in disk.names if path == RESERVE]:
                del disk.names[path]
        manifest_bytes = len(disk.image()["MANIFEST"])
        used = sum(map(len, disk.image().values()))
        for space in (used, used + manifest_bytes - 1, used + manifest_bytes):
            full = disk.copy()
            full.space = space
            try:
                node = open_at(full)
            except DiskFailure as failure:
                assert failure.kind is FailureKind.NO_SPACE
                assert set(versions(full).values()) == {1}
                assert not check(full).has_damage
                full.space = None
                node = open_at(full)
                outcomes.add(False)
            else:
                outcomes.add(True)
            assert state_of(node) == expected
            assert versions(full)["MANIFEST"] == FORMAT_VERSION
    assert True in outcomes

"""`check` of a backup: each kind of damage is found, under the name of the file that has it, and sound ones have none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.backup_kit import archives, entry_of, index_of, write_backup
from waymaker.backups.directory import BackupWriter
from waymaker.backups.index import INDEX_NAME, BackupIndex, encode_index
from waymaker.backups.verify import verify_archive, verify_backup
from waymaker.cli import exits, main
from waymaker_core.storage.archive import ArchiveReader, ArchiveWriter, Batch, Head
from waymaker_core.storage.recovery.verify import Finding

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def damage(path: Path) -> list[Finding]:
    """What is found in a backup that takes something away."""
    return [finding for finding in verify_backup(path, lambda _: None).findings if not finding.harmless]


@pytest.fixture
def backup(tmp_path: Path) -> tuple[Path, BackupIndex]:
    return tmp_path / "b", write_backup(tmp_path / "b")


def test_a_sound_backup_has_no_findings(backup: tuple[Path, BackupIndex]) -> None:
    path, index = backup
    counted: list[int] = []
    report = verify_backup(path, counted.append)
    assert report.findings == []
    assert (report.streams, report.messages, report.files) == (2, index.messages, 3)
    assert report.bytes_read == sum(counted) == index.total_bytes


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4"])
def test_archives_of_earlier_formats_are_sound(version: str) -> None:
    assert verify_archive(GOLDEN / version / "parcels.archive", lambda _: None).findings == []


def test_the_backup_of_the_first_format_is_sound() -> None:
    report = verify_backup(GOLDEN / "backup-v1", lambda _: None)
    assert report.findings == []
    assert (report.streams, report.messages) == (2, 11)


def test_every_flipped_byte_is_found_in_its_file(backup: tuple[Path, BackupIndex]) -> None:
    path, _ = backup
    for file in sorted(path.iterdir()):
        whole = file.read_bytes()
        for at in range(0, len(whole), 5):
            file.write_bytes(whole[:at] + bytes((whole[at] ^ 0x10,)) + whole[at + 1 :])
            found = damage(path)
            assert [finding.path for finding in found] == [file.name], at
            assert 0 <= found[0].offset <= at or file.name == INDEX_NAME
        file.write_bytes(whole)


def test_every_cut_and_every_addition_is_found(backup: tuple[Path, BackupIndex]) -> None:
    path, index = backup
    file = path / index.archives[1].file
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        assert [finding.path for finding in damage(path)] == [file.name], length
    file.write_bytes(whole + b"\0")
    assert [finding.path for finding in damage(path)] == [file.name]


def test_swapped_archives_are_found(backup: tuple[Path, BackupIndex]) -> None:
    path, index = backup
    one, other = (path / entry.file for entry in index.archives)
    one.rename(path / "x")
    other.rename(one)
    (path / "x").rename(other)
    found = damage(path)
    assert [finding.path for finding in found] == [one.name, other.name]
    assert "stream is orders, the index says jobs" in found[0].detail


def test_missing_linked_and_left_over_archives_are_told_apart(backup: tuple[Path, BackupIndex]) -> None:
    path, index = backup
    one, other = (path / entry.file for entry in index.archives)
    (path / "000007-ffffffff.wmka").write_bytes(b"half")
    (path / "notes").write_text("not ours")
    assert damage(path) == []
    assert [finding.path for finding in verify_backup(path, lambda _: None).findings] == ["000007-ffffffff.wmka"]
    one.rename(path / "x")
    other.unlink()
    other.symlink_to(path / "x")
    found = damage(path)
    assert [(finding.path, "missing" in finding.detail) for finding in found] == [(one.name, True), (other.name, False)]
    (path / INDEX_NAME).unlink()
    assert "was not completed" in damage(path)[0].detail


def test_an_index_that_names_a_path_elsewhere_reads_nothing_there(backup: tuple[Path, BackupIndex]) -> None:
    path, index = backup
    lines = encode_index(index).splitlines(keepends=True)
    (path.parent / "x.wmka").write_bytes((path / index.archives[0].file).read_bytes())
    lines[1] = lines[1].replace(index.archives[0].file.encode(), b"../x.wmka")
    body = b"".join(lines[:-1])
    (path / INDEX_NAME).write_bytes(body + json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n")
    found = damage(path)
    assert [(finding.path, finding.offset) for finding in found] == [(INDEX_NAME, len(lines[0]))]
    assert "'../x.wmka' is no archive of this backup" in found[0].detail


@pytest.mark.parametrize(
    "wrong",
    [{"messages": 5}, {"first_seq": 2}, {"last_seq": 9}, {"stream": "other"}, {"sha256": "0" * 64}, {"bytes": 3}],
)
def test_an_index_that_counts_otherwise_is_found(tmp_path: Path, wrong: dict[str, int | str]) -> None:
    writer = BackupWriter(tmp_path / "b", force=False)
    data = archives()["orders"]
    archive = writer.archive(1)
    archive.write(data)
    entry = entry_of(archive.path.name, "orders", data, archive.finish())
    writer.finish(index_of(writer, [replace(entry, **wrong)]))  # type: ignore[arg-type]
    found = damage(tmp_path / "b")
    assert len(found) == 1
    assert "not the archive that the index names" in found[0].detail


@pytest.mark.parametrize(
    ("config", "consumers", "problem"),
    [({"name": "a/b"}, None, "settings that no stream has"), ({}, [3, [[1]]], "consumers cannot be restored"),
     ({}, "nothing", "consumers cannot be restored")],
)  # fmt: skip
def test_what_no_server_would_take_is_found_though_its_checksums_are_right(
    tmp_path: Path, config: dict[str, str], consumers: object, problem: str
) -> None:
    head, *rest = ArchiveReader().feed(archives()["orders"])
    assert isinstance(head, Head)
    head.config = replace(head.config, **config)  # type: ignore[arg-type]
    head.consumers = consumers
    writer = ArchiveWriter()
    parts = [writer.head(head), *(writer.batch(each) for each in rest if isinstance(each, Batch)), writer.finish(6)]
    (tmp_path / "x.wmka").write_bytes(b"".join(parts))
    found = verify_archive(tmp_path / "x.wmka", lambda _: None).findings
    assert [problem in finding.detail for finding in found] == [True]


# ------------------------------------------------------------------------------------ the command


def test_the_command_tells_sound_from_damaged(
    backup: tuple[Path, BackupIndex], capsys: pytest.CaptureFixture[str]
) -> None:
    path, index = backup
    file = path / index.archives[0].file
    assert main(("check", str(path), "--json")) == exits.OK
    assert json.loads(capsys.readouterr().out)["streams"] == 2
    assert main(("check", str(file))) == exits.OK
    file.write_bytes(file.read_bytes()[:-3])
    capsys.readouterr()
    assert main(("check", str(file), "--json")) == exits.DAMAGED
    finding, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert (finding["path"], finding["detail"], summary["damaged"]) == (file.name, "the archive is cut short", True)
    assert main(("check", str(path))) == exits.DAMAGED
    assert capsys.readouterr().out.startswith(f"{file.name}\t")
    (path / INDEX_NAME).unlink()
    assert main(("check", str(path))) == exits.DAMAGED
    assert "was not completed" in capsys.readouterr().out
    assert main(("check", str(path.parent))) == exits.NOT_FOUND
    assert "or that of a backup" in capsys.readouterr().err

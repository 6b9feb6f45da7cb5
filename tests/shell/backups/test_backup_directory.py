"""The directory of a backup: whole or none, the old one until the new one is complete, and nothing else touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.backup_kit import write_backup
from waymaker.backups import directory
from waymaker.backups.directory import (
    BackupMissing,
    BackupWriter,
    DirectoryRefused,
    open_regular,
    read_index,
    size_problem,
)
from waymaker.backups.index import INDEX_NAME, IndexRefused


def files(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def test_a_backup_is_read_as_it_was_written(tmp_path: Path) -> None:
    index = write_backup(tmp_path / "b")
    assert read_index(tmp_path / "b") == index
    assert files(tmp_path / "b") == [*(entry.file for entry in index.archives), INDEX_NAME]
    assert [size_problem(tmp_path / "b", entry) for entry in index.archives] == ["", ""]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(INDEX_NAME, "holds a backup"), ("000001-0123abcd.wmka", "interrupted"), ("x", "not empty")],
)
def test_a_directory_in_use_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / content).write_bytes(b"")
    with pytest.raises(DirectoryRefused, match=problem):
        BackupWriter(tmp_path, force=False)
    assert files(tmp_path) == [content]


def test_an_empty_directory_is_used_and_kept_and_a_file_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    BackupWriter(tmp_path / "b", force=False).abandon()
    assert files(tmp_path / "b") == []
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(DirectoryRefused, match="is a file"):
        BackupWriter(tmp_path / "f", force=True)
    with pytest.raises(FileNotFoundError):
        BackupWriter(tmp_path / "nowhere" / "b", force=False)


def test_what_is_abandoned_leaves_nothing(tmp_path: Path) -> None:
    writer = BackupWriter(tmp_path / "b", force=False)
    writer.archive(1).write(b"some")
    writer.archive(2).finish()
    discarded = writer.archive(3)
    writer.discard(discarded)
    assert len(files(tmp_path / "b")) == 2
    writer.abandon()
    assert files(tmp_path) == []


def test_the_old_backup_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "b"
    old = write_backup(path)
    (path / "notes").write_text("kept")
    (path / "000009-ffffffff.wmka").write_text("left over")
    writer = BackupWriter(path, force=True)
    assert not (path / "000009-ffffffff.wmka").exists()
    writer.archive(1).write(b"half")
    assert read_index(path) == old
    writer.abandon()
    assert read_index(path) == old
    assert files(path) == [*(entry.file for entry in old.archives), INDEX_NAME, "notes"]
    new = write_backup(path, force=True)
    assert read_index(path) == new != old
    assert files(path) == sorted([*(entry.file for entry in new.archives), INDEX_NAME, "notes"])


def test_an_unreadable_index_keeps_the_archives_until_it_is_replaced(tmp_path: Path) -> None:
    old = write_backup(tmp_path / "b")
    (tmp_path / "b" / INDEX_NAME).write_bytes(b"torn")
    writer = BackupWriter(tmp_path / "b", force=True)
    assert set(files(tmp_path / "b")) >= {entry.file for entry in old.archives}
    writer.abandon()
    assert len(write_backup(tmp_path / "b", force=True).archives) == len(files(tmp_path / "b")) - 1


def test_two_backups_never_share_a_directory(tmp_path: Path) -> None:
    first = BackupWriter(tmp_path / "b", force=False)
    first.archive(1).write(b"some")
    with pytest.raises(DirectoryRefused, match="another backup"):
        BackupWriter(tmp_path / "b", force=True)
    assert len(files(tmp_path / "b")) == 1
    first.abandon()
    write_backup(tmp_path / "b")


@pytest.mark.parametrize("at", range(8))
def test_a_failure_at_any_step_of_the_end_leaves_the_old_or_the_new_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Each step that may fail fails once; what the directory then holds is one backup or the other, and all of it."""
    path = tmp_path / "b"
    old = write_backup(path)
    steps = 0

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps == at + 1:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        return step

    writer = BackupWriter(path, force=True)
    entries = []
    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(Path, "replace", failing(Path.replace))
    monkeypatch.setattr(Path, "unlink", failing(Path.unlink))
    from tests.kit.backup_kit import archives, entry_of, index_of

    try:
        for number, (stream, data) in enumerate(archives().items(), 1):
            archive = writer.archive(number)
            archive.write(data)
            entries.append(entry_of(archive.path.name, stream, data, archive.finish()))
        writer.finish(index_of(writer, entries))
    except OSError as error:
        assert error.strerror == "No space left on device"
        writer.abandon()
    monkeypatch.undo()
    found = read_index(path)
    assert found in (old, index_of(writer, entries))
    assert [size_problem(path, entry) for entry in found.archives] == ["", ""]


def test_what_is_no_backup_is_told_from_half_a_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupMissing, match="holds no backup"):
        read_index(tmp_path)
    (tmp_path / "000001-0123abcd.wmka").write_bytes(b"")
    with pytest.raises(BackupMissing, match="was not completed") as missing:
        read_index(tmp_path)
    assert missing.value.is_unfinished
    with pytest.raises(FileNotFoundError):
        read_index(tmp_path / "nowhere")


def test_links_and_pipes_are_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    index = write_backup(tmp_path / "b")
    file = tmp_path / "b" / index.archives[0].file
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert "link" in size_problem(tmp_path / "b", index.archives[0])
    file.unlink()
    os.mkfifo(file)
    assert "no regular file" in size_problem(tmp_path / "b", index.archives[0])
    with pytest.raises(OSError, match="no regular file"):
        open_regular(tmp_path / "b")


def test_an_index_without_end_is_not_read_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "INDEX_BYTES_MAX", 100)
    (tmp_path / INDEX_NAME).write_bytes(bytes(1_000))
    with pytest.raises(IndexRefused, match="not longer than 100"):
        read_index(tmp_path)

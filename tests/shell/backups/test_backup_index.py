"""The index of a backup: what was written is read, and nothing else is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker.backups.index import ArchiveEntry, BackupIndex, IndexRefused, archive_name, decode_index, encode_index

ID = "0123abcd"
ENTRY = ArchiveEntry(archive_name(1, ID), "orders", 3, 5, 100, "a" * 64, 10, 1, 12)
INDEX = BackupIndex(
    ID, 1, 2, "1.0", 1, "cd" * 16, (ENTRY, replace(ENTRY, file=archive_name(2, ID), stream="größe")), ("torn",), ("new",)
)  # fmt: skip


def test_an_index_is_read_as_it_was_written() -> None:
    assert decode_index(encode_index(INDEX)) == INDEX
    empty = replace(INDEX, archives=(), damaged=(), created=())
    assert decode_index(encode_index(empty)) == empty
    assert (INDEX.messages, INDEX.total_bytes) == (20, 200)


def test_every_changed_byte_and_every_cut_is_refused() -> None:
    data = encode_index(INDEX)
    for at in range(len(data)):
        with pytest.raises(IndexRefused):
            decode_index(data[:at])
        for bit in (1, 32, 128):
            with pytest.raises(IndexRefused):
                decode_index(data[:at] + bytes((data[at] ^ bit,)) + data[at + 1 :])


def changed(line: int, change: Callable[[dict[str, Any]], None]) -> bytes:
    """An index with another line, and the checksum of one who made it so on purpose."""
    lines = [json.loads(each) for each in encode_index(INDEX).splitlines()]
    change(lines[line])
    return sealed(lines[:-1])


def sealed(lines: Sequence[object]) -> bytes:
    body = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
    return body + json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n"


@pytest.mark.parametrize(
    ("line", "field", "value", "problem"),
    [
        (1, "file", "../orders.wmka", "no archive of this backup"),
        (1, "file", "/etc/passwd", "no archive of this backup"),
        (1, "file", f"../{archive_name(1, ID)}", "no archive of this backup"),
        (1, "file", archive_name(1, "ffffffff"), "no archive of this backup"),
        (1, "file", archive_name(1, ID) + "\n", "missing or impossible"),
        (1, "file", 5, "file is missing or impossible"),
        (2, "file", archive_name(1, ID), "stands behind"),
        (2, "stream", "orders", "named twice"),
        (1, "stream", "a/b", "no name of a stream"),
        (1, "stream", "", "no name of a stream"),
        (1, "stream", "\x1b[31m", "missing or impossible"),
        (1, "sha256", "A" * 64, "sha256 is missing"),
        (1, "bytes", -1, "bytes is missing"),
        (1, "bytes", True, "bytes is missing"),
        (1, "bytes", 1.5, "bytes is missing"),
        (1, "bytes", 1 << 70, "bytes is missing"),
        (1, "first_seq", 13, "first_seq is missing"),
        (1, "first_seq", 0, "first_seq is missing"),
        (0, "waymaker_backup", 2, "version 2, this program reads 1"),
        (0, "backup_id", "../../..", "backup_id is missing"),
        (0, "archives", 3, "counts 3 archives and names 2"),
        (0, "server", None, "lacks an object"),
        (0, "damaged", ["a/b"], "damaged is missing"),
        (0, "created", "new", "created is missing"),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused_by_its_name(line: int, field: str, value: object, problem: str) -> None:
    data = changed(line, lambda fields: fields.update({field: value}))
    with pytest.raises(IndexRefused, match=problem) as refused:
        decode_index(data)
    assert refused.value.offset == sum(len(each) for each in data.splitlines(keepends=True)[:line])


def test_a_missing_field_is_refused_and_an_unknown_one_ignored() -> None:
    for line in (0, 1):
        for field in json.loads(encode_index(INDEX).splitlines()[line]):
            with pytest.raises(IndexRefused):
                decode_index(changed(line, lambda fields, field=field: fields.pop(field)))  # type: ignore[misc]
        assert decode_index(changed(line, lambda fields: fields.update(later="x"))) == INDEX


@given(st.one_of(st.binary(max_size=300), st.lists(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8,
), max_size=4).map(sealed)))  # fmt: skip
def test_any_bytes_are_an_index_or_refused(data: bytes) -> None:
    try:
        decode_index(data)
    except IndexRefused:
        pass


def test_deep_nesting_is_refused() -> None:
    body = b"[" * 100_000 + b"\n"
    with pytest.raises(IndexRefused, match="no JSON object"):
        decode_index(body + json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n")

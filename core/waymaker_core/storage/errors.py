"""Faults of stored bytes, as exceptions that name the place.

Two families: a `CorruptRecord` or `UnknownVersion` says that some bytes are not what they should be, without knowing where
they came from; a `StoreRefused` names the file and keeps a node from starting on it.
"""

from __future__ import annotations


class CorruptRecord(ValueError):
    """Bytes that are not an encoding of what they claim to be."""


class UnknownVersion(ValueError):
    """Bytes written by a newer program, or a format that never was: `what` it is, `found` and the newest `known`."""

    def __init__(self, what: str, found: int, known: int) -> None:
        super().__init__(f"{what} has version {found}; this program knows versions up to {known}")
        self.what = what
        self.found = found
        self.known = known


class StoreRefused(Exception):
    """A data directory that must not be opened: nothing was changed in it. The message says where and why."""

    def __init__(self, path: str, offset: int, detail: str) -> None:
        super().__init__(f"{path or 'the data directory'} at offset {offset}: {detail}")
        self.path = path
        self.offset = offset
        self.detail = detail


class CorruptStore(StoreRefused):
    """Damage that cannot be pinned on one stream: what is there is not what was written."""


class UnknownStoreVersion(StoreRefused):
    """A file or record that this program is too old for."""


class NotAStore(StoreRefused):
    """Files, but no manifest among them: either the manifest was lost or this never was a data directory."""


class JournalFull(Exception):
    """No allocated room for a record. Nothing was changed; room comes with a spare segment."""

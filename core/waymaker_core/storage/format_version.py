"""The version of a data directory's format: which ones are read, and the one that is written.

The manifest, journal segments and checkpoints carry it in their headers. Each start writes the manifest anew, before any other
new file, so that no file is newer than the manifest says. So a program that knows older versions only refuses the directory
by its manifest, whatever else it could have read.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.storage.errors import UnknownVersion

FORMAT_VERSION: Final = 2
"""The version that is written. The first one had no local frames (`frame.PROMISE` to `frame.RAFT_HARD`)."""
OLDEST_VERSION: Final = 1
"""The oldest version that is read."""


def check_format_version(what: str, found: int) -> None:
    """Raise `UnknownVersion` for a version that this program does not read. `what` names the file's kind."""
    if not OLDEST_VERSION <= found <= FORMAT_VERSION:
        raise UnknownVersion(what, found, FORMAT_VERSION)

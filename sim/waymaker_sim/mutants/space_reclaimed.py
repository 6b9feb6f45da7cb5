"""Rules of space on disk and in memory: what is unused is deleted."""

from __future__ import annotations

from typing import Any

from waymaker_core.node.checkpoint.checkpoints import Checkpoints
from waymaker_core.node.checkpoint.reserve import Reserve
from waymaker_core.node.checkpoint.shared_block_files import SharedBlockFiles
from waymaker_core.node.file_gc import Garbage
from waymaker_core.node.gate import Gate
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.stream.relocation import relocation as moves
from waymaker_sim.mutants.planting import Mutant, giving, nothing


def _knowing_only_its_own(original: Any) -> Any:
    """Count shared block files only from the first that this process made."""

    def note(self: SharedBlockFiles, replica: Any) -> None:
        if self._bytes:
            original(self, replica)

    return note


def _remembering_streams(original: Any) -> Any:
    def reply_messages(self: Gate, token: Any, replica: Any, messages: Any) -> None:
        original(self, token, replica, messages)
        vars(self).setdefault("remembered", []).append(replica)

    return reply_messages


def _copying_the_dead(_: Any) -> Any:
    def leave(block: Any, columns: Any, leaving: Any) -> Any:
        chosen = [leaving(path) for path in columns.paths]
        places = [place for place, path in enumerate(columns.chunk_paths) if chosen[path]]
        return moves._move(block, columns, places)

    return leave


ROOM = {
    "forget-tails-at-start": Mutant(
        "a start counts the users of shared block files", ("room given back",), SharedBlockFiles, "note", _knowing_only_its_own,
    ),
    "keep-unused-tails": Mutant(
        "an unused shared block file is garbage", ("room given back",), SharedBlockFiles, "take_unused", giving([]),
    ),
    "keep-garbage": Mutant(
        "garbage is deleted from the disk", ("room given back",), Garbage, "collect", nothing,
    ),
    "remember-streams": Mutant(
        "replies are remembered by the id of their stream", ("memory given back",), Gate, "reply_messages",
        _remembering_streams,
    ),
    "copy-the-dead": Mutant(
        "dead messages of the open block are not copied", ("room given back",), moves, "_leave", _copying_the_dead,
    ),
    "copy-all-on-a-full-disk": Mutant(
        "on a full disk a checkpoint begins with what needs no space", ("room given back",), Checkpoints, "_limit_scope",
        nothing,
    ),
    "keep-the-reserve": Mutant(
        "a checkpoint may use the space of the reserve on a full disk", ("room given back",), Reserve, "take", giving([]),
    ),
    "keep-segments": Mutant(
        "segments before a checkpoint's cut are released", ("room given back",), Journal, "release", giving([]),
    ),
}  # fmt: skip

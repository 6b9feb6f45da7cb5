"""Random lives of two replicas are clean, and each rule of transfers that is taken away is noticed in some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.store_disk import Crash
from tests.kit.transfer_world import live
from waymaker_core.model.disk_ops import DiskFailure, SyncDir, SyncFile
from waymaker_core.node.apply import Applier
from waymaker_core.node.file_gc import Garbage
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.transfer import receiving
from waymaker_core.storage.journal.writer import Journal
from waymaker_core.storage.recovery.replay import Replay
from waymaker_core.stream.relocation import relocation as relocating

SEEDS = range(620_401, 620_413)


def test_what_is_received_is_what_was_sent_in_random_lives() -> None:
    assert sum(live(seed) for seed in SEEDS) > 3 * len(SEEDS)


Make = Callable[[Any], Any]


def unsynced(original: Any) -> Any:
    def take_state(self: Any, piece: Any) -> Any:
        return [op for op in original(self, piece) if not isinstance(op, SyncFile | SyncDir)]

    return take_state


def at_another_position(original: Any) -> Any:
    def append_fact(self: Any, kind: int, meta: bytes, stream_id: int = 0, position: int = 0) -> None:
        original(self, kind, meta, stream_id, position + 1)

    return append_fact


def before_it_is_durable(_: Any) -> Any:
    def call_when_durable(self: GroupCommit, call: Callable[[], None]) -> None:
        self._sync_due = True
        call()

    return call_when_durable


def forgetting_old_files(original: Any) -> Any:
    def replace(self: Applier, before: Any, replica: Any, path: str) -> None:
        for file in list(relocating.files(before.stream)):
            before.stream.file_uses.pop(file, None)
        before.stream.blocks.clear()
        before.stream.released.clear()
        original(self, before, replica, path)

    return replace


def forgetting_its_file(original: Any) -> Any:
    def replace(self: Applier, before: Any, replica: Any, path: str) -> None:
        original(self, before, replica, path)
        self.forget_adopted(replica.id)

    return replace


def keeping_its_old_chain(original: Any) -> Any:
    def replace(self: Applier, before: Any, replica: Any, path: str) -> None:
        original(self, before, replica, path)
        # The next checkpoint may release the frame without a snapshot of the stream.
        self._state.changes.replicas.pop(replica.id)

    return replace


def nothing(_: Any) -> Any:
    return lambda *_arguments: None


def keeping_nothing(original: Any) -> Any:
    return lambda self, _first: original(self, None)


def passing_over(_: Any) -> Any:
    def adopt(self: Replay, *_arguments: object) -> Any:
        yield from ()

    return adopt


MUTANTS: dict[str, tuple[object, str, Make]] = {
    "adopt what is not synced": (receiving.Receipt, "_take_state", unsynced),
    "name another position": (Journal, "append_fact", at_another_position),
    "switch before the frame is durable": (GroupCommit, "call_when_durable", before_it_is_durable),
    "forget the old files": (Applier, "replace", forgetting_old_files),
    "delete the snapshot's file at once": (Applier, "replace", forgetting_its_file),
    "leave the stream out of the next checkpoint": (Applier, "replace", keeping_its_old_chain),
    "hold no files for what is sent": (Garbage, "hold", nothing),
    "keep no segments for what is sent": (Journal, "keep_from", keeping_nothing),
    "pass over an adoption at a start": (Replay, "adopt", passing_over),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_missing_rule_of_transfers_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, make = MUTANTS[name]
    monkeypatch.setattr(owner, attribute, make(vars(owner)[attribute]))
    for seed in SEEDS:
        try:
            live(seed)
        except (AssertionError, DiskFailure, Crash, LookupError, ValueError):
            return
    pytest.fail(f"nobody noticed in {len(SEEDS)} lives")

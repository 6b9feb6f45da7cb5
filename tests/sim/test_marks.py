"""Marks are counted where they are seen, and a few seeds reach most of what a campaign has to reach."""

from __future__ import annotations

from waymaker_core.api.effects import Effect, Job, Lane
from waymaker_core.model.disk_ops import CopyChunks, Delete, DiskOp, Rename, SyncFile, Write
from waymaker_core.model.types import JobId
from waymaker_core.node.stats import NodeStats
from waymaker_sim.kernel.coverage_marks import REQUIRED, MarkRecorder, never_reached, report
from waymaker_sim.world.run import run_seed

SEEDS = (14, 83, 85, 9702, 274390, 3214, 240129, 757, 848, 1378, 5663, 20016, 30184, 31238, 610692)
"""Small worlds, each of which reaches what the others do not."""
RARE = {
    "halted: unclean",
    "log torn_tail_cut",
    "log disk_full",
    "commit retried",
    "refused: the disk is full",
    "log disk_has_room",
    "log checkpoint_failed",
    "doubt resolved",
    "refused RESOURCE_EXHAUSTED",
    "refused UNAVAILABLE",
    "watcher lagged",
}
"""What takes larger worlds: left to campaigns."""


class Seen(dict[str, int]):
    """Marks as they are counted."""

    def mark(self, name: str) -> None:
        self[name] = self.get(name, 0) + 1


def job(*ops: DiskOp, lane: Lane = Lane.BACKGROUND) -> list[Effect]:
    return [Job(JobId(1), lane, list(ops))]


def test_a_checkpoint_is_interrupted_only_between_its_first_write_and_its_manifest() -> None:
    begins = job(CopyChunks("blocks/1-2.blk", 0, []))
    goes_on = job(Write("checkpoints/3.ckpt", 0, [b"x"]), SyncFile("checkpoints/3.ckpt"))
    ends = job(Write("MANIFEST.new", 0, [b"m"]), Rename("MANIFEST.new", "MANIFEST"))
    for steps, interrupted in (([], 0), ([begins], 1), ([begins, goes_on], 1), ([begins, goes_on, ends], 0)):
        seen = Seen()
        lookout = MarkRecorder(seen.mark)
        lookout.stepped(NodeStats(), [])
        for effects in steps:
            lookout.stepped(NodeStats(), effects)
        lookout.stopped()
        assert seen.get("checkpoint interrupted", 0) == interrupted, steps


def test_a_block_that_goes_as_soon_as_it_was_moved_is_told_from_an_old_one() -> None:
    seen = Seen()
    lookout = MarkRecorder(seen.mark)
    lookout.stepped(NodeStats(), job(CopyChunks("blocks/1-2.blk", 0, [])))
    lookout.stepped(NodeStats(), job(Delete("blocks/1-1.blk")))
    assert "block gone as soon as moved" not in seen
    lookout.stepped(NodeStats(), job(Delete("blocks/1-2.blk")))
    assert seen["block gone as soon as moved"] == 1


def test_counters_are_read_when_the_process_is_gone_and_once() -> None:
    seen, stats = Seen(), NodeStats()
    lookout = MarkRecorder(seen.mark)
    lookout.stepped(stats, [])
    stats.index_loads, stats.index_evictions, stats.redelivered_messages = 5, 2, 7
    lookout.stopped()
    lookout.stopped()
    assert seen == {"index loaded": 1, "index loaded again": 1, "redelivery": 1}


def test_a_campaign_tells_what_it_never_reached() -> None:
    reached = dict.fromkeys(REQUIRED, 3)
    assert never_reached(reached) == []
    del reached["drain"]
    assert never_reached(reached) == ["drain"]
    lines = report({**reached, "something else": 1})
    assert f"{len(REQUIRED) - 1} of {len(REQUIRED)} required marks reached" in lines
    assert any("never reached: drain" in line for line in lines)
    assert any("something else" in line for line in lines)


def test_a_few_small_worlds_reach_most_of_what_a_campaign_has_to_reach() -> None:
    reached: dict[str, int] = {}
    for seed in SEEDS:
        found = run_seed(seed)
        assert found.clean(), f"seed {seed}: {found.check}: {found.detail}"
        for name, times in found.marks.items():
            reached[name] = reached.get(name, 0) + times
    assert set(never_reached(reached)) <= RARE

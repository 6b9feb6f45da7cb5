"""Reads under way while what they read moves: what arrives late leads nobody to a file that is gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit.node_kit import Server
from tests.property.node.checkpoint.test_node_dead_bytes import PLAIN, fill, fill_other
from waymaker_core.api import requests as rq
from waymaker_core.api.effects import Effect, Job
from waymaker_core.api.inputs import Call, Input, JobFailed
from waymaker_core.model.disk_ops import CopyChunks, DiskFailure, FailureKind, ReadChunk
from waymaker_core.model.types import ANYONE, Token


class LateIndexes(Server):
    """A server that begins a scan while a block file is written anew; the old file's indexes are read then, and told late."""

    scan: int = 0
    rotten: bool = False

    def open(self) -> None:
        self.late: list[Input] = []
        self.old: frozenset[str] = frozenset()
        super().open()

    def perform(self, effect: Effect) -> list[Input]:
        if not isinstance(effect, Job):
            return super().perform(effect)
        read = next((op.chunk for op in effect.ops if isinstance(op, ReadChunk)), None)
        if read is not None and read.path in self.old:
            failure = DiskFailure(FailureKind.CORRUPT, read.path, read.offset, "rot")
            self.late.append(JobFailed(effect.id, failure) if self.rotten else self.do(effect))
            return []
        old = rewritten(effect)
        if not old or self.old:
            return super().perform(effect)
        self.old, self.scan = old, self.token()
        call = Call(Token(self.scan), ANYONE, rq.ScanSubject("s", "a.0", 1, 100))
        return [*super().perform(effect), call]

    def arrive(self) -> None:
        late, self.late = self.late, []
        self.step(*late)


def rewritten(job: Job) -> frozenset[str]:
    """The block files that a job copies from."""
    chunks = [chunk for op in job.ops if isinstance(op, CopyChunks) for chunk in op.sources]
    return frozenset(chunk.path for chunk in chunks if chunk.path.startswith("blocks/"))


@pytest.mark.parametrize("rotten", [False, True])
def test_an_index_that_arrives_after_its_block_was_written_anew_is_read_again(rotten: bool) -> None:
    server = LateIndexes(replace(PLAIN, index_cache_bytes=1))
    server.rotten = rotten
    server.create("s", retention="WORK_QUEUE", block_size=50)
    server.consumer(ack_wait_ms=3_600_000)
    fill(server, 1_000)
    server.ack(*[seq for seq, _, _ in server.fetch(batch=1_000) if seq % 25])
    fill_other(server, 3 * PLAIN.checkpoint_journal_bytes)
    assert server.late, "the scan waits for indexes of the old files"
    assert server.old <= server.deleted
    server.arrive()
    live = list(range(25, 1_001, 25))
    assert server.node.quarantined() == []
    assert [seq for seq, _, _ in server.bodies[server.scan]] == live
    assert [seq for seq, _, _ in server.all()] == live
    assert server.node.stats.unreadable == 0

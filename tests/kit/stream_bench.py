"""A stream on a toy disk, with short words for what tests do to it."""

from __future__ import annotations

from dataclasses import replace

from tests.kit.stream_model import ToyDisk, ack_record, relocate_blocks, resident
from waymaker_core.api.requests import Publish
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.stream import PublishDecision, Stream, admission, reads, validate
from waymaker_core.stream.invariants import check_stream
from waymaker_core.stream.relocation import relocation as relocating
from waymaker_core.stream.retention import decisions as retention

LIMITS = Limits()


class Bench:
    """A stream on a toy disk."""

    def __init__(self, **settings: object) -> None:
        config = replace(StreamConfig("s", block_size=4), **settings)  # type: ignore[arg-type]
        self.stream = Stream(1, validate(config, LIMITS), 1, LIMITS)
        self.disk = ToyDisk()

    def decide(
        self, *subjects: str, size: int = 3, times: list[int] | None = None, expected: list[int] | None = None,
        wall_ms: int = 1000, service: bool = False,
    ) -> PublishDecision:  # fmt: skip
        count = len(subjects)
        request = Publish("s", list(subjects), [size] * count, [2] * count, b"xy" * count, times, expected, service)
        return resident(self.stream, self.disk, lambda: admission.decide_publish(self.stream, request, wall_ms))

    def apply(self, decision: PublishDecision) -> PublishDecision:
        record = decision.record
        assert record is not None
        chunk = self.disk.append("journal/0000000000000001.seg", b"".join(decision.parts))
        self.stream.apply(self.stream.position + 1, record, chunk)
        check_stream(self.stream)
        return decision

    def publish(self, *subjects: str, **how: object) -> PublishDecision:
        return self.apply(self.decide(*subjects, **how))  # type: ignore[arg-type]

    def prune(self, wall_ms: int) -> None:
        while (
            record := resident(self.stream, self.disk, lambda: retention.decide_retention(self.stream, wall_ms, None))
        ) is not None:
            self.stream.apply(self.stream.position + 1, record, None)
            check_stream(self.stream)

    def drop(self, *seqs: int) -> None:
        drops, sizes = resident(self.stream, self.disk, lambda: retention.decide_drops(self.stream, seqs))
        self.stream.apply(self.stream.position + 1, ack_record(drops, sizes), None)
        check_stream(self.stream)

    def seal(self) -> None:
        """Complete blocks get files, and their indexes are given up."""
        relocate_blocks(self.stream, self.disk, lambda path: False, 10 * (len(self.disk.files) + 1))
        for number in list(self.stream.blocks):
            relocating.evict_index(self.stream, number)

    def seal_anew(self) -> None:
        """Write sparse blocks anew."""
        number = 10 * (len(self.disk.files) + 1)
        resident(self.stream, self.disk, lambda: relocate_blocks(self.stream, self.disk, lambda path: False, number))

    def live(self) -> list[int]:
        found = resident(self.stream, self.disk, lambda: reads.select(self.stream, 0, None, 10_000, 1 << 30))
        return [seq for first, last in found.ranges for seq in range(first, last + 1)]

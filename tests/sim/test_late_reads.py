"""Late reads: files keep their names until every reader has read them, and a file that went too early is reported."""

from __future__ import annotations

from array import array

from waymaker_core.api.requests import Messages, Run
from waymaker_core.model.disk_ops import Chunk, DiskFailure, FailureKind
from waymaker_core.model.types import Token
from waymaker_sim.kernel.events import SECOND, US, Events
from waymaker_sim.kernel.tape import MILLION, Tape
from waymaker_sim.machine.late_reads import WAITING_MAX, HeldFiles, LateReads

TOKEN = Token(1)


def messages(path: str) -> Messages:
    return Messages([Run(Chunk(path, 0, 1, 0), 0, array("I", [1]), 1, array("q", [1]), 1)], 1, 1)


class Bench:
    """Late reads of a disk on which some files are missing."""

    def __init__(self, per_million: int) -> None:
        self.events, self.held = Events(), HeldFiles()
        self.read: list[str] = []
        self.gone: set[str] = set()
        self.told: list[str] = []
        self.track = Tape(1).track("late reads")
        self.reads = LateReads(self.events, self.track, self.held, per_million, 30 * US, self.read_now)
        self.reads.on_missing = lambda failure: self.told.append(failure.path)

    def read_now(self, wanted: Messages) -> object:
        path = wanted.runs[0].chunk.path
        self.read.append(path)
        return DiskFailure(FailureKind.MISSING, path, 0, "no such file") if path in self.gone else []


def test_files_are_held_until_they_are_read_and_what_waits_behind_a_read_as_well() -> None:
    bench = Bench(MILLION)
    for path in ("journal/1", "journal/2", "journal/2"):
        bench.reads.handed_over(TOKEN, messages(path))
    assert "journal/1" in bench.held and "journal/2" in bench.held
    bench.events.run_until(20_000 * US)
    assert bench.read == [], "the first one is slow, and the others wait for it"
    bench.events.run_until(SECOND)
    assert bench.read == ["journal/1", "journal/2", "journal/2"]
    assert "journal/1" not in bench.held and "journal/2" not in bench.held
    assert bench.told == []


def test_a_file_that_went_before_it_was_read_is_told() -> None:
    bench = Bench(MILLION)
    bench.gone = {"journal/2"}
    bench.reads.handed_over(TOKEN, messages("journal/1"))
    bench.reads.handed_over(TOKEN, messages("journal/2"))
    bench.events.run_until(SECOND)
    assert bench.told == ["journal/2"]


def test_a_process_that_died_reads_nothing_more_and_holds_nothing() -> None:
    bench = Bench(MILLION)
    bench.gone = {"journal/1"}
    bench.reads.handed_over(TOKEN, messages("journal/1"))
    bench.held.clear()
    bench.reads.clear()
    bench.events.run_until(SECOND)
    assert (bench.read, bench.told, "journal/1" in bench.held) == ([], [], False)


def test_what_lies_in_memory_is_never_read_late_and_the_queue_is_bounded() -> None:
    bench = Bench(MILLION)
    bench.reads.handed_over(TOKEN, messages("memory/1"))
    assert "memory/1" not in bench.held
    for number in range(2 * WAITING_MAX):
        bench.reads.handed_over(TOKEN, messages(f"journal/{number}"))
    bench.events.run_until(SECOND)
    assert len(bench.read) == 1 + WAITING_MAX


def test_a_world_without_late_reads_draws_nothing() -> None:
    bench = Bench(0)
    bench.reads.handed_over(TOKEN, messages("journal/1"))
    assert "journal/1" not in bench.held
    assert bench.track.spans == [[]]

"""Where two logs agree, by their tables of epochs alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.api.inputs import SentRecord
from waymaker_core.model.records import EpochRecord
from waymaker_core.replication.log_view import LogView, begun_epoch
from waymaker_core.storage import record_codec
from waymaker_core.stream.epochs import EPOCHS_KEPT

Log = list[tuple[int, int]]
"""Records as (epoch, number), which no two records share."""


def view_of(log: Log) -> LogView:
    starts = [(epoch, at) for at, (epoch, _) in enumerate(log, 1) if epoch and (at == 1 or log[at - 2][0] != epoch)]
    return LogView(len(log), starts[-EPOCHS_KEPT:])


def same(one: Log, two: Log) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


@st.composite
def two_logs(draw: st.DrawFn) -> tuple[Log, Log]:
    """Draw two logs as primaries make them: each epoch continues a beginning of a log that exists by then."""
    logs: list[Log] = [[(0, number) for number in range(draw(st.integers(0, 3)))]]
    for epoch in range(1, draw(st.integers(0, 6)) + 1):
        base = draw(st.sampled_from(logs))
        kept = base[: draw(st.integers(0, len(base)))]
        logs.append(kept + [(epoch, number) for number in range(draw(st.integers(1, 4)))])
    cut = [log[: draw(st.integers(0, len(log)))] for log in (draw(st.sampled_from(logs)), draw(st.sampled_from(logs)))]
    return cut[0], cut[1]


@given(two_logs())
def test_two_logs_agree_up_to_where_their_tables_say(logs: tuple[Log, Log]) -> None:
    one, two = logs
    view, other = view_of(one), view_of(two)
    assert view.common_end(other.end, other.starts) == same(one, two) == other.common_end(view.end, view.starts)


def test_tables_that_have_forgotten_too_much_do_not_say() -> None:
    log = [(epoch, 0) for epoch in range(1, 2 * EPOCHS_KEPT)]
    assert view_of(log).common_end(3, [(1, 1), (2, 2), (3, 3)]) is None


@given(two_logs())
def test_epochs_follow_cuts_and_records(logs: tuple[Log, Log]) -> None:
    one, two = logs
    view = view_of(one)
    keep = same(one, two)
    view.cut_to(keep)
    last = two[keep - 1][0] if keep else 0
    for epoch, _ in two[keep:]:
        view.add_records([record(epoch if epoch != last else None)])
        last = epoch
    assert [view.epoch_at(at) for at in range(1, len(two) + 1)] == [epoch for epoch, _ in two]
    assert (view.epoch_at(len(two) + 1), view.epoch_at(-1)) == (-1, -1)


def record(begins: int | None) -> SentRecord:
    if begins is None:
        return SentRecord(2, 1, b"", b"")
    begun = EpochRecord(begins)
    return SentRecord(EpochRecord.KIND, record_codec.version_of(begun), record_codec.encode(begun), b"")


def test_only_an_epoch_record_begins_an_epoch() -> None:
    assert (begun_epoch(record(9)), begun_epoch(record(None))) == (9, None)

"""Snapshots that no node wrote, changed at one place each: a stream's, its consumers' and the catalogue's are refused."""

from __future__ import annotations

from array import array
from typing import Any

import cbor2
import pytest

from tests.kit.consumer_world import consumer, expanded, world
from tests.kit.stream_bench import LIMITS, Bench
from waymaker_core.api.requests import AckKind
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.consumer.consumers import Consumers
from waymaker_core.model.config import Retention, StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.node.checkpoint.snapshots import decode_catalog, decode_stream, encode_catalog
from waymaker_core.storage.checkpoint.writer import encode_state
from waymaker_core.storage.errors import CorruptRecord
from waymaker_core.stream.snapshot import decode_snapshot, encode_snapshot

Path = tuple[int, ...]


def changed(value: object, path: Path, new: object) -> object:
    """The same, with something else at a place; what CBOR makes of it."""
    twin: Any = cbor2.loads(cbor2.dumps(value))
    place = twin
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = new
    return twin


# ---------------------------------------------------------------- a stream

BLOCKS, SUBJECTS = 9, 10
SEALED, OPEN = (BLOCKS, 0), (BLOCKS, 1)
INDEX, COLUMNS = 11, 12


def stream_state() -> object:
    """A work queue of a sealed block with one of its four messages gone, and an open one of two."""
    bench = Bench(retention=Retention.WORK_QUEUE)
    bench.publish(*"abcdaa")
    bench.drop(2)
    bench.seal()
    return encode_snapshot(bench.stream)


def column(typecode: str, *values: int) -> bytes:
    return array(typecode, values).tobytes()


@pytest.mark.parametrize(
    ("path", "new", "problem"),
    [
        pytest.param((*OPEN, 0), 0, "blocks of a snapshot are not in order", id="a block twice"),
        pytest.param((*SEALED, 1), 9, "block 0 holds sequences", id="a block of other sequences"),
        pytest.param((*SEALED, 0), "0", "not the summary of a block", id="a number in words"),
        pytest.param((*SEALED, 3), 4, "counts 4 live", id="a live message more"),
        pytest.param((*OPEN, 3), 1, "counts 1 live", id="a live message less"),
        pytest.param((*SEALED, 9), b"\x10", "counts 3 live", id="nobody deleted"),
        pytest.param((*SEALED, 9), b"\x01\x08", "deletions of another number", id="too many deletions"),
        pytest.param((*SEALED, INDEX), None, "the index of block 0 is missing", id="no index"),
        pytest.param((*SEALED, INDEX, 1), "1", "not the place of an index", id="an index without offset"),
        pytest.param((*OPEN, INDEX), ["a", 0, 1, 0], "the index of block 1", id="two indexes"),
        pytest.param((*OPEN, COLUMNS), [], "not the columns of a block", id="no columns"),
        pytest.param((*OPEN, COLUMNS, 2), [b""] * 9, "not the columns of a block", id="a column less"),
        pytest.param((*OPEN, COLUMNS, 2, 0), 5, "not a column", id="a number for a column"),
        pytest.param((*OPEN, COLUMNS, 2, 0), b"123", "snapshot: ", id="half a number"),
        pytest.param((*OPEN, COLUMNS, 2, 1), column("I", 1), "columns of a block differ", id="a short column"),
        pytest.param((*OPEN, COLUMNS, 2, 3), column("I", 0, 7), "not in its block's table", id="an unknown subject"),
        pytest.param((*OPEN, COLUMNS, 2, 9), b"", "a block's chunks differ", id="a chunk without checksum"),
        pytest.param((*OPEN, COLUMNS, 1), [], "a file without a name", id="a chunk without a file"),
        pytest.param((SUBJECTS,), ["a"], "not a subject table", id="no subjects"),
        pytest.param((SUBJECTS, 1), b"", "snapshot: ", id="subjects without a last sequence"),
        pytest.param((SUBJECTS, 2), column("I", 99), "snapshot: ", id="a subject out of the table"),
    ],
)
def test_a_stream_whose_snapshot_contradicts_itself_is_refused(path: Path, new: object, problem: str) -> None:
    state = stream_state()
    assert decode_snapshot(cbor2.loads(cbor2.dumps(state)), LIMITS).last_seq == 6
    with pytest.raises(CorruptRecord, match=problem):
        decode_snapshot(changed(state, path, new), LIMITS)


# ---------------------------------------------------------------- consumers

GROUP = (1, 0)
MEMBER, OUT, PASSED, AHEAD = (*GROUP, 4, 0), (*GROUP, 5), (*GROUP, 6), (*GROUP, 7)


def consumers_state() -> object:
    """A consumer with two of five messages out, in a batch that is no run."""
    w = world()
    w.publish(*"abaab")
    c = w.create(consumer(filter_subject="a"))
    assert w.fetch(c, 2) == [(1, 1), (3, 1)]
    return w.consumers.snapshot(w.now)


def restored(state: object) -> Consumers:
    w = world()
    w.publish(*"abaab")
    consumers = Consumers(w.stream, Limits())
    consumers.restore(state)
    consumers.resume(w.now, complete=True)
    consumers.check()
    return consumers


@pytest.mark.parametrize(
    ("path", "new", "problem"),
    [
        pytest.param((*GROUP, 0), True, "a number", id="a boolean for a number"),
        pytest.param((*GROUP, 0), "1", "a number", id="a text for a number"),
        pytest.param((*MEMBER, 2), 7, "a text", id="a number for a name"),
        pytest.param((*MEMBER, 4), 77, "not a valid", id="an unknown policy"),
        pytest.param((*GROUP, 4), [], "without members", id="nobody"),
        pytest.param(PASSED, "x", "bytes", id="a text for a column"),
        pytest.param(PASSED, b"123", "cut short", id="half a number"),
        pytest.param(PASSED, column("Q", 5, 5), "does not ascend", id="one sequence twice"),
        pytest.param(AHEAD, column("Q", 7, 6), "does not ascend", id="a column backwards"),
        pytest.param((*OUT, 0), [2, 1], "not enough values", id="a delivery of nobody knows what"),
        pytest.param((*OUT, 0), [2, 1, 5, 5, 1, b""], "a flag", id="a number for a flag"),
        pytest.param((*OUT, 0), [2, 1, "5", 5, True, b""], "a number", id="a text for a deadline"),
    ],
)
def test_consumers_whose_snapshot_is_none_are_refused(path: Path, new: object, problem: str) -> None:
    state = consumers_state()
    assert restored(state).info(restored(state).find_consumer_id("c")).pending == 2
    with pytest.raises(ValueError, match=problem):
        restored(changed(state, path, new))


def test_what_is_out_and_passed_at_once_is_out_and_an_empty_delivery_is_none() -> None:
    doubled = changed(consumers_state(), PASSED, column("Q", 1, 3))
    assert restored(doubled).info(restored(doubled).find_consumer_id("c")).pending == 2
    nothing = restored(changed(consumers_state(), OUT, [[2, 1, 5, 5, True, b""]]))
    assert nothing.info(nothing.find_consumer_id("c")).pending == 0


def test_what_was_acknowledged_ahead_of_the_cursor_comes_back_with_a_snapshot() -> None:
    """Before a start somebody may have had what no record tells of; its ack holds, though the cursor comes to it later."""
    w = world()
    w.publish(*["a"] * 5)
    c = w.create(consumer())
    w.fetch(c, 4)
    w.restart()
    assert w.answer(c, AckKind.ACK, [3]) == 1
    w.commit()
    carried = Consumers(w.stream, w.limits)
    for record in w.consumers.import_records(w.consumers.snapshot(w.now)):
        carried.apply(record)
    carried.resume(w.now, complete=True)
    assert expanded(carried.dispatch(carried.find_consumer_id("c"), w.now, 9, 1 << 40)) == [
        (1, 1),
        (2, 1),
        (4, 1),
        (5, 1),
    ]
    w.take_snapshot()
    w.restart()
    w.check()
    assert [seq for seq, _ in w.fetch(c, 9)] == [1, 2, 4, 5]
    w.check()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (7, "another shape"),
        ([1, [[1, 2]]], "another shape"),
        ([1, ["not a group"]], "another shape"),
    ],
)
def test_what_only_an_archive_could_bring_is_refused_in_the_same_words(value: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Consumers(world().stream, Limits()).import_records(value)


def test_of_an_archive_consumers_without_a_group_s_name_stand_alone() -> None:
    w = world()
    w.publish("a")
    for name in ("one", "two"):
        w.create(consumer(name, deliver_group="g"))
    state = w.consumers.snapshot(w.now)
    assert len(Consumers(w.stream, w.limits).import_records(cbor2.loads(cbor2.dumps(state)))) >= 2
    nameless: Any = state
    for member in (0, 1):
        nameless = changed(nameless, (*GROUP, 4, member, 9), "")
    with pytest.raises(ValueError, match="without a queue group"):
        Consumers(w.stream, w.limits).import_records(nameless)


def test_of_an_archive_a_delivery_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        restored_records(changed(consumers_state(), (*OUT, 0), [2, 1]))


@pytest.mark.parametrize("deadline", [[-1, 5], [1 << 63, 5], [5, -1], [5, 8 * 24 * 3_600_000]])
def test_of_an_archive_a_deadline_that_no_client_could_set_is_refused(deadline: list[int]) -> None:
    with pytest.raises(ValueError, match="the deadline of a delivery is out of range"):
        restored_records(changed(consumers_state(), (*OUT, 0), [2, 1, *deadline, True, column("Q", 1)]))


def restored_records(state: object) -> list[object]:
    w = world()
    w.publish(*"abaab")
    return list(Consumers(w.stream, Limits()).import_records(state))


# ---------------------------------------------------------------- the node


def test_a_state_that_is_neither_a_stream_s_nor_the_catalogue_s_is_refused() -> None:
    catalog = Catalog(Limits())
    catalog.apply(catalog.decide_create("", StreamConfig("s"), 7))
    state = encode_catalog(catalog)
    for path, new in (((2, 0), ["only an account"]), ((2, 0, 1), b"x"), ((2,), 1)):
        with pytest.raises(CorruptRecord):
            decode_catalog(encode_state(changed(cbor2.loads(state), path, new)), Catalog(Limits()), 0)
    for nonsense in ([], [1], [1, 2, 3], "two"):
        with pytest.raises(CorruptRecord, match="not a state of a stream"):
            decode_stream(encode_state(nonsense))
    assert tuple(decode_stream(encode_state(["a stream", "its consumers"]))) == ("a stream", "its consumers", [])

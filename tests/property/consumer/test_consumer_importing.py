"""Consumers in an archive that no node wrote: they are refused, and neither the node nor its log notices."""

from __future__ import annotations

import copy
from array import array

import pytest

from tests.kit.node_kit import Server
from waymaker_core.api import requests as rq
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_core.model.result_codes import Answer, Refusal, Status
from waymaker_core.storage.archive import Head

MEMBER = (1, 0, 4, 0)
OUT = (1, 0, 5, 0)
Path = tuple[int, ...]


def honest() -> object:
    """One consumer with one message out: `[4, [[id, considered, last, dropped, [member], [out], passed, ahead, ...]], 2]`."""
    server = Server()
    server.create("s")
    server.consumer("s", "c", max_deliver=2)
    server.publish("s", b"1", b"2")
    server.fetch("s", "c", 1)
    head = server.ok(rq.ExportStream("s"))
    assert isinstance(head, Head)
    return head.consumers


def with_value(path: Path, value: object) -> object:
    changed = copy.deepcopy(honest())
    place = changed
    for step in path[:-1]:
        place = place[step]  # type: ignore[index]
    place[path[-1]] = value  # type: ignore[index]
    return changed


def imported(server: Server, consumers: object) -> Answer | Refusal:
    """How the restore of one message and these consumers ends."""
    body, size = encode_body("a", (), b"x", server.config.limits)
    head = Head(StreamConfig("r"), 0, 1, 2, 1, 1, consumers)
    stream_id = server.ok(rq.ImportBegin("r", head))
    assert isinstance(stream_id, int)
    server.ok(rq.ImportBatch(stream_id, [1], [5], ["a"], [size], [len(body)], body))
    answer = server.call(rq.ImportEnd(stream_id, commit=True))
    if isinstance(answer, Refusal):
        server.ok(rq.ImportEnd(stream_id, commit=False))
    return answer


def test_honest_consumers_come_back() -> None:
    server = Server()
    assert isinstance(imported(server, honest()), Answer)
    assert server.info("r", "c").pending == 1
    server.restart()
    assert server.info("r", "c").config.max_deliver == 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((1, 0, 1), 1 << 70), ((1, 0, 1), -5), ((1, 0, 2), -5), ((1, 0, 2), 1 << 63), ((1, 0, 3), 1 << 65),
        ((*MEMBER, 1), 1 << 65), ((*MEMBER, 1), -1), ((*MEMBER, 2), ""), ((*MEMBER, 2), "a\0/"), ((*MEMBER, 3), "a..b"),
        ((*MEMBER, 5), -1), ((*MEMBER, 7), 1 << 70), ((*MEMBER, 7), 0), ((*MEMBER, 8), 0), ((*MEMBER, 8), 1 << 40),
        ((*MEMBER, 9), "x" * 10_000), ((*MEMBER, 10), "a.*"), ((*OUT, 1), 1 << 33), ((*OUT, 6), b"\xff" * 5_000),
        ((1, 0, 4), []), ((0,), 5), ((0,), 3), ((2,), 0), ((2,), 1), ((2,), 1 << 64), ((2,), "2"),
        ((1, 0, 8), -1), ((1, 0, 8), 1 << 63),
        ((*MEMBER, 11), 999), ((*MEMBER, 11), -1), ((*MEMBER, 11), 1 << 62),
    ],
)  # fmt: skip
def test_consumers_that_no_client_could_make_are_refused(path: Path, value: object) -> None:
    server = Server()
    server.create("other")
    answer = imported(server, with_value(path, value))
    assert isinstance(answer, Refusal)
    assert answer.status is Status.INVALID_ARGUMENT
    server.publish("other", b"unharmed")
    server.restart()
    names = server.ok(rq.ListStreams())
    assert isinstance(names, rq.Page)
    assert list(names.entries) == ["other"]


def test_two_consumers_of_one_name_and_more_than_may_be_out_are_refused() -> None:
    group = with_value((1, 0, 0), 9)[1][0]  # type: ignore[index]
    assert isinstance(imported(Server(), [1, [group, group]]), Refusal)
    full = [[1, 1, 5, 5, True, 1 + 8_192 * place, b"\xff" * 1_024] for place in range(2_000)]
    assert isinstance(imported(Server(), with_value((1, 0, 5), full)), Refusal)


def test_columns_of_sequences_count_as_out_too() -> None:
    columns = [[1, 1, 5, 5, True, array("Q", range(1, 1_000_001)).tobytes()]] * 17
    answer = imported(Server(), with_value((1, 0, 5), columns))
    assert isinstance(answer, Refusal)
    assert "17000000 deliveries out" in answer.message


def test_more_may_be_out_than_a_consumer_may_take_now() -> None:
    server = Server(Limits(pending_max=2))
    server.create("s")
    server.consumer("s", "c")
    server.publish("s", *[b"x"] * 9)
    full = with_value((*OUT, 6), b"\xff\x01")
    body, size = encode_body("a", (), b"x", server.config.limits)
    head = Head(StreamConfig("r"), 0, 1, 10, 9, 9, full)
    stream_id = server.ok(rq.ImportBegin("r", head))
    assert isinstance(stream_id, int)
    lengths = [len(body)] * 9
    server.ok(rq.ImportBatch(stream_id, list(range(1, 10)), [5] * 9, ["a"] * 9, [size] * 9, lengths, body * 9))
    server.ok(rq.ImportEnd(stream_id, commit=True))
    assert server.info("r", "c").pending == 9

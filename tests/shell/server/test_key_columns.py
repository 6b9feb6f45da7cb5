"""Key batches: what their columns mean, and how the node's answers become answers to each key."""

from __future__ import annotations

from array import array

import pytest

from waymaker.server.pipeline.batch import FRAGMENT_BYTES
from waymaker.server.pipeline.key_columns import KEY_BATCH_MAX, KeyColumns, key_columns
from waymaker_core.api.kv_requests import KvFailure, KvGet, KvOp, KvWrite, KvWritten
from waymaker_core.api.requests import Messages, Run
from waymaker_core.kv.bodies import value_body
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.result_codes import NO_SUCH_BUCKET, OK, Answer, Outcome, Refusal, RefusedError, Status
from waymaker_proto import pipeline_pb2 as pl


def changes(*calls: pl.KeyCall.ValueType) -> KeyColumns:
    count = len(calls)
    return key_columns(
        pl.KeyBatch(
            id=4, bucket="b", calls=calls, keys=[f"k{n}" for n in range(count)], values=[b"v%d" % n for n in range(count)],
            expected=[7] * count, ttl_ms=[9] * count,
        )
    )  # fmt: skip


def reads(count: int) -> KeyColumns:
    return key_columns(pl.KeyBatch(id=4, bucket="b", calls=[pl.KEY_GET], keys=[f"k{n}" for n in range(count)]))


def results(batch: KeyColumns, answer: Answer | Refusal, bodies: list[bytes] | None = None) -> list[pl.KeyBatchResult]:
    answered = batch.answered(answer, bodies)
    return list(pl.Frame.FromString(b"".join(data for data, _ in answered.fragments)).keyed)


def test_changes_become_one_request_in_which_each_has_what_its_call_has() -> None:
    request = changes(pl.KEY_PUT, pl.KEY_CREATE, pl.KEY_UPDATE, pl.KEY_DELETE, pl.KEY_TOUCH).request()
    assert isinstance(request, KvWrite)
    assert request.ops == [KvOp.PUT, KvOp.CREATE, KvOp.UPDATE, KvOp.DELETE, KvOp.TOUCH]
    assert (request.keys, request.expected[2], request.ttls_ms) == ([f"k{n}" for n in range(5)], 7, [9, 9, 9, 0, 9])
    bodies = [value_body(f"b.k{n}", b"v%d" % n) for n in range(3)]
    assert (request.sizes, request.lengths) == ([2, 2, 2, 0, 0], [*map(len, bodies), 0, 0])
    assert request.body == b"".join(bodies)
    puts = key_columns(pl.KeyBatch(bucket="b", calls=[pl.KEY_PUT], keys=["a", "b"], values=[b"", b"x" * 200]))
    request = puts.request()
    assert isinstance(request, KvWrite) and request.body == value_body("b.a", b"") + value_body("b.b", b"x" * 200)


@pytest.mark.parametrize(
    "message",
    [
        pl.KeyBatch(calls=[pl.KEY_PUT]),
        pl.KeyBatch(calls=[pl.KEY_GET], keys=["k"] * (KEY_BATCH_MAX + 1)),
        pl.KeyBatch(keys=["a"]),
        pl.KeyBatch(calls=[pl.KEY_GET] * 2, keys=["a"] * 3),
        pl.KeyBatch(calls=[pl.KEY_GET, pl.KEY_PUT], keys=["a"] * 2, values=[b""] * 2),
        pl.KeyBatch(calls=[pl.KEY_GET], keys=["a"], values=[b""]),
        pl.KeyBatch(calls=[pl.KEY_PUT], keys=["a"]),
        pl.KeyBatch(calls=[pl.KEY_PUT], keys=["a"], values=[b""], ttl_ms=[1, 2]),
        pl.KeyBatch(calls=[pl.KEY_UPDATE], keys=["a"] * 2, values=[b""] * 2, expected=[1]),
        pl.KeyBatch(calls=[99], keys=["a"], values=[b""]),  # type: ignore[list-item]
    ],
)
def test_columns_that_do_not_fit_together_are_refused(message: pl.KeyBatch) -> None:
    with pytest.raises(RefusedError) as refused:
        key_columns(message)
    assert refused.value.refusal.status is Status.INVALID_ARGUMENT


def test_each_change_has_its_revision_or_its_failure() -> None:
    batch = changes(pl.KEY_PUT, pl.KEY_CREATE, pl.KEY_DELETE)
    failures = {1: KvFailure("wrong_revision", "no", 5), 2: KvFailure("", "bad", 0, Status.INVALID_ARGUMENT)}
    answered = batch.answered(Answer(OK, "", KvWritten([8, 5, 0], failures)), None)
    assert (answered.calls, answered.closed, [items for _, items in answered.fragments]) == (3, [4], [1])
    assert answered.outcomes == {("Put", "OK"): 1, ("Create", "OK"): 1, ("Delete", "INVALID_ARGUMENT"): 1}
    (result,) = pl.Frame.FromString(answered.fragments[0][0]).keyed
    assert (result.id, result.first, list(result.revisions)) == (4, 0, [8, 5, 0])
    assert [(each.index, each.result_code, each.refused.status) for each in result.failures] == [
        (1, "wrong_revision", 0), (2, "", 3),
    ]  # fmt: skip
    assert result.failures[1].refused.outcome == "not-applied"


def test_a_code_for_all_of_them_is_one_for_each() -> None:
    (result,) = results(changes(pl.KEY_PUT, pl.KEY_PUT), Answer(NO_SUCH_BUCKET, "none"))
    assert [(each.index, each.result_code) for each in result.failures] == [(0, NO_SUCH_BUCKET), (1, NO_SUCH_BUCKET)]
    (result,) = results(reads(2), Answer(NO_SUCH_BUCKET, "none"))
    assert (list(result.values), list(result.ts_ms), len(result.failures)) == ([b""] * 2, [0, 0], 2)


def test_a_refused_batch_is_asked_for_key_by_key_and_answered_in_parts() -> None:
    refusal = Refusal(Status.RESOURCE_EXHAUSTED, "too much", Outcome.NOT_APPLIED)
    first, second = changes(pl.KEY_PUT, pl.KEY_DELETE).apart(refusal)
    answered = second.answered(refusal, None)
    assert (answered.calls, answered.closed, [items for _, items in answered.fragments]) == (1, [], [0])
    assert answered.outcomes == {("Delete", "RESOURCE_EXHAUSTED"): 1}
    (result,) = pl.Frame.FromString(answered.fragments[0][0]).keyed
    assert (result.first, result.failures[0].index, result.failures[0].refused.message) == (1, 1, "too much")
    answered = first.answered(Answer(OK, "", KvWritten([3], {})), None)
    assert (answered.closed, [items for _, items in answered.fragments]) == ([4], [1])
    assert not changes(pl.KEY_PUT, pl.KEY_PUT).apart(Refusal(Status.INTERNAL, "perhaps done", Outcome.UNKNOWN))


def test_values_that_are_read_come_in_pieces_and_the_rest_is_asked_again() -> None:
    batch = reads(5)
    assert isinstance(batch.request(), KvGet)
    values = [b"a", bytes(FRAGMENT_BYTES), b"c"]
    bodies = [value_body(f"b.k{n}", value) for n, value in enumerate(values)]
    run = Run(Chunk("f", 0, 0, 0), 0, array("I", map(len, bodies)), 11, array("q", [1, 2, 3]), 0)
    messages = Messages([run], 3, sum(map(len, bodies)))
    messages.of_keys = [11, 12, 0, 13]
    answered = batch.answered(Answer(OK, "", messages), [b"".join(bodies)])
    assert (answered.calls, answered.closed, answered.outcomes) == (4, [], {("Get", "OK"): 4})
    found = pl.Frame.FromString(b"".join(data for data, _ in answered.fragments)).keyed
    assert [each.first for each in found] == [0, 1, 3]
    assert [value for each in found for value in each.values] == [*values[:2], b"", b"c"]
    assert [(*each.revisions, *each.ts_ms) for each in found] == [(11, 1), (12, 0, 2, 0), (13, 3)]
    rest = batch.rest(4)
    assert (rest.keys, rest.first) == (["k4"], 4)
    answered = rest.answered(Answer(NO_SUCH_BUCKET, "gone"), None)
    assert (answered.closed, answered.fragments[-1][1]) == ([4], 1)

"""Figures of answered calls, and answers of calls about keys that travel together."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from waymaker.server.http.call_figures import CallFigures
from waymaker.server.pipeline.batch import FRAGMENT_BYTES, BatchedCall
from waymaker.server.pipeline.key_batches import KeyBatch
from waymaker_core.model.result_codes import Refusal, Status
from waymaker_proto import pipeline_pb2 as pl

REFUSED = Refusal(Status.RESOURCE_EXHAUSTED, "too much")


def test_calls_count_by_method_and_status_and_their_times_fall_into_buckets() -> None:
    figures = CallFigures("Calls.", "Times.")
    registry = CollectorRegistry()
    registry.register(figures)
    figures.add("Get", "OK", 0.001, 64)
    figures.add("Get", "OK", 20.0)
    figures.add("Put", "UNAVAILABLE", 0.0003, 2)
    lines = generate_latest(registry).decode().splitlines()
    assert 'waymaker_calls_total{method="Get",status="OK"} 65.0' in lines
    assert 'waymaker_calls_total{method="Put",status="UNAVAILABLE"} 2.0' in lines
    assert 'waymaker_call_seconds_bucket{le="0.0005",method="Get"} 0.0' in lines
    assert 'waymaker_call_seconds_bucket{le="0.001",method="Get"} 64.0' in lines
    assert 'waymaker_call_seconds_bucket{le="10.0",method="Get"} 64.0' in lines
    assert 'waymaker_call_seconds_bucket{le="+Inf",method="Get"} 65.0' in lines
    assert 'waymaker_call_seconds_count{method="Get"} 65.0' in lines
    assert 'waymaker_call_seconds_sum{method="Get"} 20.064' in lines


def test_responses_of_a_batch_travel_in_few_pieces_that_say_how_many_calls_they_answer() -> None:
    batch = KeyBatch("b", reads=True)
    for number in range(40):
        batch.add_call(BatchedCall(number + 1, "Get", None, 10))
    # The last two were not answered yet: they are asked again.
    responses: list[bytes | Refusal] = [*[bytes(FRAGMENT_BYTES // 10)] * 36, REFUSED, b"last"]
    pieces = list(batch.fragments(responses))
    assert sum(items for _, items in pieces) == 38
    assert 4 <= len(pieces) <= 5 and all(len(data) <= FRAGMENT_BYTES for data, _ in pieces)
    results = pl.Frame.FromString(b"".join(data for data, _ in pieces)).results
    assert [result.id for result in results] == list(range(1, 39))
    assert results[36].refused.message == "too much" and results[37].response == b"last"
    assert batch.outcomes(responses) == {("Get", "OK"): 37, ("Get", "RESOURCE_EXHAUSTED"): 1}


def test_a_response_longer_than_a_piece_is_one_by_itself() -> None:
    batch = KeyBatch("b", reads=True)
    for number in range(3):
        batch.add_call(BatchedCall(number + 1, "Get", None, 10))
    pieces = list(batch.fragments([b"a", bytes(FRAGMENT_BYTES + 1), b"b"]))
    assert [items for _, items in pieces] == [1, 1, 1]

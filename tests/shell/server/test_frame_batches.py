"""Calls of one frame become few requests, in their order, and each has the answer that it would have had by itself."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from waymaker.server.grpc.rpcs import Serving
from waymaker.server.pipeline.batch import BATCH_CALLS_MAX, Batch
from waymaker.server.pipeline.frame_batches import FrameBatches
from waymaker.wire.guard import WALKED_BYTES_MIN
from waymaker_core.api.collection_requests import HasEntries, PushValues, PutEntries, RemoveEntries
from waymaker_core.api.kv_requests import KvGet, KvWrite
from waymaker_core.api.sketch_requests import AddToSketch, QuerySketch, Question
from waymaker_core.layers.layer import FACT_BYTES_MAX
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import NO_SUCH_STREAM, OK, Answer, Outcome, Refusal, Status
from waymaker_core.sketches.answers import SketchAnswer
from waymaker_core.sketches.facts import encode_values
from waymaker_proto import sketches_pb2 as pk
from waymaker_proto import waymaker_streams_pb2 as pb


def put(field: str, value: bytes = b"v", bucket: str = "h") -> tuple[str, Message]:
    return "HashSet", pb.HashSetRequest(bucket=bucket, hash_key="k", field=field, value=value)


def remove(field: str) -> tuple[str, Message]:
    return "HashDelete", pb.HashDeleteRequest(bucket="h", hash_key="k", field=field)


def add(*values: bytes, name: str = "s") -> tuple[str, Message]:
    return "SketchAdd", pk.SketchAddRequest(name=name, values=values)


def batches_of(*calls: tuple[str, Message]) -> list[Batch]:
    batches = FrameBatches(Serving(Limits(), 1))
    for number, (method, message) in enumerate(calls, 1):
        assert batches.take(number, method, message.SerializeToString())
    return batches.take_ready()


def ids(batches: list[Batch]) -> list[list[int]]:
    return [[call.id for call in batch.calls] for batch in batches]


def test_changes_of_a_store_are_one_request_as_long_as_none_names_an_entry_again() -> None:
    batches = batches_of(put("a"), put("b"), put("a", b"w"), put("c"), put("a", bucket="other"))
    assert ids(batches) == [[1, 2], [3, 4], [5]]
    first: Any = batches[0].request()
    assert isinstance(first, PutEntries)
    assert (first.stream, first.sizes, len(set(first.subjects)), len(first.bodies)) == ("hash:h", [1, 1], 2, 2)
    responses = batches[0].responses(Answer(OK, "", [7, 8]), None)
    assert [pb.HashSetResponse.FromString(each).revision for each in responses] == [7, 8]  # type: ignore[arg-type]


def test_changes_of_different_kinds_keep_their_order() -> None:
    batches = batches_of(put("a"), put("b"), remove("a"), put("a"), put("c"))
    assert ids(batches) == [[1, 2], [3], [4, 5]]
    assert [type(batch.request()) for batch in batches] == [PutEntries, RemoveEntries, PutEntries]


def test_a_call_that_goes_by_itself_has_what_came_before_it_asked_first() -> None:
    batches = FrameBatches(Serving(Limits(), 1))
    request = put("a")[1].SerializeToString()
    assert batches.take(1, "HashSet", request)
    assert not batches.take(2, "HashSetMany", b"")
    assert ids(batches.take_ready()) == [[1]]
    assert batches.take(3, "HashSet", request)
    assert ids(batches.take_ready()) == [[3]]
    assert not batches.take(4, "HashSet", b"\xff"), "it is told what is wrong with it"
    assert not batches.take(5, "HashSet", put("f", bytes(WALKED_BYTES_MIN))[1].SerializeToString())
    assert not batches.take_ready()


def test_values_that_are_pushed_together_follow_each_other() -> None:
    (batch,) = batches_of(*[("QueuePush", pb.QueuePushRequest(bucket="q", value=b"%d" % n)) for n in range(3)])
    request: Any = batch.request()
    assert isinstance(request, PushValues)
    assert [body[-1:] for body in request.bodies] == [b"0", b"1", b"2"]
    responses = batch.responses(Answer(OK, "", 41), None)
    assert [pb.QueuePushResponse.FromString(each).sequence for each in responses] == [41, 42, 43]  # type: ignore[arg-type]


def test_reads_are_one_request_though_they_name_an_entry_twice() -> None:
    (batch,) = batches_of(
        *[("HashExists", pb.HashExistsRequest(bucket="h", hash_key="k", field=field)) for field in "aab"]
    )
    request: Any = batch.request()
    assert isinstance(request, HasEntries) and len(request.subjects) == 3
    assert batch.reads and not batch.large_response, "it waits behind no large answer"
    responses = batch.responses(Answer(OK, "", [True, True, False]), None)
    assert [pb.HashExistsResponse.FromString(each).exists for each in responses] == [True, True, False]  # type: ignore[arg-type]


def test_a_code_is_the_answer_to_each() -> None:
    (batch,) = batches_of(put("a"), put("b"))
    responses = batch.responses(Answer(NO_SUCH_STREAM, "no stream is called 'hash:h'"), None)
    codes = [pb.HashSetResponse.FromString(each).result_code for each in responses]  # type: ignore[arg-type]
    assert codes == ["no_such_bucket"] * 2


def test_a_refused_batch_is_asked_call_by_call_where_nothing_was_done() -> None:
    (batch,) = batches_of(put("a"), put("b"))
    full = Refusal(Status.RESOURCE_EXHAUSTED, "full")
    alone = batch.apart(full)
    assert ids(alone) == [[1], [2]]
    assert not alone[0].apart(full), "it has its answer"
    assert not batch.apart(Refusal(Status.UNAVAILABLE, "draining")), "none would fare better"
    assert not batch.apart(Refusal(Status.ABORTED, "moved", Outcome.UNKNOWN)), "it may have happened"
    (reads,) = batches_of(*[("HashGet", pb.HashGetRequest(bucket="h", hash_key="k", field=field)) for field in "ab"])
    assert ids(reads.apart(Refusal(Status.DATA_LOSS, "damaged", None))) == [[1], [2]], "only one may be damaged"


def test_a_batch_is_bounded() -> None:
    batches = batches_of(*[put(str(number)) for number in range(BATCH_CALLS_MAX + 1)])
    assert [len(batch.calls) for batch in batches] == [BATCH_CALLS_MAX, 1]


def test_calls_about_keys_are_one_change_and_one_read_of_a_bucket() -> None:
    batches = batches_of(
        ("Put", pb.KvPutRequest(bucket="b", key="x", value=b"1")),
        ("Get", pb.KvGetRequest(bucket="b", key="x")),
        ("Put", pb.KvPutRequest(bucket="b", key="x", value=b"2")),
        ("Get", pb.KvGetRequest(bucket="b", key="y")),
    )
    assert ids(batches) == [[1, 3], [2, 4]]
    assert [type(batch.request()) for batch in batches] == [KvWrite, KvGet]


def test_values_added_to_a_sketch_are_one_record() -> None:
    batches = batches_of(add(b"a"), add(b"b", b"c"), add(b"d", name="other"), add(b"a"))
    assert ids(batches) == [[1, 2, 4], [3]]
    request: Any = batches[0].request()
    assert isinstance(request, AddToSketch)
    assert (request.stream, request.values, request.numbers) == ("sketch:s", [b"a", b"b", b"c", b"a"], b"")
    assert not batches[0].reads and not batches[0].large_response
    responses = batches[0].responses(Answer(OK), None)
    codes = [pk.SketchAddResponse.FromString(each).result_code for each in responses]  # type: ignore[arg-type]
    assert codes == ["ok"] * 3


def test_numbers_are_never_joined_with_values() -> None:
    number = ("SketchAdd", pk.SketchAddRequest(name="s", numbers=[1.5]))
    batches = batches_of(number, add(b"a"), number)
    assert ids(batches) == [[1, 3], [2]]
    request: Any = batches[0].request()
    assert (request.values, len(request.numbers)) == ([], 16)
    frame = FrameBatches(Serving(Limits(), 1))
    both = pk.SketchAddRequest(name="s", values=[b"a"], numbers=[1.5])
    assert not frame.take(1, "SketchAdd", both.SerializeToString()), "it is told what is wrong with it"
    assert not frame.take(2, "SketchAdd", pk.SketchAddRequest(name="s").SerializeToString())
    assert not frame.take_ready()


def test_an_addition_never_grows_beyond_one_fact() -> None:
    long = bytes(10_000)
    batches = batches_of(*[add(long)] * 30)
    assert len(batches) == 2
    assert all(len(encode_values(batch.request().values)) <= FACT_BYTES_MAX for batch in batches)  # type: ignore[union-attr]
    assert len(encode_values([long] * (1 + len(batches[0].calls)))) > FACT_BYTES_MAX, "none is smaller than it must be"
    many = batches_of(*[add(*[b"a"] * 4_000)] * 3)
    assert ids(many) == [[1, 2], [3]], "at most 10,000 values"


def test_a_question_about_values_is_one_for_all_and_parts_again() -> None:
    def ask(**question: pk.SketchValues) -> tuple[str, Message]:
        return "SketchQuery", pk.SketchQueryRequest(name="s", **question)  # type: ignore[arg-type]

    values = [pk.SketchValues(values=each) for each in ([b"a", b"b"], [], [b"c"])]
    contains, counts = batches_of(*[ask(contains=each) for each in values], ask(counts=values[0]))
    request: Any = contains.request()
    assert isinstance(request, QuerySketch)
    assert (request.question, request.values) == (Question.CONTAINS, [b"a", b"b", b"c"])
    assert contains.reads and ids([contains, counts]) == [[1, 2, 3], [4]]
    responses = contains.responses(Answer(OK, "", SketchAnswer(contained=[True, False, True])), None)
    found = [list(pk.SketchQueryResponse.FromString(each).contained) for each in responses]  # type: ignore[arg-type]
    assert found == [[True, False], [], [True]]
    frame = FrameBatches(Serving(Limits(), 1))
    distinct = pk.SketchQueryRequest(name="s", distinct=pk.SketchDistinct())
    assert not frame.take(1, "SketchQuery", distinct.SerializeToString()), "its answer has no parts"

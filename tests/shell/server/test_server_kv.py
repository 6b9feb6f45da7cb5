"""The key-value service over gRPC alone, as a foreign client calls it: codes, statuses, trailers, pages, the watch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.kit.real_server import RealServer
from waymaker_proto import kv_pb2_grpc
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.process
CASES = grpc.StatusCode


@pytest.fixture
def stub(server: RealServer) -> Iterator[Any]:
    with grpc.insecure_channel(server.address) as channel:
        stub = kv_pb2_grpc.WaymakerKvServiceStub(channel)
        stub.CreateBucket(pb.KvCreateBucketRequest(bucket="b", max_value_size=10_000))
        yield stub
        stub.DeleteBucket(pb.KvDeleteBucketRequest(bucket="b"))


def trailer(call: Any, name: str) -> str:
    return str(dict(call.trailing_metadata())[name])


def put(stub: Any, key: str, value: bytes = b"v") -> Any:
    return stub.Put(pb.KvPutRequest(bucket="b", key=key, value=value))


def test_every_code_that_the_contract_lists(stub: Any) -> None:
    assert stub.CreateBucket(pb.KvCreateBucketRequest(bucket="b")).result_code == "already_exists"
    assert stub.CreateBucket(pb.KvCreateBucketRequest(bucket="b.c")).result_code == "invalid_config"
    assert stub.DeleteBucket(pb.KvDeleteBucketRequest(bucket="x")).result_code == "no_such_bucket"
    assert put(stub, "a").revision == 1
    for answer in (
        stub.Put(pb.KvPutRequest(bucket="x", key="a")), stub.Create(pb.KvCreateRequest(bucket="x", key="a")),
        stub.Update(pb.KvUpdateRequest(bucket="x", key="a")), stub.Touch(pb.KvTouchRequest(bucket="x", key="a")),
        stub.Delete(pb.KvDeleteRequest(bucket="x", key="a")), stub.Get(pb.KvGetRequest(bucket="x", key="a")),
        stub.Keys(pb.KvKeysRequest(bucket="x")), stub.History(pb.KvHistoryRequest(bucket="x", key="a")),
    ):  # fmt: skip
        assert (answer.success, answer.result_code) == (False, "no_such_bucket")
    assert put(stub, "a b").result_code == "invalid_key"
    wrong = stub.Update(pb.KvUpdateRequest(bucket="b", key="a", expected_revision=7))
    assert (wrong.success, wrong.result_code, wrong.revision) == (False, "wrong_revision", 1)
    assert stub.Create(pb.KvCreateRequest(bucket="b", key="a")).result_code == "wrong_revision"
    assert stub.Delete(pb.KvDeleteRequest(bucket="b", key="a")).revision == 2
    assert not stub.Get(pb.KvGetRequest(bucket="b", key="a")).HasField("entry")
    got = stub.Get(pb.KvGetRequest(bucket="b", key="missing"))
    assert (got.success, got.result_code) == (True, "ok")
    entries = stub.History(pb.KvHistoryRequest(bucket="b", key="a")).entries
    assert [(each.revision, each.deleted, each.value) for each in entries] == [(1, False, b"v"), (2, True, b"")]


@pytest.mark.parametrize(
    ("call", "request_", "status"),
    [
        ("Put", pb.KvPutRequest(bucket="b", key="a", value=bytes(10_001)), CASES.RESOURCE_EXHAUSTED),
        ("Put", pb.KvPutRequest(bucket="b", key="a", ttl_ms=1 << 63), CASES.INVALID_ARGUMENT),
        ("Get", pb.KvGetRequest(bucket="b", key="a..b"), CASES.INVALID_ARGUMENT),
        ("Delete", pb.KvDeleteRequest(bucket="b", key=""), CASES.INVALID_ARGUMENT),
        ("History", pb.KvHistoryRequest(bucket="b", key=">"), CASES.INVALID_ARGUMENT),
        ("History", pb.KvHistoryRequest(bucket="b", key="a", limit=1 << 40), CASES.INVALID_ARGUMENT),
    ],
)
def test_statuses_say_the_rest(stub: Any, call: str, request_: object, status: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        getattr(stub, call)(request_)
    error: Any = refused.value
    assert error.code() is status
    assert trailer(error, "wmkr-outcome") == "not-applied"


def test_lists_page_by_their_cursors(stub: Any) -> None:
    for number in range(5):
        put(stub, f"k.{number}")
    answer, call = stub.Keys.with_call(
        pb.KvKeysRequest(bucket="b"), metadata=(("wmkr-limit", "2"), ("wmkr-after", "k.0"))
    )
    assert [entry.key for entry in answer.entries] == ["k.1", "k.2"]
    assert trailer(call, "wmkr-next") == "k.2"
    for _ in range(3):
        put(stub, "a")
    first, call = stub.History.with_call(pb.KvHistoryRequest(bucket="b", key="a", limit=2))
    cursor = trailer(call, "wmkr-next")
    assert [entry.revision for entry in first.entries] == [6, 7]
    rest = stub.History(pb.KvHistoryRequest(bucket="b", key="a"), metadata=(("wmkr-after", cursor),))
    assert [entry.revision for entry in rest.entries] == [8]


def test_a_watch_begins_sends_and_ends_with_reasons(stub: Any) -> None:
    watch = stub.Watch(pb.KvWatchRequest(bucket="b", key="a.>"))
    watch.initial_metadata()  # it sees whatever happens from here on
    put(stub, "a.x", b"1")
    put(stub, "b", b"1")
    stub.Delete(pb.KvDeleteRequest(bucket="b", key="a.x"))
    put_event, delete_event = next(watch), next(watch)
    assert (put_event.put.key, put_event.put.value, put_event.put.revision) == ("a.x", b"1", 1)
    assert (delete_event.delete.key, delete_event.delete.revision) == ("a.x", 3)
    stub.DeleteBucket(pb.KvDeleteBucketRequest(bucket="b"))
    assert ended(watch) == (CASES.NOT_FOUND, "no_such_bucket")
    assert ended(stub.Watch(pb.KvWatchRequest(bucket="b"))) == (CASES.NOT_FOUND, "no_such_bucket")
    stub.CreateBucket(pb.KvCreateBucketRequest(bucket="b"))
    assert ended(stub.Watch(pb.KvWatchRequest(bucket="b", key="a.>.b")))[0] is CASES.INVALID_ARGUMENT
    after = stub.Watch(pb.KvWatchRequest(bucket="b"), metadata=(("wmkr-after", "x"),))
    assert ended(after)[0] is CASES.INVALID_ARGUMENT


def ended(watch: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as end:
        next(watch)
    error: Any = end.value
    return error.code(), dict(error.trailing_metadata()).get("wmkr-code", "")


def test_a_slow_watcher_holds_a_window_and_gets_all(stub: Any) -> None:
    watch = stub.Watch(pb.KvWatchRequest(bucket="b"))
    watch.initial_metadata()
    for number in range(3_000):
        put(stub, f"k.{number % 1_500}", bytes(2_000))
    assert [next(watch).put.revision for _ in range(3_000)] == list(range(1, 3_001))

"""The server as a foreign client sees it: calls made from the published contract alone, right ones and wrong ones."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.kit.real_server import RealServer
from tests.kit.wire_client import WireClient, published_service
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = [pytest.mark.process, pytest.mark.slow]

U64_MAX = 2**64 - 1
I64_MAX = 2**63 - 1
OFFERED = {
    "CreateStream", "DeleteStream", "GetStreamInfo", "GetStreamSources", "ListStreams", "UpdateStream",
    "Publish", "Fetch", "Ack", "Nak", "Term", "InProgress", "Subscribe",
    "CreateConsumer", "DeleteConsumer", "ListConsumers", "GetConsumerInfo",
    "WatchStreams", "ReadLatestAtSubject", "ListSubjectsByPrefix", "ScanExactAtSubject",
    "PutObject", "GetObject", "DeleteObject", "GetObjectInfo", "ListObjects", "PutObjectStream", "GetObjectStream",
    "ListObjectRevisions", "GetObjectRange",
    "ClearStreamAuthority", "GetClusterStreamStats", "ListStreamAuthorityOverrides", "SetStreamPinned",
}  # fmt: skip
LATER = sorted(
    method.name for method in published_service().methods if method.name not in OFFERED and not method.client_streaming
)
IMPOSSIBLE_NAMES = [
    "",
    "a" * 256,
    "é" * 128,
    "a b",
    "a\tb",
    "a\n",
    "a.b",
    "*",
    ">",
    "a/b",
    "..",
    "a\\b",
    "a\x00b",
    "a\x7f",
    "a\u2003b",
]
IMPOSSIBLE_SUBJECTS = [
    "",
    ".",
    "a.",
    ".a",
    "a..b",
    "a b",
    "a.*",
    "a.>",
    "*",
    ">",
    "a\tb",
    "a\x00b",
    "a\u00a0b",
    "a" * 1025,
]
IMPOSSIBLE_PATTERNS = ["", "a..b", "a.>.b", "a b", ".", "a" * 1025]


@pytest.fixture
def stream(client: WireClient) -> str:
    """A new stream without a filter."""
    name = f"s-{uuid.uuid4().hex[:12]}"
    assert client.call("CreateStream", config={"name": name}).success
    return name


def code_of(answer: Any) -> str:
    code: str = answer.result_code
    assert answer.success == (code == "ok"), answer
    return code


def published(client: WireClient, stream: str, subject: str = "a", payload: bytes = b"x", **fields: Any) -> int:
    answer = client.call("Publish", stream=stream, subject=subject, payload=payload, **fields)
    assert code_of(answer) == "ok", answer
    seq: int = answer.seq
    return seq


# ------------------------------------------------------------------------------------------- right ones


def test_a_message_goes_in_and_comes_out_as_it_was(client: WireClient, stream: str) -> None:
    headers = [{"key": "k", "value": "1"}, {"key": "k", "value": "2"}]
    assert published(client, stream, "a.b", b"\x00payload", headers=headers, ts_ms=1234) == 1
    assert client.call("CreateConsumer", stream=stream, config={"name": "c"}).success
    (message,) = client.call("Fetch", stream=stream, consumer="c").messages
    assert (message.seq, message.subject, message.payload, message.ts_ms) == (1, "a.b", b"\x00payload", 1234)
    assert [(header.key, header.value) for header in message.headers] == [("k", "1"), ("k", "2")]
    assert message.deliver_count == 1
    assert code_of(client.call("Ack", stream=stream, consumer="c", seq=1)) == "ok"
    assert client.call("GetConsumerInfo", stream=stream, consumer="c").consumer.ack_floor == 1
    stats = client.call("GetStreamInfo", name=stream).stats
    assert (stats.last_seq, stats.msg_count, stats.bytes) == (1, 1, len("a.b") + 8 + 2 * len("k1"))


def test_a_subscription_delivers_what_is_there_and_says_why_it_ends(client: WireClient, stream: str) -> None:
    seqs = [published(client, stream) for _ in range(40)]
    assert client.call("CreateConsumer", stream=stream, config={"name": "c"}).success
    events = list(client.stream("Subscribe", stream=stream, consumer="c", batch_size=7, stop_when_empty=True))
    assert [event.message.seq for event in events[:-1]] == seqs
    assert events[-1].stopped.reason == "empty"


def test_a_watcher_sees_what_is_created_and_deleted(client: WireClient) -> None:
    watch = client.stream("WatchStreams")
    name = f"w-{uuid.uuid4().hex[:12]}"
    # The watch counts once the server has answered with headers.
    watch.initial_metadata()
    assert client.call("CreateStream", config={"name": name}).success
    assert client.call("DeleteStream", name=name).success
    seen = []
    for event in watch:
        if event.stream.name == name:
            seen.append(event.type)
        if len(seen) == 2:
            break
    watch.cancel()
    assert seen == [pb.WATCH_STREAM_CREATED, pb.WATCH_STREAM_DELETED]


def test_a_list_is_read_in_pages(client: WireClient, stream: str) -> None:
    for subject in ("d", "b", "a", "c"):
        published(client, stream, subject)
    collected, after = [], ""
    while True:
        metadata = [("wmkr-limit", "3"), *([("wmkr-after", after)] if after else [])]
        page, trailers = client.with_trailers("ListSubjectsByPrefix", metadata, stream=stream)
        assert len(page.subjects) <= 3
        collected += list(page.subjects)
        after = trailers.get("wmkr-next", "")
        if not after:
            break
    assert collected == ["a", "b", "c", "d"]


def test_a_scan_that_its_bytes_cut_says_where_it_goes_on(client: WireClient, stream: str) -> None:
    seqs = [published(client, stream, "big", b"x" * (1 << 20)) for _ in range(10)]
    published(client, stream, "small")
    collected: list[int] = []
    pages, next_seq = 0, "0"
    while next_seq:
        page, trailers = client.with_trailers(
            "ScanExactAtSubject", stream=stream, subject="big", from_seq=int(next_seq), limit=100
        )
        collected += [message.seq for message in page.messages]
        next_seq = trailers.get("wmkr-next", "")
        pages += 1
    assert (collected, pages) == (seqs, 2)
    # The same cursor as the lists have it, and the same word where the count cuts.
    metadata = [("wmkr-after", str(seqs[3])), ("wmkr-limit", "2")]
    page, trailers = client.with_trailers("ScanExactAtSubject", metadata, stream=stream, subject="big")
    assert [message.seq for message in page.messages] == seqs[3:5]
    assert trailers["wmkr-next"] == str(seqs[4] + 1)
    status, _ = client.refusal("ScanExactAtSubject", [("wmkr-after", "big")], stream=stream, subject="big")
    assert status is grpc.StatusCode.INVALID_ARGUMENT


def test_the_expected_last_sequence_decides_between_writers(client: WireClient, stream: str) -> None:
    first = published(client, stream, "k", expected_last_seq=0)
    refused = client.call("Publish", stream=stream, subject="k", payload=b"y", expected_last_seq=0)
    assert (code_of(refused), refused.seq) == ("wrong_revision", first)
    assert published(client, stream, "k", expected_last_seq=first) == first + 1


def test_an_update_prunes_before_it_answers(client: WireClient, stream: str) -> None:
    for _ in range(10):
        published(client, stream)
    answer = client.call("UpdateStream", name=stream, max_msgs=3)
    assert (code_of(answer), answer.pruned, answer.config.retention.limits.max_msgs) == ("ok", 7, 3)
    assert client.call("GetStreamInfo", name=stream).stats.msg_count == 3


# ------------------------------------------------------------------------------------------- wrong ones


@pytest.mark.parametrize("rpc", LATER)
def test_what_is_not_offered_says_so(client: WireClient, rpc: str) -> None:
    assert client.refusal(rpc)[0] is grpc.StatusCode.UNIMPLEMENTED


def test_what_is_offered_together_with_the_rest_is_the_whole_contract() -> None:
    methods = {method.name for method in published_service().methods}
    assert methods >= OFFERED
    assert len(LATER) == 11


@pytest.mark.parametrize("name", IMPOSSIBLE_NAMES, ids=ascii)
def test_an_impossible_name_cannot_be_created_and_is_not_found(client: WireClient, stream: str, name: str) -> None:
    assert code_of(client.call("CreateStream", config={"name": name})) == "invalid_config"
    assert code_of(client.call("CreateConsumer", stream=stream, config={"name": name})) == "invalid_config"
    assert code_of(client.call("GetStreamInfo", name=name)) == "no_such_stream"
    assert code_of(client.call("DeleteStream", name=name)) == "no_such_stream"
    assert code_of(client.call("Publish", stream=name, subject="a")) == "no_such_stream"
    assert code_of(client.call("GetConsumerInfo", stream=stream, consumer=name)) == "no_such_consumer"
    assert code_of(client.call("Ack", stream=stream, consumer=name, seq=1)) == "no_such_consumer"


@pytest.mark.parametrize("subject", IMPOSSIBLE_SUBJECTS, ids=lambda subject: ascii(subject)[:20])
def test_an_impossible_subject_is_rejected(client: WireClient, stream: str, subject: str) -> None:
    assert code_of(client.call("Publish", stream=stream, subject=subject, payload=b"x")) == "subject_rejected"
    assert client.call("GetStreamInfo", name=stream).stats.last_seq == 0


@pytest.mark.parametrize("pattern", IMPOSSIBLE_PATTERNS, ids=lambda pattern: ascii(pattern)[:20])
def test_an_impossible_pattern_is_refused(client: WireClient, stream: str, pattern: str) -> None:
    config = {"name": f"p-{uuid.uuid4().hex[:12]}", "subjects_filter": [pattern]}
    assert code_of(client.call("CreateStream", config=config)) == "invalid_config"
    if pattern:
        made = client.call("CreateConsumer", stream=stream, config={"name": "c", "filter_subject": pattern})
        assert code_of(made) == "invalid_config"


@pytest.mark.parametrize(
    "settings",
    [
        {"subjects_filter": ["a", "a"]},
        {"subjects_filter": ["a.>", "a.b"]},
        {"block_size": 1_000_001},
        {"block_size": U64_MAX},
    ],
    ids=str,
)
def test_an_impossible_stream_is_refused(client: WireClient, settings: dict[str, Any]) -> None:
    name = f"i-{uuid.uuid4().hex[:12]}"
    assert code_of(client.call("CreateStream", config={"name": name, **settings})) == "invalid_config"
    assert code_of(client.call("GetStreamInfo", name=name)) == "no_such_stream"


@pytest.mark.parametrize(
    ("rpc", "fields"),
    [
        ("Fetch", {"consumer": "c", "batch_size": 2**32 - 1}),
        ("Ack", {"consumer": "c", "seq": U64_MAX}),
        ("Ack", {"consumer": "c", "seq": 0}),
        ("Nak", {"consumer": "c", "seq": 1, "delay_ms": U64_MAX}),
        ("Term", {"consumer": "c", "seq": U64_MAX}),
        ("InProgress", {"consumer": "c", "seq": U64_MAX}),
        ("ScanExactAtSubject", {"subject": "a", "from_seq": U64_MAX, "limit": U64_MAX}),
        ("Publish", {"subject": "a", "ts_ms": I64_MAX}),
        ("Publish", {"subject": "a", "expected_last_seq": U64_MAX}),
        ("CreateConsumer", {"config": {"name": "n", "ack_wait_ms": U64_MAX, "max_deliver": 2**32 - 1}}),
        ("CreateConsumer", {"config": {"name": "m", "delivery_policy": {"type": 2, "start_seq": U64_MAX}}}),
        ("CreateConsumer", {"config": {"name": "o", "delivery_policy": {"type": 3, "start_time_ms": -(2**63)}}}),
        ("CreateConsumer", {"config": {"name": "p", "delivery_policy": {"type": 77}}}),
    ],
    ids=str,
)
def test_an_absurd_number_is_answered_and_breaks_nothing(
    client: WireClient, stream: str, rpc: str, fields: dict[str, Any]
) -> None:
    assert client.call("CreateConsumer", stream=stream, config={"name": "c"}).success
    try:
        client.call(rpc, stream=stream, **fields)
    except grpc.RpcError as error:
        assert error.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}, error.details()
    published(client, stream, "after")
    assert client.call("Fetch", stream=stream, consumer="c").messages[-1].subject == "after"


def test_a_stream_with_absurd_bounds_still_works(client: WireClient) -> None:
    name = f"b-{uuid.uuid4().hex[:12]}"
    limits = {"max_age_ms": U64_MAX, "max_msgs": U64_MAX, "max_bytes": U64_MAX}
    config = {"name": name, "retention": {"limits": limits}, "max_msg_bytes": U64_MAX, "max_msgs_per_subject": U64_MAX}
    if code_of(client.call("CreateStream", config=config)) == "ok":
        assert published(client, name) == 1
        assert client.call("GetStreamInfo", name=name).stats.msg_count == 1


def test_a_negative_time_is_an_invalid_argument(client: WireClient, stream: str) -> None:
    status, trailers = client.refusal("Publish", stream=stream, subject="a", ts_ms=-1)
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert trailers["wmkr-outcome"] == "not-applied"


@pytest.mark.parametrize("key", ["waymaker-source-stream", "waymaker-source-x", "wmkv.tombstone", "wmkv."])
def test_a_forged_server_header_is_an_invalid_argument(client: WireClient, stream: str, key: str) -> None:
    status, trailers = client.refusal("Publish", stream=stream, subject="a", headers=[{"key": key, "value": "1"}])
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert trailers["wmkr-outcome"] == "not-applied"
    assert client.call("GetStreamInfo", name=stream).stats.last_seq == 0


def test_dead_letter_headers_are_taken_off(client: WireClient, stream: str) -> None:
    headers = [{"key": "x-waymaker-dlq-seq", "value": "7"}, {"key": "mine", "value": "1"}]
    published(client, stream, headers=headers)
    message = client.call("ReadLatestAtSubject", stream=stream, subject="a").latest
    assert [header.key for header in message.headers] == ["mine"]


def test_too_many_headers_are_refused(client: WireClient, stream: str) -> None:
    many = [{"key": f"k{number}", "value": ""} for number in range(73)]
    assert published(client, stream, headers=many[:72]) == 1
    assert client.refusal("Publish", stream=stream, subject="a", headers=many)[0] in {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INVALID_ARGUMENT,
    }


def test_a_message_over_its_streams_bound_is_oversize(client: WireClient) -> None:
    name = f"o-{uuid.uuid4().hex[:12]}"
    assert client.call("CreateStream", config={"name": name, "max_msg_bytes": 10}).success
    assert published(client, name, payload=b"x" * 10) == 1
    assert code_of(client.call("Publish", stream=name, subject="a", payload=b"x" * 11)) == "oversize"
    headed = client.call("Publish", stream=name, subject="a", payload=b"x" * 9, headers=[{"key": "k", "value": "v"}])
    assert code_of(headed) == "oversize"


def test_a_message_over_the_servers_bound_is_refused_and_the_next_one_served(client: WireClient, stream: str) -> None:
    mib = 1024 * 1024
    assert published(client, stream, payload=b"x" * (16 * mib)) == 1
    larger = client.call("Publish", stream=stream, subject="a", payload=b"x" * (16 * mib + 1))
    assert code_of(larger) == "oversize"
    status, _ = client.refusal("Publish", stream=stream, subject="a", payload=b"x" * (18 * mib))
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert published(client, stream) == 2


def test_a_stream_with_sources_copies_and_says_how_far(client: WireClient, stream: str) -> None:
    name = f"f-{uuid.uuid4().hex[:12]}"
    rule = {"source_pattern": ">", "destination": "copied.>"}
    config = {"name": name, "sources": [{"source_stream": stream, "subject_transform": rule}]}
    assert code_of(client.call("CreateStream", config=config)) == "ok"
    assert published(client, stream) == 1
    info = client.call("GetStreamInfo", name=name)
    for _ in range(200):
        if info.stats.last_seq:
            break
        time.sleep(0.05)
        info = client.call("GetStreamInfo", name=name)
    assert info.config.sources[0].subject_transform.destination == "copied.>"
    status = info.sources_status[0]
    assert (status.source_stream, status.last_sourced_seq, status.pulled_total, status.last_error) == (stream, 1, 1, "")
    entries = [each for each in client.call("GetStreamSources").entries if each.sourcing_stream == name]
    assert [(each.source_stream, each.last_sourced_seq) for each in entries] == [(stream, 1)]


@pytest.mark.parametrize(
    "sources",
    [
        [{"source_stream": "other", "start_time_ms": 1}],
        [{"source_stream": "other"}, {"source_stream": "other"}],
        [{"source_stream": ""}],
        [{"source_stream": "a.b"}],
        [{"source_stream": "other", "filter_subject": "a..b"}],
        [{"source_stream": "other", "start_seq": U64_MAX}],
        [{"source_stream": "other", "subject_transform": {"source_pattern": "*", "destination": "$2"}}],
        [{"source_stream": "other", "dlq_stream": "queue:q"}],
        [{"source_stream": "other", "dlq_stream": "other"}],
        [{"source_stream": "other", "on_drop": 7}],
        [{"source_stream": f"s{number}"} for number in range(65)],
    ],
)
def test_sources_that_cannot_be_meant_are_refused(client: WireClient, sources: list[dict[str, object]]) -> None:
    name = f"f-{uuid.uuid4().hex[:12]}"
    answer = client.call("CreateStream", config={"name": name, "sources": sources})
    assert code_of(answer) == "invalid_config"
    assert code_of(client.call("GetStreamInfo", name=name)) == "no_such_stream"


def test_bytes_that_are_no_message_are_refused(client: WireClient, stream: str) -> None:
    for rpc in ("Publish", "CreateStream", "Fetch"):
        with pytest.raises(grpc.RpcError) as caught:
            client.raw(rpc, b"\xff\xff\xff\xff not protobuf")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert published(client, stream) == 1


def test_a_reserved_stream_takes_no_plain_publish(client: WireClient) -> None:
    name = f"kv:{uuid.uuid4().hex[:12]}"
    assert code_of(client.call("CreateStream", config={"name": name})) == "ok"
    assert code_of(client.call("Publish", stream=name, subject="a", payload=b"x")) == "subject_rejected"
    work_queue = {"name": f"kv:{uuid.uuid4().hex[:12]}", "retention": {"work_queue": {}}}
    assert code_of(client.call("CreateStream", config=work_queue)) == "invalid_config"


def test_a_subscription_to_nothing_is_not_found_and_says_what_is_missing(client: WireClient, stream: str) -> None:
    for name, code in [("nowhere", "no_such_stream"), (stream, "no_such_consumer")]:
        status, trailers = client.refusal("Subscribe", stream=name, consumer="nobody")
        assert status is grpc.StatusCode.NOT_FOUND
        assert trailers["wmkr-code"] == code


def test_a_later_life_knows_nothing_of_an_earlier_one(client: WireClient, stream: str) -> None:
    published(client, stream)
    assert client.call("CreateConsumer", stream=stream, config={"name": "c"}).success
    assert client.call("Fetch", stream=stream, consumer="c").messages
    assert client.call("DeleteStream", name=stream).success
    assert client.call("CreateStream", config={"name": stream}).success
    assert code_of(client.call("Ack", stream=stream, consumer="c", seq=1)) == "no_such_consumer"
    assert client.call("ListConsumers", stream=stream).consumers == []
    assert published(client, stream) == 1


# ------------------------------------------------------------------------------------------- the process


def test_an_occupied_port_is_refused_in_words(server: RealServer, tmp_path: Path) -> None:
    second = RealServer(tmp_path / "other")
    second.port = server.port
    code, said = second.start_in_vain()
    assert code != 0
    assert str(server.port) in said
    assert "Traceback" not in said


def test_a_data_directory_in_use_is_refused_and_names_the_process(server: RealServer) -> None:
    second = RealServer(server.data_dir)
    code, said = second.start_in_vain()
    assert code != 0
    assert str(server.pid) in said
    assert "Traceback" not in said


def test_an_orderly_stop_ends_subscriptions_with_a_reason(tmp_path: Path) -> None:
    stopping = RealServer(tmp_path / "data")
    stopping.start()
    client = WireClient(stopping.address)
    try:
        assert client.call("CreateStream", config={"name": "s"}).success
        assert client.call("CreateConsumer", stream="s", config={"name": "c"}).success
        published(client, "s")
        subscription = client.stream("Subscribe", stream="s", consumer="c")
        assert next(subscription).message.seq == 1
        assert stopping.terminate() == 0
        assert [event.stopped.reason for event in subscription] == ["server_shutdown"]
        stopping.start()
        again = WireClient(stopping.address)
        assert again.call("GetStreamInfo", name="s").stats.last_seq == 1
        again.close()
    finally:
        client.close()
        stopping.close()


def test_reflection_and_health_answer(server: RealServer) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with grpc.insecure_channel(server.address) as channel:
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert "waymaker.streams.WaymakerStreamsService" in services
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "waymaker.streams.WaymakerStreamsService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

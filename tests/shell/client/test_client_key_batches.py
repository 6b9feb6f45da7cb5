"""Calls about keys that travel as columns: what many tasks ask in one turn, answers in parts, and lost sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

import waymaker
from tests.kit.client_fake_server import FakeServer, FakeStream, Session
from waymaker.client.kv import KeyValue, KvEntry
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.usefixtures("transport")
UNAVAILABLE = pl.Refused(status=14, message="not now", outcome="not-applied")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        fake.welcome.key_batch_max = 1_000
        fake.streams["kv:b"] = FakeStream(pb.StreamConfigPb(name="kv:b"))
        yield fake


@pytest.fixture
async def kv(server: FakeServer) -> AsyncIterator[KeyValue]:
    async with waymaker.connect(server.target, timeout=5.0, backoff_first=0.01) as client:
        bucket = await client.kv("b")
        client._connection.main._alone = False  # a lone caller's first message leaves within its call
        yield bucket


def answered(batch: pl.KeyBatch, first: int, end: int, *failures: pl.KeyFailure) -> pl.Frame:
    """Return an answer to some keys: the revision of a key is 10 more than its place."""
    result = pl.KeyBatchResult(id=batch.id, first=first, revisions=[10 + place for place in range(first, end)])
    if batch.calls[0] == pl.KEY_GET:
        result.values.extend([batch.keys[place].encode() for place in range(first, end)])
        result.ts_ms.extend([7] * (end - first))
    result.failures.extend(failures)
    return pl.Frame(keyed=[result])


async def test_what_is_asked_in_one_turn_travels_as_columns_of_one_frame(server: FakeServer, kv: KeyValue) -> None:
    seen: list[pl.KeyBatch] = []

    def on_frame(session: Session, frame: pl.Frame) -> bool:
        seen.extend(frame.key_batches)
        for batch in frame.key_batches:
            session.send(answered(batch, 0, len(batch.keys)))
        return bool(frame.key_batches)

    server.on_frame = on_frame
    revisions, found = await asyncio.gather(
        asyncio.gather(kv.put("a", b"1"), kv.put("b", "2", ttl=3), kv.delete("c"), kv.update("d", b"", 5)),
        asyncio.gather(*[kv.get(key) for key in "xy"]),
    )
    assert list(revisions) == [10, 11, 12, 13]
    assert [each and (each.key, each.value, each.revision, each.ts_ms) for each in found] == [
        ("x", b"x", 10, 7), ("y", b"y", 11, 7),
    ]  # fmt: skip
    changes, reads = seen
    assert list(changes.calls) == [pl.KEY_PUT, pl.KEY_PUT, pl.KEY_DELETE, pl.KEY_UPDATE]
    assert (list(changes.keys), list(changes.values)) == (list("abcd"), [b"1", b"2", b"", b""])
    assert (list(changes.ttl_ms), list(changes.expected)) == ([0, 3_000, 0, 0], [0, 0, 0, 5])
    assert (list(reads.calls), list(reads.keys), list(reads.values)) == ([pl.KEY_GET], list("xy"), [])


async def test_an_answer_in_parts_ends_each_call_and_what_was_not_done_is_sent_again(
    server: FakeServer, kv: KeyValue
) -> None:
    seen: list[pl.KeyBatch] = []

    def on_frame(session: Session, frame: pl.Frame) -> bool:
        for batch in frame.key_batches:
            seen.append(batch)
            if len(seen) > 1:
                session.send(answered(batch, 0, len(batch.keys)))
                continue
            wrong = pl.KeyFailure(index=1, result_code="wrong_revision", message="not that one")
            full = pl.KeyFailure(index=2, refused=pl.Refused(status=8, message="full", outcome="not-applied"))
            session.send(answered(batch, 2, 4, full, pl.KeyFailure(index=3, refused=UNAVAILABLE)))
            session.send(answered(batch, 0, 2, wrong))
        return bool(frame.key_batches)

    server.on_frame = on_frame
    outcomes = await asyncio.gather(*[kv.put(key, b"v") for key in "abcd"], return_exceptions=True)
    assert outcomes[0] == 10
    assert isinstance(outcomes[1], waymaker.WrongRevisionError) and outcomes[1].seq == 11
    assert isinstance(outcomes[2], waymaker.ResourceExhaustedError)
    assert outcomes[3] == 10
    assert [list(batch.keys) for batch in seen] == [list("abcd"), ["d"]]


async def test_a_lost_session_repeats_reads_and_no_change(server: FakeServer, kv: KeyValue) -> None:
    seen: list[list[str]] = []

    def on_frame(session: Session, frame: pl.Frame) -> bool:
        seen.extend(list(batch.keys) for batch in frame.key_batches)
        if len(server.sessions) == 1 and frame.key_batches:
            for batch in frame.key_batches:
                session.send(answered(batch, 0, 1))
            session.break_off(grpc.StatusCode.UNAVAILABLE)
            return True
        for batch in frame.key_batches:
            session.send(answered(batch, 0, len(batch.keys)))
        return bool(frame.key_batches)

    server.on_frame = on_frame
    outcomes = await asyncio.gather(
        *[kv.put(key, b"v") for key in "ab"], *[kv.get(key) for key in "xy"], return_exceptions=True
    )
    assert outcomes[0] == 10
    assert isinstance(outcomes[1], waymaker.ConnectionLostError) and outcomes[1].outcome == waymaker.UNKNOWN
    assert [isinstance(each, KvEntry) for each in outcomes[2:]] == [True, True]
    assert seen == [["a", "b"], ["x", "y"], ["y"]]


async def test_a_server_without_key_batches_gets_calls(server: FakeServer) -> None:
    server.welcome.key_batch_max = 0
    seen: list[tuple[str, bytes]] = []

    def on_frame(session: Session, frame: pl.Frame) -> bool:
        calls = [call for call in frame.calls if call.method in ("Put", "Get", "Touch")]
        for call in calls:
            seen.append((call.method, call.request))
            if call.method == "Get":
                entry = pb.KvEntry(value=b"v", revision=3, ts_ms=4)
                data = pb.KvGetResponse(success=True, result_code="ok", entry=entry).SerializeToString()
            else:
                good = call.method == "Put"
                data = pb.KvPutResponse(
                    success=good, result_code="ok" if good else "wrong_revision", revision=9
                ).SerializeToString()
            session.send(pl.Frame(results=[pl.CallResult(id=call.id, response=data)]))
        return bool(calls)

    server.on_frame = on_frame
    async with waymaker.connect(server.target, timeout=5.0) as client:
        kv = await client.kv("b")
        put, got, touched = await asyncio.gather(
            kv.put("a", b"1", ttl=2), kv.get("a"), kv.touch("a", None), return_exceptions=True
        )
        assert put == 9 and isinstance(touched, waymaker.WrongRevisionError) and touched.seq == 9
        assert isinstance(got, KvEntry) and (got.value, got.revision, got.ts_ms) == (b"v", 3, 4)
    assert dict(seen) == {
        "Put": pb.KvPutRequest(bucket="b", key="a", value=b"1", ttl_ms=2_000).SerializeToString(),
        "Touch": pb.KvTouchRequest(bucket="b", key="a").SerializeToString(),
        "Get": pb.KvGetRequest(bucket="b", key="a").SerializeToString(),
    }


async def test_an_answer_that_does_not_fit_is_an_error_of_every_call(server: FakeServer, kv: KeyValue) -> None:
    def on_frame(session: Session, frame: pl.Frame) -> bool:
        for batch in frame.key_batches:
            session.send(pl.Frame(keyed=[pl.KeyBatchResult(id=batch.id, first=1, revisions=[1, 2, 3])]))
        return bool(frame.key_batches)

    server.on_frame = on_frame
    outcomes = await asyncio.gather(*[kv.put(key, b"v") for key in "ab"], return_exceptions=True)
    assert [type(each) for each in outcomes] == [waymaker.DataLossError] * 2


async def test_each_call_has_its_own_timeout_and_a_caller_that_leaves_is_not_sent(
    server: FakeServer, kv: KeyValue
) -> None:
    seen: list[str] = []

    def on_frame(session: Session, frame: pl.Frame) -> bool:
        seen.extend(key for batch in frame.key_batches for key in batch.keys)
        return bool(frame.key_batches)

    server.on_frame = on_frame
    leaver = asyncio.ensure_future(kv.put("a", b""))
    stayer = asyncio.ensure_future(kv.put("b", b"", timeout=0.2))
    await asyncio.sleep(0)
    leaver.cancel()
    with pytest.raises(waymaker.DeadlineExceededError) as late:
        await stayer
    assert late.value.outcome == waymaker.UNKNOWN
    assert seen[-1] == "b"
    with pytest.raises(waymaker.WrongTypeError):
        await kv.put(7, b"")  # type: ignore[arg-type]

"""What publishing promises, against a server that can be told to misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import grpc
import pytest

import waymaker
from tests.kit.client_fake_server import FakeServer, FakeStream, Session, break_once, publishing_frames, until
from waymaker.client.connection.states import IN_SESSION
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.usefixtures("transport")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        fake.streams["s"] = FakeStream(pb.StreamConfigPb(name="s"))
        yield fake


@pytest.fixture
async def wm(server: FakeServer) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(server.target, timeout=5.0) as client:
        yield client


# ------------------------------------------------------------------------------------------- single


async def test_a_publish_returns_its_sequence_and_carries_all_it_was_given(
    server: FakeServer, wm: waymaker.Client
) -> None:
    assert await wm.publish("s", "a.b", b"one") == 1
    assert await wm.publish("s", "a.b", b"two", headers={"k": "v"}, ts_ms=77) == 2
    assert await wm.publish("s", "a.b", headers=[("k", "1"), ("k", "2")]) == 3
    assert server.streams["s"].messages == [
        ("a.b", [], b"one", 1_000),
        ("a.b", [("k", "v")], b"two", 77),
        ("a.b", [("k", "1"), ("k", "2")], b"", 1_000),
    ]


async def test_what_many_tasks_publish_in_one_turn_travels_in_one_frame(
    server: FakeServer, wm: waymaker.Client
) -> None:
    server.streams["t"] = FakeStream(pb.StreamConfigPb(name="t"))
    seqs = await asyncio.gather(*(wm.publish("s" if n % 2 else "t", f"x.{n % 3}", str(n).encode()) for n in range(300)))
    assert sorted(seqs) == sorted([*range(1, 151), *range(1, 151)])
    frames = publishing_frames(server)
    assert len(frames) == 1
    assert [batch.stream for batch in frames[0].publishes] == ["t", "s"]
    assert [m[2] for m in server.streams["t"].messages] == [str(n).encode() for n in range(0, 300, 2)]


async def test_one_refused_message_leaves_its_neighbours_standing(wm: waymaker.Client) -> None:
    outcomes = await asyncio.gather(
        wm.publish("s", "ok.1"), wm.publish("s", "bad.2"), wm.publish("s", "ok.3"), return_exceptions=True
    )
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], waymaker.SubjectRejectedError)
    assert outcomes[1].outcome == waymaker.NOT_APPLIED
    assert outcomes[2] == 2


async def test_a_missing_stream_is_its_own_exception(wm: waymaker.Client) -> None:
    with pytest.raises(waymaker.NoSuchStreamError, match="nowhere") as caught:
        await wm.publish("nowhere", "a")
    assert caught.value.code == "no_such_stream"
    assert isinstance(caught.value, waymaker.NotFoundError)


async def test_a_wrong_revision_tells_the_actual_one(wm: waymaker.Client) -> None:
    assert await wm.publish("s", "a", expected_last_seq=0) == 1
    with pytest.raises(waymaker.WrongRevisionError) as caught:
        await wm.publish("s", "a", expected_last_seq=0)
    assert caught.value.seq == 1
    assert caught.value.outcome == waymaker.NOT_APPLIED
    assert await wm.publish("s", "a", expected_last_seq=1) == 2


async def test_conditions_of_neighbours_stay_with_their_messages(server: FakeServer, wm: waymaker.Client) -> None:
    outcomes = await asyncio.gather(
        wm.publish("s", "a"), wm.publish("s", "b", expected_last_seq=9), wm.publish("s", "c"), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [int, waymaker.WrongRevisionError, int]
    assert list(publishing_frames(server)[0].publishes[0].expected_last_seq) == [-1, 9, -1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("s", "a", "text"), "must be bytes"),
        (("s", "a", 5), "must be bytes"),
        (("s", 7, b""), "subject must be a string"),
        (("s", "\ud800", b""), "no UTF-8 form"),
        ((None, "a", b""), "stream must be a string"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is(
    server: FakeServer, wm: waymaker.Client, arguments: tuple[str, str, bytes], problem: str
) -> None:
    with pytest.raises(waymaker.UsageError, match=problem):
        await wm.publish(*arguments)
    assert not publishing_frames(server)
    assert await wm.publish("s", "a") == 1


@pytest.mark.parametrize("expected", [-1, 1 << 64, "3", True])
async def test_an_absurd_expectation_is_refused_here(wm: waymaker.Client, expected: int) -> None:
    with pytest.raises(waymaker.UsageError, match="expected_last_seq"):
        await wm.publish("s", "a", expected_last_seq=expected)


async def test_bad_headers_are_refused_here(wm: waymaker.Client) -> None:
    with pytest.raises(waymaker.UsageError, match="must be a string"):
        await wm.publish("s", "a", headers={"k": 5})  # type: ignore[arg-type]


async def test_a_surrogate_in_a_header_does_not_harm_the_others(wm: waymaker.Client) -> None:
    outcomes = await asyncio.gather(
        wm.publish("s", "a", headers={"k": "\ud800"}), wm.publish("s", "b"), return_exceptions=True
    )
    assert isinstance(outcomes[0], waymaker.UsageError)
    assert outcomes[1] == 1


async def test_a_message_too_large_for_any_stream_never_leaves(server: FakeServer) -> None:
    server.welcome.message_bytes_max = 1_000
    async with waymaker.connect(server.target) as wm:
        with pytest.raises(waymaker.OversizeError, match="1000"):
            await wm.publish("s", "a", bytes(1_001))
        assert await wm.publish("s", "a", bytes(1_000)) == 1
    assert len(publishing_frames(server)) == 1


async def test_a_publish_that_was_cancelled_before_it_left_is_not_sent(server: FakeServer, wm: waymaker.Client) -> None:
    first = asyncio.ensure_future(wm.publish("s", "a", b"first"))
    second = asyncio.ensure_future(wm.publish("s", "a", b"second"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1
    assert [m[2] for m in server.streams["s"].messages] == [b"second"]


# --------------------------------------------------------------------------------- unknown outcomes


@pytest.mark.parametrize("applied", [True, False])
async def test_a_publish_whose_answer_was_lost_is_not_repeated(
    server: FakeServer, wm: waymaker.Client, applied: bool
) -> None:
    break_once(server, apply=applied)
    with pytest.raises(waymaker.ConnectionLostError) as caught:
        await wm.publish("s", "a", b"once")
    assert caught.value.outcome == waymaker.UNKNOWN
    assert await wm.publish("s", "b") == (2 if applied else 1)
    assert sum(m[2] == b"once" for m in server.streams["s"].messages) == int(applied)


async def test_a_lost_answer_is_asked_for_again_where_an_expectation_makes_that_safe(
    server: FakeServer, wm: waymaker.Client
) -> None:
    break_once(server, apply=False)
    assert await wm.publish("s", "a", b"once", expected_last_seq=0) == 1
    assert len(server.sessions) == 2


async def test_a_repeated_expectation_that_fails_says_that_it_may_have_been_its_own_doing(
    server: FakeServer, wm: waymaker.Client
) -> None:
    break_once(server, apply=True)
    with pytest.raises(waymaker.WrongRevisionError) as caught:
        await wm.publish("s", "a", b"once", expected_last_seq=0)
    assert caught.value.seq == 1
    assert caught.value.outcome == waymaker.UNKNOWN
    assert len(server.streams["s"].messages) == 1


async def test_of_one_lost_frame_only_the_safe_messages_go_again(server: FakeServer, wm: waymaker.Client) -> None:
    break_once(server, apply=False)
    outcomes = await asyncio.gather(
        wm.publish("s", "a", b"plain", headers={"h": "1"}),
        wm.publish("s", "b", b"safe", headers={"h": "2"}, expected_last_seq=0, ts_ms=5),
        wm.publish("s", "c", b"plain too"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], waymaker.ConnectionLostError)
    assert outcomes[1] == 1
    assert isinstance(outcomes[2], waymaker.ConnectionLostError)
    assert server.streams["s"].messages == [("b", [("h", "2")], b"safe", 5)]


async def test_a_refusal_that_says_nothing_happened_is_tried_again(server: FakeServer, wm: waymaker.Client) -> None:
    refusals = 3

    def on_frame(session: Session, frame: pl.Frame) -> bool:
        nonlocal refusals
        if not frame.publishes or not refusals:
            return False
        refusals -= 1
        refused = pl.Refused(status=14, message="draining", outcome="not-applied")
        session.send(pl.Frame(published=[pl.Published(id=batch.id, refused=refused) for batch in frame.publishes]))
        return True

    server.on_frame = on_frame
    assert await wm.publish("s", "a", b"1") == 1
    assert refusals == 0


async def test_order_survives_a_server_that_cannot_serve_for_a_while(server: FakeServer, wm: waymaker.Client) -> None:
    begun: list[float] = []

    def on_frame(session: Session, frame: pl.Frame) -> bool:
        if not frame.publishes:
            return False
        begun.append(asyncio.get_running_loop().time())
        if begun[-1] > begun[0] + 0.03:
            return False
        refused = pl.Refused(status=14, message="not now", outcome="not-applied")
        session.send(pl.Frame(published=[pl.Published(id=batch.id, refused=refused) for batch in frame.publishes]))
        return True

    server.on_frame = on_frame
    payloads = [str(n).encode() for n in range(10_000)]
    results = await wm.publish_many("s", payloads, subject="a")
    assert results.stored == 10_000
    assert [m[2] for m in server.streams["s"].messages] == payloads


@pytest.mark.parametrize(
    ("status", "outcome", "kind"),
    [
        (8, "not-applied", waymaker.ResourceExhaustedError),
        (10, "unknown", waymaker.AbortedError),
        (14, "", waymaker.UnavailableError),
        (15, "not-applied", waymaker.DataLossError),
        (7, "not-applied", waymaker.PermissionDeniedError),
        (99, "", waymaker.UnknownStatusError),
    ],
)
async def test_every_other_refusal_is_raised_with_its_outcome(
    server: FakeServer, wm: waymaker.Client, status: int, outcome: str, kind: type[waymaker.WaymakerError]
) -> None:
    def on_frame(session: Session, frame: pl.Frame) -> bool:
        refused = pl.Refused(status=status, message="because", outcome=outcome)
        session.send(pl.Frame(published=[pl.Published(id=batch.id, refused=refused) for batch in frame.publishes]))
        return True

    server.on_frame = on_frame
    with pytest.raises(kind, match="because") as caught:
        await wm.publish("s", "a")
    assert type(caught.value) is kind
    assert caught.value.outcome == (outcome or None)


# ---------------------------------------------------------------------------------------- deadlines


async def test_a_publish_without_an_answer_in_time_may_have_happened(server: FakeServer, wm: waymaker.Client) -> None:
    server.on_frame = lambda _, frame: bool(frame.publishes)
    started = asyncio.get_running_loop().time()
    with pytest.raises(waymaker.DeadlineExceededError) as caught:
        await wm.publish("s", "a", timeout=0.1)
    assert caught.value.outcome == waymaker.UNKNOWN
    assert 0.09 < asyncio.get_running_loop().time() - started < 5


async def test_a_publish_that_never_left_did_not_happen(server: FakeServer, wm: waymaker.Client) -> None:
    await server.stop()
    await until(lambda: wm._connection.state not in IN_SESSION)
    with pytest.raises(waymaker.DeadlineExceededError) as caught:
        await wm.publish("s", "a", timeout=0.1)
    assert caught.value.outcome == waymaker.NOT_APPLIED


async def test_each_of_gathered_publishes_keeps_its_own_deadline(server: FakeServer, wm: waymaker.Client) -> None:
    held: list[tuple[Session, pl.Frame]] = []

    def hold(session: Session, frame: pl.Frame) -> bool:
        if frame.publishes:
            held.append((session, frame))
        return bool(frame.publishes)

    server.on_frame = hold
    short = asyncio.ensure_future(wm.publish("s", "a", b"short", timeout=0.05))
    long = asyncio.ensure_future(wm.publish("s", "a", b"long", timeout=5))
    with pytest.raises(waymaker.DeadlineExceededError):
        await short
    assert not long.done()
    server.on_frame = None
    server.handle(*held[0])
    assert await long == 2


# --------------------------------------------------------------------------------------------- many


async def test_publish_many_gives_one_outcome_a_message(wm: waymaker.Client) -> None:
    results = await wm.publish_many(
        "s",
        [
            ("a", b"1"),
            ("bad", b"2"),
            ("b", b"3", {"k": "v"}),
            waymaker.Outgoing("a", b"4", ts_ms=9, expected_last_seq=7),
            waymaker.Outgoing("a", b"5", expected_last_seq=1),
        ],
    )
    outcomes = list(results)
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], waymaker.SubjectRejectedError)
    assert outcomes[2] == 2
    assert isinstance(outcomes[3], waymaker.WrongRevisionError)
    assert outcomes[4] == 3
    assert [results[n] for n in range(5)] == outcomes
    assert results[-1] == 3
    assert results[1:3] == outcomes[1:3]
    assert (len(results), results.stored, results.last_seq) == (5, 3, 3)
    assert sorted(results.failures) == [1, 3]
    with pytest.raises(waymaker.SubjectRejectedError):
        results.raise_first()


async def test_publish_many_keeps_order_over_many_batches(server: FakeServer, wm: waymaker.Client) -> None:
    payloads = [str(n).encode() * 20 for n in range(30_000)]
    seen: list[int] = []
    results = await wm.publish_many("s", payloads, subject="a", on_progress=seen.append)
    assert [m[2] for m in server.streams["s"].messages] == payloads
    assert list(results) == list(range(1, 30_001))
    assert sum(seen) == 30_000
    assert len(publishing_frames(server)) < 40


async def test_publish_many_takes_generators_and_asynchronous_ones(server: FakeServer, wm: waymaker.Client) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for n in range(20):
            if n % 5 == 0:
                await asyncio.sleep(0.01)
            yield str(n).encode()

    assert (await wm.publish_many("s", (b"%d" % n for n in range(5_000)), subject="a")).stored == 5_000
    before = len(publishing_frames(server))
    results = await wm.publish_many("s", slowly(), subject="a")
    assert list(results) == list(range(5_001, 5_021))
    # What was there when the source paused was sent without waiting for it, and not one by one.
    assert 2 <= len(publishing_frames(server)) - before <= 8


async def test_publish_many_of_nothing_is_nothing(wm: waymaker.Client) -> None:
    results = await wm.publish_many("s", [], subject="a")
    assert (len(results), results.stored, results.last_seq, list(results)) == (0, 0, 0, [])


async def test_publish_many_to_a_missing_stream_raises(wm: waymaker.Client) -> None:
    with pytest.raises(waymaker.NoSuchStreamError):
        await wm.publish_many("nowhere", [b"x"], subject="a")


async def test_publish_many_stops_at_the_first_batch_that_fails_and_tells_of_every_message_taken(
    server: FakeServer, wm: waymaker.Client
) -> None:
    frames = 0

    def on_frame(session: Session, frame: pl.Frame) -> bool:
        nonlocal frames
        frames += bool(frame.publishes)
        if frames < 3 or not frame.publishes:
            return False
        session.break_off()
        return True

    server.on_frame = on_frame
    taken = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for n in range(1_000_000):
            taken += 1
            yield bytes(1_000) + str(n).encode()

    with pytest.raises(waymaker.ConnectionLostError) as caught:
        await wm.publish_many("s", source(), subject="a")
    results = caught.value.results
    assert results is not None
    assert taken < 50_000, "the window bounds what is taken from the source"
    stored = len(server.streams["s"].messages)
    assert results.stored == stored > 0
    assert all(isinstance(results[n], int) for n in range(stored))
    assert isinstance(results[stored], waymaker.ConnectionLostError)


async def test_an_oversized_message_is_one_failure_among_many(server: FakeServer) -> None:
    server.welcome.message_bytes_max = 500
    async with waymaker.connect(server.target) as wm:
        plain = [b"a", bytes(600_000), b"b", bytes(600_000), b"c"]
        for messages in (plain, iter(plain), [("x", payload) for payload in plain]):
            results = await wm.publish_many("s", messages, subject="x")
            assert [type(outcome) for outcome in results] == [
                int, waymaker.OversizeError, int, waymaker.OversizeError, int,
            ]  # fmt: skip
    assert [m[2] for m in server.streams["s"].messages] == [b"a", b"b", b"c"] * 3


async def test_a_bad_item_has_its_own_outcome_and_the_others_go_on(server: FakeServer, wm: waymaker.Client) -> None:
    messages: list[Any] = [
        ("a", b"0"), b"1", ("a", "2"), None, ("a", b"4"), 5, ("a",), ("a", b"7", {"k": 1}), (b"a", b"8"),
        waymaker.Outgoing("a", b"9", ts_ms=-1), waymaker.Outgoing("a", cast("bytes", None)), ("a", b"11", "k: v"),
        ("a" * 20_000, b"12"),
        ("a", b"13"), ("bad", b"14"), ("a", b"15"),
    ]  # fmt: skip
    bad = set(range(16)) - {0, 4, 13, 15}
    wrong_type = bad - {1, 6, 9, 12, 14}

    async def slowly() -> AsyncIterator[Any]:
        for message in messages:
            yield message
            await asyncio.sleep(0.001)

    async def at_once() -> AsyncIterator[Any]:
        for message in messages:
            yield message

    for source in (messages, iter(messages), at_once(), slowly()):
        results = await wm.publish_many("s", source)
        assert len(results) == 16
        assert set(results.failures) == bad
        assert {index for index, error in results.failures.items() if isinstance(error, TypeError)} == wrong_type
        assert [m[2] for m in server.streams["s"].messages[-4:]] == [b"0", b"4", b"13", b"15"]
        assert [seq for seq in results if isinstance(seq, int)] == [results.last_seq - 3 + n for n in range(4)]


async def test_payloads_that_are_none_leave_the_others_standing(server: FakeServer, wm: waymaker.Client) -> None:
    payloads: list[Any] = [b"0", "1", None, b"3", 4, *[b"x"] * 5_000, "end"]
    results = await wm.publish_many("s", payloads, subject="a")
    assert set(results.failures) == {1, 2, 4, 5_005}
    assert all(isinstance(error, waymaker.WrongTypeError) for error in results.failures.values())
    assert results.stored == len(server.streams["s"].messages) == 5_002


async def test_a_call_that_gives_no_subject_at_all_is_refused_as_a_whole(wm: waymaker.Client) -> None:
    with pytest.raises(waymaker.UsageError, match="subject="):
        await wm.publish_many("s", [b"1", b"2"])
    single: Any
    for single in (b"payload", "payload", 5, None):
        with pytest.raises(waymaker.WrongTypeError, match="iterable"):
            await wm.publish_many("s", single, subject="a")


async def test_a_message_that_fits_no_frame_leaves_its_neighbours_standing(wm: waymaker.Client) -> None:
    huge = "x" * (17 << 20)
    outcomes = await asyncio.gather(
        wm.publish("s", "a", b"before"),
        wm.publish("s", huge, b"1"),
        wm.publish("s", "a", b"2", headers={"k": huge}),
        wm.publish("s", "a", b"after"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [
        int, waymaker.SubjectRejectedError, waymaker.OversizeError, int,
    ]  # fmt: skip


async def test_what_a_failing_source_gave_before_is_published(server: FakeServer, wm: waymaker.Client) -> None:
    def fails() -> Iterator[bytes]:
        yield b"1"
        yield b"2"
        raise RuntimeError("the source is dry")

    async def fails_later() -> AsyncIterator[bytes]:
        for payload in fails():
            yield payload

    for source in (fails(), fails_later()):
        with pytest.raises(RuntimeError, match="dry"):
            await wm.publish_many("s", source, subject="a")
    assert [m[2] for m in server.streams["s"].messages] == [b"1", b"2"] * 2


async def test_a_cancelled_publish_many_sends_no_more(server: FakeServer, wm: waymaker.Client) -> None:
    server.on_frame = lambda _, frame: bool(frame.publishes)
    many = asyncio.ensure_future(wm.publish_many("s", [bytes(1_000)] * 100_000, subject="a"))
    await until(lambda: publishing_frames(server))
    many.cancel()
    with pytest.raises(asyncio.CancelledError):
        await many
    await asyncio.sleep(0.05)
    frames = len(publishing_frames(server))
    server.on_frame = None
    assert await wm.publish("s", "a", timeout=5) == 1
    assert len(publishing_frames(server)) == frames + 1


async def test_work_that_ends_every_session_is_given_up(server: FakeServer, wm: waymaker.Client) -> None:
    def poison(session: Session, frame: pl.Frame) -> bool:
        if frame.calls:
            session.break_off(grpc.StatusCode.INVALID_ARGUMENT)
        return bool(frame.calls)

    server.on_frame = poison
    with pytest.raises(waymaker.InvalidArgumentError):
        await wm.list_streams()
    assert 2 < len(server.sessions) < 10


async def test_the_window_that_the_server_granted_is_kept(server: FakeServer) -> None:
    server.welcome.window_bytes = 300_000
    held: list[tuple[Session, pl.Frame]] = []
    most = 0

    def hold(session: Session, frame: pl.Frame) -> bool:
        nonlocal most
        if frame.publishes:
            held.append((session, frame))
            most = max(most, sum(f.ByteSize() for _, f in held))
        return bool(frame.publishes)

    server.on_frame = hold
    async with waymaker.connect(server.target) as wm:
        many = asyncio.ensure_future(wm.publish_many("s", [bytes(1_000)] * 3_000, subject="a"))
        while not many.done():
            await asyncio.sleep(0.005)
            if held:
                server.handle(*held.pop(0))
        assert (await many).stored == 3_000
    assert most <= 300_000


async def test_a_servers_batch_limit_is_kept(server: FakeServer) -> None:
    server.welcome.publish_batch_max = 7
    async with waymaker.connect(server.target) as wm:
        await wm.publish_many("s", [b"x"] * 50, subject="a")
        await asyncio.gather(*(wm.publish("s", "a") for _ in range(50)))
        await wm.publish_many("s", (("a", b"x") for _ in range(50)))
    frames = publishing_frames(server)
    assert sum(len(b.payloads) for f in frames for b in f.publishes) == 150
    assert max(sum(len(b.payloads) for b in f.publishes) for f in frames) <= 7

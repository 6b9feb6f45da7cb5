"""Publishes whose connection is lost are sent again, and stored once: against a fake that loses answers, and for real."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

import waymaker
from tests.kit.client_fake_server import FakeServer, Session, until
from tests.kit.real_server import RealServer
from waymaker.client.connection.numbering import STREAMS_MAX, Producer
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

pytestmark = pytest.mark.usefixtures("transport")


class ForgetfulServer(FakeServer):
    """A server that knows producers, stores what it is sent, and loses the connection instead of the first answers."""

    def __init__(self, losses: int = 1) -> None:
        super().__init__()
        self.welcome.producer_spans_max = 8
        self.losses = losses
        self.known: dict[tuple[int, str, int], int] = {}
        self.on_frame = self.lose
        self.create("s")

    def create(self, name: str) -> None:
        call = pl.Call(
            method="CreateStream",
            request=pb.CreateStreamRequest(config=pb.StreamConfigPb(name=name)).SerializeToString(),
        )
        self.call(call, pl.Frame())

    def lose(self, session: Session, frame: pl.Frame) -> bool:
        if not frame.publishes or not self.losses:
            return False
        self.losses -= 1
        for batch in frame.publishes:
            if batch.numbers:
                self.publish(batch)
        session.break_off()
        return True

    def publish(self, batch: pl.PublishBatch) -> pl.Published:
        producer = next(frame.hello.producer_id for frame in reversed(self.frames) if frame.HasField("hello"))
        numbers = list(batch.numbers)
        if len(numbers) == 1:
            numbers = list(range(numbers[0], numbers[0] + len(batch.payloads)))
        stream, seqs = self.streams[batch.stream], []
        for number, payload in zip(numbers, batch.payloads, strict=True):
            key = (producer, batch.stream, number)
            if key not in self.known:
                stream.messages.append(("a", [], payload, 1))
                self.known[key] = len(stream.messages)
            seqs.append(self.known[key])
        reply = pl.Published(id=batch.id, result_code="ok", first_seq=seqs[0], count=len(seqs))
        if seqs != list(range(seqs[0], seqs[0] + len(seqs))):
            reply.stored.extend(pl.SeqRange(first=seq, last=seq) for seq in seqs)
        return reply

    def payloads(self, stream: str = "s") -> list[bytes]:
        return [message[2] for message in self.streams[stream].messages]

    @property
    def batches(self) -> list[pl.PublishBatch]:
        return [batch for frame in self.frames for batch in frame.publishes]


async def test_a_publish_that_was_stored_and_not_answered_is_stored_once() -> None:
    async with ForgetfulServer() as fake, waymaker.connect(fake.target, backoff_first=0.01) as wm:
        seqs = await asyncio.gather(*[wm.publish("s", "a", b"%d" % n) for n in range(5)])
        assert seqs == [1, 2, 3, 4, 5]
        assert fake.payloads() == [b"0", b"1", b"2", b"3", b"4"]
        first, again = fake.batches
        assert (list(first.numbers), first.resent) == ([1], False)
        assert (list(again.numbers), again.resent) == ([1], True)
        assert await wm.publish("s", "a", b"5") == 6
        hellos = [frame.hello for frame in fake.frames if frame.HasField("hello")]
        assert [hello.producer_epoch for hello in hellos] == [1, 2]
        assert len({hello.producer_id for hello in hellos}) == 1


async def test_every_stream_is_numbered_from_1() -> None:
    async with ForgetfulServer(0) as fake, waymaker.connect(fake.target) as wm:
        fake.create("t")
        for stream in ("s", "t", "s"):
            await wm.publish(stream, "a")
        assert [list(batch.numbers) for batch in fake.batches] == [[1], [1], [2]]


async def test_a_whole_publish_many_survives_several_losses_in_order() -> None:
    async with ForgetfulServer(3) as fake, waymaker.connect(fake.target, backoff_first=0.01) as wm:
        payloads = [b"%d" % n for n in range(9_000)]
        results = await wm.publish_many("s", payloads, subject="a")
        assert list(results) == list(range(1, 9_001))
        assert fake.payloads() == payloads
        assert results.last_seq == 9_000


async def test_what_the_caller_gave_up_is_not_sent_again_and_the_rest_keeps_its_numbers() -> None:
    async with ForgetfulServer(1) as fake, waymaker.connect(fake.target, backoff_first=0.2) as wm:
        tasks = [asyncio.create_task(wm.publish("s", "a", b"%d" % n)) for n in range(4)]
        await until(lambda: fake.losses == 0)
        tasks[1].cancel()
        assert await asyncio.gather(tasks[0], *tasks[2:]) == [1, 3, 4]
        assert list(fake.batches[-1].numbers) == [1, 3, 4]


async def test_a_deadline_in_between_says_that_the_outcome_is_unknown() -> None:
    async with ForgetfulServer(1) as fake, waymaker.connect(fake.target, backoff_first=1.0, backoff_max=1.0) as wm:
        with pytest.raises(waymaker.DeadlineExceededError) as late:
            await wm.publish("s", "a", timeout=0.2)
        assert late.value.outcome == waymaker.UNKNOWN
        bulk = asyncio.create_task(wm.publish_many("s", [b"x"], subject="a", timeout=0.2))
        with pytest.raises(waymaker.DeadlineExceededError) as unsent:
            await bulk
        assert unsent.value.outcome == waymaker.NOT_APPLIED


async def test_closing_in_between_says_so_too() -> None:
    async with ForgetfulServer(1) as fake:
        wm = waymaker.connect(fake.target, backoff_first=1.0, backoff_max=1.0)
        await wm.__aenter__()
        task = asyncio.create_task(wm.publish("s", "a"))
        await until(lambda: fake.losses == 0)
        await asyncio.sleep(0.1)
        await wm.close()
        with pytest.raises(waymaker.ClosedError) as closed:
            await task
        assert closed.value.outcome == waymaker.UNKNOWN


@pytest.mark.parametrize("option", ["resend", "reconnect"])
async def test_it_can_be_switched_off(option: str) -> None:
    options: waymaker.client.options.MoreOptions = {option: False}  # type: ignore[misc]
    async with ForgetfulServer(0) as fake, waymaker.connect(fake.target, **options) as wm:
        fake.losses = 1
        with pytest.raises(waymaker.ConnectionLostError) as lost:
            await wm.publish("s", "a")
        assert lost.value.outcome == waymaker.UNKNOWN
        assert not fake.frames[0].hello.producer_id


async def test_a_server_that_knows_no_producers_is_sent_nothing_twice() -> None:
    async with ForgetfulServer(1) as fake, waymaker.connect(fake.target, backoff_first=0.01) as wm:
        fake.welcome.producer_spans_max = 0  # the session of now knows them, the next one does not
        with pytest.raises(waymaker.ConnectionLostError, match="knows no producers") as lost:
            await wm.publish("s", "a")
        assert lost.value.outcome == waymaker.UNKNOWN
        assert len(fake.batches) == 1


@pytest.mark.parametrize(
    ("code", "kind", "outcome"),
    [
        ("outcome_unknown", waymaker.OutcomeUnknownError, waymaker.UNKNOWN),
        ("producer_fenced", waymaker.ProducerFencedError, waymaker.UNKNOWN),
        ("wrong_revision", waymaker.WrongRevisionError, waymaker.NOT_APPLIED),
    ],
)
async def test_what_the_server_says_of_a_number(code: str, kind: type[waymaker.WaymakerError], outcome: str) -> None:
    async with ForgetfulServer(1) as fake, waymaker.connect(fake.target, backoff_first=0.01) as wm:

        def refuse(session: Session, frame: pl.Frame) -> bool:
            if not frame.publishes or fake.lose(session, frame):
                return bool(frame.publishes)
            for batch in frame.publishes:
                reply = pl.Published(id=batch.id, result_code="ok")
                reply.failures.add(index=0, result_code=code, message="no")
                session.send(pl.Frame(published=[reply]))
            return True

        fake.on_frame = refuse
        with pytest.raises(kind) as refused:
            await wm.publish("s", "a")
        assert refused.value.outcome == outcome, "with a number, a refused condition is certain"


async def test_no_more_is_unanswered_than_a_stream_remembers() -> None:
    async with ForgetfulServer(0) as fake, waymaker.connect(fake.target) as wm:
        fake.hung = True
        tasks = []
        for n in range(20):
            tasks.append(asyncio.create_task(wm.publish("s", "a", b"%d" % n)))
            await asyncio.sleep(0.02)
        assert len(fake.batches) == 4, "half of the eight spans"
        fake.hung = False
        fake.sessions[-1].break_off()
        assert await asyncio.gather(*tasks) == list(range(1, 21))


async def test_an_answer_that_does_not_fit_together_is_no_success() -> None:
    async with ForgetfulServer(0) as fake, waymaker.connect(fake.target) as wm:
        wrong = pl.Published(result_code="ok", first_seq=1, count=2, stored=[pl.SeqRange(first=1, last=9)])

        def answer(session: Session, frame: pl.Frame) -> bool:
            for batch in frame.publishes:
                wrong.id = batch.id
                session.send(pl.Frame(published=[wrong]))
            return bool(frame.publishes)

        fake.on_frame = answer
        with pytest.raises(waymaker.DataLossError):
            await wm.publish("s", "a")
        with pytest.raises(waymaker.DataLossError):
            await wm.publish_many("s", [b"x", b"y"], subject="a")


def test_numbers_are_never_given_twice_whatever_the_number_of_streams() -> None:
    numbering = Producer()
    assert numbering.take("s", 5) == range(1, 6)
    for n in range(STREAMS_MAX):
        numbering.take(f"s{n}", 1)
    assert numbering.take("s", 1).start > 5
    assert numbering.take("s0", 1).start > 1
    assert Producer().id != numbering.id


# ------------------------------------------------------------------------------------- the real server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    own = RealServer(tmp_path / "data")
    own.start()
    yield own
    own.close()


@pytest.fixture
async def wm(server: RealServer) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(server.address, timeout=60.0, backoff_max=0.2) as client:
        await client.create_stream("s")
        yield client


async def stored(wm: waymaker.Client, stream: str = "s") -> list[tuple[int, bytes]]:
    return [(message.seq, message.payload) async for message in wm.scan(stream, "a")]


async def restart(server: RealServer, stop: str) -> None:
    await asyncio.to_thread(getattr(server, stop))
    await asyncio.to_thread(server.start)


THIRD = 3_334


@pytest.mark.process
@pytest.mark.parametrize("stop", ["kill", "terminate"])
async def test_ten_thousand_pipelined_publishes_across_restarts_are_stored_once_each(
    server: RealServer, wm: waymaker.Client, stop: str
) -> None:
    """A third is sent in each session, and the server stops while most of it is on the way."""

    async def publish(n: int) -> int:
        await asyncio.sleep(n % THIRD / 4_000)  # spread over the stop
        return await wm.publish("s", "a", b"%d" % n)

    def in_session(number: int) -> bool:
        return wm._connection.sessions == number

    tasks: list[asyncio.Task[int]] = []
    for session in range(1, 4):
        await until(partial(in_session, session), 60)
        third = [asyncio.create_task(publish(n)) for n in range(len(tasks), min(len(tasks) + THIRD, 10_000))]
        tasks += third
        if session < 3:
            await third[THIRD // 5]
            await restart(server, stop)
    seqs = await asyncio.gather(*tasks)
    assert wm._connection.sessions == 3
    found = await stored(wm)
    assert Counter(payload for _, payload in found).most_common(1)[0][1] == 1
    assert sorted((seq, b"%d" % n) for n, seq in enumerate(seqs)) == found


@pytest.mark.process
async def test_a_bulk_and_conditions_across_a_kill_are_stored_once_each(
    server: RealServer, wm: waymaker.Client
) -> None:
    async def count_up() -> None:
        last = 0
        for n in range(300):
            last = await wm.publish("s", "counter", b"%d" % n, expected_last_seq=last)

    payloads = [b"%d" % n for n in range(100_000)]
    bulk = asyncio.create_task(wm.publish_many("s", payloads, subject="a"))
    conditions = asyncio.create_task(count_up())
    await asyncio.sleep(0.2)
    await restart(server, "kill")
    results = await bulk
    await conditions
    found = await stored(wm)
    assert [payload for _, payload in found] == payloads, "each once, in the order given"
    assert list(results) == [seq for seq, _ in found]
    counted = [message.payload async for message in wm.scan("s", "counter")]
    assert counted == [b"%d" % n for n in range(300)]


@pytest.mark.process
async def test_a_synchronous_publish_waits_for_the_restart(server: RealServer) -> None:
    def script() -> list[int]:
        with waymaker.connect_sync(server.address, timeout=60.0) as wm:
            wm.create_stream("t")
            seqs = [wm.publish("t", "a", b"1")]
            server.kill()
            server.start()
            return [*seqs, wm.publish("t", "a", b"2")]

    assert await asyncio.to_thread(script) == [1, 2]

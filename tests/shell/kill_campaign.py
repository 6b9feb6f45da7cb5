"""Kills the real server with SIGKILL at random moments under load, again and again, and holds it to its promises.

``python -m tests.shell.kill_campaign --rounds 1000`` is the long form; the tests run a few rounds. A round starts the
server on the directory that the last one left, checks what the callers of that round had been told, and loads it with
publishers, readers that acknowledge, a work queue and streams that come and go, until the kill falls. Most callers use the
contract over gRPC and nothing else; one is the Python client, whose publishes travel together over the pipeline. Small
segments and blocks make the kill fall into checkpoints too.

What a kill cannot show is the loss of unsynced pages; that is the simulator's part.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

import waymaker
from tests.kit.kill_ledger import History
from tests.kit.real_server import RealServer
from waymaker_proto import waymaker_streams_pb2 as pb
from waymaker_proto.waymaker_streams_pb2_grpc import WaymakerStreamsServiceStub

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from waymaker_proto.waymaker_streams_pb2_grpc import WaymakerStreamsServiceAsyncStub  # exists for the checker only

CONFIG = """
log_level = "warning"
[limits]
segment_bytes = 262144
checkpoint_journal_bytes = 524288
message_bytes_max = 65536
header_bytes_max = 4096
record_bytes_max = 65536
flush_bytes_max = 131072
publish_batch_bytes_max = 131072
"""
LOG, JOBS = "log", "jobs"
PUBLISHERS = 6
CALL_S_MAX = 20.0


class Campaign:
    """Rounds on one data directory. ``broken`` collects every promise that was not kept."""

    def __init__(self, data_dir: Path, seed: int) -> None:
        self.server = RealServer(data_dir, config=CONFIG)
        self.random = random.Random(seed)
        self.rounds = 0
        self.log = History()
        self.jobs = History()
        self.subjects: list[str] = []
        self.streams_there: set[str] = set()
        self.streams_gone: set[str] = set()
        self.broken: list[str] = []

    async def run_round(self, longest_load_ms: int = 400) -> None:
        """One life of the server: start, judge the life before, load, kill."""
        self.server.start()
        async with grpc.aio.insecure_channel(self.server.address) as channel:
            stub = WaymakerStreamsServiceStub(channel)
            if self.rounds == 0:
                await self._create(stub)
            else:
                await self._judge(stub)
            self.rounds += 1
            names = [*map(str, range(PUBLISHERS)), "together"]
            self.subjects = [f"{LOG}.{self.rounds}.{name}" for name in names]
            kill_after_s = self.random.uniform(0.005, longest_load_ms / 1_000)
            callers = [asyncio.create_task(caller) for caller in self._callers(stub)]
            await asyncio.sleep(kill_after_s)
            self.server.kill()
            await asyncio.gather(*callers)

    async def finish(self) -> None:
        """After the last kill: everything is read and drained, and the server stops in order."""
        self.server.start()
        async with grpc.aio.insecure_channel(self.server.address) as channel:
            stub = WaymakerStreamsServiceStub(channel)
            await self._judge(stub)
            for subject in self.log.attempted:
                self.log.found(subject, await self._scan(stub, LOG, subject))
            await asyncio.sleep(1.2)  # what was pending at the kill is due again
            await self._drain(stub)
            self.log.all_delivered()
        code = self.server.terminate()
        self._gather()
        if code != 0:
            self.broken.append(f"an orderly stop ended with {code}: {self.server.log_tail(5)}")

    # ------------------------------------------------------------------------------------ callers

    def _callers(self, stub: WaymakerStreamsServiceAsyncStub) -> list[Coroutine[None, None, None]]:
        publishers = [self._publish(stub, LOG, self.log, subject) for subject in self.subjects[:PUBLISHERS]]
        return [
            *publishers,
            self._publish(stub, JOBS, self.jobs, f"{JOBS}.{self.rounds}"),
            self._publish_together(f"{LOG}.{self.rounds}.together"),
            self._read(stub, LOG, "reader", self.log),
            self._read(stub, JOBS, "worker", self.jobs),
            self._come_and_go(stub),
        ]

    async def _publish(self, stub: WaymakerStreamsServiceAsyncStub, stream: str, ledger: History, subject: str) -> None:
        number, last_seq = 0, 0
        try:
            while True:
                filler = self.random.randbytes(self.random.choice([0, 10, 200, 200, 4_000]))
                payload = f"{subject} {number} ".encode() + filler
                request = pb.PublishRequest(stream=stream, subject=subject, payload=payload)
                if stream == LOG and number % 4 == 3:
                    # Not in the work queue, where an acknowledgement may take the last message away in between.
                    request.expected_last_seq = last_seq
                ledger.publish_attempted(subject, payload)
                answer = await stub.Publish(request, timeout=CALL_S_MAX)
                if not answer.success:
                    self.broken.append(f"publish to {subject}: {answer.result_code} {answer.message}")
                    return
                ledger.publish_confirmed(subject, answer.seq, payload)
                last_seq = answer.seq
                number += 1
        except grpc.aio.AioRpcError as error:
            self._expect_a_kill(error)

    async def _publish_together(self, subject: str) -> None:
        try:
            async with waymaker.connect(self.server.address, reconnect=False, timeout=CALL_S_MAX) as client:
                while await self._publish_some(client, subject):
                    pass
        except (waymaker.ConnectionLostError, waymaker.UnavailableError):
            return

    async def _publish_some(self, client: waymaker.Client, subject: str) -> bool:
        """Publishes a few messages in one turn of the loop; whether the server is still there."""
        number = len(self.log.attempted.get(subject, ()))
        payloads = [f"{subject} {number + place} ".encode() for place in range(self.random.randrange(1, 64))]
        for payload in payloads:
            self.log.publish_attempted(subject, payload)
        answers = await asyncio.gather(
            *(client.publish(LOG, subject, payload) for payload in payloads), return_exceptions=True
        )
        for payload, answer in zip(payloads, answers, strict=True):
            if isinstance(answer, int):
                self.log.publish_confirmed(subject, answer, payload)
            elif not isinstance(answer, waymaker.ConnectionLostError | waymaker.UnavailableError):
                self.broken.append(f"publish to {subject}: {answer!r}")
        return all(isinstance(answer, int) for answer in answers)

    async def _read(self, stub: WaymakerStreamsServiceAsyncStub, stream: str, consumer: str, ledger: History) -> None:
        try:
            while True:
                asked_at = ledger.tick()
                answer = await stub.Fetch(
                    pb.FetchRequest(stream=stream, consumer=consumer, batch_size=32), timeout=CALL_S_MAX
                )
                for message in answer.messages:
                    ledger.received(message.seq, message.payload, asked_at)
                acked = [message.seq for message in answer.messages if self.random.random() < 0.8]
                await asyncio.gather(*(self._ack(stub, stream, consumer, ledger, seq) for seq in acked))
                if not answer.messages:
                    await asyncio.sleep(0.005)
        except grpc.aio.AioRpcError as error:
            self._expect_a_kill(error)

    async def _ack(
        self, stub: WaymakerStreamsServiceAsyncStub, stream: str, consumer: str, ledger: History, seq: int
    ) -> None:
        ledger.ack_attempted.add(seq)
        try:
            answer = await stub.Ack(pb.AckRequest(stream=stream, consumer=consumer, seq=seq), timeout=CALL_S_MAX)
        except grpc.aio.AioRpcError as error:
            self._expect_a_kill(error)
            return
        if answer.success:
            ledger.acked(seq)
        else:
            self.broken.append(f"ack of {stream} {seq}: {answer.result_code} {answer.message}")

    async def _come_and_go(self, stub: WaymakerStreamsServiceAsyncStub) -> None:
        number = 0
        try:
            while True:
                name = f"passing-{self.rounds}-{number}"
                number += 1
                created = await stub.CreateStream(
                    pb.CreateStreamRequest(config=pb.StreamConfigPb(name=name)), timeout=CALL_S_MAX
                )
                assert created.success, created
                self.streams_there.add(name)
                if self.random.random() < 0.9:
                    # Until the answer is here the stream may be there or not.
                    self.streams_there.discard(name)
                    deleted = await stub.DeleteStream(pb.DeleteStreamRequest(name=name), timeout=CALL_S_MAX)
                    assert deleted.success, deleted
                    self.streams_gone.add(name)
                await asyncio.sleep(0.01)
        except grpc.aio.AioRpcError as error:
            self._expect_a_kill(error)

    def _expect_a_kill(self, error: grpc.aio.AioRpcError) -> None:
        """A killed server breaks connections; any other status is an answer it should not have given."""
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            self.broken.append(f"{error.code()}: {error.details()}")

    # ------------------------------------------------------------------------------------ judgement

    async def _create(self, stub: WaymakerStreamsServiceAsyncStub) -> None:
        for name, retention in [
            (LOG, pb.Retention(limits=pb.LimitsRetention())),
            (JOBS, pb.Retention(work_queue=pb.WorkQueueRetention())),
        ]:
            config = pb.StreamConfigPb(name=name, subjects_filter=[f"{name}.>"], retention=retention, block_size=300)
            created = await stub.CreateStream(pb.CreateStreamRequest(config=config), timeout=CALL_S_MAX)
            assert created.success, created
        for stream, consumer in [(LOG, "reader"), (JOBS, "worker")]:
            wanted = pb.ConsumerConfigPb(name=consumer, ack_wait_ms=1_000, max_deliver=1_000_000)
            made = await stub.CreateConsumer(pb.CreateConsumerRequest(stream=stream, config=wanted), timeout=CALL_S_MAX)
            assert made.success, made

    async def _judge(self, stub: WaymakerStreamsServiceAsyncStub) -> None:
        for subject in self.subjects:
            self.log.found(subject, await self._scan(stub, LOG, subject))
        for subject in self.jobs.attempted:
            stored = await self._scan(stub, JOBS, subject)
            self.jobs.found(subject, stored, removed=frozenset(self.jobs.ack_attempted))
            self.jobs.gone_for_good([seq for seq, _ in stored])
        names = set((await stub.ListStreams(pb.ListStreamsRequest(), timeout=CALL_S_MAX)).names)
        self.broken += [f"stream {name} was created and is missing" for name in sorted(self.streams_there - names)]
        self.broken += [f"stream {name} was deleted and is back" for name in sorted(self.streams_gone & names)]
        self._gather()

    async def _scan(self, stub: WaymakerStreamsServiceAsyncStub, stream: str, subject: str) -> list[tuple[int, bytes]]:
        messages: list[tuple[int, bytes]] = []
        while True:
            from_seq = messages[-1][0] + 1 if messages else 0
            page = await stub.ScanExactAtSubject(
                pb.ScanExactAtSubjectRequest(stream=stream, subject=subject, from_seq=from_seq, limit=1_000),
                timeout=CALL_S_MAX,
            )
            assert page.success, page
            messages += [(message.seq, message.payload) for message in page.messages]
            if not page.messages:
                return messages

    async def _drain(self, stub: WaymakerStreamsServiceAsyncStub) -> None:
        while True:
            asked_at = self.log.tick()
            answer = await stub.Fetch(
                pb.FetchRequest(stream=LOG, consumer="reader", batch_size=1_000), timeout=CALL_S_MAX
            )
            if not answer.messages:
                return
            for message in answer.messages:
                self.log.received(message.seq, message.payload, asked_at)
            await asyncio.gather(
                *(self._ack(stub, LOG, "reader", self.log, message.seq) for message in answer.messages)
            )

    def _gather(self) -> None:
        for ledger in (self.log, self.jobs):
            self.broken += ledger.broken
            ledger.broken = []


async def campaign(data_dir: Path, seed: int, rounds: int, *, say: bool = False) -> Campaign:
    """Runs ``rounds`` kills and the final reckoning; stops at the first round that broke a promise."""
    running = Campaign(data_dir, seed)
    began = time.monotonic()
    try:
        for _ in range(rounds):
            await running.run_round()
            if running.broken:
                return running
            if say and running.rounds % 10 == 0:
                confirmed = sum(len(messages) for messages in running.log.confirmed.values())
                took_s = time.monotonic() - began
                print(f"{running.rounds} kills, {confirmed} publishes confirmed, {took_s:.0f} s", file=sys.stderr)
        await running.finish()
    finally:
        running.server.close()
    return running


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--data-dir", type=Path, help="kept afterwards; default: a temporary one, kept on failure")
    options = parser.parse_args()
    data_dir = options.data_dir or Path(tempfile.mkdtemp(prefix="waymaker-kill-")) / "data"
    print(f"seed {options.seed}, directory {data_dir}", file=sys.stderr)
    done = asyncio.run(campaign(data_dir, options.seed, options.rounds, say=True))
    for breach in done.broken:
        print(breach)
    published = sum(len(messages) for messages in done.log.confirmed.values())
    acknowledged = len(done.log.ack_confirmed_at) + len(done.jobs.ack_confirmed_at)
    print(
        f"{done.rounds} kills, {published} publishes and {acknowledged} acknowledgements confirmed: "
        f"{len(done.broken)} promises broken"
    )
    return 1 if done.broken else 0


if __name__ == "__main__":
    sys.exit(main())

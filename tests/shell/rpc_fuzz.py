"""Calls everything the real server offers, and everything it does not, with odd values; it must stay a good server.

``python -m tests.shell.rpc_fuzz --seconds 600 --seed 1`` is the long form; the tests run a few batches. The calls come from
the descriptors: every RPC of the contract, the pipeline and the operator's service, unary and streaming. After each batch a
well-behaved client must be served and memory be within bounds; now and then the server is stopped, and `waymaker check` must
find nothing in what it leaves.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from tests.kit.real_server import LAUNCH, RealServer
from tests.kit.rpc_values import BUCKETS, CONSUMERS, KEYS, STREAMS, Values
from tests.kit.wire_client import exposes_internals
from waymaker.server.grpc.rpcs import LATER, STREAMING
from waymaker.server.grpc.services import IN_SESSIONS
from waymaker_proto import admin_pb2, collections_pb2, kv_pb2, pipeline_pb2, sketches_pb2
from waymaker_proto import waymaker_streams_pb2 as pb
from waymaker_proto.collections_pb2_grpc import WaymakerCollectionsServiceStub as CollectionsStub
from waymaker_proto.kv_pb2_grpc import WaymakerKvServiceStub as KvStub
from waymaker_proto.sketches_pb2_grpc import WaymakerSketchesServiceStub as SketchesStub
from waymaker_proto.waymaker_streams_pb2_grpc import WaymakerStreamsServiceStub

CALLS_PER_BATCH: Final = 150
AT_ONCE: Final = 16
CALL_S_MAX: Final = 20.0
STREAM_S: Final = 0.2
"""How long a stream that has no end of its own is listened to."""
ENDLESS: Final = (*STREAMING, "Watch")
"""Streams of answers that have no end of their own."""
GROWTH_MIB_MAX: Final = 500
"""Resident memory beyond that of the idle server: caches, ephemeral messages, and requests of a megabyte at once."""
CONFIG: Final = "log_level = 'error'\n[limits]\nephemeral_bytes_max = 16777216\n"

Code = grpc.StatusCode
ALLOWED: Final = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.RESOURCE_EXHAUSTED,
    Code.UNIMPLEMENTED,
    Code.ABORTED,
}
Metadata = tuple[tuple[str, str | bytes], ...]
METADATA: Final[tuple[Metadata, ...]] = (
    *[()] * 20, (("wmkr-after", "%ff"),), (("wmkr-after", "%00"), ("wmkr-after", "a")), (("wmkr-limit", "-1"),),
    (("wmkr-limit", "9" * 30),), (("wmkr-limit", "18446744073709551616"),), (("wmkr-limit", "1"), ("wmkr-after", "log")),
    (("authorization", "Bearer x"),), (("x-odd-bin", b"\xff\0"),), (("grpc-timeout", "1n"),), (("te", "gzip"),),
)  # fmt: skip
OURS: Final = {Code.CANCELLED, Code.DEADLINE_EXCEEDED}
"""How a stream ends that we turned away from."""
_CLIENT_FIELDS: Final = frozenset(
    ("hello", "calls", "publishes", "acks", "subscribes", "credits", "unsubscribes", "results", "welcome", "closing")
)


def methods() -> dict[str, MethodDescriptor]:
    """Every RPC there is, by its path."""
    files = (
        pb.DESCRIPTOR, pipeline_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR, collections_pb2.DESCRIPTOR, sketches_pb2.DESCRIPTOR,
        kv_pb2.DESCRIPTOR,
    )  # fmt: skip
    found: dict[str, MethodDescriptor] = {}
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                found[f"/{service.full_name}/{method.name}"] = method
    return found


class Fuzz:
    """Batches of odd calls on one server. ``broken`` collects what a good server does not do."""

    def __init__(self, data_dir: Path, seed: int) -> None:
        self.server = RealServer(data_dir, config=CONFIG)
        self.random = random.Random(seed)
        self.values = Values(self.random)
        self.methods = methods()
        self._paths = sorted(self.methods)
        self.broken: list[str] = []
        self.statuses: Counter[str] = Counter()
        self.per_method: Counter[str] = Counter()
        self.batches = 0
        self.idle_mib = 0
        self.peak_mib = 0

    # ------------------------------------------------------------------------------------ batches

    def batch(self, calls: int = CALLS_PER_BATCH) -> None:
        """Odd calls, some at once; then a well-behaved client, and a look at the memory."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self.server.address, options) as channel, ThreadPoolExecutor(AT_ONCE) as threads:
            if not self.idle_mib:
                self.idle_mib = self._memory_mib("VmRSS")
            self._furnish(channel)
            planned = [self._planned() for _ in range(calls)]
            running = [
                threads.submit(self._call, channel, path, requests, self.random.choice(METADATA))
                for path, requests in planned
            ]
            for one in running:
                one.result()
            self._well_behaved(channel)
        self.batches += 1
        self.peak_mib = max(self.peak_mib, self._memory_mib("VmHWM"))
        if self.peak_mib - self.idle_mib > GROWTH_MIB_MAX:
            self.broken.append(f"memory grew from {self.idle_mib} to {self.peak_mib} MiB")

    def _planned(self) -> tuple[str, list[bytes]]:
        path = self.random.choice(self._paths)
        if self.methods[path].name in LATER and self.random.random() < 0.8:
            path = self.random.choice(self._paths)
        if self.random.random() < 0.1:
            path = "/waymaker.pipeline.WaymakerPipelineService/Session"
        method = self.methods[path]
        if path.endswith("/Session"):
            return path, self._session_frames()
        count = self.random.choice((1, 1, 2, 5)) if method.client_streaming else 1
        if self.random.random() < 0.01:
            count = self.random.choice((0, 2))
        return path, [self.values.request(method.input_type) for _ in range(count)]

    def _session_frames(self) -> list[bytes]:
        frames: list[bytes] = []
        if self.random.random() < 0.95:
            frames.append(
                pipeline_pb2.Frame(
                    hello=pipeline_pb2.Hello(version=self.random.choice((1, 1, 1, 0, 7)))
                ).SerializeToString()
            )
        unary = [method for method in self.methods.values() if method.name in IN_SESSIONS]
        for number in range(self.random.choice((1, 2, 4))):
            frame = self.values.request(pipeline_pb2.Frame.DESCRIPTOR, _CLIENT_FIELDS)
            good = pipeline_pb2.Frame()
            for place in range(self.random.randrange(4)):
                method = self.random.choice(unary)
                name = self.random.choice((method.name, method.name, method.name, "", "__init__"))
                request = self.values.request(method.input_type)
                good.calls.add(id=1_000 + 100 * number + place, method=name, request=request)
            frames.append(good.SerializeToString() + (frame if self.random.random() < 0.7 else b""))
        return frames

    # ------------------------------------------------------------------------------------ one call

    def _call(self, channel: grpc.Channel, path: str, requests: list[bytes], metadata: Metadata) -> None:
        method = self.methods[path]
        endless = method.name in ENDLESS
        answers: list[bytes] = []
        code, details = Code.OK, ""
        open_call: Any = channel.stream_stream(path)
        try:
            timeout_s = STREAM_S if endless else CALL_S_MAX
            answers.extend(open_call(_sent(requests, endless), timeout=timeout_s, metadata=metadata))
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
        self.per_method[method.name] += 1
        self.statuses[code.name] += 1
        problem = self._problem(method, endless, code, details, answers)
        if problem:
            sent = " ".join(request.hex()[:2_000] for request in requests)
            self.broken.append(f"{path}: {problem}; request {sent}")

    def _problem(self, method: MethodDescriptor, endless: bool, code: Code, details: str, answers: list[bytes]) -> str:
        """What is wrong with how a call ended, or an empty text."""
        if code not in ALLOWED and not (endless and code in OURS):
            return f"{code.name}: {details}"
        if exposes_internals(details):
            return f"internals in {details!r}"
        if method.name in LATER and (code is not Code.UNIMPLEMENTED or answers):
            return f"{code.name}, and the call is not offered"
        answer_class = GetMessageClass(method.output_type)
        for answer in answers:
            try:
                message: Any = answer_class.FromString(answer)
            except DecodeError:
                return f"an answer that is no {method.output_type.name}: {answer.hex()[:200]}"
            if (
                exposes_internals(str(getattr(message, "message", "")))
                or getattr(message, "result_code", "") == "internal"
            ):
                return f"internals in {message}"[:2_000]
            for item in (
                *getattr(message, "results", ()),
                *getattr(message, "published", ()),
                *getattr(message, "acked", ()),
            ):
                if item.HasField("refused") and item.refused.status not in {c.value[0] for c in ALLOWED}:
                    return f"refused in a session: {item.refused}"
        return ""

    # ------------------------------------------------------------------------------------ good clients

    def _furnish(self, channel: grpc.Channel) -> None:
        """Streams and consumers for the odd calls to meet; those of before may be there, changed or gone."""
        stub = WaymakerStreamsServiceStub(channel)
        retentions = {"jobs": pb.Retention(work_queue=pb.WorkQueueRetention())}
        for bucket in BUCKETS:
            config = pb.StreamConfigPb(name=f"obj:{bucket}")
            stub.CreateStream(pb.CreateStreamRequest(config=config), timeout=CALL_S_MAX)
            for name in (*STREAMS, *CONSUMERS):
                put = pb.PutObjectRequest(bucket=bucket, name=name, payload=b"payload of an object", chunk_size=7)
                stub.PutObject(put, timeout=CALL_S_MAX)
        self._furnish_keys(channel)
        self._furnish_stores(channel)
        for name in STREAMS:
            config = pb.StreamConfigPb(
                name=name,
                retention=retentions.get(name),
                block_size=10 if name == "odd" else 0,
                ephemeral=name == "mem",
            )
            stub.CreateStream(pb.CreateStreamRequest(config=config), timeout=CALL_S_MAX)
            for consumer in CONSUMERS:
                wanted = pb.ConsumerConfigPb(
                    name=consumer, ack_wait_ms=100, max_deliver=2, dead_letter_subject="dead.letters"
                )
                stub.CreateConsumer(pb.CreateConsumerRequest(stream=name, config=wanted), timeout=CALL_S_MAX)
            for place in range(5):
                request = pb.PublishRequest(stream=name, subject="a.b", payload=b"%d" % place)
                stub.Publish(request, timeout=CALL_S_MAX)

    def _furnish_keys(self, channel: grpc.Channel) -> None:
        """Make a bucket of keys, and put values under the keys that odd requests mean most, some of which soon end."""
        stub = KvStub(channel)
        for bucket in BUCKETS:
            stub.CreateBucket(pb.KvCreateBucketRequest(bucket=bucket, max_bytes=1 << 20), timeout=CALL_S_MAX)
            for place, key in enumerate(KEYS[:4]):
                try:
                    put = pb.KvPutRequest(bucket=bucket, key=key, value=b"value of a key", ttl_ms=100 * (place % 2))
                    stub.Put(put, timeout=CALL_S_MAX)
                except grpc.RpcError as error:
                    if error.code() is not Code.RESOURCE_EXHAUSTED:
                        raise  # an odd call may have made the bucket, with other bounds, or filled it

    def _furnish_stores(self, channel: grpc.Channel) -> None:
        """Make stores and a sketch of the name that odd requests mean most, and put something in."""
        collections, sketches = CollectionsStub(channel), SketchesStub(channel)
        for bucket in BUCKETS:
            collections.CreateHashStore(pb.CreateHashStoreRequest(name=bucket), timeout=CALL_S_MAX)
            collections.CreateSetStore(pb.CreateSetStoreRequest(name=bucket), timeout=CALL_S_MAX)
            collections.CreateQueue(pb.CreateQueueRequest(name=bucket), timeout=CALL_S_MAX)
            for name in (*STREAMS, *CONSUMERS):
                put = pb.HashSetRequest(bucket=bucket, hash_key=name, field=name, value=b"value")
                collections.HashSet(put, timeout=CALL_S_MAX)
                collections.QueuePush(pb.QueuePushRequest(bucket=bucket, value=b"value"), timeout=CALL_S_MAX)
        kinds = (
            sketches_pb2.SketchParameters(hyperloglog=sketches_pb2.HyperLogLogParameters(precision=4)),
            sketches_pb2.SketchParameters(t_digest=sketches_pb2.TDigestParameters(compression=20)),
            sketches_pb2.SketchParameters(top_k=sketches_pb2.TopKParameters(k=3, error_ppb=10**8, failure_ppb=10**8)),
            sketches_pb2.SketchParameters(bloom=sketches_pb2.BloomParameters(capacity=9, error_ppb=10**8)),
        )
        for name, parameters in zip(STREAMS, kinds, strict=True):
            sketches.CreateSketch(
                sketches_pb2.CreateSketchRequest(name=name, parameters=parameters), timeout=CALL_S_MAX
            )  # fmt: skip

    def _well_behaved(self, channel: grpc.Channel) -> None:
        """Somebody who does everything right is served, and quickly."""
        stub = WaymakerStreamsServiceStub(channel)
        name, payload = f"good-{self.batches}", b"payload %d" % self.batches
        began = time.monotonic()
        try:
            created = stub.CreateStream(pb.CreateStreamRequest(config=pb.StreamConfigPb(name=name)), timeout=CALL_S_MAX)
            published = stub.Publish(pb.PublishRequest(stream=name, subject="a", payload=payload), timeout=CALL_S_MAX)
            read = stub.ReadLatestAtSubject(pb.ReadLatestAtSubjectRequest(stream=name, subject="a"), timeout=CALL_S_MAX)
            deleted = stub.DeleteStream(pb.DeleteStreamRequest(name=name), timeout=CALL_S_MAX)
        except grpc.RpcError as error:
            self.broken.append(
                f"a well-behaved client got {error.code()}: {error.details()}\n{self.server.log_tail(20)}"
            )
            return
        if not (created.success and published.seq == 1 and read.latest.payload == payload and deleted.success):
            self.broken.append(f"a well-behaved client got {created} {published} {read} {deleted}")
        if time.monotonic() - began > 5:
            self.broken.append(f"a well-behaved client waited {time.monotonic() - began:.1f} s")

    # ------------------------------------------------------------------------------------ the process

    def check(self) -> None:
        """Stop the server in order and verify what it leaves."""
        code = self.server.terminate()
        if code != 0:
            self.broken.append(f"the server ended with {code}: {self.server.log_tail(20)}")
        command = [sys.executable, "-c", LAUNCH, "check", str(self.server.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            self.broken.append(f"waymaker check: {done.stdout[-2_000:]} {done.stderr[-500:]}")
        if "Traceback" in self.server.log_tail(2_000):
            self.broken.append(f"the log holds a traceback: {self.server.log_tail(40)}")

    def _memory_mib(self, name: str) -> int:
        text = Path(f"/proc/{self.server.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith(name)).split()[1]) >> 10


def _sent(requests: list[bytes], endless: bool) -> Iterator[bytes]:
    yield from requests
    if endless and len(requests) > 1:
        time.sleep(STREAM_S / 2)  # answers of a session come while it is open


def run(data_dir: Path, seed: int, seconds: float, batches_max: int | None = None, *, say: bool = False) -> Fuzz:
    """Fuzz for as long as that; stops at the first batch that broke something."""
    fuzz = Fuzz(data_dir, seed)
    began = time.monotonic()
    fuzz.server.start()
    try:
        while True:
            fuzz.batch()
            over = time.monotonic() - began > seconds or fuzz.batches == batches_max
            if fuzz.batches % 20 == 0 or over or fuzz.broken:
                fuzz.check()
                if over or fuzz.broken:
                    return fuzz
                fuzz.server.start()
                if say:
                    took_s = time.monotonic() - began
                    print(
                        f"{sum(fuzz.statuses.values())} calls, {took_s:.0f} s, peak {fuzz.peak_mib} MiB",
                        file=sys.stderr,
                    )
    finally:
        fuzz.server.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    data_dir = Path(tempfile.mkdtemp(prefix="waymaker-rpc-fuzz-")) / "data"
    print(f"seed {options.seed}, directory {data_dir}", file=sys.stderr)
    fuzz = run(data_dir, options.seed, options.seconds, say=True)
    for problem in fuzz.broken:
        print(problem)
    print(
        f"{sum(fuzz.statuses.values())} calls in {fuzz.batches} batches, {len(fuzz.per_method)} RPCs, "
        f"memory {fuzz.idle_mib} to {fuzz.peak_mib} MiB: {len(fuzz.broken)} problems\n{dict(fuzz.statuses)}"
    )
    return 1 if fuzz.broken else 0


if __name__ == "__main__":
    sys.exit(main())

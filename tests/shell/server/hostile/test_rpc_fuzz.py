"""A short, seeded run of the RPC fuzzer, and that its calls are as odd, and as plausible, as they are meant to be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from google.protobuf.message import DecodeError

from tests.kit.rpc_values import Values
from tests.shell import rpc_fuzz
from waymaker.server.grpc.kv_rpcs import KV_RPCS
from waymaker.server.grpc.rpcs import LATER, OBJECTS, STREAMING, UNARY
from waymaker_proto import waymaker_streams_pb2 as pb


@pytest.mark.process
@pytest.mark.slow
def test_odd_calls_leave_a_good_server(tmp_path: Path) -> None:
    fuzz = rpc_fuzz.run(tmp_path / "d", seed=20, seconds=8, batches_max=2)
    assert fuzz.broken == []
    assert fuzz.statuses["OK"] > 20
    assert fuzz.statuses["INVALID_ARGUMENT"] > 10
    assert len(fuzz.per_method) > 30


def test_every_rpc_of_every_service_is_called() -> None:
    methods = rpc_fuzz.methods()
    assert {*UNARY, *STREAMING, *OBJECTS, *LATER} == {
        m.name for p, m in methods.items() if "WaymakerStreamsService" in p
    }
    assert len(methods) == 98
    assert {m.name for p, m in methods.items() if "WaymakerKvService" in p} == {*KV_RPCS, "Watch"}


def test_requests_are_the_same_for_the_same_seed_and_odd_in_many_ways() -> None:
    values, same = Values(Random(3)), Values(Random(3))
    found: Counter[str] = Counter()
    for _ in range(400):
        data = values.request(pb.CreateStreamRequest.DESCRIPTOR)
        assert data == same.request(pb.CreateStreamRequest.DESCRIPTOR)
        try:
            request = pb.CreateStreamRequest.FromString(data)
        except DecodeError:
            found["no message"] += 1
            continue
        found["unknown fields"] += len(request.SerializeToString()) != len(data)
        found["extreme numbers"] += request.config.max_msg_bytes >= 1 << 62
        found["a policy"] += request.config.retention.WhichOneof("policy") is not None
        found["a known name"] += request.config.name == "log"
    assert all(count > 1 for count in found.values()), found
    assert len(found) == 5

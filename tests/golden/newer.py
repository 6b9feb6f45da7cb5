"""What golden directories hold since format 2: streams of services, and a replica with facts, an adopted snapshot and a suffix.

Each has a life that makes it and a story that says what clients see of it, as plain values.
"""

from __future__ import annotations

from array import array

from tests.kit import collections_play as play
from tests.kit.kv_kit import Bucket
from tests.kit.node_kit import Server
from tests.kit.object_kit import BUCKET, Store
from tests.kit.transfer_kit import Peer, Transfer
from waymaker_core.api import kv_requests as kv
from waymaker_core.api import requests as rq
from waymaker_core.api import sketch_requests as sq
from waymaker_core.api.inputs import Append, Cut, Enrol, Promise, Replicated, SentRecord
from waymaker_core.model.config import SourceConfig, StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_core.model.records import PublishRecord
from waymaker_core.storage import record_codec

HASH, QUEUE, SKETCH = "hash:fleet", "queue:work", "sketch:visitors"
SERVICES = ("kv:limits", BUCKET, HASH, QUEUE, SKETCH, "copies")


def create_services(server: Server) -> None:
    """Create a stream of every service, and one that another copies."""
    for name, settings in ((HASH, b""), (QUEUE, b""), (SKETCH, b"hyperloglog.10"), (BUCKET, b"")):
        server.ok(rq.CreateStream(StreamConfig(name, block_size=10, service_settings=settings)))
    server.create("original")
    server.ok(rq.CreateStream(StreamConfig("copies", block_size=10, sources=(SourceConfig("original"),))))
    server.ok(kv.KvCreateBucket("limits", history=3))


def serve(server: Server) -> None:
    """A life with something of every layer, part of it in checkpoints and part of it in the journal only."""
    create_services(server)
    bucket, store = Bucket.of(server, "limits"), Store(server)
    for number in range(30):
        bucket.put(f"speed.{number % 7}", b"%d km/h" % number)
        play.put(server, HASH, "truck", {f"wheel{number % 5}": b"%d bar" % number})
        server.ok(play.push_request(QUEUE, b"job %d" % number))
        server.ok(sq.AddToSketch(SKETCH, [b"visitor %d" % (number % 20)]))
        store.put(f"photo{number % 3}", b"chunk %d" % number * 20, b"the end")
        server.publish("original", b"message %d" % number)
    bucket.delete("speed.1")
    play.remove(server, HASH, "truck", "wheel4")
    store.delete("photo1")
    play.pop(server, QUEUE, 4)


def services_story(server: Server) -> dict[str, object]:
    """All messages of every service's stream, and what each service says of its state."""
    keys = server.ok(kv.KvKeys("limits"))
    info = server.ok(sq.GetSketchInfo(SKETCH))
    snapshot = server.ok(sq.GetSketchSnapshot(SKETCH))
    assert isinstance(keys, rq.Page) and isinstance(info, sq.SketchInfo) and isinstance(snapshot, bytes)
    store = Store(server)
    return {
        "messages": {name: [[seq, payload.hex()] for seq, _, payload in server.all(name)] for name in SERVICES},
        "keys": [[entry.key, entry.revision, entry.deleted] for entry in keys.entries if isinstance(entry, kv.KvKey)],
        "fields": play.fields(server, HASH, "truck"),
        "sketch": [info.parameters, info.added, snapshot.hex()],
        "objects": [[name, [chunk.decode() for chunk in store.get(name)]] for name in store.names()],
    }


# ---------------------------------------------------------------- replicas


def _sent(first_seq: int, payload: bytes) -> SentRecord:
    body, size = encode_body("a.sent", (), payload, Limits())
    columns = array("q", [1_700_000_500_000]), array("I", [size]), array("I", [len(body)])
    record = PublishRecord(first_seq, *columns, ["a.sent"])
    return SentRecord(PublishRecord.KIND, record_codec.version_of(record), record_codec.encode(record), body)


def follow(limits: Limits) -> Peer:
    """Return a replica that adopted a snapshot, obeys an epoch, cut its log, and has a record that may not be committed."""
    donor, follower = Peer(limits, replicated=True), Peer(limits, replicated=True)
    for peer in (donor, follower):
        peer.create("s", block_size=10)
        peer.create("busy", max_msgs=50, block_size=20)
    donor.consumer("s", "reader", ack_wait_ms=600_000)
    for number in range(45):
        donor.publish("s", b"message %d" % number * 4, subject=f"a.{number % 4}")
    donor.ack(*[seq for seq, _, _ in donor.fetch("s", "reader", 9)][::2], consumer="reader")
    follower.step_down()
    stream_id = follower.replica().id
    follower.step(Promise(1, [stream_id], 5), Enrol(2, stream_id, 3, 5))
    assert not Transfer(donor, follower).run().problem
    for _ in range(30):
        follower.publish("busy", bytes(300))
    log, stream = follower.replica().log, follower.replica().stream
    follower.step(Append(3, stream_id, log.end + 1, [_sent(stream.last_seq + 1, b"never committed")]))
    follower.step(Cut(4, stream_id, log.end - 1))
    follower.step(Append(5, stream_id, log.end + 1, [_sent(stream.last_seq + 1, b"committed")]))
    follower.step(Replicated(stream_id, log.end))
    follower.step(Append(6, stream_id, log.end + 1, [_sent(stream.last_seq + 1, b"durable")]))
    follower.pass_ms(1_000)
    return follower


def replica_story(peer: Server) -> dict[str, object]:
    """What a start finds: messages, the consumer, the promise and the membership."""
    facts = peer.node._facts.found
    stream_id = peer.log_id("s")
    info = peer.info("s", "reader")
    return {
        "messages": [[seq, payload.decode()] for seq, _, payload in peer.all("s")],
        "reader": [info.ack_floor, info.pending],
        "promise": facts.promises[stream_id],
        "membership": list(facts.replicas[stream_id]),
    }

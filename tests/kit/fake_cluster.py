"""Members of a cluster as the client's tests need them: fake servers that share their streams, and say which one serves what.

`serves` names the member of each topic: a stream's name, or "" for the catalog; 0: none. A member that is asked about another
one's topic refuses by name. Publishes with numbers are stored once, and a lower epoch of a producer is refused, as streams do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.kit.client_fake_server import FakeServer, Session
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

CATALOG = ""
_OF_CATALOG = ("CreateStream", "DeleteStream", "ListStreams")


class FakeMember(FakeServer):
    """One member."""

    def __init__(self, cluster: FakeCluster, node_id: int) -> None:
        super().__init__()
        self.cluster = cluster
        self.node_id = node_id
        self.streams = cluster.streams
        self.welcome.producer_spans_max = 64
        self.asked: list[str] = []
        """The topics of all that came, served or not."""
        self.says: dict[str, int] = {}
        """Topics of which this member holds another one to serve them."""

    def handle(self, session: Session, frame: pl.Frame) -> None:
        """Serve a frame, without what is served elsewhere."""
        refused = pl.Frame()
        if frame.HasField("hello"):
            session.producer = frame.hello.producer_id, frame.hello.producer_epoch  # type: ignore[attr-defined]
        for batch in self._elsewhere(frame.publishes, lambda batch: batch.stream):
            refused.published.add(id=batch.id, refused=self.refusal(batch.stream))
        for ack in self._elsewhere(frame.acks, lambda ack: ack.stream):
            refused.acked.add(id=ack.id, refused=self.refusal(ack.stream))
        for call in self._elsewhere(frame.calls, _topic_of):
            refused.results.add(id=call.id, refused=self.refusal(_topic_of(call)))
        for subscribe in self._elsewhere(frame.subscribes, lambda subscribe: subscribe.stream):
            refused.ended.add(subscription=subscribe.id, refused=self.refusal(subscribe.stream))
        if refused.ByteSize():
            session.send(refused)
        for batch in frame.publishes:
            batch.producer_epoch = max(batch.producer_epoch, session.producer[1])  # type: ignore[attr-defined]
        super().handle(session, frame)

    def _elsewhere(self, items: Any, topic_of: Any) -> list[Any]:
        """Take out the items that another member serves."""
        self.asked += map(topic_of, items)
        away = [item for item in items if self.cluster.serves.get(topic_of(item), 1) != self.node_id]
        here = [item for item in items if self.cluster.serves.get(topic_of(item), 1) == self.node_id]
        del items[:]
        items.extend(here)
        return away

    def refusal(self, topic: str) -> pl.Refused:
        """Return what this member says to a question about another one's topic."""
        node_id = self.says.get(topic, self.cluster.serves.get(topic, 1))
        if not node_id:
            return pl.Refused(status=14, message="no node leads it", outcome="not-applied")
        address = self.cluster.members[node_id].target
        place = pl.Elsewhere(node_id=node_id, address=address, epoch=1)
        return pl.Refused(status=14, message=f"it is at {address}", outcome="not-applied", elsewhere=place)

    def publish(self, batch: pl.PublishBatch) -> pl.Published:
        """Store what is not stored yet, and answer for all."""
        reply = pl.Published(id=batch.id, result_code="ok")
        heard = self.cluster.epochs.get(batch.stream, 0)
        if batch.numbers and batch.producer_epoch < heard:
            for index in range(len(batch.payloads)):
                reply.failures.add(index=index, result_code="producer_fenced", message="a newer session publishes")
            return reply
        self.cluster.epochs[batch.stream] = max(heard, batch.producer_epoch)
        first = batch.numbers[0] if batch.numbers else 0
        messages = self.streams[batch.stream].messages
        for index, payload in enumerate(batch.payloads):
            number = batch.numbers[index] if len(batch.numbers) > 1 else first + index
            seq = self.cluster.numbers.get((batch.stream, number))
            if seq is None or not first:
                messages.append(("a", [], payload, 1_000))
                seq = self.cluster.numbers[batch.stream, number] = len(messages)
            reply.stored.add(first=seq, last=seq)
        reply.count = len(batch.payloads)
        return reply


def _topic_of(call: pl.Call) -> str:
    if call.method in _OF_CATALOG:
        return CATALOG
    if call.method == "GetStreamInfo":
        return pb.GetStreamInfoRequest.FromString(call.request).name
    return pb.FetchRequest.FromString(call.request).stream


class FakeCluster:
    """The members, and what they share."""

    def __init__(self, count: int = 3) -> None:
        self.streams: dict[str, Any] = {}
        self.serves: dict[str, int] = {}
        self.numbers: dict[tuple[str, int], int] = {}
        self.epochs: dict[str, int] = {}
        self.members = {node_id: FakeMember(self, node_id) for node_id in range(1, count + 1)}

    @property
    def targets(self) -> list[str]:
        """Return the members' addresses."""
        return [member.target for member in self.members.values()]

    async def start(self, node_id: int) -> None:
        """Start a member, at the port that it had."""
        member = self.members[node_id]
        await member.start(member.port)
        self._introduce()

    def _introduce(self) -> None:
        for node_id, member in self.members.items():
            del member.welcome.members[:]
            member.welcome.node_id = node_id
            for other_id, other in self.members.items():
                member.welcome.members.add(node_id=other_id, address=other.target)

    def payloads(self, stream: str) -> list[bytes]:
        """Return what a stream holds."""
        return [message[2] for message in self.streams[stream].messages]


@asynccontextmanager
async def fake_cluster(count: int = 3) -> AsyncIterator[FakeCluster]:
    """Run members for the length of a block."""
    cluster = FakeCluster(count)
    async with AsyncExitStack() as stack:
        for node_id, member in cluster.members.items():
            await cluster.start(node_id)
            stack.push_async_callback(member.stop)
        yield cluster

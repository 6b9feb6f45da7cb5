"""Members of a cluster for tests: nodes on disks in memory, and the bytes of one's logs appended to the others.

No protocol runs here. A test says who leads, and `Cluster.copy` stands for replication: it sends the records of a log as
`Node.sent_records` gives them, and tells all nodes that a majority has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tests.kit.node_kit import SMALL, Server, publish, stream_config
from tests.kit.store_disk import MemoryDisk
from waymaker_core.api.cluster_requests import OpenAuthority
from waymaker_core.api.effects import ConfChanged, Confirm, Effect, Placed, Replicate
from waymaker_core.api.inputs import Append, Input, Lead, Replicated, SentRecord, StepDown
from waymaker_core.api.requests import CreateStream, Request
from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import Answer
from waymaker_core.model.types import CATALOG
from waymaker_core.node.stream_log import StreamLog

EVERYTHING = 1 << 40
"""More bytes than any test has."""


class Member(Server):
    """A node of a cluster. Questions about who leads are confirmed at once; no log has a majority before the test says so."""

    def __init__(
        self,
        node_id: int,
        nodes: Sequence[int],
        limits: Limits = SMALL,
        disk: MemoryDisk | None = None,
        factor: int = 3,
    ) -> None:
        self.node_id = node_id
        self.nodes = tuple(nodes)
        self.factor = factor
        self.conf_changes: list[int] = []
        self.placed: list[Placed] = []
        """Effects that let other replicas have records by now."""
        super().__init__(limits, disk, replicated=True)

    def open(self) -> None:
        identity = bytes([self.node_id]) * 16
        self.config = replace(
            self.config, node_id=self.node_id, identity=identity, member=True, members=self.nodes,
            replication_factor=self.factor,
        )  # fmt: skip
        self.conf_changes = []
        super().open()

    def perform(self, effect: Effect) -> list[Input]:
        if isinstance(effect, Placed):
            self.placed.append(effect)
            return []
        if isinstance(effect, Replicate):
            self.asked.append(effect)
            return []
        if isinstance(effect, Confirm) and not self.leads(effect.stream_id):
            raise AssertionError("a node that does not lead a log asks who does")
        if isinstance(effect, ConfChanged):
            self.conf_changes.append(effect.stream_id)
            return []
        return super().perform(effect)

    def leads(self, stream_id: int) -> bool:
        return next(each.leads for each in self.node.log_figures() if each.stream_id == stream_id)

    def log(self, stream_id: int = CATALOG) -> StreamLog:
        log = self.node._state.find_log(stream_id)
        assert log is not None
        return log

    def records(self, stream_id: int = CATALOG, first: int = 1) -> list[SentRecord]:
        """Return the records of a log in memory from a position on."""
        found = self.node.sent_records(stream_id, first, EVERYTHING)
        return [] if found is None else found

    def commit(self, stream_id: int = CATALOG) -> None:
        """Tell this node alone that a majority has its log."""
        self.step(Replicated(stream_id, self.log(stream_id).durable))


class Cluster:
    """Some members. Node 1 leads the catalog when it is made, in term 1."""

    def __init__(self, size: int = 3, limits: Limits = SMALL, factor: int = 3) -> None:
        nodes = range(1, size + 1)
        self.members = [Member(node, nodes, limits, factor=factor) for node in nodes]
        self._asks = 1_000_000
        self.leader = self.members[0]
        self.lead_catalog(self.leader, 1)

    def lead_catalog(self, member: Member, term: int) -> None:
        """Let a member lead the catalog in a term, and all others follow it."""
        for each in self.members:
            if each is not member:
                each.step(StepDown(CATALOG))
        self.leader = member
        member.step(Lead(CATALOG, term))
        self.copy(member)

    def lead(self, member: Member, stream_id: int, epoch: int) -> None:
        """Let a member lead a stream, whose log on it is committed and applied."""
        member.step(Lead(stream_id, epoch))
        self.copy(member, stream_id)

    def copy(self, member: Member, stream_id: int = CATALOG, to: Iterable[Member] | None = None) -> None:
        """Send what a member has of a log and others do not, and commit it everywhere, until nothing is left."""
        others = [each for each in (self.members if to is None else to) if each is not member]
        for _ in range(10):
            before = member.log(stream_id).end
            for each in others:
                self.send(member, each, stream_id)
            for each in [member, *others]:
                each.step(Replicated(stream_id, before))
            if member.log(stream_id).end == before:
                return
        raise AssertionError("the log does not come to rest")

    def send(self, member: Member, other: Member, stream_id: int = CATALOG) -> None:
        """Append to another member's log what it lacks of this one's; it must keep it."""
        log = other.node._state.find_log(stream_id)
        first = 1 if log is None else log.end + 1
        if first > member.log(stream_id).end:
            return
        records = member.node.sent_records(stream_id, first, EVERYTHING)
        assert records is not None, f"record {first} is not in memory any more"
        self._asks += 1
        other.step(Append(self._asks, stream_id, first, records))
        assert self._asks in other.kept, other.declined.get(self._asks)

    def call(self, request: Request) -> object:
        """Ask the node that leads the catalog, let that be committed, and return the value of its answer, which is ok."""
        token = self.leader.ask(request)
        self.copy(self.leader)
        answer = self.leader.replies[token]
        assert isinstance(answer, Answer) and answer.code == "ok", answer
        return answer.value

    def code(self, request: Request) -> str:
        """Ask the node that leads the catalog; return the code of its answer."""
        token = self.leader.ask(request)
        self.copy(self.leader)
        answer = self.leader.replies[token]
        assert isinstance(answer, Answer), answer
        return answer.code

    def create(self, name: str = "s", **settings: object) -> int:
        """Create a stream; its id."""
        self.call(CreateStream(stream_config(name, **settings)))
        return self.leader.log_id(name)

    def primary(self, stream_id: int) -> Member:
        """Return the member that the newest claim of a stream names."""
        conf = self.leader.node.conf(stream_id)
        assert conf is not None
        return self.members[conf.newest.primary - 1]

    def serve(self, name: str = "s", **settings: object) -> tuple[int, Member]:
        """Create a stream, open its claim, and let its primary lead it."""
        stream_id = self.create(name, **settings)
        member = self.primary(stream_id)
        conf = self.leader.node.conf(stream_id)
        assert conf is not None
        self.call(OpenAuthority(stream_id, conf.newest.epoch))
        self.lead(member, stream_id, conf.newest.epoch)
        return stream_id, member

    def publish(self, member: Member, stream_id: int, *payloads: bytes, name: str = "s") -> None:
        """Publish on the member that leads a stream, and let that be committed."""
        token = member.ask(publish(name, *[("a", payload) for payload in payloads]))
        self.copy(member, stream_id)
        answer = member.replies[token]
        assert isinstance(answer, Answer) and answer.code == "ok", answer

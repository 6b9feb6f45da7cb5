"""A tiny layer for tests of what all layers stand on: it keeps the sums that facts name, and counts the messages it saw."""

from __future__ import annotations

from collections.abc import Sequence

from tests.kit.node_kit import Server
from waymaker_core.layers.decide import Draft, decide_draft
from waymaker_core.layers.layer import Layer, LayerDecision, fact_of, messages_of
from waymaker_core.layers.overlay import LayerOverlay
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_core.model.records import LayerRecord, StreamRecord
from waymaker_core.model.types import Now, StreamId
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.errors import CorruptRecord
from waymaker_core.stream.stream import Stream

KIND = 5


class Tally:
    """Sums by name. A fact is `name=number`; a sum of 100 or more is due at once, and decided to be 0 with a message."""

    kind = KIND

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.sums: dict[str, int] = {}
        self.seen = 0
        self.overlay: LayerOverlay[str, int] = LayerOverlay()

    def apply(self, record: StreamRecord) -> None:
        self.overlay.commit(record)
        messages = messages_of(record)
        self.seen += 0 if messages is None else len(messages.subjects)
        fact = fact_of(record, KIND)
        if fact is not None:
            name, _, number = fact.decode().partition("=")
            if not number.isdecimal():
                raise CorruptRecord("not a sum")
            self.sums[name] = int(number)

    def discard_uncommitted(self) -> None:
        self.overlay.discard()

    def has_staged(self) -> bool:
        return bool(self.overlay)

    def sum_of(self, name: str) -> int:
        staged = self.overlay.get(name)
        return self.sums.get(name, 0) if staged is None else staged

    def next_due(self, now: Now) -> int | None:
        return now.mono_ns if self._due() else None

    def _due(self) -> list[str]:
        return [name for name in self.sums if self.sum_of(name) >= 100]

    def decide_due(self, now: Now) -> LayerDecision | None:
        due = self._due()
        return self.decide(due[0], 0, now.wall_ms, b"full") if due else None

    def decide(
        self, name: str, number: int, wall_ms: int, *payloads: bytes, drops: Sequence[int] = ()
    ) -> LayerDecision:
        bodies = [encode_body(name, (), payload, Limits())[0] for payload in payloads]
        facts = [(KIND, f"{name}={number}".encode())]
        sizes = list(map(len, payloads))
        record = decide_draft(self.stream, Draft([name] * len(sizes), sizes, bodies, drops, facts), wall_ms)
        self.overlay.stage(record, {name: number})
        return LayerDecision(record, bodies, number)

    def snapshot(self) -> object:
        return [1, list(self.sums), list(self.sums.values()), self.seen]

    def restore(self, snapshot: object) -> None:
        match snapshot:
            case [1, list(names), list(sums), int(seen)] if all(isinstance(name, str) for name in names):
                self.sums, self.seen = dict(zip(names, sums, strict=True)), seen
            case _:
                raise CorruptRecord("not sums")

    def import_facts(self, snapshot: object) -> list[bytes]:
        trial = Tally(self.stream)
        trial.restore(snapshot)
        return [f"{name}={number}".encode() for name, number in trial.sums.items()]

    def check(self) -> None:
        assert self.seen >= self.stream.count


def tallies(stream: Stream) -> list[Layer]:
    """Give a hash store the layer."""
    return [Tally(stream)] if stream.config.name.startswith("hash:") else []


def replica_of(server: Server, name: str = "hash:s") -> StreamReplica:
    return server.node._state.replicas[StreamId(server.log_id(name))]


def tally_of(server: Server, name: str = "hash:s") -> Tally:
    layer = replica_of(server, name).layers.by_kind[KIND]
    assert isinstance(layer, Tally)
    return layer


def decide(server: Server, name: str, number: int, *payloads: bytes, drops: Sequence[int] = ()) -> LayerRecord:
    """Decide as a handler would, without the step that commits; return the record."""
    decision = tally_of(server).decide(name, number, server.wall_ms, *payloads, drops=drops)
    assert isinstance(decision.record, LayerRecord)
    committing = server.node._committing
    bound = committing.admit(replica_of(server), len(payloads), sum(map(len, decision.parts)))
    committing.add_decided(replica_of(server), decision.record, decision.parts, bound)
    return decision.record

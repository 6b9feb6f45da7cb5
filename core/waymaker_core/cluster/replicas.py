"""The replicas of this node's streams: each input finds its replica, and what replicas want finds its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from waymaker_core.api.effects import Confirm, RecordsRead, Replicate
from waymaker_core.api.inputs import Append, Cut, EndReading, Enrol, Promise
from waymaker_core.api.inputs import Input as NodeInput
from waymaker_core.catalog.authority import Claim as CatalogClaim
from waymaker_core.catalog.authority import Conf as CatalogConf
from waymaker_core.cluster.deadlines import Deadlines
from waymaker_core.cluster.peer_messages import ClaimWanted, OfReplica, OpenWanted
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.cluster.stream_source import StreamSource
from waymaker_core.model.types import CATALOG
from waymaker_core.node.node import Node
from waymaker_core.replication.conf import Claim, Conf, Seat
from waymaker_core.replication.effects import Effect, GiveUp, NoteDoubt, ProposeOpened, Send, SnapshotNeeded
from waymaker_core.replication.inputs import ConfChanged, Declined, Input, Kept, Question, Received, Written
from waymaker_core.replication.inputs import RecordsRead as Read
from waymaker_core.replication.replica import Replica
from waymaker_core.replication.state import NEVER, Known

ANY_DIRECTORY: Final = 0
"""The directory of every seat, as long as the catalog does not say which one counts."""


class Replicas:
    """All replicas on this node, by stream. `out`, `wishes` and `node_inputs` are what they want."""

    def __init__(self, node: Node, settings: MemberSettings, take_ask: Callable[[], int]) -> None:
        self._node = node
        self._settings = settings
        self._take_ask = take_ask
        self._replicas: dict[int, Replica] = {}
        self._asked: dict[int, int] = {}
        """By number that the node will answer: the stream that asked."""
        self._deadlines = Deadlines()
        self._anew: dict[int, None] = {}
        """Streams that the catalog gives to this node, and that it cannot lead: it has stopped in their epoch."""
        self._preferred: dict[int, tuple[int, int]] = {}
        """By stream whose claim was given up: its epoch, and the node that can lead."""
        self._wish_at = 0
        self.out: list[tuple[int, OfReplica]] = []
        self.wishes: list[OpenWanted | ClaimWanted] = []
        self.node_inputs: list[NodeInput] = []
        for figures in node.log_figures():
            if figures.stream_id != CATALOG:
                self._find(figures.stream_id)

    # ------------------------------------------------------------------ what the node says

    def conf_changed(self, now: int, stream_id: int) -> None:
        """Tell a replica what the catalog says of its stream by now, or drop it where the stream was deleted."""
        conf = self._node.conf(stream_id)
        if conf is None or not self._node.has_stream(stream_id):
            dropped = self._replicas.pop(stream_id, None)
            if dropped is not None:
                self.node_inputs += [EndReading(stream_id, node) for node in dropped.readers()]
            self._deadlines.set(stream_id, NEVER)
            self._anew.pop(stream_id, None)
            self._preferred.pop(stream_id, None)
            return
        self._step(now, stream_id, [ConfChanged(_conf_of(conf))])

    def take_answer(self, now: int, ask: int, kept: bool) -> None:
        """Take the node's answer to what it was asked to keep."""
        stream_id = self._asked.pop(ask, None)
        if stream_id in self._replicas:
            self._step(now, stream_id, [Kept(ask) if kept else Declined(ask)])

    def replicate(self, now: int, effect: Replicate) -> None:
        """Take the node's word that its records are durable here up to a position."""
        if effect.stream_id in self._replicas:
            self._step(now, effect.stream_id, [Written(effect.position)])

    def records_read(self, now: int, effect: RecordsRead) -> None:
        """Take what the node has read of a log for another node."""
        if effect.stream_id in self._replicas:
            records = None if effect.records is None else tuple(effect.records)
            self._step(now, effect.stream_id, [Read(effect.reader, effect.first, records)])

    def confirm(self, now: int, effect: Confirm) -> None:
        """Take a question of the node that needs a confirmation."""
        if effect.stream_id in self._replicas:
            self._step(now, effect.stream_id, [Question(effect.question)])

    # ------------------------------------------------------------------ peers and time

    def received(self, now: int, sender: int, of: OfReplica) -> None:
        """Take a message of another node's replica."""
        if self._node.was_deleted(of.stream_id):
            return
        self._find(of.stream_id)
        self._step(now, of.stream_id, [Received(sender, of.message)])

    def step_due(self, now: int) -> None:
        """Let the replicas do what is due."""
        for stream_id in self._deadlines.pop_due(now):
            self._step(now, stream_id, [])
        if self._anew and now >= self._wish_at:
            self._wish_at = now + self._settings.wish_ms
            self._wish_for_claims()

    def next_deadline(self) -> int:
        """Return the moment, in milliseconds, at which to step if nothing happens before."""
        return min(self._wish_at if self._anew else NEVER, self._deadlines.next())

    def _wish_for_claims(self) -> None:
        """Ask for new claims of the streams that the catalog gives to this node, and that it cannot lead."""
        for stream_id in self._anew:
            conf = self._replicas[stream_id].conf
            assert conf is not None
            epoch, primary = self._preferred.get(stream_id, (0, 0))
            preferred = primary if epoch == conf.newest.epoch else 0
            self.wishes.append(ClaimWanted(stream_id, conf.newest.epoch, preferred))

    # ------------------------------------------------------------------ views

    def leads_stream(self, stream_id: int) -> bool:
        """Return True if this node was told to lead a stream."""
        replica = self._replicas.get(stream_id)
        return replica is not None and replica.leads

    def items(self) -> Iterator[tuple[int, Replica]]:
        """Yield every stream with its replica."""
        yield from self._replicas.items()

    # ------------------------------------------------------------------ within

    def _find(self, stream_id: int) -> Replica:
        replica = self._replicas.get(stream_id)
        if replica is None:
            node = self._node
            membership = node.membership(stream_id)
            since, log_epoch = (0, 0) if membership is None else membership
            known = Known(node.promised(stream_id), since, log_epoch)
            seat = Seat(node.config.node_id, ANY_DIRECTORY)
            source = StreamSource(node, stream_id)
            replica = Replica(stream_id, seat, self._settings.replication, source, self._take_ask, known)
            self._replicas[stream_id] = replica
        return replica

    def _step(self, now: int, stream_id: int, inputs: list[Input]) -> None:
        replica = self._find(stream_id)
        for effect in replica.step(now, inputs):
            self._perform(stream_id, effect)
        self._deadlines.set(stream_id, replica.next_deadline())
        if self._needs_claim(replica):
            self._anew[stream_id] = None
        elif self._anew:
            self._anew.pop(stream_id, None)

    def _needs_claim(self, replica: Replica) -> bool:
        """Return True for a replica that should lead and cannot: it has obeyed the claim, and begun in its epoch before."""
        conf = replica.conf
        if conf is None or replica.phase is not None or conf.newest.primary != self._node.config.node_id:
            return False
        return replica.promised >= conf.newest.epoch

    def _perform(self, stream_id: int, effect: Effect) -> None:
        if isinstance(effect, Send):
            self.out.append((effect.to, OfReplica(stream_id, effect.message)))
        elif isinstance(effect, ProposeOpened):
            self.wishes.append(OpenWanted(stream_id, effect.epoch))
        elif isinstance(effect, GiveUp):
            self._preferred[stream_id] = self._replicas[stream_id].promised, effect.to
        elif isinstance(effect, NoteDoubt | SnapshotNeeded):
            pass  # neither doubts nor snapshots have a way through the node yet
        else:
            if isinstance(effect, Promise | Enrol | Cut | Append):
                self._asked[effect.ask] = stream_id
            self.node_inputs.append(effect)


def _conf_of(conf: CatalogConf) -> Conf:
    """Return a conf with the seats that count. A stream without an opened claim is fenced by the set of its newest one."""
    newest = _claim_of(conf.newest)
    opened = _claim_of(conf.opened)
    return Conf(newest, opened if opened.epoch else Claim(0, 0, newest.replicas))


def _claim_of(claim: CatalogClaim) -> Claim:
    return Claim(claim.epoch, claim.primary, tuple(Seat(node, ANY_DIRECTORY) for node in sorted(claim.replicas)))

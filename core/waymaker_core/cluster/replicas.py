"""The replicas of this node's streams: each input finds its replica, and what replicas want finds its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from waymaker_core.api.effects import (
    Confirm,
    Log,
    PieceStored,
    Placed,
    RecordsRead,
    Replicate,
    SnapshotPiece,
    TransferEnded,
)
from waymaker_core.api.inputs import Append, Cut, EndReading, Enrol, KeepDoubts, Promise
from waymaker_core.api.inputs import Input as NodeInput
from waymaker_core.catalog.authority import Claim as CatalogClaim
from waymaker_core.catalog.authority import Conf as CatalogConf
from waymaker_core.cluster.deadlines import Deadlines
from waymaker_core.cluster.founding import directory_number
from waymaker_core.cluster.peer_messages import (
    ClaimWanted,
    OfReplica,
    OpenWanted,
    PlaceWanted,
    SnapshotAdopted,
    SnapshotOffered,
    Wish,
)
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.cluster.snapshots.stream_snapshots import StreamSnapshots
from waymaker_core.cluster.stream_source import StreamSource
from waymaker_core.model.types import CATALOG
from waymaker_core.node.node import Node
from waymaker_core.replication.conf import Claim, Conf, Seat
from waymaker_core.replication.effects import Effect, GiveUp, NoteDoubt, ProposeOpened, Send, SnapshotNeeded
from waymaker_core.replication.inputs import (
    Adopted,
    ConfChanged,
    Declined,
    Input,
    Kept,
    Question,
    Received,
    Returned,
    SnapshotSent,
    Superseded,
    Written,
)
from waymaker_core.replication.inputs import Placed as CanBeSent
from waymaker_core.replication.inputs import RecordsRead as Read
from waymaker_core.replication.replica import Replica
from waymaker_core.replication.state import NEVER, Known

SNAPSHOT_LOG_MS: Final = 10_000
"""The time between two log events about replicas that lack records."""
"""A wish of a primary, for the node that leads the catalog."""


class Replicas:
    """All replicas on this node, by stream. `out`, `wishes` and `node_inputs` are what they want."""

    def __init__(
        self, node: Node, settings: MemberSettings, take_ask: Callable[[], int], torn: bool = False
    ) -> None:  # fmt: skip
        self._node = node
        self._settings = settings
        self._take_ask = take_ask
        self._directory = directory_number(node.directory_id)
        self._torn = torn
        """True while no replica here can say what it promised and acknowledged."""
        self._replicas: dict[int, Replica] = {}
        self._asked: dict[int, int] = {}
        """By number that the node will answer: the stream that asked."""
        self._deadlines = Deadlines()
        self._anew: dict[int, None] = {}
        """Streams that the catalog gives to this node, and that it cannot lead: it has stopped in their epoch."""
        self.led: dict[int, Replica] = {}
        """The replicas of the streams that this node leads."""
        self._lone: dict[int, None] = {}
        """Streams that this node leads without other replicas."""
        self._preferred: dict[int, tuple[int, int]] = {}
        """By stream whose claim was given up: its epoch, and the node that can lead."""
        self._wish_at = 0
        self.out: list[tuple[int, OfReplica]] = []
        self.wishes: list[Wish] = []
        self.logs: list[Log] = []
        """Events for the operator."""
        self.snapshots_needed = 0
        """The number of times that a replica, or a member of the group, lacked records that are not at hand here."""
        self._snapshot_log_at = 0
        self.snapshots = StreamSnapshots()
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
            self.led.pop(stream_id, None)
            self._lone.pop(stream_id, None)
            self._preferred.pop(stream_id, None)
            return
        self.snapshots.end_epoch(stream_id, conf.newest.epoch)
        self._step(now, stream_id, [ConfChanged(_conf_of(conf))])

    def doubts_noted(self, now: int, streams: list[int]) -> None:
        """Let the replicas speak, each in doubt up to its newest claim, which is durable now."""
        for stream_id in streams:
            conf = self._node.conf(stream_id)
            if conf is not None and self._node.has_stream(stream_id):
                self._step(now, stream_id, [ConfChanged(_conf_of(conf), confirmed=True)])
        self._torn = False

    def take_answer(self, now: int, ask: int, kept: bool) -> None:
        """Take the node's answer to what it was asked to keep."""
        stream_id = self._asked.pop(ask, None)
        if stream_id in self._replicas:
            self._step(now, stream_id, [Kept(ask) if kept else Declined(ask)])

    def placed(self, now: int, effect: Placed) -> None:
        """Send what the node decided up to a position, while its own disk keeps it."""
        if effect.stream_id in self._replicas:
            self._step(now, effect.stream_id, [CanBeSent(effect.position)])

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

    def returned(self, now: int, node: int) -> None:
        """Let the replicas that this node leads go on with another one, which was heard again after a silence."""
        for stream_id, replica in list(self._replicas.items()):
            if replica.phase is not None:
                self._step(now, stream_id, [Returned(node)])

    def step_due(self, now: int) -> None:
        """Let the replicas do what is due."""
        self.snapshots.step_due(now)
        for stream_id in self._deadlines.pop_due(now):
            self._step(now, stream_id, [])
        if (self._anew or self._lone) and now >= self._wish_at:
            self._wish_at = now + self._settings.wish_ms
            self._wish_for_claims()
            self._wish_for_places(now)

    def next_deadline(self) -> int:
        """Return the moment, in milliseconds, at which to step if nothing happens before."""
        wish_at = self._wish_at if self._anew or self._lone else NEVER
        return min(wish_at, self._deadlines.next(), self.snapshots.next_deadline())

    def _wish_for_claims(self) -> None:
        """Ask for new claims of the streams that the catalog gives to this node and that it cannot lead, or is in doubt of."""
        own = self._node.config.node_id
        for stream_id in self._anew:
            replica = self._replicas[stream_id]
            conf = replica.conf
            assert conf is not None
            epoch, primary = self._preferred.get(stream_id, (0, 0))
            preferred = primary if epoch == conf.newest.epoch else 0
            if conf.newest.primary != own:
                preferred = conf.newest.primary
            elif replica.is_damaged:
                preferred = conf.newest.next_to(own)
            self.wishes.append(ClaimWanted(stream_id, conf.newest.epoch, preferred))

    def _wish_for_places(self, now: int) -> None:
        """Ask for more replicas of the streams that a single node brought along."""
        own = self._node.config.node_id
        settings = self._node.config
        if min(settings.replication_factor, len({*settings.members, own})) < 2:
            return
        for stream_id in self._lone:
            conf = self._replicas[stream_id].conf
            if conf is not None and self._node.may_spread(stream_id):
                self.wishes.append(PlaceWanted(stream_id, conf.newest.epoch))

    # ------------------------------------------------------------------ snapshots

    def _snapshot_needed(self, now: int, stream_id: int, to: int) -> None:
        """Offer a snapshot to a replica that lacks records which are not at hand here; mention it once in a while."""
        self.snapshots_needed += 1
        if now >= self._snapshot_log_at:
            self._snapshot_log_at = now + SNAPSHOT_LOG_MS
            fields: dict[str, str | int | bool] = {
                "stream_id": stream_id, "node": to, "times": self.snapshots_needed,
            }  # fmt: skip
            self.logs.append(Log("info", "snapshot_needed", fields))
        replica, position = self._replicas[stream_id], self._node.applied(stream_id)
        self.snapshots.offer_stream(
            now, to, stream_id, replica.promised, position, replica.is_open_at(position)
        )  # fmt: skip

    def snapshot_offered(self, now: int, sender: int, offer: SnapshotOffered) -> None:
        """Receive a snapshot, unless the log here goes as far already, or is not this epoch's follower."""
        stream_id = offer.stream_id
        replica = self._replicas.get(stream_id)
        if replica is None or not self._node.has_stream(stream_id):
            return
        if offer.epoch < replica.promised or replica.phase is not None:
            return
        if replica.committed >= offer.position and self._node.applied(stream_id) >= offer.position:
            position = self._node.applied(stream_id)
            self.snapshots.out.append((sender, SnapshotAdopted(stream_id, offer.epoch, offer.number, position)))
            return
        if offer.opened:
            self._step(now, stream_id, [Superseded(offer.epoch, offer.position)])
        self.snapshots.receive_stream(now, sender, offer)

    def snapshot_adopted(self, now: int, sender: int, message: SnapshotAdopted) -> None:
        """Go on behind a snapshot that another replica has adopted."""
        replica = self._replicas.get(message.stream_id)
        if self.snapshots.note_adopted(sender, message) and replica is not None and replica.promised == message.epoch:
            self._step(now, message.stream_id, [SnapshotSent(sender, message.position)])

    def take_transfer(self, now: int, effect: SnapshotPiece | PieceStored | TransferEnded) -> None:
        """Take what the node says of a transfer."""
        if isinstance(effect, SnapshotPiece):
            self.snapshots.piece_made(effect)
        elif isinstance(effect, PieceStored):
            self.snapshots.piece_stored(now, effect)
        else:
            adopted = self.snapshots.transfer_ended(effect)
            if adopted is not None and adopted[0] in self._replicas:
                self._asked = {ask: each for ask, each in self._asked.items() if each != adopted[0]}
                self._step(now, adopted[0], [Adopted(adopted[1])])

    # ------------------------------------------------------------------ views

    def leads_stream(self, stream_id: int) -> bool:
        """Return True if this node was told to lead a stream."""
        replica = self._replicas.get(stream_id)
        return replica is not None and replica.leads

    def replica_of(self, stream_id: int) -> Replica | None:
        """Return the replica of a stream on this node, if it has one."""
        return self._replicas.get(stream_id)

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
            doubt = node.doubt(stream_id).until
            damaged = node.has_lost_log(stream_id)
            known = Known(node.promised(stream_id), since, log_epoch, doubt, torn=self._torn, damaged=damaged)
            seat = Seat(node.config.node_id, self._directory)
            source = StreamSource(node, stream_id)
            replica = Replica(stream_id, seat, self._settings.replication, source, self._take_ask, known)
            self._replicas[stream_id] = replica
        return replica

    def _step(self, now: int, stream_id: int, inputs: list[Input]) -> None:
        replica = self._find(stream_id)
        for effect in replica.step(now, inputs):
            self._perform(now, stream_id, effect)
        self._deadlines.set(stream_id, replica.next_deadline())
        if self._needs_claim(replica):
            self._anew[stream_id] = None
        elif self._anew:
            self._anew.pop(stream_id, None)
        if not replica.leads:
            self.led.pop(stream_id, None)
            self._lone.pop(stream_id, None)
            return
        self.led[stream_id] = replica
        if replica.conf is not None and len(replica.conf.newest.replicas) == 1:
            self._lone[stream_id] = None
        else:
            self._lone.pop(stream_id, None)

    def _needs_claim(self, replica: Replica) -> bool:
        """Return True for a replica that needs another epoch of its stream.

        It should lead and cannot, for it has obeyed the claim, and begun in its epoch before, or is damaged. Or it is in
        doubt: the primary counts what this replica acknowledged and may have forgotten, until it begins anew.
        """
        conf = replica.conf
        if conf is None or replica.phase is not None:
            return False
        if conf.newest.primary != self._node.config.node_id:
            return replica.doubt >= conf.newest.epoch == conf.opened.epoch and replica.has_seat(conf.newest)
        return replica.is_damaged or replica.promised >= conf.newest.epoch

    def _perform(self, now: int, stream_id: int, effect: Effect) -> None:
        if isinstance(effect, Send):
            self.out.append((effect.to, OfReplica(stream_id, effect.message)))
        elif isinstance(effect, ProposeOpened):
            self.wishes.append(OpenWanted(stream_id, effect.epoch))
        elif isinstance(effect, GiveUp):
            self._preferred[stream_id] = self._replicas[stream_id].promised, effect.to
        elif isinstance(effect, SnapshotNeeded):
            self._snapshot_needed(now, stream_id, effect.to)
        elif isinstance(effect, NoteDoubt):
            # What begins a doubt was noted before (`cluster/doubt`). An end that the node declines leaves a doubt too many.
            if not effect.epoch:
                self.node_inputs.append(KeepDoubts(self._take_ask(), [(stream_id, 0, 0)]))
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
    directories = claim.directories or (0,) * len(claim.replicas)
    return Claim(
        claim.epoch, claim.primary, tuple(map(Seat._make, sorted(zip(claim.replicas, directories, strict=True))))
    )

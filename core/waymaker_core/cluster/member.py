"""A member of a cluster: one object, two clocks, inputs in, effects out, as a node has them.

It passes a node's inputs and effects on, and takes part in what leaves and comes between members: the catalog goes through the
consensus group, every stream through the replication of its replicas. A call that another member serves is answered with
`Elsewhere`. The member that leads the catalog claims the streams of members that are silent for others.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

from waymaker_core.api.authority_requests import ClearStreamAuthority, ClusterStats, SetStreamPinned
from waymaker_core.api.cluster_requests import ClaimStreams, OpenAuthorities
from waymaker_core.api.effects import (
    ConfChanged,
    Confirm,
    Declined,
    Effect,
    End,
    Kept,
    Log,
    PieceStored,
    Placed,
    RecordsRead,
    Replicate,
    Reply,
    SnapshotPiece,
    TransferEnded,
)
from waymaker_core.api.inputs import Call, Cancel, Drain, KeepDoubts, Replicated
from waymaker_core.api.inputs import Input as NodeInput
from waymaker_core.cluster.catalog_group import CatalogGroup, GroupView
from waymaker_core.cluster.claims import Claims
from waymaker_core.cluster.doubt import Doubts
from waymaker_core.cluster.effects import Elsewhere, FromPeer, Lane, ToPeer
from waymaker_core.cluster.founding import Condition, Founding, directory_number
from waymaker_core.cluster.held_calls import FOLLOWED
from waymaker_core.cluster.leaving import Leaving, Stage
from waymaker_core.cluster.liveness import Liveness
from waymaker_core.cluster.moves import IN_MOVE, Moves
from waymaker_core.cluster.node_figures import NodeFigures, Sums
from waymaker_core.cluster.peer_messages import (
    NUMBER_END,
    Announcement,
    Beat,
    EndAsked,
    EndKnown,
    MoveReady,
    MoveWanted,
    OfGroup,
    OfReplica,
    PeerMessage,
    Piece,
    PieceAsked,
    SnapshotAdopted,
    SnapshotOffered,
    Wish,
    decode_frame,
    frames_of,
)
from waymaker_core.cluster.replicas import Replicas
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.cluster.stalls import Stalls
from waymaker_core.cluster.status import ClusterStatus, MemberStatus, add_streams
from waymaker_core.cluster.sweep import Sweep
from waymaker_core.model.disk_ops import DiskOp, OpResult
from waymaker_core.model.result_codes import NO_LEADER as NO_LEADER_CODE
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status
from waymaker_core.model.types import ANYONE, CATALOG, Now, Token
from waymaker_core.node import NodeConfig, open_node
from waymaker_core.node.calls import OF_THIS_NODE
from waymaker_core.node.node import Node
from waymaker_core.raft.message_codec import CorruptMessage
from waymaker_core.replication.state import NEVER

MS: Final = 1_000_000
ROUNDS_MAX: Final = 16
"""Steps of the node within one step of the member: what is left is done in the next one, at once."""
OWN_TOKENS: Final = 1 << 62
"""The member's own calls of its node have tokens from here on."""
NO_LEADER: Final = Refusal(
    Status.UNAVAILABLE, "no node leads the catalog at the moment; try again later", Outcome.NOT_APPLIED
)

Input = NodeInput | FromPeer
MemberEffect = Effect | ToPeer | Elsewhere


def open_member(
    config: NodeConfig, now: Now, seed: int, settings: MemberSettings | None = None
) -> Generator[DiskOp, OpResult, Member]:
    """Recover the directory and return the member that serves it, as `open_node` does. `seed`: another one for each start."""
    node = yield from open_node(config, now)
    return Member(node, now, seed, settings or MemberSettings())


class Member:
    """One member in service; `step` until it emits `Halt`, then drop it."""

    def __init__(self, node: Node, now: Now, seed: int, settings: MemberSettings) -> None:
        self.node = node
        self._settings = settings
        self._asks = self._tokens = 0
        self._run = seed % NUMBER_END
        ms = now.mono_ns // MS
        config = node.config
        self._others = [each for each in config.members if each != config.node_id]
        directory = directory_number(node.directory_id)
        self._founding = Founding(config.node_id, config.members, directory, settings.suspect_ms)
        self._obstacle = ""
        self._group = CatalogGroup(node, directory, settings.raft, seed, self._take_ask)
        self._doubts = Doubts(node, seed, self._take_ask)
        self._replicas = Replicas(node, settings, self._take_ask, self._doubts.is_torn)
        self._liveness = Liveness(config.node_id, settings, ms)
        self._moves = Moves(node, self._replicas, settings)
        self._sweep = Sweep(node, self._liveness, settings)
        self._stalls = Stalls(node, self._replicas, settings)
        self._claims = Claims(node, self._group, self._replicas, self._liveness, self._sweep, settings, ms)
        self._leaving = Leaving(node, self._replicas, self._moves, self._liveness, settings)
        self._figures = NodeFigures(node, self._liveness)
        self._sums, self._sums_at = Sums(), ms
        self._beat_at = ms
        self._node_at = 0
        """The monotonic nanosecond at which the node is to be stepped without an input; it changes with its steps alone."""
        self._parts_at = 0
        """The moment at which a part has something to do without an input, as the end of the last step has found."""
        self._parts_dirty = True
        """True while the parts are looked at in each step: one of them waits for what no deadline says, or was changed."""
        self._members_agree = False
        """True while the group's members are known to be those that are heard."""
        self._effects: list[MemberEffect] = []
        self._left_over: list[NodeInput] = []
        self._own_inputs: list[NodeInput] = []
        self._held_drain: Drain | None = None
        """The stop that was asked for, while there is something to give away."""
        self._out: dict[int, list[PeerMessage]] = {}
        """By other member: what is to leave at the end of this step."""
        self.contradictions = 0
        """Messages that could not be read."""
        for stream_id, _ in list(self._replicas.items()):
            self._replicas.conf_changed(ms, stream_id)

    def _take_ask(self) -> int:
        self._asks += 1
        return self._asks

    # ------------------------------------------------------------------ the door

    def step(self, now: Now, inputs: Sequence[Input]) -> list[MemberEffect]:
        """Process inputs in order, do what is due, and return the effects in order."""
        ms = now.mono_ns // MS
        left_over, self._left_over = self._left_over, []
        for_node: list[NodeInput] = []
        messages: list[OfGroup] = []
        for each in inputs:
            if isinstance(each, FromPeer):
                self._received(ms, each, messages)
            elif isinstance(each, Call):
                self._route(each, for_node)
            elif isinstance(each, Cancel):
                self._moves.held.withdraw(each.token)
                for_node.append(each)
            elif isinstance(each, Drain):
                self._parts_dirty = True
                self._leaving.begin_to_leave(ms)
                self._held_drain, self._beat_at = each, ms
            else:
                for_node.append(each)
        if messages or self._parts_dirty or ms >= self._parts_at:
            self._parts_dirty = True  # until the end of the step, where it is known anew
            self._beat(ms)
            self._group.step(ms, messages)
            self._tend_members(ms, bool(left_over))
            self._settle_doubts(ms)
            self._replicas.step_due(ms)
            self._claims.claim_for_the_silent(ms)
            self._move(ms)
        else:
            self._replicas.step_due(ms)
        # What group and replicas ask for stands before anything that the node decides in this step: a replica that has obeyed
        # a newer claim takes the log to end where it ended then, and could be verified with records that it knows nothing of.
        for_node = left_over + self._take_node_inputs(ms) + for_node
        # A move that has begun in this step goes on behind the node.
        if for_node or self._moves or now.mono_ns >= self._node_at:
            self._step_node(now, for_node)
        self._send(ms)
        if self._parts_dirty:
            self._look_at_parts()
        effects, self._effects = self._effects, []
        return effects

    def _look_at_parts(self) -> None:
        """Note when the parts are due, and if one of them has to be looked at in each step.

        All but the replicas, which have deadlines of their own. What changes a part in between sets `_parts_dirty`.
        """
        group, doubts, stays = self._group, self._doubts, self._leaving.stage is Stage.STAYING
        leads = group.is_led_here
        waits = doubts.is_torn or group.was_doubtful or bool(group.ends) or (leads and not self._members_agree)
        self._parts_dirty = waits or not stays or len(self._moves) > 0 or group.condition != Condition.GROUPED
        moves_at = min(self._moves.next_deadline(), self._leaving.next_deadline())
        sweep_at = self._sweep.next_deadline() if leads and stays else NEVER
        asks_at = min(group.next_deadline(), self._claims.next_deadline(), doubts.next_deadline())
        self._parts_at = min(self._beat_at, asks_at, moves_at, sweep_at)

    def _step_node(self, now: Now, inputs: list[NodeInput]) -> None:
        """Let the node take inputs, and what follows from its effects, until nothing is left to do."""
        ms = now.mono_ns // MS
        for _ in range(ROUNDS_MAX):
            for effect in self.node.step(now, inputs):
                self._take(ms, effect)
            self._moves.go_on(ms)
            inputs = self._take_node_inputs(ms)
            if not inputs or self._may_wait(inputs):
                break
        self._left_over = inputs
        deadline = self.node.next_deadline()
        self._node_at = NEVER if deadline is None else deadline

    def _may_wait(self, inputs: list[NodeInput]) -> bool:
        """Return True if acknowledgments are to leave, and nothing is left but to apply what other nodes lead.

        No caller waits for that here, but one may wait for the acknowledgments. So it is done in the next step, at once.
        """
        led = self._replicas.led
        return bool(self._replicas.out) and all(
            type(each) is Replicated and each.stream_id != CATALOG and each.stream_id not in led for each in inputs
        )

    def next_deadline(self) -> int | None:
        """Return the monotonic nanosecond at which `step` must be called at the latest, even without inputs."""
        if self._left_over:
            return 0
        return min(min(self._parts_at, self._replicas.next_deadline()) * MS, self._node_at)

    @property
    def leads_catalog(self) -> bool:
        """Return True while this member leads the catalog."""
        return self._group.is_led_here

    @property
    def leader(self) -> int:
        """Return the member that leads the catalog as far as known, else 0."""
        return self._group.leader

    @property
    def obstacle(self) -> str:
        """Return why this member can neither found a group nor join one before an operator acts, or an empty text."""
        return self._obstacle

    def status(self, now: Now) -> ClusterStatus:
        """Return the cluster as this member knows it. Costs a look at every stream."""
        ms, group = now.mono_ns // MS, self._group
        own = self.node.config.node_id
        status = ClusterStatus(own, group.leader, group.term, group.leader_changes)
        for node in sorted((own, *self._others)):
            status.members.append(MemberStatus(node, self._liveness.was_heard(ms, node)))
        add_streams(status, self._replicas)
        return status

    @property
    def replicas(self) -> Replicas:
        """Return the replicas of this member, to be read between steps."""
        return self._replicas

    def view_of_group(self) -> GroupView | None:
        """Return what this member knows of the catalog's group, to be read between steps; None while it has none."""
        return self._group.view()

    @property
    def moves(self) -> Moves:
        """Return the planned moves that this member makes, to be read between steps."""
        return self._moves

    @property
    def is_leaving(self) -> bool:
        """Return True from the moment on at which a stop was asked for."""
        return self._leaving.stage is not Stage.STAYING

    @property
    def is_stalled(self) -> bool:
        """Return True while this node's disk does not answer."""
        return self._stalls.disk_stalled

    # ------------------------------------------------------------------ coming in

    def _received(self, now: int, item: FromPeer, messages: list[OfGroup]) -> None:
        try:
            frame = decode_frame(item.data)
        except CorruptMessage:
            self.contradictions += 1
            return
        for message in frame:
            if isinstance(message, OfReplica):
                if self._group.admits_replicas:
                    self._replicas.received(now, item.sender, message)
            elif isinstance(message, Beat):
                if not self._liveness.is_alive(now, item.sender):
                    self._replicas.returned(now, item.sender)
                self._liveness.beat(
                    now, item.sender, message.run, leaving=message.leaving > 0, stalled=message.stalled > 0
                )
                self._figures.note_sums(item.sender, Sums(message.streams, message.messages, message.bytes))
            else:
                self._parts_dirty = True
                self._pass_to_part(now, item.sender, message, messages)

    def _pass_to_part(self, now: int, sender: int, message: PeerMessage, messages: list[OfGroup]) -> None:
        """Pass a message to a part of this member: all that is neither of a replica nor a heartbeat."""
        if isinstance(message, Announcement):
            self._founding.heard(now, sender, message)
            self._members_agree = False
        elif isinstance(message, Piece | PieceAsked | SnapshotOffered | SnapshotAdopted):
            self._of_snapshot(now, sender, message)
        elif isinstance(message, EndAsked):
            self._group.ask_end(now, sender, message.number)
        elif isinstance(message, EndKnown):
            self._doubts.end_known(message)
        elif isinstance(message, MoveWanted):
            self._move_wanted(now, sender, message)
        elif isinstance(message, Wish):
            if isinstance(message, MoveReady):
                self._moves.note_answer(sender, message)
            self._claims.grant(now, message, sender)
        elif isinstance(message, OfGroup):
            messages.append(message)

    def _of_snapshot(
        self, now: int, sender: int, message: Piece | PieceAsked | SnapshotOffered | SnapshotAdopted
    ) -> None:  # fmt: skip
        """Pass a message about a snapshot to its part: the catalog's, or a stream's."""
        if message.stream_id == CATALOG:
            if isinstance(message, Piece):
                self._group.piece_arrived(now, sender, message)
            elif isinstance(message, PieceAsked):
                self._group.piece_asked(now, sender, message)
        elif not self._group.admits_replicas:
            pass
        elif isinstance(message, Piece):
            self._replicas.snapshots.piece_arrived(sender, message)
        elif isinstance(message, PieceAsked):
            self._replicas.snapshots.piece_asked(now, sender, message)
        elif isinstance(message, SnapshotOffered):
            self._replicas.snapshot_offered(now, sender, message)
        else:
            self._replicas.snapshot_adopted(now, sender, message)

    def _route(self, call: Call, for_node: list[NodeInput]) -> None:
        """Pass a call to the node, or answer it where another member leads what it is about."""
        own = self.node.config.node_id
        if isinstance(call.request, OF_THIS_NODE):
            for_node.append(call)
            return
        log = self.node.log_of(call)
        if self._moves.is_draining(log):
            refusal = self._moves.hold_call(log, call)
            if refusal is not None:
                self._refuse(call, refusal)
            return
        conf = self.node.conf(log)
        if log == CATALOG or conf is None:
            leader, epoch = self._group.leader, self._group.term
        else:
            leader, epoch = conf.newest.primary, conf.newest.epoch
        if leader == own:
            refusal = self._refusal_for(log)
            if refusal is None:
                for_node.append(call)
            else:
                self._refuse(call, refusal)
        elif leader:
            self._effects.append(Elsewhere(call.token, leader, epoch))
        elif self._obstacle:
            self._refuse(call, Refusal(Status.UNAVAILABLE, self._obstacle, Outcome.NOT_APPLIED))
        elif isinstance(call.request, SetStreamPinned | ClearStreamAuthority):
            self._effects.append(Reply(call.token, Answer(NO_LEADER_CODE, NO_LEADER.message)))
        else:
            self._refuse(call, NO_LEADER)

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        """Answer a call with a refusal; a reader, which has no answer, ends with it."""
        is_reader = isinstance(call.request, FOLLOWED)
        self._effects.append(End(call.token, "", refusal) if is_reader else Reply(call.token, refusal))

    def _refusal_for(self, log: int) -> Refusal | None:
        """Return why no call about a log that is led here is admitted; None where calls are."""
        if log == CATALOG and self._leaving.stage is Stage.HANDING_OVER:
            return IN_MOVE
        return self._stalls.refusal_for(log)

    # ------------------------------------------------------------------ the node's effects

    def _take(self, now: int, effect: Effect) -> None:
        """Pass an effect of the node on, or do what it asks of the cluster."""
        if isinstance(effect, Kept | Declined):
            kept = isinstance(effect, Kept)
            if self._doubts.take_answer(effect.ask, kept):
                self._parts_dirty = True
                self._replicas.doubts_noted(now, self._doubts.in_doubt())
            elif self._group.take_answer(now, effect.ask, kept):
                self._parts_dirty = True
            else:
                self._replicas.take_answer(now, effect.ask, kept)
        elif isinstance(effect, Placed):
            self._replicas.placed(now, effect)
        elif isinstance(effect, Replicate | Confirm) and effect.stream_id == CATALOG:
            self._parts_dirty = True
            if isinstance(effect, Replicate):
                self._group.replicate(now, effect.position)
            else:
                self._group.confirm(now, effect.question)
        elif isinstance(effect, Replicate):
            self._replicas.replicate(now, effect)
        elif isinstance(effect, Confirm):
            self._replicas.confirm(now, effect)
        elif isinstance(effect, RecordsRead):
            self._replicas.records_read(now, effect)
        elif isinstance(effect, SnapshotPiece | PieceStored | TransferEnded):
            self._replicas.take_transfer(now, effect)
        elif isinstance(effect, ConfChanged):
            self._replicas.conf_changed(now, effect.stream_id)
        elif not (isinstance(effect, Reply) and effect.token >= OWN_TOKENS):
            if isinstance(effect, Reply) and isinstance(effect.answer, Answer):
                stats = effect.answer.value
                if isinstance(stats, ClusterStats):
                    self._figures.complete(now, stats)
            self._effects.append(effect)

    def _take_node_inputs(self, now: int) -> list[NodeInput]:
        """Take what the parts want done by the node, the group's first."""
        replicas, moves, snapshots = self._replicas, self._moves, self._replicas.snapshots
        if (replicas.wishes or moves.wishes) and self._group.is_led_here:
            wishes, replicas.wishes = replicas.wishes, []
            ready, moves.wishes = moves.wishes, []
            for wish in (*wishes, *ready):
                self._claims.grant(now, wish, self.node.config.node_id)
        inputs = self._group.take_node_inputs()
        if replicas.node_inputs:
            inputs += replicas.node_inputs
            replicas.node_inputs = []
        if snapshots.node_inputs:
            inputs += snapshots.node_inputs
            snapshots.node_inputs = []
        if moves.node_inputs:
            inputs += moves.node_inputs
            moves.node_inputs = []
        if self._own_inputs:
            inputs += self._own_inputs
            self._own_inputs = []
        if self._held_drain is not None and self._leaving.stage is Stage.LEFT:
            inputs.append(self._held_drain)
            self._held_drain = None
        if self._claims.claims:
            claims, self._claims.claims = self._claims.claims, {}
            inputs.append(self._own_call(ClaimStreams(list(claims.values()))))
        if self._claims.openings:
            openings, self._claims.openings = self._claims.openings, {}
            inputs.append(self._own_call(OpenAuthorities(list(openings.values()))))
        if moves.released:
            released, moves.released = moves.released, []
            for call in released:
                self._route(call, inputs)
        return inputs

    # ------------------------------------------------------------------ members

    def _tend_members(self, now: int, busy: bool) -> None:
        """Found the group where that is this member's part, or propose changes of its members, as its leader."""
        group, founding = self._group, self._founding
        condition = group.condition
        if condition != Condition.GROUPED:
            first = founding.first_members(now, condition)
            if first is not None:
                group.found(first)
            self._say_obstacle(founding.obstacle(now, condition))
        elif not group.is_led_here:
            self._members_agree = False
        elif not busy and not self._members_agree:
            self._members_agree = group.change_members(now, founding.changes(now, group.members))

    def _settle_doubts(self, now: int) -> None:
        """Learn which claims this member may have forgotten, where its journal ended with a tear, and answer others that do."""
        group, doubts, own = self._group, self._doubts, self.node.config.node_id
        if not doubts.is_torn and not group.ends and not group.was_doubtful:
            return
        question = doubts.question(now)
        if question is not None and group.leader == own:
            group.ask_end(now, own, question.number)
        elif question is not None and group.leader:
            self._to(group.leader, question)
        for node, number, position in group.ends:
            if node == own:
                doubts.end_known(EndKnown(number, position))
            else:
                self._to(node, EndKnown(number, position))
        group.ends = []
        notes = doubts.notes()
        if notes is not None:
            self._own_inputs.append(notes)
        if group.take_end_of_doubt():
            torn = self.node.doubt(CATALOG).torn
            self._own_inputs.append(KeepDoubts(self._take_ask(), [(CATALOG, 0, torn)]))

    def _say_obstacle(self, obstacle: str) -> None:
        if obstacle != self._obstacle:
            self._obstacle = obstacle
            if obstacle:
                self._effects.append(Log("error", "member_stays_out", {"reason": obstacle}))

    # ------------------------------------------------------------------ going out

    def _beat(self, now: int) -> None:
        if now >= self._beat_at:
            self._beat_at = now + self._settings.beat_ms
            beat = self._own_beat(now)
            for node in self._others:
                self._to(node, beat)
                if self._group.condition != Condition.UNREAD:
                    self._to(node, self._founding.announcement(self._group.condition))

    def _own_beat(self, now: int) -> Beat:
        """Look at this node, and return what it says of itself."""
        was_stalled = self._stalls.disk_stalled
        self._stalls.look(now)
        stalled, leaving = self._stalls.disk_stalled, self.is_leaving
        if stalled != was_stalled:
            self._group.note_disk(now, stalled=stalled)
        if now >= self._sums_at:
            self._sums, self._sums_at = self._figures.own_sums(), now + self._settings.figures_ms
        self._liveness.beat(now, self.node.config.node_id, self._run, leaving=leaving, stalled=stalled)
        return Beat(self._run, int(leaving), int(stalled), *self._sums)

    def _to(self, node: int, message: PeerMessage) -> None:
        self._out.setdefault(node, []).append(message)

    def _send(self, now: int) -> None:
        """Send to each other member all that there is for it by now, in one frame."""
        group, replicas, moves = self._group, self._replicas, self._moves
        if group.out:
            for raft_message in group.out:
                self._to(raft_message.to, OfGroup(self._founding.directory, group.is_doubtful, raft_message))
            group.out = []
        if replicas.out or moves.out:
            others: list[tuple[int, PeerMessage]] = [*replicas.out, *moves.out]
            for node, message in others:
                self._to(node, message)
            replicas.out, moves.out = [], []
        if replicas.wishes or moves.wishes:
            if group.leader:
                self._out.setdefault(group.leader, []).extend([*replicas.wishes, *moves.wishes])
            replicas.wishes, moves.wishes = [], []
        if group.snapshots.out or replicas.snapshots.out:
            for node, of_snapshot in (*group.snapshots.out, *replicas.snapshots.out):
                self._effects += [ToPeer(node, Lane.BULK, frame) for frame in frames_of([of_snapshot])]
            group.snapshots.out, replicas.snapshots.out = [], []
        if self._out:
            self._send_live()
        if replicas.logs:
            self._effects += replicas.logs
            replicas.logs = []

    def _send_live(self) -> None:
        """Send what is small or urgent. Members that get the same, as followers that keep up do, share its bytes."""
        out, self._out = self._out, {}
        last: list[PeerMessage] = []
        frames: list[bytes] = []
        for node, messages in out.items():
            if messages != last:
                last, frames = messages, list(frames_of(messages))
            self._effects += [ToPeer(node, Lane.LIVE, frame) for frame in frames]

    # ------------------------------------------------------------------ planned moves

    def _move_wanted(self, now: int, sender: int, wanted: MoveWanted) -> None:
        """Answer a primary that asks whether this node is there, or begin to move a stream that is led here."""
        if wanted.to == self.node.config.node_id:
            self._to(sender, MoveReady(*wanted))
        else:
            self._moves.begin_move(now, *wanted)

    def _move(self, now: int) -> None:
        """Take the next steps of planned moves, of the sweep, and of leaving."""
        group, stays = self._group, self._leaving.stage is Stage.STAYING
        self._moves.go_on(now)
        if not group.is_led_here:
            self._sweep.forget_moves()
        elif stays and (asked := self._sweep.next_wish(now)) is not None:
            primary, wanted = asked
            if primary == self.node.config.node_id:
                self._moves.begin_move(now, *wanted)
            else:
                self._to(primary, wanted)
        if not stays and self._leaving.leave_on(now, group.is_led_here, group.leader):
            group.hand_over(now)

    def _own_call(self, request: ClaimStreams | OpenAuthorities) -> Call:
        self._tokens += 1
        return Call(Token(OWN_TOKENS + self._tokens), ANYONE, request)

"""The consensus group of the catalog: Raft, whose log is the catalog's log of the node.

An entry's index is a record's position. The entry that begins a term is an epoch record, a set of members is a `MembersRecord`,
and everything else is a record of the catalog as its frame holds it. The leader's own records are proposed when they are
durable here; a follower's are appended byte for byte. Where the node declines to keep something, the group's state is read anew
from what it has kept, as a start reads it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import cbor2

from waymaker_core.api.inputs import (
    Append,
    Confirmed,
    Cut,
    InstallCatalog,
    KeepVote,
    Lead,
    Replicated,
    SentRecord,
    StepDown,
)
from waymaker_core.api.inputs import Input as NodeInput
from waymaker_core.cluster.founding import Condition
from waymaker_core.cluster.peer_messages import OfGroup, Piece, PieceAsked
from waymaker_core.cluster.snapshots.catalog_snapshots import CatalogSnapshots
from waymaker_core.model.records import EpochRecord, MembersRecord, StreamsClaimed
from waymaker_core.model.types import CATALOG
from waymaker_core.node.checkpoint.snapshots import encode_catalog
from waymaker_core.node.node import Node
from waymaker_core.raft.effects import (
    Accepted,
    Apply,
    Effect,
    Install,
    Readable,
    Refused,
    Release,
    Role,
    RoleChanged,
    Send,
    SnapshotWanted,
    Write,
)
from waymaker_core.raft.entries import NO_MEMBERS, Durable, Entry, EntryKind, SnapshotMeta
from waymaker_core.raft.inputs import (
    Applied,
    DiskRecovered,
    DiskStalled,
    Propose,
    ProposeChange,
    Read,
    Received,
    Saved,
    SnapshotLost,
    SnapshotTaken,
    Transfer,
)
from waymaker_core.raft.inputs import Input as RaftInput
from waymaker_core.raft.members import Change, Members, decode_members, encode_members
from waymaker_core.raft.messages import AppendRefused, AppendResponse, Message, SnapshotRequest, VoteResponse
from waymaker_core.raft.raft import Raft
from waymaker_core.raft.settings import RaftSettings
from waymaker_core.raft.state import NEVER
from waymaker_core.storage import record_codec

RETRY_MS: Final = 200
"""The time after which the group's state is read anew, where the node declined to keep something."""
ALL_BYTES: Final = 1 << 40
_FIRST: Final = -1
"""The members that a group begins with."""
_END_TOKENS: Final = 1 << 61
"""Tokens of reads for the end of the catalog; those of the node's questions are smaller."""
_UNPROPOSED: Final = -2
"""The cut of what a leader decided and did not propose."""


class GroupView(NamedTuple):
    """The group as one member knows it. `members_version`: term and index of the entry that names the members.

    `directory`: the one of this member. `term`: the newest term that it knows.
    """

    term: int
    members: Members
    members_version: tuple[int, int]
    directory: int
    doubtful: bool
    term_at: Callable[[int], int]


class CatalogGroup:
    """The member of the group on this node. `out` and `node_inputs` are what it wants sent, and done by the node."""

    def __init__(
        self, node: Node, directory: int, settings: RaftSettings, seed: int, take_ask: Callable[[], int]
    ) -> None:  # fmt: skip
        self._node = node
        self._directory = directory
        self._settings = settings
        self._seed = seed
        self._take_ask = take_ask
        self._raft: Raft | None = None
        self._is_founding = False
        self._founded: Durable | None = None
        """The log with which this member founded the group, until it begins."""
        self._is_single: bool | None = None
        """True if the directory holds the data of a single node, and no group; None before it was read."""
        self._read_at = 0
        self._open: dict[int, int] = {}
        """By number that the node will answer: the write that waits for it, or one of the two below."""
        self._writes: deque[tuple[int, int]] = deque()
        """Writes in order: number, and position that the node, as the leader, has to have made durable."""
        self._cuts: dict[int, int] = {}
        """By number: the position of a cut at the end of leading, as long as it is not answered."""
        self._durable = 0
        """The position up to which the node, as the leader, has its records durable."""
        self._leads = False
        self.was_doubtful = False
        """True from the moment on at which it applied something in doubt, until `take_end_of_doubt`."""
        self._ends: dict[int, tuple[int, int]] = {}
        """By token of a read: the member that asks for the end of the catalog, and its number."""
        self._asked_ends = 0
        self.ends: list[tuple[int, int, int]] = []
        """Answers to such questions: member, number, position."""
        self.snapshots = CatalogSnapshots()
        self._received = b""
        """The state that came with the message which is looked at."""
        self._installing = 0
        """The number of the state that the node is adopting; what comes from others meanwhile is dropped, and sent again."""
        self._last_leader = 0
        self.leader_changes = 0
        """The leaders that this member has seen begin."""
        self.out: list[Message] = []
        self.node_inputs: list[NodeInput] = []

    # ------------------------------------------------------------------ what others ask

    @property
    def leader(self) -> int:
        """Return the node that leads the catalog as far as known, else 0."""
        return 0 if self._raft is None else self._raft.leader

    @property
    def is_led_here(self) -> bool:
        """Return True while this node was told to lead the catalog."""
        return self._leads

    @property
    def term(self) -> int:
        """Return the newest term that this member knows."""
        return 0 if self._raft is None else self._raft.term

    @property
    def condition(self) -> Condition:
        """Return how the directory stands to a group."""
        raft = self._raft
        if raft is None:
            return Condition.SINGLE if self._is_single else Condition.UNREAD
        return Condition.GROUPED if raft.term > 0 or raft.members.voters else Condition.EMPTY

    @property
    def admits_replicas(self) -> bool:
        """Return True if streams here are those of the group, or none: those of a single node may have the same numbers."""
        return self._is_single is False

    def next_deadline(self) -> int:
        """Return the moment, in milliseconds, at which to step if nothing happens before."""
        if self._raft is not None:
            own_at = self._raft.next_deadline()
        else:
            own_at = NEVER if self._open else self._read_at  # the node's answer is what a beginning waits for
        return min(own_at, self.snapshots.next_deadline())

    # ------------------------------------------------------------------ steps

    def step(self, now: int, messages: list[OfGroup]) -> None:
        """Take messages, and do what is due."""
        if self._raft is None:
            if now >= self._read_at and not self._open:
                self._begin(now)
            return
        if not messages and now < self.next_deadline():
            return
        self.snapshots.ask_due(now)
        members = self._raft.members
        inputs: list[RaftInput] = [SnapshotLost(node) for node in self.snapshots.take_lost(now)]
        for each in messages:
            if not self._installing and counts(members, each) and not self._waits_for_state(now, each):
                inputs.append(Received(each.message, each.doubtful))
        self._run(now, inputs)

    def _waits_for_state(self, now: int, of: OfGroup) -> bool:
        """Return True for the offer of a snapshot that this member needs: it asks for the state first."""
        raft, request = self._raft, of.message
        assert raft is not None
        if not isinstance(request, SnapshotRequest) or request.term < raft.term:
            return False
        snapshot = request.snapshot
        if snapshot.index <= raft.commit or raft.term_at(snapshot.index) == snapshot.term:
            return False
        self.snapshots.offered(now, of, request)
        return True

    def piece_arrived(self, now: int, sender: int, piece: Piece) -> None:
        """Take a piece of the catalog's state; when it is complete, the group may take the message that offered it."""
        complete = self.snapshots.piece_arrived(now, sender, piece)
        if complete is not None and self._raft is not None and not self._installing:
            offered, self._received = complete
            self._run(now, [Received(offered.message, offered.doubtful)])
            self._received = b""

    def piece_asked(self, now: int, sender: int, asked: PieceAsked) -> None:
        """Send a member a piece of the state that it was offered."""
        self.snapshots.piece_asked(now, sender, asked)

    def _begin(self, now: int) -> None:
        """Begin with what the node has. Data of a single node belong to no group before this member founds one."""
        node = self._node
        figures = next(node.log_figures())
        durable, self._founded = self._founded or self._found(figures.applied, figures.end), None
        grouped = durable.hard.term > 0 or durable.snapshot.members.voters
        if figures.end and not grouped and all(each.kind != EntryKind.MEMBERS for each in durable.entries):
            self._is_single = True
            self._read_at = now + RETRY_MS
            return
        self._is_single = False
        self._raft = Raft(node.config.node_id, self._settings, self._seed, now, durable, self._directory)
        self._run(now, [])

    def _found(self, applied: int, end: int) -> Durable:
        """Return what the node has of the group, from the first record that is in memory on."""
        node = self._node
        first = node.first_in_memory(CATALOG)
        base = applied if first is None else min(first - 1, applied)
        members = node.catalog_members(base)
        if base and (node.epoch_at(CATALOG, base) < 0 or members is None):
            base, members = applied, node.catalog_members(applied)
        named = decode_members(members.data) if base and members is not None and members.position else NO_MEMBERS
        records = node.sent_records(CATALOG, base + 1, ALL_BYTES) if base < end else []
        assert records is not None, "what is not applied is in memory"
        term = node.epoch_at(CATALOG, base) if base else 0
        snapshot = SnapshotMeta(base, term, named)
        entries = []
        for record in records:
            entry = _entry(record, term)
            term = entry.term
            entries.append(entry)
        return Durable(node.raft_hard(), snapshot, tuple(entries), node.doubt(CATALOG).until)

    @property
    def is_doubtful(self) -> bool:
        """Return True while this member may have forgotten entries that it acknowledged."""
        return self._raft is not None and self._raft.is_doubtful

    def take_end_of_doubt(self) -> bool:
        """Return True once, when the log here is known to lack nothing."""
        raft = self._raft
        if self.was_doubtful and raft is not None and not raft.is_doubtful:
            self.was_doubtful = False
            return True
        return False

    def ask_end(self, now: int, sender: int, number: int) -> None:
        """Find a position, as the leader, up to which the catalog is committed now."""
        if self._raft is not None and self._leads:
            self._asked_ends += 1
            token = _END_TOKENS + self._asked_ends
            self._ends = {each: asked for each, asked in self._ends.items() if asked[0] != sender} | {
                token: (sender, number)
            }
            self._run(now, [Read(token)])

    # ------------------------------------------------------------------ members

    def found(self, members: Members) -> None:
        """Found the group: its first record names the members. Streams of a single node stay with it, by claims before that."""
        if self._is_founding or self._open or self.condition not in (Condition.EMPTY, Condition.SINGLE):
            return
        node = self._node
        own = node.config.node_id
        records = [_sent(MembersRecord(encode_members(members)))]
        if alone := sorted(node.unclaimed_streams()):
            records.insert(0, _sent(StreamsClaimed(alone, [own] * len(alone), [[own]] * len(alone))))
        # Read now: what is added may take the place of the first records in memory, and other members need all of them.
        before = self._found(node.log_end(CATALOG), node.log_end(CATALOG))
        self._founded = before._replace(entries=(*before.entries, *(_entry(each, 0) for each in records)))
        self._raft, self._is_founding = None, True
        self._ask(_FIRST, Append(self._take_ask(), CATALOG, node.log_end(CATALOG) + 1, records))

    def change_members(self, now: int, changes: Iterable[Change]) -> bool:
        """Propose changes of the members, as the leader; the group takes one at a time. Return True if there are none.

        The node must have decided nothing that is not proposed, and must be handed `node_inputs` before it decides more: the
        record of the change has the position behind the last proposal.
        """
        raft = self._raft
        if raft is None or not self._leads or raft.role != Role.LEADER or raft.members_index > raft.commit:
            return False
        if self._node.log_end(CATALOG) != raft.last_index:
            return False
        are_none = True
        for change in changes:
            are_none = False
            self._run(now, [ProposeChange(0, change)])
            if self._raft is not raft or self._node.log_end(CATALOG) != raft.last_index:
                break
        return are_none

    def take_node_inputs(self) -> list[NodeInput]:
        """Take what the node is to do."""
        inputs, self.node_inputs = self.node_inputs, []
        return inputs

    def view(self) -> GroupView | None:
        """Return the group as this member knows it; None while it has none."""
        raft = self._raft
        if raft is None:
            return None
        version = max(raft.term_at(raft.members_index), 0), raft.members_index
        return GroupView(raft.term, raft.members, version, self._directory, raft.is_doubtful, raft.term_at)

    @property
    def members(self) -> Members:
        """Return the members in force."""
        return NO_MEMBERS if self._raft is None else self._raft.members

    def _run(self, now: int, inputs: list[RaftInput]) -> None:
        while self._raft is not None:
            effects = self._raft.step(now, inputs)
            inputs = []
            for effect in effects:
                self._perform(now, effect, inputs)
            inputs += self._saved()
            if not inputs:
                break
        if self.leader not in (0, self._last_leader):
            self._last_leader = self.leader
            self.leader_changes += 1

    def _perform(self, now: int, effect: Effect, inputs: list[RaftInput]) -> None:
        if isinstance(effect, Send):
            if not isinstance(effect.message, SnapshotRequest):
                self.out.append(effect.message)
            elif not self._offer_snapshot(now, effect.message):
                inputs.append(SnapshotLost(effect.message.to))
        elif isinstance(effect, Write):
            self._write(effect)
        elif isinstance(effect, Apply):
            last = effect.first + len(effect.entries) - 1
            self.node_inputs.append(Replicated(CATALOG, last))
            self.was_doubtful = self.was_doubtful or (self._raft is not None and self._raft.is_doubtful)
            inputs.append(Applied(last))
        elif isinstance(effect, RoleChanged):
            raft = self._raft
            if self._leads and effect.role != Role.LEADER and raft is not None:
                self._stop_leading(raft.last_index)
        elif isinstance(effect, Readable):
            for token in effect.tokens:
                if token in self._ends:
                    self.ends.append((*self._ends.pop(token), effect.index))
                else:
                    self.node_inputs.append(Confirmed(CATALOG, token))
        elif isinstance(effect, SnapshotWanted):
            # What is applied is durable in the node's own files.
            inputs.append(SnapshotTaken(effect.snapshot.index))
        elif isinstance(effect, Install):
            self._install(effect)
        else:
            assert isinstance(effect, Accepted | Refused | Release)

    # ------------------------------------------------------------------ snapshots

    def _offer_snapshot(self, now: int, request: SnapshotRequest) -> bool:
        """Offer a member the catalog as it is applied here; False where that is not as far yet as the group says."""
        raft, node = self._raft, self._node
        assert raft is not None
        position = node.applied(CATALOG)
        if position < request.snapshot.index or raft.term_at(position) < 0:
            return False
        meta = self.snapshots.offer_to(
            now, request.to, raft.meta_at(position), lambda: encode_catalog(node.applied_catalog())
        )
        self.out.append(SnapshotRequest(request.sender, request.to, request.term, meta, request.round))
        return True

    def _install(self, effect: Install) -> None:
        """Let the node adopt the state that came, in place of its log."""
        node, position = self._node, effect.snapshot.index
        if self._leads:
            self._stop_leading(position - 1)
        elif node.log_end(CATALOG) >= position:
            # The record there contradicts what is committed, so that it is void, with all behind it. What is before it stays
            # until the state is durable: this member may have acknowledged it.
            self._ask(_UNPROPOSED, Cut(self._take_ask(), CATALOG, position - 1))
        self._installing = self._take_ask()
        self._ask(effect.number, InstallCatalog(self._installing, position, self._received))
        self._writes.append((effect.number, 0))

    # ------------------------------------------------------------------ the disk

    def _write(self, write: Write) -> None:
        raft = self._raft
        assert raft is not None
        if self._leads and raft.role != Role.LEADER:
            self._stop_leading(write.first - 1)
        if write.hard is not None:
            self._ask(write.number, KeepVote(self._take_ask(), *write.hard))
        if write.cut_from:
            self._ask(write.number, Cut(self._take_ask(), CATALOG, write.cut_from - 1))
        own = 0
        sent: list[SentRecord] = []
        for at, entry in enumerate(write.entries, write.first):
            begins = entry.kind == EntryKind.NOOP and entry.term == raft.term and raft.role == Role.LEADER
            if begins:
                self._append(write.number, at - len(sent), sent)
                sent = []
                self._leads, self._durable = True, at - 1
                self.node_inputs.append(Lead(CATALOG, entry.term))
            elif self._leads and entry.kind == EntryKind.MEMBERS:
                self._append(write.number, at, [_record(entry)])
            elif not self._leads:
                sent.append(_record(entry))
            if self._leads and entry.kind != EntryKind.MEMBERS:
                own = at  # a set of members is answered by `Kept`; the node says nothing of what it was sent
        self._append(write.number, write.first + len(write.entries) - len(sent), sent)
        self._writes.append((write.number, own))

    def _append(self, write: int, first: int, records: list[SentRecord]) -> None:
        if records:
            self._ask(write, Append(self._take_ask(), CATALOG, first, records))

    def _ask(self, write: int, wish: KeepVote | Cut | Append | InstallCatalog) -> None:
        self._open[wish.ask] = write
        self.node_inputs.append(wish)

    def _saved(self) -> list[RaftInput]:
        """Return the end of the writes that are durable, in order."""
        done: list[RaftInput] = []
        while self._writes and self._writes[0][0] not in self._open.values() and self._writes[0][1] <= self._durable:
            done.append(Saved(self._writes.popleft()[0]))
        return done

    def take_answer(self, now: int, ask: int, kept: bool) -> bool:
        """Take the node's answer to what it was asked to keep; False if another part asked."""
        write = self._open.pop(ask, None)
        if write is None:
            return False
        position = self._cuts.pop(ask, 0)
        if ask == self._installing:
            self._installing = 0
            if kept:
                # What was asked for before is part of the state, or void: nothing answers for that any more.
                self._open = {each: number for each, number in self._open.items() if each > ask}
        if kept:
            # What stands before the cut is durable too; the node says nothing more of it, for it does not lead any more.
            self._durable = max(self._durable, position)
        if write == _FIRST:
            self._is_founding = False
            self._read_at = now
            self._founded = self._founded if kept else None
        if not kept:
            self._begin_again(now)
        if self._raft is not None and (saved := self._saved()):
            self._run(now, saved)
        return True

    def _begin_again(self, now: int) -> None:
        """Forget the member: what its log holds is in question, so it begins as after a stop."""
        if self._raft is not None and self._leads:
            self._stop_leading(self._raft.last_index)
        self._raft = None
        self._writes.clear()
        self._read_at = now + RETRY_MS

    # ------------------------------------------------------------------ leading

    def _stop_leading(self, position: int) -> None:
        """Let the node step down. What it decided behind a position, and did not propose, was seen by no other member."""
        self._leads = False
        self.node_inputs.append(StepDown(CATALOG))
        cut = Cut(self._take_ask(), CATALOG, position)
        self._cuts[cut.ask] = position
        self._ask(_UNPROPOSED, cut)

    def replicate(self, now: int, position: int) -> None:
        """Propose what the node has decided and made durable, as the leader."""
        raft = self._raft
        if raft is None or not self._leads:
            return
        self._durable = max(self._durable, position)
        inputs: list[RaftInput] = self._saved()
        if position > raft.last_index:
            records = self._node.sent_records(CATALOG, raft.last_index + 1, ALL_BYTES)
            assert records is not None, "what is not applied is in memory"
            wanted = records[: position - raft.last_index]
            inputs += [Propose(0, _data(record)) for record in wanted]
        self._run(now, inputs)

    def hand_over(self, now: int) -> None:
        """Let the member that has most of the log lead the catalog."""
        if self._raft is not None:
            self._run(now, [Transfer(0)])

    def note_disk(self, now: int, *, stalled: bool) -> None:
        """Say that the disk does not answer, or does so again: with a stalled one the member does not lead."""
        if self._raft is not None:
            self._run(now, [DiskStalled() if stalled else DiskRecovered()])

    def confirm(self, now: int, question: int) -> None:
        """Ask a majority whether this node still leads the catalog."""
        if self._raft is not None:
            self._run(now, [Read(question)])


# ---------------------------------------------------------------------- entries and records


def _sent(record: EpochRecord | MembersRecord | StreamsClaimed) -> SentRecord:
    return SentRecord(record.KIND, record_codec.version_of(record), record_codec.encode(record), b"")


def _data(record: SentRecord) -> bytes:
    return cbor2.dumps([record.kind, record.version, record.meta])


def _record(entry: Entry) -> SentRecord:
    """Return the record of an entry."""
    if entry.kind == EntryKind.NOOP:
        return _sent(EpochRecord(entry.term))
    if entry.kind == EntryKind.MEMBERS:
        return _sent(MembersRecord(entry.data))
    try:
        value = cbor2.loads(entry.data)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError):
        value = None
    match value:
        case [int(kind), int(version), bytes(meta)]:
            return SentRecord(kind, version, meta, b"")
    return SentRecord(0, 0, b"", b"")  # no record at all: the node declines it


def counts(members: Members, of: OfGroup) -> bool:
    """Return False for an answer from a directory that does not count: it has forgotten others (rule `answer_as_named`)."""
    if not isinstance(of.message, VoteResponse | AppendResponse | AppendRefused):
        return True
    return members.directory_of(of.message.sender) in (0, of.directory)


def _entry(record: SentRecord, term: int) -> Entry:
    """Return the entry of a record that follows one of a term."""
    if record.kind == EpochRecord.KIND:
        decoded = record_codec.decode(record.kind, record.version, record.meta)
        assert isinstance(decoded, EpochRecord)
        return Entry(decoded.epoch, EntryKind.NOOP)
    if record.kind == MembersRecord.KIND:
        members = record_codec.decode(record.kind, record.version, record.meta)
        assert isinstance(members, MembersRecord)
        return Entry(term, EntryKind.MEMBERS, members.data)
    return Entry(term, EntryKind.DATA, _data(record))
